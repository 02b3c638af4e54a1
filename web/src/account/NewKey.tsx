import { type FormEvent, useEffect, useState } from "react";
import { api, asProblem } from "../api/client";
import type { Key } from "../api/types";
import { loadModels, models } from "../chat/models";
import { t } from "../i18n";
import { CopyButton } from "../ui/CopyButton";
import { Dialog } from "../ui/Dialog";
import { Field } from "../ui/Field";
import { Notice } from "../ui/Notice";
import { explain } from "../ui/problem";
import { snippets } from "./snippets";

type Made = Key & { key: string };

/** endOfDay is the last second of a date, in the reader's time zone. */
const endOfDay = (date: string): string => new Date(`${date}T23:59:59`).toISOString();

/** NewKey asks for what a new key may do. */
export function NewKey({ onClose, onMade }: { onClose: () => void; onMade: (k: Made) => void }) {
  const { all } = models.use();
  const [name, setName] = useState("");
  const [limit, setLimit] = useState("");
  const [expires, setExpires] = useState("");
  const [chosen, setChosen] = useState<string[]>([]);
  const [busy, setBusy] = useState(false);
  const [fault, setFault] = useState({ param: "", text: "" });
  useEffect(() => void loadModels(), []);

  const submit = async (e: FormEvent) => {
    e.preventDefault();
    if (limit && !/^\d+(\.\d{1,9})?$/.test(limit.trim())) {
      setFault({ param: "limit", text: t("keys.limit_bad") });
      return;
    }
    setBusy(true);
    setFault({ param: "", text: "" });
    try {
      const body = {
        name: name.trim(),
        ...(chosen.length > 0 ? { models: chosen } : {}),
        ...(limit ? { limit: limit.trim() } : {}),
        ...(expires ? { expires: endOfDay(expires) } : {}),
      };
      onMade(await api.post<Made>("/api/keys", body));
    } catch (err) {
      const p = asProblem(err);
      setFault({ param: p.param, text: explain(p) });
      setBusy(false);
    }
  };
  const of = (param: string) => (fault.param === param ? fault.text : undefined);
  const elsewhere = fault.text && !["name", "limit", "expires"].includes(fault.param);
  const toggle = (id: string) => setChosen((now) => (now.includes(id) ? now.filter((m) => m !== id) : [...now, id]));
  return (
    <Dialog title={t("keys.new")} onClose={onClose}>
      <form className="stack" onSubmit={(e) => void submit(e)}>
        <Field label={t("name")} required autoFocus maxLength={64} autoComplete="off" value={name} onValue={setName} hint={t("keys.name_hint")} fault={of("name")} />
        <Field label={t("keys.limit")} inputMode="decimal" autoComplete="off" value={limit} onValue={setLimit} hint={t("keys.limit_hint")} fault={of("limit")} />
        <Field label={t("keys.expires")} type="date" value={expires} onValue={setExpires} hint={t("keys.expires_hint")} fault={of("expires")} />
        {all.length > 0 && (
          <fieldset className="field">
            <legend className="label">{t("keys.models")}</legend>
            <div className="picks">
              {all.map((m) => (
                <label key={m.id} className="pick">
                  <input type="checkbox" checked={chosen.includes(m.id)} onChange={() => toggle(m.id)} />
                  {m.id}
                </label>
              ))}
            </div>
            <p className="hint">{t("keys.models_hint")}</p>
          </fieldset>
        )}
        {elsewhere && <Notice kind="bad">{fault.text}</Notice>}
        <div className="row end">
          <button type="button" onClick={onClose}>
            {t("cancel")}
          </button>
          <button className="primary" disabled={busy}>
            {busy ? t("keys.creating") : t("keys.create")}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

/** MadeKey shows a new key, the one time it is shown, and how to use it. */
export function MadeKey({ made, onClose }: { made: Made; onClose: () => void }) {
  const { all } = models.use();
  const model = made.models?.[0] ?? all.find((m) => m.price)?.id ?? "demo";
  const [tab, setTab] = useState(0);
  const examples = snippets(`${location.origin}/v1`, made.key, model);
  const now = examples[tab];
  return (
    <Dialog title={t("keys.made")} onClose={onClose} wide>
      <p>{t("keys.made_text")}</p>
      <div className="once">
        <code>{made.key}</code>
        <CopyButton text={made.key} label={t("keys.copy_key")} worded />
      </div>
      <h3 className="label">{t("keys.use")}</h3>
      <div className="snippet">
        <div className="snippet-head">
          <div className="row">
            {examples.map((s, i) => (
              <button key={s.name} type="button" className="quiet small" aria-pressed={i === tab} onClick={() => setTab(i)}>
                {s.name}
              </button>
            ))}
          </div>
          <CopyButton text={now?.code ?? ""} label={t("copy")} />
        </div>
        <pre tabIndex={0}>
          <code>{now?.code}</code>
        </pre>
      </div>
      <div className="row end">
        <button type="button" className="primary" onClick={onClose}>
          {t("keys.done")}
        </button>
      </div>
    </Dialog>
  );
}

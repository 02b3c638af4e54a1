import { type FormEvent, useState } from "react";
import { Link, useLocation } from "wouter";
import { api, asProblem } from "../api/client";
import { t } from "../i18n";
import { Field } from "../ui/Field";
import { Blank, Notice } from "../ui/Notice";
import { explain } from "../ui/problem";
import { loadSite, refreshMe, site } from "../ui/session";
import { useTitle } from "../ui/useTitle";
import { Gate } from "./Gate";
import { lengthOf, NewPassword, shortest } from "./NewPassword";

interface Upstream {
  base_url: string;
  key: string;
  models?: string[];
  free: boolean;
}

/** namesIn splits a list of models as people write it. */
export const namesIn = (text: string): string[] => text.split(/[\s,，、]+/).filter(Boolean);

type State = "form" | "bad" | "done";

/** Setup makes the owner's account, once, for whoever holds the link the server printed. */
export function Setup() {
  useTitle(t("setup.title"));
  const [secret] = useState(() => location.hash.slice(1));
  const known = site.use();
  const [state, setState] = useState<State>("form");
  const done = state === "done" || (known && !known.setup_needed);
  if (done) {
    return (
      <Gate>
        <Blank title={t("setup.done")} text={t("setup.done_text")}>
          <Link className="button primary" href="/login">
            {t("setup.to_login")}
          </Link>
        </Blank>
      </Gate>
    );
  }
  if (!secret || state === "bad") {
    return (
      <Gate>
        <div role="alert">
          <Blank title={t(secret ? "setup.bad" : "setup.no_secret")} text={t(secret ? "setup.bad_text" : "setup.no_secret_text")} />
        </div>
      </Gate>
    );
  }
  return (
    <Gate>
      <Form secret={secret} onState={setState} />
    </Gate>
  );
}

function Form({ secret, onState }: { secret: string; onState: (s: State) => void }) {
  const [, navigate] = useLocation();
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [base, setBase] = useState("");
  const [key, setKey] = useState("");
  const [models, setModels] = useState("");
  const [free, setFree] = useState(true);
  const [busy, setBusy] = useState(false);
  const [fault, setFault] = useState({ param: "", text: "" });
  const [partly, setPartly] = useState("");

  const submit = async (e: FormEvent) => {
    e.preventDefault();
    const left = shortest - lengthOf(password);
    if (left > 0) {
      setFault({ param: "password", text: t("setup.rule", { n: shortest, left }) });
      return;
    }
    setBusy(true);
    setFault({ param: "", text: "" });
    const list = namesIn(models);
    const upstream: Upstream | undefined = base.trim() ? { base_url: base.trim(), key: key.trim(), free, ...(list.length > 0 ? { models: list } : {}) } : undefined;
    try {
      const made = await api.post<{ upstream_error?: string }>("/api/setup", { secret, name: name.trim(), password, ...(upstream ? { upstream } : {}) });
      await refreshMe();
      if (made.upstream_error) {
        setPartly(made.upstream_error);
        return;
      }
      navigate("/", { replace: true });
      void loadSite().catch(() => undefined);
    } catch (err) {
      const p = asProblem(err);
      if (p.code === "forbidden" && p.param === "secret") onState("bad");
      else if (p.code === "conflict" && p.param !== "name") onState("done");
      else setFault({ param: p.param, text: explain(p) });
      setBusy(false);
    }
  };
  if (partly) {
    return (
      <Blank title={t("setup.partly")} text={t("setup.partly_text", { why: partly })}>
        <button type="button" className="primary" onClick={() => navigate("/", { replace: true })}>
          {t("setup.go_on")}
        </button>
      </Blank>
    );
  }
  const of = (param: string) => (fault.param === param ? fault.text : undefined);
  const elsewhere = fault.text && !["name", "password", "upstream.base_url", "upstream.key"].includes(fault.param);
  return (
    <form className="stack" onSubmit={(e) => void submit(e)}>
      <header>
        <h1>{t("setup.title")}</h1>
        <p className="muted">{t("setup.lead")}</p>
      </header>
      <Field
        label={t("setup.name")}
        name="username"
        autoComplete="username"
        autoCapitalize="none"
        spellCheck={false}
        required
        autoFocus
        value={name}
        onValue={setName}
        fault={of("name")}
      />
      <NewPassword label={t("setup.password")} value={password} onValue={setPassword} fault={of("password")} />
      <details open={fault.param.startsWith("upstream") || undefined}>
        <summary>{t("setup.upstream")}</summary>
        <div className="stack">
          <p className="hint">{t("setup.upstream_text")}</p>
          <Field label={t("setup.base")} type="url" name="base" placeholder="https://api.example.com/v1" value={base} onValue={setBase} hint={t("setup.base_hint")} fault={of("upstream.base_url")} />
          <Field label={t("setup.key")} type="password" name="key" autoComplete="off" value={key} onValue={setKey} fault={of("upstream.key")} />
          <Field label={t("setup.models")} name="models" autoComplete="off" spellCheck={false} value={models} onValue={setModels} hint={t("setup.models_hint")} />
          <label className="peek">
            <input type="checkbox" checked={free} onChange={(e) => setFree(e.currentTarget.checked)} />
            {t("setup.free")}
          </label>
        </div>
      </details>
      {elsewhere && <Notice kind="bad">{fault.text}</Notice>}
      <button className="primary" disabled={busy}>
        {busy ? t("setup.busy") : t("setup.submit")}
      </button>
    </form>
  );
}

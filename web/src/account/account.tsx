import { type FormEvent, useState } from "react";
import { useLocation } from "wouter";
import { api, asProblem } from "../api/client";
import { forgetList } from "../chat/list";
import { lang, t } from "../i18n";
import { Field } from "../ui/Field";
import { balance, exact } from "../ui/money";
import { Notice } from "../ui/Notice";
import { explain } from "../ui/problem";
import { me, signOut, useCurrency } from "../ui/session";
import { chooseTheme, chosenTheme, type Theme, themes } from "../ui/theme";
import { Desk } from "./Desk";
import { chooseLanguage, languages } from "./Gate";
import { lengthOf, NewPassword, shortest } from "./NewPassword";

/** Account is who one is, how the page looks, and the way out. */
export function Account() {
  const who = me.use();
  const currency = useCurrency();
  return (
    <Desk title={t("account.title")}>
      {who && (
        <section className="card part">
          <dl className="pairs num">
            <dt>{t("account.name")}</dt>
            <dd>{who.name}</dd>
            <dt>{t("account.role")}</dt>
            <dd>{t(`role.${who.role}`)}</dd>
            <dt>{t("account.balance")}</dt>
            <dd title={exact(who.credit.balance, currency)}>{balance(who.credit.balance, currency)}</dd>
            <dt>{t("account.held")}</dt>
            <dd>{balance(who.credit.held, currency)}</dd>
          </dl>
        </section>
      )}
      <Looks />
      <Password name={who?.name ?? ""} />
      <Out />
    </Desk>
  );
}

function Looks() {
  const [theme, setTheme] = useState<Theme>(chosenTheme);
  return (
    <section className="card part">
      <h2>{t("account.looks")}</h2>
      <fieldset>
        <legend className="label">{t("account.theme")}</legend>
        <div className="choices">
          {themes.map((id) => (
            <label key={id} className="choice">
              <input
                type="radio"
                name="theme"
                checked={theme === id}
                onChange={() => {
                  setTheme(id);
                  chooseTheme(id);
                }}
              />
              {t(`theme.${id}`)}
            </label>
          ))}
        </div>
      </fieldset>
      <fieldset>
        <legend className="label">{t("account.language")}</legend>
        <div className="choices">
          {languages.map((l) => (
            <label key={l.id} className="choice" lang={l.id}>
              <input type="radio" name="language" checked={lang() === l.id} onChange={() => void chooseLanguage(l.id)} />
              {l.name}
            </label>
          ))}
        </div>
      </fieldset>
    </section>
  );
}

function Password({ name }: { name: string }) {
  const [old, setOld] = useState("");
  const [fresh, setFresh] = useState("");
  const [busy, setBusy] = useState(false);
  const [done, setDone] = useState(false);
  const [fault, setFault] = useState({ param: "", text: "" });

  const submit = async (e: FormEvent) => {
    e.preventDefault();
    setDone(false);
    const left = shortest - lengthOf(fresh);
    if (left > 0) {
      setFault({ param: "new", text: t("setup.rule", { n: shortest, left }) });
      return;
    }
    setBusy(true);
    setFault({ param: "", text: "" });
    try {
      await api.put("/api/me/password", { old, new: fresh });
      setOld("");
      setFresh("");
      setDone(true);
    } catch (err) {
      const p = asProblem(err);
      setFault({ param: p.param, text: explain(p) });
    }
    setBusy(false);
  };
  const of = (param: string) => (fault.param === param ? fault.text : undefined);
  return (
    <section className="card part">
      <div>
        <h2>{t("account.password")}</h2>
        <p className="muted">{t("account.password_text")}</p>
      </div>
      <form className="stack narrow" onSubmit={(e) => void submit(e)}>
        <input className="offscreen" tabIndex={-1} aria-hidden="true" autoComplete="username" readOnly value={name} />
        <Field label={t("account.old")} type="password" autoComplete="current-password" required value={old} onValue={setOld} fault={of("old")} />
        <NewPassword label={t("account.new")} value={fresh} onValue={setFresh} fault={of("new") ?? of("password")} />
        {fault.text && !["old", "new", "password"].includes(fault.param) && <Notice kind="bad">{fault.text}</Notice>}
        {done && <Notice kind="good">{t("account.changed")}</Notice>}
        <div className="row">
          <button disabled={busy}>{t("account.change")}</button>
        </div>
      </form>
    </section>
  );
}

function Out() {
  const [, navigate] = useLocation();
  const [fault, setFault] = useState("");
  const leave = async () => {
    try {
      await signOut();
      forgetList();
      navigate("/login");
    } catch (err) {
      setFault(explain(asProblem(err)));
    }
  };
  return (
    <section className="card part">
      <p className="muted">{t("account.out_text")}</p>
      {fault && <Notice kind="bad">{fault}</Notice>}
      <div className="row">
        <button type="button" onClick={() => void leave()}>
          {t("account.out")}
        </button>
      </div>
    </section>
  );
}

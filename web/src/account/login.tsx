import { type FormEvent, useEffect, useState } from "react";
import { useLocation } from "wouter";
import { asProblem } from "../api/client";
import { t } from "../i18n";
import { Field } from "../ui/Field";
import { Notice } from "../ui/Notice";
import { explain } from "../ui/problem";
import { ended, me, signIn, site } from "../ui/session";
import { useTitle } from "../ui/useTitle";
import { Gate } from "./Gate";

/** next is where to go afterwards: a path of this page, nothing else. */
export function next(search: string): string {
  const to = new URLSearchParams(search).get("next") ?? "/";
  return /^\/(?![/\\])[\w/-]*$/.test(to) && to !== "/login" ? to : "/";
}

/** Login is the sign-in page. */
export function Login() {
  const [, navigate] = useLocation();
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [busy, setBusy] = useState(false);
  const [fault, setFault] = useState("");
  const known = site.use();
  const who = me.use();
  const was = ended.use();
  useTitle(t("login.title"));
  useEffect(() => {
    if (who) navigate(next(location.search), { replace: true });
  }, [who, navigate]);

  const submit = async (e: FormEvent) => {
    e.preventDefault();
    setBusy(true);
    setFault("");
    try {
      await signIn(name.trim(), password);
    } catch (err) {
      const p = asProblem(err);
      setFault(p.status === 401 ? t("login.wrong") : explain(p));
      setBusy(false);
    }
  };

  if (known?.setup_needed) {
    return (
      <Gate>
        <div className="stack">
          <h1>{t("login.setup")}</h1>
          <p>{t("login.setup_text")}</p>
        </div>
      </Gate>
    );
  }
  return (
    <Gate>
      <form className="stack" onSubmit={(e) => void submit(e)}>
        <h1>{t("login.title")}</h1>
        {was && !fault && <Notice>{t("login.ended")}</Notice>}
        <Field label={t("login.name")} name="username" autoComplete="username" autoCapitalize="none" spellCheck={false} required autoFocus value={name} onValue={setName} />
        <Field label={t("password")} name="password" type="password" autoComplete="current-password" required value={password} onValue={setPassword} />
        {fault && <Notice kind="bad">{fault}</Notice>}
        <button className="primary" disabled={busy}>
          {busy ? t("login.busy") : t("login.submit")}
        </button>
      </form>
    </Gate>
  );
}

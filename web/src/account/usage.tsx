import { useState } from "react";
import { Link, useSearchParams } from "wouter";
import { type Movement, tokensIn, tokensOut, type UsageRow } from "../api/types";
import { count, exactly, has, t, when } from "../i18n";
import { Icon } from "../ui/Icon";
import { balance, cost, exact, movement } from "../ui/money";
import { Blank } from "../ui/Notice";
import { explain } from "../ui/problem";
import { useCurrency } from "../ui/session";
import { Desk, Listed } from "./Desk";
import { usePages } from "./usePages";

/** named translates a word of the server, or shows it as it is. */
function named(kind: "state" | "kind", word: string): string {
  const key = `${kind}.${word}`;
  return has(key) ? (t as (k: string) => string)(key) : word;
}

/** UsagePage shows what was asked and what it cost, and the account's statement. */
export function UsagePage() {
  const [search] = useSearchParams();
  const statement = search.get("tab") === "statement";
  return (
    <Desk title={t("usage.title")}>
      <nav className="tabs" aria-label={t("usage.title")}>
        <Link href="/usage" aria-current={statement ? undefined : "page"}>
          {t("usage.requests")}
        </Link>
        <Link href="/usage?tab=statement" aria-current={statement ? "page" : undefined}>
          {t("usage.statement")}
        </Link>
      </nav>
      {statement ? <Statement /> : <Requests />}
    </Desk>
  );
}

function Requests() {
  const pages = usePages<UsageRow>("/api/usage");
  const currency = useCurrency();
  return (
    <Listed pages={pages} failed={t("usage.failed")} empty={<Blank title={t("usage.empty")} text={t("usage.empty_text")} />}>
      {(rows) => (
        <div className="sheet" tabIndex={0} role="region" aria-label={t("usage.requests")}>
          <table className="grid cards">
            <thead>
              <tr>
                <th scope="col">{t("usage.time")}</th>
                <th scope="col">{t("usage.model")}</th>
                <th scope="col">{t("usage.from")}</th>
                <th scope="col" className="right">
                  {t("usage.tokens_in")}
                </th>
                <th scope="col" className="right">
                  {t("usage.tokens_out")}
                </th>
                <th scope="col" className="right">
                  {t("usage.took")}
                </th>
                <th scope="col">{t("usage.state")}</th>
                <th scope="col" className="right">
                  {t("usage.cost")}
                </th>
              </tr>
            </thead>
            <tbody>
              {rows.map((r) => (
                <tr key={r.request}>
                  <td className="num" data-of={t("usage.time")}>
                    <time dateTime={r.at} title={exactly(r.at)}>
                      {when(r.at)}
                    </time>
                  </td>
                  <td data-of={t("usage.model")}>{r.model}</td>
                  <td data-of={t("usage.from")}>{r.key_name || (r.key ? r.key : t("usage.page"))}</td>
                  <td className="right num" data-of={t("usage.tokens_in")}>
                    {count(tokensIn(r.usage))}
                  </td>
                  <td className="right num" data-of={t("usage.tokens_out")}>
                    {count(tokensOut(r.usage))}
                  </td>
                  <td className="right num" data-of={t("usage.took")}>
                    {t("usage.seconds", { n: (r.took_ms / 1e3).toFixed(1) })}
                  </td>
                  <td data-of={t("usage.state")}>
                    <State row={r} />
                  </td>
                  <td className="right num" data-of={t("usage.cost")} title={exact(r.cost, currency)}>
                    {cost(r.cost, currency)}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Listed>
  );
}

function State({ row }: { row: UsageRow }) {
  const bad = row.state === "failed" || row.state === "refused" || row.state === "ended";
  return (
    <span className={bad ? "state state-bad" : "state"} title={row.code ? explain({ code: row.code, message: row.code }).replaceAll("`", "") : undefined}>
      {bad && <Icon name="alert" size={15} />}
      {named("state", row.state)}
    </span>
  );
}

function Statement() {
  const pages = usePages<Movement>("/api/statement");
  return (
    <Listed pages={pages} failed={t("usage.failed")} empty={<Blank title={t("usage.statement_empty")} text={t("usage.statement_empty_text")} />}>
      {(rows) => (
        <div className="sheet" tabIndex={0} role="region" aria-label={t("usage.statement")}>
          <table className="grid cards">
            <thead>
              <tr>
                <th scope="col">{t("usage.time")}</th>
                <th scope="col">{t("usage.what")}</th>
                <th scope="col" className="right">
                  {t("usage.amount")}
                </th>
                <th scope="col" className="right">
                  {t("usage.after")}
                </th>
                <th scope="col">
                  <span className="offscreen">{t("usage.details")}</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {rows.map((m) => (
                <Line key={m.seq} move={m} />
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Listed>
  );
}

function Line({ move }: { move: Movement }) {
  const currency = useCurrency();
  const [open, setOpen] = useState(false);
  const about = move.model || (move.reason === "welcome" ? t("kind.welcome") : move.reason);
  return (
    <>
      <tr>
        <td className="num" data-of={t("usage.time")}>
          <time dateTime={move.at} title={exactly(move.at)}>
            {when(move.at)}
          </time>
        </td>
        <td className="wrap" data-of={t("usage.what")}>
          <span>
            {named("kind", move.kind)}
            {about && <span className="muted"> · {about}</span>}
          </span>
        </td>
        <td className={move.amount.startsWith("-") ? "right num" : "right num plus"} data-of={t("usage.amount")}>
          {movement(move.amount, currency)}
        </td>
        <td className="right num" data-of={t("usage.after")}>
          {balance(move.after, currency)}
        </td>
        <td className="right">
          <button type="button" className="quiet small" aria-expanded={open} onClick={() => setOpen(!open)}>
            {t("usage.details")}
          </button>
        </td>
      </tr>
      {open && (
        <tr className="detail">
          <td colSpan={5}>
            <dl className="pairs num">
              <dt>{t("usage.amount")}</dt>
              <dd>{exact(move.amount, currency)}</dd>
              <dt>{t("usage.after")}</dt>
              <dd>{exact(move.after, currency)}</dd>
              {move.usage && (
                <>
                  <dt>{t("usage.tokens_in")}</dt>
                  <dd>{count(tokensIn(move.usage))}</dd>
                  <dt>{t("usage.tokens_out")}</dt>
                  <dd>{count(tokensOut(move.usage))}</dd>
                </>
              )}
              <dt>{t("usage.time")}</dt>
              <dd>{exactly(move.at)}</dd>
              <dt>ID</dt>
              <dd>{move.ref}</dd>
            </dl>
          </td>
        </tr>
      )}
    </>
  );
}

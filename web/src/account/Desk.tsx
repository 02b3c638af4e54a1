import type { ReactNode } from "react";
import { t } from "../i18n";
import { Bar } from "../shell/Bar";
import { Blank } from "../ui/Notice";
import { explain } from "../ui/problem";
import { useTitle } from "../ui/useTitle";
import "./desk.css";
import type { Pages } from "./usePages";

/** Desk is the frame of the pages around the chat: keys, usage, account. */
export function Desk({ title, lead, act, children }: { title: string; lead?: string; act?: ReactNode; children: ReactNode }) {
  useTitle(title);
  return (
    <>
      <Bar />
      <main id="main" tabIndex={-1}>
        <div className="desk">
          <div className="row between desk-top">
            <div>
              <h1>{title}</h1>
              {lead && <p className="muted">{lead}</p>}
            </div>
            {act}
          </div>
          {children}
        </div>
      </main>
    </>
  );
}

interface ListedProps<T> {
  pages: Pages<T>;
  failed: string;
  empty: ReactNode;
  children: (rows: T[]) => ReactNode;
}

/** Listed shows a list in each of its states: loading, failed, empty, or with its rows and the way to more. */
export function Listed<T>({ pages, failed, empty, children }: ListedProps<T>) {
  const { rows, loaded, busy, fault, more, load } = pages;
  if (fault && !loaded) {
    return (
      <Blank title={failed} text={explain(fault)}>
        <button type="button" onClick={load}>
          {t("retry")}
        </button>
      </Blank>
    );
  }
  if (!loaded) {
    return (
      <div className="wait" role="status">
        <span className="offscreen">{t("loading")}</span>
      </div>
    );
  }
  if (rows.length === 0) return <>{empty}</>;
  return (
    <>
      {children(rows)}
      {more && (
        <div className="list-end">
          {fault && <p className="fault">{explain(fault)}</p>}
          <button type="button" disabled={busy} onClick={load}>
            {busy ? t("loading") : t("more")}
          </button>
        </div>
      )}
    </>
  );
}

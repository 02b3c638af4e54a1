import { Component, type ComponentType, type ReactNode, useEffect, useState } from "react";
import { Redirect, useLocation } from "wouter";
import { asProblem, type Problem } from "./api/client";
import { lang, t } from "./i18n";
import { Store } from "./ui/store";
import { Blank } from "./ui/Notice";
import { explain } from "./ui/problem";
import { loadSite, me, refreshMe, site } from "./ui/session";

/** language is watched by the whole page: a new one draws everything again. */
export const language = new Store(0);

type Page = ComponentType<Record<string, never>>;
const login = () => import("./account/login").then((m) => m.Login as Page);
const setup = () => import("./account/setup").then((m) => m.Setup as Page);
const shell = () => import("./shell/shell").then((m) => m.Shell as Page);

function pageOf(path: string): () => Promise<Page> {
  if (path === "/login") return login;
  if (path === "/setup") return setup;
  return shell;
}

/** preload begins to fetch the page of an address. */
export function preload(path: string): void {
  void pageOf(path)().catch(() => undefined);
  if (path === "/" || path.startsWith("/c/")) void import("./chat/chat").catch(() => undefined);
}

export function Waiting() {
  return (
    <div className="wait" role="status">
      <span className="offscreen">{t("loading")}</span>
    </div>
  );
}

export function App() {
  const version = language.use();
  return (
    <Guard key={`${lang()}${version}`}>
      <Pages />
    </Guard>
  );
}

function Pages() {
  const [path] = useLocation();
  const open = path === "/login" || path === "/setup";
  const known = site.use();
  const who = me.use();
  const [fault, setFault] = useState<Problem | null>(null);
  const [attempt, setAttempt] = useState(0);

  useEffect(() => {
    setFault(null);
    const asks = [known ? null : loadSite(), !open && who === undefined ? refreshMe() : null];
    Promise.all(asks).catch((err: unknown) => {
      const p = asProblem(err);
      if (p.status !== 401) setFault(p);
    });
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [open, attempt]);

  if (!open && who === null) return <Redirect to={path === "/" ? "/login" : `/login?next=${encodeURIComponent(path)}`} replace />;
  if (!known || (!open && !who)) {
    return fault ? <Sorry fault={fault} onRetry={() => setAttempt(attempt + 1)} /> : <Waiting />;
  }
  return <Lazy key={open ? path : "/"} load={pageOf(path)} />;
}

function Sorry({ fault, onRetry }: { fault: Problem; onRetry: () => void }) {
  return (
    <main>
      <Blank title={explain(fault)}>
        <button type="button" onClick={onRetry}>
          {t("retry")}
        </button>
      </Blank>
    </main>
  );
}

const loaded = new Map<() => Promise<Page>, Page>();

/** Lazy shows a page whose code is fetched when it is first asked for. */
export function Lazy({ load }: { load: () => Promise<Page> }) {
  const [page, setPage] = useState<{ Page?: Page; fault?: Problem }>({ Page: loaded.get(load) });
  useEffect(() => {
    if (loaded.has(load)) return;
    let here = true;
    load().then(
      (Page) => {
        loaded.set(load, Page);
        if (here) setPage({ Page });
      },
      (err: unknown) => here && setPage({ fault: asProblem(err) }),
    );
    return () => {
      here = false;
    };
  }, [load]);
  if (page.fault) return <Broken />;
  return page.Page ? <page.Page /> : <Waiting />;
}

function Broken() {
  return (
    <main>
      <Blank title={t("page.broken")} text={t("page.broken_text")}>
        <button type="button" className="primary" onClick={() => location.reload()}>
          {t("page.reload")}
        </button>
      </Blank>
    </main>
  );
}

/** Guard shows a way on when drawing a page fails. */
class Guard extends Component<{ children: ReactNode }, { broken: boolean }> {
  override state = { broken: false };

  static getDerivedStateFromError() {
    return { broken: true };
  }

  override render() {
    return this.state.broken ? <Broken /> : this.props.children;
  }
}

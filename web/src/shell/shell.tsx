import { type ComponentType, useEffect, useRef } from "react";
import { Link, useLocation } from "wouter";
import { Lazy } from "../app";
import { t } from "../i18n";
import { Blank } from "../ui/Notice";
import { useTitle } from "../ui/useTitle";
import { Bar } from "./Bar";
import { drawer } from "./drawer";
import "./shell.css";
import { Side } from "./Side";

type Page = ComponentType<Record<string, never>>;

const chat = () => import("../chat/chat").then((m) => chatAt(m.Chat));
const keys = () => import("../account/keys").then((m) => m.Keys as Page);
const usage = () => import("../account/usage").then((m) => m.UsagePage as Page);
const account = () => import("../account/account").then((m) => m.Account as Page);
const missing = () => Promise.resolve(Missing as Page);

/** chatAt is the chat of the address. */
function chatAt(Chat: ComponentType<{ id?: string }>): Page {
  return function ChatAt() {
    const [path] = useLocation();
    return <Chat id={/^\/c\/([\w-]+)$/.exec(path)?.[1]} />;
  };
}

function pageOf(path: string): () => Promise<Page> {
  if (path === "/" || /^\/c\/[\w-]+$/.test(path)) return chat;
  return { "/keys": keys, "/usage": usage, "/account": account }[path] ?? missing;
}

function Missing() {
  useTitle(t("page.missing"));
  return (
    <>
      <Bar />
      <main id="main" tabIndex={-1}>
        <Blank title={t("page.missing")} text={t("page.missing_text")}>
          <Link className="button" href="/">
            {t("page.home")}
          </Link>
        </Blank>
      </main>
    </>
  );
}

/** useVisibleHeight keeps the page as high as what a phone's keyboard leaves free. */
function useVisibleHeight(): void {
  useEffect(() => {
    const v = window.visualViewport;
    if (!v) return;
    const fit = () => {
      if (v.scale > 1.01) return; // zoomed in with two fingers: nothing to fit
      document.documentElement.style.setProperty("--visible", `${Math.round(v.height)}px`);
      if (v.offsetTop > 0) scrollTo(0, 0); // iOS pushes the page up under its keyboard
    };
    fit();
    v.addEventListener("resize", fit);
    return () => v.removeEventListener("resize", fit);
  }, []);
}

function useKeys(navigate: (to: string) => void): void {
  useEffect(() => {
    const onKey = (e: KeyboardEvent) => {
      if (e.isComposing || document.querySelector("dialog[open]")) return;
      const typing = e.target instanceof Element && e.target.closest("input, textarea, select");
      if (e.key === "Escape") drawer.set(false);
      else if (e.key.toLowerCase() === "k" && (e.ctrlKey || e.metaKey) && !e.shiftKey && !e.altKey) {
        e.preventDefault();
        navigate("/");
        requestAnimationFrame(() => document.querySelector("textarea")?.focus());
      } else if (e.key === "/" && !typing && !e.ctrlKey && !e.metaKey && !e.altKey) {
        const area = document.querySelector("textarea");
        if (!area) return;
        e.preventDefault();
        area.focus();
      }
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [navigate]);
}

/** Shell is the frame of every page of someone signed in. */
export function Shell() {
  const [path, navigate] = useLocation();
  const open = drawer.use();
  const side = useRef<HTMLElement>(null);
  useVisibleHeight();
  useKeys(navigate);
  useEffect(() => drawer.set(false), [path]);
  useEffect(() => {
    if (!open) return;
    const before = document.activeElement;
    side.current?.querySelector<HTMLElement>("button, a")?.focus();
    return () => {
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, [open]);
  const load = pageOf(path);
  return (
    <div className="shell">
      <a className="button skip" href="#main" onClick={skip}>
        {t("skip")}
      </a>
      {/* eslint-disable-next-line jsx-a11y/click-events-have-key-events, jsx-a11y/no-noninteractive-element-interactions -- the links are what is clicked */}
      <aside className={open ? "side open" : "side"} ref={side} onClick={(e) => e.target instanceof Element && e.target.closest("a") && drawer.set(false)}>
        <Side />
      </aside>
      {open && <button type="button" className="veil" tabIndex={-1} aria-label={t("nav.close")} onClick={() => drawer.set(false)} />}
      <div className="page" inert={open}>
        <Lazy key={load === chat ? "chat" : path} load={load} />
      </div>
    </div>
  );
}

function skip(e: React.MouseEvent): void {
  e.preventDefault();
  document.getElementById("main")?.focus();
}

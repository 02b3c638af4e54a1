import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";
import { Link, useLocation } from "wouter";
import type { Turn } from "../api/types";
import { asProblem, type Problem } from "../api/client";
import { t } from "../i18n";
import { Bar } from "../shell/Bar";
import { Icon } from "../ui/Icon";
import { Mark } from "../ui/Mark";
import { Blank, Coded, Notice } from "../ui/Notice";
import { explain } from "../ui/problem";
import { site, useCurrency } from "../ui/session";
import { useTitle } from "../ui/useTitle";
import "./chat.css";
import "./prose.css";
import { Composer } from "./Composer";
import { list, titleOf } from "./list";
import { forChat, loadModels, models, pick, remember } from "./models";
import { ModelPicker } from "./ModelPicker";
import { closeThread, startThread, type Thread, threadOf } from "./thread";
import { TurnView } from "./TurnView";
import { useStick } from "./useStick";

/** Chat is the page of a conversation, or of one that is about to begin. */
export function Chat({ id }: { id?: string }) {
  useEffect(() => void loadModels(), []);
  return id ? <Conversation key={id} id={id} /> : <Fresh key="new" />;
}

function useModel(wanted: string): [string, (id: string) => void] {
  const { all, loaded } = models.use();
  const [chosen, choose] = useState("");
  const offered = forChat(all);
  const model = chosen || (loaded ? pick(offered, wanted) : wanted);
  const set = useCallback((m: string) => {
    remember(m);
    choose(m);
  }, []);
  return [model, set];
}

function Fresh() {
  const [, navigate] = useLocation();
  const [model, setModel] = useModel("");
  const [fault, setFault] = useState<Problem | null>(null);
  const { all, loaded } = models.use();
  const known = site.use();
  useTitle("");

  const send = async (text: string) => {
    setFault(null);
    try {
      const thread = await startThread(model);
      void thread.send(text, model);
      navigate(`/c/${thread.id}`);
      return true;
    } catch (err) {
      setFault(asProblem(err));
      return false;
    }
  };
  const none = loaded && forChat(all).length === 0;
  const note = known?.demo ? t("chat.demo_note") : all.find((m) => m.id === model)?.demo ? t("chat.demo_model") : "";
  return (
    <div className="chat">
      <Bar>
        <ModelPicker value={model} onPick={setModel} />
      </Bar>
      <main className="welcome" id="main" tabIndex={-1}>
        <Mark size={64} />
        <h1>{none ? t("chat.no_models") : t("chat.hello")}</h1>
        <p className="muted"><Coded text={none ? t("chat.no_models_text") : t("chat.hello_sub")} /></p>
        {note && !none && (
          <p className="demo-note">
            <span className="badge">{t("demo")}</span> <Coded text={note} />
          </p>
        )}
        {fault && <Notice kind="bad">{explain(fault)}</Notice>}
      </main>
      <Composer draft="" model={model} running={false} stopping={false} onSend={send} onStop={() => undefined} />
    </div>
  );
}

function Conversation({ id }: { id: string }) {
  const [thread] = useState(() => threadOf(id));
  useLayoutEffect(() => () => closeThread(thread), [thread]);
  useEffect(() => {
    const shown = () => document.visibilityState === "visible" && thread.refresh();
    document.addEventListener("visibilitychange", shown);
    return () => document.removeEventListener("visibilitychange", shown);
  }, [thread]);
  const { loaded, fault } = thread.state.use();
  const [model, setModel] = useModel(thread.model);
  const listed = list.use().items.find((c) => c.id === id);
  const title = listed ? titleOf(listed) : thread.title;
  useTitle(title);
  return (
    <div className="chat">
      <h1 className="offscreen">{title || t("list.untitled")}</h1>
      <Bar>
        <ModelPicker value={model} onPick={setModel} />
      </Bar>
      {loaded ? <Talk thread={thread} model={model} /> : <Loading thread={thread} fault={fault} />}
    </div>
  );
}

function Loading({ thread, fault }: { thread: Thread; fault?: Problem }) {
  const gone = fault?.code === "not_found";
  return (
    <main id="main" tabIndex={-1} aria-busy={!fault}>
      {!fault && <div className="wait" />}
      {fault && (
        <Blank title={gone ? t("chat.missing") : t("chat.load_failed")} text={gone ? t("chat.missing_text") : explain(fault)}>
          {gone && (
            <Link className="button" href="/">
              {t("nav.new")}
            </Link>
          )}
          {!gone && (
            <button
              type="button"
              onClick={() => {
                thread.dismiss();
                void thread.load();
              }}
            >
              {t("retry")}
            </button>
          )}
        </Blank>
      )}
    </main>
  );
}

function Talk({ thread, model }: { thread: Thread; model: string }) {
  const { turns, fault } = thread.state.use();
  const lost = thread.lost.use();
  const returned = thread.returned.use();
  const { all } = models.use();
  const known = site.use();
  const currency = useCurrency();
  const box = useRef<HTMLElement>(null);
  const column = useRef<HTMLDivElement>(null);
  const { away, jump } = useStick(box, column);
  const [stopping, setStopping] = useState(false);
  const last = turns.at(-1);
  const running = last?.state === "running";
  const said = useAnnouncement(running);

  useEffect(() => {
    if (!running) setStopping(false);
  }, [running]);
  const send = async (text: string) => {
    thread.dismiss();
    jump();
    return thread.send(text, model);
  };
  const again = useCallback(
    (turn: Turn) => {
      thread.dismiss();
      jump();
      void thread.regenerate(turn, model || turn.model);
    },
    [thread, model, jump],
  );
  const regenerateLast = useCallback(() => last && again(last), [last, again]);
  const stop = () => {
    setStopping(true);
    void thread.stop();
  };
  const isDemo = (id: string) => all.find((m) => m.id === id)?.demo ?? known?.demo ?? false;
  return (
    <>
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- a box that scrolls must be reachable by keyboard */}
      <main className="scroll" id="main" ref={box} tabIndex={0} aria-label={t("chat.log")}>
        <div className="column" ref={column} role="log" aria-live="off" aria-busy={running} aria-label={t("chat.log")}>
          {turns.map((turn) => (
            <TurnView key={turn.id} turn={turn} demo={isDemo(turn.model)} currency={currency} onRegenerate={turn === last && !running ? regenerateLast : undefined} />
          ))}
          {lost && <p className="ending thinking">{t("chat.lost")}</p>}
          {fault && <Notice kind="bad">{explain(fault)}</Notice>}
        </div>
      </main>
      <p className="offscreen" role="status">
        {said}
      </p>
      <div className="dock">
        {away && (
          <button type="button" className="jump" onClick={jump}>
            <Icon name="down" size={16} />
            {t("chat.latest")}
          </button>
        )}
        <Composer draft={thread.id} returned={returned} model={model} running={running} stopping={stopping} onSend={send} onStop={stop} />
      </div>
    </>
  );
}

/** useAnnouncement tells a screen reader when an answer begins and ends, and nothing in between. */
function useAnnouncement(running: boolean): string {
  const was = useRef(running);
  const [said, say] = useState("");
  useEffect(() => {
    if (running && !was.current) say(t("chat.started"));
    if (!running && was.current) say(t("chat.finished"));
    was.current = running;
  }, [running]);
  return said;
}

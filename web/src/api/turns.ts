import { asProblem, OFFLINE, Problem, send } from "./client";
import { SSEParser } from "./sse";
import type { Turn } from "./types";

/** byteLength is the length of a text in UTF-8, the unit of offsets. */
export function byteLength(text: string): number {
  return new TextEncoder().encode(text).length;
}

/** offsetOf is how much of a turn's reasoning and answer we hold. */
export function offsetOf(turn: Pick<Turn, "reasoning" | "answer">): number {
  return byteLength(turn.reasoning ?? "") + byteLength(turn.answer ?? "");
}

export interface Following {
  onText(text: string): void;
  onReasoning(text: string): void;
  /** The turn has ended; this is how. */
  onDone(turn: Turn): void;
  /** The connection is lost (true) or back (false). */
  onLost?(lost: boolean): void;
  /** The turn cannot be followed: it is gone, or not ours. */
  onProblem(problem: Problem): void;
}

const backoff = [300, 700, 1500, 3000, 5000, 10_000]; // milliseconds
const quietLimit = 60_000; // milliseconds without a byte before we reconnect

/**
 * follow attaches to a turn from a byte offset on and reports what arrives. A
 * lost connection is taken up again where it broke, with growing pauses, until
 * the turn ends or the returned function is called.
 */
export function follow(turn: string, after: number, on: Following, wait: (ms: number) => Promise<void> = pause): () => void {
  let offset = after;
  let over = false;
  let tries = 0;
  let abort = new AbortController();

  const read = async (): Promise<void> => {
    abort = new AbortController();
    const res = await send("GET", `/api/turns/${turn}/events?after=${offset}`, undefined, {
      headers: { Accept: "text/event-stream" },
      signal: abort.signal,
    });
    if (!res.body) throw new Problem(OFFLINE, "");
    const parser = new SSEParser((e) => {
      if (over) return;
      tries = 0;
      on.onLost?.(false);
      if (/^\d+$/.test(e.id)) offset = Number(e.id);
      if (e.type === "text") on.onText((JSON.parse(e.data) as { text: string }).text);
      else if (e.type === "reasoning") on.onReasoning((JSON.parse(e.data) as { text: string }).text);
      else if (e.type === "done") {
        over = true;
        on.onDone(JSON.parse(e.data) as Turn);
      }
    });
    const reader = res.body.getReader();
    let timer = setTimeout(() => abort.abort(), quietLimit);
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done || over) break;
        clearTimeout(timer);
        timer = setTimeout(() => abort.abort(), quietLimit);
        parser.push(value);
      }
    } finally {
      clearTimeout(timer);
      void reader.cancel().catch(() => undefined);
    }
  };

  const run = async (): Promise<void> => {
    while (!over) {
      try {
        await read();
      } catch (err) {
        const p = asProblem(err);
        if (!over && p.status >= 400 && p.status < 500 && p.status !== 429) {
          over = true;
          on.onProblem(p);
        }
      }
      if (over) return;
      on.onLost?.(true);
      await wait(backoff[Math.min(tries++, backoff.length - 1)] ?? 0);
    }
  };
  void run();
  return () => {
    over = true;
    abort.abort();
  };
}

/** pause waits; going online or showing the page again ends it early. */
function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      removeEventListener("online", end);
      document.removeEventListener("visibilitychange", shown);
      resolve();
    };
    const shown = () => document.visibilityState === "visible" && end();
    const timer = setTimeout(end, ms);
    addEventListener("online", end);
    document.addEventListener("visibilitychange", shown);
  });
}

import { describe, expect, it, vi } from "vitest";
import { fakeFetch, problem, Stream } from "../test/fakeFetch";
import { api, OFFLINE, Problem, UNREADABLE, whenUnauthorized } from "./client";
import { type Event, SSEParser } from "./sse";
import { byteLength, follow, type Following, offsetOf } from "./turns";
import type { Turn } from "./types";

const bytes = (s: string) => new TextEncoder().encode(s);

function parse(pieces: Uint8Array[]): Event[] {
  const events: Event[] = [];
  const parser = new SSEParser((e) => events.push(e));
  for (const p of pieces) parser.push(p);
  return events;
}

describe("SSEParser", () => {
  const stream = ': hi\r\nevent: text\r\nid: 6\r\ndata: {"text":"你好"}\r\n\r\nevent: text\nid: 10\ndata:{"text":"🧱"}\n\n: keep alive\n\ndata: a\ndata: b\nretry: 5\n\nevent: done\ndata: {}\n\n';
  const want = [
    { type: "text", id: "6", data: '{"text":"你好"}' },
    { type: "text", id: "10", data: '{"text":"🧱"}' },
    { type: "message", id: "10", data: "a\nb" },
    { type: "done", id: "10", data: "{}" },
  ];

  it("reads a stream in one piece", () => expect(parse([bytes(stream)])).toEqual(want));

  it("reads it cut at every place", () => {
    const all = bytes(stream);
    for (let at = 1; at < all.length; at++) expect(parse([all.slice(0, at), all.slice(at)])).toEqual(want);
  });

  it("reads it byte by byte", () => {
    expect(parse([...bytes(stream)].map((b) => new Uint8Array([b])))).toEqual(want);
  });

  it("drops an event that never ended", () => expect(parse([bytes("data: x\n")])).toEqual([]));
  it("ignores an event without data", () => expect(parse([bytes("event: text\n\ndata: y\n\n")])).toEqual([{ type: "message", id: "", data: "y" }]));
  it("takes a line without a colon as a field", () => expect(parse([bytes("data\n\n")])).toEqual([{ type: "message", id: "", data: "" }]));
});

describe("offsets", () => {
  it("count bytes, not characters", () => expect(byteLength("a你🧱")).toBe(8));
  it("count reasoning and answer", () => expect(offsetOf({ reasoning: "想", answer: "ab" })).toBe(5));
});

const done: Turn = { id: "t", conversation: "c", text: "q", answer: "你好世界", model: "m", state: "done", created: "2026-01-01T00:00:00Z" };

function record() {
  const seen: string[] = [];
  let settle = () => {};
  const end = new Promise<void>((resolve) => (settle = resolve));
  const on: Following = {
    onText: (s) => seen.push(`text ${s}`),
    onReasoning: (s) => seen.push(`reasoning ${s}`),
    onDone: (turn) => {
      seen.push(`done ${turn.state}`);
      settle();
    },
    onProblem: (p) => {
      seen.push(`problem ${p.code}`);
      settle();
    },
  };
  return { seen, end, on };
}

describe("follow", () => {
  const at = (n: number) => `GET /api/turns/t/events?after=${n}`;

  it("reports what arrives until the turn is done", async () => {
    const s = new Stream();
    fakeFetch({ [at(0)]: s.response });
    const { seen, end, on } = record();
    follow("t", 0, on);
    s.event("reasoning", 3, { text: "想" });
    s.event("text", 9, { text: "你好" });
    s.event("done", 9, done);
    await end;
    expect(seen).toEqual(["reasoning 想", "text 你好", "done done"]);
  });

  it("resumes from the byte where the connection broke, cut inside a character or not", async () => {
    const first = new Stream();
    const second = new Stream();
    const calls = fakeFetch({ [at(3)]: first.response, [at(9)]: second.response });
    const { seen, end, on } = record();
    follow("t", 3, on, async () => {});
    const raw = bytes('event: text\nid: 9\ndata: {"text":"好世"}\n\n');
    first.bytes(raw.slice(0, 40));
    first.bytes(raw.slice(40));
    first.bytes(bytes('event: text\nid: 12\ndata: {"text":"界').slice(0, -1));
    await vi.waitFor(() => expect(seen).toHaveLength(1));
    first.cut();
    second.event("text", 12, { text: "界" });
    second.event("done", 12, done);
    await end;
    expect(seen).toEqual(["text 好世", "text 界", "done done"]);
    expect(calls.map((c) => c.path)).toEqual(["/api/turns/t/events?after=3", "/api/turns/t/events?after=9"]);
  });

  it("tries again after refusals that pass, with growing pauses", async () => {
    const s = new Stream();
    const answers = [problem(503, "overloaded"), problem(429, "rate_limited"), new TypeError("offline"), s.response];
    fakeFetch({
      [at(0)]: () => {
        const next = answers.shift();
        if (next instanceof Error) throw next;
        return next;
      },
    });
    s.event("done", 0, done);
    const { seen, end, on } = record();
    const waits: number[] = [];
    const lost: boolean[] = [];
    follow("t", 0, { ...on, onLost: (l) => lost.push(l) }, async (ms) => void waits.push(ms));
    await end;
    expect(seen).toEqual(["done done"]);
    expect(waits).toEqual([300, 700, 1500]);
    expect(lost).toEqual([true, true, true, false]);
  });

  it("gives up when the turn is gone", async () => {
    fakeFetch({ [at(0)]: problem(404, "not_found") });
    const { seen, end, on } = record();
    follow("t", 0, on);
    await end;
    expect(seen).toEqual(["problem not_found"]);
  });

  it("is silent once let go", async () => {
    const s = new Stream();
    const calls = fakeFetch({ [at(0)]: s.response });
    const { seen, on } = record();
    const leave = follow("t", 0, on, async () => {});
    await vi.waitFor(() => expect(calls).toHaveLength(1));
    leave();
    s.event("text", 1, { text: "a" });
    s.end();
    await new Promise((resolve) => setTimeout(resolve, 0));
    expect(seen).toEqual([]);
    expect(calls).toHaveLength(1);
  });
});

describe("api", () => {
  it("sends the CSRF header with whatever changes something", async () => {
    const calls = fakeFetch({ "GET /api/me": {}, "POST /api/keys": {}, "PATCH /api/c": {}, "DELETE /api/k": undefined, "PUT /api/p": undefined });
    await api.get("/api/me");
    await api.post("/api/keys", { name: "n" });
    await api.patch("/api/c", {});
    await api.put("/api/p", {});
    await api.delete("/api/k");
    expect(calls.map((c) => c.headers["X-Jimu-CSRF"])).toEqual([undefined, "1", "1", "1", "1"]);
  });

  it("throws the server's own problem", async () => {
    fakeFetch({ "POST /api/keys": problem(400, "invalid_request", "the limit is not an amount", "limit") });
    await expect(api.post("/api/keys")).rejects.toMatchObject({ code: "invalid_request", status: 400, param: "limit", message: "the limit is not an amount", request: "r1" });
  });

  it("tells a proxy's page and a dead line from a problem", async () => {
    fakeFetch({
      "GET /a": () => new Response("<html>502</html>", { status: 502 }),
      "GET /b": () => {
        throw new TypeError("failed");
      },
      "GET /c": () => new Response("<html>", { status: 200 }),
    });
    await expect(api.get("/a")).rejects.toMatchObject({ code: UNREADABLE, status: 502 });
    await expect(api.get("/b")).rejects.toMatchObject({ code: OFFLINE });
    await expect(api.get("/c")).rejects.toBeInstanceOf(Problem);
  });

  it("notices the end of a session, but not a wrong password", async () => {
    const noticed = vi.fn();
    whenUnauthorized(noticed);
    fakeFetch({ "POST /api/session": problem(401, "unauthorized"), "GET /api/me": problem(401, "unauthorized") });
    await expect(api.post("/api/session")).rejects.toBeInstanceOf(Problem);
    expect(noticed).not.toHaveBeenCalled();
    await expect(api.get("/api/me")).rejects.toBeInstanceOf(Problem);
    expect(noticed).toHaveBeenCalledOnce();
  });
});

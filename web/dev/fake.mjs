// A stand-in for the server, for working on the pages without the binary: the
// platform API in memory, with answers written in advance. Development and
// `e2e --fake` only; nothing of it is in the build.
import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const dist = fileURLToPath(new URL("../dist/", import.meta.url));
const policy =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; manifest-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";
const types = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".png": "image/png", ".webmanifest": "application/manifest+json" };

const demo = `# 积木的演示回答

这是**内置演示模型**写的。它不联网，也不思考；**注意：**请不要把它当真。

1. 列表的第一项
2. 第二项，里面有 \`行内代码\`

| 项目 | 数量 | 价格 |
|:-----|:----:|-----:|
| 木块 | 12 | ¥3.50 |
| 榫头 | 4 | ¥0.80 |

\`\`\`go
// Hello says hello.
func Hello(name string) string {
	return fmt.Sprintf("你好，%s", name)
}
\`\`\`

> 引用：好的工具让人忘记它。

See [the docs](https://example.com/docs) for more. [x](javascript:alert(1)) <img src=x onerror="alert(1)">
`;

class Fault extends Error {
  constructor(status, code, detail, param) {
    super(detail);
    Object.assign(this, { status, code, param });
  }
}

/** start listens on a free port and returns {url, link, close, state}. */
export async function start({ port = 0, pace = 40, log = () => {} } = {}) {
  let serial = 0;
  const id = () => `${Date.now().toString(36)}${(++serial).toString(36).padStart(4, "0")}`;
  const now = () => new Date().toISOString();
  const secret = randomBytes(12).toString("hex");
  const state = { owner: null, password: "", sessions: new Set(), chats: [], turns: new Map(), keys: [], usage: [], moves: [], balance: 10_000_000_000n, pace };
  const credit = (n) => {
    const abs = n < 0n ? -n : n;
    const frac = (abs % 1_000_000_000n).toString().padStart(9, "0").replace(/0+$/, "");
    return `${n < 0n ? "-" : ""}${abs / 1_000_000_000n}${frac ? `.${frac}` : ""}`;
  };
  const move = (kind, amount, extra) => {
    state.balance += amount;
    state.moves.unshift({ seq: state.moves.length + 1, kind, amount: credit(amount), after: credit(state.balance), ref: id(), at: now(), ...extra });
  };
  state.balance = 0n;

  const finish = (turn, how, error) => {
    if (turn.state !== "running") return;
    clearInterval(turn.timer);
    turn.state = how;
    turn.error = error;
    turn.usage = { in: 12 + turn.text.length, out: Math.ceil(turn.answer.length / 3) };
    const price = BigInt(turn.usage.in * 2000 + turn.usage.out * 8000);
    turn.cost = credit(price);
    turn.took_ms = Date.now() - Date.parse(turn.created);
    const usage = { in_text: turn.usage.in, out_text: turn.usage.out };
    move("usage", -price, { model: turn.model, usage, ref: turn.request });
    state.usage.unshift({ request: turn.request, at: turn.created, user: "u", op: "chat", model: turn.model, stream: true, state: how === "done" ? "ok" : "cancelled", usage, cost: turn.cost, took_ms: turn.took_ms });
    for (const l of turn.listeners) l("done");
  };
  const run = (turn) => {
    if (turn.text.includes("[no credit]")) {
      turn.state = "failed";
      turn.error = { code: "insufficient_credit", text: "the balance does not cover it" };
      return;
    }
    const think = turn.text.includes("[think]") ? "先想一想，再回答。" : "";
    const full = demo.repeat(Number(/\[long ?(\d*)\]/.exec(turn.text)?.[1] || (turn.text.includes("[long]") ? 6 : 1)));
    let at = -think.length;
    turn.timer = setInterval(() => {
      const n = 6;
      if (at < 0) {
        turn.reasoning += think.slice(think.length + at, at + n < 0 ? think.length + at + n : undefined);
        at = Math.min(0, at + n);
      } else {
        turn.answer += full.slice(at, at + n);
        at += n;
      }
      for (const l of turn.listeners) l("grow");
      if (at >= full.length) finish(turn, "done");
    }, state.pace);
  };
  const shown = ({ timer: _t, listeners: _l, ...turn }) => turn;
  const newTurn = (chat, text, model) => {
    const turn = { id: id(), conversation: chat.id, text, reasoning: "", answer: "", model, state: "running", cost: "0", request: id(), created: now(), took_ms: 0, listeners: new Set() };
    state.turns.set(turn.id, turn);
    chat.updated = now();
    chat.model = model;
    chat.title ||= text.slice(0, 24);
    run(turn);
    return turn;
  };

  const events = (turn, after, res) => {
    res.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
    let sent = after;
    const emit = () => {
      const r = Buffer.from(turn.reasoning);
      const a = Buffer.from(turn.answer);
      const send = (type, bytes) => {
        if (bytes.length === 0) return;
        sent += bytes.length;
        res.write(`event: ${type}\nid: ${sent}\ndata: ${JSON.stringify({ text: bytes.toString() })}\n\n`);
      };
      send("reasoning", r.subarray(sent));
      send("text", a.subarray(sent - r.length));
    };
    const end = () => res.end(`event: done\nid: ${sent}\ndata: ${JSON.stringify(shown(turn))}\n\n`);
    res.write(": attached\n\n");
    emit();
    if (turn.state !== "running") return end();
    const on = (what) => {
      emit();
      if (what === "done") end();
    };
    turn.listeners.add(on);
    res.on("close", () => turn.listeners.delete(on));
  };

  const page = (rows, url) => {
    const limit = Number(url.searchParams.get("limit") ?? 50);
    const from = Number(url.searchParams.get("cursor") ?? 0);
    return { data: rows.slice(from, from + limit), next: from + limit < rows.length ? String(from + limit) : "" };
  };
  const models = [
    { id: "jimu-demo", demo: true, context: 8192, max_output: 2048, abilities: ["chat"], price: { in: "2", out: "8", in_cached: "0.5" } },
    { id: "unpriced", demo: false, context: 65536, max_output: 8192, abilities: ["chat"], price: null },
  ];

  const routes = {
    "GET /api/site": () => ({ name: "Jimu", currency: "CNY", version: "dev", setup_needed: !state.owner, demo: true }),
    "POST /api/setup": ({ body }) => {
      if (state.owner) throw new Fault(409, "conflict", "an owner exists already");
      if (body.secret !== secret) throw new Fault(403, "forbidden", "the link is wrong or has expired", "secret");
      if ([...(body.password ?? "")].length < 12) throw new Fault(400, "invalid_request", "the password is too short: use at least 12 characters, such as four words", "password");
      state.owner = { id: id(), name: body.name, role: "owner" };
      state.password = body.password;
      move("grant", 10_000_000_000n, { reason: "welcome" });
      return { status: 201, session: true, value: { name: body.name, role: "owner" } };
    },
    "POST /api/session": ({ body }) => {
      if (body.name !== state.owner?.name || body.password !== state.password) throw new Fault(401, "unauthorized", "the name or the password is not right");
      return { status: 201, session: true, value: { name: body.name, role: "owner" } };
    },
    "DELETE /api/session": ({ session }) => void state.sessions.delete(session),
    "GET /api/me": () => ({ ...state.owner, credit: { balance: credit(state.balance), held: "0" } }),
    "PUT /api/me/password": ({ body }) => {
      if (body.old !== state.password) throw new Fault(403, "forbidden", "the old password is wrong", "old");
      state.password = body.new;
    },
    "GET /api/models": () => ({ data: models }),
    "GET /api/keys": ({ url }) => page(state.keys, url),
    "POST /api/keys": ({ body }) => {
      const key = `jm_${randomBytes(20).toString("hex")}`;
      const k = { id: id(), user: "u", name: body.name, tail: key.slice(-4), models: body.models, limit: body.limit, spent: "0", limits: {}, created: now(), expires: body.expires };
      state.keys.unshift(k);
      return { status: 201, value: { ...k, key } };
    },
    "DELETE /api/keys/:": ({ params: [key] }) => {
      const k = state.keys.find((other) => other.id === key);
      if (!k) throw new Fault(404, "not_found", "no such key");
      k.revoked = now();
    },
    "GET /api/usage": ({ url }) => page(state.usage, url),
    "GET /api/statement": ({ url }) => page(state.moves, url),
    "GET /api/conversations": ({ url }) => page(state.chats.toSorted((a, b) => (a.updated < b.updated ? 1 : -1)), url),
    "POST /api/conversations": ({ body }) => {
      const c = { id: id(), title: body.title ?? "", model: body.model ?? "", created: now(), updated: now(), turns: [] };
      state.chats.unshift(c);
      return { status: 201, value: c };
    },
    "GET /api/conversations/:": ({ params: [c] }) => {
      const chat = chatOf(c);
      return { ...chat, turns: chat.turns.map((t) => shown(state.turns.get(t))) };
    },
    "PATCH /api/conversations/:": ({ params: [c], body }) => Object.assign(chatOf(c), { title: body.title }),
    "DELETE /api/conversations/:": ({ params: [c] }) => void state.chats.splice(state.chats.indexOf(chatOf(c)), 1),
    "POST /api/conversations/:/turns": ({ params: [c], body }) => {
      const chat = chatOf(c);
      const old = body.regenerate && state.turns.get(body.regenerate);
      const turn = newTurn(chat, old ? old.text : body.text, body.model ?? old?.model);
      chat.turns = [...chat.turns.filter((t) => t !== old?.id), turn.id];
      return { status: 201, value: shown(turn) };
    },
    "GET /api/turns/:": ({ params: [t] }) => shown(turnOf(t)),
    "POST /api/turns/:/stop": ({ params: [t] }) => void finish(turnOf(t), "stopped"),
  };
  const chatOf = (c) => {
    const chat = state.chats.find((other) => other.id === c);
    if (!chat) throw new Fault(404, "not_found", "no such conversation");
    return chat;
  };
  const turnOf = (t) => {
    const turn = state.turns.get(t);
    if (!turn) throw new Fault(404, "not_found", "no such turn");
    return turn;
  };
  const match = (method, path) => {
    for (const [route, f] of Object.entries(routes)) {
      const [m, pattern] = route.split(" ");
      const hit = m === method && new RegExp(`^${pattern.replaceAll(":", "([^/]+)")}$`).exec(path);
      if (hit) return { f, params: hit.slice(1) };
    }
    throw new Fault(404, "not_found", "no such page");
  };
  const open = new Set(["/api/site", "/api/setup", "/api/session"]);

  async function callAPI(req, res, url) {
    const session = /jimu=(\w+)/.exec(req.headers.cookie ?? "")?.[1] ?? "";
    if (!(open.has(url.pathname) && req.method !== "DELETE")) {
      if (!state.sessions.has(session)) throw new Fault(401, "unauthorized", "sign in first");
      if (req.method !== "GET" && req.headers["x-jimu-csrf"] !== "1") throw new Fault(403, "forbidden", "the CSRF header is missing");
    }
    const stream = /^\/api\/turns\/(\w+)\/events$/.exec(url.pathname);
    if (stream) {
      log(`attach ${url.pathname}${url.search}`);
      return events(turnOf(stream[1]), Number(url.searchParams.get("after") ?? 0), res);
    }
    const { f, params } = match(req.method, url.pathname);
    let text = "";
    for await (const piece of req) text += piece;
    const out = f({ body: text ? JSON.parse(text) : {}, params, url, session });
    const headers = { "Content-Type": "application/json", "X-Request-Id": id() };
    if (out?.session) {
      const s = randomBytes(8).toString("hex");
      state.sessions.add(s);
      headers["Set-Cookie"] = `jimu=${s}; HttpOnly; SameSite=Lax; Path=/`;
    }
    res.writeHead(out === undefined ? 204 : (out.status ?? 200), headers);
    res.end(out === undefined ? "" : JSON.stringify(out.value ?? out));
  }

  async function file(res, path) {
    const wanted = extname(path) ? normalize(path) : "/index.html";
    const body = await readFile(join(dist, wanted));
    res.writeHead(200, { "Content-Type": types[extname(wanted)] ?? "application/octet-stream", "Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff" });
    res.end(body);
  }

  const server = createServer((req, res) => {
    const url = new URL(req.url, "http://localhost");
    (url.pathname.startsWith("/api/") ? callAPI(req, res, url) : file(res, url.pathname)).catch((err) => {
      const f = err instanceof Fault ? err : new Fault(err.code === "ENOENT" ? 404 : 500, err.code === "ENOENT" ? "not_found" : "internal", String(err));
      res.writeHead(f.status, { "Content-Type": "application/problem+json" });
      res.end(JSON.stringify({ type: "about:blank", title: f.code, status: f.status, code: f.code, detail: f.message, param: f.param, request_id: "fake" }));
    });
  });
  await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${server.address().port}`;
  return {
    url,
    link: `${url}/setup#${secret}`,
    state,
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const s = await start({ port: Number(process.env.PORT ?? 8080), log: console.log });
  console.log(`${s.url}\n${s.link}`);
}

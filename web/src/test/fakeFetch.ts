import { vi } from "vitest";

export interface Call {
  method: string;
  path: string;
  body: unknown;
  headers: Record<string, string>;
}

type Answer = unknown | ((call: Call) => unknown);

/** problem is an answer that refuses. */
export const problem = (status: number, code: string, detail = "", param = ""): Response =>
  new Response(JSON.stringify({ type: "about:blank", title: code, status, code, detail, param, request_id: "r1" }), { status, headers: { "Content-Type": "application/problem+json" } });

/** Stream is an event stream that a test writes by hand. */
export class Stream {
  private control!: ReadableStreamDefaultController<Uint8Array>;
  readonly response: Response;

  constructor() {
    const body = new ReadableStream<Uint8Array>({
      start: (c) => {
        this.control = c;
      },
    });
    this.response = new Response(body, { headers: { "Content-Type": "text/event-stream" } });
  }

  bytes(b: Uint8Array): void {
    this.control.enqueue(b);
  }

  event(type: string, id: number, data: unknown): void {
    this.bytes(new TextEncoder().encode(`event: ${type}\nid: ${id}\ndata: ${JSON.stringify(data)}\n\n`));
  }

  end(): void {
    this.control.close();
  }

  cut(): void {
    this.control.error(new TypeError("network error"));
  }
}

/** fakeFetch answers calls from a table of "METHOD /path"; what is not in it fails the test. */
export function fakeFetch(table: Record<string, Answer>): Call[] {
  const calls: Call[] = [];
  vi.stubGlobal("fetch", async (path: string, init: RequestInit = {}) => {
    const method = init.method ?? "GET";
    const call: Call = { method, path, body: init.body ? JSON.parse(String(init.body)) : undefined, headers: init.headers as Record<string, string> };
    calls.push(call);
    const key = `${method} ${path}`;
    if (!(key in table)) throw new Error(`the test has no answer for ${key}`);
    const found = table[key];
    const answer = typeof found === "function" ? await (found as (c: Call) => unknown)(call) : found;
    if (answer instanceof Response) return answer;
    return answer === undefined ? new Response(null, { status: 204 }) : new Response(JSON.stringify(answer), { status: 200 });
  });
  return calls;
}

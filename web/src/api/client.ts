/** Problem is a failure as the platform API states it (problem+json). */
export class Problem extends Error {
  readonly code: string;
  readonly status: number;
  readonly param: string;
  readonly request: string;

  constructor(code: string, detail: string, status = 0, param = "", request = "") {
    super(detail);
    this.code = code;
    this.status = status;
    this.param = param;
    this.request = request;
  }
}

/** Codes that do not come from the server. */
export const OFFLINE = "offline"; // no answer arrived
export const UNREADABLE = "unreadable"; // an answer arrived, but not from Jimu

let onUnauthorized: () => void = () => {};

/** whenUnauthorized sets what happens once the session is found to have ended. */
export function whenUnauthorized(f: () => void): void {
  onUnauthorized = f;
}

async function problemOf(res: Response): Promise<Problem> {
  const request = res.headers.get("X-Request-Id") ?? "";
  try {
    const p = (await res.json()) as { code?: string; detail?: string; title?: string; param?: string; request_id?: string };
    if (typeof p.code === "string") return new Problem(p.code, p.detail ?? p.title ?? "", res.status, p.param ?? "", p.request_id ?? request);
  } catch {
    // not JSON: a proxy's error page
  }
  return new Problem(UNREADABLE, `HTTP ${res.status}`, res.status, "", request);
}

/** send makes one call and returns the answer, or throws a [Problem]. */
export async function send(method: string, path: string, body?: unknown, init: RequestInit = {}): Promise<Response> {
  const headers: Record<string, string> = { Accept: "application/json" };
  if (method !== "GET") headers["X-Jimu-CSRF"] = "1";
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let res: Response;
  try {
    res = await fetch(path, {
      method,
      credentials: "same-origin",
      cache: "no-store",
      ...init,
      headers: { ...headers, ...(init.headers as Record<string, string> | undefined) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  } catch (err) {
    if (err instanceof DOMException && err.name === "AbortError") throw err;
    throw new Problem(OFFLINE, "");
  }
  if (res.ok) return res;
  const problem = await problemOf(res);
  if (res.status === 401 && path !== "/api/session") onUnauthorized();
  throw problem;
}

async function json<T>(method: string, path: string, body?: unknown): Promise<T> {
  const res = await send(method, path, body);
  if (res.status === 204) return undefined as T;
  try {
    return (await res.json()) as T;
  } catch {
    throw new Problem(UNREADABLE, "", res.status);
  }
}

export const api = {
  get: <T>(path: string) => json<T>("GET", path),
  post: <T>(path: string, body: unknown = {}) => json<T>("POST", path, body),
  put: <T>(path: string, body: unknown) => json<T>("PUT", path, body),
  patch: <T>(path: string, body: unknown) => json<T>("PATCH", path, body),
  delete: (path: string) => json<void>("DELETE", path),
};

/** asProblem makes a Problem of anything thrown. */
export function asProblem(err: unknown): Problem {
  return err instanceof Problem ? err : new Problem("page", err instanceof Error ? err.message : String(err));
}

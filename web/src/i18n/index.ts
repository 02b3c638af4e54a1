import type { Messages } from "./zh-CN";

export type Key = keyof Messages;
export type Lang = "zh-CN" | "en";

/** The names in braces of a message: what t() must be given for it. */
export type Names<S extends string> = S extends `${string}{${infer P}}${infer Rest}` ? P | Names<Rest> : never;
export type Args<K extends Key> = [Names<Messages[K]>] extends [never] ? [] : [values: Record<Names<Messages[K]>, string | number>];

const locales: Record<Lang, () => Promise<{ default: Record<Key, string> }>> = {
  "zh-CN": () => import("./zh-CN"),
  en: () => import("./en"),
};

let messages: Record<string, string> = {};
let current: Lang = "en";

/** t returns a message in the page's language, with its names filled in. */
export function t<K extends Key>(key: K, ...args: Args<K>): string {
  const text = messages[key] ?? key;
  const values = args[0] as Record<string, string | number> | undefined;
  return values ? text.replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole)) : text;
}

/** has says whether a message exists, for keys made at run time. */
export function has(key: string): key is Key {
  return key in messages;
}

export const lang = (): Lang => current;

/** loadLanguage fetches a language's messages and makes it the page's. */
export async function loadLanguage(to: Lang): Promise<void> {
  messages = (await locales[to]()).default;
  current = to;
  document.documentElement.lang = to;
}

/** wantedLanguage is the last choice, or what the browser asks for. */
export function wantedLanguage(): Lang {
  return /^zh/i.test(document.documentElement.lang || navigator.language) ? "zh-CN" : "en";
}

const formats = new Map<string, Intl.DateTimeFormat>();

function format(options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  const key = current + JSON.stringify(options);
  let f = formats.get(key);
  if (!f) {
    f = new Intl.DateTimeFormat(current, options);
    formats.set(key, f);
  }
  return f;
}

/** when writes a moment: the time alone if it is today's, else the date too. */
export function when(iso: string, now = new Date()): string {
  const d = new Date(iso);
  const today = d.toDateString() === now.toDateString();
  const time = format({ hour: "2-digit", minute: "2-digit", hour12: false }).format(d);
  if (today) return time;
  const year = d.getFullYear() === now.getFullYear() ? undefined : "numeric";
  return `${format({ year, month: "short", day: "numeric" }).format(d)} ${time}`;
}

/** exactly writes a moment with date and seconds. */
export const exactly = (iso: string): string => format({ dateStyle: "medium", timeStyle: "medium" }).format(new Date(iso));

/** day writes a date. */
export const day = (iso: string): string => format({ dateStyle: "medium" }).format(new Date(iso));

/** month writes a month and its year. */
export const month = (d: Date): string => format({ year: "numeric", month: "long" }).format(d);

/** count writes a whole number with its separators. */
export const count = (n: number): string => new Intl.NumberFormat(current).format(n);

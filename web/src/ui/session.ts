import { api, whenUnauthorized } from "../api/client";
import type { Me, Site } from "../api/types";
import { Store } from "./store";

/** site is what anyone may know of this server; undefined until loaded. */
export const site = new Store<Site | undefined>(undefined);
/** me is who is signed in: null is nobody, undefined is not yet known. */
export const me = new Store<Me | null | undefined>(undefined);
/** ended says that a session ended by itself, for the sign-in page to mention. */
export const ended = new Store(false);

const hint = "jimu.signed-in"; // spares a call that would be refused

whenUnauthorized(() => {
  if (me.get()) ended.set(true);
  me.set(null);
  forget();
});

const forget = () => localStorage.removeItem(hint);
const remember = () => localStorage.setItem(hint, "1");

export const maybeSignedIn = (): boolean => localStorage.getItem(hint) !== null;

/** loadSite asks what this server is. */
export async function loadSite(): Promise<Site> {
  const s = await api.get<Site>("/api/site");
  site.set(s);
  return s;
}

/** refreshMe asks who we are and what we have. */
export async function refreshMe(): Promise<void> {
  const m = await api.get<Me>("/api/me");
  remember();
  me.set(m);
}

/** signIn starts a session. */
export async function signIn(name: string, password: string): Promise<void> {
  await api.post("/api/session", { name, password });
  ended.set(false);
  await refreshMe();
}

/** signOut ends the session on this device. */
export async function signOut(): Promise<void> {
  await api.delete("/api/session");
  forget();
  me.set(null);
}

/** currency is the site's, for showing amounts. */
export const useCurrency = (): string => site.use()?.currency ?? "CNY";

import { api, asProblem, type Problem } from "../api/client";
import type { Conversation, Page } from "../api/types";
import { month, t } from "../i18n";
import { Store } from "../ui/store";

interface List {
  items: Conversation[];
  next: string;
  loaded: boolean;
  fault?: Problem;
}

const empty: List = { items: [], next: "", loaded: false };

/** list is the conversations of the side bar, the newest first. */
export const list = new Store<List>(empty);

const byTime = (a: Conversation, b: Conversation) => (a.updated < b.updated ? 1 : -1);

function merge(fresh: Conversation[], old: Conversation[]): Conversation[] {
  const seen = new Set(fresh.map((c) => c.id));
  return [...fresh, ...old.filter((c) => !seen.has(c.id))].toSorted(byTime);
}

/** refreshList loads the first page again and keeps what further pages brought. */
export async function refreshList(): Promise<void> {
  try {
    const page = await api.get<Page<Conversation>>("/api/conversations?limit=50");
    const now = list.get();
    list.set({ items: merge(page.data, now.items), next: now.loaded && now.items.length > page.data.length ? now.next : page.next, loaded: true });
  } catch (err) {
    const now = list.get();
    if (!now.loaded) list.set({ ...now, fault: asProblem(err) });
  }
}

/** moreOfList loads the next page. */
export async function moreOfList(): Promise<void> {
  const now = list.get();
  if (!now.next) return;
  const page = await api.get<Page<Conversation>>(`/api/conversations?limit=50&cursor=${encodeURIComponent(now.next)}`);
  list.set({ ...list.get(), items: merge(list.get().items, page.data), next: page.next });
}

/** forgetList empties the list, when someone signs out. */
export const forgetList = (): void => list.set(empty);

/** renameConversation gives a conversation a new title, at once on the page and then on the server. */
export async function renameConversation(id: string, title: string): Promise<void> {
  const before = list.get();
  list.set({ ...before, items: before.items.map((c) => (c.id === id ? { ...c, title } : c)) });
  try {
    await api.patch(`/api/conversations/${id}`, { title });
  } catch (err) {
    list.set(before);
    throw err;
  }
}

/** deleteConversation removes a conversation for good. */
export async function deleteConversation(id: string): Promise<void> {
  await api.delete(`/api/conversations/${id}`);
  const now = list.get();
  list.set({ ...now, items: now.items.filter((c) => c.id !== id) });
}

/** titleOf is what a conversation is called. */
export const titleOf = (c: Pick<Conversation, "title">): string => c.title || t("list.untitled");

const dayLength = 86_400_000; // milliseconds

/** grouped puts conversations under headings by their last use. */
export function grouped(items: Conversation[], now = new Date()): { heading: string; items: Conversation[] }[] {
  const midnight = new Date(now.getFullYear(), now.getMonth(), now.getDate()).getTime();
  const headingOf = (c: Conversation) => {
    const at = new Date(c.updated);
    if (at.getTime() >= midnight) return t("list.today");
    if (at.getTime() >= midnight - dayLength) return t("list.yesterday");
    if (at.getTime() >= midnight - 7 * dayLength) return t("list.week");
    if (at.getTime() >= midnight - 30 * dayLength) return t("list.month");
    return month(at);
  };
  const groups: { heading: string; items: Conversation[] }[] = [];
  for (const c of items) {
    const heading = headingOf(c);
    const last = groups.at(-1);
    if (last?.heading === heading) last.items.push(c);
    else groups.push({ heading, items: [c] });
  }
  return groups;
}

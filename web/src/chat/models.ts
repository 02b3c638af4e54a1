import { api, asProblem, type Problem } from "../api/client";
import type { Model } from "../api/types";
import { t } from "../i18n";
import { nano, price } from "../ui/money";
import { Store } from "../ui/store";

interface Models {
  all: Model[];
  loaded: boolean;
  fault?: Problem;
}

/** models is what the reader may use. */
export const models = new Store<Models>({ all: [], loaded: false });

/** loadModels fetches the models, once unless forced. */
export async function loadModels(again = false): Promise<void> {
  if (models.get().loaded && !again) return;
  try {
    const { data } = await api.get<{ data: Model[] }>("/api/models");
    models.set({ all: data, loaded: true });
  } catch (err) {
    models.set({ ...models.get(), fault: asProblem(err) });
  }
}

const key = "jimu.model";

/** remembered is the model chosen last. */
export const remembered = (): string => localStorage.getItem(key) ?? "";
export const remember = (model: string): void => localStorage.setItem(key, model);

const isChat = (m: Model): boolean => !m.abilities?.length || m.abilities.some((a) => a === "chat" || a === "text") || !m.abilities.every((a) => /embed|image|audio|speech|rerank|moderation/.test(a));

/** forChat lists the models that answer messages. */
export const forChat = (all: Model[]): Model[] => all.filter(isChat);

/** pick chooses the model of a message: the wanted one if it is offered, else the last chosen, else the first that can be used. */
export function pick(all: Model[], wanted: string): string {
  const offered = (id: string) => all.some((m) => m.id === id);
  if (wanted && offered(wanted)) return wanted;
  if (offered(remembered())) return remembered();
  return (all.find((m) => m.price && !m.demo) ?? all.find((m) => m.price) ?? all[0])?.id ?? "";
}

/** priceText says what a model costs, with the unit. */
export function priceText(m: Model, currency: string): string {
  if (!m.price) return t("chat.price_none");
  if (nano(m.price.in) === 0n && nano(m.price.out) === 0n) return t("chat.price_free");
  return t("chat.price", { in: price(m.price.in, currency), out: price(m.price.out, currency) });
}

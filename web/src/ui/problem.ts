import type { Problem } from "../api/client";
import { has, t } from "../i18n";

/**
 * explain says in the reader's language what went wrong and what to do. What
 * the server alone can know, such as which field is at fault, is its own text.
 */
export function explain(p: Pick<Problem, "code" | "message">): string {
  if (p.code === "page") return t("error.page", { detail: p.message });
  const key = `error.${p.code}`;
  return has(key) ? (t as (k: string) => string)(key) : p.message || t("error.internal");
}

import { has, t } from "../i18n";

/**
 * explain says in the reader's language what went wrong and what to do. What
 * the server alone can know, such as which field is at fault, is its own text.
 */
export function explain(p: { code: string; message: string; param?: string }): string {
  if (p.code === "page") return t("error.page", { detail: p.message });
  const field = p.param?.split(".").at(-1);
  const key = [`error.${p.code}.${field}`, `error.${p.code}`].find(has);
  return key ? (t as (k: string) => string)(key) : p.message || t("error.internal");
}

/** Themes the reader can choose; "auto" follows the system. */
export const themes = ["auto", "light", "dark", "contrast"] as const;
export type Theme = (typeof themes)[number];

const key = "jimu.theme";
const media = { dark: "(prefers-color-scheme: dark)", contrast: "(prefers-contrast: more)" };

export function chosenTheme(): Theme {
  const got = localStorage.getItem(key);
  return themes.find((t) => t === got) ?? "auto";
}

function resolve(theme: Theme): Theme {
  if (theme !== "auto") return theme;
  if (matchMedia(media.contrast).matches) return "contrast";
  return matchMedia(media.dark).matches ? "dark" : "light";
}

function apply(): void {
  document.documentElement.dataset.theme = resolve(chosenTheme());
  const paper = getComputedStyle(document.documentElement).getPropertyValue("--paper").trim();
  if (paper) document.querySelector<HTMLMetaElement>('meta[name="theme-color"]')?.setAttribute("content", paper);
}

/** chooseTheme keeps and applies a choice. */
export function chooseTheme(theme: Theme): void {
  localStorage.setItem(key, theme);
  apply();
}

/** watchTheme follows the system while the choice is "auto". */
export function watchTheme(): void {
  apply();
  for (const q of Object.values(media)) matchMedia(q).addEventListener("change", apply);
}

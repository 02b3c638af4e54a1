// Runs before the first paint: the theme and the language of the last visit.
(() => {
  const root = document.documentElement;
  const get = (key) => {
    try {
      return localStorage.getItem(key);
    } catch {
      return null;
    }
  };
  let theme = get("jimu.theme");
  if (theme !== "light" && theme !== "dark" && theme !== "contrast") {
    theme = matchMedia("(prefers-contrast: more)").matches ? "contrast" : matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  }
  root.dataset.theme = theme;
  root.lang = get("jimu.lang") || (/^zh/i.test(navigator.language) ? "zh-CN" : "en");
})();

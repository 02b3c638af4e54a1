import { createRoot } from "react-dom/client";
import "./ui/tokens.css";
import "./ui/base.css";
import { App, preload } from "./app";
import { loadLanguage, wantedLanguage } from "./i18n";
import { loadSite, maybeSignedIn, refreshMe } from "./ui/session";
import { watchTheme } from "./ui/theme";

// Everything the first picture needs is asked for at once; only the words are
// waited for. App shows what the other answers turn out to be.
void loadSite().catch(() => undefined);
if (maybeSignedIn()) void refreshMe().catch(() => undefined);
preload(location.pathname);
watchTheme();

const root = document.getElementById("root");
if (root) void loadLanguage(wantedLanguage()).then(() => createRoot(root).render(<App />));

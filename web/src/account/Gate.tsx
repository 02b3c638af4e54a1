import type { ReactNode } from "react";
import { language } from "../app";
import { lang, type Lang, loadLanguage } from "../i18n";
import { Mark } from "../ui/Mark";
import "./account.css";

/** The languages, each in its own words. */
export const languages: { id: Lang; name: string }[] = [
  { id: "zh-CN", name: "中文" },
  { id: "en", name: "English" },
];

/** chooseLanguage keeps a choice and draws the page in it. */
export async function chooseLanguage(to: Lang): Promise<void> {
  localStorage.setItem("jimu.lang", to);
  await loadLanguage(to);
  language.set(language.get() + 1);
}

/** Gate is the frame of the pages before one is signed in. */
export function Gate({ children }: { children: ReactNode }) {
  return (
    <main className="gate">
      <div className="gate-mark">
        <Mark size={36} />
        <span>Jimu 积木</span>
      </div>
      <div className="card gate-card">{children}</div>
      <div className="corner">
        {languages.map((l) => (
          <button key={l.id} type="button" className="quiet small" lang={l.id} aria-pressed={lang() === l.id} onClick={() => void chooseLanguage(l.id)}>
            {l.name}
          </button>
        ))}
      </div>
    </main>
  );
}

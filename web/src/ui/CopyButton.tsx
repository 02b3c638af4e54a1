import { useEffect, useState } from "react";
import { t } from "../i18n";
import { copyText } from "./clipboard";
import { Icon } from "./Icon";

/** CopyButton copies a text and says so for a moment. */
export function CopyButton({ text, label, worded }: { text: string; label: string; worded?: boolean }) {
  const [done, setDone] = useState(false);
  useEffect(() => {
    if (!done) return;
    const timer = setTimeout(() => setDone(false), 1500);
    return () => clearTimeout(timer);
  }, [done]);
  const copy = () => void copyText(text).then(setDone);
  return (
    <button type="button" className={worded ? "" : "quiet icon-only"} aria-label={worded ? undefined : label} title={worded ? undefined : label} onClick={copy}>
      <Icon name={done ? "check" : "copy"} />
      {worded && (done ? t("copied") : label)}
      {!worded && (
        <span className="offscreen" role="status">
          {done ? t("copied") : ""}
        </span>
      )}
    </button>
  );
}

import { type FormEvent, useEffect, useRef, useState } from "react";
import { t } from "../i18n";
import { Icon } from "../ui/Icon";

interface Props {
  draft: string; // where an unsent text is kept
  returned?: string; // a text that could not be sent
  model: string;
  running: boolean;
  stopping: boolean;
  onSend: (text: string) => Promise<boolean>;
  onStop: () => void;
}

const keyOf = (draft: string) => `jimu.draft.${draft}`;

/** Composer is where one writes. An unsent text survives a reload. */
export function Composer({ draft, returned, model, running, stopping, onSend, onStop }: Props) {
  const area = useRef<HTMLTextAreaElement>(null);
  const [text, setText] = useState(() => sessionStorage.getItem(keyOf(draft)) ?? "");
  const [busy, setBusy] = useState(false);
  const empty = text.trim() === "";

  useEffect(() => {
    if (matchMedia("(pointer: fine)").matches) area.current?.focus({ preventScroll: true });
  }, []);
  useEffect(() => {
    if (returned) setText((now) => now || returned);
  }, [returned]);
  useEffect(() => {
    if (text) sessionStorage.setItem(keyOf(draft), text);
    else sessionStorage.removeItem(keyOf(draft));
    const el = area.current;
    if (!el || CSS.supports("field-sizing", "content")) return;
    el.style.height = "auto";
    el.style.height = `${el.scrollHeight + 2}px`;
  }, [text, draft]);

  const send = async () => {
    if (empty || running || busy || !model) return;
    const sent = text;
    setBusy(true);
    setText("");
    const took = await onSend(sent.trim());
    setBusy(false);
    if (!took) setText((now) => now || sent); // nothing that was written is lost
  };
  const submit = (e: FormEvent) => {
    e.preventDefault();
    void send();
  };
  const keys = (e: React.KeyboardEvent) => {
    // Enter also ends a word in an input method (keyCode 229 in older Safari).
    if (e.key !== "Enter" || e.shiftKey || e.nativeEvent.isComposing || e.keyCode === 229) return;
    if (matchMedia("(pointer: coarse)").matches) return; // on a phone Enter is a new line
    e.preventDefault();
    void send();
  };

  return (
    <form className="composer" onSubmit={submit}>
      <div className="composer-box">
        <textarea
          ref={area}
          rows={1}
          value={text}
          placeholder={model ? t("chat.placeholder", { model }) : t("chat.placeholder_none")}
          aria-label={t("chat.input")}
          aria-describedby="composer-hint"
          enterKeyHint="enter"
          onInput={(e) => setText(e.currentTarget.value)}
          onKeyDown={keys}
        />
        {running ? (
          <button type="button" className="round" aria-label={t("chat.stop")} title={t("chat.stop")} disabled={stopping} onClick={onStop}>
            <Icon name="stop" />
          </button>
        ) : (
          <button className="round primary" aria-label={t("chat.send")} title={t("chat.send")} disabled={empty || busy || !model}>
            <Icon name="send" />
          </button>
        )}
      </div>
      <p className="composer-hint hint" id="composer-hint">
        {t("chat.hint")}
      </p>
    </form>
  );
}

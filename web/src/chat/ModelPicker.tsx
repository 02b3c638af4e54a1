import { useEffect, useId, useRef, useState } from "react";
import { t } from "../i18n";
import { Icon } from "../ui/Icon";
import { useCurrency } from "../ui/session";
import { forChat, loadModels, models, priceText } from "./models";

/** ModelPicker chooses who answers: name, price with its unit, and whether it is the demo. */
export function ModelPicker({ value, onPick }: { value: string; onPick: (id: string) => void }) {
  const { all, loaded, fault } = models.use();
  const currency = useCurrency();
  const [open, setOpen] = useState(false);
  const box = useRef<HTMLDivElement>(null);
  const id = useId();
  const offered = forChat(all);
  const now = all.find((m) => m.id === value);

  useEffect(() => {
    if (!open) return;
    const options = [...(box.current?.querySelectorAll<HTMLElement>('[role="option"]') ?? [])];
    (options.find((o) => o.getAttribute("aria-selected") === "true") ?? options[0])?.focus();
    const outside = (e: Event) => e.target instanceof Node && !box.current?.contains(e.target) && setOpen(false);
    addEventListener("pointerdown", outside);
    return () => removeEventListener("pointerdown", outside);
  }, [open]);

  const shut = () => {
    setOpen(false);
    box.current?.querySelector("button")?.focus();
  };
  const keys = (e: React.KeyboardEvent) => {
    if (!open) return;
    const options = [...(box.current?.querySelectorAll<HTMLElement>('[role="option"]') ?? [])];
    const at = options.indexOf(document.activeElement as HTMLElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: options.length - 1 }[e.key];
    if (e.key === "Escape") {
      e.stopPropagation();
      shut();
    } else if (e.key === "Tab") {
      setOpen(false);
    } else if (to !== undefined) {
      e.preventDefault();
      options[Math.max(0, Math.min(to, options.length - 1))]?.focus();
    }
  };
  const choose = (model: string) => {
    onPick(model);
    shut();
  };

  if (fault && !loaded) {
    return (
      <button type="button" className="quiet" onClick={() => void loadModels(true)}>
        {t("chat.models_failed")} {t("retry")}
      </button>
    );
  }
  if (loaded && offered.length === 0) return <span className="muted">{t("chat.no_models")}</span>;
  return (
    // eslint-disable-next-line jsx-a11y/no-static-element-interactions
    <div className="picker" ref={box} onKeyDown={keys}>
      <button type="button" className="quiet picker-button" aria-haspopup="listbox" aria-expanded={open} aria-controls={open ? id : undefined} onClick={() => setOpen(!open)}>
        <span className="offscreen">{t("chat.model")}: </span>
        <span className="picker-name">{value && loaded && !now ? t("chat.model_gone", { model: value }) : value || "…"}</span>
        {now?.demo && <span className="badge">{t("demo")}</span>}
        <Icon name="chevron" size={16} />
      </button>
      {open && (
        <div className="picker-list card" id={id} role="listbox" aria-label={t("chat.model")}>
          {offered.map((m) => (
            <div
              key={m.id}
              className="option"
              role="option"
              tabIndex={-1}
              aria-selected={m.id === value}
              aria-disabled={m.price ? undefined : true}
              onClick={() => m.price && choose(m.id)}
              onKeyDown={(e) => {
                if ((e.key === "Enter" || e.key === " ") && m.price) {
                  e.preventDefault();
                  choose(m.id);
                }
              }}
            >
              <span className="option-name">
                {m.id}
                {m.demo && <span className="badge">{t("demo")}</span>}
              </span>
              <span className="hint num">{priceText(m, currency)}</span>
              {m.id === value && <Icon name="check" size={16} />}
            </div>
          ))}
        </div>
      )}
    </div>
  );
}

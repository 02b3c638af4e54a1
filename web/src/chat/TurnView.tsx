import { memo } from "react";
import type { Turn } from "../api/types";
import { count, t } from "../i18n";
import { CopyButton } from "../ui/CopyButton";
import { Icon } from "../ui/Icon";
import { cost, exact } from "../ui/money";
import { Coded, Notice } from "../ui/Notice";
import { explain } from "../ui/problem";
import { Prose } from "./Prose";

interface Props {
  turn: Turn;
  demo: boolean;
  currency: string;
  onRegenerate?: () => void; // given for the last turn only
}

function Thoughts({ turn }: { turn: Turn }) {
  const open = turn.state === "running" && !turn.answer;
  if (!turn.reasoning) return open ? <p className="thinking">{t("chat.thinking")}</p> : null;
  return (
    <details className="thoughts">
      <summary className={open ? "thinking" : ""}>{open ? t("chat.thinking") : t("chat.thoughts")}</summary>
      <div className="thought">{turn.reasoning}</div>
    </details>
  );
}

/** What became of the answer, where that needs words. */
function Ending({ turn, onRegenerate }: Pick<Props, "turn" | "onRegenerate">) {
  const again = onRegenerate && (
    <button type="button" className="small" onClick={onRegenerate}>
      <Icon name="again" size={16} />
      {t("chat.regenerate")}
    </button>
  );
  switch (turn.state) {
    case "failed":
      return (
        <Notice kind="bad">
          <p>
            <Coded text={turn.error ? explain({ code: turn.error.code, message: turn.error.text }) : t("chat.failed")} />
          </p>
          {again}
        </Notice>
      );
    case "interrupted":
      return (
        <div className="ending">
          <span>{t("chat.interrupted")}</span>
          {again}
        </div>
      );
    case "stopped":
      return <div className="ending">{t("chat.stopped")}</div>;
    case "done":
      return turn.answer ? null : <div className="ending">{t("chat.empty_answer")}</div>;
    default:
      return null;
  }
}

function Foot({ turn, demo, currency, onRegenerate }: Props) {
  if (turn.state === "running") return null;
  return (
    <div className="foot">
      <p className="facts num">
        {demo && <span className="badge">{t("demo")}</span>}
        <span>{turn.model}</span>
        {turn.usage && <span>{t("chat.tokens", { in: count(turn.usage.in), out: count(turn.usage.out) })}</span>}
        {turn.cost !== undefined && <span title={exact(turn.cost, currency)}>{cost(turn.cost, currency)}</span>}
      </p>
      <div className="acts">
        {turn.answer && <CopyButton text={turn.answer} label={t("chat.copy")} />}
        {onRegenerate && (
          <button type="button" className="quiet icon-only" aria-label={t("chat.regenerate")} title={t("chat.regenerate")} onClick={onRegenerate}>
            <Icon name="again" />
          </button>
        )}
      </div>
    </div>
  );
}

/** TurnView is one question and its answer. */
export const TurnView = memo(function TurnView(props: Props) {
  const { turn } = props;
  const running = turn.state === "running";
  return (
    <article className={running ? "turn" : "turn still"}>
      <h3 className="offscreen">{t("chat.you")}</h3>
      <div className="asked">{turn.text}</div>
      <h3 className="offscreen">{turn.model}</h3>
      <div className="answer">
        <Thoughts turn={turn} />
        {turn.answer && <Prose text={turn.answer} done={!running} />}
        <Ending turn={turn} onRegenerate={props.onRegenerate} />
        <Foot {...props} />
      </div>
    </article>
  );
});

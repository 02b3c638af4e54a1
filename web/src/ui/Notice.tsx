import type { ReactNode } from "react";
import { Icon } from "./Icon";

/** Notice is a short message in the page; a bad one is read out at once. */
export function Notice({ kind = "info", children }: { kind?: "info" | "good" | "bad"; children: ReactNode }) {
  return (
    <div className={`notice ${kind}`} role={kind === "bad" ? "alert" : "status"}>
      <Icon name={kind === "bad" ? "alert" : "check"} />
      <div>{typeof children === "string" ? <Coded text={children} /> : children}</div>
    </div>
  );
}

/** Coded shows a message, with what stands between backticks as code. */
export function Coded({ text }: { text: string }) {
  return <>{text.split("`").map((part, i) => (i % 2 === 1 ? <code key={part}>{part}</code> : part))}</>;
}

/** Blank fills the place of a list or page that has nothing to show, and says what to do. */
export function Blank({ title, text, children }: { title: string; text?: string; children?: ReactNode }) {
  return (
    <div className="blank">
      <h2>{title}</h2>
      {text && (
        <p>
          <Coded text={text} />
        </p>
      )}
      {children}
    </div>
  );
}

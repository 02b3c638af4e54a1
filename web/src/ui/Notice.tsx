import type { ReactNode } from "react";
import { Icon } from "./Icon";

/** Notice is a short message in the page; a bad one is read out at once. */
export function Notice({ kind = "info", children }: { kind?: "info" | "good" | "bad"; children: ReactNode }) {
  return (
    <div className={`notice ${kind}`} role={kind === "bad" ? "alert" : "status"}>
      <Icon name={kind === "bad" ? "alert" : "check"} />
      <div>{children}</div>
    </div>
  );
}

/** Blank fills the place of a list or page that has nothing to show, and says what to do. */
export function Blank({ title, text, children }: { title: string; text?: string; children?: ReactNode }) {
  return (
    <div className="blank">
      <h2>{title}</h2>
      {text && <p>{text}</p>}
      {children}
    </div>
  );
}

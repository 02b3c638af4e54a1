import { useState } from "react";
import { asProblem } from "../api/client";
import { t } from "../i18n";
import { Dialog } from "./Dialog";
import { Notice } from "./Notice";
import { explain } from "./problem";

interface Props {
  title: string;
  text: string; // names what the act does, and to what
  act: string;
  onAct: () => Promise<void>;
  onClose: () => void;
}

/** Confirm asks before an act that cannot be undone. */
export function Confirm({ title, text, act, onAct, onClose }: Props) {
  const [busy, setBusy] = useState(false);
  const [fault, setFault] = useState("");
  const run = async () => {
    setBusy(true);
    try {
      await onAct();
      onClose();
    } catch (err) {
      setFault(explain(asProblem(err)));
      setBusy(false);
    }
  };
  return (
    <Dialog title={title} onClose={onClose}>
      <p className="breakable">{text}</p>
      {fault && <Notice kind="bad">{fault}</Notice>}
      <div className="row end">
        <button type="button" onClick={onClose}>
          {t("cancel")}
        </button>
        <button type="button" className="danger" disabled={busy} onClick={() => void run()}>
          {act}
        </button>
      </div>
    </Dialog>
  );
}

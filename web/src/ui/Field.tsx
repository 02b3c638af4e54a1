import { type ReactNode, useId } from "react";

type InputProps = Omit<React.InputHTMLAttributes<HTMLInputElement>, "onChange">;

interface Props extends InputProps {
  label: string;
  hint?: ReactNode;
  fault?: string;
  onValue: (value: string) => void;
}

/** Field is a labelled input whose hint and fault are read with it. */
export function Field({ label, hint, fault, onValue, ...input }: Props) {
  const id = useId();
  const says = [hint && `${id}-hint`, fault && `${id}-fault`].filter(Boolean).join(" ");
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <input id={id} aria-describedby={says || undefined} aria-invalid={fault ? true : undefined} {...input} onInput={(e) => onValue(e.currentTarget.value)} />
      {hint && (
        <p className="hint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
      {fault && (
        <p className="fault" id={`${id}-fault`}>
          {fault}
        </p>
      )}
    </div>
  );
}

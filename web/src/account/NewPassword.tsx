import { useState } from "react";
import { t } from "../i18n";
import { Field } from "../ui/Field";
import { Icon } from "../ui/Icon";

/** The server's rule: at least this many characters, and not a common one. */
export const shortest = 12;

export const lengthOf = (password: string): number => [...password].length;

interface Props {
  label: string;
  value: string;
  fault?: string;
  onValue: (v: string) => void;
}

/** NewPassword is a field for choosing a password, with its rule checked as one types. */
export function NewPassword({ label, value, fault, onValue }: Props) {
  const [shown, setShown] = useState(false);
  const left = shortest - lengthOf(value);
  const hint = (
    <span className={left <= 0 ? "rule met" : "rule"}>
      {left <= 0 && <Icon name="check" size={16} />}
      {left <= 0 ? t("setup.rule_ok") : t("setup.rule", { n: shortest, left })}
    </span>
  );
  return (
    <div>
      <Field
        label={label}
        type={shown ? "text" : "password"}
        name="new-password"
        autoComplete="new-password"
        autoCapitalize="none"
        spellCheck={false}
        required
        value={value}
        onValue={onValue}
        hint={hint}
        fault={fault}
      />
      <label className="peek">
        <input type="checkbox" checked={shown} onChange={(e) => setShown(e.currentTarget.checked)} />
        {t("setup.show")}
      </label>
    </div>
  );
}

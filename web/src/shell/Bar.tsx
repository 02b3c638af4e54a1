import type { ReactNode } from "react";
import { Link } from "wouter";
import { t } from "../i18n";
import { Icon } from "../ui/Icon";
import { balance, exact, nano } from "../ui/money";
import { me, useCurrency } from "../ui/session";
import { drawer } from "./drawer";

/** Bar is the top of a page: the way to the side bar, what the page puts there, and the balance. */
export function Bar({ children }: { children?: ReactNode }) {
  const who = me.use();
  const currency = useCurrency();
  const open = drawer.use();
  const held = who && nano(who.credit.held) > 0n ? who.credit.held : "";
  const amount = who ? balance(who.credit.balance, currency) : "";
  const says = held ? t("chat.balance_held", { amount, held: balance(held, currency) }) : t("chat.balance", { amount });
  return (
    <header className="bar">
      <button type="button" className="quiet icon-only only-narrow" aria-label={t("nav.open")} aria-expanded={open} onClick={() => drawer.set(true)}>
        <Icon name="menu" size={20} />
      </button>
      <div className="bar-main">{children}</div>
      {who && (
        <Link className="quiet button num" href="/usage?tab=statement" aria-label={says} title={exact(who.credit.balance, currency)}>
          {amount}
        </Link>
      )}
    </header>
  );
}

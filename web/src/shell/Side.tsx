import { useEffect, useState } from "react";
import { Link, useLocation } from "wouter";
import { asProblem } from "../api/client";
import type { Conversation } from "../api/types";
import { deleteConversation, grouped, list, moreOfList, refreshList, titleOf } from "../chat/list";
import { t } from "../i18n";
import { Confirm } from "../ui/Confirm";
import { Icon, type IconName } from "../ui/Icon";
import { Mark } from "../ui/Mark";
import { Notice } from "../ui/Notice";
import { explain } from "../ui/problem";
import { ChatItem } from "./ChatItem";
import { drawer } from "./drawer";

const pages: { href: string; icon: IconName; name: "nav.keys" | "nav.usage" | "nav.account" }[] = [
  { href: "/keys", icon: "key", name: "nav.keys" },
  { href: "/usage", icon: "chart", name: "nav.usage" },
  { href: "/account", icon: "person", name: "nav.account" },
];

/** Side is the side bar: a new chat, the earlier ones, the other pages. */
export function Side() {
  const [path, navigate] = useLocation();
  const { items, next, loaded, fault } = list.use();
  const [doomed, setDoomed] = useState<Conversation | null>(null);
  const [wrong, setWrong] = useState("");
  useEffect(() => void refreshList(), []);

  const remove = async (c: Conversation) => {
    await deleteConversation(c.id);
    if (path === `/c/${c.id}`) navigate("/");
  };
  return (
    <>
      <div className="side-top">
        <Link href="/" className="brand">
          <Mark size={26} />
          Jimu
        </Link>
        <button type="button" className="quiet icon-only only-narrow" aria-label={t("nav.close")} onClick={() => drawer.set(false)}>
          <Icon name="close" />
        </button>
      </div>
      <Link href="/" className="button new-chat" aria-current={path === "/" ? "page" : undefined}>
        <Icon name="plus" />
        {t("nav.new")}
      </Link>
      <nav className="chats" aria-label={t("nav.chats")}>
        {wrong && <Notice kind="bad">{wrong}</Notice>}
        {fault && !loaded && (
          <p className="side-note">
            {t("list.failed")}{" "}
            <button type="button" className="small" onClick={() => void refreshList()}>
              {t("retry")}
            </button>
          </p>
        )}
        {loaded && items.length === 0 && <p className="side-note">{t("list.empty")}</p>}
        {grouped(items).map((g) => (
          <section key={g.heading}>
            <h2>{g.heading}</h2>
            <ul>
              {g.items.map((c) => (
                <ChatItem key={c.id} chat={c} current={path === `/c/${c.id}`} onDelete={() => setDoomed(c)} onFault={setWrong} />
              ))}
            </ul>
          </section>
        ))}
        {next && (
          <button type="button" className="quiet small" onClick={() => void moreOfList().catch((err: unknown) => setWrong(explain(asProblem(err))))}>
            {t("more")}
          </button>
        )}
      </nav>
      <nav className="places" aria-label={t("nav.main")}>
        {pages.map((p) => (
          <Link key={p.href} href={p.href} aria-current={path === p.href ? "page" : undefined}>
            <Icon name={p.icon} />
            {t(p.name)}
          </Link>
        ))}
      </nav>
      {doomed && (
        <Confirm
          title={t("list.delete_title")}
          text={t("list.delete_text", { title: titleOf(doomed) })}
          act={t("delete")}
          onAct={() => remove(doomed)}
          onClose={() => setDoomed(null)}
        />
      )}
    </>
  );
}

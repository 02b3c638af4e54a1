import { useEffect, useRef, useState } from "react";
import { Link } from "wouter";
import { asProblem } from "../api/client";
import type { Conversation } from "../api/types";
import { renameConversation, titleOf } from "../chat/list";
import { t } from "../i18n";
import { Icon } from "../ui/Icon";
import { explain } from "../ui/problem";

interface Props {
  chat: Conversation;
  current: boolean;
  onDelete: () => void;
  onFault: (text: string) => void;
}

/** ChatItem is one conversation of the side bar; it is renamed in place. */
export function ChatItem({ chat, current, onDelete, onFault }: Props) {
  const [editing, setEditing] = useState(false);
  const pencil = useRef<HTMLButtonElement>(null);
  const title = titleOf(chat);
  const done = (to: string | null) => {
    if (!editing) return;
    setEditing(false);
    requestAnimationFrame(() => pencil.current?.focus());
    const next = to?.trim();
    if (next && next !== chat.title) renameConversation(chat.id, next).catch((err: unknown) => onFault(explain(asProblem(err))));
  };
  if (editing) {
    return (
      <li>
        <Rename title={chat.title} onDone={done} />
      </li>
    );
  }
  return (
    <li className={current ? "chat-item current" : "chat-item"}>
      <Link href={`/c/${chat.id}`} aria-current={current ? "page" : undefined} title={title}>
        {title}
      </Link>
      <span className="chat-acts">
        <button type="button" ref={pencil} className="quiet icon-only" aria-label={t("list.rename", { title })} onClick={() => setEditing(true)}>
          <Icon name="pencil" size={16} />
        </button>
        <button type="button" className="quiet icon-only" aria-label={t("list.delete", { title })} onClick={onDelete}>
          <Icon name="trash" size={16} />
        </button>
      </span>
    </li>
  );
}

function Rename({ title, onDone }: { title: string; onDone: (to: string | null) => void }) {
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => input.current?.select(), []);
  return (
    <input
      ref={input}
      className="rename"
      aria-label={t("list.rename_label")}
      defaultValue={title}
      maxLength={120}
      onBlur={(e) => onDone(e.currentTarget.value)}
      onKeyDown={(e) => {
        if (e.nativeEvent.isComposing || e.keyCode === 229) return;
        if (e.key === "Enter") onDone(e.currentTarget.value);
        if (e.key === "Escape") {
          e.stopPropagation();
          onDone(null);
        }
      }}
    />
  );
}

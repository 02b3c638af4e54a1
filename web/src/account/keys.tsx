import { useState } from "react";
import { api } from "../api/client";
import type { Key } from "../api/types";
import { day, t } from "../i18n";
import { Confirm } from "../ui/Confirm";
import { Icon } from "../ui/Icon";
import { balance, cost, exact } from "../ui/money";
import { Blank } from "../ui/Notice";
import { useCurrency } from "../ui/session";
import { Desk, Listed } from "./Desk";
import { MadeKey, NewKey } from "./NewKey";
import { usePages } from "./usePages";

type Made = Key & { key: string };

/** Keys lists one's API keys, makes them and revokes them. */
export function Keys() {
  const [version, setVersion] = useState(0);
  const [making, setMaking] = useState(false);
  const [made, setMade] = useState<Made | null>(null);
  const make = (
    <button type="button" className="primary" onClick={() => setMaking(true)}>
      <Icon name="plus" />
      {t("keys.new")}
    </button>
  );
  return (
    <Desk title={t("keys.title")} lead={t("keys.lead")} act={make}>
      <KeyList key={version} onChange={() => setVersion((v) => v + 1)} />
      {making && (
        <NewKey
          onClose={() => setMaking(false)}
          onMade={(k) => {
            setMaking(false);
            setMade(k);
            setVersion((v) => v + 1);
          }}
        />
      )}
      {made && <MadeKey made={made} onClose={() => setMade(null)} />}
    </Desk>
  );
}

function KeyList({ onChange }: { onChange: () => void }) {
  const pages = usePages<Key>("/api/keys");
  const [doomed, setDoomed] = useState<Key | null>(null);
  const revoke = async (k: Key) => {
    await api.delete(`/api/keys/${k.id}`);
    onChange();
  };
  return (
    <>
      <Listed pages={pages} failed={t("keys.failed")} empty={<Blank title={t("keys.empty")} text={t("keys.empty_text")} />}>
        {(rows) => (
          <div className="sheet" tabIndex={0} role="region" aria-label={t("keys.title")}>
            <table className="grid cards">
              <thead>
                <tr>
                  <th scope="col">{t("name")}</th>
                  <th scope="col">{t("keys.key")}</th>
                  <th scope="col">{t("keys.models")}</th>
                  <th scope="col" className="right">
                    {t("keys.spent")}
                  </th>
                  <th scope="col">{t("keys.created")}</th>
                  <th scope="col">{t("keys.expires")}</th>
                  <th scope="col">
                    <span className="offscreen">{t("keys.revoke")}</span>
                  </th>
                </tr>
              </thead>
              <tbody>
                {rows.map((k) => (
                  <Row key={k.id} k={k} onRevoke={() => setDoomed(k)} />
                ))}
              </tbody>
            </table>
          </div>
        )}
      </Listed>
      {doomed && (
        <Confirm
          title={t("keys.revoke_title")}
          text={t("keys.revoke_text", { name: doomed.name, tail: doomed.tail })}
          act={t("keys.revoke")}
          onAct={() => revoke(doomed)}
          onClose={() => setDoomed(null)}
        />
      )}
    </>
  );
}

function Row({ k, onRevoke }: { k: Key; onRevoke: () => void }) {
  const currency = useCurrency();
  const over = k.expires && new Date(k.expires) <= new Date();
  return (
    <tr className={k.revoked || over ? "spent" : undefined}>
      <td className="wrap" data-of={t("name")}>
        <strong>{k.name}</strong>
      </td>
      <td data-of={t("keys.key")}>
        <code>jm_…{k.tail}</code>
      </td>
      <td className="wrap" data-of={t("keys.models")}>
        {k.models?.length ? k.models.join(", ") : t("keys.all_models")}
      </td>
      <td className="right num" data-of={t("keys.spent")} title={exact(k.spent, currency)}>
        {k.limit ? `${cost(k.spent, currency)} / ${balance(k.limit, currency)}` : t("keys.unlimited")}
      </td>
      <td className="num" data-of={t("keys.created")}>
        {day(k.created)}
      </td>
      <td className="num" data-of={t("keys.expires")}>
        {k.expires ? `${day(k.expires)}${over ? ` · ${t("keys.expired")}` : ""}` : t("keys.never")}
      </td>
      <td className="right">
        {k.revoked ? (
          <span>{t("keys.revoked")}</span>
        ) : (
          <button type="button" className="danger small" aria-label={t("keys.revoke_label", { name: k.name })} onClick={onRevoke}>
            {t("keys.revoke")}
          </button>
        )}
      </td>
    </tr>
  );
}

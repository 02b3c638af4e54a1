package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jimu-ai/jimu"
)

// AddKey adds a key with the hash of its secret, and, where it has a limit,
// its budget in the ledger.
func (i *Identity) AddKey(ctx context.Context, k *jimu.Key, hash jimu.KeyHash) error {
	models, err := json.Marshal(k.Models)
	if err != nil {
		return err
	}
	limits, err := json.Marshal(k.Limits)
	if err != nil {
		return err
	}
	var limit sql.NullInt64
	if k.Limit != nil {
		limit = sql.NullInt64{Int64: int64(*k.Limit), Valid: true}
	}
	err = i.db.Tx(ctx, func(tx *Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO api_keys (id, user_id, hash, name, tail, models, spend_limit, limits, created_at, expires_at, revoked_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)`,
			k.ID, k.User, hex.EncodeToString(hash[:]), k.Name, k.Tail, string(models), limit, string(limits), micros(k.Created), optionalMicros(k.Expires)); err != nil {
			return err
		}
		if limit.Valid {
			if _, err := tx.Exec(ctx, "INSERT INTO budgets (id, cap, spent, held) VALUES (?, ?, 0, 0)", k.ID, limit.Int64); err != nil {
				return err
			}
		}
		return tx.Bump(ctx, routing)
	})
	if IsDuplicate(err) {
		return &jimu.Error{Code: jimu.Conflict, Text: "this key exists already", Err: err}
	}
	return err
}

// Keys lists a user's keys, revoked ones too, the newest first, a page at a
// time: next is the cursor of the page after, or "".
func (i *Identity) Keys(ctx context.Context, user, cursor string, limit int) (ks []jimu.Key, next string, err error) {
	at, id, err := keyCursor(cursor)
	if err != nil {
		return nil, "", err
	}
	rows, err := i.db.Query(ctx, `SELECT k.id, k.user_id, k.name, k.tail, k.models, k.spend_limit, k.limits, k.created_at, k.expires_at, k.revoked_at, b.spent
		FROM api_keys k LEFT JOIN budgets b ON b.id = k.id
		WHERE k.user_id = ? AND (k.created_at < ? OR (k.created_at = ? AND k.id < ?))
		ORDER BY k.created_at DESC, k.id DESC LIMIT ?`, user, at, at, id, int64(limit)+1)
	err = scanAll(rows, err, func(rows *sql.Rows) error {
		k, err := scanKey(rows)
		ks = append(ks, k)
		return err
	})
	if len(ks) > limit {
		ks = ks[:limit]
		last := &ks[limit-1]
		next = strconv.FormatInt(micros(last.Created), 10) + "." + last.ID
	}
	return ks, next, err
}

// keyCursor reads the place after which a page begins.
func keyCursor(cursor string) (at int64, id string, err error) {
	if cursor == "" {
		return 1<<63 - 1, "", nil
	}
	when, id, ok := strings.Cut(cursor, ".")
	at, err = strconv.ParseInt(when, 10, 64)
	if err != nil || !ok || len(id) > 64 {
		return 0, "", &jimu.Error{Code: jimu.Invalid, Param: "cursor", Text: "the cursor is not one that a page gave"}
	}
	return at, id, nil
}

func scanKey(r row) (jimu.Key, error) {
	var k jimu.Key
	var models, limits string
	var created int64
	var limit, expires, revoked, spent sql.NullInt64
	if err := r.Scan(&k.ID, &k.User, &k.Name, &k.Tail, &models, &limit, &limits, &created, &expires, &revoked, &spent); err != nil {
		return k, err
	}
	k.Created, k.Expires, k.Revoked = fromMicros(created), fromOptionalMicros(expires), fromOptionalMicros(revoked)
	k.Spent = jimu.Credit(spent.Int64)
	if limit.Valid {
		k.Limit = new(jimu.Credit(limit.Int64))
	}
	if err := json.Unmarshal([]byte(models), &k.Models); err != nil {
		return k, fmt.Errorf("decoding the models of key %s: %w", k.ID, err)
	}
	if err := json.Unmarshal([]byte(limits), &k.Limits); err != nil {
		return k, fmt.Errorf("decoding the limits of key %s: %w", k.ID, err)
	}
	return k, nil
}

// RevokeKey ends a key of this user. Doing it again is no error; a key of
// somebody else is [jimu.NotFound].
func (i *Identity) RevokeKey(ctx context.Context, user, id string, at time.Time) error {
	return i.db.Tx(ctx, func(tx *Tx) error {
		n, err := tx.Exec(ctx, "UPDATE api_keys SET revoked_at = ? WHERE id = ? AND user_id = ? AND revoked_at IS NULL", micros(at), id, user)
		if err != nil {
			return err
		}
		if n > 0 {
			return tx.Bump(ctx, routing)
		}
		var one int64
		if err := tx.QueryRow(ctx, "SELECT COUNT(*) FROM api_keys WHERE id = ? AND user_id = ?", id, user).Scan(&one); err != nil {
			return err
		}
		if one == 0 {
			return jimu.Errorf(jimu.NotFound, "there is no such key")
		}
		return nil
	})
}

// KeyNames maps the IDs of a user's keys, revoked ones too, to their names.
func (i *Identity) KeyNames(ctx context.Context, user string) (map[string]string, error) {
	names := make(map[string]string)
	rows, err := i.db.Query(ctx, "SELECT id, name FROM api_keys WHERE user_id = ?", user)
	err = scanAll(rows, err, func(rows *sql.Rows) error {
		var id, name string
		err := rows.Scan(&id, &name)
		names[id] = name
		return err
	})
	return names, err
}

// KeyCallers reads who may call with which key: the keys that are neither
// revoked nor expired, of users who are not disabled.
func (i *Identity) KeyCallers(ctx context.Context) ([]jimu.KeyCaller, error) {
	rows, err := i.db.Query(ctx, `SELECT k.id, k.hash, k.models, k.spend_limit, k.limits, k.expires_at, u.id, u.name, u.role
		FROM api_keys k JOIN users u ON u.id = k.user_id
		WHERE u.disabled = 0 AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > ?)`, micros(i.now()))
	var out []jimu.KeyCaller
	err = scanAll(rows, err, func(rows *sql.Rows) error {
		k, err := scanKeyCaller(rows)
		out = append(out, k)
		return err
	})
	return out, err
}

func scanKeyCaller(r row) (jimu.KeyCaller, error) {
	var kc jimu.KeyCaller
	var hash, models, limits string
	var limit, expires sql.NullInt64
	c := &kc.Caller
	if err := r.Scan(&c.Key, &hash, &models, &limit, &limits, &expires, &c.User, &c.Name, &c.Role); err != nil {
		return kc, err
	}
	if n, err := hex.Decode(kc.Hash[:], []byte(hash)); err != nil || n != len(kc.Hash) {
		return kc, fmt.Errorf("the hash of key %s is damaged", c.Key)
	}
	c.Account = jimu.UserAccount(c.User)
	if limit.Valid {
		c.Budget = c.Key
	}
	if expires.Valid {
		c.Expires = fromMicros(expires.Int64)
	}
	if err := json.Unmarshal([]byte(models), &c.Models); err != nil {
		return kc, fmt.Errorf("decoding the models of key %s: %w", c.Key, err)
	}
	if err := json.Unmarshal([]byte(limits), &c.KeyLimits); err != nil {
		return kc, fmt.Errorf("decoding the limits of key %s: %w", c.Key, err)
	}
	return kc, nil
}

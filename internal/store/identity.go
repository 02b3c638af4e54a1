package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/jimu-ai/jimu"
)

// routing is the revision that counts what admission and routing depend on.
const routing = "routing"

// Identity keeps users, sessions and keys. Of sessions and keys it has only
// the hashes.
type Identity struct {
	db  *DB
	now func() time.Time
}

// NewIdentity keeps users, sessions and keys in a store.
func NewIdentity(s *Store) *Identity { return &Identity{db: s.Main, now: s.now} }

func micros(t time.Time) int64 { return t.UnixMicro() }

func fromMicros(n int64) time.Time { return time.UnixMicro(n).UTC() }

func optionalMicros(t *time.Time) sql.NullInt64 {
	if t == nil {
		return sql.NullInt64{}
	}
	return sql.NullInt64{Int64: micros(*t), Valid: true}
}

func fromOptionalMicros(n sql.NullInt64) *time.Time {
	if !n.Valid {
		return nil
	}
	return new(fromMicros(n.Int64))
}

func asInt(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// row is one row of a result, or the only one.
type row interface{ Scan(dest ...any) error }

const userColumns = "u.id, u.name, u.role, u.disabled, u.created_at"

// scanUser reads userColumns and then what else there is.
func scanUser(r row, more ...any) (*jimu.User, error) {
	var u jimu.User
	var created int64
	err := r.Scan(append([]any{&u.ID, &u.Name, &u.Role, &u.Disabled, &created}, more...)...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, noUser()
	}
	if err != nil {
		return nil, err
	}
	u.Created = fromMicros(created)
	return &u, nil
}

func noUser() error { return jimu.Errorf(jimu.NotFound, "there is no such user") }

// AddUser adds a user with a password in PHC form. A name that exists in
// whatever case is a [jimu.Conflict].
func (i *Identity) AddUser(ctx context.Context, u *jimu.User, password string) error {
	return i.addUser(ctx, u, password, func(*Tx) error { return nil })
}

// AddFirstOwner adds an owner if there is none; otherwise it is a
// [jimu.Conflict]. Of calls at the same time, in whatever replica, one
// succeeds.
func (i *Identity) AddFirstOwner(ctx context.Context, u *jimu.User, password string) error {
	return i.addUser(ctx, u, password, func(tx *Tx) error {
		if err := lockOwners(ctx, tx); err != nil {
			return err
		}
		var n int64
		if err := tx.QueryRow(ctx, "SELECT COUNT(*) FROM users WHERE role = ?", string(jimu.RoleOwner)).Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			return jimu.Errorf(jimu.Conflict, "there is an owner already")
		}
		return nil
	})
}

// lockOwners lets one transaction at a time decide on who is an owner.
func lockOwners(ctx context.Context, tx *Tx) error { return tx.Bump(ctx, "owners") }

func (i *Identity) addUser(ctx context.Context, u *jimu.User, password string, first func(*Tx) error) error {
	err := i.db.Tx(ctx, func(tx *Tx) error {
		if err := first(tx); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "INSERT INTO users (id, name, lower_name, role, password, disabled, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
			u.ID, u.Name, strings.ToLower(u.Name), string(u.Role), password, asInt(u.Disabled), micros(u.Created)); err != nil {
			return err
		}
		return tx.Bump(ctx, routing)
	})
	if IsDuplicate(err) {
		return &jimu.Error{Code: jimu.Conflict, Text: "a user of this name exists already", Err: err}
	}
	return err
}

// HasOwner reports whether the site has an owner.
func (i *Identity) HasOwner(ctx context.Context) (bool, error) {
	var n int64
	err := i.db.QueryRow(ctx, "SELECT COUNT(*) FROM users WHERE role = ?", string(jimu.RoleOwner)).Scan(&n)
	return n > 0, err
}

// UserByID finds a user.
func (i *Identity) UserByID(ctx context.Context, id string) (*jimu.User, error) {
	return scanUser(i.db.QueryRow(ctx, "SELECT "+userColumns+" FROM users u WHERE u.id = ?", id))
}

// UserByName finds a user by name, in any case.
func (i *Identity) UserByName(ctx context.Context, name string) (*jimu.User, error) {
	return scanUser(i.db.QueryRow(ctx, "SELECT "+userColumns+" FROM users u WHERE u.lower_name = ?", strings.ToLower(name)))
}

// Users lists users, the oldest first, a page at a time: next is the cursor
// of the page after, or "".
func (i *Identity) Users(ctx context.Context, cursor string, limit int) (us []jimu.User, next string, err error) {
	rows, err := i.db.Query(ctx, "SELECT "+userColumns+" FROM users u WHERE u.id > ? ORDER BY u.id LIMIT ?", cursor, int64(limit)+1)
	err = scanAll(rows, err, func(rows *sql.Rows) error {
		u, err := scanUser(rows)
		if err == nil {
			us = append(us, *u)
		}
		return err
	})
	if len(us) > limit {
		us = us[:limit]
		next = us[limit-1].ID
	}
	return us, next, err
}

// ChangeUser runs change on a user in the transaction that writes the result;
// it may run more than once. Owners is how many owners are not disabled. All
// sessions of a user whose role or disabled state changed end.
func (i *Identity) ChangeUser(ctx context.Context, id string, change func(u *jimu.User, owners int) error) (*jimu.User, error) {
	var out *jimu.User
	err := i.db.Tx(ctx, func(tx *Tx) error {
		if err := lockOwners(ctx, tx); err != nil {
			return err
		}
		u, err := scanUser(tx.QueryRow(ctx, "SELECT "+userColumns+" FROM users u WHERE u.id = ? {for update}", id))
		if err != nil {
			return err
		}
		var owners int
		if err := tx.QueryRow(ctx, "SELECT COUNT(*) FROM users WHERE role = ? AND disabled = 0", string(jimu.RoleOwner)).Scan(&owners); err != nil {
			return err
		}
		was := *u
		if err := change(u, owners); err != nil {
			return err
		}
		out = u
		if was.Role == u.Role && was.Disabled == u.Disabled {
			return nil
		}
		if _, err := tx.Exec(ctx, "UPDATE users SET role = ?, disabled = ? WHERE id = ?", string(u.Role), asInt(u.Disabled), id); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "DELETE FROM sessions WHERE user_id = ?", id); err != nil {
			return err
		}
		return tx.Bump(ctx, routing)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Password returns a user's password in PHC form.
func (i *Identity) Password(ctx context.Context, user string) (string, error) {
	var phc string
	err := i.db.QueryRow(ctx, "SELECT password FROM users WHERE id = ?", user).Scan(&phc)
	if errors.Is(err, sql.ErrNoRows) {
		return "", noUser()
	}
	return phc, err
}

// SetPassword replaces a user's password and ends all sessions of the user
// but the one with the hash keep.
func (i *Identity) SetPassword(ctx context.Context, user, password string, keep []byte) error {
	return i.db.Tx(ctx, func(tx *Tx) error {
		n, err := tx.Exec(ctx, "UPDATE users SET password = ? WHERE id = ?", password, user)
		if err != nil {
			return err
		}
		if n == 0 {
			return noUser()
		}
		_, err = tx.Exec(ctx, "DELETE FROM sessions WHERE user_id = ? AND hash <> ?", user, hex.EncodeToString(keep))
		return err
	})
}

// AddSession begins a session of a user.
func (i *Identity) AddSession(ctx context.Context, hash []byte, user string, now time.Time) error {
	_, err := i.db.Exec(ctx, "INSERT INTO sessions (hash, user_id, created_at, seen_at) VALUES (?, ?, ?, ?)",
		hex.EncodeToString(hash), user, micros(now), micros(now))
	return err
}

// Session finds a session: whose it is, when it began, and when it was last
// used. How long it lasts is the caller's to say.
func (i *Identity) Session(ctx context.Context, hash []byte) (u *jimu.User, created, seen time.Time, err error) {
	var createdAt, seenAt int64
	u, err = scanUser(i.db.QueryRow(ctx, "SELECT "+userColumns+", s.created_at, s.seen_at FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.hash = ?",
		hex.EncodeToString(hash)), &createdAt, &seenAt)
	if err != nil {
		return nil, time.Time{}, time.Time{}, err
	}
	return u, fromMicros(createdAt), fromMicros(seenAt), nil
}

// TouchSession records that a session was used.
func (i *Identity) TouchSession(ctx context.Context, hash []byte, seen time.Time) error {
	_, err := i.db.Exec(ctx, "UPDATE sessions SET seen_at = ? WHERE hash = ? AND seen_at < ?", micros(seen), hex.EncodeToString(hash), micros(seen))
	return err
}

// EndSession ends a session. It is no error if there is none.
func (i *Identity) EndSession(ctx context.Context, hash []byte) error {
	_, err := i.db.Exec(ctx, "DELETE FROM sessions WHERE hash = ?", hex.EncodeToString(hash))
	return err
}

// PruneSessions removes the sessions that began or were last used before the
// given times, and returns how many.
func (i *Identity) PruneSessions(ctx context.Context, began, seen time.Time) (int64, error) {
	return i.db.Exec(ctx, "DELETE FROM sessions WHERE created_at < ? OR seen_at < ?", micros(began), micros(seen))
}

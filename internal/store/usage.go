package store

import (
	"context"
	"database/sql"
	"encoding/base32"
	"encoding/binary"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jimu-ai/jimu"
)

// Usage holds one row for each model request, and one for each attempt at an
// upstream. It is history, not money: what was charged is in the ledger.
type Usage struct{ db *DB }

// NewUsage gives access to the usage rows.
func NewUsage(s *Store) *Usage { return &Usage{s.History} }

// What the columns of a text take.
const (
	maxKey  = 190 // bytes of a {key}, characters of a {name}
	maxText = 64  // bytes of an {id}
)

const (
	usageCols   = 11
	attemptCols = 9
)

// Insert writes records, and the attempts in them. A record that is there
// already, by its request ID, stays as it is.
func (u *Usage) Insert(ctx context.Context, records []*jimu.Record) error {
	return u.db.Tx(ctx, func(tx *Tx) error { return u.InsertTx(ctx, tx, records) })
}

// InsertTx is Insert within a transaction, such as a [Writer]'s.
func (u *Usage) InsertTx(ctx context.Context, tx *Tx, records []*jimu.Record) error {
	if len(records) == 0 {
		return nil
	}
	rows := tx.db.takeArgs()
	defer func() { tx.db.giveArgs(rows) }()
	var attempts []any
	var detail []byte
	for _, r := range records {
		only := onlyAnswer(r)
		detail = appendDetail(detail[:0], r, only)
		rows = append(rows, r.Request, r.At.UnixMicro(), ascii(r.User), ascii(r.Key), fit(r.Model), ascii(r.State),
			r.Usage.In(), r.Usage.Out(), int64(r.Cost), r.Took.Microseconds(), string(detail))
		if only != nil {
			continue
		}
		for i := range r.Attempts {
			attempts = appendAttempt(attempts, r.Request, i, &r.Attempts[i])
		}
	}
	_, err := tx.Insert(ctx, `INSERT INTO usage_rows (request, began_at, user_id, key_id, model, state, in_tokens, out_tokens,
		cost, took_us, detail) VALUES {values} {ignore (request)}`, usageCols, rows)
	if err != nil {
		return err
	}
	_, err = tx.Insert(ctx, `INSERT INTO attempts (request, seq, upstream, upstream_key, model, fault, status, code, took_us)
		VALUES {values} {ignore (request, seq)}`, attemptCols, attempts)
	return err
}

// onlyAnswer returns a request's attempt where it took just one, which
// answered: nearly always. Its row of usage says all of it.
func onlyAnswer(r *jimu.Record) *jimu.Attempt {
	if len(r.Attempts) != 1 {
		return nil
	}
	a := &r.Attempts[0]
	if a.Fault != jimu.FaultNone || (a.Status != 0 && a.Status != http.StatusOK) || a.Code != "" || a.Name == "" || a.Upstream != r.Upstream {
		return nil
	}
	return a
}

func appendAttempt(dst []any, request string, i int, a *jimu.Attempt) []any {
	return append(dst, request, int64(i), fit(a.Upstream), int64(a.Key), fit(a.Name), int64(a.Fault), int64(a.Status),
		fit(a.Code), a.Took.Microseconds())
}

// fit makes a text fit for a {name}: valid, without NUL, not too long.
func fit(s string) string {
	if len(s) <= maxKey && isASCII(s) && strings.IndexByte(s, 0) < 0 {
		return s
	}
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
	for n := range s { // at most maxKey characters, which are at least as many bytes
		if utf8.RuneCountInString(s[:n]) >= maxKey {
			return s[:n]
		}
	}
	return s
}

// ascii makes a text fit for an {id}.
func ascii(s string) string {
	if len(s) <= maxText && isASCII(s) && strings.IndexByte(s, 0) < 0 {
		return s
	}
	out := []byte(s[:min(len(s), maxText)])
	for i, c := range out {
		if c == 0 || c >= utf8.RuneSelf {
			out[i] = '?'
		}
	}
	return string(out)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// UsageFilter chooses rows. What is empty does not restrict.
type UsageFilter struct {
	User  string
	Key   string
	Model string
	State string
	From  time.Time // included
	To    time.Time // excluded
}

// idSlack is by how much the time within a request's ID may differ from when
// the request began.
const idSlack = 24 * time.Hour

// where writes the filter as conditions. Times are searched for by the request
// IDs, which begin with their time, and then exactly.
func (f *UsageFilter) where() (string, []any) {
	var conds []string
	var args []any
	add := func(cond string, arg any) {
		conds, args = append(conds, cond), append(args, arg)
	}
	for _, c := range [...][2]string{{"user_id", f.User}, {"key_id", f.Key}, {"model", f.Model}, {"state", f.State}} {
		if c[1] != "" {
			add(c[0]+" = ?", c[1])
		}
	}
	if !f.From.IsZero() {
		add("request >= ?", idAt(f.From.Add(-idSlack)))
		add("began_at >= ?", f.From.UnixMicro())
	}
	if !f.To.IsZero() {
		add("request < ?", idAt(f.To.Add(idSlack)))
		add("began_at < ?", f.To.UnixMicro())
	}
	if len(conds) == 0 {
		return "", nil
	}
	return " WHERE " + strings.Join(conds, " AND "), args
}

// idAt is the first ID that can be made at a time, see [jimu.NewID].
func idAt(t time.Time) string {
	var b [16]byte
	ms := uint64(max(0, t.UnixMilli()))
	binary.BigEndian.PutUint64(b[:8], ms<<16)
	return strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
}

// List returns a page of rows, the newest first, without their attempts. next
// is the cursor of the page behind it, "" at the end.
func (u *Usage) List(ctx context.Context, f UsageFilter, cursor string, limit int) (page []jimu.Record, next string, err error) {
	where, args := f.where()
	if cursor != "" {
		if where == "" {
			where = " WHERE request < ?"
		} else {
			where += " AND request < ?"
		}
		args = append(args, cursor)
	}
	rows, err := u.db.Query(ctx, "SELECT request, began_at, user_id, key_id, model, state, cost, took_us, detail FROM usage_rows"+
		where+" ORDER BY request DESC LIMIT ?", append(args, limit+1)...)
	err = scanAll(rows, err, func(rows *sql.Rows) error {
		r, err := scanRecord(rows)
		page = append(page, r)
		return err
	})
	if err != nil {
		return nil, "", err
	}
	if len(page) > limit {
		page = page[:limit]
		next = page[limit-1].Request
	}
	return page, next, nil
}

func scanRecord(rows *sql.Rows) (jimu.Record, error) {
	var r jimu.Record
	var at, took int64
	var data string
	if err := rows.Scan(&r.Request, &at, &r.User, &r.Key, &r.Model, &r.State, &r.Cost, &took, &data); err != nil {
		return r, err
	}
	d, err := readDetail(r.Request, data)
	r.At, r.Took = time.UnixMicro(at).UTC(), time.Duration(took)*time.Microsecond
	r.Op, r.Code, r.Upstream, r.Price, r.Usage = d.Op, d.Code, d.Upstream, d.Price, d.Usage
	r.Stream, r.Quarantined, r.First = d.Stream, d.Quarantined, d.first()
	return r, err
}

// Attempts returns the attempts of a request, in order.
func (u *Usage) Attempts(ctx context.Context, request string) ([]jimu.Attempt, error) {
	var out []jimu.Attempt
	rows, err := u.db.Query(ctx, `SELECT upstream, upstream_key, model, fault, status, code, took_us
		FROM attempts WHERE request = ? ORDER BY seq`, request)
	err = scanAll(rows, err, func(rows *sql.Rows) error {
		var a jimu.Attempt
		var took int64
		err := rows.Scan(&a.Upstream, &a.Key, &a.Name, &a.Fault, &a.Status, &a.Code, &took)
		a.Took = time.Duration(took) * time.Microsecond
		out = append(out, a)
		return err
	})
	if err != nil || len(out) > 0 {
		return out, err
	}
	rows, err = u.db.Query(ctx, "SELECT detail FROM usage_rows WHERE request = ?", request)
	err = scanAll(rows, err, func(rows *sql.Rows) error {
		var data string
		if err := rows.Scan(&data); err != nil {
			return err
		}
		d, err := readDetail(request, data)
		if d.Name != "" {
			out = append(out, jimu.Attempt{Upstream: d.Upstream, Key: d.Key, Name: d.Name, Status: http.StatusOK, Took: d.first()})
		}
		return err
	})
	return out, err
}

// UsageSum is what the rows of a day, or of a model, come to.
type UsageSum struct {
	Day      time.Time   `json:"day,omitzero"` // its start, UTC
	Model    string      `json:"model,omitempty"`
	Requests int64       `json:"requests"`
	In       int64       `json:"in"`  // tokens
	Out      int64       `json:"out"` // tokens
	Cost     jimu.Credit `json:"cost"`
}

// The groups of [Usage.Sums].
const (
	ByDay   = "day"
	ByModel = "model"
)

// Sums adds rows up by day (UTC, the first one first) or by model.
func (u *Usage) Sums(ctx context.Context, f UsageFilter, by string) ([]UsageSum, error) {
	const totals = ", COUNT(*), CAST(SUM(in_tokens) AS {int}), CAST(SUM(out_tokens) AS {int}), CAST(SUM(cost) AS {int}) FROM usage_rows"
	groups := map[string]string{ByDay: "began_at - began_at % 86400000000", ByModel: "model"}
	col, ok := groups[by]
	if !ok {
		return nil, jimu.Errorf(jimu.Invalid, "usage is summed by day or by model, not by %q", by)
	}
	where, args := f.where()
	var out []UsageSum
	rows, err := u.db.Query(ctx, "SELECT "+col+totals+where+" GROUP BY "+col+" ORDER BY 1", args...)
	err = scanAll(rows, err, func(rows *sql.Rows) error {
		var s UsageSum
		var day int64
		var group any = &day
		if by == ByModel {
			group = &s.Model
		}
		err := rows.Scan(group, &s.Requests, &s.In, &s.Out, &s.Cost)
		if by == ByDay {
			s.Day = time.UnixMicro(day).UTC()
		}
		out = append(out, s)
		return err
	})
	return out, err
}

// Prune deletes up to a number of the oldest requests that began before a
// time, with their attempts. It returns how many; fewer than the limit means
// that no more are left.
func (u *Usage) Prune(ctx context.Context, before time.Time, limit int) (int64, error) {
	var deleted int64
	err := u.db.Tx(ctx, func(tx *Tx) error {
		deleted = 0
		var ids []string
		rows, err := tx.Query(ctx, "SELECT request FROM usage_rows WHERE request < ? AND began_at < ? ORDER BY request LIMIT ?",
			idAt(before.Add(idSlack)), before.UnixMicro(), limit)
		err = scanAll(rows, err, func(rows *sql.Rows) error {
			var id string
			err := rows.Scan(&id)
			ids = append(ids, id)
			return err
		})
		if err != nil {
			return err
		}
		return each(ids, func(part []string) error {
			list, args := in(nil, part)
			if _, err := tx.Exec(ctx, "DELETE FROM attempts WHERE request IN "+list, args...); err != nil {
				return err
			}
			n, err := tx.Exec(ctx, "DELETE FROM usage_rows WHERE request IN "+list, args...)
			deleted += n
			return err
		})
	})
	return deleted, err
}

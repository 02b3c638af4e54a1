package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jimu-ai/jimu"
)

// Chat keeps conversations and turns.
type Chat struct{ db *DB }

// NewChat returns the conversations of a store.
func NewChat(s *Store) *Chat { return &Chat{s.History} }

var (
	errNoConversation = jimu.Errorf(jimu.NotFound, "there is no such conversation")
	errNoTurn         = jimu.Errorf(jimu.NotFound, "there is no such turn")
)

// maybeID reports whether a text from outside can be an ID. One that cannot is
// not shown to the database, which may refuse to compare it.
func maybeID(id string) bool {
	return len(id) == jimu.IDLen && strings.Trim(id, "0123456789abcdefghijklmnopqrstuv") == ""
}

const conversationColumns = "id, user_id, title, model, created_at, updated_at"

// Conversations lists a user's, the last used first, a page at a time: next is
// the cursor of the page after, or "".
func (c *Chat) Conversations(ctx context.Context, user, cursor string, limit int) (cs []jimu.Conversation, next string, err error) {
	at, id, err := keyCursor(cursor)
	if err != nil {
		return nil, "", err
	}
	if cursor != "" && !maybeID(id) {
		return nil, "", &jimu.Error{Code: jimu.Invalid, Param: "cursor", Text: "the cursor is not one that a page gave"}
	}
	rows, err := c.db.Query(ctx, "SELECT "+conversationColumns+` FROM conversations
		WHERE user_id = ? AND (updated_at < ? OR (updated_at = ? AND id < ?))
		ORDER BY updated_at DESC, id DESC LIMIT ?`, user, at, at, id, int64(limit)+1)
	err = scanAll(rows, err, func(rows *sql.Rows) error {
		one, err := scanConversation(rows)
		cs = append(cs, one)
		return err
	})
	if len(cs) > limit {
		cs = cs[:limit]
		last := &cs[limit-1]
		next = strconv.FormatInt(micros(last.Updated), 10) + "." + last.ID
	}
	return cs, next, err
}

func scanConversation(r row) (jimu.Conversation, error) {
	var c jimu.Conversation
	var created, updated int64
	err := r.Scan(&c.ID, &c.User, &c.Title, &c.Model, &created, &updated)
	c.Created, c.Updated = fromMicros(created), fromMicros(updated)
	return c, err
}

// Conversation returns a user's conversation.
func (c *Chat) Conversation(ctx context.Context, user, id string) (*jimu.Conversation, error) {
	if !maybeID(id) {
		return nil, errNoConversation
	}
	one, err := scanConversation(c.db.QueryRow(ctx, "SELECT "+conversationColumns+" FROM conversations WHERE id = ? AND user_id = ?", id, user))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errNoConversation
	}
	return &one, err
}

// CreateConversation adds a conversation.
func (c *Chat) CreateConversation(ctx context.Context, v *jimu.Conversation) error {
	_, err := c.db.Exec(ctx, "INSERT INTO conversations ("+conversationColumns+", running) VALUES (?, ?, ?, ?, ?, ?, '')",
		v.ID, v.User, v.Title, v.Model, micros(v.Created), micros(v.Updated))
	return err
}

// RenameConversation gives a user's conversation another title.
func (c *Chat) RenameConversation(ctx context.Context, user, id, title string) error {
	if !maybeID(id) {
		return errNoConversation
	}
	n, err := c.db.Exec(ctx, "UPDATE conversations SET title = ? WHERE id = ? AND user_id = ?", title, id, user)
	if err == nil && n == 0 {
		return errNoConversation
	}
	return err
}

// DeleteConversation deletes a user's conversation with its turns.
func (c *Chat) DeleteConversation(ctx context.Context, user, id string) error {
	if !maybeID(id) {
		return errNoConversation
	}
	return c.db.Tx(ctx, func(tx *Tx) error {
		n, err := tx.Exec(ctx, "DELETE FROM conversations WHERE id = ? AND user_id = ?", id, user)
		if err != nil {
			return err
		}
		if n == 0 {
			return errNoConversation
		}
		_, err = tx.Exec(ctx, "DELETE FROM turns WHERE conversation_id = ?", id)
		return err
	})
}

const turnColumns = `id, conversation_id, user_id, question, reasoning, answer, runs, model, state, error_code, error_text,
	in_tokens, out_tokens, cost, request, created_at, took_ms`

func scanTurn(r row) (jimu.Turn, error) {
	var t jimu.Turn
	var runs, code, text string
	var in, out, cost, created int64
	err := r.Scan(&t.ID, &t.Conversation, &t.User, &t.Text, &t.Reasoning, &t.Answer, &runs, &t.Model, &t.State, &code, &text,
		&in, &out, &cost, &t.Request, &created, &t.TookMS)
	if err != nil {
		return t, err
	}
	t.Cost, t.Created = jimu.Credit(cost), fromMicros(created)
	if code != "" {
		t.Error = &jimu.TurnError{Code: jimu.Code(code), Text: text}
	}
	if in >= 0 {
		t.Usage = &jimu.TurnUsage{In: in, Out: out}
	}
	if err := json.Unmarshal([]byte(runs), &t.Runs); err != nil {
		return t, fmt.Errorf("decoding the runs of turn %s: %w", t.ID, err)
	}
	return t, nil
}

// Turns lists the turns of a user's conversation that were not replaced, the
// oldest first.
func (c *Chat) Turns(ctx context.Context, user, conversation string) (ts []jimu.Turn, err error) {
	rows, err := c.db.Query(ctx, "SELECT "+turnColumns+` FROM turns
		WHERE conversation_id = ? AND user_id = ? AND replaced_by = '' ORDER BY created_at, id`, conversation, user)
	err = scanAll(rows, err, func(rows *sql.Rows) error {
		t, err := scanTurn(rows)
		ts = append(ts, t)
		return err
	})
	return ts, err
}

// Turn returns a user's turn.
func (c *Chat) Turn(ctx context.Context, user, id string) (*jimu.Turn, error) {
	if !maybeID(id) {
		return nil, errNoTurn
	}
	t, err := scanTurn(c.db.QueryRow(ctx, "SELECT "+turnColumns+" FROM turns WHERE id = ? AND user_id = ?", id, user))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errNoTurn
	}
	return &t, err
}

// CreateTurn adds a running turn to a conversation of its user in which none
// runs, and marks the last turn as replaced by it, if it replaces one. A
// conversation without a title gets this one.
func (c *Chat) CreateTurn(ctx context.Context, t *jimu.Turn, replaces, title string) error {
	return c.db.Tx(ctx, func(tx *Tx) error {
		if err := tx.occupy(ctx, t, title); err != nil {
			return err
		}
		if replaces != "" {
			if err := tx.replace(ctx, t, replaces); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, "INSERT INTO turns ("+turnColumns+`, replaced_by, stop_asked, saved_at)
			VALUES (?, ?, ?, ?, '', '', '[]', ?, ?, '', '', -1, 0, 0, ?, ?, 0, '', 0, ?)`,
			t.ID, t.Conversation, t.User, t.Text, t.Model, string(t.State), t.Request, micros(t.Created), micros(t.Created))
		return err
	})
}

// occupy notes in the conversation that the turn runs.
func (tx *Tx) occupy(ctx context.Context, t *jimu.Turn, title string) error {
	n, err := tx.Exec(ctx, `UPDATE conversations SET running = ?, model = ?, updated_at = ?,
		title = CASE WHEN title = '' THEN CAST(? AS {text}) ELSE title END
		WHERE id = ? AND user_id = ? AND running = ''`,
		t.ID, t.Model, micros(t.Created), title, t.Conversation, t.User)
	if err != nil || n > 0 {
		return err
	}
	var there int64
	if err := tx.QueryRow(ctx, "SELECT COUNT(*) FROM conversations WHERE id = ? AND user_id = ?", t.Conversation, t.User).Scan(&there); err != nil {
		return err
	}
	if there == 0 {
		return errNoConversation
	}
	return jimu.Errorf(jimu.Conflict, "an answer is being written in this conversation; wait for it, or stop it")
}

// replace marks the last turn of a conversation as replaced by another.
func (tx *Tx) replace(ctx context.Context, by *jimu.Turn, id string) error {
	var last string
	err := tx.QueryRow(ctx, `SELECT id FROM turns WHERE conversation_id = ? AND user_id = ? AND replaced_by = ''
		ORDER BY created_at DESC, id DESC LIMIT 1`, by.Conversation, by.User).Scan(&last)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if last != id {
		return jimu.Errorf(jimu.Conflict, "only the last answer of a conversation can be regenerated")
	}
	_, err = tx.Exec(ctx, "UPDATE turns SET replaced_by = ? WHERE id = ?", by.ID, id)
	return err
}

// SaveTurn keeps what a running turn has so far. It reports whether the turn
// is to stop: it was asked to, or is deleted.
func (c *Chat) SaveTurn(ctx context.Context, t *jimu.Turn, now time.Time) (stop bool, err error) {
	runs, err := encodeRuns(t.Runs)
	if err != nil {
		return false, err
	}
	err = c.db.Tx(ctx, func(tx *Tx) error {
		stop = false
		n, err := tx.Exec(ctx, "UPDATE turns SET reasoning = ?, answer = ?, runs = ?, took_ms = ?, saved_at = ? WHERE id = ?",
			t.Reasoning, t.Answer, runs, t.TookMS, micros(now), t.ID)
		if err != nil {
			return err
		}
		if n == 0 {
			stop = true
			return nil
		}
		var asked int64
		err = tx.QueryRow(ctx, "SELECT stop_asked FROM turns WHERE id = ?", t.ID).Scan(&asked)
		stop = asked != 0
		return err
	})
	return stop, err
}

func encodeRuns(runs []int64) (string, error) {
	if runs == nil {
		return "[]", nil
	}
	b, err := json.Marshal(runs)
	return string(b), err
}

// FinishTurn keeps how a turn ended. A deleted one is passed over.
func (c *Chat) FinishTurn(ctx context.Context, t *jimu.Turn) error {
	runs, err := encodeRuns(t.Runs)
	if err != nil {
		return err
	}
	var failed jimu.TurnError
	if t.Error != nil {
		failed = *t.Error
	}
	usage := jimu.TurnUsage{In: -1}
	if t.Usage != nil {
		usage = *t.Usage
	}
	return c.db.Tx(ctx, func(tx *Tx) error {
		if err := tx.vacate(ctx, t.Conversation, t.ID); err != nil { // first the conversation, as in CreateTurn
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE turns SET reasoning = ?, answer = ?, runs = ?, state = ?, error_code = ?, error_text = ?,
			in_tokens = ?, out_tokens = ?, cost = ?, took_ms = ? WHERE id = ?`,
			t.Reasoning, t.Answer, runs, string(t.State), string(failed.Code), failed.Text,
			usage.In, usage.Out, int64(t.Cost), t.TookMS, t.ID)
		return err
	})
}

// vacate notes in the conversation that the turn does not run any more.
func (tx *Tx) vacate(ctx context.Context, conversation, turn string) error {
	_, err := tx.Exec(ctx, "UPDATE conversations SET running = '' WHERE id = ? AND running = ?", conversation, turn)
	return err
}

// AskStop asks whichever process runs a user's turn to stop it.
func (c *Chat) AskStop(ctx context.Context, user, id string) error {
	_, err := c.db.Exec(ctx, "UPDATE turns SET stop_asked = 1 WHERE id = ? AND user_id = ? AND state = ?", id, user, string(jimu.TurnRunning))
	return err
}

// InterruptTurns marks the running turns as interrupted that were last saved
// before a time.
func (c *Chat) InterruptTurns(ctx context.Context, before time.Time) error {
	var ids, conversations []string
	rows, err := c.db.Query(ctx, "SELECT id, conversation_id FROM turns WHERE state = ? AND saved_at < ?", string(jimu.TurnRunning), micros(before))
	err = scanAll(rows, err, func(rows *sql.Rows) error {
		var id, conversation string
		err := rows.Scan(&id, &conversation)
		ids, conversations = append(ids, id), append(conversations, conversation)
		return err
	})
	if err != nil {
		return err
	}
	for i, id := range ids {
		err := c.db.Tx(ctx, func(tx *Tx) error {
			n, err := tx.Exec(ctx, "UPDATE turns SET state = ? WHERE id = ? AND state = ? AND saved_at < ?",
				string(jimu.TurnInterrupted), id, string(jimu.TurnRunning), micros(before))
			if err != nil || n == 0 {
				return err
			}
			return tx.vacate(ctx, conversations[i], id)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

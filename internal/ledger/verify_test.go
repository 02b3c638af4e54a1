package ledger

import (
	"errors"
	"strings"
	"testing"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/store"
	"github.com/jimu-ai/jimu/internal/store/storetest"
)

func TestL4EntriesNeverChange(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func() *store.Store) {
		t.Helper()
		s := open()
		l := startOn(t, s)
		mustGrant(t, l, alice, 1000)
		mustSettle(t, mustHold(t, l, alice, 10), bill(flat(t), 10))
		mustFlush(t, l)
		for _, q := range []string{
			"UPDATE entries SET amount = amount + 1 WHERE owner = 'user:alice'",
			"DELETE FROM entries WHERE owner = 'user:alice'",
		} {
			if _, err := s.Main.Exec(t.Context(), q); err == nil || !strings.Contains(err.Error(), "only added") {
				t.Errorf("%s: %v, want a refusal", q, err)
			}
		}
		mustVerify(t, l.book)
	})
}

// tamper changes the books behind the ledger's back, triggers or not.
func tamper(t *testing.T, s *store.Store, statements ...string) {
	t.Helper()
	for _, q := range append([]string{"DROP TRIGGER IF EXISTS entries_no_update", "DROP TRIGGER IF EXISTS entries_no_delete"}, statements...) {
		if _, err := s.Main.Exec(t.Context(), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
}

func TestVerifyFindsTampering(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ invariant, q string }{
		"balance raised":         {"L1", "UPDATE accounts SET balance = balance + 5 WHERE id = 'user:alice'"},
		"credit made elsewhere":  {"L1", "UPDATE accounts SET balance = balance + CASE id WHEN 'user:alice' THEN 5 ELSE -5 END WHERE id IN ('user:alice', 'promotion')"},
		"held freed":             {"L2", "UPDATE accounts SET held = held - 1 WHERE id = 'user:bob'"},
		"lease dropped":          {"L2", "DELETE FROM leases"},
		"amount changed":         {"L4", "UPDATE entries SET amount = amount - 1 WHERE kind = 'usage'"},
		"reason changed":         {"L4", "UPDATE entries SET reason = 'gift' WHERE kind = 'grant'"},
		"last entry removed":     {"L4", "DELETE FROM entries WHERE kind = 'usage' AND owner = 'user:alice' AND seq = 2"},
		"first entry removed":    {"L4", "DELETE FROM entries WHERE kind = 'grant' AND owner = 'user:alice'"},
		"checkpoint of a charge": {"L6", "INSERT INTO checkpoints (request, node, account, budget, amount, beyond, price, detail, made_at) SELECT ref, 'x', owner, '', 1, 0, '', '', 0 FROM entries WHERE kind = 'usage'"},
		"price changed":          {"L10", `UPDATE prices SET data = REPLACE(data, '"in":"0.001"', '"in":"0.002"')`},
		"price dropped":          {"L10", "DELETE FROM prices"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := storetest.Open(t, "")
			l := startOn(t, s)
			mustGrant(t, l, alice, 1000)
			mustGrant(t, l, bob, 1000)
			mustSettle(t, mustHold(t, l, alice, 10), bill(flat(t), 10))
			h := mustHold(t, l, bob, 100)
			mustFlush(t, l)
			mustVerify(t, l.book)
			tamper(t, s, c.q)
			broken := map[string]bool{}
			err := l.Verify(t.Context(), func(_ string, err error) {
				if b, ok := errors.AsType[*BreachError](err); ok {
					broken[b.Invariant] = true
				}
			})
			if err == nil || !broken[c.invariant] {
				t.Fatalf("verify = %v, broken %v, want %s", err, broken, c.invariant)
			}
			if l.Healthy() == nil {
				t.Error("healthy after a breach")
			}
			if _, err := l.Hold(t.Context(), Order{Request: "x", Account: alice, Want: 1}); code(err) != jimu.Overloaded {
				t.Errorf("a hold after a breach: %v", err)
			}
			if _, err := l.Grant(t.Context(), alice, 1, "r", "x"); code(err) != jimu.Overloaded {
				t.Errorf("a grant after a breach: %v", err)
			}
			_ = h
			l.die()
		})
	}
}

func TestStartFindsTampering(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t, "")
	l := begin(t, s)
	mustGrant(t, l, alice, 1000)
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	tamper(t, s, "UPDATE accounts SET balance = balance + 1 WHERE id = 'user:alice'")
	l = startOn(t, s)
	for l.Healthy() == nil { // large books are checked beside the first requests
		select {
		case <-t.Context().Done():
			t.Fatal("never found")
		default:
			mustFlush(t, l)
		}
	}
	if _, err := l.Hold(t.Context(), Order{Request: "x", Account: alice, Want: 1}); code(err) != jimu.Overloaded {
		t.Errorf("a hold on wrong books: %v", err)
	}
}

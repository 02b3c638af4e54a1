package storetest

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/store"
)

func someEntry(owner string, seq int64, ref string) jimu.Entry {
	return jimu.Entry{
		Owner: owner, Seq: seq, Debit: owner, Credit: jimu.AccountSales, Amount: 5, After: 95, Kind: jimu.EntryUsage, Ref: ref,
		At: time.UnixMicro(1_700_000_000_123_456).UTC(), Price: "v1", Detail: `{"model":"模"}`, Hash: bytes.Repeat([]byte{0, 0xff}, 16),
	}
}

// update runs f in a transaction that must succeed.
func update(t *testing.T, l *store.Ledger, f func(tx *store.LedgerTx) error) {
	t.Helper()
	if err := l.Update(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

func TestLedgerEntries(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		t.Helper()
		ctx := t.Context()
		l := store.NewLedger(open())
		if err := l.Protect(ctx); err != nil {
			t.Fatal(err)
		}
		if err := l.Protect(ctx); err != nil {
			t.Errorf("protecting again: %v", err)
		}
		var want []jimu.Entry
		for seq := range int64(20) {
			e := someEntry("user:a", seq+1, string(rune('a'+seq)))
			switch seq {
			case 3:
				e.Budget = "key"
			case 4:
				e.Kind, e.Debit, e.Credit, e.Price, e.Detail, e.Reason = jimu.EntryGrant, jimu.AccountPromotion, "user:a", "", "", "生日"
			}
			want = append(want, e)
		}
		update(t, l, func(tx *store.LedgerTx) error { return tx.AddEntries(ctx, want) })
		got, err := l.EntriesAfter(ctx, "user:a", 0, 100)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("error %v, (-want +got):\n%s", err, diff)
		}
	})
}

func TestLedgerEntriesRead(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		t.Helper()
		ctx := t.Context()
		l := store.NewLedger(open())
		for seq := range int64(20) {
			e := someEntry("user:a", seq+1, string(rune('a'+seq)))
			if seq == 4 {
				e.Kind = jimu.EntryGrant
			}
			update(t, l, func(tx *store.LedgerTx) error { return tx.AddEntries(ctx, []jimu.Entry{e}) })
		}
		got, err := l.Statement(ctx, "user:a", 10, 2)
		if err != nil || len(got) != 2 || got[0].Seq != 9 || got[1].Seq != 8 {
			t.Errorf("statement = %+v, %v", got, err)
		}
		got, err = l.EntriesOf(ctx, jimu.EntryUsage, []string{"a", "d", "e", "zzz"})
		if err != nil || len(got) != 2 {
			t.Errorf("entries of three = %+v, %v: e is a grant", got, err)
		}
		for _, e := range []jimu.Entry{someEntry("user:b", 1, "a"), someEntry("user:a", 1, "new")} {
			if err := l.Update(ctx, func(tx *store.LedgerTx) error { return tx.AddEntries(ctx, []jimu.Entry{e}) }); !l.IsDuplicate(err) {
				t.Errorf("a second entry %s %d %s: %v, want a duplicate", e.Owner, e.Seq, e.Ref, err)
			}
		}
		bad := someEntry("user:c", 1, "bad")
		bad.Amount = 0
		if err := l.Update(ctx, func(tx *store.LedgerTx) error { return tx.AddEntries(ctx, []jimu.Entry{bad}) }); err == nil || l.IsDuplicate(err) {
			t.Errorf("an entry of nothing: %v, want a refusal", err)
		}
	})
}

func TestLedgerAccounts(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		t.Helper()
		ctx := t.Context()
		l := store.NewLedger(open())
		update(t, l, func(tx *store.LedgerTx) error {
			return errors.Join(tx.AddAccount(ctx, "sales", true), tx.AddAccount(ctx, "user:a", false), tx.AddAccount(ctx, "user:a", false))
		})
		save := func(was, is jimu.Account) (ok bool, err error) {
			err = l.Update(ctx, func(tx *store.LedgerTx) (err error) {
				ok, err = tx.SaveAccount(ctx, &was, &is)
				return err
			})
			return ok, err
		}
		none := jimu.Account{ID: "user:a"}
		full := jimu.Account{ID: "user:a", Balance: 100, Held: 40, Seq: 1, Head: []byte{1, 2}}
		if ok, err := save(none, full); !ok || err != nil {
			t.Errorf("saving = %v, %v", ok, err)
		}
		if ok, err := save(none, full); ok || err != nil {
			t.Errorf("saving what has changed = %v, %v, want a refusal", ok, err)
		}
		for name, is := range map[string]jimu.Account{
			"overdrawn": {ID: "user:a", Balance: -1, Seq: 2}, "overheld": {ID: "user:a", Balance: 1, Held: 2, Seq: 2}, "held below 0": {ID: "user:a", Held: -1, Seq: 2},
		} {
			is.Head = []byte{}
			if ok, err := save(full, is); ok || err == nil {
				t.Errorf("%s = %v, %v, want a refusal of the database itself", name, ok, err)
			}
		}
		got, err := l.Account(ctx, "user:a")
		if diff := cmp.Diff(full, got); diff != "" || err != nil {
			t.Errorf("error %v, (-want +got):\n%s", err, diff)
		}
	})
}

func TestLedgerAccountsRead(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		t.Helper()
		ctx := t.Context()
		l := store.NewLedger(open())
		update(t, l, func(tx *store.LedgerTx) error {
			return errors.Join(tx.AddAccount(ctx, "sales", true), tx.AddAccount(ctx, "user:a", false), tx.AddAccount(ctx, "user:a", false))
		})
		if got, err := l.Account(ctx, "user:none"); err != nil || got.Balance != 0 || got.ID != "user:none" {
			t.Errorf("an account that is not there = %+v, %v", got, err)
		}
		update(t, l, func(tx *store.LedgerTx) error {
			as, err := tx.Accounts(ctx, []string{"sales", "user:a", "user:none"})
			if err != nil || len(as) != 2 || !as[0].System || as[1].System {
				t.Errorf("accounts = %+v, %v", as, err)
			}
			return err
		})
		if as, err := l.AccountsAfter(ctx, "sales", 10); err != nil || len(as) != 1 || as[0].ID != "user:a" {
			t.Errorf("accounts after sales = %+v, %v", as, err)
		}
	})
}

func TestLedgerMove(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		t.Helper()
		ctx := t.Context()
		l := store.NewLedger(open())
		update(t, l, func(tx *store.LedgerTx) error {
			return errors.Join(tx.AddAccount(ctx, "sales", true), tx.AddAccount(ctx, "user:a", false))
		})
		const most = jimu.Credit(1<<63 - 1)
		for i, c := range []struct {
			account string
			by      jimu.Credit
			ok      bool
		}{
			{"sales", most, true},
			{"sales", 1, false},
			{"sales", -most, true},
			{"sales", -most, true},
			{"sales", -1, false},
			{"sales", most, true},
			{"user:a", 1, false},
			{"nobody", 1, false},
		} {
			update(t, l, func(tx *store.LedgerTx) error {
				if ok, err := tx.Move(ctx, c.account, c.by); ok != c.ok || err != nil {
					t.Errorf("move %d = %v, %v, want %v", i, ok, err, c.ok)
				}
				return nil
			})
		}
		if a, err := l.Account(ctx, "sales"); err != nil || a.Balance != 0 {
			t.Errorf("sales = %+v, %v", a, err)
		}
	})
}

func TestLedgerLeases(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		t.Helper()
		ctx := t.Context()
		l := store.NewLedger(open())
		row := jimu.Lease{Node: "n", Scope: jimu.LeaseAccount, Subject: "user:a", Amount: 10}
		update(t, l, func(tx *store.LedgerTx) error {
			return errors.Join(tx.AddNode(ctx, jimu.Node{ID: "n", Folder: "f"}), tx.AddLease(ctx, row))
		})
		type step struct {
			what string
			do   func(tx *store.LedgerTx) (bool, error)
			want bool
		}
		for _, s := range []step{
			{"take too much", func(tx *store.LedgerTx) (bool, error) { return tx.ChangeLease(ctx, row, -11) }, false},
			{"take", func(tx *store.LedgerTx) (bool, error) { return tx.ChangeLease(ctx, row, -10) }, true},
			{"end with another amount", func(tx *store.LedgerTx) (bool, error) { return tx.RemoveLease(ctx, row) }, false},
			{"beat from another beat", func(tx *store.LedgerTx) (bool, error) { return tx.Beat(ctx, "n", 5, 6) }, false},
			{"beat", func(tx *store.LedgerTx) (bool, error) { return tx.Beat(ctx, "n", 0, 1) }, true},
			{"remove with another beat", func(tx *store.LedgerTx) (bool, error) { return tx.RemoveNode(ctx, "n", 0) }, false},
			{"find", func(tx *store.LedgerTx) (bool, error) {
				got, ok, err := tx.LeaseOf(ctx, "n", jimu.LeaseAccount, "user:a")
				return ok && got.Amount == 0, err
			}, true},
			{"find nothing", func(tx *store.LedgerTx) (bool, error) {
				_, ok, err := tx.LeaseOf(ctx, "n", jimu.LeaseBudget, "user:a")
				return ok, err
			}, false},
			{"end", func(tx *store.LedgerTx) (bool, error) {
				ls, err := tx.Leases(ctx, "n", 10)
				if err != nil || len(ls) != 1 {
					return false, err
				}
				return tx.RemoveLease(ctx, ls[0])
			}, true},
			{"remove", func(tx *store.LedgerTx) (bool, error) { return tx.RemoveNode(ctx, "n", 1) }, true},
		} {
			update(t, l, func(tx *store.LedgerTx) error {
				got, err := s.do(tx)
				if got != s.want || err != nil {
					t.Errorf("%s = %v, %v, want %v", s.what, got, err, s.want)
				}
				return nil
			})
		}
	})
}

func TestLedgerCheckpoints(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		t.Helper()
		ctx := t.Context()
		l := store.NewLedger(open())
		at := time.UnixMicro(1_700_000_000_123_456).UTC()
		ps := []jimu.Checkpoint{
			{Request: "a", Node: "n", Account: "user:a", Amount: 1, Price: "v", Detail: "{}", At: at},
			{Request: "b", Node: "n", Account: "user:b", Budget: "k", Amount: 2, Over: 3, Price: "v", Detail: "{}", At: at},
			{Request: "c", Node: "m", Account: "user:a", Amount: 1, Price: "v", Detail: "{}", At: at},
		}
		update(t, l, func(tx *store.LedgerTx) error { return tx.SaveCheckpoints(ctx, ps) })
		ps[0].Amount, ps[0].Detail = 7, `{"model":"m"}`
		update(t, l, func(tx *store.LedgerTx) error { return tx.SaveCheckpoints(ctx, ps[:1]) })
		update(t, l, func(tx *store.LedgerTx) error {
			got, err := tx.Checkpoints(ctx, "n", 10)
			if diff := cmp.Diff(ps[:2], got); diff != "" || err != nil {
				t.Errorf("error %v, (-want +got):\n%s", err, diff)
			}
			return tx.RemoveCheckpoints(ctx, []string{"a", "c", "nothing"})
		})
		update(t, l, func(tx *store.LedgerTx) error {
			got, err := tx.Checkpoints(ctx, "n", 10)
			if err != nil || len(got) != 1 || got[0].Request != "b" {
				t.Errorf("checkpoints = %+v, %v", got, err)
			}
			return err
		})
	})
}

func TestLedgerPricesAndBudgets(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		t.Helper()
		ctx := t.Context()
		s := open()
		l := store.NewLedger(s)
		update(t, l, func(tx *store.LedgerTx) error {
			return errors.Join(tx.AddPrice(ctx, "v", "m", "first"), tx.AddPrice(ctx, "v", "m", "second"))
		})
		if data, ok, err := l.Price(ctx, "v"); data != "first" || !ok || err != nil {
			t.Errorf("price = %q, %v, %v: what was charged stays", data, ok, err)
		}
		if _, ok, err := l.Price(ctx, "other"); ok || err != nil {
			t.Errorf("a price that is not kept = %v, %v", ok, err)
		}
		if _, err := s.Main.Exec(ctx, "INSERT INTO budgets (id, cap, spent, held) VALUES ('k', 10, 0, 0)"); err != nil {
			t.Fatal(err)
		}
		was := jimu.Budget{ID: "k", Cap: 10}
		for _, c := range []struct {
			is   jimu.Budget
			ok   bool
			fail bool
		}{
			{jimu.Budget{ID: "k", Cap: 10, Spent: 6, Held: 5}, false, true},
			{jimu.Budget{ID: "k", Cap: 10, Spent: 6, Held: 4}, true, false},
			{jimu.Budget{ID: "k", Cap: 10, Spent: 1, Held: 1}, false, false}, // it is not as it was
		} {
			err := l.Update(ctx, func(tx *store.LedgerTx) error {
				ok, err := tx.SaveBudget(ctx, &was, &c.is)
				if ok != c.ok {
					t.Errorf("saving %+v = %v, %v", c.is, ok, err)
				}
				return err
			})
			if (err != nil) != c.fail {
				t.Errorf("saving %+v: %v", c.is, err)
			}
		}
		update(t, l, func(tx *store.LedgerTx) error {
			bs, err := tx.Budgets(ctx, []string{"a", "k"})
			if err != nil || len(bs) != 1 || bs[0].Free() != 0 {
				t.Errorf("budgets = %+v, %v", bs, err)
			}
			return err
		})
	})
}

func TestLedgerAudits(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		t.Helper()
		ctx := t.Context()
		s := open()
		l := store.NewLedger(s)
		if _, err := s.Main.Exec(ctx, "INSERT INTO budgets (id, cap, spent, held) VALUES ('k', 10, 6, 4)"); err != nil {
			t.Fatal(err)
		}
		for _, check := range []string{
			store.AuditSum, store.AuditHeld, store.AuditBudgetHeld, store.AuditCovered, store.AuditLast, store.AuditBalance,
			store.AuditBudgetSpent, store.AuditOrphans, store.AuditSettled, store.AuditUnique,
		} {
			found, err := l.Audit(ctx, check)
			wrong := check == store.AuditBudgetHeld || check == store.AuditBudgetSpent // no lease and no entry backs them
			if err != nil || (len(found) > 0) != wrong {
				t.Errorf("audit of %s = %v, %v", check, found, err)
			}
		}
	})
}

package ledger

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// edit changes one place of a file.
type edit struct{ file, old, mutated string }

// mutant is a seeded bug, and the test that must find it.
type mutant struct {
	name   string // as in docs/mutants.md
	killer string
	edits  []edit
}

const (
	schema = "../store/migrations/main/003_ledger.sql"
	// grantFirst credits an account in a transaction of its own.
	grantFirst = `if err := l.book.Update(ctx, func(tx Tx) error {
		if err := tx.AddAccount(ctx, account, false); err != nil {
			return err
		}
		as, err := tx.Accounts(ctx, []string{account})
		if err != nil {
			return err
		}
		is := as[0]
		is.Balance += amount
		_, err = tx.SaveAccount(ctx, &as[0], &is)
		return err
	}); err != nil {
		return jimu.Entry{}, err
	}
	`
)

var mutants = []mutant{
	{"credit then mark", "TestL5OneCauseOneEffect", []edit{
		{"ledger.go", "g := &grant{", grantFirst + "g := &grant{"},
		{"accounts.go", "a.is.Balance = sum\n", "_ = sum\n"},
	}},
	{"acknowledge before commit", "TestL8AGrantIsDurableWhenItReturns", []edit{
		{"ledger.go", "l.queue.grant(g)\n", "l.queue.grant(g)\n\treturn jimu.Entry{}, nil\n"},
	}},
	{"unconditional debit", "TestL3NeverOverdrawn", []edit{
		{"slice.go", "share(d.waiters, d.free+free)", "share(d.waiters, 1<<60)"},
		{"accounts.go", "a == nil || a.is.Held+by < 0 || by > a.is.Free()", "a == nil || a.is.Held+by < 0"},
		{"accounts.go", "if taken > room {", "if taken > room && room < 0 {"},
		{schema, ",\n\tCONSTRAINT accounts_covered CHECK (is_system = 1 OR balance >= held)", ""},
	}},
	{"refund above the hold", "TestL6AHoldEndsOnce", []edit{
		{"hold.go", "l.settle(c, amount-taken)", "l.settle(c, amount)"},
	}},
	{"settle twice", "TestL6AHoldEndsOnce", []edit{
		{"hold.go", "if h.ended {\n\t\tdefer h.mu.Unlock()", "if h.ended && c == nil {\n\t\tdefer h.mu.Unlock()"},
	}},
	{"release after settle", "TestL6AHoldEndsOnce", []edit{
		{"hold.go", "func (h *Hold) Release() {\n\tdefer crash()\n\th.mu.Lock()\n\tif h.ended {", "func (h *Hold) Release() {\n\tdefer crash()\n\th.mu.Lock()\n\tif h.ended && h.taken == 0 {"},
	}},
	{"skipped entry", "TestModel", []edit{
		{"accounts.go", "k.entries = append(k.entries, *e)", "if e.Seq%7 != 0 {\n\t\tk.entries = append(k.entries, *e)\n\t}"},
	}},
	{"float cents", "TestL11EveryBillIsExact", []edit{
		{"hold.go", "taken := min(bill.Cost, amount)", "taken := jimu.Credit(float64(min(bill.Cost, amount)) / 100 * 100)"},
	}},
	{"lease returned twice", "TestL2HeldIsLeased", []edit{
		{"batch.go", "if err := k.hold(s.scope, s.subject, -p.back); err != nil {", "if err := k.hold(s.scope, s.subject, -2*p.back); err != nil {"},
		{"accounts.go", "a == nil || a.is.Held+by < 0 || by > a.is.Free()", "a == nil || by > a.is.Free()"},
		{schema, "\tCONSTRAINT accounts_held CHECK (held >= 0),\n", ""},
	}},
	{"dead replica returned twice", "TestACrashChargesWhatWasDelivered", []edit{
		{"recover.go", "if err := k.hold(r.Scope, r.Subject, -r.Amount); err != nil {", "if err := k.hold(r.Scope, r.Subject, -r.Amount-1); err != nil {"},
		{"accounts.go", "a == nil || a.is.Held+by < 0 || by > a.is.Free()", "a == nil || by > a.is.Free()"},
		{"accounts.go", "b == nil || b.is.Held+by < 0 || by > b.is.Free()", "b == nil || by > b.is.Free()"},
		{schema, "\tCONSTRAINT accounts_held CHECK (held >= 0),\n", ""},
		{schema, "\tCONSTRAINT budgets_held CHECK (held >= 0),\n", ""},
	}},
	{"checkpoint charged on top of the bill", "TestACrashChargesWhatWasDelivered", []edit{
		{"recover.go", "node: p.Node, request: p.Request,", "node: p.Node, request: p.Request + \"+\","},
	}},
	{"journal not replayed", "TestKill", []edit{
		{"recover.go", "byNode[r.node] = append(byNode[r.node], r)", "_ = r"},
	}},
	{"journal replayed again and again", "TestTheJournalIsReplayedOnce", []edit{
		{"recover.go", "byNode[r.node] = append(byNode[r.node], r)", "r.request += \"~\"\n\t\tbyNode[r.node] = append(byNode[r.node], r)"},
	}},
	{"answer before the journal", "TestKill", []edit{
		{"hold.go", "c.segment, err = l.journal.append(&c.record, func() (priceRecord, error) { return priceData(bill.Price) })", "_ = l.journal.append"},
	}},
	{"retry of a commit that took effect", "TestACommitOfUnknownOutcomeCountsOnce", []edit{
		{"batch.go", "if !ok {\n\t\treturn b.lost(ctx, tx)\n\t}", "if !ok {\n\t\tok = b.lost(ctx, tx) == errApplied\n\t}\n\tif !ok {\n\t\treturn errFenced\n\t}"},
	}},
	{"stale memory after others took over", "TestL9MemoryIsNoAuthority", []edit{
		{"hold.go", "s.refs--\n\tif s.run != run {\n\t\treturn 0\n\t}", "s.refs--\n\t_ = run"},
		{"batch.go", "if s == nil || run != b.node.run {", "if s == nil {"},
	}},
	{"spending limit not counted", "TestL3NeverAboveTheKeysLimit", []edit{
		{"accounts.go", "b.is.Spent += taken", "_ = b"},
	}},
	{"bill above its price", "TestL10ABillCannotExceedItsPrice", []edit{
		{"hold.go", "c.Cost = full\n", "_ = full\n"},
	}},
	{"price not frozen", "TestL1Conserved", []edit{
		{"batch.go", "k.prices[v] = data", "_, _ = v, data"},
	}},
	{"overflow wraps", "TestL11NothingWraps", []edit{
		{"accounts.go", "sum, err := a.is.Balance.Add(amount)", "sum, err := a.is.Balance+amount, error(nil)"},
		{"accounts.go", "_, err = (from.is.Balance + k.promotion).Sub(amount)", "_ = from"},
	}},
	{"loss not booked", "TestBeyondTheHoldIsWrittenOff", []edit{
		{"hold.go", "taken: taken, over: bill.Cost - taken,", "taken: taken,"},
	}},
}

// TestMutants plants each bug in a copy of the code and runs the test that
// must find it. It compiles the package once a mutant, so it is asked for.
func TestMutants(t *testing.T) {
	if testing.Short() || env("JIMU_TEST_MUTANTS") == "" {
		t.Skip("JIMU_TEST_MUTANTS is not set")
	}
	doc, err := os.ReadFile("../../docs/mutants.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mutants {
		t.Run(strings.ReplaceAll(m.name, " ", "_"), func(t *testing.T) {
			if !strings.Contains(string(doc), "| "+m.name+" | "+m.killer+" |") {
				t.Errorf("docs/mutants.md has no row %q, %s", m.name, m.killer)
			}
			out, err := exec.Command("go", "test", "-count=1", "-timeout=40s", "-overlay="+m.plant(t), "-run=^"+m.killer+"$", ".").CombinedOutput()
			if err == nil {
				t.Fatalf("%s does not find it", m.killer)
			}
			if !strings.Contains(string(out), "--- FAIL: "+m.killer) && !strings.Contains(string(out), "test timed out") {
				t.Fatalf("the mutant does not build, or fails elsewhere:\n%s", out)
			}
		})
	}
}

// plant writes the changed files and the overlay that puts them in place.
func (m *mutant) plant(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	texts := map[string]string{}
	for _, e := range m.edits {
		if _, ok := texts[e.file]; !ok {
			data, err := os.ReadFile(e.file)
			if err != nil {
				t.Fatal(err)
			}
			texts[e.file] = string(data)
		}
		if n := strings.Count(texts[e.file], e.old); n != 1 {
			t.Fatalf("%s has %q %d times, want once", e.file, e.old, n)
		}
		texts[e.file] = strings.Replace(texts[e.file], e.old, e.mutated, 1)
	}
	replace := map[string]string{}
	for file, text := range texts {
		abs, err := filepath.Abs(file)
		if err != nil {
			t.Fatal(err)
		}
		replace[abs] = filepath.Join(dir, fmt.Sprint(len(replace), filepath.Ext(file)))
		if err := os.WriteFile(replace[abs], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	data, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	overlay := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return overlay
}

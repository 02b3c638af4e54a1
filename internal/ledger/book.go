package ledger

import (
	"context"

	"github.com/jimu-ai/jimu"
)

// Book is where the ledger is kept.
type Book interface {
	Reader
	// Update runs f in one transaction, again if it lost against another one.
	Update(ctx context.Context, f func(tx Tx) error) error
}

// Reader reads the books, each call as they are at one moment.
type Reader interface {
	// Account reads an account. One that does not exist has nothing.
	Account(ctx context.Context, id string) (jimu.Account, error)
	// AccountsAfter reads accounts in the order of their IDs, from after one.
	AccountsAfter(ctx context.Context, id string, limit int) ([]jimu.Account, error)
	// Statement reads entries of an account, the newest first, from before a
	// place; 0 is from the newest.
	Statement(ctx context.Context, owner string, before int64, limit int) ([]jimu.Entry, error)
	// EntriesAfter reads entries of an account in their order.
	EntriesAfter(ctx context.Context, owner string, after int64, limit int) ([]jimu.Entry, error)
	// EntriesOf reads the entries of a kind with these refs.
	EntriesOf(ctx context.Context, kind jimu.EntryKind, refs []string) ([]jimu.Entry, error)
	// Price reads a price that was charged, as JSON.
	Price(ctx context.Context, version string) (data string, found bool, err error)
	// Audit runs one check of the books and names what is wrong.
	Audit(ctx context.Context, check string) ([]string, error)
	// IsDuplicate reports whether an update failed because a row of a unique
	// key is there already.
	IsDuplicate(err error) bool
	// Protect makes the database refuse to change an entry, if it needs to be
	// told so.
	Protect(ctx context.Context) error
}

// Tx is one transaction on the books. What it reads it locks. Methods that
// return a bool change only what is as expected, and report whether it was.
type Tx interface {
	Accounts(ctx context.Context, ids []string) ([]jimu.Account, error)
	AddAccount(ctx context.Context, id string, system bool) error
	SaveAccount(ctx context.Context, was, is *jimu.Account) (bool, error)
	Move(ctx context.Context, systemAccount string, by jimu.Credit) (bool, error)
	Budgets(ctx context.Context, ids []string) ([]jimu.Budget, error)
	SaveBudget(ctx context.Context, was, is *jimu.Budget) (bool, error)

	Nodes(ctx context.Context) ([]jimu.Node, error)
	AddNode(ctx context.Context, n jimu.Node) error
	Beat(ctx context.Context, id string, from, to int64) (bool, error)
	RemoveNode(ctx context.Context, id string, beat int64) (bool, error)

	Leases(ctx context.Context, node string, limit int) ([]jimu.Lease, error)
	LeaseOf(ctx context.Context, node string, scope jimu.LeaseScope, subject string) (jimu.Lease, bool, error)
	AddLease(ctx context.Context, l jimu.Lease) error
	ChangeLease(ctx context.Context, l jimu.Lease, by jimu.Credit) (bool, error)
	RemoveLease(ctx context.Context, l jimu.Lease) (bool, error)

	Checkpoints(ctx context.Context, node string, limit int) ([]jimu.Checkpoint, error)
	SaveCheckpoints(ctx context.Context, cs []jimu.Checkpoint) error
	RemoveCheckpoints(ctx context.Context, requests []string) error

	AddEntries(ctx context.Context, es []jimu.Entry) error
	EntriesOf(ctx context.Context, kind jimu.EntryKind, refs []string) ([]jimu.Entry, error)
	AddPrice(ctx context.Context, version, model, data string) error
}

// Updater is a Book with its own type of transaction.
type Updater[T Tx] interface {
	Reader
	Update(ctx context.Context, f func(tx T) error) error
}

// Of makes a Book of one that has its own type of transaction, as the store's
// has.
func Of[T Tx](u Updater[T]) Book { return bookOf[T]{u, u} }

type bookOf[T Tx] struct {
	Reader
	u Updater[T]
}

func (b bookOf[T]) Update(ctx context.Context, f func(tx Tx) error) error {
	return b.u.Update(ctx, func(tx T) error { return f(tx) })
}

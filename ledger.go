package jimu

import "time"

// System accounts. With the users' accounts their balances sum to zero.
const (
	AccountSales     = "sales"     // what requests were charged
	AccountPromotion = "promotion" // where grants come from
	AccountWriteOff  = "writeoff"  // what was delivered but could not be charged
)

// EntryKind says why credit moved. Kind and ref together are unique: doing a
// thing again changes nothing.
type EntryKind string

// The kinds of entry.
const (
	EntryUsage    EntryKind = "usage"    // a request; ref is the request ID
	EntryGrant    EntryKind = "grant"    // credit given; ref is the grant's ID
	EntryWriteOff EntryKind = "writeoff" // delivered beyond the hold; ref is the request ID
)

// Entry is one movement of credit from one account to another. Entries are
// only ever added.
type Entry struct {
	Owner  string    `json:"-"`   // the account whose statement it is on
	Seq    int64     `json:"seq"` // its place on that statement, from 1
	Debit  string    `json:"debit"`
	Credit string    `json:"credit"`
	Amount Credit    `json:"amount"` // always above 0
	After  Credit    `json:"after"`  // the owner's balance after it
	Kind   EntryKind `json:"kind"`
	Ref    string    `json:"ref"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason,omitempty"` // of a grant
	Price  string    `json:"price,omitempty"`  // version of the price charged
	Model  string    `json:"model,omitempty"`  // what was used
	Usage  *Usage    `json:"usage,omitempty"`  // what was charged for
	Began  time.Time `json:"began,omitzero"`   // when the request began, which decides the price's time window
	Budget string    `json:"-"`                // the spending limit it counts against, if one
	Detail string    `json:"-"`                // Model, Usage and Began as they are stored
	Hash   []byte    `json:"-"`                // SHA-256 over the row and the hash of the entry before it
}

// Balance is what an account has, and how much of it is set aside for
// requests that are running or about to.
type Balance struct {
	Balance Credit `json:"balance"`
	Held    Credit `json:"held"`
}

// Charge is the bill of one request.
type Charge struct {
	Request string
	Cost    Credit // what it costs; at most the hold is taken from the account
	Model   string
	Price   *Price
	Usage   Usage
	Began   time.Time
}

// Account is a row of the books.
type Account struct {
	ID      string
	System  bool // one of ours, which may go below zero
	Balance Credit
	Held    Credit // what replicas have leased of it
	Seq     int64  // of its last entry; 0 is none yet
	Head    []byte // the hash of its last entry
}

// Free is what can still be leased.
func (a *Account) Free() Credit { return a.Balance - a.Held }

// Budget is what a key with a spending limit has spent. Its ID is the key's.
type Budget struct {
	ID    string
	Cap   Credit
	Spent Credit
	Held  Credit // what replicas have leased of it
}

// Free is what can still be leased.
func (b *Budget) Free() Credit { return b.Cap - b.Spent - b.Held }

// LeaseScope says what a lease is a part of.
type LeaseScope string

// The scopes.
const (
	LeaseAccount LeaseScope = "account"
	LeaseBudget  LeaseScope = "budget"
)

// Lease is a part of an account's credit, or of a budget, that one replica has
// set aside durably and gives to requests from memory.
type Lease struct {
	Node    string // the run of a replica that holds it
	Scope   LeaseScope
	Subject string // the account or budget
	Amount  Credit
}

// Checkpoint is what a running request owes so far. If its replica dies, that
// is what is charged.
type Checkpoint struct {
	Request string
	Node    string
	Account string
	Budget  string
	Amount  Credit // to take from the lease
	Over    Credit // delivered beyond the hold, to be written off
	Price   string
	Detail  string
	At      time.Time
}

// Node is one run of a replica. Another replica that sees its beat stand still
// for long takes it for dead.
type Node struct {
	ID     string
	Folder string // of its data folder, which no two runs use at once
	Beat   int64  // the number of its last commit
}

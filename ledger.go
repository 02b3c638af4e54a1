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
	Usage  *Usage    `json:"usage,omitempty"`  // what was charged for
	Began  time.Time `json:"began,omitzero"`   // when the request began, which decides the price's time window
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

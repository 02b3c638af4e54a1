package jimu

import "time"

// Request states in a [Record].
const (
	StateOK        = "ok"        // answered to the end
	StateFailed    = "failed"    // no upstream answered, or it broke off
	StateRefused   = "refused"   // we said no before asking an upstream
	StateCancelled = "cancelled" // the client went away
	StateEnded     = "ended"     // we ended the stream: the credit ran out
)

// Record is what is kept of one model request: one usage row, and one row for
// each attempt. It holds no prompt and no answer.
type Record struct {
	Request  string        `json:"request"` // the request ID
	At       time.Time     `json:"at"`      // when it began
	User     string        `json:"user"`
	Key      string        `json:"key,omitempty"`
	Op       Operation     `json:"op"`
	Model    string        `json:"model"`
	Stream   bool          `json:"stream,omitempty"`
	State    string        `json:"state"`
	Code     Code          `json:"code,omitempty"` // of the error, if it failed
	Upstream string        `json:"upstream,omitempty"`
	Usage    Usage         `json:"usage"`
	Cost     Credit        `json:"cost"`
	Price    string        `json:"price,omitempty"` // version
	First    time.Duration `json:"first,omitempty"` // until the first event; 0 if none
	Took     time.Duration `json:"took"`
	// Quarantined says that the upstream stated a usage that cannot be true.
	Quarantined bool      `json:"quarantined,omitempty"`
	Attempts    []Attempt `json:"attempts,omitempty"`
}

// Attempt is one call to one upstream.
type Attempt struct {
	Upstream string        `json:"upstream"`
	Key      int           `json:"key"`  // index among the upstream's keys
	Name     string        `json:"name"` // the model's name there
	Fault    FaultKind     `json:"fault"`
	Status   int           `json:"status,omitempty"`
	Code     string        `json:"code,omitempty"` // the upstream's own
	Took     time.Duration `json:"took"`
}

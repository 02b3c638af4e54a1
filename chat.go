package jimu

import "time"

// Conversation is a thread of turns of one user.
type Conversation struct {
	ID      string    `json:"id"`
	User    string    `json:"-"`
	Title   string    `json:"title"`
	Model   string    `json:"model,omitempty"` // of its last turn
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
}

// TurnState says how far a turn is.
type TurnState string

// The states of a turn. Every one but running is final.
const (
	TurnRunning     TurnState = "running"
	TurnDone        TurnState = "done"
	TurnFailed      TurnState = "failed"      // see Turn.Error; what came before it is kept
	TurnStopped     TurnState = "stopped"     // its user stopped it
	TurnInterrupted TurnState = "interrupted" // the server went away while it ran
)

// Turn is what a user wrote and what the model answered. It is written down
// before the model is asked, and again when the answer ends.
type Turn struct {
	ID           string     `json:"id"`
	Conversation string     `json:"conversation"`
	User         string     `json:"-"`
	Text         string     `json:"text"`
	Reasoning    string     `json:"reasoning"`
	Answer       string     `json:"answer"`
	Model        string     `json:"model"`
	State        TurnState  `json:"state"`
	Error        *TurnError `json:"error,omitempty"`
	Usage        *TurnUsage `json:"usage,omitempty"`
	Cost         Credit     `json:"cost"`
	Request      string     `json:"request"` // of the model request, as in the usage list
	Created      time.Time  `json:"created"`
	TookMS       int64      `json:"took_ms"`
	// Runs tells in which order reasoning and answer came: the length in bytes
	// of a run of reasoning, then of one of the answer, and so on in turn.
	Runs []int64 `json:"-"`
}

// TurnError says why a turn failed.
type TurnError struct {
	Code Code   `json:"code"`
	Text string `json:"text"`
}

// TurnUsage is what a turn used, in tokens.
type TurnUsage struct {
	In  int64 `json:"in"`
	Out int64 `json:"out"`
}

package jimu

import (
	"encoding/json"
	"net/http"
	"time"
)

// Operation is what a request asks for, and in which dialect.
type Operation string

// The operations.
const (
	OpChat       Operation = "chat"       // POST /v1/chat/completions
	OpEmbeddings Operation = "embeddings" // POST /v1/embeddings
	OpModels     Operation = "models"     // GET /v1/models, asked of an upstream to learn what it serves
)

// Field is one member of the request's top-level object that the gateway owns:
// it reads it, bills on it, and sends its own value upstream.
type Field struct {
	Name       string
	Start, End int // Call.Body[Start:End] is the member's value
	From       int // Call.Body[From:End] is the whole member, from the quote of its name
}

// Call is a model request as the relay read it. Body stays as it came.
type Call struct {
	Op     Operation
	Body   []byte
	Fields []Field // the owned fields that are there

	Model        string
	Stream       bool
	IncludeUsage bool  // the client asked for usage in the stream
	MaxTokens    int64 // the most output it asked for, or that its credit affords; 0 is not limited
	SetMaxTokens bool  // MaxTokens is the gateway's, and must be sent upstream
	N            int64 // answers asked for, at least 1
	InputBound   int64 // no tokenizer reads more input tokens than this
}

// Field returns the owned field of a name, or nil.
func (c *Call) Field(name string) *Field {
	for i := range c.Fields {
		if c.Fields[i].Name == name {
			return &c.Fields[i]
		}
	}
	return nil
}

// Signal says what an event of a stream, or a whole answer, holds. Bits may be
// combined.
type Signal uint8

// The signals.
const (
	SignalContent Signal = 1 << iota // something for the client: text, a tool call, a reason to finish
	SignalUsage                      // usage, now in the Meter
	SignalError                      // an error in place of an answer, even under HTTP 200
	SignalDone                       // the end of the stream
)

// Meter gathers what a request used while its answer passes through.
type Meter struct {
	Usage     Usage // the last usage the upstream stated
	Stated    bool  // Usage is set
	Delivered int64 // tokens of output seen so far, estimated from its text
}

// Endpoint is where an upstream answers an operation.
type Endpoint struct {
	Method string
	URL    string
	Header http.Header // with the key
}

// FaultKind says what a failed attempt means for the ones after it.
type FaultKind uint8

// The kinds of fault.
const (
	FaultNone       FaultKind = iota
	FaultOther                // try another upstream; this one counts as failing
	FaultRetry                // a passing fault; the same upstream may be tried again
	FaultCool                 // this key, or upstream, is to rest for Fault.For (429 and the like)
	FaultKey                  // this key is bad or empty; stop using it
	FaultModel                // this upstream does not have the model
	FaultClient               // the request is at fault; no upstream will answer it
	FaultContent              // refused for its content; no other upstream is tried
	FaultCancelled            // the client went away; nobody's fault
	FaultTransport            // no connection, or it broke
	FaultTimeout              // no answer in time
	FaultIncomplete           // the stream ended without its end
)

// Fault is a failed attempt, classified.
type Fault struct {
	Kind   FaultKind
	For    time.Duration // how long to rest, where the upstream said so; 0 is unknown
	Status int           // HTTP status, 0 if there was none
	Code   string        // the upstream's own code
	Text   string        // the upstream's own words, without keys or addresses
}

// Vendor is a company or program whose upstreams a provider can speak to. It
// is a row of data, not code.
type Vendor struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	BaseURL string `json:"base_url,omitempty"` // "" where the operator must give one
	Docs    string `json:"docs,omitempty"`
	Keyless bool   `json:"keyless,omitempty"` // works without a key (a local program)
	Free    bool   `json:"free,omitempty"`    // costs the operator nothing, so a model without a price costs 0
}

// Provider is a brick that speaks an upstream's dialect. One instance is one
// upstream. It is pure translation, without I/O: choice, retry, limits and the
// bill are the relay's.
type Provider interface {
	Brick
	// Vendors lists the vendors the provider knows.
	Vendors() []Vendor
	// Upstream returns the instance's configuration, as a part of the brick's
	// own. It does not change after Provision.
	Upstream() *Upstream
	// Endpoint says where an operation is asked with a key. It reports false
	// where the upstream cannot do it.
	Endpoint(op Operation, key Secret) (Endpoint, bool)
	// Rewrite appends to dst the body to send for a call: the client's bytes,
	// with the gateway's own value of each owned field. model is the model's
	// name at the upstream.
	Rewrite(dst []byte, c *Call, model string) ([]byte, error)
	// Read looks at the data of one event of a stream, or at a whole answer.
	Read(data []byte, m *Meter) Signal
	// Classify says what an answer with an error status, or an error found by
	// Read under status 200, means.
	Classify(status int, header http.Header, body []byte) Fault
}

// Upstream is a configured account at a vendor.
type Upstream struct {
	// Name is what the operator calls it.
	Name string `json:"name"`
	// Vendor is a row of the vendor table; "openai-compatible" for anything.
	Vendor string `json:"vendor"`
	// BaseURL replaces the vendor's own, with everything before the operation's path.
	BaseURL string `json:"base_url,omitempty"`
	// Key is the API key at the vendor.
	Key Secret `json:"key,omitzero"`
	// Keys are more API keys; they are used in turn, and rest one by one.
	Keys []Secret `json:"keys,omitempty"`
	// Models are the models it serves, each "name" or "name=name-at-the-upstream".
	// Empty asks the upstream for its list.
	Models []string `json:"models,omitempty"`
	// Priority orders the upstreams of a model: higher is asked first.
	Priority int `json:"priority,omitempty"`
	// Weight shares requests among upstreams of the same priority. Default 1.
	Weight int `json:"weight,omitempty"`
	// HeaderTimeout is the longest wait for an answer to begin. Default 60s.
	HeaderTimeout Duration `json:"header_timeout,omitempty"`
	// IdleTimeout is the longest silence within a stream. Default 90s.
	IdleTimeout Duration `json:"idle_timeout,omitempty"`
	// Disconnect says what happens upstream when a client goes away: "cancel"
	// (the default) ends the request at once, "drain" reads on up to the hold.
	Disconnect string `json:"disconnect,omitempty"`
}

// Target is one way to serve a request: an upstream, one of its keys, and the
// model's name there. Targets are made with the routing snapshot and shared.
type Target struct {
	Upstream  *Upstream
	Provider  Provider
	Key       int    // index of the key
	Model     string // what the client calls the model
	Name      string // what the upstream calls it
	Price     *Price
	Endpoints map[Operation]Endpoint
}

// Outcome is how an attempt at a target went.
type Outcome struct {
	Fault     Fault         // Kind FaultNone: it answered
	FirstByte time.Duration // until the first meaningful event; 0 if none came
}

// Duration is a [time.Duration] written as text, such as "90s".
type Duration time.Duration

// UnmarshalJSON reads a string such as "1m30s".
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return Errorf(Invalid, "%s is not a duration: write one such as \"90s\"", b)
	}
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return Errorf(Invalid, "%q is not a duration: write one such as \"90s\"", s)
	}
	*d = Duration(v)
	return nil
}

// MarshalJSON writes a string such as "1m30s".
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// Or returns the duration, or a default if it is 0.
func (d Duration) Or(def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return time.Duration(d)
}

// Package mock is an upstream that no model stands behind. It speaks the
// OpenAI, Anthropic and Gemini dialects, checks what it is sent as the real
// ones do, answers with text and usage that a test can compute, fails on
// demand, and is cheap enough to be the upstream of a benchmark. [Demo] is the
// upstream that a fresh installation talks to, and [Pipe] serves either of
// them without a socket.
//
// # Usage
//
// In the mock, every started four bytes of a text are one token ([Tokens]).
// The input is the sum over the messages; an image is [ImageTokens].
//
// # Faults
//
// A fault is asked for by the model "mock-FAULT", by the key "sk-mock-FAULT",
// by the header "X-Mock-Fault: FAULT", or for everything by Options.Fault. The
// names are in [Faults].
package mock

import (
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Options set up a mock upstream. The zero value is a useful one.
type Options struct {
	Delay    time.Duration    // before the first byte of an answer
	Chunks   int              // pieces that a streamed answer comes in; default 10
	Interval time.Duration    // between two pieces, measured from when the first was due
	Size     int              // bytes of an answer's text; default 600
	Models   []string         // what the model list names; default "mock-model". Every model is answered
	Keys     []string         // the keys that are accepted; none means any
	Keyless  bool             // answer without a key too
	Strict   bool             // refuse unknown members of an OpenAI request, as OpenAI does and few others
	Stamp    bool             // add "sent", the time in Unix nanoseconds, to each piece of an OpenAI stream
	Fault    string           // the fault of every request
	Now      func() time.Time // default time.Now
}

const (
	defaultChunks = 10
	defaultSize   = 600
	// ImageTokens is what an image counts.
	ImageTokens = 85
	// bytesPerToken is how much text the mock counts as one token.
	bytesPerToken = 4
	maxBody       = 64 << 20
	// vectorSize is the length of an embedding.
	vectorSize = 8
)

// Tokens is how many tokens the mock counts in a text.
func Tokens(text string) int64 { return (int64(len(text)) + bytesPerToken - 1) / bytesPerToken }

// Answer is the text that a mock answers with: size bytes of plain words.
func Answer(size int) string {
	const words = "The quick brown fox jumps over the lazy dog and the mock upstream counts every byte. "
	return strings.Repeat(words, size/len(words)+1)[:size]
}

// Stats are what a mock has counted, also served as JSON at GET /mock/stats.
type Stats struct {
	Requests int64 `json:"requests"` // model requests that were asked
	Answered int64 `json:"answered"` // of those, the ones answered to the end
	Open     int64 `json:"open"`     // of those, the ones running
}

// Mock is a mock upstream. It is an [http.Handler].
type Mock struct {
	o      Options
	mux    *http.ServeMux
	text   string
	whole  []byte   // the text as a JSON string
	pieces []string // the text's pieces
	quoted [][]byte // the pieces as JSON strings
	pool   sync.Pool
	write  func(a *ask) // fills in the answer
	pause  func() time.Duration
	count  func(text string) int64
	faults map[string]fault

	requests, answered, open atomic.Int64
}

// New makes a mock upstream.
func New(o Options) *Mock {
	o.Chunks = cmp.Or(max(o.Chunks, 0), defaultChunks)
	o.Size = cmp.Or(max(o.Size, 0), defaultSize)
	if o.Now == nil {
		o.Now = time.Now
	}
	if len(o.Models) == 0 {
		o.Models = []string{"mock-model"}
	}
	m := &Mock{o: o, text: Answer(o.Size), count: Tokens, faults: faults()}
	m.pool.New = func() any { return new(ask) }
	m.whole = quote(m.text)
	m.pieces = split(m.text, o.Chunks)
	for _, p := range m.pieces {
		m.quoted = append(m.quoted, quote(p))
	}
	m.write = m.fixed
	m.pause = func() time.Duration { return o.Interval }
	m.routes()
	return m
}

func (m *Mock) routes() {
	m.mux = http.NewServeMux()
	for _, prefix := range [...]string{"/v1", ""} { // some vendors have no /v1
		m.mux.HandleFunc("POST "+prefix+"/chat/completions", m.serve(openAI{}))
		m.mux.HandleFunc("POST "+prefix+"/embeddings", m.embeddings)
		m.mux.HandleFunc("GET "+prefix+"/models", m.models)
	}
	m.mux.HandleFunc("POST /v1/messages", m.serve(anthropic{}))
	m.mux.HandleFunc("POST /v1/messages/count_tokens", m.countTokens)
	m.mux.HandleFunc("GET /v1beta/models", m.geminiModels)
	m.mux.HandleFunc("POST /v1beta/models/{call}", m.serve(gemini{}))
	m.mux.HandleFunc("GET /mock/stats", func(w http.ResponseWriter, _ *http.Request) { reply(w, m.Stats()) })
	m.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		openAI{}.refuse(w, notFound("Invalid URL ("+r.Method+" "+r.URL.Path+")"))
	})
}

// ServeHTTP implements [http.Handler].
func (m *Mock) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost && r.URL.Path == "/v1/chat/completions" {
		m.answer(w, r, openAI{}) // the path of a benchmark skips the mux
		return
	}
	m.mux.ServeHTTP(w, r)
}

// Stats returns what has been counted so far.
func (m *Mock) Stats() Stats {
	return Stats{Requests: m.requests.Load(), Answered: m.answered.Load(), Open: m.open.Load()}
}

// problem is a request that is refused.
type problem struct {
	status int
	kind   string // the type of OpenAI, which the others derive theirs from
	code   string
	text   string
	param  string
	retry  string // Retry-After
}

func (p *problem) Error() string { return p.text }

func invalid(param, text string) *problem {
	return &problem{status: http.StatusBadRequest, kind: "invalid_request_error", text: text, param: param}
}

func notFound(text string) *problem {
	return &problem{status: http.StatusNotFound, kind: "invalid_request_error", code: "not_found", text: text}
}

// usage is what the mock says a request used.
type usage struct{ in, cached, out, reasoning int64 }

// ask is a request, and the answer that is being given.
type ask struct {
	body  []byte
	out   []byte
	model string
	last  string // the text of the last user message

	stream, includeUsage, array bool

	max       int64 // 0 is unlimited
	n         int
	stops     []string
	tool      string // the function to call in place of text
	reasoning string

	id      int64
	created int64
	stamp   bool
	text    string
	whole   []byte
	pieces  []string
	quoted  [][]byte
	cut     bool // the answer ended at max
	noUsage bool
	every   bool // usage in every chunk
	base64  bool // vectors are wanted in base64
	usage   usage
}

func (a *ask) reset() {
	*a = ask{body: a.body[:0], out: a.out[:0], n: 1}
}

// dialect is how one vendor's requests are read and answers are written.
type dialect interface {
	// read checks the request and fills in what was asked.
	read(m *Mock, r *http.Request, a *ask) error
	refuse(w http.ResponseWriter, p *problem)
	// failure appends an event that says what went wrong after HTTP 200.
	failure(dst []byte, p *problem) []byte
	answer(dst []byte, a *ask) []byte // not streamed
	begin(dst []byte, a *ask) []byte  // what comes with the first piece
	piece(dst []byte, a *ask, i int, now time.Time) []byte
	end(dst []byte, a *ask, done bool) []byte
}

func (m *Mock) serve(d dialect) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { m.answer(w, r, d) }
}

func (m *Mock) answer(w http.ResponseWriter, r *http.Request, d dialect) {
	m.requests.Add(1)
	m.open.Add(1)
	defer m.open.Add(-1)
	a, _ := m.pool.Get().(*ask)
	defer m.pool.Put(a)
	a.reset()
	err := m.accept(r, a, d)
	if p, bad := errors.AsType[*problem](err); bad {
		d.refuse(w, p)
		return
	}
	if err != nil {
		return // the client went away
	}
	a.id, a.created, a.stamp = m.requests.Load(), m.o.Now().Unix(), m.o.Stamp
	m.write(a)
	run := &run{m: m, w: w, r: r, d: d, a: a}
	if f := m.fault(r, a); f != "" {
		m.faults[f].do(run)
		return
	}
	run.all()
}

// accept reads the request.
func (m *Mock) accept(r *http.Request, a *ask, d dialect) error {
	if err := m.authorize(r); err != nil {
		return err
	}
	if t, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); !strings.EqualFold(strings.TrimSpace(t), "application/json") {
		return &problem{
			status: http.StatusUnsupportedMediaType, kind: "invalid_request_error",
			text: "Unsupported content type " + strconv.Quote(t) + ": send application/json.",
		}
	}
	var err error
	if a.body, err = readAll(a.body, r); err != nil {
		return err
	}
	return d.read(m, r, a)
}

func (m *Mock) authorize(r *http.Request) error {
	key := keyOf(r)
	switch {
	case key == "" && m.o.Keyless:
		return nil
	case key == "":
		return &problem{
			status: http.StatusUnauthorized, kind: "authentication_error", code: "missing_api_key",
			text: "You didn't provide an API key.",
		}
	case len(m.o.Keys) > 0 && !slices.Contains(m.o.Keys, key):
		return &problem{
			status: http.StatusUnauthorized, kind: "authentication_error", code: "invalid_api_key",
			text: "Incorrect API key provided.",
		}
	}
	return nil
}

// keyOf returns the key that the path's dialect would look at. As the real
// ones, a dialect does not know the headers of the others.
func keyOf(r *http.Request) string {
	switch {
	case strings.HasPrefix(r.URL.Path, "/v1/messages"):
		if k := r.Header.Get("X-Api-Key"); k != "" {
			return k
		}
	case strings.HasPrefix(r.URL.Path, "/v1beta/"):
		if k := r.Header.Get("X-Goog-Api-Key"); k != "" {
			return k
		}
		return r.URL.Query().Get("key")
	}
	key, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return ""
	}
	return key
}

func readAll(dst []byte, r *http.Request) ([]byte, error) {
	if n := r.ContentLength; n > maxBody {
		return dst, &problem{status: http.StatusRequestEntityTooLarge, kind: "invalid_request_error", text: "The request is too large."}
	} else if n > 0 {
		dst = slices.Grow(dst, int(n)+1)
	}
	for {
		if len(dst) == cap(dst) {
			dst = slices.Grow(dst, 4096)
		}
		n, err := r.Body.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if errors.Is(err, io.EOF) {
			return dst, nil
		}
		if err != nil {
			return dst, err
		}
		if len(dst) > maxBody {
			return dst, &problem{status: http.StatusRequestEntityTooLarge, kind: "invalid_request_error", text: "The request is too large."}
		}
	}
}

func reply(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "encoding the answer", http.StatusInternalServerError)
		return
	}
	send(w, http.StatusOK, "application/json", b)
}

func send(w http.ResponseWriter, status int, kind string, body []byte) {
	h := w.Header()
	h["Content-Type"] = []string{kind}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, _ = w.Write(body) //nolint:gosec // JSON; and a client that went away does not matter here
}

// Package server is the HTTP face: one mux, the middleware, the platform API,
// forward-auth, health, metrics and the pages. The model API is mounted on it
// and answers for itself.
//
// A route is registered together with its policy, in one call, and the policy
// is enforced around the matched handler: there is no other place where
// access is decided, and no way to add a route without saying who may use it.
package server

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jimu-ai/jimu"
)

// Identity is who somebody is and what he may change.
type Identity interface {
	NeedsSetup(ctx context.Context) (bool, error)
	CheckSetup(ctx context.Context, secret string) error
	Setup(ctx context.Context, secret, name, password string) (session string, c *jimu.Caller, err error)
	Login(ctx context.Context, name, password string, from netip.Addr) (session string, c *jimu.Caller, err error)
	Session(ctx context.Context, session string) (*jimu.Caller, error)
	Logout(ctx context.Context, session string) error
	SetPassword(ctx context.Context, session, old, password string, from netip.Addr) error

	User(ctx context.Context, id string) (*jimu.User, error)
	Users(ctx context.Context, cursor string, limit int) (us []jimu.User, next string, err error)
	CreateUser(ctx context.Context, actor *jimu.Caller, name string, role jimu.Role, password string) (*jimu.User, error)
	// UpdateUser leaves what is nil.
	UpdateUser(ctx context.Context, actor *jimu.Caller, id string, disabled *bool, role *jimu.Role) (*jimu.User, error)

	Keys(ctx context.Context, user, cursor string, limit int) (ks []jimu.Key, next string, err error)
	KeyNames(ctx context.Context, user string) (map[string]string, error)
	CreateKey(ctx context.Context, user string, spec *jimu.Key, once string) (k *jimu.Key, secret string, err error)
	RevokeKey(ctx context.Context, user, id string) error
}

// Ledger is the credit of accounts.
type Ledger interface {
	Balance(ctx context.Context, account string) (jimu.Balance, error)
	// Statement lists the entries below a sequence number, newest first; 0 is
	// from the newest.
	Statement(ctx context.Context, account string, before int64, limit int) ([]jimu.Entry, error)
	// Grant gives credit once per ref.
	Grant(ctx context.Context, account string, amount jimu.Credit, reason, ref string) (jimu.Entry, error)
}

// Router knows the keys and the models in force.
type Router interface {
	// Admit returns who an API key belongs to, without touching a database.
	Admit(key string) (*jimu.Caller, error)
	// Models lists what the caller may use.
	Models(c *jimu.Caller) []jimu.Model
}

// Chat is conversations and their turns. What belongs to another user is
// [jimu.NotFound].
type Chat interface {
	List(ctx context.Context, user, cursor string, limit int) (cs []jimu.Conversation, next string, err error)
	Create(ctx context.Context, user, title, model string) (*jimu.Conversation, error)
	Get(ctx context.Context, user, id string) (*jimu.Conversation, []jimu.Turn, error)
	Rename(ctx context.Context, user, id, title string) (*jimu.Conversation, error)
	Delete(ctx context.Context, user, id string) error
	// Start begins a turn: with a text, or in place of the turn to regenerate.
	Start(ctx context.Context, c *jimu.Caller, conversation string, ask Ask) (*jimu.Turn, error)
	Turn(ctx context.Context, user, id string) (*jimu.Turn, error)
	Stop(ctx context.Context, user, id string) (*jimu.Turn, error)
	// Attach follows a turn from an offset. After its last event Next returns
	// [io.EOF].
	Attach(ctx context.Context, user, id string, after int64) (Events, error)
}

// Ask is what begins a turn.
type Ask struct {
	Text       string `json:"text,omitempty"`
	Model      string `json:"model,omitempty"`
	Regenerate string `json:"regenerate,omitempty"` // ID of the turn to replace
}

// Events is a turn being followed. Next is called by one goroutine at a time.
type Events interface {
	Next(ctx context.Context) (Event, error)
}

// Event is a piece of a turn, as it goes to the page.
type Event struct {
	ID   int64  // offset after it
	Kind string // text, reasoning or done
	Data []byte // JSON
}

// Upstream is what the page shows of an upstream; never a key.
type Upstream struct {
	Name     string        `json:"name"`
	Vendor   string        `json:"vendor"`
	Priority int           `json:"priority"`
	Weight   int           `json:"weight"`
	Models   []string      `json:"models"`
	Keys     []UpstreamKey `json:"keys"`
}

// UpstreamKey is how one of an upstream's keys fares.
type UpstreamKey struct {
	Index int       `json:"index"`
	State string    `json:"state"` // ok, resting, open or disabled
	Until time.Time `json:"until,omitzero"`
	Why   string    `json:"why,omitempty"`
}

// SetupUpstream is an upstream entered with the setup.
type SetupUpstream struct {
	BaseURL string      `json:"base_url"`
	Key     jimu.Secret `json:"key,omitzero"`
	Models  []string    `json:"models,omitempty"`
	// Free makes every model without a known price cost nothing.
	Free bool `json:"free,omitempty"`
}

// Options are what a [Server] needs. Everything is needed unless it says
// otherwise.
type Options struct {
	Log            *slog.Logger
	Now            func() time.Time
	Version        string
	Currency       string
	URL            string         // how people reach the site; "" is unknown
	Hosts          []string       // if any, requests for other hosts are refused
	TrustedProxies []netip.Prefix // whose X-Forwarded-* are believed; may be empty

	Identity Identity
	Ledger   Ledger
	Router   Router
	Chat     Chat
	// Usage lists a user's requests, newest first.
	Usage func(ctx context.Context, user, cursor string, limit int) (rs []jimu.Record, next string, err error)
	// Upstreams lists the upstreams with their health.
	Upstreams func() []Upstream
	// Demo reports whether only the demo upstream serves.
	Demo func() bool
	// AddUpstream adds the upstream that was entered with the setup.
	AddUpstream func(ctx context.Context, u SetupUpstream) error
	// Limit, if set, counts a forward-auth check against the caller's limits.
	Limit func(ctx context.Context, c *jimu.Caller) error

	// Model answers ModelRoutes, which are patterns below /v1/. It finds the
	// client's address in RemoteAddr, makes the request ID, and checks the key
	// itself, with one look-up in memory.
	Model       http.Handler
	ModelRoutes []string
	// ModelError writes an error in the model API's own form: for unknown
	// paths, and when Model panics.
	ModelError func(w http.ResponseWriter, r *http.Request, e *jimu.Error)

	// Pages is the built front end; it may be empty.
	Pages fs.FS
	// Ready says why requests cannot be served just now: the database, the
	// ledger. Draining is the server's own.
	Ready func(ctx context.Context) error
	// Metrics write Prometheus text; names begin with jimu_. May be empty.
	Metrics []func(w io.Writer)
}

// Server is the HTTP face. It serves with [Server.ServeHTTP].
type Server struct {
	o        Options
	mux      *http.ServeMux
	routes   []Route
	origins  *http.CrossOriginProtection
	https    bool // the site's URL is https
	pages    *pages
	nosniff  []string // a header's value that is never changed
	draining atomic.Bool
	drain    chan struct{} // closed by Drain: streams end
	once     sync.Once
	answers  [6]atomic.Int64 // by status / 100
}

// New makes a server. It errs on options that cannot work.
func New(o Options) (*Server, error) {
	s := &Server{
		o: o, mux: http.NewServeMux(), drain: make(chan struct{}),
		origins: http.NewCrossOriginProtection(), nosniff: []string{"nosniff"},
	}
	if o.URL != "" {
		u, err := url.Parse(o.URL)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			return nil, jimu.Errorf(jimu.Invalid, "url: %q is not a web address such as https://ai.example.com", o.URL)
		}
		s.https = u.Scheme == "https"
		if err := s.origins.AddTrustedOrigin(u.Scheme + "://" + u.Host); err != nil {
			return nil, fmt.Errorf("trusting the site's own origin: %w", err)
		}
	}
	var err error
	if s.pages, err = newPages(o.Pages); err != nil {
		return nil, err
	}
	s.register()
	return s, nil
}

func (s *Server) register() {
	s.siteRoutes()
	s.sessionRoutes()
	s.keyRoutes()
	s.creditRoutes()
	s.chatRoutes()
	s.userRoutes()
	s.verifyRoutes()
	s.healthRoutes()
	s.modelRoutes()
	s.pageRoutes()
}

// Drain makes the server not ready and ends the streams of the chat page,
// which attach again elsewhere or later. Requests that run go on.
func (s *Server) Drain() {
	s.draining.Store(true)
	s.once.Do(func() { close(s.drain) })
}

// HTTPServer wraps a handler with the limits that every listener has.
func HTTPServer(h http.Handler, log *slog.Logger) *http.Server {
	const kib = 1024
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       120 * time.Second,
		MaxHeaderBytes:    32 * kib,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

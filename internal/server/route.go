package server

import (
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/jimu-ai/jimu"
)

// Policy says who may use a route. Only the functions below make one; the zero
// Policy panics at registration.
type Policy struct {
	kind policyKind
	role jimu.Role // Session: the lowest that may
}

type policyKind uint8

const (
	policyPublic policyKind = iota + 1
	policySession
	policyKeyOrSession
	policySetup
	policyModel
	policyPeer
)

// Public lets anyone in.
func Public() Policy { return Policy{kind: policyPublic} }

// Session asks for the session of a user of a role, or of one above it. Keys
// do not do: a leaked key must not change an account.
func Session(lowest jimu.Role) Policy { return Policy{kind: policySession, role: lowest} }

// KeyOrSession asks for an API key or a session. It is for reading what is the
// caller's own.
func KeyOrSession() Policy { return Policy{kind: policyKeyOrSession} }

// SetupSecret asks for the secret of the setup link in the body, while the
// site has no owner.
func SetupSecret() Policy { return Policy{kind: policySetup} }

// ModelKey leaves the check of the API key to the model API, which does it as
// its first step. Cookies are ignored there.
func ModelKey() Policy { return Policy{kind: policyModel} }

// TrustedPeer lets in what is connected from the machine itself or from a
// trusted proxy, whoever it speaks for.
func TrustedPeer() Policy { return Policy{kind: policyPeer} }

// String names the policy as the table of routes shows it.
func (p Policy) String() string {
	switch p.kind {
	case policyPublic:
		return "public"
	case policySession:
		return "session:" + string(p.role)
	case policyKeyOrSession:
		return "key or session"
	case policySetup:
		return "setup secret"
	case policyModel:
		return "model key"
	case policyPeer:
		return "trusted peer"
	}
	return "none"
}

// Route is a row of the table of routes.
type Route struct {
	Pattern string // as [http.ServeMux] takes it
	Policy  Policy

	// What the OpenAPI document says of it; no summary, no mention.
	summary string
	query   []string
	codes   []jimu.Code
	status  int
	in, out reflect.Type // of the bodies; nil without one
	stream  bool
}

// Routes lists every route with its policy.
func (s *Server) Routes() []Route { return append([]Route(nil), s.routes...) }

// request is a request that its route's policy has let in.
type request struct {
	w http.ResponseWriter
	r *http.Request
	*facts
	caller  *jimu.Caller // nil where the policy asks for none
	session string       // its token; "" with a key
	body    []byte       // read already, by the policy of the setup
}

// user is the ID of the caller.
func (q *request) user() string { return q.caller.User }

// endpoint is what a route does, and what goes in and out.
type endpoint struct {
	status  int
	in, out reflect.Type
	stream  bool // it takes long and answers by itself
	serve   func(q *request) error
	plain   http.Handler // in place of serve, with the policy ModelKey: it checks the key itself
}

// none is the body that is not there.
type none = struct{}

// reply makes an endpoint of a function without a request body.
func reply[Out any](status int, f func(q *request) (Out, error)) endpoint {
	return endpoint{
		status: status, out: bodyType[Out](),
		serve: func(q *request) error {
			out, err := f(q)
			return q.answer(status, out, err)
		},
	}
}

// accept makes an endpoint of a function that takes a JSON body.
func accept[In, Out any](status int, f func(q *request, in *In) (Out, error)) endpoint {
	return endpoint{
		status: status, in: bodyType[In](), out: bodyType[Out](),
		serve: func(q *request) error {
			b := q.body
			if b == nil {
				var err error
				if b, err = readBody(q.w, q.r); err != nil {
					return err
				}
			}
			in := new(In)
			if err := decode(b, in); err != nil {
				return err
			}
			out, err := f(q, in)
			return q.answer(status, out, err)
		},
	}
}

// raw makes an endpoint of a function that writes its answer itself. It may
// return an error only as long as it has written nothing.
func raw(f func(q *request) error) endpoint { return endpoint{stream: true, serve: f} }

// model makes an endpoint of a handler of the model API.
func model(h http.Handler) endpoint { return endpoint{stream: true, plain: h} }

func bodyType[T any]() reflect.Type {
	if t := reflect.TypeFor[T](); t != reflect.TypeFor[none]() {
		return t
	}
	return nil
}

func (q *request) answer(status int, out any, err error) error {
	if err != nil {
		return err
	}
	if status == http.StatusNoContent {
		q.w.Header().Set("Cache-Control", "no-store")
		q.w.WriteHeader(status)
		return nil
	}
	writeJSON(q.w, "application/json", status, out)
	return nil
}

// doc is what the OpenAPI document says of a route besides its types.
type doc struct {
	summary string
	query   []string    // names of parameters; see the OpenAPI generator
	codes   []jimu.Code // failures of its own, besides those of its policy and body
}

const apiTimeout = 30 * time.Second

// route adds a route. It is the only way to add one, and the policy is part
// of it. The policy is checked here, around the matched handler, so that no
// difference between how a path is checked and how it is served can exist.
func (s *Server) route(pattern string, p Policy, e endpoint, d doc) {
	if p.kind == 0 || (p.kind == policySession && !p.role.Valid()) {
		panic("jimu: route without a policy: " + pattern)
	}
	if (p.kind == policyModel) != (e.plain != nil) {
		panic("jimu: a handler and a policy that do not go together: " + pattern)
	}
	s.routes = append(s.routes, Route{
		Pattern: pattern, Policy: p, summary: d.summary, query: d.query, codes: d.codes,
		status: e.status, in: e.in, out: e.out, stream: e.stream,
	})
	if e.plain != nil {
		s.mux.Handle(pattern, e.plain)
		return
	}
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if !e.stream {
			defer deadline(w, apiTimeout)()
		}
		q := &request{w: w, r: r, facts: factsOf(r)}
		err := s.admit(p, q)
		if err == nil {
			err = e.serve(q)
		}
		if err != nil {
			s.problem(w, r, err)
		}
	})
}

// isAPI reports whether a route belongs to the platform API.
func (r *Route) isAPI() bool {
	_, path, _ := strings.Cut(r.Pattern, " ")
	return strings.HasPrefix(path, "/api/") && r.summary != ""
}

package server

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/jimu-ai/jimu"
)

// admit enforces a policy, and notes who the caller is.
func (s *Server) admit(p Policy, q *request) error {
	switch p.kind {
	case policyPublic, policyModel:
		return nil
	case policyPeer:
		if q.peer.IsLoopback() || s.trusts(q.peer) {
			return nil
		}
		return jimu.Errorf(jimu.Forbidden, "only a proxy on this machine, or one in trusted_proxies, may ask this")
	case policySetup:
		return s.admitSetup(q)
	case policySession:
		return s.admitSession(p.role, q)
	case policyKeyOrSession:
		return s.admitCaller(q)
	}
	return errors.New("a route has no policy")
}

// credential is the one reader of what a request proves itself with, for
// every route: a key in Authorization or x-api-key, or else the session
// cookie. Where a key is given the cookie does not count.
func credential(r *http.Request, secure bool) (key, session string) {
	if scheme, v, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(v), ""
	}
	if v := r.Header.Get("X-Api-Key"); v != "" {
		return v, ""
	}
	if c, err := r.Cookie(cookieName(secure)); err == nil {
		return "", c.Value
	}
	return "", ""
}

func (s *Server) admitSession(lowest jimu.Role, q *request) error {
	key, session := credential(q.r, q.secure)
	if key != "" {
		if _, err := s.o.Router.Admit(key); err != nil {
			return unauthorized(err)
		}
		return jimu.Errorf(jimu.Forbidden, "an API key may not do this; sign in on the page")
	}
	if err := s.resume(q, session); err != nil {
		return err
	}
	if !q.caller.Role.AtLeast(lowest) {
		return jimu.Errorf(jimu.Forbidden, "this needs the role %s or one above it", lowest)
	}
	return nil
}

func (s *Server) admitCaller(q *request) error {
	key, session := credential(q.r, q.secure)
	if key == "" {
		return s.resume(q, session)
	}
	c, err := s.o.Router.Admit(key)
	if err != nil {
		return unauthorized(err)
	}
	q.caller = c
	return nil
}

// resume takes up a session. What changes something must carry a header that
// no other site's page can send.
func (s *Server) resume(q *request, session string) error {
	if session == "" {
		return jimu.Errorf(jimu.Unauthorized, "sign in, or send an API key as Authorization: Bearer")
	}
	if !safe(q.r.Method) && q.r.Header.Get("X-Jimu-CSRF") != "1" {
		return jimu.Errorf(jimu.Forbidden, "send the header X-Jimu-CSRF: 1 with requests that change something")
	}
	c, err := s.o.Identity.Session(q.r.Context(), session)
	if err != nil {
		return err
	}
	q.caller, q.session = c, session
	return nil
}

func safe(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// unauthorized keeps a refusal of a key a refusal, and our own faults ours.
func unauthorized(err error) error {
	if e, ok := errors.AsType[*jimu.Error](err); ok {
		return e
	}
	return &jimu.Error{Code: jimu.Unauthorized, Text: "the API key is not valid", Err: err}
}

// admitSetup looks for the secret in the body, before anything else of it is
// looked at.
func (s *Server) admitSetup(q *request) error {
	b, err := readBody(q.w, q.r)
	if err != nil {
		return err
	}
	var in struct {
		Secret string `json:"secret"`
	}
	if err := json.Unmarshal(b, &in); err != nil {
		return jimu.Errorf(jimu.Invalid, "the request's body is not valid JSON")
	}
	q.body = b
	return s.o.Identity.CheckSetup(q.r.Context(), in.Secret)
}

// cookieName is the name of the session cookie. Over TLS it has the prefix
// that keeps other hosts and plain HTTP from setting it.
func cookieName(secure bool) string {
	if secure {
		return "__Host-jimu"
	}
	return "jimu"
}

// sessionAge is how long a browser keeps the cookie. The session itself may
// end earlier.
const sessionAge = 30 * 24 * 60 * 60 // seconds

func (q *request) setSession(token string) {
	c := &http.Cookie{ //nolint:gosec // G124: without TLS a Secure cookie would not come back, and nobody could sign in on a LAN
		Name: cookieName(q.secure), Value: token, Path: "/", MaxAge: sessionAge,
		Secure: q.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
	if token == "" {
		c.MaxAge = -1
	}
	http.SetCookie(q.w, c)
}

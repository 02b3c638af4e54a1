package server

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jimu-ai/jimu"
)

func (s *Server) verifyRoutes() {
	s.route("/auth/verify", TrustedPeer(), raw(s.verify), doc{})
}

// verify answers a proxy that asks whether a request may pass (nginx
// auth_request, Traefik ForwardAuth, Caddy forward_auth): 200, 401 or 403, as
// nginx knows no others; with ?codes=full also 402 and 429. Anything that goes
// wrong is a 403. ?role= asks for a role or one above it.
//
// The address that the proxy was asked for plays no part, so that no
// disagreement about its form can let anyone through.
func (s *Server) verify(q *request) error {
	c, err := s.verified(q)
	h := q.w.Header()
	h.Set("Cache-Control", "no-store")
	if err == nil {
		h.Set("X-Jimu-User", headerText(c.Name))
		h.Set("X-Jimu-Role", string(c.Role))
		q.w.WriteHeader(http.StatusOK)
		return nil
	}
	e := jimu.ErrorOf(err)
	if e.Code == jimu.Internal {
		s.o.Log.ErrorContext(q.r.Context(), "forward-auth failed", "request_id", q.id, "error", err,
			"method", q.r.Header.Get("X-Original-Method"), "path", pathOnly(q.r.Header.Get("X-Original-URI")))
	}
	h.Set("X-Jimu-Reason", string(e.Code))
	status := http.StatusForbidden
	full := q.r.URL.Query().Get("codes") == "full"
	switch {
	case e.Code == jimu.Unauthorized:
		status = http.StatusUnauthorized
		h.Set("WWW-Authenticate", `Bearer realm="jimu"`)
	case full && e.Code == jimu.NoCredit:
		status = http.StatusPaymentRequired
	case full && e.Code == jimu.RateLimited:
		status = http.StatusTooManyRequests
		if e.RetryAfter > 0 {
			h.Set("Retry-After", strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10))
		}
	}
	q.w.WriteHeader(status)
	return nil
}

// verified finds out who asks, and whether he may.
func (s *Server) verified(q *request) (*jimu.Caller, error) {
	if err := s.admitVerify(q); err != nil {
		return nil, err
	}
	c, ctx := q.caller, q.r.Context()
	if v := q.r.URL.Query(); v.Has("role") {
		lowest := jimu.Role(v.Get("role"))
		if !lowest.Valid() || !c.Role.AtLeast(lowest) {
			return nil, jimu.Errorf(jimu.Forbidden, "this needs another role")
		}
	}
	if s.o.Limit != nil {
		if err := s.o.Limit(ctx, c); err != nil {
			return nil, err
		}
	}
	b, err := s.o.Ledger.Balance(ctx, c.Account)
	if err != nil {
		return nil, err
	}
	q.w.Header().Set("X-Jimu-Credit", b.Balance.String())
	if b.Balance <= 0 {
		return nil, jimu.Errorf(jimu.NoCredit, "the credit is used up")
	}
	return c, nil
}

// admitVerify is admitCaller without the CSRF header: whatever the method that
// the proxy asks with, nothing is changed here.
func (s *Server) admitVerify(q *request) error {
	key, session := credential(q.r, q.secure)
	if key != "" {
		return s.admitCaller(q)
	}
	if session == "" {
		return jimu.Errorf(jimu.Unauthorized, "sign in, or send an API key")
	}
	c, err := s.o.Identity.Session(q.r.Context(), session)
	if err != nil {
		return err
	}
	if c == nil {
		return errors.New("a session has no caller")
	}
	q.caller = c
	return nil
}

// headerText writes a name so that it is safe in a header: percent-encoded if
// it has anything but printable ASCII, or a percent sign.
func headerText(s string) string {
	if visible(strings.ReplaceAll(s, " ", "")) && !strings.Contains(s, "%") {
		return s
	}
	return url.PathEscape(s)
}

// pathOnly leaves out the query, which may hold secrets.
func pathOnly(uri string) string {
	path, _, _ := strings.Cut(uri, "?")
	return path
}

package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/jimu-ai/jimu"
)

// facts are what the middleware found out about a request.
type facts struct {
	id     string
	peer   netip.Addr // who is connected
	addr   netip.Addr // the client: peer, or what trusted proxies say
	secure bool       // the client speaks TLS, or should
}

type factsKey struct{}

func factsOf(r *http.Request) *facts {
	f, ok := r.Context().Value(factsKey{}).(*facts)
	if !ok {
		return &facts{} // not through ServeHTTP: nothing is trusted
	}
	return f
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w := &watcher{ResponseWriter: rw, r: r}
	defer s.finish(w)
	if isModel(r) {
		s.serveModel(w, r)
		return
	}
	f := s.look(r)
	w.id = f.id
	w.Header().Set("X-Request-Id", f.id)
	r = r.WithContext(context.WithValue(r.Context(), factsKey{}, f))
	w.r = r
	harden(w.Header(), f.secure)
	if err := s.checkOrigin(r); err != nil {
		s.problem(w, r, err)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// serveModel is the short way to the model API, which makes its own request
// IDs, takes no cookies, and looks at no header of a proxy.
func (s *Server) serveModel(w *watcher, r *http.Request) {
	delete(r.Header, "X-Request-Id")
	if len(s.o.TrustedProxies) > 0 {
		if peer := peerOf(r); s.trusts(peer) {
			r.RemoteAddr = netip.AddrPortFrom(s.client(peer, r.Header.Values("X-Forwarded-For")), 0).String()
		}
	}
	w.Header()["X-Content-Type-Options"] = s.nosniff
	s.mux.ServeHTTP(w, r)
}

// modelError writes an error in the model API's form, with a request ID.
func (s *Server) modelError(w http.ResponseWriter, r *http.Request, e *jimu.Error) {
	if w.Header().Get("X-Request-Id") == "" {
		w.Header().Set("X-Request-Id", jimu.NewID(s.o.Now()))
	}
	s.o.ModelError(w, r, e)
}

// isModel reports whether a request is for the model API. It looks at the
// path as the mux does, in its escaped form.
func isModel(r *http.Request) bool {
	path := r.URL.RawPath
	if path == "" {
		path = r.URL.Path
	}
	return strings.HasPrefix(path, "/v1/")
}

// finish counts the answer, and turns a panic into one.
func (s *Server) finish(w *watcher) {
	r := w.r
	if v := recover(); v != nil {
		if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(v)
		}
		s.o.Log.ErrorContext(r.Context(), "panic while answering a request",
			"request_id", w.Header().Get("X-Request-Id"), "pattern", r.Pattern, "panic", v, "stack", string(debug.Stack()))
		if w.status != 0 {
			panic(http.ErrAbortHandler) // the answer has begun: only breaking it off tells the client
		}
		e := jimu.ErrorOf(nil)
		if isModel(r) {
			s.modelError(w, r, e)
		} else {
			writeProblem(w, w.id, e)
		}
	}
	s.answers[min(max(w.status, 200)/100, len(s.answers)-1)].Add(1)
}

// checkOrigin refuses other sites' pages, and hosts that are not ours.
func (s *Server) checkOrigin(r *http.Request) error {
	if len(s.o.Hosts) > 0 && !forMachines(r.URL.Path) && !slices.Contains(s.o.Hosts, hostOnly(r.Host)) {
		return jimu.Errorf(jimu.Forbidden, "this site does not answer for that host name")
	}
	if err := s.origins.Check(r); err != nil {
		return &jimu.Error{Code: jimu.Forbidden, Text: "requests from pages of other sites are refused", Err: err}
	}
	return nil
}

// forMachines reports whether proxies and balancers ask for a path, under
// whatever name they know us.
func forMachines(path string) bool {
	return path == "/healthz" || path == "/readyz" || path == "/auth/verify"
}

func hostOnly(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return host
}

// harden sets the security headers of every page and platform answer.
func harden(h http.Header, secure bool) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "+
		"connect-src 'self'; manifest-src 'self'; frame-ancestors 'none'; base-uri 'none'; object-src 'none'; form-action 'self'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	if secure {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}

// look gathers the facts of a request.
func (s *Server) look(r *http.Request) *facts {
	f := &facts{id: jimu.NewID(s.o.Now()), peer: peerOf(r)}
	f.addr = s.client(f.peer, r.Header.Values("X-Forwarded-For"))
	f.secure = s.https || r.TLS != nil || (s.trusts(f.peer) && r.Header.Get("X-Forwarded-Proto") == "https")
	return f
}

// peerOf is the address that is connected; the zero Addr if it has none.
func peerOf(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

func (s *Server) trusts(a netip.Addr) bool {
	return a.IsValid() && slices.ContainsFunc(s.o.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(a) })
}

// client walks X-Forwarded-For from the right, where our own proxies wrote,
// for as long as the address it came from is one of them. What is further
// left may be the client's invention.
func (s *Server) client(peer netip.Addr, forwarded []string) netip.Addr {
	at := peer
	for _, line := range slices.Backward(forwarded) {
		for line != "" && s.trusts(at) {
			hop := line
			if i := strings.LastIndexByte(line, ','); i >= 0 {
				line, hop = line[:i], line[i+1:]
			} else {
				line = ""
			}
			a, err := parseHop(strings.TrimSpace(hop))
			if err != nil {
				return at
			}
			at = a
		}
	}
	return at
}

// parseHop reads an address with or without a port.
func parseHop(s string) (netip.Addr, error) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), nil
	}
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return a.Unmap().WithZone(""), err
}

// watcher remembers whether an answer has begun.
type watcher struct {
	http.ResponseWriter
	r      *http.Request
	id     string // of the request; "" where the model API makes its own
	status int
}

func (w *watcher) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *watcher) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Flush implements [http.Flusher].
func (w *watcher) Flush() {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	// A writer that cannot flush is one that does not buffer.
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap lets [http.ResponseController] through.
func (w *watcher) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// deadline bounds how long a client may take to send a request, and a little
// longer to take the answer. When the first is over, net/http also ends the
// request's context. It is off again when the returned function is called, for
// the next request on the same connection.
func deadline(w http.ResponseWriter, d time.Duration) (off func()) {
	c := http.NewResponseController(w)
	at := time.Now().Add(d) // the network's clock, not the domain's
	_, _ = c.SetReadDeadline(at), c.SetWriteDeadline(at.Add(d/2))
	return func() { _, _ = c.SetReadDeadline(time.Time{}), c.SetWriteDeadline(time.Time{}) }
}

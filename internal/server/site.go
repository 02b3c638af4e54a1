package server

import (
	"context"
	_ "embed"
	"net/http"
	"net/url"

	"github.com/jimu-ai/jimu"
)

//go:generate go test -run ^TestOpenAPIFresh$ . -update

// openAPI is made from the table of routes and the Go types by go generate;
// a test says when it is stale.
//
//go:embed openapi.json
var openAPI []byte

// Site is what everyone may know about the site.
type Site struct {
	Name        string `json:"name"`
	Currency    string `json:"currency"`
	Version     string `json:"version"`
	SetupNeeded bool   `json:"setup_needed"` // it has no owner yet
	Demo        bool   `json:"demo"`         // only the built-in demo upstream serves
}

// Setup makes the first owner.
type Setup struct {
	Secret   string         `json:"secret"` // of the setup link
	Name     string         `json:"name"`
	Password string         `json:"password"`
	Upstream *SetupUpstream `json:"upstream,omitempty"`
}

// SignedIn says whom a session was begun for.
type SignedIn struct {
	Name string    `json:"name"`
	Role jimu.Role `json:"role"`
	// UpstreamError says why the upstream entered with the setup was not added.
	UpstreamError string `json:"upstream_error,omitempty"`
}

func (s *Server) siteRoutes() {
	s.route("GET /api/site", Public(), reply(http.StatusOK, s.site), doc{summary: "What the site is"})
	s.route("POST /api/setup", SetupSecret(), accept(http.StatusCreated, s.setup), doc{
		summary: "Make the first owner with the secret of the setup link", codes: []jimu.Code{jimu.Conflict},
	})
	s.route("GET /api/openapi.json", Public(), raw(serveOpenAPI), doc{summary: "This document"})
	s.route("/api/", Public(), raw(func(*request) error {
		return jimu.Errorf(jimu.NotFound, "there is no such call; GET /api/openapi.json lists them")
	}), doc{})
}

func serveOpenAPI(q *request) error {
	q.w.Header().Set("Content-Type", "application/json")
	q.w.Header().Set("Cache-Control", "no-cache")
	_, _ = q.w.Write(openAPI)
	return nil
}

func (s *Server) site(q *request) (*Site, error) {
	needed, err := s.o.Identity.NeedsSetup(q.r.Context())
	if err != nil {
		return nil, err
	}
	return &Site{
		Name: "Jimu", Currency: s.o.Currency, Version: s.o.Version,
		SetupNeeded: needed, Demo: s.o.Demo(),
	}, nil
}

func (s *Server) setup(q *request, in *Setup) (*SignedIn, error) {
	if in.Upstream != nil {
		u, err := url.Parse(in.Upstream.BaseURL)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			return nil, &jimu.Error{Code: jimu.Invalid, Param: "upstream.base_url", Text: "the base URL must be a web address such as https://api.example.com/v1"}
		}
	}
	session, c, err := s.o.Identity.Setup(q.r.Context(), in.Secret, in.Name, in.Password)
	if err != nil {
		return nil, err
	}
	q.setSession(session)
	out := &SignedIn{Name: c.Name, Role: c.Role}
	if in.Upstream != nil {
		out.UpstreamError = s.addUpstream(q.r.Context(), q.id, in.Upstream)
	}
	return out, nil
}

// addUpstream adds the upstream of a setup. The owner is made by then, so a
// failure is told beside the success.
func (s *Server) addUpstream(ctx context.Context, id string, u *SetupUpstream) string {
	err := s.o.AddUpstream(ctx, *u)
	if err == nil {
		return ""
	}
	e := jimu.ErrorOf(err)
	if e.Code == jimu.Internal {
		s.o.Log.ErrorContext(ctx, "upstream of the setup not added", "request_id", id, "error", err)
	}
	return e.Text
}

package server

import (
	"net/http"

	"github.com/jimu-ai/jimu"
)

// Login begins a session.
type Login struct {
	Name     string `json:"name"`
	Password string `json:"password"`
}

// Passwords is a change of password.
type Passwords struct {
	Old string `json:"old"`
	New string `json:"new"`
}

// Me is the caller.
type Me struct {
	ID     string       `json:"id"`
	Name   string       `json:"name"`
	Role   jimu.Role    `json:"role"`
	Credit jimu.Balance `json:"credit"`
}

func (s *Server) sessionRoutes() {
	s.route("POST /api/session", Public(), accept(http.StatusCreated, s.login), doc{
		summary: "Sign in: begin a session", codes: []jimu.Code{jimu.Unauthorized, jimu.RateLimited},
	})
	s.route("DELETE /api/session", Session(jimu.RoleUser), reply(http.StatusNoContent, s.logout), doc{summary: "Sign out"})
	s.route("GET /api/me", KeyOrSession(), reply(http.StatusOK, s.me), doc{summary: "Who the caller is, and his credit"})
	s.route("PUT /api/me/password", Session(jimu.RoleUser), accept(http.StatusNoContent, s.setPassword), doc{
		summary: "Change the password; other sessions end", codes: []jimu.Code{jimu.RateLimited},
	})
}

func (s *Server) login(q *request, in *Login) (*SignedIn, error) {
	ctx := q.r.Context()
	session, c, err := s.o.Identity.Login(ctx, in.Name, in.Password, q.addr)
	if err != nil {
		return nil, err
	}
	// A session that the browser had before ends: it must not outlive the
	// login that replaces its cookie.
	if _, old := credential(q.r, q.secure); old != "" {
		if err := s.o.Identity.Logout(ctx, old); err != nil {
			return nil, err
		}
	}
	q.setSession(session)
	return &SignedIn{Name: c.Name, Role: c.Role}, nil
}

func (s *Server) logout(q *request) (none, error) {
	q.setSession("")
	return none{}, s.o.Identity.Logout(q.r.Context(), q.session)
}

func (s *Server) me(q *request) (*Me, error) {
	b, err := s.o.Ledger.Balance(q.r.Context(), q.caller.Account)
	if err != nil {
		return nil, err
	}
	return &Me{ID: q.user(), Name: q.caller.Name, Role: q.caller.Role, Credit: b}, nil
}

func (s *Server) setPassword(q *request, in *Passwords) (none, error) {
	return none{}, s.o.Identity.SetPassword(q.r.Context(), q.session, in.Old, in.New, q.addr)
}

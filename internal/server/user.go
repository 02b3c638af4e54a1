package server

import (
	"net/http"

	"github.com/jimu-ai/jimu"
)

// NewUser is a user to be made.
type NewUser struct {
	Name     string    `json:"name"`
	Role     jimu.Role `json:"role"`
	Password string    `json:"password"`
}

// UserChange is what to change of a user; what is left out stays.
type UserChange struct {
	Disabled *bool      `json:"disabled,omitempty"`
	Role     *jimu.Role `json:"role,omitempty"`
}

// ModelRow is a model that the caller may use.
type ModelRow struct {
	ID        string      `json:"id"`
	Demo      bool        `json:"demo"`       // served by the built-in demo upstream only
	Context   int64       `json:"context"`    // tokens that fit; 0 is unknown
	MaxOutput int64       `json:"max_output"` // tokens it can write; 0 is unknown
	Abilities []string    `json:"abilities"`
	Price     *ModelPrice `json:"price"` // credits per million tokens
}

// ModelPrice is the price of a model, in credits per million tokens.
type ModelPrice struct {
	In       jimu.Credit  `json:"in"`
	Out      jimu.Credit  `json:"out"`
	InCached *jimu.Credit `json:"in_cached,omitempty"`
}

func (s *Server) userRoutes() {
	s.route("GET /api/users", Session(jimu.RoleSupport), reply(http.StatusOK, s.users), doc{summary: "List users", query: paging()})
	s.route("POST /api/users", Session(jimu.RoleAdmin), accept(http.StatusCreated, s.createUser), doc{
		summary: "Make a user of a role below one's own; an owner may make any", codes: []jimu.Code{jimu.Conflict},
	})
	s.route("PATCH /api/users/{id}", Session(jimu.RoleAdmin), accept(http.StatusOK, s.updateUser), doc{
		summary: "Disable, enable, or give another role; the user's sessions end", codes: []jimu.Code{jimu.NotFound, jimu.Conflict},
	})
	s.route("GET /api/models", KeyOrSession(), reply(http.StatusOK, s.models), doc{summary: "List the models one may use"})
	s.route("GET /api/upstreams", Session(jimu.RoleAdmin), reply(http.StatusOK, s.upstreams), doc{summary: "List the upstreams and their health"})
}

func (s *Server) users(q *request) (*List[jimu.User], error) {
	cursor, limit, err := q.page()
	if err != nil {
		return nil, err
	}
	return list(s.o.Identity.Users(q.r.Context(), cursor, limit))
}

func (s *Server) createUser(q *request, in *NewUser) (*jimu.User, error) {
	return s.o.Identity.CreateUser(q.r.Context(), q.caller, in.Name, in.Role, in.Password)
}

func (s *Server) updateUser(q *request, in *UserChange) (*jimu.User, error) {
	id, err := q.pathID()
	if err != nil {
		return nil, err
	}
	return s.o.Identity.UpdateUser(q.r.Context(), q.caller, id, in.Disabled, in.Role)
}

func (s *Server) models(q *request) (*List[ModelRow], error) {
	models := s.o.Router.Models(q.caller)
	rows := make([]ModelRow, len(models))
	for i, m := range models {
		rows[i] = ModelRow{ID: m.ID, Demo: m.Demo, Abilities: []string{}}
		p := m.Price
		if p == nil {
			continue
		}
		rows[i].Context, rows[i].MaxOutput = p.Context, p.MaxOutput
		rows[i].Abilities = append(rows[i].Abilities, p.Abilities...)
		rows[i].Price = &ModelPrice{In: p.In, Out: p.Out, InCached: p.InCached}
	}
	return list(rows, "", nil)
}

func (s *Server) upstreams(*request) (*List[Upstream], error) {
	return list(s.o.Upstreams(), "", nil)
}

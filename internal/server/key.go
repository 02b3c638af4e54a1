package server

import (
	"net/http"
	"time"

	"github.com/jimu-ai/jimu"
)

// NewKey is a key to be made.
type NewKey struct {
	Name    string       `json:"name"`
	Models  []string     `json:"models,omitempty"`  // the models it may use; none means all
	Limit   *jimu.Credit `json:"limit,omitempty"`   // the most it may ever spend
	Expires *time.Time   `json:"expires,omitempty"` // when it ends
	Limits  jimu.Limits  `json:"limits,omitzero"`
}

// MadeKey is a new key, with the key itself.
type MadeKey struct {
	*jimu.Key
	Secret string `json:"key"` // the API key; it is shown this once
}

// List is a page of a list. Next is the cursor of the page after it, or "".
type List[T any] struct {
	Data []T    `json:"data"`
	Next string `json:"next"`
}

// list makes a page, with [] for nothing.
func list[T any](data []T, next string, err error) (*List[T], error) {
	if err != nil {
		return nil, err
	}
	if data == nil {
		data = []T{}
	}
	return &List[T]{Data: data, Next: next}, nil
}

func (s *Server) keyRoutes() {
	s.route("GET /api/keys", Session(jimu.RoleUser), reply(http.StatusOK, s.keys), doc{summary: "List one's keys", query: paging()})
	s.route("POST /api/keys", Session(jimu.RoleUser), accept(http.StatusCreated, s.createKey), doc{
		summary: "Make a key; it is shown once", query: []string{"Idempotency-Key"}, codes: []jimu.Code{jimu.Conflict},
	})
	s.route("DELETE /api/keys/{id}", Session(jimu.RoleUser), reply(http.StatusNoContent, s.revokeKey), doc{
		summary: "Revoke a key, within a second", codes: []jimu.Code{jimu.NotFound},
	})
}

func (s *Server) keys(q *request) (*List[jimu.Key], error) {
	cursor, limit, err := q.page()
	if err != nil {
		return nil, err
	}
	return list(s.o.Identity.Keys(q.r.Context(), q.user(), cursor, limit))
}

func (s *Server) createKey(q *request, in *NewKey) (*MadeKey, error) {
	once, err := q.once()
	if err != nil {
		return nil, err
	}
	k, secret, err := s.o.Identity.CreateKey(q.r.Context(), q.user(), &jimu.Key{
		Name: in.Name, Models: in.Models, Limit: in.Limit, Limits: in.Limits, Expires: in.Expires,
	}, once)
	if err != nil {
		return nil, err
	}
	return &MadeKey{Key: k, Secret: secret}, nil
}

func (s *Server) revokeKey(q *request) (none, error) {
	id, err := q.pathID()
	if err != nil {
		return none{}, err
	}
	return none{}, s.o.Identity.RevokeKey(q.r.Context(), q.user(), id)
}

package server

import (
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jimu-ai/jimu"
)

// UsageRow is one of the caller's requests: a [jimu.Record] without what
// concerns the operator only.
type UsageRow struct {
	Request     string         `json:"request"`
	At          time.Time      `json:"at"`
	Key         string         `json:"key,omitempty"`
	KeyName     string         `json:"key_name,omitempty"`
	Op          jimu.Operation `json:"op"`
	Model       string         `json:"model"`
	Stream      bool           `json:"stream,omitempty"`
	State       string         `json:"state"`
	Code        jimu.Code      `json:"code,omitempty"`
	Usage       jimu.Usage     `json:"usage"`
	Cost        jimu.Credit    `json:"cost"`
	Price       string         `json:"price,omitempty"`
	FirstMS     int64          `json:"first_ms,omitempty"` // until the first event
	TookMS      int64          `json:"took_ms"`
	Quarantined bool           `json:"quarantined,omitempty"`
}

// StatementRow is a movement of the caller's credit.
type StatementRow struct {
	Seq    int64          `json:"seq"`
	Kind   jimu.EntryKind `json:"kind"`
	Amount jimu.Credit    `json:"amount"` // below 0 where it was taken
	After  jimu.Credit    `json:"after"`
	Ref    string         `json:"ref"`
	At     time.Time      `json:"at"`
	Reason string         `json:"reason,omitempty"`
	Model  string         `json:"model,omitempty"`
	Usage  *jimu.Usage    `json:"usage,omitempty"`
}

// NewGrant is credit to be given.
type NewGrant struct {
	Amount jimu.Credit `json:"amount"`
	Reason string      `json:"reason"`
}

// Granted is the balance after a grant.
type Granted struct {
	Balance jimu.Credit `json:"balance"`
}

func (s *Server) creditRoutes() {
	s.route("GET /api/usage", KeyOrSession(), reply(http.StatusOK, s.usage), doc{summary: "List one's model requests, newest first", query: paging()})
	s.route("GET /api/statement", KeyOrSession(), reply(http.StatusOK, s.statement), doc{summary: "List the movements of one's credit, newest first", query: paging()})
	s.route("POST /api/users/{id}/grants", Session(jimu.RoleFinance), accept(http.StatusOK, s.grant), doc{
		summary: "Give a user credit", query: []string{"Idempotency-Key"}, codes: []jimu.Code{jimu.NotFound, jimu.Conflict},
	})
}

func (s *Server) usage(q *request) (*List[UsageRow], error) {
	cursor, limit, err := q.page()
	if err != nil {
		return nil, err
	}
	ctx := q.r.Context()
	records, next, err := s.o.Usage(ctx, q.user(), cursor, limit)
	if err != nil {
		return nil, err
	}
	names, err := s.o.Identity.KeyNames(ctx, q.user())
	if err != nil {
		return nil, err
	}
	rows := make([]UsageRow, len(records))
	for i := range records {
		r := &records[i]
		rows[i] = UsageRow{
			Request: r.Request, At: r.At, Key: r.Key, KeyName: names[r.Key], Op: r.Op, Model: r.Model, Stream: r.Stream,
			State: r.State, Code: r.Code, Usage: *withoutUpstream(&r.Usage), Cost: r.Cost, Price: r.Price,
			FirstMS: r.First.Milliseconds(), TookMS: r.Took.Milliseconds(), Quarantined: r.Quarantined,
		}
	}
	return list(rows, next, nil)
}

// withoutUpstream leaves out what the upstream charged, which is the
// operator's business.
func withoutUpstream(u *jimu.Usage) *jimu.Usage {
	if u == nil {
		return nil
	}
	c := *u
	c.UpstreamCost = 0
	return &c
}

func (s *Server) statement(q *request) (*List[StatementRow], error) {
	cursor, limit, err := q.page()
	if err != nil {
		return nil, err
	}
	var before int64
	if cursor != "" {
		if before, err = strconv.ParseInt(cursor, 10, 64); err != nil || before < 1 {
			return nil, errCursor()
		}
	}
	account := q.caller.Account
	entries, err := s.o.Ledger.Statement(q.r.Context(), account, before, limit)
	if err != nil {
		return nil, err
	}
	rows := make([]StatementRow, len(entries))
	for i := range entries {
		e := &entries[i]
		rows[i] = StatementRow{
			Seq: e.Seq, Kind: e.Kind, Amount: e.Amount, After: e.After, Ref: e.Ref, At: e.At,
			Reason: e.Reason, Model: e.Model, Usage: withoutUpstream(e.Usage),
		}
		if e.Debit == account {
			rows[i].Amount = -e.Amount
		}
	}
	next := ""
	if n := len(rows); n == limit && rows[n-1].Seq > 1 {
		next = strconv.FormatInt(rows[n-1].Seq, 10)
	}
	return list(rows, next, nil)
}

const maxReasonRunes = 200

func (s *Server) grant(q *request, in *NewGrant) (*Granted, error) {
	id, err := q.pathID()
	if err != nil {
		return nil, err
	}
	once, err := q.once()
	if err != nil {
		return nil, err
	}
	reason := strings.TrimSpace(in.Reason)
	if n := utf8.RuneCountInString(reason); n < 1 || n > maxReasonRunes {
		return nil, &jimu.Error{Code: jimu.Invalid, Param: "reason", Text: "say in 1 to 200 characters why the credit is given"}
	}
	if in.Amount <= 0 {
		return nil, &jimu.Error{Code: jimu.Invalid, Param: "amount", Text: "the amount must be above 0"}
	}
	ctx := q.r.Context()
	u, err := s.o.Identity.User(ctx, id)
	if err != nil {
		return nil, err
	}
	// The ref makes a repetition harmless. It holds who grants, so that two
	// people who choose the same key do not meet.
	ref := q.user() + ":" + once
	if once == "" {
		ref = jimu.NewID(s.o.Now())
	}
	account := jimu.UserAccount(u.ID)
	if _, err := s.o.Ledger.Grant(ctx, account, in.Amount, reason, ref); err != nil {
		return nil, err
	}
	b, err := s.o.Ledger.Balance(ctx, account)
	if err != nil {
		return nil, err
	}
	return &Granted{Balance: b.Balance}, nil
}

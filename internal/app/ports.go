package app

import (
	"context"
	"fmt"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/chat"
	"github.com/jimu-ai/jimu/internal/identity"
	"github.com/jimu-ai/jimu/internal/ledger"
	"github.com/jimu-ai/jimu/internal/relay"
	"github.com/jimu-ai/jimu/internal/server"
)

// The packages of internal do not know one another; each says what it needs.
// Here is what fits one to the other.

// relayLedger is the ledger as the relay needs it.
type relayLedger struct{ *ledger.Ledger }

func (l relayLedger) Hold(ctx context.Context, o *relay.Order) (relay.Hold, error) {
	h, err := l.Ledger.Hold(ctx, ledger.Order{Request: o.Request, Account: o.Account, Budget: o.Budget, Want: o.Want, Least: o.Least})
	if err != nil {
		return nil, err
	}
	return &relayHold{Hold: h, order: o}, nil
}

type relayHold struct {
	*ledger.Hold
	order *relay.Order
}

func (h *relayHold) Meter(cost jimu.Credit, u *jimu.Usage) {
	o := h.order
	h.Hold.Meter(&jimu.Charge{Request: o.Request, Cost: cost, Model: o.Model, Price: o.Price, Usage: *u, Began: o.Began})
}

// serverLedger is the ledger as the server needs it: whoever has seen an answer
// sees its charge too, though the commit may be some milliseconds behind.
type serverLedger struct{ *ledger.Ledger }

func (l serverLedger) Balance(ctx context.Context, account string) (jimu.Balance, error) {
	if err := l.Flush(ctx); err != nil {
		return jimu.Balance{}, err
	}
	return l.Ledger.Balance(ctx, account)
}

func (l serverLedger) Statement(ctx context.Context, account string, before int64, limit int) ([]jimu.Entry, error) {
	if err := l.Flush(ctx); err != nil {
		return nil, err
	}
	return l.Ledger.Statement(ctx, account, before, limit)
}

// chatModel answers the chat's turns through the relay, in process.
type chatModel struct{ relay *relay.Relay }

func (m chatModel) Stream(ctx context.Context, c *jimu.Caller, request string, body []byte, on func([]byte) error) (*jimu.Record, error) {
	return m.relay.Do(ctx, c, jimu.OpChat, request, body, on)
}

// serverChat is the chat as the server needs it.
type serverChat struct{ *chat.Service }

func (s serverChat) Start(ctx context.Context, c *jimu.Caller, conversation string, ask server.Ask) (*jimu.Turn, error) {
	return s.Service.Start(ctx, c, conversation, chat.Ask(ask))
}

func (s serverChat) Attach(ctx context.Context, user, id string, after int64) (server.Events, error) {
	r, err := s.Service.Attach(ctx, user, id, after)
	if err != nil {
		return nil, err
	}
	return turnEvents{r}, nil
}

type turnEvents struct{ r *chat.Reader }

func (t turnEvents) Next(ctx context.Context) (server.Event, error) {
	e, err := t.r.Next(ctx)
	return server.Event(e), err
}

// serverIdentity is identity as the server needs it. What changes who may call
// is in force on this replica when the call returns, and on the others within
// a second.
type serverIdentity struct {
	*identity.Identity
	app *App
}

func (i serverIdentity) Setup(ctx context.Context, secret, name, password string) (string, *jimu.Caller, error) {
	session, c, err := i.Identity.Setup(ctx, secret, name, password)
	if err != nil {
		return "", nil, err
	}
	if welcome := i.app.cfg.Load().WelcomeCredit; welcome > 0 {
		if _, err := i.app.ledger.Grant(ctx, c.Account, welcome, "welcome", "welcome:"+c.User); err != nil {
			return "", nil, fmt.Errorf("granting the owner's welcome credit: %w", err)
		}
	}
	return session, c, nil
}

func (i serverIdentity) UpdateUser(ctx context.Context, actor *jimu.Caller, id string, disabled *bool, role *jimu.Role) (*jimu.User, error) {
	u, err := i.Identity.UpdateUser(ctx, actor, id, disabled, role)
	if err != nil {
		return nil, err
	}
	return u, i.app.refresh(ctx)
}

func (i serverIdentity) CreateKey(ctx context.Context, user string, spec *jimu.Key, once string) (*jimu.Key, string, error) {
	k, secret, err := i.Identity.CreateKey(ctx, user, spec, once)
	if err != nil {
		return nil, "", err
	}
	return k, secret, i.app.refresh(ctx)
}

func (i serverIdentity) RevokeKey(ctx context.Context, user, id string) error {
	if err := i.Identity.RevokeKey(ctx, user, id); err != nil {
		return err
	}
	return i.app.refresh(ctx)
}

package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/jimu-ai/jimu"
)

// NewConversation begins a conversation.
type NewConversation struct {
	Title string `json:"title,omitempty"`
	Model string `json:"model,omitempty"`
}

// Title is a conversation's new title.
type Title struct {
	Title string `json:"title"`
}

// Thread is a conversation with its turns.
type Thread struct {
	*jimu.Conversation
	Turns []jimu.Turn `json:"turns"`
}

func (s *Server) chatRoutes() {
	user := Session(jimu.RoleUser)
	absent := []jimu.Code{jimu.NotFound}
	s.route("GET /api/conversations", user, reply(http.StatusOK, s.conversations), doc{summary: "List one's conversations, the last used first", query: paging()})
	s.route("POST /api/conversations", user, accept(http.StatusCreated, s.createConversation), doc{summary: "Begin a conversation"})
	s.route("GET /api/conversations/{id}", user, reply(http.StatusOK, s.conversation), doc{summary: "A conversation with its turns", codes: absent})
	s.route("PATCH /api/conversations/{id}", user, accept(http.StatusOK, s.renameConversation), doc{summary: "Rename a conversation", codes: absent})
	s.route("DELETE /api/conversations/{id}", user, reply(http.StatusNoContent, s.deleteConversation), doc{summary: "Delete a conversation", codes: absent})
	s.route("POST /api/conversations/{id}/turns", user, accept(http.StatusCreated, s.startTurn), doc{
		summary: "Ask a model; the answer comes by the turn's events",
		codes:   []jimu.Code{jimu.NotFound, jimu.Conflict, jimu.NoCredit, jimu.RateLimited, jimu.Overloaded},
	})
	s.route("GET /api/turns/{id}", user, reply(http.StatusOK, s.turn), doc{summary: "A turn as it is now", codes: absent})
	s.route("GET /api/turns/{id}/events", user, raw(s.turnEvents), doc{
		summary: "Follow a turn as server-sent events", query: []string{"after"}, codes: absent,
	})
	s.route("POST /api/turns/{id}/stop", user, reply(http.StatusOK, s.stopTurn), doc{summary: "Stop a turn; what came is kept", codes: absent})
}

func (s *Server) conversations(q *request) (*List[jimu.Conversation], error) {
	cursor, limit, err := q.page()
	if err != nil {
		return nil, err
	}
	return list(s.o.Chat.List(q.r.Context(), q.user(), cursor, limit))
}

func (s *Server) createConversation(q *request, in *NewConversation) (*jimu.Conversation, error) {
	return s.o.Chat.Create(q.r.Context(), q.user(), in.Title, in.Model)
}

func (s *Server) conversation(q *request) (*Thread, error) {
	id, err := q.pathID()
	if err != nil {
		return nil, err
	}
	c, turns, err := s.o.Chat.Get(q.r.Context(), q.user(), id)
	if err != nil {
		return nil, err
	}
	if turns == nil {
		turns = []jimu.Turn{}
	}
	return &Thread{Conversation: c, Turns: turns}, nil
}

func (s *Server) renameConversation(q *request, in *Title) (*jimu.Conversation, error) {
	id, err := q.pathID()
	if err != nil {
		return nil, err
	}
	return s.o.Chat.Rename(q.r.Context(), q.user(), id, in.Title)
}

func (s *Server) deleteConversation(q *request) (none, error) {
	id, err := q.pathID()
	if err != nil {
		return none{}, err
	}
	return none{}, s.o.Chat.Delete(q.r.Context(), q.user(), id)
}

func (s *Server) startTurn(q *request, in *Ask) (*jimu.Turn, error) {
	id, err := q.pathID()
	if err != nil {
		return nil, err
	}
	return s.o.Chat.Start(q.r.Context(), q.caller, id, *in)
}

func (s *Server) turn(q *request) (*jimu.Turn, error) {
	id, err := q.pathID()
	if err != nil {
		return nil, err
	}
	return s.o.Chat.Turn(q.r.Context(), q.user(), id)
}

func (s *Server) stopTurn(q *request) (*jimu.Turn, error) {
	id, err := q.pathID()
	if err != nil {
		return nil, err
	}
	return s.o.Chat.Stop(q.r.Context(), q.user(), id)
}

const (
	pingEvery   = 15 * time.Second // proxies end what is silent for a minute
	eventsWrite = 30 * time.Second // a client that takes nothing for so long has gone
)

// turnEvents streams a turn. It ends after the turn, when the client goes, or
// when the server drains; the client attaches again with the last offset.
func (s *Server) turnEvents(q *request) error {
	id, err := q.pathID()
	if err != nil {
		return err
	}
	after, err := q.after()
	if err != nil {
		return err
	}
	events, err := s.o.Chat.Attach(q.r.Context(), q.user(), id, after)
	if err != nil {
		return err
	}
	h := q.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx
	q.w.WriteHeader(http.StatusOK)
	ctx, cancel := context.WithCancel(q.r.Context())
	defer cancel()
	err = s.pump(ctx, q.w, follow(ctx, events))
	if err != nil && ctx.Err() == nil {
		s.o.Log.WarnContext(ctx, "turn's events broke off", "request_id", q.id, "error", err)
	}
	return nil
}

// after is the offset to go on from: what the browser saw last, or the one of
// the address.
func (q *request) after() (int64, error) {
	v := q.r.Header.Get("Last-Event-ID")
	if v == "" {
		v = q.r.URL.Query().Get("after")
	}
	if v == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 {
		return 0, &jimu.Error{Code: jimu.Invalid, Param: "after", Text: "after must be the id of an event of this turn, or 0"}
	}
	return n, nil
}

// next is an event, or why there is none.
type next struct {
	Event
	err error
}

// follow reads events until the first error, in a goroutine that ends with
// ctx, so that the writer can wait for other things too.
func follow(ctx context.Context, events Events) <-chan next {
	ch := make(chan next)
	go func() {
		defer close(ch)
		for {
			e, err := events.Next(ctx)
			select {
			case ch <- next{e, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return ch
}

// pump writes events as they come, and a comment while there are none.
func (s *Server) pump(ctx context.Context, w http.ResponseWriter, events <-chan next) error {
	rc := http.NewResponseController(w)
	defer func() { _ = rc.SetWriteDeadline(time.Time{}) }()
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	for {
		if err := rc.Flush(); err != nil {
			return fmt.Errorf("flushing events: %w", err)
		}
		var frame []byte
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.drain:
			return nil
		case <-ping.C:
			frame = []byte(": ping\n\n")
		case e, ok := <-events:
			if !ok || errors.Is(e.err, io.EOF) {
				return nil
			}
			if e.err != nil {
				return e.err
			}
			frame = fmt.Appendf(nil, "id: %d\nevent: %s\ndata: %s\n\n", e.ID, e.Kind, e.Data)
		}
		_ = rc.SetWriteDeadline(time.Now().Add(eventsWrite)) // not all writers have deadlines
		if _, err := w.Write(frame); err != nil {
			return fmt.Errorf("writing events: %w", err)
		}
	}
}

package chat_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/chat"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a store without a disk; what SQL does is proven in storetest.
type memory struct {
	mu    sync.Mutex
	convs map[string]*jimu.Conversation
	turns map[string]*row
	saves int
	fail  int // so many times FinishTurn fails
}

type row struct {
	jimu.Turn
	replaced, stop bool
	saved          time.Time
}

func newMemory() *memory {
	return &memory{convs: map[string]*jimu.Conversation{}, turns: map[string]*row{}}
}

func (m *memory) lock() func() { m.mu.Lock(); return m.mu.Unlock }

func (m *memory) Conversations(_ context.Context, user, _ string, _ int) (cs []jimu.Conversation, _ string, _ error) {
	defer m.lock()()
	for _, c := range m.convs {
		if c.User == user {
			cs = append(cs, *c)
		}
	}
	return cs, "", nil
}

func (m *memory) Conversation(_ context.Context, user, id string) (*jimu.Conversation, error) {
	defer m.lock()()
	if c := m.convs[id]; c != nil && c.User == user {
		one := *c
		return &one, nil
	}
	return nil, jimu.Errorf(jimu.NotFound, "no conversation")
}

func (m *memory) CreateConversation(_ context.Context, c *jimu.Conversation) error {
	defer m.lock()()
	one := *c
	m.convs[c.ID] = &one
	return nil
}

func (m *memory) RenameConversation(ctx context.Context, user, id, title string) error {
	if _, err := m.Conversation(ctx, user, id); err != nil {
		return err
	}
	defer m.lock()()
	m.convs[id].Title = title
	return nil
}

func (m *memory) DeleteConversation(ctx context.Context, user, id string) error {
	if _, err := m.Conversation(ctx, user, id); err != nil {
		return err
	}
	defer m.lock()()
	delete(m.convs, id)
	maps.DeleteFunc(m.turns, func(_ string, r *row) bool { return r.Conversation == id })
	return nil
}

func (m *memory) Turns(_ context.Context, user, conversation string) (ts []jimu.Turn, _ error) {
	defer m.lock()()
	for _, r := range m.turns {
		if r.User == user && r.Conversation == conversation && !r.replaced {
			ts = append(ts, r.Turn)
		}
	}
	slices.SortFunc(ts, func(a, b jimu.Turn) int { return a.Created.Compare(b.Created) })
	return ts, nil
}

func (m *memory) Turn(_ context.Context, user, id string) (*jimu.Turn, error) {
	defer m.lock()()
	if r := m.turns[id]; r != nil && r.User == user {
		t := r.Turn
		return &t, nil
	}
	return nil, jimu.Errorf(jimu.NotFound, "no turn")
}

func (m *memory) CreateTurn(ctx context.Context, t *jimu.Turn, replaces, title string) error {
	before, _ := m.Turns(ctx, t.User, t.Conversation)
	defer m.lock()()
	for _, b := range before {
		if b.State == jimu.TurnRunning {
			return jimu.Errorf(jimu.Conflict, "one runs")
		}
	}
	c := m.convs[t.Conversation]
	if c.Title == "" {
		c.Title = title
	}
	c.Model = t.Model
	if replaces != "" {
		m.turns[replaces].replaced = true
	}
	m.turns[t.ID] = &row{Turn: *t, saved: t.Created}
	return nil
}

func (m *memory) SaveTurn(_ context.Context, t *jimu.Turn, now time.Time) (bool, error) {
	defer m.lock()()
	m.saves++
	r := m.turns[t.ID]
	if r == nil {
		return true, nil
	}
	r.Turn, r.saved = *t, now
	return r.stop, nil
}

func (m *memory) FinishTurn(_ context.Context, t *jimu.Turn) error {
	defer m.lock()()
	if m.fail > 0 {
		m.fail--
		return errors.New("disk full")
	}
	if r := m.turns[t.ID]; r != nil {
		r.Turn = *t
	}
	return nil
}

func (m *memory) AskStop(_ context.Context, user, id string) error {
	defer m.lock()()
	if r := m.turns[id]; r != nil && r.User == user {
		r.stop = true
	}
	return nil
}

func (m *memory) InterruptTurns(_ context.Context, before time.Time) error {
	defer m.lock()()
	for _, r := range m.turns {
		if r.State == jimu.TurnRunning && r.saved.Before(before) {
			r.State = jimu.TurnInterrupted
		}
	}
	return nil
}

// model is a model that says what the test tells it to.
type model struct {
	mu     sync.Mutex
	bodies [][]byte
	answer func(ctx context.Context, on func(string) error) (*jimu.Record, error)
}

func (m *model) Stream(ctx context.Context, _ *jimu.Caller, _ string, body []byte, on func([]byte) error) (*jimu.Record, error) {
	m.mu.Lock()
	m.bodies = append(m.bodies, body)
	m.mu.Unlock()
	return m.answer(ctx, func(s string) error { return on([]byte(s)) })
}

// last returns the messages of the last request, as "role: text".
func (m *model) last(t *testing.T) []string {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	var req struct {
		Model    string
		Stream   bool
		Messages []struct{ Role, Content string }
	}
	if err := json.Unmarshal(m.bodies[len(m.bodies)-1], &req); err != nil || !req.Stream {
		t.Fatalf("request %s: %v", m.bodies[len(m.bodies)-1], err)
	}
	out := []string{req.Model}
	for _, v := range req.Messages {
		out = append(out, v.Role+": "+v.Content)
	}
	return out
}

func delta(key, text string) string {
	b, _ := json.Marshal(map[string]any{"choices": []any{map[string]any{"delta": map[string]string{key: text}}}})
	return string(b)
}

func say(text string) string   { return delta("content", text) }
func think(text string) string { return delta("reasoning_content", text) }

var billed = jimu.Record{State: jimu.StateOK, Cost: 42, Usage: jimu.Usage{InText: 3, OutText: 5, OutReasoning: 2}}

func ok() (*jimu.Record, error) { r := billed; return &r, nil }

// says makes a model that says these events and ends.
func says(events ...string) *model {
	return &model{answer: func(_ context.Context, on func(string) error) (*jimu.Record, error) {
		for _, e := range events {
			if err := on(e); err != nil {
				return nil, err
			}
		}
		return ok()
	}}
}

// fed makes a model that says what the channel gives, until it is closed or
// the turn ends.
func fed(events <-chan string) *model {
	return &model{answer: func(ctx context.Context, on func(string) error) (*jimu.Record, error) {
		for {
			select {
			case e, more := <-events:
				if !more {
					return ok()
				}
				if err := on(e); err != nil {
					return nil, err
				}
			case <-ctx.Done():
				r := billed
				r.State = jimu.StateCancelled
				return &r, ctx.Err()
			}
		}
	}}
}

func service(store chat.Store, m chat.Model) *chat.Service {
	return chat.New(chat.Options{
		Store: store, Model: m, Log: slog.New(slog.DiscardHandler), Now: time.Now,
		Window: func(string) (int64, int64) { return 0, 0 },
	})
}

var ann = &jimu.Caller{User: "ann"}

// begin begins a conversation with a text.
func begin(t *testing.T, s *chat.Service, text string) *jimu.Turn {
	t.Helper()
	c, err := s.Create(t.Context(), "ann", "", "m")
	if err != nil {
		t.Fatal(err)
	}
	turn, err := s.Start(t.Context(), ann, c.ID, chat.Ask{Text: text})
	if err != nil {
		t.Fatal(err)
	}
	return turn
}

// got is what a reader received.
type got struct {
	texts   map[string]string
	linear  string // all in the order received
	events  int
	lastID  int64
	done    *jimu.Turn
	biggest int
}

// follow reads events until the turn is done, or until so many bytes came.
func follow(t *testing.T, s *chat.Service, id string, after, until int64) got {
	t.Helper()
	g := got{texts: map[string]string{}, lastID: after}
	r, err := s.Attach(t.Context(), "ann", id, after)
	if err != nil {
		t.Fatal(err)
	}
	for until < 0 || g.lastID < until {
		e, err := r.Next(t.Context())
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == "done" {
			g.done = new(jimu.Turn)
			if err := json.Unmarshal(e.Data, g.done); err != nil {
				t.Fatal(err)
			}
			continue
		}
		var v struct{ Text string }
		if err := json.Unmarshal(e.Data, &v); err != nil {
			t.Fatal(err)
		}
		g.events++
		g.texts[e.Kind] += v.Text
		g.linear += v.Text
		g.biggest = max(g.biggest, len(v.Text))
		if e.ID <= g.lastID && e.ID < after {
			t.Errorf("offset %d after %d", e.ID, g.lastID)
		}
		g.lastID = e.ID
	}
	return g
}

func finished(t *testing.T, s *chat.Service, id string) *jimu.Turn {
	t.Helper()
	g := follow(t, s, id, 0, -1)
	if g.done == nil {
		t.Fatal("no done event")
	}
	turn, err := s.Turn(t.Context(), "ann", id)
	if err != nil {
		t.Fatal(err)
	}
	return turn
}

func drain(t *testing.T, s *chat.Service) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Drain(ctx); err != nil {
		t.Error(err)
	}
}

func is(t *testing.T, err error, code jimu.Code) {
	t.Helper()
	if err == nil || jimu.ErrorOf(err).Code != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

func lines(s ...string) string { return strings.Join(s, "\n") }

// Package chat keeps conversations and answers their turns, for the web page
// and for every channel alike.
//
// A turn belongs to the server: it is written down before the model is asked,
// it runs on when its reader goes away, any number of readers may follow it
// from any offset, and only its user's stop, the model's end or the end of the
// process ends it. Read turn.go for its life, log.go for how it is followed,
// prompt.go for what the model is sent.
package chat

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jimu-ai/jimu"
)

// Model answers. The relay is one.
type Model interface {
	// Stream asks with a chat completion request of the OpenAI dialect and calls
	// on with the data of each event. It stops when on returns an error or ctx
	// ends, and bills what was delivered. The record may be nil with an error.
	Stream(ctx context.Context, caller *jimu.Caller, request string, body []byte, on func(event []byte) error) (*jimu.Record, error)
}

// Store keeps conversations. Every look-up names the owner, and what is
// somebody else's is [jimu.NotFound].
type Store interface {
	// Conversations lists a user's, the last used first, a page at a time.
	Conversations(ctx context.Context, user, cursor string, limit int) (cs []jimu.Conversation, next string, err error)
	Conversation(ctx context.Context, user, id string) (*jimu.Conversation, error)
	CreateConversation(ctx context.Context, c *jimu.Conversation) error
	RenameConversation(ctx context.Context, user, id, title string) error
	// DeleteConversation deletes its turns too.
	DeleteConversation(ctx context.Context, user, id string) error

	// Turns lists those of a conversation that were not replaced, oldest first.
	Turns(ctx context.Context, user, conversation string) ([]jimu.Turn, error)
	Turn(ctx context.Context, user, id string) (*jimu.Turn, error)
	// CreateTurn adds a running turn to a conversation that has none, and gives
	// a conversation without a title this one. The turn that it replaces, if
	// not "", must be the last.
	CreateTurn(ctx context.Context, t *jimu.Turn, replaces, title string) error
	// SaveTurn keeps what a running turn has so far. It reports whether the turn
	// is to stop: it was asked to, or is deleted.
	SaveTurn(ctx context.Context, t *jimu.Turn, now time.Time) (stop bool, err error)
	// FinishTurn keeps how a turn ended. A deleted one is passed over.
	FinishTurn(ctx context.Context, t *jimu.Turn) error
	// AskStop asks whichever process runs a turn to stop it.
	AskStop(ctx context.Context, user, id string) error
	// InterruptTurns marks running turns as interrupted that were last saved
	// before a time: their process is gone.
	InterruptTurns(ctx context.Context, before time.Time) error
}

// Options are what a service works with.
type Options struct {
	Store Store
	Model Model
	// Window tells how many tokens fit into a model and how many it can write;
	// 0 is unknown.
	Window func(model string) (context, maxOutput int64)
	Log    *slog.Logger
	Now    func() time.Time
	// Exclusive says that no other process answers turns of this store, so that
	// whatever runs at the start is an orphan.
	Exclusive bool
}

// Service keeps conversations and answers turns.
type Service struct {
	o Options

	mu       sync.Mutex
	running  map[string]*live // by turn ID
	perUser  map[string]int
	draining bool
	turns    sync.WaitGroup
}

// New makes a service.
func New(o Options) *Service {
	return &Service{o: o, running: map[string]*live{}, perUser: map[string]int{}}
}

// Limits.
const (
	maxText       = 100_000 // runes of what a user writes in one turn
	maxTitle      = 120     // runes
	autoTitle     = 60      // runes of a title made of the first text
	maxPerUser    = 4       // turns of one user that run at once in this process
	maxTurns      = 1000    // turns of one conversation
	maxAnswer     = 4 << 20 // bytes of one turn's reasoning and answer
	savePeriod    = time.Second
	beatEvery     = 5 // periods after which a silent turn is saved too
	orphanAge     = 30 * time.Second
	finishTries   = 4
	finishTimeout = 10 * time.Second
	maxTurnTime   = 30 * time.Minute
	defaultPage   = 50
	maxPage       = 100
)

// Recover marks the turns that a dead process left running as interrupted. It
// is called before the service is used, and again from time to time where
// other processes share the store.
func (s *Service) Recover(ctx context.Context) error {
	before := s.o.Now().Add(-orphanAge)
	if s.o.Exclusive {
		before = s.o.Now()
	}
	return s.o.Store.InterruptTurns(ctx, before)
}

// List lists a user's conversations, the last used first, a page at a time:
// next is the cursor of the page after, or "".
func (s *Service) List(ctx context.Context, user, cursor string, limit int) (cs []jimu.Conversation, next string, err error) {
	if limit <= 0 {
		limit = defaultPage
	}
	return s.o.Store.Conversations(ctx, user, cursor, min(limit, maxPage))
}

// Create begins a conversation. Without a title it gets one of its first text.
func (s *Service) Create(ctx context.Context, user, title, model string) (*jimu.Conversation, error) {
	if title != "" {
		var err error
		if title, err = cleanTitle(title); err != nil {
			return nil, err
		}
	}
	now := s.o.Now().UTC().Truncate(time.Microsecond)
	c := &jimu.Conversation{ID: jimu.NewID(now), User: user, Title: title, Model: model, Created: now, Updated: now}
	if err := s.o.Store.CreateConversation(ctx, c); err != nil {
		return nil, err
	}
	return c, nil
}

// Get returns a conversation and its turns, oldest first. A running turn holds
// what it has so far.
func (s *Service) Get(ctx context.Context, user, id string) (*jimu.Conversation, []jimu.Turn, error) {
	c, err := s.o.Store.Conversation(ctx, user, id)
	if err != nil {
		return nil, nil, err
	}
	turns, err := s.turnsOf(ctx, user, id)
	return c, turns, err
}

func (s *Service) turnsOf(ctx context.Context, user, id string) ([]jimu.Turn, error) {
	turns, err := s.o.Store.Turns(ctx, user, id)
	if err != nil {
		return nil, err
	}
	for i := range turns {
		if turns[i].State != jimu.TurnRunning {
			continue
		}
		now, err := s.Turn(ctx, user, turns[i].ID)
		if err != nil {
			return nil, err
		}
		turns[i] = *now
	}
	return turns, nil
}

// Rename gives a conversation another title.
func (s *Service) Rename(ctx context.Context, user, id, title string) (*jimu.Conversation, error) {
	title, err := cleanTitle(title)
	if err != nil {
		return nil, err
	}
	if err := s.o.Store.RenameConversation(ctx, user, id, title); err != nil {
		return nil, err
	}
	return s.o.Store.Conversation(ctx, user, id)
}

// Delete stops what runs in a conversation and deletes it with its turns.
func (s *Service) Delete(ctx context.Context, user, id string) error {
	for _, l := range s.livesOf(user, id) {
		l.cancel(errStopped)
		select {
		case <-l.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return s.o.Store.DeleteConversation(ctx, user, id)
}

func (s *Service) livesOf(user, conversation string) []*live {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*live
	for _, l := range s.running {
		if l.turn.User == user && l.turn.Conversation == conversation {
			out = append(out, l)
		}
	}
	return out
}

// live returns a user's turn that this process runs, or nil.
func (s *Service) live(user, id string) *live {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.running[id]; l != nil && l.turn.User == user {
		return l
	}
	return nil
}

// Turn returns a turn as it is now.
func (s *Service) Turn(ctx context.Context, user, id string) (*jimu.Turn, error) {
	if l := s.live(user, id); l != nil {
		return l.snapshot(s.o.Now()), nil
	}
	t, err := s.o.Store.Turn(ctx, user, id)
	if err != nil || t.State != jimu.TurnRunning {
		return t, err
	}
	// Another process runs it, or none does any more.
	if err := s.o.Store.InterruptTurns(ctx, s.o.Now().Add(-orphanAge)); err != nil {
		return nil, err
	}
	return s.o.Store.Turn(ctx, user, id)
}

// Stop stops a turn and returns it as it is then: what was delivered is kept
// and billed. A turn that has ended is returned as it is.
func (s *Service) Stop(ctx context.Context, user, id string) (*jimu.Turn, error) {
	if l := s.live(user, id); l != nil {
		l.cancel(errStopped)
		select {
		case <-l.done:
			return l.log.ended(), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	t, err := s.Turn(ctx, user, id)
	if err != nil || t.State != jimu.TurnRunning {
		return t, err
	}
	if err := s.o.Store.AskStop(ctx, user, id); err != nil {
		return nil, err
	}
	return s.awaitStop(ctx, user, id)
}

// awaitStop waits for the process that runs a turn to see that it is to stop.
func (s *Service) awaitStop(ctx context.Context, user, id string) (*jimu.Turn, error) {
	tick := time.NewTicker(savePeriod / 4)
	defer tick.Stop()
	end := s.o.Now().Add(5 * savePeriod)
	for {
		t, err := s.Turn(ctx, user, id)
		if err != nil || t.State != jimu.TurnRunning || s.o.Now().After(end) {
			return t, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Drain takes no more turns and waits for those that run. When ctx ends they
// are interrupted, and what they have is saved.
func (s *Service) Drain(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	idle := make(chan struct{})
	go func() {
		s.turns.Wait()
		close(idle)
	}()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	for _, l := range s.running {
		l.cancel(errInterrupted)
	}
	s.mu.Unlock()
	<-idle // each ends at once, and saves within finishTries × finishTimeout
	return nil
}

// cleanTitle checks a title that a user wrote.
func cleanTitle(title string) (string, error) {
	title = clean(strings.TrimSpace(title))
	bad := slices.ContainsFunc([]rune(title), unicode.IsControl)
	if n := utf8.RuneCountInString(title); n == 0 || n > maxTitle || bad {
		return "", &jimu.Error{Code: jimu.Invalid, Param: "title", Text: "a title is one line of 1 to 120 characters"}
	}
	return title, nil
}

// titleOf makes a title of the first words of a text.
func titleOf(text string) string {
	words := strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
	runes := []rune(words)
	if len(runes) <= autoTitle {
		return words
	}
	runes = runes[:autoTitle-1]
	if i := strings.LastIndexByte(string(runes), ' '); i > len(string(runes))/2 {
		return string(runes)[:i] + "…"
	}
	return string(runes) + "…"
}

// clean makes a text that every database takes: valid UTF-8 without NUL.
func clean(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	return strings.ReplaceAll(s, "\x00", "\uFFFD")
}

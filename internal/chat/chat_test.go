package chat_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/chat"
	"github.com/jimu-ai/jimu/internal/store"
	"github.com/jimu-ai/jimu/internal/store/storetest"
)

// A turn on the real store: asked, answered, kept, billed.
func TestAnswer(t *testing.T) {
	t.Parallel()
	m := says(`{"choices":[{"delta":{"role":"assistant","content":null}}]}`, think("hm"), think("m…"), say("积"), say("木!"),
		`{"choices":[{"delta":{},"finish_reason":"stop"}]}`, `{"choices":[],"usage":{}}`, "[DONE]", "not JSON")
	s := service(store.NewChat(storetest.Open(t, "")), m)
	turn := begin(t, s, "  What is\n\tthis? ")
	if turn.State != jimu.TurnRunning || turn.Model != "m" || turn.Request == "" {
		t.Errorf("started: %+v", turn)
	}
	g := follow(t, s, turn.ID, 0, -1)
	want := *turn
	want.Reasoning, want.Answer, want.State = "hmm…", "积木!", jimu.TurnDone
	want.Usage, want.Cost = &jimu.TurnUsage{In: 3, Out: 7}, 42
	want.User, want.TookMS = "", g.done.TookMS
	if d := cmp.Diff(&want, g.done); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string]string{"reasoning": "hmm…", "text": "积木!"}, g.texts); d != "" {
		t.Error(d)
	}
	c, turns, err := s.Get(t.Context(), "ann", turn.Conversation)
	if err != nil || len(turns) != 1 || turns[0].Answer != "积木!" || c.Title != "What is this?" || c.Model != "m" {
		t.Errorf("%+v, %+v, %v", c, turns, err)
	}
	if d := cmp.Diff([]string{"m", "user:   What is\n\tthis? "}, m.last(t)); d != "" {
		t.Error(d)
	}
	drain(t, s)
}

// The client that began a turn goes away: the turn runs on.
func TestDisconnectDoesNotCancel(t *testing.T) {
	t.Parallel()
	feed := make(chan string)
	s := service(newMemory(), fed(feed))
	c, err := s.Create(t.Context(), "ann", "", "m")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	turn, err := s.Start(ctx, ann, c.ID, chat.Ask{Text: "hi"})
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Attach(ctx, "ann", turn.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	feed <- say("one ")
	if e, err := r.Next(ctx); err != nil || e.ID != 4 {
		t.Fatalf("%+v, %v", e, err)
	}
	cancel()
	if _, err := r.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a reader that went away: %v", err)
	}
	feed <- say("two")
	close(feed)
	if got := finished(t, s, turn.ID); got.State != jimu.TurnDone || got.Answer != "one two" {
		t.Errorf("%+v", got)
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	feed := make(chan string)
	s := service(newMemory(), fed(feed))
	turn := begin(t, s, "hi")
	feed <- say("half an ans")
	got, err := s.Stop(t.Context(), "ann", turn.ID)
	if err != nil || got.State != jimu.TurnStopped || got.Answer != "half an ans" || got.Cost != 42 || got.Error != nil || got.Usage == nil {
		t.Errorf("%+v, %v", got, err)
	}
	again, err := s.Stop(t.Context(), "ann", turn.ID)
	if d := cmp.Diff(got, again); d != "" || err != nil {
		t.Errorf("stopped again: %s %v", d, err)
	}
	g := follow(t, s, turn.ID, 5, -1)
	if g.linear != "an ans" || g.done.State != jimu.TurnStopped {
		t.Errorf("%+v", g)
	}
}

// Two processes share a store: a turn is followed, and stopped, from the one
// that does not run it.
func TestOtherProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, feed := newMemory(), make(chan string)
		here, there := service(m, fed(feed)), service(m, says())
		turn := begin(t, here, "hi")
		feed <- think("hmm ")
		var g got
		var wg sync.WaitGroup
		wg.Go(func() { g = follow(t, there, turn.ID, 2, -1) })
		time.Sleep(3 * time.Second) //nolint:forbidigo // the bubble's clock
		feed <- say("so ")
		time.Sleep(40 * time.Second) //nolint:forbidigo // long silent, but alive
		feed <- think("or")
		if now, err := there.Turn(t.Context(), "ann", turn.ID); err != nil || now.State != jimu.TurnRunning {
			t.Errorf("a silent turn: %+v, %v", now, err)
		}
		stopped, err := there.Stop(t.Context(), "ann", turn.ID)
		if err != nil || stopped.State != jimu.TurnStopped {
			t.Errorf("stopped: %+v, %v", stopped, err)
		}
		wg.Wait()
		if g.linear != "m so or" || g.done.State != jimu.TurnStopped {
			t.Errorf("%+v", g)
		}
	})
}

// A process dies in the middle: what was saved is kept, and the turn is
// interrupted, not running for ever.
func TestRestart(t *testing.T) {
	t.Parallel()
	for _, exclusive := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			m, feed := newMemory(), make(chan string)
			dead := service(m, fed(feed))
			turn := begin(t, dead, "hi")
			feed <- think("a")
			feed <- say("b")
			feed <- think("c")
			time.Sleep(2 * time.Second) //nolint:forbidigo // until it is saved
			m.mu.Lock()
			orphan := *m.turns[turn.ID]
			m.mu.Unlock()
			feed <- say("lost")
			drain(t, dead)
			m.turns[turn.ID] = &orphan
			if !exclusive {
				time.Sleep(31 * time.Second) //nolint:forbidigo // the other process shows no life
			}
			next := chat.New(chat.Options{Store: m, Model: says(say("again")), Now: time.Now, Exclusive: exclusive, Window: func(string) (int64, int64) { return 0, 0 }})
			if err := next.Recover(t.Context()); err != nil {
				t.Fatal(err)
			}
			g := follow(t, next, turn.ID, 1, -1)
			if g.linear != "bc" || g.done.State != jimu.TurnInterrupted || g.done.Reasoning != "ac" || g.done.Answer != "b" {
				t.Errorf("%+v", g)
			}
			re, err := next.Start(t.Context(), ann, turn.Conversation, chat.Ask{Regenerate: turn.ID})
			if err != nil {
				t.Fatal(err)
			}
			if got := finished(t, next, re.ID); got.Answer != "again" || got.Text != "hi" {
				t.Errorf("%+v", got)
			}
			_, turns, err := next.Get(t.Context(), "ann", turn.Conversation)
			if err != nil || len(turns) != 1 || turns[0].ID != re.ID {
				t.Errorf("after regenerating: %+v, %v", turns, err)
			}
		})
	}
}

// Deltas of a millisecond's pace reach a reader at 25 ms' pace, and the store
// once a second.
func TestPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		s := service(m, &model{answer: func(_ context.Context, on func(string) error) (*jimu.Record, error) {
			for range 10_000 {
				time.Sleep(time.Millisecond) //nolint:forbidigo // the bubble's clock
				if err := on(say("x")); err != nil {
					return nil, err
				}
			}
			return ok()
		}})
		turn := begin(t, s, "hi")
		g := follow(t, s, turn.ID, 0, -1)
		if len(g.linear) != 10_000 || g.events < 350 || g.events > 402 || g.biggest > 30 {
			t.Errorf("%d bytes in %d events, of %d bytes at most", len(g.linear), g.events, g.biggest)
		}
		if m.saves < 9 || m.saves > 11 {
			t.Errorf("saved %d times in 10 s", m.saves)
		}
		if late := follow(t, s, turn.ID, 0, -1); late.events != 1 || len(late.linear) != 10_000 {
			t.Errorf("caught up in %d events", late.events)
		}
	})
}

// A reader that does not read holds nobody up, and is caught up at the end.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	const pieces = 2000
	piece := strings.Repeat("é", 500)
	var events []string
	for range pieces {
		events = append(events, say(piece))
	}
	feed := make(chan string)
	s := service(newMemory(), fed(feed))
	turn := begin(t, s, "hi")
	feed <- say("first")
	slow, err := s.Attach(t.Context(), "ann", turn.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := slow.Next(t.Context()); err != nil || e.ID != 5 {
		t.Fatalf("%+v, %v", e, err)
	}
	for _, e := range events {
		feed <- e
	}
	close(feed)
	done := finished(t, s, turn.ID) // while slow has not read a byte more
	e, err := slow.Next(t.Context())
	if err != nil || e.ID != int64(5+len(piece)*pieces) || len(e.Data) < len(piece)*pieces {
		t.Errorf("caught up to %d, %v", e.ID, err)
	}
	if e, err = slow.Next(t.Context()); err != nil || e.Kind != "done" {
		t.Errorf("%s, %v", e.Kind, err)
	}
	if len(done.Answer) != 5+len(piece)*pieces {
		t.Errorf("the answer has %d bytes", len(done.Answer))
	}
}

func TestHundredReaders(t *testing.T) {
	t.Parallel()
	feed := make(chan string)
	s := service(newMemory(), fed(feed))
	turn := begin(t, s, "hi")
	var wg sync.WaitGroup
	results := make([]got, 100)
	for i := range results {
		wg.Go(func() { results[i] = follow(t, s, turn.ID, 0, -1) })
	}
	var want strings.Builder
	for i := range 300 {
		word := fmt.Sprintf("%d积 ", i)
		want.WriteString(word)
		feed <- say(word)
	}
	close(feed)
	wg.Wait()
	for i, g := range results {
		if g.linear != want.String() || g.done == nil || g.done.State != jimu.TurnDone {
			t.Errorf("reader %d: %d bytes of %d", i, len(g.linear), want.Len())
		}
	}
}

// How a turn ends that does not end well.
func TestFailures(t *testing.T) {
	t.Parallel()
	record := func(state string, code jimu.Code) *jimu.Record {
		r := billed
		r.State, r.Code = state, code
		return &r
	}
	for _, c := range []struct {
		name   string
		events []string
		record *jimu.Record
		err    error
		state  jimu.TurnState
		code   jimu.Code
		text   string
	}{
		{"refused", nil, nil, jimu.Errorf(jimu.NoCredit, "top up"), jimu.TurnFailed, jimu.NoCredit, "top up"},
		{"internal", nil, nil, errors.New("s3cret"), jimu.TurnFailed, jimu.Internal, "something went wrong on our side; it has been logged"},
		{"error event", []string{say("ab"), `{"error":{"code":"insufficient_credit","message":"gone"}}`}, record(jimu.StateEnded, ""), nil, jimu.TurnFailed, jimu.NoCredit, "gone"},
		{"odd code", []string{`{"error":{"code":"Ü 1","message":""}}`}, record(jimu.StateFailed, ""), nil, jimu.TurnFailed, jimu.Unavailable, "the answer broke off; try again"},
		{"error text", []string{`{"error":"overloaded"}`}, nil, nil, jimu.TurnFailed, jimu.Unavailable, "overloaded"},
		{"failed", []string{say("ab")}, record(jimu.StateFailed, jimu.Unavailable), nil, jimu.TurnFailed, jimu.Unavailable, "the answer broke off; try again"},
		{"no code", []string{say("ab")}, record(jimu.StateCancelled, ""), nil, jimu.TurnFailed, jimu.Unavailable, "the answer broke off; try again"},
		{"endless", []string{say(strings.Repeat("x", 4<<20)), say("y")}, nil, nil, jimu.TurnFailed, jimu.TooLarge, "the answer is longer than 4 MiB and was ended"},
		{"null error", []string{`{"error":null,"choices":[{"delta":{"content":"ok"}}]}`}, record(jimu.StateOK, ""), nil, jimu.TurnDone, "", ""},
	} {
		s := service(newMemory(), &model{answer: func(_ context.Context, on func(string) error) (*jimu.Record, error) {
			for _, e := range c.events {
				if err := on(e); err != nil {
					return c.record, err
				}
			}
			return c.record, c.err
		}})
		got := finished(t, s, begin(t, s, "hi").ID)
		var e jimu.TurnError
		if got.Error != nil {
			e = *got.Error
		}
		if got.State != c.state || e.Code != c.code || e.Text != c.text {
			t.Errorf("%s: %s %+v", c.name, got.State, e)
		}
		if c.record != nil && got.Cost != 42 {
			t.Errorf("%s: costs %s", c.name, got.Cost)
		}
	}
}

// A panic ends the turn, not the process, and no text is logged.
func TestPanic(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	s := chat.New(chat.Options{
		Store: newMemory(), Now: time.Now, Log: slog.New(slog.NewTextHandler(&logged, nil)),
		Window: func(string) (int64, int64) { return 0, 0 },
		Model: &model{answer: func(_ context.Context, on func(string) error) (*jimu.Record, error) {
			if err := on(say("s3cret answer")); err != nil {
				return nil, err
			}
			panic("s3cret value")
		}},
	})
	got := finished(t, s, begin(t, s, "s3cret question").ID)
	if got.State != jimu.TurnFailed || got.Error.Code != jimu.Internal || got.Answer != "s3cret answer" {
		t.Errorf("%+v", got)
	}
	if err := s.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text := logged.String(); !strings.Contains(text, "panic of type string") || strings.Contains(text, "s3cret") {
		t.Errorf("logged: %s", text)
	}
}

// A store that fails at the end is asked again.
func TestFinishIsRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.fail = 3
		s := service(m, says(say("kept")))
		turn := begin(t, s, "hi")
		finished(t, s, turn.ID)
		synctest.Wait()
		if got, err := m.Turn(t.Context(), "ann", turn.ID); err != nil || got.State != jimu.TurnDone || got.Answer != "kept" {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

func TestDrain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		feed := make(chan string)
		m := newMemory()
		s := service(m, fed(feed))
		quick, long := begin(t, s, "quick"), begin(t, s, "long")
		feed <- say("some")
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := s.Stop(t.Context(), "ann", quick.ID); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := s.Drain(ctx); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < time.Minute || took > time.Minute+time.Second {
			t.Errorf("drained in %s", took)
		}
		got, err := m.Turn(t.Context(), "ann", long.ID)
		if err != nil || got.State != jimu.TurnInterrupted || got.Cost != 42 {
			t.Errorf("%+v, %v", got, err)
		}
		_, err = s.Start(t.Context(), ann, long.Conversation, chat.Ask{Text: "more"})
		is(t, err, jimu.Overloaded)
	})
}

// Somebody else's conversations and turns are not there.
func TestOwnership(t *testing.T) {
	t.Parallel()
	feed := make(chan string)
	s := service(newMemory(), fed(feed))
	turn := begin(t, s, "hi")
	bob, ctx := &jimu.Caller{User: "bob"}, t.Context()
	try := map[string]func() error{
		"get":    func() error { _, _, err := s.Get(ctx, "bob", turn.Conversation); return err },
		"rename": func() error { _, err := s.Rename(ctx, "bob", turn.Conversation, "x"); return err },
		"delete": func() error { return s.Delete(ctx, "bob", turn.Conversation) },
		"start":  func() error { _, err := s.Start(ctx, bob, turn.Conversation, chat.Ask{Text: "x"}); return err },
		"turn":   func() error { _, err := s.Turn(ctx, "bob", turn.ID); return err },
		"stop":   func() error { _, err := s.Stop(ctx, "bob", turn.ID); return err },
		"attach": func() error { _, err := s.Attach(ctx, "bob", turn.ID, 0); return err },
	}
	for name, f := range try {
		if err := f(); err == nil || jimu.ErrorOf(err).Code != jimu.NotFound {
			t.Errorf("%s while it runs: %v", name, err)
		}
	}
	feed <- say("x") // it still runs
	close(feed)
	if got := finished(t, s, turn.ID); got.State != jimu.TurnDone {
		t.Errorf("%+v", got)
	}
	for name, f := range try {
		if err := f(); err == nil || jimu.ErrorOf(err).Code != jimu.NotFound {
			t.Errorf("%s after it: %v", name, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	s, ctx := service(newMemory(), fed(make(chan string))), t.Context()
	turn := begin(t, s, "hi")
	start := func(conversation string, ask chat.Ask) error {
		_, err := s.Start(ctx, ann, conversation, ask)
		return err
	}
	is(t, start(turn.Conversation, chat.Ask{Text: "second"}), jimu.Conflict)
	empty, err := s.Create(ctx, "ann", "named", "")
	if err != nil {
		t.Fatal(err)
	}
	is(t, start(empty.ID, chat.Ask{Text: " \n"}), jimu.Invalid)
	is(t, start(empty.ID, chat.Ask{Text: "no model"}), jimu.Invalid)
	is(t, start(empty.ID, chat.Ask{Text: "x", Regenerate: turn.ID, Model: "m"}), jimu.Invalid)
	is(t, start(empty.ID, chat.Ask{Regenerate: turn.ID, Model: "m"}), jimu.Conflict)
	is(t, start(empty.ID, chat.Ask{Text: strings.Repeat("积", 100_001), Model: "m"}), jimu.TooLarge)
	for _, title := range []string{"", " ", "a\nb", strings.Repeat("x", 121)} {
		_, err := s.Rename(ctx, "ann", empty.ID, title)
		is(t, err, jimu.Invalid)
	}
	for range 3 {
		begin(t, s, "more")
	}
	is(t, start(empty.ID, chat.Ask{Text: "a fifth", Model: "m"}), jimu.RateLimited)
	if err := s.Delete(ctx, "ann", turn.Conversation); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Turn(ctx, "ann", turn.ID); err == nil {
		t.Error("the turn of a deleted conversation is there")
	}
	if err := start(empty.ID, chat.Ask{Text: strings.Repeat("积", 100_000), Model: "m"}); err != nil {
		t.Errorf("there is room again: %v", err)
	}
	drain(t, s)
}

func TestTitles(t *testing.T) {
	t.Parallel()
	s := service(newMemory(), says(say("x")))
	for text, want := range map[string]string{
		"short":                     "short",
		" two\n lines\x07 ":         "two lines",
		strings.Repeat("积木", 40):    strings.Repeat("积木", 29) + "积…",
		strings.Repeat("word ", 20): strings.TrimSpace(strings.Repeat("word ", 11)) + "…",
	} {
		turn := begin(t, s, text)
		finished(t, s, turn.ID)
		c, _, err := s.Get(t.Context(), "ann", turn.Conversation)
		if err != nil || c.Title != want {
			t.Errorf("%q: got %q, want %q, %v", text, c.Title, want, err)
		}
		if c, err = s.Rename(t.Context(), "ann", turn.Conversation, " new "); err != nil || c.Title != "new" {
			t.Errorf("renamed: %+v, %v", c, err)
		}
		next, err := s.Start(t.Context(), ann, turn.Conversation, chat.Ask{Text: "next"})
		if err != nil {
			t.Fatal(err)
		}
		finished(t, s, next.ID)
		if c, _, _ = s.Get(t.Context(), "ann", turn.Conversation); c.Title != "new" {
			t.Errorf("a later text changed the title to %q", c.Title)
		}
	}
	drain(t, s)
}

// The model is sent the conversation: what was answered and not replaced, and
// the latest of it where not all fits.
func TestPrompt(t *testing.T) {
	t.Parallel()
	m := says(say("answer"))
	window := int64(0)
	s := chat.New(chat.Options{Store: newMemory(), Model: m, Now: time.Now, Window: func(string) (int64, int64) { return window, 100 }})
	first := begin(t, s, "one")
	finished(t, s, first.ID)
	ask := func(a chat.Ask) *jimu.Turn {
		t.Helper()
		turn, err := s.Start(t.Context(), ann, first.Conversation, a)
		if err != nil {
			t.Fatal(err)
		}
		return finished(t, s, turn.ID)
	}
	two := ask(chat.Ask{Text: "two", Model: "n"})
	if d := cmp.Diff(lines("n", "user: one", "assistant: answer", "user: two"), lines(m.last(t)...)); d != "" {
		t.Error(d)
	}
	ask(chat.Ask{Regenerate: two.ID})
	if d := cmp.Diff(lines("n", "user: one", "assistant: answer", "user: two"), lines(m.last(t)...)); d != "" {
		t.Error(d)
	}
	m.answer = func(context.Context, func(string) error) (*jimu.Record, error) {
		return nil, jimu.Errorf(jimu.Unavailable, "no")
	}
	ask(chat.Ask{Text: "unanswered"})
	m.answer = says(say("ok")).answer
	ask(chat.Ask{Text: "three"})
	if d := cmp.Diff(lines("n", "user: one", "assistant: answer", "user: two", "assistant: answer", "user: three"), lines(m.last(t)...)); d != "" {
		t.Error(d)
	}
	window = 34 // room for 26, of which the text takes 6
	ask(chat.Ask{Text: "four"})
	if d := cmp.Diff(lines("n", "user: three", "assistant: ok", "user: four"), lines(m.last(t)...)); d != "" {
		t.Error(d)
	}
	window = 8
	ask(chat.Ask{Text: "五五五五五五五五五"})
	if d := cmp.Diff(lines("n", "user: 五五五五五五五五五"), lines(m.last(t)...)); d != "" {
		t.Error(d)
	}
	drain(t, s)
}

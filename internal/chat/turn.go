package chat

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jimu-ai/jimu"
)

// Why a turn's context ended.
var (
	errStopped     = errors.New("stopped by its user")
	errInterrupted = errors.New("interrupted by the end of the process")
	errTooSlow     = errors.New("the turn ran too long")
)

// Ask is what begins a turn: a text, or the last turn of the conversation to
// answer again.
type Ask struct {
	Text       string
	Model      string // "" takes that of the turn to replace, or of the last turn
	Regenerate string // ID of a turn
}

// live is a turn that this process runs.
type live struct {
	turn   jimu.Turn // as it began
	began  time.Time
	log    *log
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when it has ended and that is saved
}

// Start begins a turn and returns it, running. It runs on when ctx ends.
func (s *Service) Start(ctx context.Context, caller *jimu.Caller, conversation string, ask Ask) (*jimu.Turn, error) {
	if err := s.enter(caller.User); err != nil {
		return nil, err
	}
	l, body, err := s.begin(ctx, caller, conversation, ask)
	if err != nil {
		s.leave(caller.User)
		return nil, err
	}
	run, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	run, release := context.WithTimeoutCause(run, maxTurnTime, errTooSlow)
	l.cancel = cancel
	s.mu.Lock()
	s.running[l.turn.ID] = l
	s.mu.Unlock()
	go func() {
		defer release()
		defer cancel(nil)
		s.run(run, caller, l, body)
	}()
	t := l.turn
	return &t, nil
}

// enter counts a turn in, unless its user runs too many.
func (s *Service) enter(user string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return &jimu.Error{Code: jimu.Overloaded, Text: "the server is about to restart; try again in a moment", RetryAfter: 5 * time.Second}
	}
	if s.perUser[user] >= maxPerUser {
		return &jimu.Error{Code: jimu.RateLimited, Text: "four of your answers are being written already; wait for one, or stop it", RetryAfter: time.Second}
	}
	s.perUser[user]++
	s.turns.Add(1)
	return nil
}

func (s *Service) leave(user string) {
	s.mu.Lock()
	if s.perUser[user]--; s.perUser[user] == 0 {
		delete(s.perUser, user)
	}
	s.mu.Unlock()
	s.turns.Done()
}

// begin checks what is asked, writes the turn down and makes the request.
func (s *Service) begin(ctx context.Context, caller *jimu.Caller, conversation string, ask Ask) (*live, []byte, error) {
	c, err := s.o.Store.Conversation(ctx, caller.User, conversation)
	if err != nil {
		return nil, nil, err
	}
	before, err := s.turnsOf(ctx, caller.User, conversation)
	if err != nil {
		return nil, nil, err
	}
	if before, err = resolve(&ask, c, before); err != nil {
		return nil, nil, err
	}
	body, err := s.prompt(ask.Model, before, ask.Text)
	if err != nil {
		return nil, nil, err
	}
	now := s.o.Now().UTC().Truncate(time.Microsecond)
	t := jimu.Turn{
		ID: jimu.NewID(now), Conversation: c.ID, User: caller.User, Text: ask.Text, Model: ask.Model,
		State: jimu.TurnRunning, Request: jimu.NewID(now), Created: now,
	}
	if err := s.o.Store.CreateTurn(ctx, &t, ask.Regenerate, titleOf(ask.Text)); err != nil {
		return nil, nil, err
	}
	return &live{turn: t, began: now, log: new(log), done: make(chan struct{})}, body, nil
}

// resolve completes what is asked, and returns the turns before the new one.
func resolve(ask *Ask, c *jimu.Conversation, before []jimu.Turn) ([]jimu.Turn, error) {
	model := c.Model
	if ask.Regenerate != "" {
		if ask.Text != "" {
			return nil, &jimu.Error{Code: jimu.Invalid, Param: "text", Text: "give a text, or a turn to regenerate, not both"}
		}
		last := len(before) - 1
		if last < 0 || before[last].ID != ask.Regenerate {
			return nil, jimu.Errorf(jimu.Conflict, "only the last answer of a conversation can be regenerated")
		}
		ask.Text, model = before[last].Text, before[last].Model
		before = before[:last]
	}
	ask.Text = clean(ask.Text)
	if strings.TrimSpace(ask.Text) == "" {
		return nil, &jimu.Error{Code: jimu.Invalid, Param: "text", Text: "the text is empty"}
	}
	if utf8.RuneCountInString(ask.Text) > maxText {
		return nil, &jimu.Error{Code: jimu.TooLarge, Param: "text", Text: "the text is longer than 100000 characters; shorten or split it"}
	}
	if len(before) >= maxTurns {
		return nil, jimu.Errorf(jimu.TooLarge, "this conversation has 1000 turns; begin another one")
	}
	if ask.Model == "" {
		ask.Model = model
	}
	if ask.Model = clean(ask.Model); ask.Model == "" || len(ask.Model) > 190 {
		return nil, &jimu.Error{Code: jimu.Invalid, Param: "model", Text: "name the model that is to answer"}
	}
	return before, nil
}

// run asks the model and sees the turn to its end.
func (s *Service) run(ctx context.Context, caller *jimu.Caller, l *live, body []byte) {
	defer s.leave(l.turn.User)
	end := make(chan struct{})
	saved := make(chan struct{})
	go func() {
		defer close(saved)
		s.save(ctx, l, end)
	}()
	var p parser
	record, err := s.ask(ctx, caller, l, body, &p)
	p.flush(l.log)
	close(end)
	<-saved
	t := l.snapshot(s.o.Now())
	conclude(t, context.Cause(ctx), record, err, p.failure)
	if t.Error != nil && t.Error.Code == jimu.Internal && err != nil {
		s.o.Log.Error("answering a turn", "turn", t.ID, "request", t.Request, "err", err)
	}
	s.finish(context.WithoutCancel(ctx), t)
	s.mu.Lock()
	delete(s.running, t.ID)
	s.mu.Unlock()
	l.log.end(t)
	close(l.done)
}

// ask streams the model's answer into the log. A panic on the way ends this
// turn and not the process; its value may hold what was said, so only its type
// is told.
func (s *Service) ask(ctx context.Context, caller *jimu.Caller, l *live, body []byte, p *parser) (record *jimu.Record, err error) {
	defer func() {
		if v := recover(); v != nil {
			record, err = nil, fmt.Errorf("panic of type %T at %s", v, debug.Stack())
		}
	}()
	return s.o.Model.Stream(ctx, caller, l.turn.Request, body, func(event []byte) error {
		return p.read(event, l.log)
	})
}

// save keeps the text so far about once a second, until the turn ends. A turn
// that another process was asked to stop is stopped here.
func (s *Service) save(ctx context.Context, l *live, end <-chan struct{}) {
	tick := time.NewTicker(savePeriod)
	defer tick.Stop()
	size, silent := int64(0), 0
	for {
		select {
		case <-end:
			return
		case <-tick.C:
		}
		if now := l.log.size(); now == size {
			if silent++; silent < beatEvery {
				continue
			}
		} else {
			size = now
		}
		silent = 0
		stop, err := s.o.Store.SaveTurn(ctx, l.snapshot(s.o.Now()), s.o.Now())
		if err != nil && ctx.Err() == nil {
			s.o.Log.Warn("saving a running turn", "turn", l.turn.ID, "err", err)
		}
		if stop {
			l.cancel(errStopped)
		}
	}
}

// finish saves how a turn ended. The answer was delivered and billed, so a
// store that fails is asked again a few times.
func (s *Service) finish(ctx context.Context, t *jimu.Turn) {
	wait := 100 * time.Millisecond
	for try := 1; ; try++ {
		once, cancel := context.WithTimeout(ctx, finishTimeout)
		err := s.o.Store.FinishTurn(once, t)
		cancel()
		if err == nil {
			return
		}
		if try == finishTries {
			s.o.Log.Error("saving the end of a turn", "turn", t.ID, "err", err)
			return
		}
		timer := time.NewTimer(wait)
		<-timer.C
		wait *= 4
	}
}

// snapshot returns the turn with what it has so far.
func (l *live) snapshot(now time.Time) *jimu.Turn {
	if t := l.log.ended(); t != nil {
		return t
	}
	t := l.turn
	t.Reasoning, t.Answer, t.Runs = l.log.texts()
	t.TookMS = now.Sub(l.began).Milliseconds()
	return &t
}

// conclude decides how a turn ended.
func conclude(t *jimu.Turn, cause error, record *jimu.Record, err error, failure *jimu.TurnError) {
	var state string
	if record != nil {
		state = record.State
		t.Cost = record.Cost
		if in, out := record.Usage.In(), record.Usage.Out(); in+out > 0 {
			t.Usage = &jimu.TurnUsage{In: in, Out: out}
		}
	}
	complete := err == nil && failure == nil && (record == nil || state == jimu.StateOK)
	switch {
	case complete:
		t.State = jimu.TurnDone
	case errors.Is(cause, errStopped):
		t.State = jimu.TurnStopped
	case errors.Is(cause, errInterrupted):
		t.State = jimu.TurnInterrupted
	default:
		t.State = jimu.TurnFailed
		t.Error = reason(cause, record, err, failure)
	}
}

// reason says why a turn failed.
func reason(cause error, record *jimu.Record, err error, failure *jimu.TurnError) *jimu.TurnError {
	switch {
	case errors.Is(cause, errTooSlow):
		return &jimu.TurnError{Code: jimu.Unavailable, Text: "the answer took longer than 30 minutes and was ended"}
	case errors.Is(err, errTooLong):
		return &jimu.TurnError{Code: jimu.TooLarge, Text: "the answer is longer than 4 MiB and was ended"}
	case failure != nil:
		return failure
	case err != nil:
		e := jimu.ErrorOf(err)
		return &jimu.TurnError{Code: e.Code, Text: e.Text}
	case record.Code != "":
		return &jimu.TurnError{Code: record.Code, Text: "the answer broke off; try again"}
	default:
		return &jimu.TurnError{Code: jimu.Unavailable, Text: "the answer broke off; try again"}
	}
}

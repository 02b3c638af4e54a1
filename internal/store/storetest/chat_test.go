package storetest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/store"
)

// chatClock makes times that differ.
type chatClock struct{ n atomic.Int64 }

func (c *chatClock) now() time.Time {
	return time.UnixMicro(1_800_000_000_000_000 + c.n.Add(1_000)).UTC()
}

func (c *chatClock) conversation(user string) *jimu.Conversation {
	at := c.now()
	return &jimu.Conversation{ID: jimu.NewID(at), User: user, Created: at, Updated: at}
}

func (c *chatClock) turn(v *jimu.Conversation, text string) *jimu.Turn {
	at := c.now()
	return &jimu.Turn{
		ID: jimu.NewID(at), Conversation: v.ID, User: v.User, Text: text, Model: "m",
		State: jimu.TurnRunning, Request: jimu.NewID(at), Created: at,
	}
}

func chatCode(err error) jimu.Code {
	if err == nil {
		return ""
	}
	return jimu.ErrorOf(err).Code
}

func chatMust(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestChatTurns(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		ctx, clock := t.Context(), new(chatClock)
		c := store.NewChat(open())
		v := clock.conversation("ann")
		chatMust(t, c.CreateConversation(ctx, v))
		one := clock.turn(v, "它的 🧱 text")
		chatMust(t, c.CreateTurn(ctx, one, "", "它的"))
		if err := c.CreateTurn(ctx, clock.turn(v, "x"), "", ""); chatCode(err) != jimu.Conflict {
			t.Errorf("a second running turn: %v", err)
		}
		if err := c.CreateTurn(ctx, clock.turn(clock.conversation("ann"), "x"), "", ""); chatCode(err) != jimu.NotFound {
			t.Errorf("a turn of no conversation: %v", err)
		}

		one.Reasoning, one.Answer, one.Runs, one.TookMS = "hm…", "par", []int64{5, 3}, 12
		if stop, err := c.SaveTurn(ctx, one, clock.now()); err != nil || stop {
			t.Fatalf("SaveTurn: %v, %v", stop, err)
		}
		checkTurn(t, c, one)
		chatMust(t, c.AskStop(ctx, "bob", one.ID))
		if stop, _ := c.SaveTurn(ctx, one, clock.now()); stop {
			t.Error("somebody else stopped the turn")
		}
		chatMust(t, c.AskStop(ctx, "ann", one.ID))
		if stop, err := c.SaveTurn(ctx, one, clock.now()); err != nil || !stop {
			t.Errorf("asked to stop: %v, %v", stop, err)
		}

		one.State, one.Answer, one.Runs, one.Cost = jimu.TurnFailed, "partial", []int64{5, 7}, 123_456_789
		one.Usage, one.Error = &jimu.TurnUsage{In: 7, Out: 0}, &jimu.TurnError{Code: jimu.NoCredit, Text: "没有"}
		chatMust(t, c.FinishTurn(ctx, one))
		checkTurn(t, c, one)

		two := clock.turn(v, "again")
		chatMust(t, c.CreateTurn(ctx, two, one.ID, "not this title"))
		two.State = jimu.TurnDone
		chatMust(t, c.FinishTurn(ctx, two))
		if err := c.CreateTurn(ctx, clock.turn(v, "x"), one.ID, ""); chatCode(err) != jimu.Conflict {
			t.Errorf("a replaced turn is replaced again: %v", err)
		}
		three := clock.turn(v, "next") // the failed attempt above left nothing behind
		chatMust(t, c.CreateTurn(ctx, three, "", ""))
		got, err := c.Turns(ctx, "ann", v.ID)
		chatMust(t, err)
		if d := cmp.Diff([]string{two.ID, three.ID}, []string{got[0].ID, got[1].ID}); d != "" || len(got) != 2 {
			t.Errorf("turns: %s", d)
		}
		after, err := c.Conversation(ctx, "ann", v.ID)
		chatMust(t, err)
		want := *v
		want.Title, want.Model, want.Updated = "它的", "m", three.Created
		if d := cmp.Diff(&want, after); d != "" {
			t.Error(d)
		}
	})
}

func checkTurn(t *testing.T, c *store.Chat, want *jimu.Turn) {
	t.Helper()
	got, err := c.Turn(t.Context(), want.User, want.ID)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestChatList(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		ctx, clock := t.Context(), new(chatClock)
		c := store.NewChat(open())
		var want []string
		for i := range 7 {
			v := clock.conversation("ann")
			v.Title = fmt.Sprint("c", i)
			chatMust(t, c.CreateConversation(ctx, v))
			chatMust(t, c.CreateConversation(ctx, clock.conversation("bob")))
			want = append([]string{v.ID}, want...)
		}
		same := clock.conversation("ann") // as old as the newest: the ID decides
		end := "0"
		if want[0][25:] == end {
			end = "4"
		}
		same.ID, same.Updated = want[0][:25]+end, fromID(t, c, want[0])
		chatMust(t, c.CreateConversation(ctx, same))
		if same.ID > want[0] {
			want = append([]string{same.ID}, want...)
		} else {
			want = append([]string{want[0], same.ID}, want[1:]...)
		}
		var got []string
		for cursor, pages := "", 0; ; pages++ {
			cs, next, err := c.Conversations(ctx, "ann", cursor, 3)
			chatMust(t, err)
			for _, v := range cs {
				got = append(got, v.ID)
			}
			if cursor = next; next == "" || pages > 5 {
				break
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		for _, bad := range []string{"x", "1.é", "1." + want[0] + "x", "." + want[0]} {
			if _, _, err := c.Conversations(ctx, "ann", bad, 3); chatCode(err) != jimu.Invalid {
				t.Errorf("cursor %q: %v", bad, err)
			}
		}
		if cs, next, err := c.Conversations(ctx, "carl", "", 3); err != nil || next != "" || len(cs) > 0 {
			t.Errorf("nobody's: %v, %q, %v", cs, next, err)
		}
	})
}

func fromID(t *testing.T, c *store.Chat, id string) time.Time {
	t.Helper()
	v, err := c.Conversation(t.Context(), "ann", id)
	if err != nil {
		t.Fatal(err)
	}
	return v.Updated
}

// Whose it is not, for him it is not there.
func TestChatOwnership(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		ctx, clock := t.Context(), new(chatClock)
		c := store.NewChat(open())
		v := clock.conversation("ann")
		chatMust(t, c.CreateConversation(ctx, v))
		turn := clock.turn(v, "secret")
		chatMust(t, c.CreateTurn(ctx, turn, "", "t"))
		mine := *turn
		mine.User, mine.ID = "bob", jimu.NewID(clock.now())
		for name, err := range map[string]error{
			"conversation": chatErr(c.Conversation(ctx, "bob", v.ID)),
			"turn":         chatErr(c.Turn(ctx, "bob", turn.ID)),
			"rename":       c.RenameConversation(ctx, "bob", v.ID, "x"),
			"delete":       c.DeleteConversation(ctx, "bob", v.ID),
			"create turn":  c.CreateTurn(ctx, &mine, "", "x"),
			"no ID":        chatErr(c.Conversation(ctx, "ann", "é")),
			"no turn ID":   chatErr(c.Turn(ctx, "ann", "x'--")),
			"rename no ID": c.RenameConversation(ctx, "ann", "é", "x"),
			"delete no ID": c.DeleteConversation(ctx, "ann", "é"),
		} {
			if chatCode(err) != jimu.NotFound {
				t.Errorf("%s: %v", name, err)
			}
		}
		if ts, err := c.Turns(ctx, "bob", v.ID); err != nil || len(ts) > 0 {
			t.Errorf("turns: %v, %v", ts, err)
		}
		chatMust(t, c.RenameConversation(ctx, "ann", v.ID, "mine"))
		chatMust(t, c.DeleteConversation(ctx, "ann", v.ID))
		if err := chatErr(c.Turn(ctx, "ann", turn.ID)); chatCode(err) != jimu.NotFound {
			t.Errorf("the turn of a deleted conversation: %v", err)
		}
		if stop, err := c.SaveTurn(ctx, turn, clock.now()); err != nil || !stop {
			t.Errorf("saving a deleted turn: %v, %v", stop, err)
		}
		chatMust(t, c.FinishTurn(ctx, turn))
	})
}

func chatErr[T any](_ T, err error) error { return err }

// Turns whose process is gone are interrupted, with what they had, and their
// conversations go on.
func TestChatInterrupt(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		ctx, clock := t.Context(), new(chatClock)
		c := store.NewChat(open())
		var turns []*jimu.Turn
		var cut time.Time
		for i := range 4 {
			if i == 3 {
				cut = clock.now()
			}
			v := clock.conversation("ann")
			chatMust(t, c.CreateConversation(ctx, v))
			turn := clock.turn(v, "q")
			chatMust(t, c.CreateTurn(ctx, turn, "", "t"))
			turn.Answer = "half"
			if i != 0 {
				_ = chatErr(c.SaveTurn(ctx, turn, clock.now()))
			}
			turns = append(turns, turn)
		}
		turns[2].State = jimu.TurnDone
		chatMust(t, c.FinishTurn(ctx, turns[2]))
		chatMust(t, c.InterruptTurns(ctx, cut))
		chatMust(t, c.InterruptTurns(ctx, cut))
		for i, want := range []jimu.TurnState{jimu.TurnInterrupted, jimu.TurnInterrupted, jimu.TurnDone, jimu.TurnRunning} {
			got, err := c.Turn(ctx, "ann", turns[i].ID)
			chatMust(t, err)
			if got.State != want || (i > 0 && got.Answer != "half") {
				t.Errorf("turn %d: %+v, want %s", i, got, want)
			}
			next := clock.turn(&jimu.Conversation{ID: turns[i].Conversation, User: "ann"}, "next")
			if err := c.CreateTurn(ctx, next, "", ""); (err == nil) != (i != 3) {
				t.Errorf("a turn after turn %d: %v", i, err)
			}
		}
	})
}

// However many begin a turn at once, one does; from two replicas as well.
func TestChatOneTurnAtATime(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		stores := []*store.Store{open()}
		if Replicas(stores[0]) {
			stores = append(stores, open())
		}
		clock := new(chatClock)
		v := clock.conversation("ann")
		chatMust(t, store.NewChat(stores[0]).CreateConversation(t.Context(), v))
		var wg sync.WaitGroup
		var won atomic.Int64
		for i := range 12 {
			c := store.NewChat(stores[i%len(stores)])
			wg.Go(func() {
				err := c.CreateTurn(context.WithoutCancel(t.Context()), clock.turn(v, "q"), "", "t")
				if err == nil {
					won.Add(1)
				} else if chatCode(err) != jimu.Conflict {
					t.Errorf("CreateTurn: %v", err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Errorf("%d turns run in one conversation", won.Load())
		}
	})
}

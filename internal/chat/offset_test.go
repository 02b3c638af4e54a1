package chat_test

import (
	"context"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/chat"
	"github.com/jimu-ai/jimu/internal/store"
	"github.com/jimu-ai/jimu/internal/store/storetest"
)

// wholeRunes moves an offset back to where a character begins.
func wholeRunes(s string, n int) int {
	for n > 0 && n < len(s) && !utf8.RuneStart(s[n]) {
		n--
	}
	return n
}

// Whatever a model says in whatever pieces, and wherever a reader left off:
// what it has and what it gets are the text, byte for byte, while the turn
// runs, after it has ended, and from the store alone.
func TestEveryOffset(t *testing.T) {
	t.Parallel()
	db := store.NewChat(storetest.Open(t, ""))
	rapid.Check(t, func(rt *rapid.T) {
		pieces := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) [2]string {
			return [2]string{
				rapid.SampledFrom([]string{"content", "content", "reasoning_content", "reasoning"}).Draw(rt, "kind"),
				rapid.StringN(0, 6, -1).Draw(rt, "text"),
			}
		}), 1, 12).Draw(rt, "pieces")
		feed := make(chan string)
		s := service(db, fed(feed))
		turn := begin(t, s, "q")
		var all, thought, said strings.Builder
		cut := rapid.IntRange(0, len(pieces)).Draw(rt, "cut")
		for i, p := range pieces {
			if i == cut { // a reload in the middle
				checkEvery(t, rt, s, turn.ID, all.String(), false)
			}
			text := strings.ReplaceAll(p[1], "\x00", "\uFFFD")
			all.WriteString(text)
			if p[0] == "content" {
				said.WriteString(text)
			} else {
				thought.WriteString(text)
			}
			feed <- delta(p[0], p[1])
		}
		live := make(chan got, 1)
		from := wholeRunes(all.String(), rapid.IntRange(0, all.Len()).Draw(rt, "from"))
		go func() { live <- follow(t, s, turn.ID, int64(from), -1) }()
		close(feed)
		if g := <-live; all.String()[:from]+g.linear != all.String() || g.done.State != jimu.TurnDone {
			rt.Errorf("live from %d: %q + %q, want %q", from, all.String()[:from], g.linear, all.String())
		}
		done := finished(t, s, turn.ID)
		if done.Reasoning != thought.String() || done.Answer != said.String() {
			rt.Errorf("kept %q and %q, want %q and %q", done.Reasoning, done.Answer, thought.String(), said.String())
		}
		checkEvery(t, rt, service(ended{turn: done}, nil), turn.ID, all.String(), true)
		again := service(db, nil) // as after a restart
		for range 5 {
			n := rapid.IntRange(0, all.Len()).Draw(rt, "from")
			if g := follow(t, again, turn.ID, int64(n), -1); all.String()[:wholeRunes(all.String(), n)]+g.linear != all.String() {
				rt.Errorf("stored, from %d: %q, want %q", n, g.linear, all.String())
			}
		}
	})
}

// ended is a store of one turn.
type ended struct {
	chat.Store
	turn *jimu.Turn
}

func (e ended) Turn(context.Context, string, string) (*jimu.Turn, error) { return e.turn, nil }

// checkEvery attaches at every offset.
func checkEvery(t *testing.T, rt *rapid.T, s *chat.Service, id, all string, done bool) {
	t.Helper()
	until := int64(len(all))
	if done {
		until = -1
	}
	for n := 0; n <= len(all); n++ {
		g := follow(t, s, id, int64(n), until)
		if kept := all[:wholeRunes(all, n)]; kept+g.linear != all || g.lastID != int64(len(all)) {
			rt.Errorf("from %d: %q + %q up to %d, want %q", n, kept, g.linear, g.lastID, all)
		}
		if n == 0 {
			runs := len(g.texts)
			if g.events < runs {
				rt.Errorf("%d events", g.events)
			}
		}
	}
}

// An offset that is none is taken for the nearest.
func TestOddOffsets(t *testing.T) {
	t.Parallel()
	s := service(newMemory(), says(think("ab"), say("cd")))
	id := begin(t, s, "q").ID
	finished(t, s, id)
	for after, want := range map[int64]string{-5: "abcd", 4: "", 5: "", 1 << 62: "", -1 << 63: "abcd"} {
		if g := follow(t, s, id, after, -1); g.linear != want {
			t.Errorf("after %d: %q, want %q", after, g.linear, want)
		}
	}
}

// Characters that are cut between two events come out whole.
func TestCutCharacters(t *testing.T) {
	t.Parallel()
	raw := func(s string) string { return `{"choices":[{"delta":{"content":"` + s + `"}}]}` }
	for _, c := range []struct {
		name   string
		events []string
		want   string
	}{
		{"bytes", []string{raw("a\xe7"), raw("\xa7"), raw("\xafb")}, "a积b"},
		{"four bytes", []string{raw("\xf0\x9f"), raw("\xa7\xb1")}, "🧱"},
		{"pair", []string{raw(`x\ud83e`), raw(`\uddf1y`)}, "x🧱y"},
		{"pair in three", []string{raw(`\uD83E`), raw(``), raw(`\uDDF1`)}, "🧱"},
		{"half", []string{raw(`\ud83e`), raw(`x`)}, "\uFFFDx"},
		{"half at the end", []string{raw(`x\ud83e`)}, "x\uFFFD"},
		{"bytes at the end", []string{raw("x\xe7")}, "x\uFFFD"},
		{"escaped backslash", []string{raw(`x\\ud83e`), raw(`y`)}, `x\ud83ey`},
		{"two kinds", []string{raw("\xe7"), think("T"), raw("\xa7\xaf")}, "T积"},
		{"invalid", []string{raw("a\xffb\xa7")}, "a\uFFFDb\uFFFD"},
		{"NUL", []string{raw(`a\u0000b`)}, "a\uFFFDb"},
	} {
		s := service(newMemory(), says(c.events...))
		g := follow(t, s, begin(t, s, "q").ID, 0, -1)
		if g.linear != c.want || g.lastID != int64(len(c.want)) {
			t.Errorf("%s: got %q up to %d, want %q", c.name, g.linear, g.lastID, c.want)
		}
	}
}

// FuzzEvents: no event makes a turn panic, and what is kept is UTF-8.
func FuzzEvents(f *testing.F) {
	f.Add(`{"choices":[{"delta":{"content":"a\ud83e"}}]}`, `{"choices":[{"delta":{"content":"\uddf1"}}]}`)
	f.Add(`{"error":{"message":"x","code":5}}`, `{"choices":[]}`)
	f.Add(`{"choices":[{"delta":{"reasoning":"\\\\ud800","content":"\xe7"}}]}`, `[DONE]`)
	f.Add("", `{"choices":{"0":{"delta":"x"}}}`)
	f.Fuzz(func(t *testing.T, one, two string) {
		s := service(newMemory(), says(one, two))
		id := begin(t, s, "q").ID
		done := finished(t, s, id)
		if !utf8.ValidString(done.Answer) || !utf8.ValidString(done.Reasoning) {
			t.Errorf("kept %q, %q", done.Answer, done.Reasoning)
		}
		if g := follow(t, s, id, 0, -1); len(g.linear) != len(done.Answer)+len(done.Reasoning) {
			t.Errorf("%q of %q, %q", g.linear, done.Reasoning, done.Answer)
		}
	})
}

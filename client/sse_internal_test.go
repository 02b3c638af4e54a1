package client

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func readEvents(t *testing.T, r io.Reader) []string {
	t.Helper()
	var out []string
	for e := newEvents(r); ; {
		data, err := e.next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(data))
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1<<20)
	for in, want := range map[string][]string{
		"":                               nil,
		"data: a\n\ndata:b\n\n":          {"a", "b"},
		"data: a\r\n\r\ndata: b\r\n\r\n": {"a", "b"},
		": hello\n\nevent: x\nid: 1\ndata: a\n\n": {"a"},
		"data: a\ndata: b\n\n":                    {"a\nb"},
		"data\n\n":                                {""},
		"data: a":                                 {"a"},
		"data: a\n":                               {"a"},
		"\n\n\ndatum: z\n\ndata:  a \n\n":         {" a "},
		"data: " + long + "\n\ndata: \u4f60\n\n":  {long, "\u4f60"},
	} {
		if d := cmp.Diff(want, readEvents(t, strings.NewReader(in))); d != "" {
			t.Errorf("%.80q: %s", in, d)
		}
		if len(in) < 1000 {
			if d := cmp.Diff(want, readEvents(t, iotest.OneByteReader(strings.NewReader(in)))); d != "" {
				t.Errorf("byte by byte, %q: %s", in, d)
			}
		}
	}
	e := newEvents(iotest.ErrReader(io.ErrClosedPipe))
	if _, err := e.next(); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
}

// However a stream is cut into reads, the events are the same, and what was
// written as events is read back.
func FuzzEvents(f *testing.F) {
	f.Add("data: a\n\ndata: b", "x")
	f.Add("data\r\n\r\n: c\ndata: \n\n", "\u4f60\u597d")
	f.Fuzz(func(t *testing.T, raw, text string) {
		whole := readEvents(t, strings.NewReader(raw))
		if d := cmp.Diff(whole, readEvents(t, iotest.OneByteReader(strings.NewReader(raw)))); d != "" {
			t.Error(d)
		}
		if strings.ContainsAny(text, "\r\n") {
			return
		}
		if d := cmp.Diff([]string{text}, readEvents(t, strings.NewReader("data: "+text+"\n\n"))); d != "" {
			t.Error(d)
		}
	})
}

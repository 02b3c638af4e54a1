package main

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jimu-ai/jimu/internal/mock"
)

// kill -9 in the middle of 100 streams, and a start after it: every lease is
// settled once, the books are clean, and nobody is charged for more than what
// reached him.
func TestKilledInTheMiddleOfStreams(t *testing.T) {
	t.Parallel()
	const streams, events = 100, 60
	upstream := httptest.NewServer(mock.New(mock.Options{Chunks: 100, Size: 4000, Interval: 50 * time.Millisecond}))
	t.Cleanup(upstream.Close)
	j := newJimu(t)
	write(t, j.dir, "jimu.yaml", `admin_listen: ""
upstreams:
  - {name: mock, vendor: openai-compatible, base_url: "`+upstream.URL+`/v1", key: sk-x, models: [m]}
prices:
  m: {input: 1, output: 1000}
`)
	j.run(t, "user", "create", "ann")
	key := j.run(t, "key", "create", "--user", "ann")
	j.run(t, "credit", "grant", "--user", "ann", "--amount", "1000", "--reason", "test")
	s := j.serve(t)

	delivered := map[string]int{} // bytes of content by request
	var mu sync.Mutex
	var seen atomic.Int64
	enough := make(chan struct{})
	var wg sync.WaitGroup
	for range streams {
		wg.Go(func() {
			resp, err := post(t, s.url, key, chatBody("m", true))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close() //nolint:errcheck // a test
			id := resp.Header.Get("X-Request-Id")
			for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
				n := content(lines.Text())
				mu.Lock()
				delivered[id] += n
				mu.Unlock()
				if n > 0 && seen.Add(1) == streams*events {
					close(enough)
				}
			}
		})
	}
	<-enough
	s.kill(t)
	wg.Wait()

	s = j.serve(t)
	if balance, held := j.balance(t); held != "0" {
		t.Errorf("after the restart %s of %s is still held", held, balance)
	}
	j.clean(t)
	charged := map[string]bool{}
	for _, e := range statement(t, s.url, key) {
		if e.Kind != "usage" {
			continue
		}
		if charged[e.Ref] {
			t.Errorf("%s is charged twice", e.Ref)
		}
		charged[e.Ref] = true
		// The mock counts a token for every four bytes.
		if most := (delivered[e.Ref] + 3) / 4; e.Usage.OutText > most {
			t.Errorf("%s is charged for %d tokens of output and got %d", e.Ref, e.Usage.OutText, most)
		}
	}
	if len(charged) != streams {
		t.Errorf("%d of %d streams that ran for seconds were charged", len(charged), streams)
	}
	s.stop(t)
	// And once more: nothing is left to settle.
	s = j.serve(t)
	if again := statement(t, s.url, key); len(again) != streams+1 {
		t.Errorf("%d entries after another restart, want %d", len(again), streams+1)
	}
	s.stop(t)
}

// content is the length of the text in a line of a stream.
func content(line string) int {
	data, ok := strings.CutPrefix(line, "data: ")
	if !ok {
		return 0
	}
	var e struct {
		Choices []struct{ Delta struct{ Content string } }
	}
	if json.Unmarshal([]byte(data), &e) != nil || len(e.Choices) == 0 {
		return 0
	}
	return len(e.Choices[0].Delta.Content)
}

type entry struct {
	Kind, Ref string
	Usage     struct {
		OutText int `json:"out_text"`
	}
}

// statement reads a user's whole statement.
func statement(t *testing.T, url, key string) []entry {
	t.Helper()
	var all []entry
	for cursor := ""; ; {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/api/statement?limit=100&cursor="+cursor, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+key)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var page struct {
			Data []entry
			Next string
		}
		err = json.NewDecoder(resp.Body).Decode(&page)
		_ = resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page.Data...)
		if page.Next == "" {
			return all
		}
		cursor = page.Next
	}
}

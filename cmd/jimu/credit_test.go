package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jimu-ai/jimu/internal/mock"
	"github.com/jimu-ai/jimu/internal/store/storetest"
)

// 200 requests at once on a balance that covers 10: exactly 10 are answered
// where the hold equals the price, the others get 402 in the dialect's form,
// on every database, by one replica and by two.
func TestParallelRequestsNeverOverdraw(t *testing.T) {
	t.Parallel()
	upstream := httptest.NewServer(mock.New(mock.Options{}))
	t.Cleanup(upstream.Close)
	for _, tt := range []struct {
		name, env string // env names the variable with the server's address; "" is SQLite
		replicas  int
	}{
		{"SQLite", "", 1},
		{"MySQL, one replica", "JIMU_TEST_MYSQL", 1},
		{"MySQL, two replicas", "JIMU_TEST_MYSQL", 2},
		{"PostgreSQL, one replica", "JIMU_TEST_POSTGRES", 1},
		{"PostgreSQL, two replicas", "JIMU_TEST_POSTGRES", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			database := ""
			if tt.env != "" {
				database = storetest.Fresh(t, tt.env)
			}
			overdraw(t, upstream.URL, database, tt.replicas)
		})
	}
}

func overdraw(t *testing.T, upstream, database string, replicas int) {
	t.Helper()
	const ask, afford = 200, 10
	key := filepath.Join(t.TempDir(), "jimu.key")
	var js []*jimu
	for range replicas {
		js = append(js, newJimu(t, "JIMU_DATABASE="+database, "JIMU_MASTER_KEY=file:"+key))
		write(t, js[0].dir, "jimu.yaml", `admin_listen: ""
upstreams:
  - {name: mock, vendor: openai-compatible, base_url: "`+upstream+`/v1", key: sk-x, models: [m]}
`)
	}
	j := js[0]
	for _, other := range js[1:] {
		copyFile(t, filepath.Join(j.dir, "jimu.yaml"), filepath.Join(other.dir, "jimu.yaml"))
	}
	j.run(t, "user", "create", "ann")
	apiKey := j.run(t, "key", "create", "--user", "ann")
	j.run(t, "credit", "grant", "--user", "ann", "--amount", "10", "--reason", "test")
	// A price by the request alone: what is held is what is charged.
	write(t, j.dir, "prices.json", `[{"model":"m","in":"0","out":"0","request":"1"}]`)
	j.run(t, "price", "update", "prices.json")

	var urls []string
	for _, j := range js {
		s := j.serve(t)
		t.Cleanup(func() { s.stop(t) })
		urls = append(urls, s.url)
	}
	var answered, refused atomic.Int64
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i := range ask {
		wg.Go(func() {
			<-begin
			resp, err := post(t, urls[i%len(urls)], apiKey, chatBody("m", i%4 == 0))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close() //nolint:errcheck // a test
			b, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Error(err)
			}
			switch resp.StatusCode {
			case http.StatusOK:
				answered.Add(1)
			case http.StatusPaymentRequired:
				refused.Add(1)
				var e struct {
					Error struct{ Message, Type, Code string }
				}
				if json.Unmarshal(b, &e) != nil || e.Error.Code != "insufficient_credit" || e.Error.Message == "" {
					t.Errorf("a refusal that is not in the dialect's form: %s", b)
				}
			default:
				t.Errorf("%d: %s", resp.StatusCode, b)
			}
		})
	}
	close(begin)
	wg.Wait()
	if answered.Load() != afford || refused.Load() != ask-afford {
		t.Errorf("%d answered and %d refused, want %d and %d", answered.Load(), refused.Load(), afford, ask-afford)
	}
	if balance, held := j.balance(t); balance != "0" {
		t.Errorf("the balance is %s (%s held), want 0", balance, held)
	}
	j.clean(t)
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

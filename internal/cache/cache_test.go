package cache_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/cache"
	"github.com/jimu-ai/jimu/internal/cache/cachetest"
)

func TestMain(m *testing.M) {
	// The client sleeps a second between looks at a server that failed, and
	// Close does not wait for that.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1"))
}

// redisAddress returns the server of the tests.
func redisAddress(tb testing.TB) string {
	tb.Helper()
	addr := os.Getenv("JIMU_TEST_REDIS")         //nolint:forbidigo // a test asks what it may use
	if addr == "" && os.Getenv("CI") == "true" { //nolint:forbidigo // as above
		tb.Fatal("JIMU_TEST_REDIS is not set: run the tests with scripts/services")
	}
	if addr == "" {
		tb.Skip("JIMU_TEST_REDIS is not set")
	}
	return addr
}

func openRedis(tb testing.TB) *cache.Redis {
	tb.Helper()
	r, err := cache.NewRedis(redisAddress(tb), 5*time.Second)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(r.Close)
	if err := r.Connect(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return r
}

func TestMemory(t *testing.T) {
	t.Parallel()
	cachetest.Run(t, cache.NewMemory(time.Now))
}

func TestRedis(t *testing.T) {
	t.Parallel()
	cachetest.Run(t, openRedis(t))
}

func limiter(tb testing.TB, redis string) *cache.Limiter {
	tb.Helper()
	l, err := cache.New(tb.Context(), cache.Options{Redis: redis, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(l.Close)
	return l
}

func caller(key, user jimu.Limits) *jimu.Caller {
	now := time.Now()
	return &jimu.Caller{User: jimu.NewID(now), Key: jimu.NewID(now), KeyLimits: key, UserLimits: user}
}

func admit(t *testing.T, l *cache.Limiter, c *jimu.Caller, tokens int64) func(int64) {
	t.Helper()
	done, err := l.Admit(t.Context(), c, tokens)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func refuse(t *testing.T, l *cache.Limiter, c *jimu.Caller, tokens int64, words string) {
	t.Helper()
	done, err := l.Admit(t.Context(), c, tokens)
	e, ok := errors.AsType[*jimu.Error](err)
	if !ok || done != nil {
		t.Fatalf("admitted, or failed otherwise: %v", err)
	}
	if e.Code != jimu.RateLimited || !strings.Contains(e.Text, words) || e.RetryAfter < time.Second || e.RetryAfter%time.Second != 0 {
		t.Errorf("refused with %s, %q, retry after %v; want words %q", e.Code, e.Text, e.RetryAfter, words)
	}
}

// Every limit of a key and of a user is kept, and a refusal names it.
func TestAdmit(t *testing.T) {
	t.Parallel()
	stores := map[string]func(t *testing.T) *cache.Limiter{
		"memory": func(t *testing.T) *cache.Limiter { t.Helper(); return limiter(t, "") },
		"redis":  func(t *testing.T) *cache.Limiter { t.Helper(); return limiter(t, redisAddress(t)) },
	}
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := open(t)
			if l.Away() {
				t.Fatal("redis is not used")
			}
			for _, c := range []struct {
				limits jimu.Limits
				words  string
			}{
				{jimu.Limits{RPM: 1}, "may make 1 requests a minute; try again in 1m0s"},
				{jimu.Limits{TPM: 100}, "may use 100 tokens a minute"},
				{jimu.Limits{Concurrent: 1}, "may make 1 requests at once"},
			} {
				key := caller(c.limits, jimu.Limits{})
				admit(t, l, key, 100)
				refuse(t, l, key, 100, "this API key "+c.words)
				user := caller(jimu.Limits{}, c.limits)
				admit(t, l, user, 100)
				refuse(t, l, user, 100, "this account "+c.words)
				second := *user
				second.Key = "another"
				refuse(t, l, &second, 100, "this account "+c.words)
			}
		})
	}
}

func TestDone(t *testing.T) {
	t.Parallel()
	l := limiter(t, "")
	c := caller(jimu.Limits{TPM: 1000, Concurrent: 1}, jimu.Limits{TPM: 1000})
	done := admit(t, l, c, 5000) // more than the limit: it takes all of it
	done(200)
	done(200) // once is enough
	done = admit(t, l, c, 800)
	done(-1) // unknown: the estimate stays
	refuse(t, l, c, 100, "tokens a minute")
	free := caller(jimu.Limits{}, jimu.Limits{})
	for range 100 {
		admit(t, l, free, 1<<40)(1 << 40)
	}
}

func TestNoLimitsCostNothing(t *testing.T) {
	l := limiter(t, "")
	c := caller(jimu.Limits{}, jimu.Limits{})
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() {
		done, err := l.Admit(ctx, c, 1000)
		if err != nil {
			t.Fatal(err)
		}
		done(10)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Counters that no longer limit anything are forgotten.
func TestMemoryForgets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := cache.NewMemory(time.Now)
		for range 20_000 {
			id := jimu.NewID(time.Now())
			if _, _, err := m.Take(t.Context(), id, "", []cache.Claim{{Of: id, Kind: cache.Requests, N: 1, Limit: 60}}); err != nil {
				t.Fatal(err)
			}
			<-time.After(100 * time.Millisecond)
		}
		if n := m.Len(); n > 10_000 {
			t.Errorf("%d counters are kept", n)
		}
	})
}

// A server that is not there, or does not answer, is left alone after five
// failures, and each replica keeps its share.
func TestRedisAway(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := silent.Addr().String()
	if err := silent.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := cache.New(t.Context(), cache.Options{
		Redis: gone, Replicas: func() int64 { return 4 }, Log: slog.New(slog.DiscardHandler), Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if !l.Away() {
		t.Error("a server that is gone is used")
	}
	c := caller(jimu.Limits{RPM: 8}, jimu.Limits{})
	admit(t, l, c, 1)
	admit(t, l, c, 1)
	refuse(t, l, c, 1, "may make 2 requests a minute")
	l.Probe(t.Context())
	if !l.Away() {
		t.Error("a server that is gone came back")
	}
}

func TestRedisBreaksAndReturns(t *testing.T) {
	t.Parallel()
	p := newProxy(t, redisAddress(t))
	l := limiter(t, p.addr)
	c := caller(jimu.Limits{RPM: 1000}, jimu.Limits{})
	admit(t, l, c, 1)(1)
	p.hold()
	for range 6 {
		admit(t, l, c, 1)(1) // slow, but admitted
	}
	if !l.Away() {
		t.Fatal("a silent server is still used")
	}
	admit(t, l, c, 1)(1)
	p.release()
	for range 100 {
		if l.Probe(t.Context()); !l.Away() {
			return
		}
	}
	t.Error("the server is back, and not used")
}

// The slots of a replica that died are free after the lease.
func TestSlotsOfADeadReplica(t *testing.T) {
	t.Parallel()
	r := openRedis(t)
	owner := jimu.NewID(time.Now())
	claims := []cache.Claim{{Of: owner, Kind: cache.AtOnce, N: 1, Limit: 1}}
	if refused, _, err := r.Take(t.Context(), owner, "dead", claims); err != nil || refused != -1 {
		t.Fatal(refused, err)
	}
	if left := r.SlotTTL(t, owner, claims[0], "dead"); left < 50*time.Second || left > 60*time.Second {
		t.Errorf("the slot is kept for %v", left)
	}
	r.Expire(t, owner, claims[0], "dead")
	if refused, _, err := r.Take(t.Context(), owner, "next", claims); err != nil || refused != -1 {
		t.Errorf("the slot is not free: %d, %v", refused, err)
	}
	if err := r.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	if refused, _, err := r.Take(t.Context(), owner, "third", claims); err != nil || refused != 0 {
		t.Errorf("a renewal freed the slot: %d, %v", refused, err)
	}
}

func TestCancelledIsNoFailure(t *testing.T) {
	t.Parallel()
	l := limiter(t, redisAddress(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 10 {
		if _, err := l.Admit(ctx, caller(jimu.Limits{RPM: 1}, jimu.Limits{}), 1); !errors.Is(err, context.Canceled) {
			t.Fatalf("%v", err)
		}
	}
	if l.Away() {
		t.Error("clients that left count as failures of redis")
	}
}

func TestBadAddress(t *testing.T) {
	t.Parallel()
	_, err := cache.New(t.Context(), cache.Options{Redis: "http://secret@x", Now: time.Now})
	if jimu.ErrorOf(err).Code != jimu.Invalid || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}

func BenchmarkAdmit(b *testing.B) {
	l := limiter(b, "")
	for name, c := range map[string]*jimu.Caller{
		"none": caller(jimu.Limits{}, jimu.Limits{}),
		"all":  caller(jimu.Limits{RPM: 1 << 40, TPM: 1 << 50, Concurrent: 1 << 40}, jimu.Limits{RPM: 1 << 40}),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				done, err := l.Admit(b.Context(), c, 1000)
				if err != nil {
					b.Fatal(err)
				}
				done(100)
			}
		})
	}
}

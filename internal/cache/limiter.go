package cache

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jimu-ai/jimu"
)

const (
	// redisTimeout is how slow Redis may be before it counts as failed, and
	// redisFailures how many failures in a row switch to counting in process.
	redisTimeout  = 50 * time.Millisecond
	redisFailures = 5
	probeEvery    = 5 * time.Second
	// slotWait is how long to wait for another request to end: unknown, so
	// the shortest that the header can say.
	slotWait = time.Second
	// maxClaims are the limits that one request can meet: three each of the
	// key and the user.
	maxClaims = 6
)

// Options set up a [Limiter].
type Options struct {
	// Redis is the address of the server that replicas share; "" counts in
	// process.
	Redis string
	// Replicas is how many share the limits while Redis is away. Default 1.
	Replicas func() int64
	Log      *slog.Logger
	Now      func() time.Time
}

// Limiter admits requests within the limits of their callers.
type Limiter struct {
	o      Options
	memory *Memory
	redis  *Redis // nil: in process

	failures atomic.Int64 // in a row
	away     atomic.Bool  // Redis is not asked
	stop     context.CancelFunc
	stopped  sync.WaitGroup
}

// New makes a limiter. A Redis that does not answer is no error: the limits
// are then kept in process until it does.
func New(ctx context.Context, o Options) (*Limiter, error) {
	l := &Limiter{o: o, memory: NewMemory(o.Now)}
	if l.o.Replicas == nil {
		l.o.Replicas = func() int64 { return 1 }
	}
	if o.Redis == "" {
		return l, nil
	}
	var err error
	if l.redis, err = NewRedis(o.Redis, redisTimeout); err != nil {
		return nil, err
	}
	if err := l.redis.Connect(ctx); err != nil {
		l.leave(err)
	}
	ctx, l.stop = context.WithCancel(context.WithoutCancel(ctx))
	l.stopped.Go(func() { l.keep(ctx) })
	return l, nil
}

// keep renews the slots of running requests and asks an absent Redis for a
// sign of life.
func (l *Limiter) keep(ctx context.Context) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for turn := 1; ; turn++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if l.away.Load() {
			l.Probe(ctx)
		}
		if turn%int(renewal/probeEvery) == 0 && !l.away.Load() {
			l.judge(l.redis.Renew(ctx))
		}
	}
}

// Probe asks Redis for a sign of life, and returns to it if there is one.
func (l *Limiter) Probe(ctx context.Context) {
	if err := l.redis.Connect(ctx); err != nil {
		return
	}
	l.failures.Store(0)
	if l.away.CompareAndSwap(true, false) {
		l.o.Log.Info("redis is back, limits are shared again")
	}
}

// judge counts failures in a row.
func (l *Limiter) judge(err error) {
	if err == nil {
		l.failures.Store(0)
		return
	}
	if l.failures.Add(1) >= redisFailures {
		l.leave(err)
	}
}

func (l *Limiter) leave(err error) {
	if l.away.CompareAndSwap(false, true) {
		l.o.Log.Warn("redis is slow or away, each replica keeps its share of the limits", "error", err)
	}
}

// Away reports whether Redis is configured and not used, because it is slow or
// does not answer.
func (l *Limiter) Away() bool { return l.away.Load() }

// Close ends the limiter. Requests that still run are not counted any more.
func (l *Limiter) Close() {
	if l.redis == nil {
		return
	}
	l.stop()
	l.stopped.Wait()
	l.redis.Close()
}

// Admit lets a request pass that is within the limits of its key and its
// user. tokens is the most it is likely to use. When the request has ended,
// done must be called once with what it used; a negative number leaves the
// estimate. A refusal is a [jimu.Error] that names the limit.
func (l *Limiter) Admit(ctx context.Context, c *jimu.Caller, tokens int64) (done func(used int64), err error) {
	if c.KeyLimits == (jimu.Limits{}) && c.UserLimits == (jimu.Limits{}) {
		return free, nil
	}
	t := &ticket{l: l, owner: c.User}
	t.claim(c.Key, &c.KeyLimits, max(tokens, 0))
	t.claim(c.User, &c.UserLimits, max(tokens, 0))
	refused, wait, err := t.take(ctx)
	if err != nil {
		return nil, err
	}
	if refused >= 0 {
		return nil, refusal(&t.claims[refused], t.claims[refused].Of == c.Key, wait)
	}
	return func(used int64) { t.done(ctx, used) }, nil
}

// free is what ends a request without limits.
func free(int64) {}

// ticket is a request that was admitted.
type ticket struct {
	l       *Limiter
	owner   string
	request string // "" if it is counted in process
	claims  []Claim
	room    [maxClaims]Claim
	ended   atomic.Bool
}

func (t *ticket) claim(of string, limits *jimu.Limits, tokens int64) {
	if t.claims == nil {
		t.claims = t.room[:0]
	}
	add := func(kind Kind, n, limit int64) {
		if limit > 0 && of != "" {
			t.claims = append(t.claims, Claim{of, kind, n, limit})
		}
	}
	add(AtOnce, 1, limits.Concurrent)
	add(Requests, 1, limits.RPM)
	add(Tokens, tokens, limits.TPM)
}

// take takes the claims, from Redis if it answers.
func (t *ticket) take(ctx context.Context) (refused int, wait time.Duration, err error) {
	l := t.l
	if l.redis != nil && !l.away.Load() {
		t.request = jimu.NewID(l.o.Now())
		refused, wait, err = l.redis.Take(ctx, t.owner, t.request, t.claims)
		if err == nil {
			l.judge(nil)
			return refused, wait, nil
		}
		if ctx.Err() != nil {
			return 0, 0, fmt.Errorf("waiting for redis: %w", ctx.Err())
		}
		l.judge(err)
	}
	if l.redis != nil {
		share := max(l.o.Replicas(), 1)
		for i := range t.claims {
			t.claims[i].Limit = max(t.claims[i].Limit/share, 1)
		}
	}
	t.request = ""
	return l.memory.Take(ctx, t.owner, t.request, t.claims)
}

// done corrects the estimate and gives back the slot.
func (t *ticket) done(ctx context.Context, used int64) {
	if !t.ended.CompareAndSwap(false, true) {
		return
	}
	for i := range t.claims {
		if c := &t.claims[i]; c.Kind == Tokens {
			if used < 0 {
				c.N = 0
			} else {
				c.N = used - min(c.N, c.Limit)
			}
		}
	}
	if t.request == "" { // no request is named in process, where nothing can fail
		_ = t.l.memory.Settle(ctx, t.owner, "", t.claims)
		return
	}
	t.l.judge(t.l.redis.Settle(context.WithoutCancel(ctx), t.owner, t.request, t.claims))
}

func refusal(c *Claim, key bool, wait time.Duration) *jimu.Error {
	who := "this account"
	if key {
		who = "this API key"
	}
	what := map[Kind]string{Requests: "requests a minute", Tokens: "tokens a minute", AtOnce: "requests at once"}[c.Kind]
	if c.Kind == AtOnce {
		e := jimu.Errorf(jimu.RateLimited, "%s may make %d %s; try again when one has ended", who, c.Limit, what)
		e.RetryAfter = slotWait
		return e
	}
	verb := "make"
	if c.Kind == Tokens {
		verb = "use"
	}
	wait = max((wait + time.Second - 1).Truncate(time.Second), time.Second)
	e := jimu.Errorf(jimu.RateLimited, "%s may %s %d %s; try again in %v", who, verb, c.Limit, what, wait)
	e.RetryAfter = wait
	return e
}

package cache

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/jimu-ai/jimu"
)

const (
	// lease is how long a running request keeps its slot without a sign of
	// life from its replica, and renewal is how often there is one.
	lease   = 60 * time.Second
	renewal = 15 * time.Second
	// connectTimeout bounds a connection attempt.
	connectTimeout = 2 * time.Second
)

// prefix is before every name in Redis. The owner is the hash tag, so that a
// cluster keeps the counters of an owner together.
const prefix = "jimu:limit:{"

// takeScript takes all claims or none. KEYS are the counters. ARGV are the
// request and the lease, then for each counter its kind (r is a rate, s are
// slots) and its cost or limit. Numbers are whole and below 2^53.
//
//nolint:dupword // Lua ends blocks in a row
const takeScript = `
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local tats = {}
for i, key in ipairs(KEYS) do
  local kind, n = ARGV[2*i+1], tonumber(ARGV[2*i+2])
  if kind == 'r' then
    local tat = math.max(tonumber(redis.call('GET', key) or 0), now) + n
    if tat - now > 60000000 then return {i, tat - now - 60000000} end
    tats[i] = tat
  else
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
    if redis.call('ZCARD', key) >= n then return {i, 0} end
  end
end
for i, key in ipairs(KEYS) do
  if tats[i] then
    redis.call('SET', key, string.format('%.0f', tats[i]), 'PX', string.format('%.0f', math.ceil((tats[i] - now) / 1000) + 1))
  else
    redis.call('ZADD', key, string.format('%.0f', now + ARGV[2]), ARGV[1])
    redis.call('PEXPIRE', key, string.format('%.0f', ARGV[2] / 1000))
  end
end
return {0, 0}`

// settleScript ends a request. ARGV are the request and the greatest debt,
// then as above.
//
//nolint:dupword // Lua ends blocks in a row
const settleScript = `
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
for i, key in ipairs(KEYS) do
  if ARGV[2*i+1] == 's' then
    redis.call('ZREM', key, ARGV[1])
  else
    local tat = math.max(tonumber(redis.call('GET', key) or 0), now) + ARGV[2*i+2]
    if tat > now then
      tat = math.min(tat, now + ARGV[2])
      redis.call('SET', key, string.format('%.0f', tat), 'PX', string.format('%.0f', math.ceil((tat - now) / 1000) + 1))
    else
      redis.call('DEL', key)
    end
  end
end
return 0`

// renewScript prolongs the slots that still exist. ARGV are the lease and the
// requests; KEYS are the counters they are in.
const renewScript = `
local t = redis.call('TIME')
local till = string.format('%.0f', t[1] * 1000000 + t[2] + ARGV[1])
for i, key in ipairs(KEYS) do
  redis.call('ZADD', key, 'XX', 'GT', till, ARGV[i+1])
  redis.call('PEXPIRE', key, string.format('%.0f', ARGV[1] / 1000))
end
return 0`

// errNoRedis says that there is no connection yet.
var errNoRedis = errors.New("no connection to redis")

// Redis counts on a Redis server, for all replicas together. A method fails
// when the server does not answer in time; nothing is retried.
type Redis struct {
	option              rueidis.ClientOption
	client              atomic.Pointer[rueidis.Client]
	take, settle, renew *rueidis.Lua
	timeout             time.Duration

	mu      sync.Mutex
	running map[string][]string // request → the counters it has a slot of
}

// NewRedis makes a store on the server at an address: redis://, rediss:// or
// host:port. It does not connect: [Redis.Connect] does. timeout bounds each
// operation.
func NewRedis(address string, timeout time.Duration) (*Redis, error) {
	if !strings.Contains(address, "://") {
		address = "redis://" + address
	}
	o, err := rueidis.ParseURL(address)
	if err != nil {
		return nil, &jimu.Error{Code: jimu.Invalid, Param: "redis", Text: "the address of Redis must be like redis://user:password@host:6379/0"}
	}
	// Nothing is cached in the client, and some hosted servers have no
	// tracking: with it disabled, they need no setting.
	o.DisableCache, o.DisableRetry = true, true
	o.Dialer.Timeout = connectTimeout
	o.ConnWriteTimeout = connectTimeout
	o.BlockingPoolSize = 1
	return &Redis{
		option: o, timeout: timeout, running: make(map[string][]string),
		take: rueidis.NewLuaScript(takeScript), settle: rueidis.NewLuaScript(settleScript), renew: rueidis.NewLuaScript(renewScript),
	}, nil
}

// Connect connects, if there is no connection, and asks for a sign of life.
func (s *Redis) Connect(ctx context.Context) error {
	if s.client.Load() == nil {
		c, err := rueidis.NewClient(s.option)
		if err != nil {
			return fmt.Errorf("connecting to redis: %w", err)
		}
		if !s.client.CompareAndSwap(nil, &c) {
			c.Close()
		}
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	c := *s.client.Load()
	if err := c.Do(ctx, c.B().Ping().Build()).Error(); err != nil {
		return fmt.Errorf("asking redis: %w", err)
	}
	return nil
}

func name(owner string, c *Claim) string {
	return prefix + owner + "}:" + c.Of + ":" + strconv.Itoa(int(c.Kind))
}

func (s *Redis) run(ctx context.Context, script *rueidis.Lua, keys, args []string) ([]int64, error) {
	c := s.client.Load()
	if c == nil {
		return nil, errNoRedis
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	res := script.Exec(ctx, *c, keys, args)
	if script == s.take {
		return res.AsIntSlice() //nolint:wrapcheck // the caller wraps
	}
	return nil, res.Error()
}

// Take implements [Store].
func (s *Redis) Take(ctx context.Context, owner, request string, claims []Claim) (refused int, wait time.Duration, err error) {
	keys := make([]string, 0, len(claims))
	args := append(make([]string, 0, 2+2*len(claims)), request, strconv.FormatInt(lease.Microseconds(), 10))
	var slots []string
	for i := range claims {
		c := &claims[i]
		keys = append(keys, name(owner, c))
		if c.Kind == AtOnce {
			slots = append(slots, keys[i])
			args = append(args, "s", strconv.FormatInt(c.Limit, 10))
		} else {
			args = append(args, "r", strconv.FormatInt(c.entry(), 10))
		}
	}
	got, err := s.run(ctx, s.take, keys, args)
	switch {
	case err != nil:
		return 0, 0, fmt.Errorf("taking from the limits: %w", err)
	case len(got) != 2 || got[0] > int64(len(claims)):
		return 0, 0, fmt.Errorf("taking from the limits: redis answered %v", got)
	case got[0] > 0:
		return int(got[0]) - 1, micros(got[1]), nil
	}
	if slots != nil {
		s.mu.Lock()
		s.running[request] = slots
		s.mu.Unlock()
	}
	return -1, 0, nil
}

// Settle implements [Store].
func (s *Redis) Settle(ctx context.Context, owner, request string, claims []Claim) error {
	s.mu.Lock()
	delete(s.running, request)
	s.mu.Unlock()
	var keys []string
	args := []string{request, strconv.FormatInt(maxDebt, 10)}
	for i := range claims {
		c := &claims[i]
		switch c.Kind {
		case Tokens:
			keys = append(keys, name(owner, c))
			args = append(args, "r", strconv.FormatInt(cost(c.N, c.Limit), 10))
		case AtOnce:
			keys = append(keys, name(owner, c))
			args = append(args, "s", "0")
		case Requests:
		}
	}
	if keys == nil {
		return nil
	}
	if _, err := s.run(ctx, s.settle, keys, args); err != nil {
		return fmt.Errorf("settling the limits: %w", err)
	}
	return nil
}

// Renew prolongs the slots of the requests that run. What a dead replica does
// not renew is free after a minute.
func (s *Redis) Renew(ctx context.Context) error {
	s.mu.Lock()
	running := maps.Clone(s.running)
	s.mu.Unlock()
	for request, slots := range running {
		args := []string{strconv.FormatInt(lease.Microseconds(), 10)}
		for _, slot := range slots {
			if _, err := s.run(ctx, s.renew, []string{slot}, append(args, request)); err != nil {
				return fmt.Errorf("renewing the slot of a request: %w", err)
			}
		}
	}
	return nil
}

// Close implements [Store].
func (s *Redis) Close() {
	if c := s.client.Swap(nil); c != nil {
		(*c).Close()
	}
}

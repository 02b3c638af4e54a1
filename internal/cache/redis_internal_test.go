package cache

import (
	"strconv"
	"testing"
	"time"
)

// SlotTTL returns how long a request still keeps a slot.
func (s *Redis) SlotTTL(t *testing.T, owner string, c Claim, request string) time.Duration {
	t.Helper()
	client := *s.client.Load()
	at, err := client.Do(t.Context(), client.B().Zscore().Key(name(owner, &c)).Member(request).Build()).AsFloat64()
	if err != nil {
		t.Fatal(err)
	}
	return time.Until(time.UnixMicro(int64(at)))
}

// Expire lets the lease of a slot end.
func (s *Redis) Expire(t *testing.T, owner string, c Claim, request string) {
	t.Helper()
	client := *s.client.Load()
	past := strconv.FormatInt(time.Now().Add(-time.Second).UnixMicro(), 10)
	if _, err := client.Do(t.Context(), client.B().Arbitrary("ZADD").Keys(name(owner, &c)).Args(past, request).Build()).ToInt64(); err != nil {
		t.Fatal(err)
	}
}

// No cost wraps, whatever is asked.
func FuzzCost(f *testing.F) {
	f.Add(int64(1), int64(3))
	f.Add(int64(1<<62), int64(1))
	f.Add(int64(-1<<62), int64(1<<62))
	f.Fuzz(func(t *testing.T, n, limit int64) {
		if limit <= 0 || n == -1<<63 {
			t.Skip()
		}
		got := cost(n, limit)
		if got > maxDebt || got < -maxDebt || (n > 0) != (got > 0) {
			t.Errorf("cost(%d, %d) = %d", n, limit, got)
		}
		if n > 0 && n < 1<<30 && got < maxDebt && (got*limit < n*minute && got < (n*minute)/limit) {
			t.Errorf("cost(%d, %d) = %d is too small", n, limit, got)
		}
	})
}

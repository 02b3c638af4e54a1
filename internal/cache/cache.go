// Package cache keeps what must be shared and may be lost: how much each
// caller has used of its limits. It counts in process, or on Redis where
// several replicas share the limits. Nothing here is money.
//
// The rates are GCRA: for each limit one int64, the theoretical arrival time
// (TAT), in microseconds. A limit of n a minute lets n pass at once and then
// one each n-th of a minute.
package cache

import (
	"context"
	"math"
	"math/bits"
	"time"
)

// Kind is what a limit counts.
type Kind uint8

// The kinds.
const (
	Requests Kind = iota // a minute
	Tokens               // a minute
	AtOnce               // requests that run
)

// Claim is a part of one limit that a request wants.
type Claim struct {
	Of    string // the ID of the key or user whose limit it is
	Kind  Kind
	N     int64 // how much is wanted; always 1 of AtOnce
	Limit int64 // above 0
}

// Store counts. Its methods are safe for concurrent use.
type Store interface {
	// Take takes all claims of a request or none. It returns the index of the
	// claim that was refused, or -1, and how long to wait; 0 is unknown. All
	// claims of an owner are counted together.
	Take(ctx context.Context, owner, request string, claims []Claim) (refused int, wait time.Duration, err error)
	// Settle ends a request. A claim of Tokens is corrected by N, which may be
	// negative; a claim of AtOnce is given back; one of Requests stays.
	Settle(ctx context.Context, owner, request string, claims []Claim) error
	// Close releases what the store has open.
	Close()
}

const (
	minute = int64(time.Minute / time.Microsecond)
	// maxDebt is the longest that a wrong estimate can make a caller wait.
	maxDebt = 10 * minute
)

// cost is how many microseconds n of a limit per minute take, rounded up, and
// at most maxDebt.
func cost(n, limit int64) int64 {
	if n < 0 {
		return -cost(-n, limit)
	}
	per := uint64(limit) //nolint:gosec // above 0
	hi, lo := bits.Mul64(uint64(n), uint64(minute))
	lo, carry := bits.Add64(lo, per-1, 0)
	if hi += carry; hi >= per {
		return maxDebt
	}
	q, _ := bits.Div64(hi, lo, per)
	return int64(min(q, uint64(maxDebt)))
}

// entry is what a claim costs to take: a request that is larger than the whole
// limit takes all of it, and pays the rest when it is settled.
func (c *Claim) entry() int64 { return min(cost(c.N, c.Limit), minute) }

func micros(d int64) time.Duration {
	return time.Duration(min(d, math.MaxInt64/int64(time.Microsecond))) * time.Microsecond
}

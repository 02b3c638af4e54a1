package jimu

import (
	"encoding/json"
	"errors"
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// Credit is an amount of the balance's unit, in nano-credits: 1 credit is
// 1e9, and is worth 1 unit of the site's currency.
type Credit int64

// OneCredit is 1 credit.
const OneCredit Credit = 1e9

const creditDecimals = 9

// ErrOverflow says that an amount does not fit in an int64 of nano-credits
// (about 9.2 billion credits). Money never wraps.
var ErrOverflow = errors.New("the amount is too large")

// ParseCredit reads a decimal number of credits, such as "12.5" or "-0.000000001".
// More than nine decimals, exponents, signs other than a leading minus, and
// spaces are refused.
func ParseCredit(s string) (Credit, error) {
	bad := func() (Credit, error) {
		return 0, Errorf(Invalid, "%q is not an amount: write a decimal number with at most %d decimals, such as 12.5", s, creditDecimals)
	}
	digits, neg := strings.CutPrefix(s, "-")
	whole, frac, dot := strings.Cut(digits, ".")
	if whole == "" || (dot && frac == "") || len(frac) > creditDecimals {
		return bad()
	}
	for _, c := range whole + frac {
		if c < '0' || c > '9' {
			return bad()
		}
	}
	n, err := strconv.ParseUint(whole+frac+strings.Repeat("0", creditDecimals-len(frac)), 10, 63)
	if err != nil {
		return 0, ErrOverflow
	}
	if neg {
		return -Credit(n), nil
	}
	return Credit(n), nil
}

// String writes the amount in credits, exactly, without trailing zeros: "12.5".
func (c Credit) String() string {
	u := uint64(c) //nolint:gosec // its two's complement is negated below
	sign := ""
	if c < 0 {
		u, sign = -u, "-"
	}
	var b [32]byte
	out := append(b[:0], sign...)
	out = strconv.AppendUint(out, u/uint64(OneCredit), 10)
	frac := u % uint64(OneCredit)
	if frac == 0 {
		return string(out)
	}
	out = append(out, '.')
	for unit := uint64(OneCredit) / 10; frac > 0; unit /= 10 {
		out = append(out, "0123456789"[frac/unit])
		frac %= unit
	}
	return string(out)
}

// MarshalJSON writes the amount as a decimal string.
func (c Credit) MarshalJSON() ([]byte, error) { return []byte(`"` + c.String() + `"`), nil }

// UnmarshalJSON reads a decimal string, or a plain decimal number.
func (c *Credit) UnmarshalJSON(b []byte) error {
	s := string(b)
	if len(b) > 0 && b[0] == '"' {
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
	}
	v, err := ParseCredit(s)
	if err == nil {
		*c = v
	}
	return err
}

// Add returns c + d, or [ErrOverflow].
func (c Credit) Add(d Credit) (Credit, error) {
	s := c + d
	if (c > 0 && d > 0 && s < 0) || (c < 0 && d < 0 && s >= 0) {
		return 0, ErrOverflow
	}
	return s, nil
}

// Sub returns c - d, or [ErrOverflow].
func (c Credit) Sub(d Credit) (Credit, error) {
	if d == math.MinInt64 {
		return 0, ErrOverflow
	}
	return c.Add(-d)
}

// sum128 is an unsigned 128-bit accumulator of products.
type sum128 struct{ hi, lo uint64 }

// add adds a × b, both not negative. It reports false on overflow or a
// negative factor.
func (s *sum128) add(a, b int64) bool {
	if a < 0 || b < 0 {
		return false
	}
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	var carry uint64
	s.lo, carry = bits.Add64(s.lo, lo, 0)
	s.hi, carry = bits.Add64(s.hi, hi, carry)
	return carry == 0
}

// times multiplies the sum by n. It reports false on overflow.
func (s *sum128) times(n uint64) bool {
	hi, lo := bits.Mul64(s.lo, n)
	over, hi2 := bits.Mul64(s.hi, n)
	var carry uint64
	s.hi, carry = bits.Add64(hi, hi2, 0)
	s.lo = lo
	return over == 0 && carry == 0
}

// divCeil returns the sum divided by d, rounded up.
func (s sum128) divCeil(d uint64) (Credit, error) {
	if s.hi >= d {
		return 0, ErrOverflow
	}
	q, r := bits.Div64(s.hi, s.lo, d)
	if r > 0 {
		q++
	}
	if q > math.MaxInt64 {
		return 0, ErrOverflow
	}
	return Credit(q), nil
}

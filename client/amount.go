package client

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Amount is an exact decimal amount of credit, in billionths of a credit.
type Amount int64

// decimals is how many an amount has.
const decimals = 9

const oneCredit = 1_000_000_000

// ParseAmount reads a decimal number of credits with at most nine decimals,
// such as "12.5".
func ParseAmount(s string) (Amount, error) {
	digits, negative := strings.CutPrefix(s, "-")
	whole, fraction, dot := strings.Cut(digits, ".")
	bad := whole == "" || (dot && fraction == "") || len(fraction) > decimals
	for _, c := range whole + fraction {
		bad = bad || c < '0' || c > '9'
	}
	if bad {
		return 0, fmt.Errorf("%q is not an amount of credit", s)
	}
	n, err := strconv.ParseInt(whole+fraction+strings.Repeat("0", decimals-len(fraction)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is too large an amount of credit", s)
	}
	if negative {
		n = -n
	}
	return Amount(n), nil
}

// String writes the amount in credits, exactly: "12.5".
func (a Amount) String() string {
	sign, u := "", uint64(a) //nolint:gosec // two's complement is wanted
	if a < 0 {
		sign, u = "-", -u
	}
	s := fmt.Sprintf("%s%d.%0*d", sign, u/oneCredit, decimals, u%oneCredit)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

// MarshalJSON writes a decimal string.
func (a Amount) MarshalJSON() ([]byte, error) { return []byte(strconv.Quote(a.String())), nil }

// UnmarshalJSON reads a decimal string.
func (a *Amount) UnmarshalJSON(b []byte) error {
	var s string
	err := json.Unmarshal(b, &s)
	if err != nil {
		return fmt.Errorf("decoding an amount: %w", err)
	}
	*a, err = ParseAmount(s)
	return err
}

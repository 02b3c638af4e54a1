package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/jimu-ai/jimu"
)

// hashEntry chains an entry to the one before it on the same statement. Each
// field goes in with its length, so that none can run into the next.
func hashEntry(buf []byte, prev []byte, e *jimu.Entry) ([]byte, []byte) {
	buf = append(buf[:0], 1) // the version of this encoding
	str := func(s string) {
		buf = binary.AppendUvarint(buf, uint64(len(s)))
		buf = append(buf, s...)
	}
	num := func(n int64) { buf = binary.BigEndian.AppendUint64(buf, uint64(n)) } //nolint:gosec // the same 64 bits
	buf = binary.AppendUvarint(buf, uint64(len(prev)))
	buf = append(buf, prev...)
	str(e.Owner)
	num(e.Seq)
	str(e.Debit)
	str(e.Credit)
	num(int64(e.Amount))
	num(int64(e.After))
	str(string(e.Kind))
	str(e.Ref)
	num(e.At.UnixMicro())
	str(e.Reason)
	str(e.Price)
	str(e.Budget)
	str(e.Detail)
	sum := sha256.Sum256(buf)
	return buf, sum[:]
}

// detail is what an entry keeps to prove its amount.
type detail struct {
	Model string     `json:"model"`
	Began int64      `json:"began"` // microseconds since 1970, UTC
	Usage jimu.Usage `json:"usage"`
	// Cost is the bill where it is below what the price says of the usage: a
	// usage that cannot be true, or one charged in part.
	Cost *int64 `json:"cost,omitempty"`
}

// appendDetail writes a detail as JSON. It is on the path of every charge, so
// it is written by hand; a test compares it with encoding/json.
func appendDetail(b []byte, c *jimu.Charge, capped bool) []byte {
	b = append(b, `{"model":`...)
	b = appendString(b, c.Model)
	b = append(b, `,"began":`...)
	b = strconv.AppendInt(b, c.Began.UnixMicro(), 10)
	b = append(b, `,"usage":{`...)
	start := len(b)
	u := &c.Usage
	for _, f := range [...]struct {
		name string
		n    int64
	}{
		{`"in_text":`, u.InText},
		{`"in_cached":`, u.InCached},
		{`"in_cache_write_5m":`, u.InCacheWrite5m},
		{`"in_cache_write_1h":`, u.InCacheWrite1h},
		{`"in_audio":`, u.InAudio},
		{`"in_image":`, u.InImage},
		{`"out_text":`, u.OutText},
		{`"out_reasoning":`, u.OutReasoning},
		{`"out_audio":`, u.OutAudio},
		{`"out_image":`, u.OutImage},
		{`"web_searches":`, u.WebSearches},
		{`"upstream_cost":`, u.UpstreamCost},
	} {
		if f.n != 0 {
			if len(b) > start {
				b = append(b, ',')
			}
			b = append(b, f.name...)
			b = strconv.AppendInt(b, f.n, 10)
		}
	}
	if u.Estimated {
		if len(b) > start {
			b = append(b, ',')
		}
		b = append(b, `"estimated":true`...)
	}
	b = append(b, '}')
	if capped {
		b = append(b, `,"cost":`...)
		b = strconv.AppendInt(b, int64(c.Cost), 10)
	}
	return append(b, '}')
}

// appendString writes a JSON string.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, err := json.Marshal(s)
			if err != nil {
				panic(err) // a string always marshals
			}
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// readDetail fills what an entry shows from what it keeps.
func readDetail(e *jimu.Entry) (detail, error) {
	var d detail
	if e.Detail == "" {
		return d, nil
	}
	if err := json.Unmarshal([]byte(e.Detail), &d); err != nil {
		return d, fmt.Errorf("reading the detail of entry %s %s: %w", e.Kind, e.Ref, err)
	}
	e.Model, e.Usage, e.Began = d.Model, &d.Usage, time.UnixMicro(d.Began).UTC()
	return d, nil
}

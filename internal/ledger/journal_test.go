package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/jimu-ai/jimu"
)

func someRecords() ([]record, []priceRecord) {
	at := time.UnixMicro(1_700_000_000_123_456).UTC()
	return []record{
		{node: "n", request: "r1", account: alice, taken: 5, over: 2, price: "v", detail: `{"model":"m"}`, at: at},
		{node: "n", request: "r2", account: bob, budget: "key", taken: 1 << 62, at: at},
	}, []priceRecord{{"v", "m", "{}"}}
}

func TestSegment(t *testing.T) {
	t.Parallel()
	records, prices := someRecords()
	b := appendPrice(nil, prices[0])
	for i := range records {
		b = appendRecord(b, &records[i])
	}
	opt := cmp.AllowUnexported(record{}, priceRecord{})
	gotR, gotP, err := parseSegment(b)
	if diff := cmp.Diff(records, gotR, opt) + cmp.Diff(prices, gotP, opt); diff != "" || err != nil {
		t.Errorf("error %v, (-want +got):\n%s", err, diff)
	}
	for n := range b { // torn anywhere: never an error but errTorn, never a wrong record
		gotR, _, err := parseSegment(b[:n])
		if err != nil && !errors.Is(err, errTorn) {
			t.Fatalf("cut at %d: %v", n, err)
		}
		if len(gotR) > 0 {
			if diff := cmp.Diff(records[:len(gotR)], gotR, opt); diff != "" {
				t.Fatalf("cut at %d (-want +got):\n%s", n, diff)
			}
		}
		flipped := bytes.Clone(b)
		flipped[n] ^= 0x40
		if _, _, err := parseSegment(flipped); err == nil {
			t.Fatalf("a flipped bit at %d is not found", n)
		}
	}
}

func FuzzSegment(f *testing.F) {
	records, prices := someRecords()
	f.Add(appendPrice(nil, prices[0]))
	f.Add(appendRecord(nil, &records[0]))
	f.Add(appendRecord(appendRecord(nil, &records[0]), &records[1])[:40])
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 'C'})
	f.Add(frame(nil, func(b []byte) []byte { return append(b, 'C', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1) }))
	f.Add(frame(nil, func(b []byte) []byte { return append(b, 'Z') }))
	f.Fuzz(func(t *testing.T, b []byte) {
		records, prices, err := parseSegment(b)
		var again []byte
		for _, p := range prices {
			again = appendPrice(again, p)
		}
		for i := range records {
			if records[i].taken < 0 || records[i].over < 0 {
				t.Fatalf("a negative charge: %+v", records[i])
			}
			again = appendRecord(again, &records[i])
		}
		if err == nil {
			r2, p2, err := parseSegment(again)
			if err != nil || len(r2) != len(records) || len(p2) != len(prices) {
				t.Fatalf("written again: %v", err)
			}
		}
		// The payload itself, past the checksum.
		if len(b) > 0 {
			_, _, _ = parseSegment(frame(nil, func(x []byte) []byte { return append(x, b...) }))
		}
	})
}

func FuzzDetail(f *testing.F) {
	f.Add("gpt", int64(1), int64(2), false, int64(0))
	f.Add("模 \"<&>\x00\xff", int64(-1), int64(1<<62), true, int64(77))
	f.Fuzz(func(t *testing.T, model string, a, b int64, estimated bool, cost int64) {
		c := &jimu.Charge{
			Model: model, Cost: jimu.Credit(cost), Began: time.UnixMicro(1_700_000_000_000_001),
			Usage: jimu.Usage{
				InText: a, InCached: b, InCacheWrite5m: a, InCacheWrite1h: b, InAudio: a, InImage: b, OutText: a,
				OutReasoning: b, OutAudio: a, OutImage: b, WebSearches: a, UpstreamCost: b, Estimated: estimated,
			},
		}
		d := detail{Model: model, Began: c.Began.UnixMicro(), Usage: c.Usage}
		if cost != 0 {
			d.Cost = &cost
		}
		want, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if got := appendDetail(nil, c, cost != 0); string(got) != string(want) {
			t.Errorf("detail = %s\nwant     %s", got, want)
		}
	})
}

func TestSegmentsGoWhenTheyAreCommitted(t *testing.T) {
	t.Parallel()
	j, err := openJournal(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	records, prices := someRecords()
	r := &records[0]
	r.detail = string(make([]byte, segmentSize/4))
	price := func() (priceRecord, error) { return prices[0], nil }
	count := map[*segment]int64{}
	for range 10 {
		seg, err := j.append(r, price)
		if err != nil {
			t.Fatal(err)
		}
		count[seg]++
	}
	if len(count) < 2 {
		t.Fatalf("%d segments, want several", len(count))
	}
	for seg, n := range count {
		j.committed(seg, n-1)
	}
	if paths, err := j.segments(); err != nil || len(paths) != len(count) {
		t.Errorf("%d segments before the last commit, want %d (%v)", len(paths), len(count), err)
	}
	for seg := range count {
		j.committed(seg, 1)
	}
	if paths, err := j.segments(); err != nil || len(paths) != 1 {
		t.Errorf("segments = %v, want the current one (%v)", paths, err)
	}
	j.tidy()
	j.close()
	if paths, err := j.segments(); err != nil || len(paths) != 0 {
		t.Errorf("segments = %v, want none (%v)", paths, err)
	}
}

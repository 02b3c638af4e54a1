package ledger

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/store"
	"github.com/jimu-ai/jimu/internal/store/storetest"
)

// cpu is the processor time of this process.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkCharge is a whole request: hold, settle, journal, and its share of
// a commit of a batch, on one busy account.
func BenchmarkCharge(b *testing.B) {
	for _, batch := range []int{1, 16, 64, 256, 1024} {
		b.Run(fmt.Sprint("batch=", batch), func(b *testing.B) {
			s := storetest.Open(b, "")
			l, err := Start(b.Context(), Options{Book: Of(store.NewLedger(s)), Dir: s.Data(), Node: s.Node})
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close(b.Context()) //nolint:errcheck // the store is thrown away
			mustGrant(b, l, alice, 1e18)
			p := flat(b)
			c := bill(p, 1000)
			c.Usage = jimu.Usage{InText: 300, OutText: 700}
			for range 100 { // the lease grows, statements are prepared
				mustSettle(b, mustHold(b, l, alice, 2000), c)
				mustFlush(b, l)
			}
			was, commits := cpu(b), l.Stats().Commits
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				mustSettle(b, mustHold(b, l, alice, 2000), c)
				if i%batch == batch-1 {
					mustFlush(b, l)
				}
			}
			mustFlush(b, l)
			b.StopTimer()
			b.ReportMetric(float64((cpu(b)-was).Nanoseconds())/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(b.N)/float64(l.Stats().Commits-commits), "batch")
		})
	}
}

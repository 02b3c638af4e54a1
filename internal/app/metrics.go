package app

import (
	"fmt"
	"io"

	"github.com/jimu-ai/jimu/internal/relay"
)

// metric is one line of the Prometheus text format.
type metric struct {
	name, kind, help string
	value            int64
}

// metrics writes what the relay and the ledger count.
func (f *faces) metrics(w io.Writer) {
	r, l := f.relay.Stats(), f.app.ledger.Stats()
	healthy := int64(1)
	if f.app.ledger.Healthy() != nil {
		healthy = 0
	}
	fmt.Fprint(w, "# HELP jimu_requests_total Model requests that ended, by state.\n# TYPE jimu_requests_total counter\n")
	for _, s := range []struct {
		state string
		n     int64
	}{{"ok", r.OK}, {"failed", r.Failed}, {"refused", r.Refused}, {"cancelled", r.Cancelled}, {"ended", r.Ended}} {
		fmt.Fprintf(w, "jimu_requests_total{state=%q} %d\n", s.state, s.n)
	}
	for _, m := range []metric{
		{"jimu_requests_running", "gauge", "Model requests at this moment.", r.Running},
		{"jimu_retries_total", "counter", "Attempts after the first.", r.Retries},
		{"jimu_quarantined_total", "counter", "Answers with a usage that cannot be true.", r.Quarantined},
		{"jimu_unsettled_total", "counter", "Charges that could not be booked; must be 0.", r.Unsettled},
		{"jimu_panics_total", "counter", "Requests that panicked; must be 0.", r.Panics},
		{"jimu_tokens_in_total", "counter", "Input tokens.", r.TokensIn},
		{"jimu_tokens_out_total", "counter", "Output tokens.", r.TokensOut},
		{"jimu_ledger_healthy", "gauge", "1 if every invariant of the ledger holds.", healthy},
		{"jimu_ledger_holds_total", "counter", "Holds given.", l.Holds},
		{"jimu_ledger_refused_total", "counter", "Holds not given.", l.Refused},
		{"jimu_ledger_charges_total", "counter", "Charges booked.", l.Charges},
		{"jimu_ledger_commits_total", "counter", "Commits of the group writer.", l.Commits},
		{"jimu_ledger_commits_failed_total", "counter", "Commits that were tried again.", l.CommitsFailed},
		{"jimu_ledger_queued", "gauge", "Charges that wait for a commit.", l.Queued},
		{"jimu_ledger_journal_bytes", "gauge", "Size of the journal.", l.JournalBytes},
		{"jimu_usage_rows_dropped_total", "counter", "Usage rows lost since the database could not keep up.", f.usage.Dropped()},
	} {
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n%s %d\n", m.name, m.help, m.name, m.kind, m.name, m.value)
	}
	firstEvent(w, r.First)
}

// firstEvent writes the time to the first event as cumulative buckets.
func firstEvent(w io.Writer, buckets []relay.Bucket) {
	const name = "jimu_first_event_seconds_bucket"
	fmt.Fprint(w, "# HELP jimu_first_event_seconds_bucket Answers by the time to their first event, cumulative.\n# TYPE jimu_first_event_seconds_bucket counter\n")
	var sum int64
	for _, b := range buckets {
		sum += b.Count
		fmt.Fprintf(w, "%s{le=\"%g\"} %d\n", name, b.Within.Seconds(), sum)
	}
}

package main

import (
	"fmt"
	"os"
	"strconv"
	"text/tabwriter"
)

// milli writes a whole number of thousandths as a decimal number.
func milli(n int64, decimals int) string {
	s := fmt.Sprintf("%d.%03d", n/1000, n%1000)
	if decimals == 0 {
		return s[:len(s)-4]
	}
	return s[:len(s)-3+decimals]
}

// ratio is a to b in thousandths.
func ratio(a, b int64) int64 {
	if b == 0 {
		return 0
	}
	return a * 1000 / b
}

// report prints what was measured, and how it compares.
func (b *bench) report() {
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "target\treq/s\tp50 ms\tp99 ms\tCPU s/10k\topen p50\topen p99\tevent p50\tevent p99\tCPU \u00b5s/event\tRSS MiB idle\tc=%d\tpeak\theld\tKiB/stream\tcores\t\n", closedConns)
	for _, name := range b.names {
		r := b.results[name]
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t", name, median(r.rate), milli(median(r.p50), 2), milli(median(r.p99), 2))
		// ns per request = 10^-5 s per 10,000 requests.
		fmt.Fprintf(w, "%s\t", milli(median(r.cpu)/100, 3))
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t", milli(median(r.openP50), 2), milli(median(r.openP99), 2), milli(median(r.lagP50), 2), milli(median(r.lagP99), 2))
		fmt.Fprintf(w, "%s\t", milli(median(r.eventCPU), 1))
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t\n", mib(r.idle), mib(r.busy), mib(r.peak), mib(r.held), milli((r.held-r.idle)*1000/heldCount, 1), milli(r.heldCores, 2))
	}
	_ = w.Flush() // standard output
	fmt.Printf("\nclosed loop c=%d; open loop %d/s from when due; events: %d streams, one each %v, from the mock's write to the client's read; held: %d streams, one each %v, 1.5 s after all have begun. Medians of %d rounds.\n\n",
		closedConns, openRate, eventCount, fastInterval, heldCount, slowInterval, b.s.rounds)
}

// goal is a target of the project.
type goal struct {
	what      string
	got       int64 // thousandths, unless unit says more
	must, aim int64
	unit      string
}

// goals prints Jimu's figures beside the targets that were set.
func (b *bench) goals() {
	j := b.results[jimu]
	var all []goal
	cpu := func(name string, must, aim int64) {
		if r := b.results[name]; r != nil {
			all = append(all, goal{"CPU per request, to " + name, ratio(median(j.cpu), median(r.cpu)), must, aim, "\u00d7"})
		}
	}
	cpu(nginxAuth, 1100, 750)
	cpu(goProxy, 1050, 700)
	cpu(nginx, 2300, 1500)
	all = append(all,
		goal{"memory idle", j.idle * 1000 / 1024, 35_000, 25_000, " MiB"},
		goal{"start to first answer", median(j.first), 80_000, 40_000, " ms"},
		goal{"2,000 streams: memory at most", j.peak * 1000 / 1024, 160_000, 60_000, " MiB"},
		goal{"2,000 streams: memory of each beyond idle", (j.held - j.idle) * 1000 / heldCount, 16_000, 16_000, " KiB"},
		goal{"2,000 streams: cores", j.heldCores, 800, 550, ""},
	)
	if d := b.results[direct]; d != nil {
		all = append(all, goal{"delay added to each event, p99", max(median(j.lagP99)-median(d.lagP99), 0), 5000, 5000, " ms"})
	}
	if info, err := os.Stat(b.s.jimu); err == nil {
		all = append(all, goal{"binary", info.Size() * 1000 >> 20, 40_000, 40_000, " MiB"})
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	for _, g := range all {
		mark := "\u2713 aim"
		switch {
		case g.got > g.must:
			mark = "\u2717 missed"
			b.missed++
		case g.got > g.aim:
			mark = "\u2713 must"
		}
		fmt.Fprintf(w, "%s\t%s%s\tmust \u2264 %s, aim \u2264 %s\t%s\n", g.what, milli(g.got, 2), g.unit, short(g.must), short(g.aim), mark)
	}
	_ = w.Flush() // standard output
}

func short(n int64) string {
	if n%1000 == 0 {
		return strconv.FormatInt(n/1000, 10)
	}
	return milli(n, 2)
}

func mib(kib int64) string { return milli(kib*1000/1024, 1) }

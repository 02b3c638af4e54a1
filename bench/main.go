// Command bench measures what the gateway costs, beside others that do less:
// nobody in between, nginx, nginx with auth_request, a minimal
// httputil.ReverseProxy. All run in one go on one machine, in turns; the
// target is pinned to core 0, the mock upstream and the load to core 1. So
// each figure is that of a server with one core, and only the ratios between
// targets of the same run mean anything: nothing finer than about 1.3 can be
// claimed on a shared machine.
//
// Everything is bounded in count and time, speaks over loopback only, and is
// stopped by its process ID.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// settings are the flags of a run.
type settings struct {
	jimu    string
	quick   bool
	rounds  int
	profile string
	only    string
	keep    bool

	closed, open, events, held time.Duration
	limit                      time.Duration
}

const (
	pinned      = "JIMU_BENCH_PINNED"
	targetCore  = "0"
	loadCore    = "1"
	closedConns = 64
	openRate    = 1000 // requests a second
	openConns   = 256
	eventCount  = 500  // streams, an event each 20 ms
	heldCount   = 2000 // streams, an event each 100 ms
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) //nolint:forbidigo // main makes it
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1) //nolint:forbidigo // main exits
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		return serve(ctx, args[0], args[1:])
	}
	s, err := parse(args)
	if err != nil {
		return err
	}
	if os.Getenv(pinned) == "" { //nolint:forbidigo // said by ourselves
		return pin(ctx, args)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.limit, errors.New("the run took too long"))
	defer cancel()
	b, err := newBench(ctx, s)
	if err != nil {
		return err
	}
	err = b.run(ctx)
	return errors.Join(err, b.close())
}

func parse(args []string) (*settings, error) {
	s := &settings{
		rounds: 3, closed: 2 * time.Second, open: 2 * time.Second, events: 2 * time.Second, held: 4 * time.Second, limit: 6 * time.Minute,
	}
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.StringVar(&s.jimu, "jimu", "bin/jimu", "the binary to measure; make build makes it")
	fs.BoolVar(&s.quick, "quick", false, "a minute at most: shorter, and less exact")
	closed := fs.Duration("closed", 0, "how long the closed loop of each target and round runs (0: the default)")
	fs.IntVar(&s.rounds, "rounds", s.rounds, "rounds; the median of them counts")
	fs.StringVar(&s.profile, "profile", "", "save CPU and heap profiles of jimu in this `folder`")
	fs.StringVar(&s.only, "only", "", "measure only these `targets`, separated by commas: "+strings.Join(allTargets(), ", "))
	fs.BoolVar(&s.keep, "keep", false, "keep the folder with the data and logs")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if s.quick {
		s.closed, s.open, s.events, s.held, s.limit = 600*time.Millisecond, time.Second, time.Second, 2*time.Second, 2*time.Minute
	}
	s.closed = cmp.Or(*closed, s.closed)
	return s, nil
}

// pin starts this program again on the core of the load, if there are two.
func pin(ctx context.Context, args []string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding the program: %w", err)
	}
	value := "0"
	command := append([]string{self}, args...)
	if two(ctx) {
		value = "1"
		command = append([]string{"taskset", "-c", loadCore}, command...)
	} else {
		fmt.Fprintln(os.Stderr, "bench: no taskset or no second core, so nothing is pinned: the figures mean little")
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...) //nolint:gosec // ourselves
	cmd.Env = append(os.Environ(), pinned+"="+value)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	// A session of its own can be put before what else the machine does, where
	// that is allowed: others make every figure worse, and not by the same.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting again: %w", err)
	}
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/autogroup", cmd.Process.Pid), []byte("-20"), 0)
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("measuring: %w", err)
	}
	return nil
}

// two reports whether a program can be pinned to the second core.
func two(ctx context.Context) bool {
	return exec.CommandContext(ctx, "taskset", "-c", targetCore+","+loadCore, "true").Run() == nil
}

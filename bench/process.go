//nolint:gosec // whoever runs it names the files, and all addresses are of the loopback
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// ticks is the kernel's USER_HZ, in which /proc tells times.
	ticks      = 100
	stopTime   = 10 * time.Second
	readyTime  = 15 * time.Second
	readyEvery = time.Millisecond
)

// process is a child of the run.
type process struct {
	cmd  *exec.Cmd
	name string
	log  string
	done chan struct{} // closed when it has ended
	err  error         // and how
}

// start starts a program, on a core if it is named, and writes what it prints
// to a log.
func start(ctx context.Context, dir, core, name string, command ...string) (*process, error) {
	if core != "" {
		command = append([]string{"taskset", "-c", core}, command...)
	}
	p := &process{name: name, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", name, err)
	}
	p.cmd = exec.CommandContext(ctx, command[0], command[1:]...)
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Dir = log, log, dir
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = stopTime
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting %s: %w", name, err), log.Close())
	}
	go func() {
		defer close(p.done)
		p.err = errors.Join(p.cmd.Wait(), log.Close())
	}()
	return p, nil
}

// stop ends the process and waits for it.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may be gone
	select {
	case <-p.done:
		return nil
	case <-time.After(stopTime):
		return errors.Join(fmt.Errorf("%s did not stop", p.name), p.cmd.Process.Kill())
	}
}

// fail adds the end of the log to an error.
func (p *process) fail(err error) error {
	b, readErr := os.ReadFile(p.log)
	if readErr != nil {
		return err
	}
	const tail = 2000
	return fmt.Errorf("%w\n%s said: %s", err, p.name, b[max(len(b)-tail, 0):])
}

// cpu is the time that the process has used, in both modes.
func (p *process) cpu() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("reading the time of %s: %w", p.name, err)
	}
	_, rest, _ := strings.Cut(string(b), ") ") // the name may hold spaces
	f := strings.Fields(rest)
	const user, system = 11, 12 // utime and stime, from the state on
	if len(f) <= system {
		return 0, fmt.Errorf("reading the time of %s: %q", p.name, b)
	}
	u, err1 := strconv.ParseInt(f[user], 10, 64)
	s, err2 := strconv.ParseInt(f[system], 10, 64)
	return time.Duration(u+s) * time.Second / ticks, errors.Join(err1, err2)
}

// rss is the resident memory in KiB.
func (p *process) rss() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("reading the memory of %s: %w", p.name, err)
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	line, _, _ := strings.Cut(rest, "kB")
	return strconv.ParseInt(strings.TrimSpace(line), 10, 64)
}

// freeAddress returns a loopback address that nobody listens on.
func freeAddress(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("finding a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

// ready waits until a request is answered.
func (p *process) ready(ctx context.Context, l *load) error {
	limit := time.Now().Add(readyTime)
	for {
		c, err := dial(ctx, l.addr)
		if err == nil {
			err = errors.Join(c.do(l.request, nil), c.Close())
		}
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return p.fail(fmt.Errorf("%s ended: %w", p.name, errors.Join(p.err, err)))
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(readyEvery):
		}
		if time.Now().After(limit) {
			return p.fail(fmt.Errorf("%s does not answer: %w", p.name, err))
		}
	}
}

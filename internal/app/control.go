package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The control socket lets a command run inside the server that has the data
// open: the command line goes in, its output and exit code come out. Whoever
// may open the socket (0600, in the data folder) is the operator.

const socketName = "jimu.sock"

// maxSocketPath is what fits in a sockaddr_un on every system we build for.
const maxSocketPath = 100

type controlRequest struct {
	Args  []string `json:"args"`
	Dir   string   `json:"dir"`
	Stdin []byte   `json:"stdin"`
}

// controlReply is one piece of output; the last one has Exit.
type controlReply struct {
	Out  []byte `json:"out,omitempty"`
	Err  []byte `json:"err,omitempty"`
	Exit *int   `json:"exit,omitempty"`
}

// socketPath returns a name for the socket that fits, and what to close after use.
func socketPath(data string) (string, io.Closer, error) {
	path := filepath.Join(data, socketName)
	if len(path) <= maxSocketPath {
		return path, io.NopCloser(nil), nil
	}
	if runtime.GOOS != "linux" {
		return "", nil, fmt.Errorf("the path of the data folder is too long for a socket: %s", data)
	}
	dir, err := os.Open(data) //nolint:gosec // the operator names the folder
	if err != nil {
		return "", nil, err
	}
	return filepath.Join("/proc/self/fd", strconv.FormatUint(uint64(dir.Fd()), 10), socketName), dir, nil
}

// control serves commands until the listener is closed.
type control struct {
	ln   net.Listener
	dir  io.Closer
	done sync.WaitGroup
}

func (a *App) listenControl(ctx context.Context) (*control, error) {
	path, dir, err := socketPath(a.data)
	if err != nil {
		return nil, err
	}
	_ = os.Remove(path) // of a process that died; the lock on the data folder is ours
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the control socket: %w", err), dir.Close())
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, ln.Close(), dir.Close())
	}
	c := &control{ln: ln, dir: dir}
	c.done.Go(func() { c.serve(ctx, a) })
	return c, nil
}

func (c *control) serve(ctx context.Context, a *App) {
	for {
		conn, err := c.ln.Accept()
		if err != nil {
			return
		}
		c.done.Go(func() {
			defer conn.Close() //nolint:errcheck // the reply has been written, or cannot be
			stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
			defer stop()
			a.answerControl(ctx, conn)
		})
	}
}

func (c *control) Close() error {
	err := errors.Join(c.ln.Close(), c.dir.Close())
	c.done.Wait()
	return err
}

func (a *App) answerControl(ctx context.Context, conn net.Conn) {
	var req controlRequest
	if err := json.NewDecoder(io.LimitReader(conn, 1<<20)).Decode(&req); err != nil {
		return
	}
	enc := &replies{enc: json.NewEncoder(conn)}
	err := run(ctx, Process{
		Args: req.Args, Dir: req.Dir, Env: a.env,
		Stdin:  bytes.NewReader(req.Stdin),
		Stdout: writerFunc(func(b []byte) error { return enc.send(controlReply{Out: b}) }),
		Stderr: writerFunc(func(b []byte) error { return enc.send(controlReply{Err: b}) }),
	}, a)
	exit := 0
	if err != nil && !errors.Is(err, errUsage) {
		exit = 1
		if _, said := errors.AsType[exitError](err); !said {
			_ = enc.send(controlReply{Err: []byte("jimu: " + oneLine(err) + "\n")})
		}
	} else if err != nil {
		exit = 2
	}
	_ = enc.send(controlReply{Exit: &exit})
}

type replies struct {
	mu  sync.Mutex
	enc *json.Encoder
}

func (r *replies) send(v controlReply) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.enc.Encode(v)
}

type writerFunc func([]byte) error

func (f writerFunc) Write(b []byte) (int, error) { return len(b), f(b) }

// callServer runs the command in the server that has the data open. It reports
// false where none is running.
func callServer(ctx context.Context, data string, p Process) (bool, error) {
	path, dir, err := socketPath(data)
	if err != nil {
		return false, nil
	}
	defer dir.Close() //nolint:errcheck // read only
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return false, nil
	}
	defer conn.Close() //nolint:errcheck // the reply has been read
	req := controlRequest{Args: p.Args, Dir: workingDir()}
	if slices.ContainsFunc(p.Args, func(arg string) bool { return strings.HasSuffix(arg, "-stdin") }) {
		if req.Stdin, err = io.ReadAll(io.LimitReader(p.Stdin, 1<<16)); err != nil {
			return true, fmt.Errorf("reading standard input: %w", err)
		}
	}
	if err := json.NewEncoder(conn).Encode(req); err != nil {
		return true, fmt.Errorf("asking the server: %w", err)
	}
	dec := json.NewDecoder(conn)
	for {
		var r controlReply
		if err := dec.Decode(&r); err != nil {
			return true, fmt.Errorf("the server went away before the command ended: %w", err)
		}
		if r.Exit != nil {
			if *r.Exit == 0 {
				return true, nil
			}
			return true, exitError(*r.Exit)
		}
		if _, err := p.Stdout.Write(r.Out); err != nil {
			return true, err
		}
		if _, err := p.Stderr.Write(r.Err); err != nil {
			return true, err
		}
	}
}

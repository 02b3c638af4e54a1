package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"jimu": main}) }

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Values[processesKey{}] = map[string]*process{}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start": start, "stop": stop, "hangup": hangup, "http": request, "setenvfrom": setenvFrom,
		},
	})
}

// process is a jimu that runs while the script goes on.
type process struct {
	cmd  *exec.Cmd
	out  chan string // its standard output, whole, once it ended
	errs *bytes.Buffer
}

func running(ts *testscript.TestScript, name string) *process {
	p := processes(ts)[name]
	if p == nil {
		ts.Fatalf("%s was not started", name)
	}
	return p
}

type processesKey struct{}

func processes(ts *testscript.TestScript) map[string]*process {
	m, ok := ts.Value(processesKey{}).(map[string]*process)
	if !ok {
		ts.Fatalf("no processes")
	}
	return m
}

var (
	listens = regexp.MustCompile(`listens on (http://\S+)`)
	link    = regexp.MustCompile(`/setup#(\S+)`)
)

// start NAME ARGS... runs jimu ARGS in the background and waits until it
// listens. $NAME_URL is its address, $NAME_SETUP the secret of its setup link.
func start(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start NAME ARGS...")
	}
	name := args[0]
	self, err := os.Executable()
	ts.Check(err)
	p := &process{cmd: exec.Command(self, args[1:]...), out: make(chan string, 1), errs: new(bytes.Buffer)}
	p.cmd.Args[0] = "jimu"
	p.cmd.Path = ts.Getenv("JIMU_TEST_BIN")
	if p.cmd.Path == "" {
		p.cmd.Path, err = exec.LookPath("jimu")
		ts.Check(err)
	}
	p.cmd.Dir = ts.MkAbs(".")
	p.cmd.Env = append(os.Environ(), "HOME="+ts.Getenv("HOME"))
	for _, k := range []string{"JIMU_CONFIG", "JIMU_DATA", "UPSTREAM_KEY", "MOCK_URL"} {
		if v := ts.Getenv(k); v != "" {
			p.cmd.Env = append(p.cmd.Env, k+"="+v)
		}
	}
	p.cmd.Stderr = p.errs
	stdout, err := p.cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(p.cmd.Start())
	ts.Defer(func() { _ = p.cmd.Process.Kill() })
	r := bufio.NewReader(stdout)
	var seen strings.Builder
	for url := ""; ; {
		line, err := r.ReadString('\n')
		seen.WriteString(line)
		if m := listens.FindStringSubmatch(line); m != nil {
			url = m[1]
			ts.Setenv(name+"_URL", url)
		}
		if m := link.FindStringSubmatch(line); m != nil {
			ts.Setenv(name+"_SETUP", m[1])
			break
		}
		if err != nil {
			_ = p.cmd.Wait()
			ts.Fatalf("%s did not start: %s%s", name, seen.String(), p.errs)
		}
		if url != "" && (args[1] != "serve" || !strings.Contains(ts.Getenv(name+"_FIRST"), "yes")) {
			break
		}
	}
	go func() {
		rest, _ := io.ReadAll(r)
		p.out <- seen.String() + string(rest)
	}()
	processes(ts)[name] = p
}

// stop NAME [SIGNAL] ends it (SIGTERM, or KILL) and checks that a SIGTERM ends
// it well. Its standard error is written to NAME.log.
func stop(ts *testscript.TestScript, _ bool, args []string) {
	p := running(ts, args[0])
	kill := len(args) > 1 && args[1] == "KILL"
	if kill {
		ts.Check(p.cmd.Process.Kill())
	} else {
		ts.Check(p.cmd.Process.Signal(syscall.SIGTERM))
	}
	out := <-p.out
	err := p.cmd.Wait()
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".log"), []byte(out+p.errs.String()), 0o600))
	if err != nil && !kill {
		ts.Fatalf("%s ended badly: %v\n%s", args[0], err, p.errs)
	}
}

// hangup NAME sends SIGHUP.
func hangup(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(running(ts, args[0]).cmd.Process.Signal(syscall.SIGHUP))
}

// http [-retry] STATUS METHOD URL [BODY|@FILE] [HEADER: VALUE]... asks, wants the status, and
// prints the answer. -retry asks again for ten seconds until it gets the status.
func request(ts *testscript.TestScript, _ bool, args []string) {
	retry := args[0] == "-retry"
	if retry {
		args = args[1:]
	}
	want, method, url, body := args[0], args[1], args[2], ""
	args = args[3:]
	if len(args) > 0 && !headerLine.MatchString(args[0]) {
		body, args = args[0], args[1:]
	}
	if file, ok := strings.CutPrefix(body, "@"); ok {
		body = ts.ReadFile(file)
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		status, answer := ask(ts, method, url, body, args)
		if status == want || !retry || time.Now().After(deadline) {
			_, err := fmt.Fprintln(ts.Stdout(), answer)
			ts.Check(err)
			if status != want {
				ts.Fatalf("%s %s: %s, want %s: %s", method, url, status, want, answer)
			}
			return
		}
		<-time.After(20 * time.Millisecond)
	}
}

var headerLine = regexp.MustCompile(`^[A-Za-z-]+: `)

func ask(ts *testscript.TestScript, method, url, body string, headers []string) (status, answer string) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	ts.Check(err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		req.Header.Set(k, v)
	}
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return "error", err.Error()
	}
	defer resp.Body.Close() //nolint:errcheck // a test
	b, err := io.ReadAll(resp.Body)
	ts.Check(err)
	var out strings.Builder
	for _, k := range []string{"Set-Cookie", "X-Jimu-Cost", "X-Jimu-Upstream"} {
		for _, v := range append(resp.Header[k], resp.Trailer[k]...) {
			fmt.Fprintf(&out, "%s: %s\n", k, v)
		}
	}
	return resp.Status[:3], out.String() + string(b)
}

// setenvfrom NAME FILE REGEXP sets a variable to what the first group of the
// expression matches in a file (stdout, for the last command's output).
func setenvFrom(ts *testscript.TestScript, _ bool, args []string) {
	m := regexp.MustCompile(args[2]).FindStringSubmatch(ts.ReadFile(args[1]))
	if m == nil {
		ts.Fatalf("%s has no match of %s:\n%s", args[1], args[2], ts.ReadFile(args[1]))
	}
	ts.Setenv(args[0], m[1])
}

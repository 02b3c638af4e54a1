package main

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jimu-ai/jimu/internal/mock"
)

const insideNoNetwork = "JIMU_TEST_NO_NETWORK"

// With no network route at all it starts, serves the demo and bills.
func TestWithoutNetwork(t *testing.T) {
	t.Parallel()
	if os.Getenv(insideNoNetwork) == "" {
		again(t)
		return
	}
	loopbackUp(t)
	j := newJimu(t)
	s := j.serve(t)
	j.run(t, "user", "create", "ann")
	key := j.run(t, "key", "create", "--user", "ann")
	j.run(t, "credit", "grant", "--user", "ann", "--amount", "1", "--reason", "test")
	resp, err := post(t, s.url, key, chatBody("jimu-demo", false))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // a test
	var answer struct{ Choices []json.RawMessage }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || len(answer.Choices) != 1 {
		t.Errorf("%s: %v", resp.Status, err)
	}
	if balance, _ := j.balance(t); balance == "1" {
		t.Error("the answer was not billed")
	}
	s.stop(t)
	j.clean(t)
}

// An Ollama on this machine is found by itself, beside the demo; its answers
// cost nothing.
func TestFindsOllama(t *testing.T) {
	t.Parallel()
	if os.Getenv(insideNoNetwork) == "" {
		again(t)
		return
	}
	loopbackUp(t)
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:11434")
	if err != nil {
		t.Fatal(err)
	}
	ollama := &http.Server{Handler: mock.New(mock.Options{Keyless: true, Models: []string{"qwen-local"}})}
	go func() { _ = ollama.Serve(ln) }()
	t.Cleanup(func() { _ = ollama.Close() })
	j := newJimu(t)
	s := j.serve(t)
	j.run(t, "user", "create", "ann")
	key := j.run(t, "key", "create", "--user", "ann")
	j.run(t, "credit", "grant", "--user", "ann", "--amount", "1", "--reason", "test")
	for _, model := range []string{"qwen-local", "jimu-demo"} {
		resp := eventually(t, s.url, key, model)
		if resp != http.StatusOK {
			t.Errorf("%s: %d", model, resp)
		}
		if balance, _ := j.balance(t); (balance == "1") != (model == "qwen-local") {
			t.Errorf("after %s the balance is %s", model, balance)
		}
	}
	s.stop(t)
}

// eventually asks until the model is known: the list is learned after the start.
func eventually(t *testing.T, url, key, model string) int {
	t.Helper()
	for range 500 {
		resp, err := post(t, url, key, chatBody(model, false))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			return resp.StatusCode
		}
		<-time.After(10 * time.Millisecond)
	}
	return http.StatusNotFound
}

// again runs this test once more in a network namespace of its own, where
// there is nothing but a loopback device.
func again(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), insideNoNetwork+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil && len(out) == 0 && os.Getenv("CI") != "true" {
		t.Skipf("network namespaces are not to be had here: %v", err)
	}
	if err != nil {
		t.Errorf("without a network: %v\n%s", err, out)
	}
}

func loopbackUp(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd) //nolint:errcheck // a test
	req, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		t.Fatal(err)
	}
}

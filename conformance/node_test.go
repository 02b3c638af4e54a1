package conformance

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The official Node client, see node/openai.test.js.
func TestNode(t *testing.T) {
	s := running(t)
	node, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat("node/node_modules/openai")
	}
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("node or its packages are not there: run conformance/run")
	}
	slow, err := s.limitedKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), node, "--test", "--test-reporter=spec")
	cmd.Dir = "node"
	cmd.Env = append(os.Environ(), "JIMU_URL="+s.url, "JIMU_KEY="+s.key, "JIMU_POOR="+s.poor, "JIMU_SLOW="+slow)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "pass ") {
		t.Fatalf("%v\n%s", err, out)
	}
	if testing.Verbose() {
		t.Logf("%s", out)
	}
}

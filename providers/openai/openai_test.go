package openai

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/jimu-ai/jimu"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// at makes a provisioned upstream of a vendor.
func at(tb testing.TB, vendor string) *OpenAI {
	tb.Helper()
	o := &OpenAI{Account: Account{Name: "test", Vendor: vendor, Key: jimu.NewSecret("the-key")}}
	if err := o.Provision(tb.Context(), jimu.Host{Now: func() time.Time { return noon }}); err != nil {
		tb.Fatal(err)
	}
	return o
}

// fixtures calls f with each case of each file of a folder; the file's name is
// the vendor's.
func fixtures[T any](t *testing.T, folder string, f func(t *testing.T, vendor string, c T)) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", folder, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatal("no fixtures", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var cases []T
		if err := json.Unmarshal(data, &cases); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, c := range cases {
			f(t, strings.TrimSuffix(filepath.Base(file), ".json"), c)
		}
	}
}

// text is a fixture's event or body: JSON, or a string that holds it.
func bytesOf(raw json.RawMessage) []byte {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return []byte(s)
	}
	return raw
}

func TestUsageFixtures(t *testing.T) {
	t.Parallel()
	type fixture struct {
		Name   string
		Events []json.RawMessage
		Want   *jimu.Usage
		Insane bool
	}
	fixtures(t, "usage", func(t *testing.T, vendor string, c fixture) {
		t.Helper()
		o, m := at(t, vendor), new(jimu.Meter)
		var sig jimu.Signal
		for _, e := range c.Events {
			sig |= o.Read(bytesOf(e), m)
		}
		if m.Stated != (c.Want != nil) || m.Stated != (sig&jimu.SignalUsage != 0) || sig&jimu.SignalError != 0 {
			t.Errorf("%s: %s: stated %v, signals %b", vendor, c.Name, m.Stated, sig)
			return
		}
		if c.Want == nil {
			return
		}
		if d := cmp.Diff(*c.Want, m.Usage); d != "" {
			t.Errorf("%s: %s (-want +got):\n%s", vendor, c.Name, d)
		}
		if m.Usage.Sane(0) == c.Insane {
			t.Errorf("%s: %s: sane is %v", vendor, c.Name, !c.Insane)
		}
	})
}

func TestFaultFixtures(t *testing.T) {
	t.Parallel()
	type fixture struct {
		Name       string
		Status     int
		Header     map[string]string
		Body       json.RawMessage
		Kind, For  string
		Code, Text string
		WantStatus int
	}
	fixtures(t, "faults", func(t *testing.T, vendor string, c fixture) {
		t.Helper()
		o, h := at(t, vendor), make(http.Header)
		for k, v := range c.Header {
			h.Set(k, v)
		}
		f := o.Classify(c.Status, h, bytesOf(c.Body))
		want, ok := faultKind(c.Kind)
		if !ok || f.Kind != want {
			t.Errorf("%s: %s: kind %d, want %s (%d)", vendor, c.Name, f.Kind, c.Kind, want)
		}
		wait, _ := time.ParseDuration(c.For)
		if f.For != wait {
			t.Errorf("%s: %s: rest %s, want %s", vendor, c.Name, f.For, wait)
		}
		if c.Code != "" && f.Code != c.Code || c.Text != "" && f.Text != c.Text {
			t.Errorf("%s: %s: code %q text %q", vendor, c.Name, f.Code, f.Text)
		}
		if status := max(c.Status, c.WantStatus); f.Status != status {
			t.Errorf("%s: %s: status %d, want %d", vendor, c.Name, f.Status, status)
		}
		if c.Status == http.StatusOK && o.Read(bytesOf(c.Body), new(jimu.Meter))&jimu.SignalError == 0 {
			t.Errorf("%s: %s: Read does not see the error", vendor, c.Name)
		}
	})
}

func TestVendorTable(t *testing.T) {
	t.Parallel()
	rows, err := loadVendors()
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, v := range rows {
		if seen[v.ID] || v.ID == "" || v.Name == "" {
			t.Errorf("vendor %q: missing or twice", v.ID)
		}
		seen[v.ID] = true
		checkVendor(t, &v)
	}
	got := new(OpenAI).Vendors()
	if len(got) != len(rows) || !slices.ContainsFunc(got, func(v jimu.Vendor) bool { return v.ID == "ollama" && v.Free && v.Keyless }) {
		t.Errorf("%d vendors of %d", len(got), len(rows))
	}
	checkFaults(t, seen)
}

// checkFaults reads the fault table, whose vendors must be there.
func checkFaults(t *testing.T, vendors map[string]bool) {
	t.Helper()
	var faults []faultRow
	if err := json.Unmarshal(faultsJSON, &faults); err != nil {
		t.Fatal(err)
	}
	for i, f := range faults {
		for _, v := range f.Vendors {
			if !vendors[v] {
				t.Errorf("fault %d is of %q, which is no vendor", i, v)
			}
		}
		if f.Status == 0 && f.Code+f.Type+f.Message+f.Prefix == "" {
			t.Errorf("fault %d matches everything", i)
		}
	}
}

// checkVendor tries an upstream of a vendor with and without what it needs.
func checkVendor(t *testing.T, v *vendor) {
	t.Helper()
	o := at(t, v.ID)
	if v.BaseURL == "" {
		if err := o.Validate(); jimu.ErrorOf(err).Code != jimu.Invalid {
			t.Errorf("%s without a base_url: %v", v.ID, err)
		}
		o.BaseURL = "https://example.com/v1"
	}
	if err := o.Validate(); err != nil {
		t.Errorf("%s: %v", v.ID, err)
	}
	if strings.HasSuffix(v.BaseURL, "/") || strings.HasSuffix(v.BaseURL, "/chat/completions") {
		t.Errorf("%s: base_url %s", v.ID, v.BaseURL)
	}
	e, ok := o.Endpoint(jimu.OpChat, o.Key)
	if ok != (v.Chat != none) || (ok && e.URL != o.BaseURL+"/chat/completions") {
		t.Errorf("%s: chat at %s, %v", v.ID, e.URL, ok)
	}
	o.Key = jimu.Secret{}
	if err := o.Validate(); (err == nil) != v.Keyless {
		t.Errorf("%s without a key: %v", v.ID, err)
	}
}

func TestEndpoint(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		vendor string
		op     jimu.Operation
		url    string
		header http.Header
	}{
		{"openai", jimu.OpChat, "https://api.openai.com/v1/chat/completions", http.Header{
			"Authorization": {"Bearer the-key"}, "Content-Type": {"application/json"},
			"Openai-Organization": {"org"}, "Openai-Project": {"proj"},
		}},
		{"zhipu", jimu.OpChat, "https://open.bigmodel.cn/api/paas/v4/chat/completions", nil},
		{"deepseek", jimu.OpChat, "https://api.deepseek.com/chat/completions", nil},
		{"deepseek", jimu.OpEmbeddings, "", nil},
		{"voyage", jimu.OpEmbeddings, "https://api.voyageai.com/v1/embeddings", nil},
		{"moonshot", jimu.OpModels, "https://api.moonshot.cn/v1/models", http.Header{"Authorization": {"Bearer the-key"}}},
		{"moonshot", "images", "", nil},
		{"azure", jimu.OpChat, "https://res.openai.azure.com/openai/v1/chat/completions", http.Header{"Api-Key": {"the-key"}, "Content-Type": {"application/json"}}},
	} {
		o := at(t, c.vendor)
		if c.vendor == "openai" {
			o.Organization, o.Project = "org", "proj"
		}
		if c.vendor == "azure" {
			o.BaseURL = "https://res.openai.azure.com/openai/v1"
		}
		e, ok := o.Endpoint(c.op, o.Key)
		if ok != (c.url != "") || e.URL != c.url {
			t.Errorf("%s %s: %s, %v", c.vendor, c.op, e.URL, ok)
		}
		if c.header != nil {
			if d := cmp.Diff(c.header, e.Header); d != "" {
				t.Errorf("%s %s (-want +got):\n%s", c.vendor, c.op, d)
			}
		}
	}
	e, _ := at(t, "ollama").Endpoint(jimu.OpChat, jimu.Secret{})
	if h := e.Header.Get("Authorization"); h != "" {
		t.Errorf("without a key: %q", h)
	}
}

func TestConfiguration(t *testing.T) {
	t.Parallel()
	b, err := jimu.Bricks.New("openai")
	if err != nil {
		t.Fatal(err)
	}
	raw := `{"name":"main","vendor":"openai-compatible","base_url":"http://127.0.0.1:9/api/v3/","keys":["a","b"],"models":["x=y"],"priority":2,"organization":"o"}`
	d := json.NewDecoder(strings.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(b); err != nil {
		t.Fatal(err)
	}
	o, ok := b.(*OpenAI)
	if !ok {
		t.Fatalf("%T", b)
	}
	if err := o.Provision(t.Context(), jimu.Host{Name: "main"}); err != nil {
		t.Fatal(err)
	}
	if err := o.Validate(); err != nil || o.Upstream().BaseURL != "http://127.0.0.1:9/api/v3" || len(o.Keys) != 2 || o.Priority != 2 {
		t.Errorf("%+v, %v", o, err)
	}
	for _, bad := range []string{"", "ftp://x", "https://user:pass@x/v1", "x", "https://x?y=1", "http://"} {
		o.BaseURL = bad
		if jimu.ErrorOf(o.Validate()).Code != jimu.Invalid {
			t.Errorf("base_url %q is taken", bad)
		}
	}
	o = at(t, "openai")
	o.Disconnect = "later"
	if jimu.ErrorOf(o.Validate()).Code != jimu.Invalid {
		t.Error("disconnect: later is taken")
	}
	o = &OpenAI{Account: Account{Vendor: "nobody"}}
	if err := o.Provision(t.Context(), jimu.Host{}); jimu.ErrorOf(err).Code != jimu.Invalid {
		t.Errorf("an unknown vendor: %v", err)
	}
}

// Package openai speaks the OpenAI Chat Completions dialect, which most
// vendors serve. What differs between vendors is data: vendors.json says where
// they are and what they want, faults.json what their errors mean.
package openai

import (
	"context"
	_ "embed" // the data files
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jimu-ai/jimu"
)

func init() { jimu.Bricks.Register(new(OpenAI)) }

// Account is the part of the configuration that every upstream has. The alias
// only gives the embedded field a name of its own.
type Account = jimu.Upstream

// OpenAI is one account at a vendor that speaks the OpenAI dialect.
type OpenAI struct {
	Account
	// Organization is sent as OpenAI-Organization.
	Organization string `json:"organization,omitempty"`
	// Project is sent as OpenAI-Project.
	Project string `json:"project,omitempty"`

	vendor vendor
	faults []faultRow // the rows that can match this vendor
	now    func() time.Time
}

// vendor is a row of vendors.json.
type vendor struct {
	jimu.Vendor
	Auth            string            `json:"auth,omitempty"`              // "" is a bearer token; "api-key" is that header
	Chat            string            `json:"chat,omitempty"`              // path of an operation, "-" if there is none
	Embeddings      string            `json:"embeddings,omitempty"`        // the same
	Models          string            `json:"models,omitempty"`            // the same
	Headers         map[string]string `json:"headers,omitempty"`           // sent with every request
	MaxTokens       string            `json:"max_tokens,omitempty"`        // the member that bounds the output; default max_tokens
	Rename          bool              `json:"rename_max_tokens,omitempty"` // no other member does
	NoStreamOptions bool              `json:"no_stream_options,omitempty"` // stream_options is refused
	Beside          bool              `json:"reasoning_beside,omitempty"`  // reasoning is not part of completion_tokens
}

//go:embed vendors.json
var vendorsJSON []byte

const (
	maxTokens           = "max_tokens"
	maxCompletionTokens = "max_completion_tokens"
	none                = "-"
)

func loadVendors() ([]vendor, error) {
	var rows []vendor
	d := json.NewDecoder(strings.NewReader(string(vendorsJSON)))
	d.DisallowUnknownFields()
	if err := d.Decode(&rows); err != nil {
		return nil, fmt.Errorf("decoding the vendor table: %w", err)
	}
	for i := range rows {
		r := &rows[i]
		for p, def := range map[*string]string{
			&r.Chat: "/chat/completions", &r.Embeddings: "/embeddings", &r.Models: "/models", &r.MaxTokens: maxTokens,
		} {
			if *p == "" {
				*p = def
			}
		}
	}
	return rows, nil
}

// BrickInfo implements [jimu.Brick].
func (*OpenAI) BrickInfo() jimu.BrickInfo {
	return jimu.BrickInfo{ID: "openai", New: func() jimu.Brick { return new(OpenAI) }}
}

// Provision implements [jimu.Provisioner]: it finds the vendor's row and takes
// from it what the configuration leaves open.
func (o *OpenAI) Provision(_ context.Context, h jimu.Host) error {
	o.now = h.Now
	if o.now == nil {
		o.now = time.Now
	}
	if o.Name == "" {
		o.Name = h.Name
	}
	rows, err := loadVendors()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(rows, func(v vendor) bool { return v.ID == o.Vendor })
	if i < 0 {
		ids := make([]string, len(rows))
		for j := range rows {
			ids[j] = rows[j].ID
		}
		return jimu.Errorf(jimu.Invalid, "upstream %s: there is no vendor %q; take openai-compatible with a base_url, or one of %s",
			o.Name, o.Vendor, strings.Join(ids, ", "))
	}
	o.vendor = rows[i]
	if o.BaseURL == "" {
		o.BaseURL = o.vendor.BaseURL
	}
	o.BaseURL = strings.TrimRight(o.BaseURL, "/")
	o.faults, err = faultsOf(o.vendor.ID)
	return err
}

// Validate implements [jimu.Validator].
func (o *OpenAI) Validate() error {
	if o.BaseURL == "" {
		return jimu.Errorf(jimu.Invalid, "upstream %s: vendor %s needs a base_url: everything before /chat/completions", o.Name, o.vendor.ID)
	}
	u, err := url.Parse(o.BaseURL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return jimu.Errorf(jimu.Invalid, "upstream %s: base_url is not an address such as https://api.example.com/v1", o.Name)
	}
	if !o.vendor.Keyless && o.Key.IsZero() && len(o.Keys) == 0 {
		return jimu.Errorf(jimu.Invalid, "upstream %s: vendor %s needs a key", o.Name, o.vendor.ID)
	}
	switch o.Disconnect {
	case "", "cancel", "drain":
		return nil
	}
	return jimu.Errorf(jimu.Invalid, "upstream %s: disconnect is cancel or drain, not %q", o.Name, o.Disconnect)
}

// Vendors implements [jimu.Provider].
func (*OpenAI) Vendors() []jimu.Vendor {
	rows, err := loadVendors()
	if err != nil {
		return nil // the table is part of the binary, and a test reads it
	}
	out := make([]jimu.Vendor, len(rows))
	for i := range rows {
		out[i] = rows[i].Vendor
	}
	return out
}

// Upstream implements [jimu.Provider].
func (o *OpenAI) Upstream() *jimu.Upstream { return &o.Account }

// Endpoint implements [jimu.Provider].
func (o *OpenAI) Endpoint(op jimu.Operation, key jimu.Secret) (jimu.Endpoint, bool) {
	method, path := http.MethodPost, ""
	switch op {
	case jimu.OpChat:
		path = o.vendor.Chat
	case jimu.OpEmbeddings:
		path = o.vendor.Embeddings
	case jimu.OpModels:
		method, path = http.MethodGet, o.vendor.Models
	}
	if path == "" || path == none {
		return jimu.Endpoint{}, false
	}
	h := make(http.Header)
	if method == http.MethodPost {
		h.Set("Content-Type", "application/json")
	}
	switch {
	case key.IsZero():
	case o.vendor.Auth == "api-key":
		h.Set("Api-Key", key.Reveal())
	default:
		h.Set("Authorization", "Bearer "+key.Reveal())
	}
	for k, v := range o.vendor.Headers {
		h.Set(k, v)
	}
	if o.Organization != "" {
		h.Set("OpenAI-Organization", o.Organization)
	}
	if o.Project != "" {
		h.Set("OpenAI-Project", o.Project)
	}
	return jimu.Endpoint{Method: method, URL: o.BaseURL + path, Header: h}, true
}

var (
	_ jimu.Provider    = (*OpenAI)(nil)
	_ jimu.Provisioner = (*OpenAI)(nil)
	_ jimu.Validator   = (*OpenAI)(nil)
)

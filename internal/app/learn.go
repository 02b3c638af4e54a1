package app

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"time"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/brickkit/outbound"
	"github.com/jimu-ai/jimu/internal/host"
	"github.com/jimu-ai/jimu/internal/routing"
)

const (
	askTimeout   = 10 * time.Second
	maxModelList = 4 << 20
	learnEvery   = time.Hour
	ollamaWait   = 300 * time.Millisecond
)

// operatorDialer reaches what the operator configured.
func (a *App) operatorDialer() *outbound.Dialer {
	return outbound.Operator(outbound.Policy{FakeIP: a.cfg.Load().AllowFakeIP})
}

// provider returns an upstream by name, and what releases it.
func (a *App) provider(name string) (jimu.Provider, func(), bool) {
	set, release := a.host.Acquire()
	for _, p := range host.All[jimu.Provider](set) {
		if p.Upstream().Name == name {
			return p, release, true
		}
	}
	release()
	return nil, nil, false
}

// askModels asks an upstream which models it serves.
func (a *App) askModels(ctx context.Context, p jimu.Provider) ([]string, error) {
	u := p.Upstream()
	key := u.Key
	if key.IsZero() && len(u.Keys) > 0 {
		key = u.Keys[0]
	}
	end, ok := p.Endpoint(jimu.OpModels, key)
	if !ok || u.Vendor == demoVendor {
		return u.Models, nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, end.Method, end.URL, nil)
	if err != nil {
		return nil, fmt.Errorf("asking %s for its models: %w", u.Name, err)
	}
	req.Header = end.Header.Clone()
	client := a.operatorDialer().Client(outbound.ClientOptions{Timeout: askTimeout, MaxBytes: maxModelList})
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return nil, &jimu.Error{Code: jimu.Unavailable, Text: fmt.Sprintf("upstream %s does not answer: check its base URL and the network (%v)", u.Name, err), Err: err}
	}
	defer resp.Body.Close() //nolint:errcheck // read to the end
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("reading the models of %s: %w", u.Name, err)
	}
	if resp.StatusCode != http.StatusOK {
		f := p.Classify(resp.StatusCode, resp.Header, body)
		return nil, jimu.Errorf(jimu.Unavailable, "upstream %s answered %d (%s): check its base URL and key", u.Name, resp.StatusCode, f.Text)
	}
	models, err := routing.ParseModels(body)
	if err != nil {
		return nil, jimu.Errorf(jimu.Unavailable, "upstream %s did not answer with a list of models: check its base URL", u.Name)
	}
	return models, nil
}

// learn asks an upstream that names no models for them, and routes by the
// answer. name "" asks all such upstreams.
func (a *App) learn(ctx context.Context, name string) {
	set, release := a.host.Acquire()
	defer release()
	learned := map[string][]string{}
	for _, p := range host.All[jimu.Provider](set) {
		u := p.Upstream()
		if len(u.Models) > 0 || (name != "" && u.Name != name) {
			continue
		}
		models, err := a.askModels(ctx, p)
		if err != nil {
			a.log.WarnContext(ctx, "an upstream does not tell its models", "upstream", u.Name, "error", err)
			continue
		}
		learned[u.Name] = models
	}
	if len(learned) == 0 {
		return
	}
	a.upstreams.mu.Lock()
	all := maps.Clone(a.upstreams.learned)
	if all == nil {
		all = map[string][]string{}
	}
	maps.Copy(all, learned)
	a.upstreams.learned = all
	a.upstreams.mu.Unlock()
	if err := a.refresh(ctx); err != nil {
		a.log.ErrorContext(ctx, "the routes were not refreshed", "error", err)
	}
}

// findOllama looks for an Ollama on this machine.
func (a *App) findOllama(ctx context.Context) {
	if a.cfg.Load().Ollama == "off" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, ollamaWait)
	defer cancel()
	conn, err := a.operatorDialer().DialContext(ctx, "tcp", ollamaAddr)
	if err != nil {
		return
	}
	_ = conn.Close()
	a.upstreams.mu.Lock()
	a.upstreams.ollama = true
	a.upstreams.mu.Unlock()
}

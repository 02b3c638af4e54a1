package mock

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"net/http"

	"github.com/tidwall/gjson"
)

// embeddings answers POST /v1/embeddings.
func (m *Mock) embeddings(w http.ResponseWriter, r *http.Request) {
	m.requests.Add(1)
	m.open.Add(1)
	defer m.open.Add(-1)
	a := new(ask)
	err := m.accept(r, a, embedding{})
	if p, bad := errors.AsType[*problem](err); bad {
		openAI{}.refuse(w, p)
		return
	}
	if err != nil {
		return // the client went away
	}
	x := &run{m: m, w: w, r: r, d: embedding{}, a: a}
	if f := m.fault(r, a); f != "" {
		m.faults[f].do(x)
		return
	}
	x.all()
}

// embedding is the dialect of the embeddings endpoint.
type embedding struct{ openAI }

func (embedding) read(m *Mock, _ *http.Request, a *ask) error {
	if !gjson.ValidBytes(a.body) {
		return invalid("", "We could not parse the JSON body of your request.")
	}
	a.model = gjson.GetBytes(a.body, "model").Str
	if a.model == "" {
		return invalid("model", "you must provide a model parameter")
	}
	switch format := gjson.GetBytes(a.body, "encoding_format"); format.String() {
	case "", "float":
	case "base64":
		a.base64 = true
	default:
		return invalid("encoding_format", "Invalid value for 'encoding_format': expected float or base64.")
	}
	input := gjson.GetBytes(a.body, "input")
	texts := []gjson.Result{input}
	if input.IsArray() {
		texts = input.Array()
	}
	for _, t := range texts {
		if t.Type != gjson.String || t.Str == "" {
			return invalid("input", "'$.input' is invalid: expected a string or an array of strings.")
		}
		a.usage.in += m.count(t.Str)
	}
	if a.n = len(texts); a.n == 0 {
		return invalid("input", "'$.input' is invalid: it is empty.")
	}
	return nil
}

func (embedding) answer(dst []byte, a *ask) []byte {
	type vector struct {
		Object    string `json:"object"`
		Index     int    `json:"index"`
		Embedding any    `json:"embedding"`
	}
	type sum struct {
		Prompt int64 `json:"prompt_tokens"`
		Total  int64 `json:"total_tokens"`
	}
	data := make([]vector, a.n)
	for i := range data {
		var v [vectorSize]float32
		for j := range v {
			v[j] = float32((i+j)%vectorSize) / vectorSize
		}
		data[i] = vector{"embedding", i, v}
		if a.base64 {
			var raw [4 * vectorSize]byte
			for j, f := range v {
				binary.LittleEndian.PutUint32(raw[4*j:], math.Float32bits(f))
			}
			data[i].Embedding = raw[:] // which JSON writes in base64
		}
	}
	out := struct {
		Object string   `json:"object"`
		Model  string   `json:"model"`
		Data   []vector `json:"data"`
		Usage  *sum     `json:"usage,omitempty"`
	}{"list", a.model, data, &sum{a.usage.in, a.usage.in}}
	if a.noUsage {
		out.Usage = nil
	}
	b, err := json.Marshal(out)
	if err != nil {
		return dst // numbers and names can always be encoded
	}
	return append(dst, b...)
}

// models answers GET /v1/models, in the dialect that the key's header shows.
func (m *Mock) models(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Anthropic-Version") != "" {
		m.anthropicModels(w, r)
		return
	}
	if p, bad := errors.AsType[*problem](m.authorize(r)); bad {
		openAI{}.refuse(w, p)
		return
	}
	type model struct {
		ID      string `json:"id"`
		Object  string `json:"object"`
		Created int64  `json:"created"`
		OwnedBy string `json:"owned_by"`
	}
	list := make([]model, 0, len(m.o.Models))
	for _, id := range m.o.Models {
		list = append(list, model{id, "model", 1_700_000_000, "mock"})
	}
	reply(w, struct {
		Object string  `json:"object"`
		Data   []model `json:"data"`
	}{"list", list})
}

func (m *Mock) anthropicModels(w http.ResponseWriter, r *http.Request) {
	r2 := r.Clone(r.Context())
	r2.URL.Path = "/v1/messages" // where the key's header is x-api-key
	if p, bad := errors.AsType[*problem](m.authorize(r2)); bad {
		anthropic{}.refuse(w, p)
		return
	}
	type model struct {
		Type    string `json:"type"`
		ID      string `json:"id"`
		Name    string `json:"display_name"`
		Created string `json:"created_at"`
	}
	list := make([]model, 0, len(m.o.Models))
	for _, id := range m.o.Models {
		list = append(list, model{"model", id, id, "2025-01-01T00:00:00Z"})
	}
	reply(w, struct {
		Data    []model `json:"data"`
		HasMore bool    `json:"has_more"`
	}{list, false})
}

func (m *Mock) geminiModels(w http.ResponseWriter, r *http.Request) {
	if p, bad := errors.AsType[*problem](m.authorize(r)); bad {
		gemini{}.refuse(w, p)
		return
	}
	type model struct {
		Name    string   `json:"name"`
		Display string   `json:"displayName"`
		In      int64    `json:"inputTokenLimit"`
		Out     int64    `json:"outputTokenLimit"`
		Methods []string `json:"supportedGenerationMethods"`
	}
	list := make([]model, 0, len(m.o.Models))
	for _, id := range m.o.Models {
		list = append(list, model{"models/" + id, id, 1 << 20, 1 << 16, []string{"generateContent", "streamGenerateContent"}})
	}
	reply(w, struct {
		Models []model `json:"models"`
	}{list})
}

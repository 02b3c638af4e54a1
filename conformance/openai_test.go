package conformance

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/param"
	"github.com/openai/openai-go/v3/shared"
)

func (s *server) openai(key string) openai.Client {
	return openai.NewClient(option.WithBaseURL(s.url+"/v1/"), option.WithAPIKey(key), option.WithMaxRetries(0))
}

func question(model string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model:    model,
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Why is the sky blue?")},
	}
}

// price is what so many tokens cost, in nano-credits.
func price(in, out int64) int64 { return in*priceIn*1000 + out*priceOut*1000 }

// decimal writes nano-credits as the API does.
func decimal(nano int64) string {
	s := fmt.Sprintf("%d.%09d", nano/1e9, nano%1e9)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

// billed checks that a request is in the usage list with its exact cost.
func (s *server) billed(t *testing.T, res *http.Response, in, out int64) {
	t.Helper()
	id := res.Header.Get("X-Request-Id")
	if id == "" {
		t.Fatal("the answer has no X-Request-Id")
	}
	type row struct {
		Request, State, Cost string
		Usage                map[string]any
	}
	var page struct{ Data []row }
	want := decimal(price(in, out))
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); <-time.After(20 * time.Millisecond) {
		s.get(t, "/api/usage?limit=100", &page)
		for _, r := range page.Data {
			if r.Request != id {
				continue
			}
			if r.Cost != want || r.State != "ok" {
				t.Errorf("request %s: %s, cost %s, want %s (%d in, %d out): %v", id, r.State, r.Cost, want, in, out, r.Usage)
			}
			return
		}
	}
	t.Errorf("request %s is not in the usage list", id)
}

func TestChat(t *testing.T) {
	s := running(t)
	client := s.openai(s.key)
	var res *http.Response
	got, err := client.Chat.Completions.New(t.Context(), question("mock-model"), option.WithResponseInto(&res))
	if err != nil {
		t.Fatal(err)
	}
	if got.Choices[0].Message.Content == "" || got.Choices[0].FinishReason != "stop" || got.Model != "mock-model" {
		t.Errorf("%s", got.RawJSON())
	}
	if got.Usage.PromptTokens == 0 || got.Usage.CompletionTokens == 0 {
		t.Errorf("usage %s", got.Usage.RawJSON())
	}
	if cost := res.Header.Get("X-Jimu-Cost"); cost != decimal(price(got.Usage.PromptTokens, got.Usage.CompletionTokens)) {
		t.Errorf("X-Jimu-Cost %q for %s", cost, got.Usage.RawJSON())
	}
	s.billed(t, res, got.Usage.PromptTokens, got.Usage.CompletionTokens)
}

func TestStream(t *testing.T) {
	s := running(t)
	client := s.openai(s.key)
	for _, asked := range []bool{true, false} {
		var res *http.Response
		q := question("mock-model")
		if asked {
			q.StreamOptions = openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)}
		}
		whole, err := client.Chat.Completions.New(t.Context(), question("mock-model"))
		if err != nil {
			t.Fatal(err)
		}
		stream := client.Chat.Completions.NewStreaming(t.Context(), q, option.WithResponseInto(&res))
		var acc openai.ChatCompletionAccumulator
		chunks := 0
		for stream.Next() {
			chunks++
			if c := stream.Current(); !acc.AddChunk(c) {
				t.Errorf("a chunk that does not fit: %s", c.RawJSON())
			}
		}
		if err := errors.Join(stream.Err(), stream.Close()); err != nil {
			t.Fatal(err)
		}
		if acc.Choices[0].Message.Content != whole.Choices[0].Message.Content || acc.Choices[0].FinishReason != "stop" || chunks < 3 {
			t.Errorf("%d chunks, %q", chunks, acc.Choices[0].Message.Content)
		}
		if got := acc.Usage.CompletionTokens > 0; got != asked {
			t.Errorf("usage was asked for: %v, came: %v", asked, got)
		}
		s.billed(t, res, whole.Usage.PromptTokens, whole.Usage.CompletionTokens)
	}
}

// A stream that the reader leaves does not disturb the next one.
func TestStreamLeft(t *testing.T) {
	s := running(t)
	client := s.openai(s.key)
	stream := client.Chat.Completions.NewStreaming(t.Context(), question("mock-model"))
	if !stream.Next() {
		t.Fatal(stream.Err())
	}
	if err := stream.Close(); err != nil {
		t.Error(err)
	}
	if _, err := client.Chat.Completions.New(t.Context(), question("mock-model")); err != nil {
		t.Error(err)
	}
}

func TestTools(t *testing.T) {
	s := running(t)
	client := s.openai(s.key)
	q := question("mock-model")
	q.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{
		Name:       "weather",
		Parameters: shared.FunctionParameters{"type": "object", "properties": map[string]any{"location": map[string]any{"type": "string"}}},
	})}
	got, err := client.Chat.Completions.New(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	calls := got.Choices[0].Message.ToolCalls
	if got.Choices[0].FinishReason != "tool_calls" || len(calls) != 1 || calls[0].Function.Name != "weather" {
		t.Fatalf("%s", got.RawJSON())
	}
	stream := client.Chat.Completions.NewStreaming(t.Context(), q)
	var acc openai.ChatCompletionAccumulator
	for stream.Next() {
		acc.AddChunk(stream.Current())
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	if streamed := acc.Choices[0].Message.ToolCalls; len(streamed) != 1 || streamed[0].Function.Arguments != calls[0].Function.Arguments {
		t.Errorf("streamed %v", streamed)
	}
	q.Messages = append(q.Messages, got.Choices[0].Message.ToParam(), openai.ToolMessage("12 degrees", calls[0].ID))
	got, err = client.Chat.Completions.New(t.Context(), q)
	if err != nil || got.Choices[0].FinishReason != "stop" || got.Choices[0].Message.Content == "" {
		t.Errorf("after the tool: %v, %v", got, err)
	}
}

// What only some upstreams know reaches them and comes back.
func TestExtraFields(t *testing.T) {
	s := running(t)
	client := s.openai(s.key)
	got, err := client.Chat.Completions.New(t.Context(), question("mock-reasoning"), option.WithJSONSet("enable_thinking", true))
	if err != nil {
		t.Fatal(err)
	}
	if f := got.Choices[0].Message.JSON.ExtraFields["reasoning_content"]; f.Raw() == "" || f.Raw() == "null" {
		t.Errorf("no reasoning in %s", got.RawJSON())
	}
	if got.Usage.CompletionTokensDetails.ReasoningTokens == 0 {
		t.Errorf("usage %s", got.Usage.RawJSON())
	}
}

func TestEmbeddings(t *testing.T) {
	s := running(t)
	client := s.openai(s.key)
	var res *http.Response
	got, err := client.Embeddings.New(t.Context(), openai.EmbeddingNewParams{
		Model: "embed", Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"one", "two"}},
		EncodingFormat: openai.EmbeddingNewParamsEncodingFormatFloat,
	}, option.WithResponseInto(&res))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Data) != 2 || len(got.Data[1].Embedding) == 0 || got.Usage.PromptTokens == 0 {
		t.Errorf("%s", got.RawJSON())
	}
	s.billed(t, res, got.Usage.PromptTokens, 0)
}

func TestModels(t *testing.T) {
	s := running(t)
	client := s.openai(s.key)
	seen := map[string]bool{}
	for list := client.Models.ListAutoPaging(t.Context()); list.Next(); {
		seen[list.Current().ID] = true
	}
	for _, m := range models[:len(models)-1] {
		if !seen[m] {
			t.Errorf("%s is not listed among %v", m, seen)
		}
	}
	if _, err := client.Models.Get(t.Context(), "mock-model"); err != nil {
		t.Errorf("one model: %v", err)
	}
}

func TestErrors(t *testing.T) {
	s := running(t)
	if _, err := s.slowOnce(t); err != nil {
		t.Fatalf("the first request of the slow key: %v", err)
	}
	for name, c := range map[string]struct {
		key, model string
		change     func(q *openai.ChatCompletionNewParams)
		status     int
		code       string
	}{
		"no such key":   {"jm_wrong", "mock-model", nil, 401, "unauthorized"},
		"no credit":     {s.poor, "mock-model", nil, 402, "insufficient_credit"},
		"no such model": {s.key, "nothing", nil, 404, "not_found"},
		"no price":      {s.key, "unpriced", nil, 0, "no_price"},
		"own limit":     {s.slow, "mock-model", nil, 429, "rate_limited"},
		"upstream 429":  {s.key, "mock-429", nil, 429, "rate_limited"},
		"bad request": {s.key, "mock-model", func(q *openai.ChatCompletionNewParams) {
			q.Temperature = param.NewOpt(5.0)
		}, 400, ""},
	} {
		t.Run(name, func(t *testing.T) {
			client := s.openai(c.key)
			q := question(c.model)
			if c.change != nil {
				c.change(&q)
			}
			_, err := client.Chat.Completions.New(t.Context(), q)
			e, ok := errors.AsType[*openai.Error](err)
			if !ok {
				t.Fatalf("%v", err)
			}
			if (c.status != 0 && e.StatusCode != c.status) || (c.code != "" && e.Code != c.code) || e.Message == "" || e.Type == "" {
				t.Errorf("%d, code %q, type %q, %q; want %d %q", e.StatusCode, e.Code, e.Type, e.Message, c.status, c.code)
			}
			if c.status == 429 && e.Response.Header.Get("Retry-After") == "" {
				t.Error("429 without Retry-After")
			}
			stream := client.Chat.Completions.NewStreaming(t.Context(), q)
			if stream.Next() || !errors.As(stream.Err(), new(*openai.Error)) {
				t.Errorf("streamed: %v", stream.Err())
			}
		})
	}
}

func (s *server) slowOnce(t *testing.T) (*openai.ChatCompletion, error) {
	t.Helper()
	client := s.openai(s.slow)
	return client.Chat.Completions.New(t.Context(), question("mock-model"))
}

// An error in the middle of a stream reaches the reader as one.
func TestErrorInStream(t *testing.T) {
	s := running(t)
	client := s.openai(s.key)
	stream := client.Chat.Completions.NewStreaming(t.Context(), question("mock-error-mid"))
	events := 0
	for stream.Next() {
		events++
	}
	if stream.Err() == nil || events == 0 {
		t.Errorf("%d events, error %v", events, stream.Err())
	}
}

// All that was charged is what the balance has lost, to the nano-credit.
func TestBalance(t *testing.T) {
	s := running(t)
	client := s.openai(s.key)
	spent := func() int64 { return 100e9 - s.balance(t) }
	before := spent()
	for still := 0; still < 10; <-time.After(20 * time.Millisecond) { // what other tests left is settled
		if now := spent(); now == before {
			still++
		} else {
			before, still = now, 0
		}
	}
	var due int64
	for range 5 {
		got, err := client.Chat.Completions.New(t.Context(), question("mock-model"))
		if err != nil {
			t.Fatal(err)
		}
		due += price(got.Usage.PromptTokens, got.Usage.CompletionTokens)
	}
	for end := time.Now().Add(5 * time.Second); spent()-before != due; <-time.After(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the balance fell by %d, want %d", spent()-before, due)
		}
	}
	if out, err := s.command(t.Context(), "ledger", "verify"); err != nil {
		t.Error(out, err)
	}
}

// balance is the rich user's, in nano-credits.
func (s *server) balance(t *testing.T) int64 {
	t.Helper()
	var me struct {
		Credit struct{ Balance string }
	}
	s.get(t, "/api/me", &me)
	whole, fraction, _ := strings.Cut(me.Credit.Balance, ".")
	var nano int64
	if _, err := fmt.Sscan(strings.TrimLeft(whole+fraction+strings.Repeat("0", 9-len(fraction)), "0"), &nano); err != nil {
		t.Fatalf("balance %q: %v", me.Credit.Balance, err)
	}
	return nano
}

package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/http"
	"strings"
)

// Chat asks models.
type Chat struct{ c *Client }

// ChatRequest is a question. Only Model and Messages are needed.
type ChatRequest struct {
	Model           string    `json:"model"`
	Messages        []Message `json:"messages"`
	MaxTokens       int64     `json:"max_tokens,omitempty"`
	Temperature     *float64  `json:"temperature,omitempty"`
	TopP            *float64  `json:"top_p,omitempty"`
	Stop            []string  `json:"stop,omitempty"`
	N               int64     `json:"n,omitempty"`
	Tools           []Tool    `json:"tools,omitempty"`
	ToolChoice      any       `json:"tool_choice,omitempty"` // "auto", "none", "required", or an object
	ResponseFormat  any       `json:"response_format,omitempty"`
	ReasoningEffort string    `json:"reasoning_effort,omitempty"`
	User            string    `json:"user,omitempty"`
	// Extra are more members of the request, for what only some models know.
	Extra map[string]any `json:"-"`
}

// Message is one turn of a conversation.
type Message struct {
	Role       string     `json:"role"`
	Content    string     `json:"content"`
	Parts      []Part     `json:"-"` // in place of Content, where a message is more than text
	Reasoning  string     `json:"reasoning_content,omitempty"`
	ToolCalls  []ToolCall `json:"tool_calls,omitempty"`
	ToolCallID string     `json:"tool_call_id,omitempty"`
}

// System makes a message that instructs the model.
func System(text string) Message { return Message{Role: "system", Content: text} }

// User makes a message of the user.
func User(text string) Message { return Message{Role: "user", Content: text} }

// Assistant makes a message of the model.
func Assistant(text string) Message { return Message{Role: "assistant", Content: text} }

// ToolResult makes a message that answers a tool call.
func ToolResult(call, text string) Message {
	return Message{Role: "tool", ToolCallID: call, Content: text}
}

// Part is a piece of a message: text or an image.
type Part struct {
	Type     string    `json:"type"` // text or image_url
	Text     string    `json:"text,omitempty"`
	ImageURL *ImageURL `json:"image_url,omitempty"`
}

// ImageURL is where an image is: https: or data:.
type ImageURL struct {
	URL    string `json:"url"`
	Detail string `json:"detail,omitempty"`
}

// Tool is a function that the model may call.
type Tool struct {
	Type     string   `json:"type"` // function
	Function Function `json:"function"`
}

// Function describes a function.
type Function struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Parameters  any    `json:"parameters,omitempty"` // a JSON schema
}

// ToolCall is the model's wish to call a function. In a stream, the arguments
// of the calls of one index are to be joined.
type ToolCall struct {
	Index    int    `json:"index"`
	ID       string `json:"id,omitempty"`
	Type     string `json:"type,omitempty"`
	Function struct {
		Name      string `json:"name,omitempty"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

// TokenUsage is what a request used.
type TokenUsage struct {
	PromptTokens     int64 `json:"prompt_tokens"`
	CompletionTokens int64 `json:"completion_tokens"`
	TotalTokens      int64 `json:"total_tokens"`
	PromptDetails    struct {
		CachedTokens int64 `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
	CompletionDetails struct {
		ReasoningTokens int64 `json:"reasoning_tokens"`
	} `json:"completion_tokens_details"`
}

// Completion is an answer.
type Completion struct {
	ID      string      `json:"id"`
	Model   string      `json:"model"`
	Created int64       `json:"created"` // Unix seconds
	Choices []Choice    `json:"choices"`
	Usage   *TokenUsage `json:"usage"`

	Cost      *Amount `json:"-"` // what was charged; nil is not said
	RequestID string  `json:"-"`
}

// Choice is one of the answers asked for.
type Choice struct {
	Index        int     `json:"index"`
	Message      Message `json:"message"`
	FinishReason string  `json:"finish_reason"`
}

// Text is the text of the first answer.
func (c *Completion) Text() string {
	if len(c.Choices) == 0 {
		return ""
	}
	return c.Choices[0].Message.Content
}

// Chunk is a piece of a streamed answer. The last one has no choices; it says
// what the request used and cost.
type Chunk struct {
	ID      string        `json:"id"`
	Model   string        `json:"model"`
	Choices []ChunkChoice `json:"choices"`
	Usage   *TokenUsage   `json:"usage"`

	Cost      *Amount `json:"-"` // in the last chunk; nil is not said
	RequestID string  `json:"-"`
}

// ChunkChoice is a piece of one of the answers asked for.
type ChunkChoice struct {
	Index        int     `json:"index"`
	Delta        Message `json:"delta"`
	FinishReason string  `json:"finish_reason"`
}

// Text is the piece of text of the first answer.
func (c *Chunk) Text() string {
	if len(c.Choices) == 0 {
		return ""
	}
	return c.Choices[0].Delta.Content
}

// MarshalJSON implements [json.Marshaler]: the parts, where there are any, are
// the content.
func (m Message) MarshalJSON() ([]byte, error) {
	type plain Message
	if m.Parts == nil {
		return json.Marshal(plain(m))
	}
	return json.Marshal(struct {
		plain

		Content []Part `json:"content"`
	}{plain(m), m.Parts})
}

// MarshalJSON implements [json.Marshaler]: Extra is part of the request.
func (r ChatRequest) MarshalJSON() ([]byte, error) { return r.encode(false) }

func (r *ChatRequest) encode(stream bool) ([]byte, error) {
	type plain ChatRequest
	b, err := json.Marshal((*plain)(r))
	if err != nil || (len(r.Extra) == 0 && !stream) {
		return b, err
	}
	extra := make(map[string]any, len(r.Extra)+2)
	if stream {
		extra["stream"] = true
		extra["stream_options"] = map[string]bool{"include_usage": true}
	}
	maps.Copy(extra, r.Extra)
	more, err := json.Marshal(extra)
	if err != nil {
		return nil, fmt.Errorf("encoding the extra members: %w", err)
	}
	b[len(b)-1] = ','
	return append(b, more[1:]...), nil
}

// Create asks, and waits for the whole answer.
func (s *Chat) Create(ctx context.Context, r *ChatRequest) (*Completion, error) {
	var out Completion
	h, err := s.c.call(ctx, http.MethodPost, "/v1/chat/completions", r, &out)
	if err != nil {
		return nil, err
	}
	out.Cost, out.RequestID = costOf(h), h.Get("X-Request-Id")
	return &out, nil
}

// Stream asks, and yields the answer piece by piece as it comes. The request
// is sent when the loop begins, once for each loop, and ended when the loop
// does. An error is the last that is yielded.
func (s *Chat) Stream(ctx context.Context, r *ChatRequest) iter.Seq2[*Chunk, error] {
	return func(yield func(*Chunk, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		body, err := r.encode(true)
		if err != nil {
			yield(nil, err)
			return
		}
		res, err := s.c.send(ctx, http.MethodPost, "/v1/chat/completions", json.RawMessage(body))
		if err != nil {
			yield(nil, err)
			return
		}
		defer res.Body.Close() //nolint:errcheck // it was only read
		st := &stream{res: res, events: newEvents(res.Body)}
		for {
			c, err := st.next()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					yield(nil, err)
				}
				return
			}
			if !yield(c, nil) {
				return
			}
		}
	}
}

// stream is a streamed answer on its way.
type stream struct {
	res      *http.Response
	events   *events
	last     *Chunk // the one that says the usage, kept for the cost
	finished bool   // a reason to finish has come
	over     bool   // nothing more will come
	closed   bool   // and all has been said
}

// next returns the next chunk, and io.EOF after the last.
func (s *stream) next() (*Chunk, error) {
	for !s.over {
		data, err := s.events.next()
		switch {
		case err == nil && strings.TrimSpace(string(data)) == "[DONE]":
			s.over, s.finished = true, true
			_, err = io.Copy(io.Discard, s.res.Body) // the trailer is after the body
			if err != nil {
				return nil, fmt.Errorf("reading the end of the stream: %w", err)
			}
		case errors.Is(err, io.EOF):
			s.over = true
		case err != nil:
			return nil, fmt.Errorf("reading the stream: %w", err)
		default:
			if c, err := s.decode(data); c != nil || err != nil {
				return c, err
			}
		}
	}
	if !s.finished {
		return nil, ErrCut
	}
	return s.close()
}

// decode returns the chunk of an event, or nil if it is kept for the end.
func (s *stream) decode(data []byte) (*Chunk, error) {
	var c struct {
		Chunk

		Error json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("decoding an event of the stream: %w", err)
	}
	id := s.res.Header.Get("X-Request-Id")
	if len(c.Error) > 0 && string(c.Error) != "null" {
		e := &Error{Status: s.res.StatusCode, RequestID: id}
		e.fill(c.Error)
		return nil, e
	}
	c.RequestID = id
	if len(c.Choices) == 0 && c.Usage != nil {
		s.last = &c.Chunk
		return nil, nil
	}
	for _, choice := range c.Choices {
		s.finished = s.finished || choice.FinishReason != ""
	}
	return &c.Chunk, nil
}

// close returns what is left to say, once.
func (s *stream) close() (*Chunk, error) {
	if s.closed {
		return nil, io.EOF
	}
	s.closed = true
	cost := costOf(s.res.Trailer)
	if cost == nil {
		cost = costOf(s.res.Header)
	}
	if s.last == nil && cost == nil {
		return nil, io.EOF
	}
	if s.last == nil {
		s.last = &Chunk{RequestID: s.res.Header.Get("X-Request-Id")}
	}
	s.last.Cost = cost
	return s.last, nil
}

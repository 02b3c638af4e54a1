package mock

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/tidwall/gjson"
)

// openAI is the dialect of OpenAI and of all who are compatible with it.
type openAI struct{}

func (openAI) refuse(w http.ResponseWriter, p *problem) {
	if p.retry != "" {
		w.Header().Set("Retry-After", p.retry)
	}
	send(w, p.status, "application/json", openAIError(nil, p))
}

func openAIError(dst []byte, p *problem) []byte {
	null := func(s string) string {
		if s == "" {
			return "null"
		}
		return string(quote(s))
	}
	dst = append(dst, `{"error":{"message":`...)
	dst = append(dst, quote(p.text)...)
	return append(dst, `,"type":"`+p.kind+`","param":`+null(p.param)+`,"code":`+null(p.code)+`}}`...)
}

func (openAI) failure(dst []byte, p *problem) []byte {
	dst = append(dst, "data: "...)
	return append(openAIError(dst, p), "\n\n"...)
}

// known are the members of a chat request that OpenAI knows.
var known = []string{ //nolint:gochecknoglobals // constant table
	"messages", "model", "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs",
	"max_completion_tokens", "max_tokens", "metadata", "modalities", "n", "parallel_tool_calls", "prediction",
	"presence_penalty", "prompt_cache_key", "prompt_cache_retention", "reasoning_effort", "response_format",
	"safety_identifier", "seed", "service_tier", "stop", "store", "stream", "stream_options", "temperature",
	"tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity", "web_search_options",
}

// checks are what the simple members of a chat request must be.
var checks = map[string]struct { //nolint:gochecknoglobals // constant table
	good func(v gjson.Result) bool
	want string
}{
	"max_tokens":            {positive, "an integer above 0"},
	"max_completion_tokens": {positive, "an integer above 0"},
	"n":                     {func(v gjson.Result) bool { return positive(v) && v.Int() <= 128 }, "an integer from 1 to 128"},
	"temperature":           {func(v gjson.Result) bool { return within(v, 0, 2) }, "a number from 0 to 2"},
	"top_p":                 {func(v gjson.Result) bool { return within(v, 0, 1) }, "a number from 0 to 1"},
	"presence_penalty":      {func(v gjson.Result) bool { return within(v, -2, 2) }, "a number from -2 to 2"},
	"frequency_penalty":     {func(v gjson.Result) bool { return within(v, -2, 2) }, "a number from -2 to 2"},
	"stream":                {gjson.Result.IsBool, "true or false"},
	"stream_options":        {gjson.Result.IsObject, "an object"},
	"tools":                 {goodTools, "an array of functions with a name"},
	"messages":              {func(v gjson.Result) bool { return v.IsArray() }, "an array"},
	"model":                 {func(v gjson.Result) bool { return v.Type == gjson.String && v.Str != "" }, "a string"},
	"stop":                  {goodStop, "a string, or an array of up to 4"},
}

func positive(v gjson.Result) bool {
	n, err := strconv.ParseInt(v.Raw, 10, 64)
	return v.Type == gjson.Number && err == nil && n > 0
}

func within(v gjson.Result, from, to float64) bool {
	return v.Type == gjson.Number && v.Num >= from && v.Num <= to
}

func goodStop(v gjson.Result) bool {
	return v.Type == gjson.String || (v.IsArray() && len(v.Array()) <= 4)
}

func goodTools(v gjson.Result) bool {
	good := v.IsArray()
	v.ForEach(func(_, t gjson.Result) bool {
		good = good && t.Get("type").Str != "" && (t.Get("type").Str != "function" || t.Get("function.name").Str != "")
		return good
	})
	return good
}

func (openAI) read(m *Mock, _ *http.Request, a *ask) error {
	if !gjson.ValidBytes(a.body) {
		return invalid("", "We could not parse the JSON body of your request.")
	}
	top := gjson.ParseBytes(a.body)
	if !top.IsObject() {
		return invalid("", "The JSON body must be an object.")
	}
	var seen members
	if err := a.members(m, top, &seen); err != nil {
		return err
	}
	switch {
	case a.model == "":
		return invalid("model", "you must provide a model parameter")
	case len(seen.messages.Raw) == 0 || seen.messages.Get("#").Int() == 0:
		return invalid("messages", "Missing required parameter: 'messages'.")
	case seen.options && !a.stream:
		return invalid("stream_options", "The 'stream_options' parameter is only allowed when 'stream' is enabled.")
	}
	last, err := a.messages(m, seen.messages)
	if err != nil {
		return err
	}
	if seen.noTools || last == "tool" {
		a.tool = ""
	}
	return nil
}

// members are what is decided on once the whole request was read.
type members struct {
	messages gjson.Result
	options  bool // stream_options is there
	noTools  bool // tool_choice is none
}

// members checks the members of a chat request and keeps them.
func (a *ask) members(m *Mock, top gjson.Result, seen *members) error {
	var err error
	top.ForEach(func(k, v gjson.Result) bool {
		if v.Type == gjson.Null {
			return true
		}
		if c, ok := checks[k.Str]; ok && !c.good(v) {
			err = invalid(k.Str, "Invalid value for '"+k.Str+"': expected "+c.want+".")
			return false
		} else if !ok && m.o.Strict && !slices.Contains(known, k.Str) {
			err = invalid(k.Str, "Unrecognized request argument supplied: "+k.Str)
			return false
		}
		switch k.Str {
		case "messages":
			seen.messages = v
		case "stream_options":
			seen.options = true
			a.includeUsage = v.Get("include_usage").Bool()
		case "tool_choice":
			seen.noTools = v.Str == "none"
		case "tools":
			a.tool = v.Get("0.function.name").Str
		default:
			a.member(k.Str, v)
		}
		return true
	})
	return err
}

// member keeps a simple member of the request.
func (a *ask) member(name string, v gjson.Result) {
	switch name {
	case "model":
		a.model = v.Str
	case "stream":
		a.stream = v.Bool()
	case "max_tokens", "max_completion_tokens":
		a.max = v.Int()
	case "n":
		a.n = int(v.Int())
	case "stop":
		if v.Type == gjson.String {
			a.stops = []string{v.Str}
			return
		}
		for _, s := range v.Array() {
			a.stops = append(a.stops, s.Str)
		}
	}
}

// messages checks the messages, counts their text, and returns the last one's role.
func (a *ask) messages(m *Mock, v gjson.Result) (last string, err error) {
	i := 0
	v.ForEach(func(_, msg gjson.Result) bool {
		at := "messages[" + strconv.Itoa(i) + "]"
		i++
		last = msg.Get("role").Str
		content := msg.Get("content")
		switch last {
		case "developer", "system", "user", "function":
		case "tool":
			if msg.Get("tool_call_id").Str == "" {
				err = invalid(at+".tool_call_id", "Missing required parameter: '"+at+".tool_call_id'.")
			}
		case "assistant":
			if content.Type == gjson.Null && !msg.Get("tool_calls").Exists() && !msg.Get("function_call").Exists() {
				err = invalid(at+".content", "An assistant message needs content or tool calls.")
			}
		default:
			err = invalid(at+".role", "Invalid value: '"+last+"'. Supported values are: 'system', 'assistant', 'user', 'function', 'tool', and 'developer'.")
		}
		if err != nil {
			return false
		}
		text, ok := contentOf(content)
		if !ok || (content.Type == gjson.Null && last != "assistant") {
			err = invalid(at+".content", "Invalid value for '"+at+".content': expected a string or an array of content parts.")
			return false
		}
		a.usage.in += m.count(text) + imagesOf(content)
		if last == "user" {
			a.last = text
		}
		return true
	})
	return last, err
}

// contentOf returns the text of a message's content.
func contentOf(v gjson.Result) (text string, ok bool) {
	switch {
	case v.Type == gjson.String:
		return v.Str, true
	case v.Type == gjson.Null:
		return "", true
	case !v.IsArray():
		return "", false
	}
	ok = true
	v.ForEach(func(_, part gjson.Result) bool {
		switch part.Get("type").Str {
		case "text":
			ok = part.Get("text").Type == gjson.String
			text += part.Get("text").Str
		case "image_url":
			ok = part.Get("image_url.url").Str != ""
		case "input_audio", "file", "refusal":
		default:
			ok = false
		}
		return ok
	})
	return text, ok
}

func imagesOf(v gjson.Result) int64 {
	if !v.IsArray() {
		return 0
	}
	return ImageTokens * v.Get(`#(type=="image_url")#|#`).Int()
}

func (openAI) head(dst []byte, a *ask, object string) []byte {
	dst = append(dst, `{"id":"chatcmpl-mock-`...)
	dst = strconv.AppendInt(dst, a.id, 10)
	dst = append(dst, `","object":"`...)
	dst = append(dst, object...)
	dst = append(dst, `","created":`...)
	dst = strconv.AppendInt(dst, a.created, 10)
	dst = append(dst, `,"model":`...)
	dst = append(dst, quote(a.model)...)
	return append(dst, `,"choices":[`...)
}

func (openAI) usage(dst []byte, u *usage) []byte {
	dst = append(dst, `{"prompt_tokens":`...)
	dst = strconv.AppendInt(dst, u.in, 10)
	dst = append(dst, `,"completion_tokens":`...)
	dst = strconv.AppendInt(dst, u.out, 10)
	dst = append(dst, `,"total_tokens":`...)
	dst = strconv.AppendInt(dst, u.in+u.out, 10)
	dst = append(dst, `,"prompt_tokens_details":{"cached_tokens":`...)
	dst = strconv.AppendInt(dst, u.cached, 10)
	dst = append(dst, `},"completion_tokens_details":{"reasoning_tokens":`...)
	dst = strconv.AppendInt(dst, u.reasoning, 10)
	return append(dst, `}}`...)
}

func (a *ask) finish() string {
	switch {
	case a.tool != "":
		return "tool_calls"
	case a.cut:
		return "length"
	default:
		return "stop"
	}
}

func (o openAI) answer(dst []byte, a *ask) []byte {
	dst = o.head(dst, a, "chat.completion")
	for i := range a.n {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"index":`...)
		dst = strconv.AppendInt(dst, int64(i), 10)
		dst = append(dst, `,"message":{"role":"assistant","content":`...)
		if a.tool != "" {
			dst = append(dst, `null,"tool_calls":[{"id":"call_mock_1","type":"function","function":{"name":`...)
			dst = append(dst, quote(a.tool)...)
			dst = append(dst, `,"arguments":`...)
			dst = append(dst, a.whole...)
			dst = append(dst, `}}]`...)
		} else {
			dst = append(dst, a.whole...)
		}
		if a.reasoning != "" {
			dst = append(dst, `,"reasoning_content":`...)
			dst = append(dst, quote(a.reasoning)...)
		}
		dst = append(dst, `,"refusal":null},"logprobs":null,"finish_reason":"`+a.finish()+`"}`...)
	}
	dst = append(dst, ']')
	if !a.noUsage {
		dst = append(dst, `,"usage":`...)
		dst = o.usage(dst, &a.usage)
	}
	return append(dst, '}')
}

func (openAI) begin(dst []byte, _ *ask) []byte { return dst }

func (o openAI) piece(dst []byte, a *ask, i int, now time.Time) []byte {
	if i == 0 && a.reasoning != "" {
		dst = append(dst, "data: "...)
		dst = o.head(dst, a, "chat.completion.chunk")
		dst = append(dst, `{"index":0,"delta":{"role":"assistant","content":null,"reasoning_content":`...)
		dst = append(dst, quote(a.reasoning)...)
		dst = append(dst, `},"finish_reason":null}]}`+"\n\n"...)
	}
	for c := range a.n {
		dst = append(dst, "data: "...)
		dst = o.head(dst, a, "chat.completion.chunk")
		dst = append(dst, `{"index":`...)
		dst = strconv.AppendInt(dst, int64(c), 10)
		dst = append(dst, `,"delta":{`...)
		if i == 0 {
			dst = append(dst, `"role":"assistant",`...)
		}
		switch {
		case a.tool != "" && i == 0:
			dst = append(dst, `"content":null,"tool_calls":[{"index":0,"id":"call_mock_1","type":"function","function":{"name":`...)
			dst = append(dst, quote(a.tool)...)
			dst = append(dst, `,"arguments":`...)
			dst = append(dst, a.quoted[i]...)
			dst = append(dst, `}}]`...)
		case a.tool != "":
			dst = append(dst, `"tool_calls":[{"index":0,"function":{"arguments":`...)
			dst = append(dst, a.quoted[i]...)
			dst = append(dst, `}}]`...)
		default:
			dst = append(dst, `"content":`...)
			dst = append(dst, a.quoted[i]...)
		}
		dst = append(dst, `},"logprobs":null,"finish_reason":null}]`...)
		dst = o.tail(dst, a, now)
	}
	return dst
}

// tail ends a chunk.
func (o openAI) tail(dst []byte, a *ask, now time.Time) []byte {
	switch {
	case a.every && !a.noUsage:
		dst = append(dst, `,"usage":`...)
		dst = o.usage(dst, &a.usage)
	case a.includeUsage:
		dst = append(dst, `,"usage":null`...)
	}
	if a.stamp && !now.IsZero() {
		dst = append(dst, `,"sent":`...)
		dst = strconv.AppendInt(dst, now.UnixNano(), 10)
	}
	return append(dst, "}\n\n"...)
}

func (o openAI) end(dst []byte, a *ask, done bool) []byte {
	for c := range a.n {
		dst = append(dst, "data: "...)
		dst = o.head(dst, a, "chat.completion.chunk")
		dst = append(dst, `{"index":`...)
		dst = strconv.AppendInt(dst, int64(c), 10)
		dst = append(dst, `,"delta":{},"logprobs":null,"finish_reason":"`+a.finish()+`"}]`...)
		dst = o.tail(dst, a, time.Time{})
	}
	if a.includeUsage && !a.noUsage {
		dst = append(dst, "data: "...)
		dst = o.head(dst, a, "chat.completion.chunk")
		dst = append(dst, `],"usage":`...)
		dst = o.usage(dst, &a.usage)
		dst = append(dst, "}\n\n"...)
	}
	if done {
		dst = append(dst, "data: [DONE]\n\n"...)
	}
	return dst
}

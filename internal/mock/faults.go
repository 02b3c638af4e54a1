package mock

import (
	"bytes"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// fault is one way to go wrong.
type fault struct {
	what string
	do   func(x *run)
}

// Faults are the names of the faults, each with what happens.
func Faults() map[string]string {
	out := make(map[string]string)
	for name, f := range faults() {
		out[name] = f.what
	}
	return out
}

// FaultNames lists the faults, sorted.
func FaultNames() []string { return slices.Sorted(maps.Keys(faults())) }

func refusal(what string, p problem) fault {
	return fault{what, func(x *run) {
		if x.wait(x.m.o.Delay) {
			x.d.refuse(x.w, &p)
		}
	}}
}

func answered(what string, change func(a *ask)) fault {
	return fault{what, func(x *run) {
		change(x.a)
		x.all()
	}}
}

// failed is what the faults after HTTP 200 say.
func failed() *problem {
	return &problem{status: http.StatusInternalServerError, kind: "server_error", code: "server_error", text: "The server had an error while processing your request."}
}

const insaneTokens = 1e15

func faults() map[string]fault {
	return map[string]fault{
		"400": refusal("400, an invalid request", *invalid("messages", "This request is not valid.")),
		"400-context": refusal("400, the prompt is too long", problem{
			status: http.StatusBadRequest, kind: "invalid_request_error", code: "context_length_exceeded", param: "messages",
			text: "This model's maximum context length is 4096 tokens.",
		}),
		"400-content": refusal("400, refused for its content", problem{
			status: http.StatusBadRequest, kind: "invalid_request_error", code: "content_filter", text: "The content was filtered.",
		}),
		"401": refusal("401, a revoked key", problem{
			status: http.StatusUnauthorized, kind: "authentication_error", code: "invalid_api_key", text: "Incorrect API key provided.",
		}),
		"402": refusal("402, the account is empty", problem{
			status: http.StatusPaymentRequired, kind: "invalid_request_error", code: "insufficient_balance", text: "Insufficient Balance",
		}),
		"403": refusal("403", problem{
			status: http.StatusForbidden, kind: "permission_error", code: "forbidden", text: "You are not allowed to use this model.",
		}),
		"404": refusal("404, no such model", problem{
			status: http.StatusNotFound, kind: "invalid_request_error", code: "model_not_found", text: "The model does not exist.",
		}),
		"429": refusal("429, with Retry-After: 1", problem{
			status: http.StatusTooManyRequests, kind: "rate_limit_error", code: "rate_limit_exceeded", text: "Rate limit reached.", retry: "1",
		}),
		"429-quota": refusal("429, insufficient_quota", problem{
			status: http.StatusTooManyRequests, kind: "insufficient_quota", code: "insufficient_quota", text: "You exceeded your current quota.",
		}),
		"500": refusal("500", *failed()),
		"503": refusal("503", problem{
			status: http.StatusServiceUnavailable, kind: "server_error", code: "overloaded", text: "The engine is currently overloaded.",
		}),
		"529": refusal("529, overloaded", problem{status: statusOverloaded, kind: "overloaded_error", text: "Overloaded"}),
		"html": {"200 with a page of HTML", func(x *run) {
			send(x.w, http.StatusOK, "text/html", []byte("<!doctype html><title>Welcome</title><p>It works!"))
		}},
		"redirect": {"302 to the metadata address of a cloud", func(x *run) {
			x.w.Header().Set("Location", "http://169.254.169.254/latest/meta-data/")
			x.w.WriteHeader(http.StatusFound)
		}},
		"error-after-200": {"200, then an error as the first event, or as the body", errorAfter200},
		"error-mid":       {"half of the answer, then an error event", halfThen(func(x *run) { x.put(x.d.failure(nil, failed())) })},
		"cut":             {"half of the answer, then the connection is cut", halfThen(cut)},
		"cut-first":       {"the headers of an answer, then the connection is cut", func(x *run) { x.headers(); x.put(nil); cut(x) }},
		"cut-before":      {"the connection is cut before the headers", cut},
		"hang":            {"no answer until the client goes away", hang},
		"hang-first":      {"the headers, then silence", func(x *run) { x.headers(); x.put(nil); hang(x) }},
		"hang-mid":        {"half of the answer, then silence", halfThen(hang)},
		"no-usage":        answered("no usage anywhere", func(a *ask) { a.noUsage = true }),
		"no-done": {"the stream ends without [DONE]", func(x *run) {
			if x.start() && x.upto(len(x.a.pieces)) {
				x.finish(false)
			}
		}},
		"short":          {"the stream ends cleanly after half, without a reason or usage", halfThen(func(*run) {})},
		"insane-usage":   answered("an output of 10^15 tokens", func(a *ask) { a.usage.out = insaneTokens }),
		"negative-usage": answered("an output of -1000 tokens", func(a *ask) { a.usage.out = -1000 }),
		"usage-every":    answered("usage in every event of the stream", func(a *ask) { a.every = true }),
		"cached":         answered("half of the input was cached", func(a *ask) { a.usage.cached = a.usage.in / 2 }),
		"reasoning": {"reasoning before the answer", func(x *run) {
			x.a.reasoning = "First I think about what was asked."
			x.m.complete(x.a)
			x.all()
		}},
		"empty":   {"200 and an empty body", func(x *run) { x.headers() }},
		"garbage": {"200 and events that are not JSON", func(x *run) { x.headers(); x.put([]byte("data: {\"id\":\n\ndata: \xff\xfe\n\n")) }},
		"odd":     {"a stream with CRLF, comments, event: and id: lines, a line of 64 KiB + 1 and one of 1 MiB, split characters, and no blank line at the end", odd},
	}
}

// fault returns the name of the fault that a request asks for.
func (m *Mock) fault(r *http.Request, a *ask) string {
	known := func(name string) bool {
		if name == "" {
			return false
		}
		_, ok := m.faults[name]
		return ok
	}
	if known(m.o.Fault) {
		return m.o.Fault
	}
	if name, ok := strings.CutPrefix(a.model, "mock-"); ok && known(name) {
		return name
	}
	if name, ok := strings.CutPrefix(keyOf(r), "sk-mock-"); ok && known(name) {
		return name
	}
	if h := r.Header["X-Mock-Fault"]; len(h) > 0 && known(h[0]) {
		return h[0]
	}
	return ""
}

func errorAfter200(x *run) {
	if !x.wait(x.m.o.Delay) {
		return
	}
	if !x.a.stream {
		x.d.refuse(okWriter{x.w}, failed())
		return
	}
	x.headers()
	x.put(x.d.failure(nil, failed()))
}

// okWriter answers 200, whatever it is told.
type okWriter struct{ http.ResponseWriter }

func (w okWriter) WriteHeader(int) { w.ResponseWriter.WriteHeader(http.StatusOK) }

// halfThen sends half of the answer, streamed or not, and then does a thing.
func halfThen(then func(x *run)) func(x *run) {
	return func(x *run) {
		if x.a.stream {
			x.wait(x.m.o.Delay)
			x.headers()
			if x.upto((len(x.a.pieces) + 1) / 2) {
				then(x)
			}
			return
		}
		if !x.wait(x.m.o.Delay) {
			return
		}
		b := x.d.answer(nil, x.a)
		x.w.Header().Set("Content-Type", "application/json")
		x.w.WriteHeader(http.StatusOK)
		if x.put(b[:len(b)/2]) {
			then(x)
		}
	}
}

func cut(*run) { panic(http.ErrAbortHandler) }

func hang(x *run) { <-x.r.Context().Done() }

// OddStream is the stream of the fault "odd": everything that the format
// allows and few send. A gateway must hand on the very same bytes.
func OddStream() []byte {
	var b bytes.Buffer
	event := func(content string) {
		b.WriteString(`data: {"id":"odd","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"` + content + `"},"finish_reason":null}]}`)
	}
	b.WriteString(": a comment\r\n\r\n")
	event("\u4f60\u597d\uff0c\u4e16\u754c \U0001f44b")
	b.WriteString("\r\n\r\nevent: message\nid: 7\nretry: 1000\n")
	event("named")
	b.WriteString("\n\n:\n\n")
	for _, size := range [...]int{64<<10 + 1, 1 << 20} {
		start := b.Len()
		event("")
		frame := b.Len() - start
		b.Truncate(start)
		event(strings.Repeat("x", size-frame))
		b.WriteString("\n\n")
	}
	b.WriteString(`data: {"id":"odd","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n")
	b.WriteString(`data: {"id":"odd","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":20,"total_tokens":30}}` + "\n\n")
	b.WriteString("data: [DONE]")
	return b.Bytes()
}

// odd writes the odd stream in pieces of unusual sizes, one of which ends in
// the middle of a character.
func odd(x *run) {
	x.headers()
	rest := OddStream()
	for _, n := range [...]int{3, 120, 1, 1, 1, 500, 4095, 65_537} {
		n = min(n, len(rest))
		if !x.put(rest[:n]) {
			return
		}
		rest = rest[n:]
	}
	if x.put(rest) {
		x.m.answered.Add(1)
	}
}

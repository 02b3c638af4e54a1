package mock

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"
)

// gemini is the dialect of POST /v1beta/models/MODEL:generateContent and
// :streamGenerateContent, as events with ?alt=sse and else as one array.
type gemini struct{}

// geminiStates are the names of the statuses.
var geminiStates = map[int]string{ //nolint:gochecknoglobals // constant table
	http.StatusBadRequest:         "INVALID_ARGUMENT",
	http.StatusUnauthorized:       "UNAUTHENTICATED",
	http.StatusForbidden:          "PERMISSION_DENIED",
	http.StatusNotFound:           "NOT_FOUND",
	http.StatusTooManyRequests:    "RESOURCE_EXHAUSTED",
	http.StatusServiceUnavailable: "UNAVAILABLE",
}

func (gemini) refuse(w http.ResponseWriter, p *problem) {
	send(w, p.status, "application/json; charset=UTF-8", geminiError(nil, p))
}

func geminiError(dst []byte, p *problem) []byte {
	state := geminiStates[p.status]
	if state == "" {
		state = "INTERNAL"
	}
	dst = append(dst, `{"error":{"code":`...)
	dst = strconv.AppendInt(dst, int64(p.status), 10)
	dst = append(dst, `,"message":`...)
	dst = append(dst, quote(p.text)...)
	dst = append(dst, `,"status":"`+state+`"`...)
	if p.retry != "" {
		dst = append(dst, `,"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"`+p.retry+`s"}]`...)
	}
	return append(dst, `}}`...)
}

func (gemini) failure(dst []byte, p *problem) []byte {
	dst = append(dst, "data: "...)
	return append(geminiError(dst, p), "\r\n\r\n"...)
}

func (gemini) read(m *Mock, r *http.Request, a *ask) error {
	model, method, _ := strings.Cut(r.PathValue("call"), ":")
	switch method {
	case "generateContent":
	case "streamGenerateContent":
		a.stream, a.array = true, r.URL.Query().Get("alt") != "sse"
	default:
		return notFound("models/" + model + " is not supported for " + method)
	}
	a.model = model
	if !gjson.ValidBytes(a.body) {
		return invalid("", "Invalid JSON payload received.")
	}
	top := gjson.ParseBytes(a.body)
	config := top.Get("generationConfig")
	if v := config.Get("maxOutputTokens"); v.Exists() {
		if !positive(v) {
			return invalid("", "max_output_tokens must be positive.")
		}
		a.max = v.Int()
	}
	a.member("stop", config.Get("stopSequences"))
	if t := config.Get("temperature"); t.Exists() && !within(t, 0, 2) {
		return invalid("", "temperature must be in the range [0.0, 2.0].")
	}
	a.tool = top.Get("tools.0.functionDeclarations.0.name").Str
	for _, part := range top.Get("systemInstruction.parts").Array() {
		a.usage.in += m.count(part.Get("text").Str)
	}
	return a.turns(m, top.Get("contents"), "contents", "parts", [2]string{"user", "model"})
}

// content appends a candidate up to its finish reason.
func (gemini) content(dst []byte, a *ask, quoted []byte) []byte {
	dst = append(dst, `{"candidates":[{"content":{"parts":[`...)
	if quoted != nil {
		if a.tool != "" {
			dst = append(dst, `{"functionCall":{"name":`...)
			dst = append(dst, quote(a.tool)...)
			dst = append(dst, `,"args":`+a.text+`}}`...)
		} else {
			dst = append(dst, `{"text":`...)
			dst = append(dst, quoted...)
			dst = append(dst, '}')
		}
	}
	return append(dst, `],"role":"model"}`...)
}

func (gemini) tail(dst []byte, a *ask, out int64) []byte {
	dst = append(dst, `,"index":0}]`...)
	if !a.noUsage {
		u := &a.usage
		dst = append(dst, `,"usageMetadata":{"promptTokenCount":`...)
		dst = strconv.AppendInt(dst, u.in, 10)
		dst = append(dst, `,"cachedContentTokenCount":`...)
		dst = strconv.AppendInt(dst, u.cached, 10)
		if out != 0 {
			dst = append(dst, `,"candidatesTokenCount":`...)
			dst = strconv.AppendInt(dst, out-u.reasoning, 10)
			dst = append(dst, `,"thoughtsTokenCount":`...)
			dst = strconv.AppendInt(dst, u.reasoning, 10)
		}
		dst = append(dst, `,"totalTokenCount":`...)
		dst = strconv.AppendInt(dst, u.in+out, 10)
		dst = append(dst, '}')
	}
	dst = append(dst, `,"modelVersion":`...)
	dst = append(dst, quote(a.model)...)
	dst = append(dst, `,"responseId":"mock-`...)
	dst = strconv.AppendInt(dst, a.id, 10)
	return append(dst, `"}`...)
}

func (a *ask) geminiReason() string {
	if a.cut {
		return "MAX_TOKENS"
	}
	return "STOP"
}

func (d gemini) answer(dst []byte, a *ask) []byte {
	dst = d.content(dst, a, a.whole)
	dst = append(dst, `,"finishReason":"`+a.geminiReason()+`"`...)
	return d.tail(dst, a, a.usage.out)
}

func (gemini) begin(dst []byte, _ *ask) []byte { return dst }

func (d gemini) piece(dst []byte, a *ask, i int, _ time.Time) []byte {
	switch {
	case !a.array:
		dst = append(dst, "data: "...)
	case i == 0:
		dst = append(dst, '[')
	default:
		dst = append(dst, ",\r\n"...)
	}
	if a.tool != "" && i > 0 {
		dst = d.content(dst, a, nil)
	} else {
		dst = d.content(dst, a, a.quoted[i])
	}
	dst = d.tail(dst, a, 0)
	if !a.array {
		dst = append(dst, "\r\n\r\n"...)
	}
	return dst
}

func (d gemini) end(dst []byte, a *ask, _ bool) []byte {
	if a.array {
		dst = append(dst, ",\r\n"...)
	} else {
		dst = append(dst, "data: "...)
	}
	dst = d.content(dst, a, nil)
	dst = append(dst, `,"finishReason":"`+a.geminiReason()+`"`...)
	dst = d.tail(dst, a, a.usage.out)
	if a.array {
		return append(dst, "]\n"...)
	}
	return append(dst, "\r\n\r\n"...)
}

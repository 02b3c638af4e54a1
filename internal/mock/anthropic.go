package mock

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/tidwall/gjson"
)

// anthropic is the dialect of POST /v1/messages.
type anthropic struct{}

// anthropicKinds are the error types by status.
var anthropicKinds = map[int]string{ //nolint:gochecknoglobals // constant table
	http.StatusBadRequest:            "invalid_request_error",
	http.StatusUnauthorized:          "authentication_error",
	http.StatusPaymentRequired:       "billing_error",
	http.StatusForbidden:             "permission_error",
	http.StatusNotFound:              "not_found_error",
	http.StatusRequestEntityTooLarge: "request_too_large",
	http.StatusTooManyRequests:       "rate_limit_error",
	statusOverloaded:                 "overloaded_error",
}

// statusOverloaded is what Anthropic answers under load.
const statusOverloaded = 529

func (anthropic) refuse(w http.ResponseWriter, p *problem) {
	if p.retry != "" {
		w.Header().Set("Retry-After", p.retry)
	}
	send(w, p.status, "application/json", anthropicError(nil, p))
}

func anthropicError(dst []byte, p *problem) []byte {
	kind := anthropicKinds[p.status]
	if kind == "" {
		kind = "api_error"
	}
	dst = append(dst, `{"type":"error","error":{"type":"`+kind+`","message":`...)
	dst = append(dst, quote(p.text)...)
	return append(dst, `},"request_id":"req_mock"}`...)
}

func (anthropic) failure(dst []byte, p *problem) []byte {
	dst = append(dst, "event: error\ndata: "...)
	return append(anthropicError(dst, p), "\n\n"...)
}

func (anthropic) read(m *Mock, r *http.Request, a *ask) error {
	if r.Header.Get("Anthropic-Version") == "" {
		return invalid("", "anthropic-version: header is required")
	}
	if !gjson.ValidBytes(a.body) {
		return invalid("", "The request body is not valid JSON.")
	}
	top := gjson.ParseBytes(a.body)
	var err *problem
	top.ForEach(func(k, v gjson.Result) bool {
		switch k.Str {
		case "model", "stream", "max_tokens":
			if !checks[k.Str].good(v) {
				err = invalid(k.Str, k.Str+": Input should be "+checks[k.Str].want)
			}
			a.member(k.Str, v)
		case "stop_sequences":
			a.member("stop", v)
		case "temperature":
			if !within(v, 0, 1) {
				err = invalid(k.Str, "temperature: range: 0..1")
			}
		case "system":
			text, _ := contentOf(v)
			a.usage.in += m.count(text)
		case "tools":
			a.tool = v.Get("0.name").Str
		}
		return err == nil
	})
	switch {
	case err != nil:
		return err
	case a.model == "":
		return invalid("model", "model: Field required")
	case a.max == 0:
		return invalid("max_tokens", "max_tokens: Field required")
	}
	return a.turns(m, top.Get("messages"), "messages", "content", [2]string{"user", "assistant"})
}

// turns checks and counts the messages of the dialects that have two roles.
func (a *ask) turns(m *Mock, v gjson.Result, list, member string, roles [2]string) error {
	if !v.IsArray() || v.Get("#").Int() == 0 {
		return invalid(list, list+": at least one message is required")
	}
	var err error
	v.ForEach(func(k, msg gjson.Result) bool {
		role := msg.Get("role").Str
		if role != roles[0] && role != roles[1] && (list != "contents" || role != "") {
			err = invalid(list, list+"."+k.Raw+": role must be "+roles[0]+" or "+roles[1])
			return false
		}
		content := msg.Get(member)
		text := content.Str
		content.ForEach(func(_, part gjson.Result) bool {
			text += part.Get("text").Str
			switch {
			case part.Get("type").Str == "image", part.Get("inlineData").Exists():
				a.usage.in += ImageTokens
			case part.Get("type").Str == "tool_result", part.Get("functionResponse").Exists():
				a.tool = ""
			}
			return true
		})
		if content.Type != gjson.String && !content.IsArray() {
			err = invalid(list, list+"."+k.Raw+"."+member+": Field required")
			return false
		}
		if role != roles[1] {
			a.last = text
		}
		a.usage.in += m.count(text)
		return true
	})
	return err
}

// countTokens answers POST /v1/messages/count_tokens.
func (m *Mock) countTokens(w http.ResponseWriter, r *http.Request) {
	a := new(ask)
	err := m.accept(r, a, counting{})
	if p, bad := errors.AsType[*problem](err); bad {
		anthropic{}.refuse(w, p)
		return
	}
	if err != nil {
		return // the client went away
	}
	reply(w, map[string]int64{"input_tokens": a.usage.in})
}

// counting is the dialect of the count_tokens endpoint, which has no max_tokens.
type counting struct{ anthropic }

func (counting) read(m *Mock, r *http.Request, a *ask) error {
	if r.Header.Get("Anthropic-Version") == "" {
		return invalid("", "anthropic-version: header is required")
	}
	if !gjson.ValidBytes(a.body) || gjson.GetBytes(a.body, "model").Str == "" {
		return invalid("model", "model: Field required")
	}
	text, _ := contentOf(gjson.GetBytes(a.body, "system"))
	a.usage.in = m.count(text)
	return a.turns(m, gjson.GetBytes(a.body, "messages"), "messages", "content", [2]string{"user", "assistant"})
}

func (a *ask) stopReason() string {
	switch a.finish() {
	case "tool_calls":
		return "tool_use"
	case "length":
		return "max_tokens"
	default:
		return "end_turn"
	}
}

func (anthropic) usage(dst []byte, a *ask, out int64) []byte {
	u := &a.usage
	dst = append(dst, `{"input_tokens":`...)
	dst = strconv.AppendInt(dst, u.in-u.cached, 10)
	dst = append(dst, `,"cache_creation_input_tokens":0,"cache_read_input_tokens":`...)
	dst = strconv.AppendInt(dst, u.cached, 10)
	dst = append(dst, `,"output_tokens":`...)
	dst = strconv.AppendInt(dst, out, 10)
	return append(dst, '}')
}

func (anthropic) message(dst []byte, a *ask) []byte {
	dst = append(dst, `{"id":"msg_mock_`...)
	dst = strconv.AppendInt(dst, a.id, 10)
	dst = append(dst, `","type":"message","role":"assistant","model":`...)
	return append(dst, quote(a.model)...)
}

func (d anthropic) answer(dst []byte, a *ask) []byte {
	dst = d.message(dst, a)
	dst = append(dst, `,"content":[`...)
	if a.reasoning != "" {
		dst = append(dst, `{"type":"thinking","thinking":`...)
		dst = append(dst, quote(a.reasoning)...)
		dst = append(dst, `,"signature":"mock"},`...)
	}
	if a.tool != "" {
		dst = append(dst, `{"type":"tool_use","id":"toolu_mock_1","name":`...)
		dst = append(dst, quote(a.tool)...)
		dst = append(dst, `,"input":`+a.text...)
	} else {
		dst = append(dst, `{"type":"text","text":`...)
		dst = append(dst, a.whole...)
	}
	dst = append(dst, `}],"stop_reason":"`+a.stopReason()+`","stop_sequence":null`...)
	if !a.noUsage {
		dst = append(dst, `,"usage":`...)
		dst = d.usage(dst, a, a.usage.out)
	}
	return append(dst, '}')
}

func (d anthropic) begin(dst []byte, a *ask) []byte {
	dst = append(dst, "event: message_start\ndata: "+`{"type":"message_start","message":`...)
	dst = d.message(dst, a)
	dst = append(dst, `,"content":[],"stop_reason":null,"stop_sequence":null`...)
	if !a.noUsage {
		dst = append(dst, `,"usage":`...)
		dst = d.usage(dst, a, 1)
	}
	dst = append(dst, "}}\n\n"...)
	index := `0`
	if a.reasoning != "" {
		dst = append(dst, `event: content_block_start`+"\n"+`data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}`+"\n\n"...)
		dst = append(dst, `event: content_block_delta`+"\n"+`data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":`...)
		dst = append(dst, quote(a.reasoning)...)
		dst = append(dst, "}}\n\n"+`event: content_block_delta`+"\n"+`data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"mock"}}`+"\n\n"...)
		dst = append(dst, `event: content_block_stop`+"\n"+`data: {"type":"content_block_stop","index":0}`+"\n\n"...)
		index = `1`
	}
	dst = append(dst, `event: content_block_start`+"\n"+`data: {"type":"content_block_start","index":`+index+`,"content_block":`...)
	if a.tool != "" {
		dst = append(dst, `{"type":"tool_use","id":"toolu_mock_1","name":`...)
		dst = append(dst, quote(a.tool)...)
		dst = append(dst, `,"input":{}}}`...)
	} else {
		dst = append(dst, `{"type":"text","text":""}}`...)
	}
	return append(dst, "\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\n"...)
}

func (a *ask) block() string {
	if a.reasoning != "" {
		return "1"
	}
	return "0"
}

func (anthropic) piece(dst []byte, a *ask, i int, _ time.Time) []byte {
	dst = append(dst, "event: content_block_delta\ndata: "+`{"type":"content_block_delta","index":`+a.block()...)
	if a.tool != "" {
		dst = append(dst, `,"delta":{"type":"input_json_delta","partial_json":`...)
	} else {
		dst = append(dst, `,"delta":{"type":"text_delta","text":`...)
	}
	dst = append(dst, a.quoted[i]...)
	return append(dst, "}}\n\n"...)
}

func (d anthropic) end(dst []byte, a *ask, done bool) []byte {
	dst = append(dst, "event: content_block_stop\ndata: "+`{"type":"content_block_stop","index":`+a.block()+"}\n\n"...)
	dst = append(dst, "event: message_delta\ndata: "+`{"type":"message_delta","delta":{"stop_reason":"`+a.stopReason()+`","stop_sequence":null}`...)
	if !a.noUsage {
		dst = append(dst, `,"usage":`...)
		dst = d.usage(dst, a, a.usage.out)
	}
	dst = append(dst, "}\n\n"...)
	if done {
		dst = append(dst, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"...)
	}
	return dst
}

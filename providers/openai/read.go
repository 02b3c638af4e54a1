package openai

import (
	"bytes"

	"github.com/jimu-ai/jimu"
)

// answer gathers what one event, or one whole answer, shows. It is read in one
// pass: the members that matter are gone into, all others are skipped.
type answer struct {
	b    []byte
	sig  jimu.Signal
	text text

	reasoning text // of the message at hand

	usage []byte // the last usage object that says something
	code  bool   // a code that is not 0, beside the answer instead of in error
	said  bool   // a message beside it
	found bool   // choices or data are there
}

// Read implements [jimu.Provider].
func (o *OpenAI) Read(data []byte, m *jimu.Meter) jimu.Signal {
	data = bytes.TrimSpace(data)
	if len(data) == 0 {
		return 0
	}
	if string(data) == "[DONE]" {
		return jimu.SignalDone
	}
	a := answer{b: data}
	if data[0] == '{' {
		members(data, 0, a.member)
	}
	if a.code && a.said && !a.found {
		a.sig |= jimu.SignalError
	}
	if a.usage != nil {
		if u, ok := readUsage(a.usage, o.vendor.Beside); ok {
			m.Usage, m.Stated = u, true
			a.sig |= jimu.SignalUsage
		}
	}
	m.Delivered += a.text.tokens()
	return a.sig
}

// member looks at a member of the top level.
func (a *answer) member(name []byte, i int) int {
	if string(name) == "choices" {
		a.found = true
		if begins(a.b, i, '[') {
			return elements(a.b, i, a.choice)
		}
	}
	end := value(a.b, i)
	if end < 0 {
		return -1
	}
	val := a.b[i:end]
	switch string(name) {
	case "usage":
		a.setUsage(val)
	case "x_groq":
		a.groq(val)
	case "data":
		a.found = true
		if !empty(val) {
			a.sig |= jimu.SignalContent
		}
	default:
		a.failure(name, val)
	}
	return end
}

// failure looks at the members in which vendors put an error.
func (a *answer) failure(key, val []byte) {
	failed := false
	switch string(key) {
	case "error":
		failed = !empty(val)
	case "object":
		failed = string(val) == `"error"`
	case "base_resp":
		for w := walk(val); w.next(); {
			failed = failed || (string(w.key) == "status_code" && !empty(w.val))
		}
	case "code":
		a.code = !empty(val) && string(val) != `"0"` && string(val) != "200"
	case "message":
		a.said = !empty(val)
	}
	if failed {
		a.sig |= jimu.SignalError
	}
}

// groq looks into Groq's own member.
func (a *answer) groq(val []byte) {
	for w := walk(val); w.next(); {
		switch string(w.key) {
		case "usage":
			a.setUsage(w.val)
		case "error":
			a.failure(w.key, w.val)
		}
	}
}

func (a *answer) setUsage(val []byte) {
	if !empty(val) && val[0] == '{' {
		a.usage = val
	}
}

// choice looks at an element of choices.
func (a *answer) choice(i int) int {
	if begins(a.b, i, '{') {
		return members(a.b, i, a.choiceMember)
	}
	return value(a.b, i)
}

func (a *answer) choiceMember(name []byte, i int) int {
	if (string(name) == "delta" || string(name) == "message") && begins(a.b, i, '{') {
		reasoning := a.reasoning
		a.reasoning = text{}
		end := members(a.b, i, a.message)
		a.text.twelfths += a.reasoning.twelfths
		a.reasoning = reasoning
		return end
	}
	end := value(a.b, i)
	if end < 0 {
		return -1
	}
	val := a.b[i:end]
	switch string(name) {
	case "text":
		a.say(val)
	case "finish_reason":
		if !empty(val) {
			a.sig |= jimu.SignalContent
		}
	case "usage":
		a.setUsage(val) // Moonshot
	}
	return end
}

// message looks at a member of a message, or of the piece of one. The same
// reasoning may be there under several names; the longest counts.
func (a *answer) message(name []byte, i int) int {
	end := value(a.b, i)
	if end < 0 {
		return -1
	}
	val := a.b[i:end]
	switch string(name) {
	case "content", "refusal":
		a.say(val)
	case "reasoning_content", "reasoning":
		a.reason(texts(val))
	case "reasoning_details":
		a.reason(details(val))
	case "tool_calls", "function_call", "audio", "images":
		a.other(name, val)
	}
	return end
}

func (a *answer) reason(t text) {
	if t.twelfths > 0 {
		a.sig |= jimu.SignalContent
		a.reasoning.twelfths = max(a.reasoning.twelfths, t.twelfths)
	}
}

// other looks at content that is not text for people.
func (a *answer) other(name, val []byte) {
	if empty(val) {
		return
	}
	a.sig |= jimu.SignalContent
	switch string(name) {
	case "tool_calls":
		for w := walk(val); w.next(); {
			a.call(w.val)
		}
	case "function_call":
		a.function(val)
	}
}

func (a *answer) call(val []byte) {
	for w := walk(val); w.next(); {
		if string(w.key) == "function" || string(w.key) == "custom" {
			a.function(w.val)
		}
	}
}

func (a *answer) function(val []byte) {
	for w := walk(val); w.next(); {
		switch string(w.key) {
		case "name", "arguments", "input":
			a.text.add(w.val)
		}
	}
}

// say counts text that the client will see.
func (a *answer) say(val []byte) {
	t := texts(val)
	if t.twelfths > 0 {
		a.sig |= jimu.SignalContent
	}
	a.text.twelfths += t.twelfths
}

// texts measures a string, or an array of parts that hold text.
func texts(val []byte) text {
	var t text
	if len(val) == 0 || val[0] != '[' {
		t.add(val)
		return t
	}
	for w := walk(val); w.next(); {
		t.twelfths += details(w.val).twelfths
	}
	return t
}

// details measures the text and thinking members of an object or of an array
// of objects (Mistral nests them once more).
func details(val []byte) text {
	return detailsAt(val, 0)
}

func detailsAt(val []byte, depth int) text {
	var t text
	const deepest = 4
	if depth > deepest {
		return t
	}
	for w := walk(val); w.next(); {
		switch string(w.key) {
		case "text", "summary":
			t.add(w.val)
		case "", "thinking":
			t.twelfths += detailsAt(w.val, depth+1).twelfths
		}
	}
	return t
}

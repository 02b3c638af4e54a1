package openai

import (
	"bytes"

	"github.com/jimu-ai/jimu"
)

// answer gathers what one event, or one whole answer, shows.
type answer struct {
	sig   jimu.Signal
	text  text
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
	var a answer
	for w := walk(data); w.next(); {
		a.member(w.key, w.val)
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
func (a *answer) member(key, val []byte) {
	switch string(key) {
	case "choices":
		a.found = true
		for w := walk(val); w.next(); {
			a.choice(w.val)
		}
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
		a.failure(key, val)
	}
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
		if string(w.key) == "usage" || string(w.key) == "error" {
			a.member(w.key, w.val)
		}
	}
}

func (a *answer) setUsage(val []byte) {
	if !empty(val) && val[0] == '{' {
		a.usage = val
	}
}

// choice looks at an element of choices.
func (a *answer) choice(val []byte) {
	for w := walk(val); w.next(); {
		switch string(w.key) {
		case "delta", "message":
			a.message(w.val)
		case "text":
			a.say(w.val)
		case "finish_reason":
			if !empty(w.val) {
				a.sig |= jimu.SignalContent
			}
		case "usage":
			a.setUsage(w.val) // Moonshot
		}
	}
}

// message looks at a message, or the piece of one. The same reasoning may be
// there under several names; the longest counts.
func (a *answer) message(val []byte) {
	var reasoning text
	longest := func(t text) {
		if t.twelfths > reasoning.twelfths {
			reasoning = t
		}
	}
	for w := walk(val); w.next(); {
		if empty(w.val) {
			continue
		}
		switch string(w.key) {
		case "content", "refusal":
			a.say(w.val)
		case "reasoning_content", "reasoning":
			longest(texts(w.val))
		case "reasoning_details":
			longest(details(w.val))
		case "tool_calls":
			a.sig |= jimu.SignalContent
			for c := walk(w.val); c.next(); {
				a.call(c.val)
			}
		case "function_call":
			a.sig |= jimu.SignalContent
			a.function(w.val)
		case "audio", "images":
			a.sig |= jimu.SignalContent
		}
	}
	if reasoning.twelfths > 0 {
		a.sig |= jimu.SignalContent
		a.text.twelfths += reasoning.twelfths
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

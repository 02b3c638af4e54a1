package chat

import (
	"bytes"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"github.com/jimu-ai/jimu"
)

// errTooLong ends a turn whose answer does not end.
var errTooLong = errors.New("the answer is too long")

// parser reads the events of a chat completion stream. Texts may be cut
// anywhere, within a character too: what is not whole yet waits for the next.
type parser struct {
	part    [2]part // by kind
	failure *jimu.TurnError
}

// part is the cut end of a text.
type part struct {
	escape string // the first half of a pair of \u escapes
	bytes  string // the first bytes of a character
}

// read takes one event.
func (p *parser) read(event []byte, to *log) error {
	if len(event) == 0 || bytes.Equal(event, []byte("[DONE]")) || !gjson.ValidBytes(event) {
		return nil
	}
	if e := gjson.GetBytes(event, "error"); e.IsObject() || e.Type == gjson.String {
		p.failure = failureOf(e)
		return nil
	}
	delta := gjson.GetBytes(event, "choices.0.delta")
	thought := delta.Get("reasoning_content")
	if thought.Type != gjson.String {
		thought = delta.Get("reasoning")
	}
	if err := p.text(kindReasoning, thought, to); err != nil {
		return err
	}
	return p.text(kindAnswer, delta.Get("content"), to)
}

func (p *parser) text(k kind, v gjson.Result, to *log) error {
	if v.Type != gjson.String {
		return nil
	}
	at := &p.part[k]
	raw := v.Raw
	if at.escape != "" {
		raw = `"` + at.escape + raw[1:]
		at.escape = ""
	}
	if half := halfPair(raw); half > 0 {
		at.escape = raw[half : len(raw)-1]
		raw = raw[:half] + `"`
	}
	s := at.bytes + gjson.Parse(raw).String()
	whole := len(s) - cutTail(s)
	s, at.bytes = s[:whole], s[whole:]
	if !to.add(k, clean(s)) {
		return errTooLong
	}
	return nil
}

// flush adds what never became whole.
func (p *parser) flush(to *log) {
	for k := range p.part {
		if at := &p.part[k]; at.escape != "" || at.bytes != "" {
			to.add(kind(k), "\uFFFD")
		}
	}
}

// halfPair returns where the first half of a surrogate pair begins that ends a
// quoted JSON string, or 0.
func halfPair(raw string) int {
	const escape = len(`\ud83d`)
	at := len(raw) - 1 - escape
	if at < 1 || raw[at] != '\\' || raw[at+1] != 'u' || !strings.ContainsRune("dD", rune(raw[at+2])) || !strings.ContainsRune("89abAB", rune(raw[at+3])) {
		return 0
	}
	slashes := 0
	for i := at - 1; i > 0 && raw[i] == '\\'; i-- {
		slashes++
	}
	if slashes%2 == 1 {
		return 0 // the backslash is itself escaped
	}
	return at
}

// cutTail returns how many bytes at the end begin a character without ending it.
func cutTail(s string) int {
	for n := 1; n <= min(len(s), utf8.UTFMax-1); n++ {
		c := s[len(s)-n]
		if !utf8.RuneStart(c) {
			continue
		}
		if c >= utf8.RuneSelf && !utf8.FullRuneInString(s[len(s)-n:]) {
			return n
		}
		return 0
	}
	return 0
}

// failureOf reads an error event.
func failureOf(e gjson.Result) *jimu.TurnError {
	text := e.Get("message").String()
	if e.Type == gjson.String {
		text = e.String()
	}
	code := jimu.Code(e.Get("code").String())
	if strings.Trim(string(code), "abcdefghijklmnopqrstuvwxyz0123456789_") != "" || code == "" || len(code) > 64 {
		code = jimu.Unavailable
	}
	if text == "" {
		text = "the answer broke off; try again"
	}
	const most = 2000
	if text = clean(text); len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return &jimu.TurnError{Code: code, Text: text}
}

package chat

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"github.com/jimu-ai/jimu"
)

// message is one of a chat completion request.
type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// unknownWindow is what fits into a model of which that is not known: what
// the smallest ones in use take.
const unknownWindow = 32_768

// prompt makes the request for a new text: as much of the conversation as the
// model's window holds, the latest of it, and the text in any case.
func (s *Service) prompt(model string, before []jimu.Turn, text string) ([]byte, error) {
	window, output := s.o.Window(model)
	if window <= 0 {
		window = unknownWindow
	}
	if output <= 0 {
		output = window
	}
	// A quarter of the window is enough for an answer, and less where the model
	// cannot write so much.
	room := window - min(output, window/4) - tokens(text)
	first := len(before)
	for ; first > 0; first-- {
		t := &before[first-1]
		if t.Answer == "" {
			continue // left out below
		}
		if room -= tokens(t.Text) + tokens(t.Answer); room < 0 {
			break
		}
	}
	var messages []message
	for _, t := range before[first:] {
		if t.Answer != "" { // a question without an answer would be answered now
			messages = append(messages, message{"user", t.Text}, message{"assistant", t.Answer})
		}
	}
	body, err := json.Marshal(struct {
		Model    string    `json:"model"`
		Messages []message `json:"messages"`
		Stream   bool      `json:"stream"`
	}{model, append(messages, message{"user", text}), true})
	if err != nil {
		return nil, fmt.Errorf("encoding the request: %w", err)
	}
	return body, nil
}

// tokens estimates how many tokens a message is, rather too many: tokenizers
// read about four letters of English at once, one character of Chinese, and
// few of anything else.
func tokens(s string) int64 {
	var letters, others int64
	for _, r := range s {
		switch {
		case r < utf8.RuneSelf && (r == ' ' || 'a' <= r|0x20 && r|0x20 <= 'z'):
			letters++
		default:
			others++
		}
	}
	const perMessage = 4
	return perMessage + (letters+2)/3 + others
}

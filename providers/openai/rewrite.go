package openai

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/tidwall/gjson"

	"github.com/jimu-ai/jimu"
)

const streamOptions = "stream_options"

// splice copies a body, replacing spans of it on the way.
type splice struct {
	dst, body []byte
	done      int // body[:done] is dealt with
}

// upTo copies the body up to a position.
func (s *splice) upTo(pos int) {
	s.dst = append(s.dst, s.body[s.done:pos]...)
	s.done = pos
}

// drop leaves a member out, with the comma that parts it from its neighbour.
func (s *splice) drop(f *jimu.Field) {
	s.upTo(f.From)
	s.done = f.End
	rest := s.body[f.End:]
	if tail := bytes.TrimLeft(rest, " \t\r\n"); len(tail) > 0 && tail[0] == ',' {
		s.done += len(rest) - len(tail) + 1
		return
	}
	s.dst = bytes.TrimRight(s.dst, " \t\r\n")
	s.dst = bytes.TrimSuffix(s.dst, []byte(","))
}

// Rewrite implements [jimu.Provider]. The client's bytes stay as they are, but
// for the model's name, the request for usage in a stream, and the bound of
// the output. Members that are missing go right after the opening brace.
func (o *OpenAI) Rewrite(dst []byte, c *jimu.Call, model string) ([]byte, error) {
	brace := bytes.IndexByte(c.Body, '{')
	if brace < 0 {
		return nil, jimu.Errorf(jimu.Invalid, "the body is not a JSON object")
	}
	s := splice{dst: dst, body: c.Body}
	s.upTo(brace + 1)
	o.insert(&s, c, model)
	for from := brace + 1; ; {
		f, err := next(c, from)
		if err != nil {
			return nil, err
		}
		if f == nil {
			break
		}
		from = f.End
		o.edit(&s, c, f, model)
	}
	s.upTo(len(c.Body))
	return s.dst, nil
}

// next finds the first owned field from a position on.
func next(c *jimu.Call, from int) (*jimu.Field, error) {
	var first *jimu.Field
	for i := range c.Fields {
		f := &c.Fields[i]
		if f.From < 0 || f.From >= f.Start || f.Start >= f.End || f.End > len(c.Body) {
			return nil, fmt.Errorf("rewriting a request: %s is at %d, %d to %d of %d", f.Name, f.From, f.Start, f.End, len(c.Body))
		}
		if f.From >= from && (first == nil || f.From < first.From) {
			first = f
		}
	}
	return first, nil
}

// insert writes the members that the client left out.
func (o *OpenAI) insert(s *splice, c *jimu.Call, model string) {
	start := len(s.dst)
	if c.Field("model") == nil {
		s.dst = append(s.dst, `"model":`...)
		s.dst = append(appendString(s.dst, model), ',')
	}
	if c.Stream && c.Op == jimu.OpChat && !o.vendor.NoStreamOptions && c.Field(streamOptions) == nil {
		s.dst = append(s.dst, `"stream_options":{"include_usage":true},`...)
	}
	if c.SetMaxTokens && c.Field(maxTokens) == nil && c.Field(maxCompletionTokens) == nil {
		s.dst = appendMember(s.dst, o.vendor.MaxTokens)
		s.dst = append(strconv.AppendInt(s.dst, c.MaxTokens, 10), ',')
	}
	rest := bytes.TrimLeft(s.body[s.done:], " \t\r\n")
	if len(s.dst) > start && len(rest) > 0 && rest[0] == '}' {
		s.dst = s.dst[:len(s.dst)-1]
	}
}

// edit writes the gateway's own value of one member.
func (o *OpenAI) edit(s *splice, c *jimu.Call, f *jimu.Field, model string) {
	switch f.Name {
	case "model":
		s.upTo(f.Start)
		s.dst = appendString(s.dst, model)
		s.done = f.End
	case streamOptions:
		switch {
		case o.vendor.NoStreamOptions:
			s.drop(f)
		case c.Stream && c.Op == jimu.OpChat:
			s.upTo(f.Start)
			s.dst = appendStreamOptions(s.dst, c.Body[f.Start:f.End])
			s.done = f.End
		}
	case maxTokens, maxCompletionTokens:
		o.editMaxTokens(s, c, f)
	}
}

func (o *OpenAI) editMaxTokens(s *splice, c *jimu.Call, f *jimu.Field) {
	if o.vendor.Rename && f.Name != o.vendor.MaxTokens {
		if c.Field(o.vendor.MaxTokens) != nil {
			s.drop(f) // the vendor reads the other one
			return
		}
		s.upTo(f.From)
		s.dst = appendMember(s.dst, o.vendor.MaxTokens)
		s.done = f.Start
	}
	if c.SetMaxTokens {
		s.upTo(f.Start)
		s.dst = strconv.AppendInt(s.dst, c.MaxTokens, 10)
		s.done = f.End
	}
}

// appendStreamOptions copies the client's stream options, asking for usage.
func appendStreamOptions(dst, old []byte) []byte {
	dst = append(dst, `{"include_usage":true`...)
	if v := gjson.ParseBytes(old); v.IsObject() {
		v.ForEach(func(k, v gjson.Result) bool {
			if k.Str != "include_usage" {
				dst = append(dst, ',')
				dst = append(dst, k.Raw...)
				dst = append(dst, ':')
				dst = append(dst, v.Raw...)
			}
			return true
		})
	}
	return append(dst, '}')
}

func appendMember(dst []byte, name string) []byte {
	dst = append(dst, '"')
	dst = append(dst, name...)
	return append(dst, `":`...)
}

// appendString writes a JSON string.
func appendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			b, _ := json.Marshal(s) // a string can always be marshalled
			return append(dst, b...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

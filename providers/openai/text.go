package openai

// text estimates how many tokens a text is, without a tokenizer, from the
// bytes it is written in. Counts are in twelfths of a token.
type text struct{ twelfths int64 }

// What a character costs, in twelfths: four bytes of ASCII are a token, two
// characters of another alphabet, one and a half of Chinese, Japanese or
// Korean, one of what is rarer (emoji).
const (
	costASCII = 3
	costTwo   = 6
	costCJK   = 8
	costRare  = 12
)

// add counts a JSON string, given with its quotes. Anything else counts
// nothing.
func (t *text) add(raw []byte) {
	if len(raw) < 2 || raw[0] != '"' {
		return
	}
	n := int64(0)
	for i := 1; i < len(raw)-1; i++ {
		c := raw[i]
		switch {
		case c == '\\':
			size, cost := escape(raw[i:])
			i += size - 1
			n += cost
		case c < 0x80:
			n += costASCII
		case c < 0xc0: // the rest of a character
		case c < 0xe0:
			n += costTwo
		case c < 0xf0:
			n += costCJK
		default:
			n += costRare
		}
	}
	t.twelfths += n
}

// escape returns the length of an escape sequence and what it costs.
func escape(b []byte) (size int, cost int64) {
	const long = len(`\u0000`)
	if len(b) < long || b[1] != 'u' {
		return 2, costASCII
	}
	switch c := b[2]; {
	case c == '0' && b[3] == '0' && b[4] < '8':
		return long, costASCII
	case c == '0':
		return long, costTwo
	case c == 'd' || c == 'D': // Hangul, or half of a rare character
		return long, costTwo
	default:
		return long, costCJK
	}
}

// tokens is the estimate. What is there at all is at least one token: a stream
// comes in pieces of whole tokens.
func (t text) tokens() int64 {
	if t.twelfths == 0 {
		return 0
	}
	return max(1, (t.twelfths+6)/12)
}

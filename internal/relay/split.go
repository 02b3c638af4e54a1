package relay

import "bytes"

// splitter finds the events of a stream (server-sent events) in bytes that
// arrive in pieces. Lines end with LF, CR LF or CR, and a blank line ends an
// event. It keeps positions only.
type splitter struct {
	seen int // bytes of the current event that were looked at
	line int // where its current line begins
}

// next returns the length of the first event in b, with its blank line, or 0
// if it is not whole. b begins where the last event ended; when it is not
// whole, the next call continues with the same bytes and more.
func (s *splitter) next(b []byte) int {
	for {
		i := lineEnd(b[s.seen:])
		if i < 0 {
			s.seen = len(b)
			return 0
		}
		i += s.seen
		end := i + 1
		if b[i] == '\n' && i > 0 && b[i-1] == '\r' && i == s.line {
			// The second half of a CR LF that was split between two reads.
			s.seen, s.line = end, end
			continue
		}
		if b[i] == '\r' && end < len(b) && b[end] == '\n' {
			end++
		}
		blank := i == s.line
		s.seen, s.line = end, end
		if blank {
			s.seen, s.line = 0, 0
			return end
		}
	}
}

// lineEnd returns the place of the first CR or LF, or -1.
func lineEnd(b []byte) int {
	n := bytes.IndexByte(b, '\n')
	if n >= 0 {
		b = b[:n]
	}
	if r := bytes.IndexByte(b, '\r'); r >= 0 {
		return r
	}
	return n
}

// data returns the data of an event: the one data line as it is, or all of
// them joined by LF in scratch. It reports false if the event has none.
func data(event []byte, scratch *[]byte) ([]byte, bool) {
	var one []byte
	lines := 0
	for len(event) > 0 {
		line := event
		if i := lineEnd(event); i >= 0 {
			line, event = event[:i], event[i+1:]
		} else {
			event = nil
		}
		v, ok := bytes.CutPrefix(line, []byte("data"))
		if !ok || (len(v) > 0 && v[0] != ':') {
			continue
		}
		v = bytes.TrimPrefix(bytes.TrimPrefix(v, []byte(":")), []byte(" "))
		lines++
		switch lines {
		case 1:
			one = v
		case 2:
			*scratch = append(append(append((*scratch)[:0], one...), '\n'), v...)
		default:
			*scratch = append(append(*scratch, '\n'), v...)
		}
	}
	if lines > 1 {
		return *scratch, true
	}
	return one, lines == 1
}

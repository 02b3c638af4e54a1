package wire

// chunks takes the framing off a chunked body as it arrives. It consumes every
// byte that it is given, so that no buffer is kept for it.
type chunks struct {
	state chunkState
	n     uint64 // of the size: so far; of the data: left
	count int    // bytes of the size line, or of the trailer, so far
	line  int    // bytes of the trailer's line so far
	colon bool   // it has a colon
}

type chunkState uint8

const (
	chunkSize chunkState = iota
	chunkExt             // behind the size
	chunkSizeLF
	chunkData
	chunkDataCR
	chunkDataLF
	chunkTrailer
	chunkTrailerLF
	chunkEnd
)

// decode moves the data in b to the front of it and returns it. used is what
// was consumed: less than all of it only where the body ended.
func (s *chunks) decode(b []byte) (data []byte, used int, end bool, err error) {
	w := 0
	for i := 0; i < len(b); {
		if s.state == chunkData {
			n := min(uint64(len(b)-i), s.n)
			w += copy(b[w:], b[i:i+int(n)]) //nolint:gosec // at most len(b)
			i += int(n)                     //nolint:gosec // at most len(b)
			if s.n -= n; s.n == 0 {
				s.state = chunkDataCR
			}
			continue
		}
		if err := s.step(b[i]); err != nil {
			return nil, i, false, err
		}
		i++
		if s.state == chunkEnd {
			return b[:w], i, true, nil
		}
	}
	return b[:w], len(b), false, nil
}

// step takes one byte of the framing.
func (s *chunks) step(c byte) error {
	switch s.state {
	case chunkSize, chunkExt, chunkSizeLF:
		return s.size(c)
	case chunkDataCR:
		if c != '\r' {
			return bad("a chunk longer than its size")
		}
		s.state = chunkDataLF
	case chunkDataLF:
		if c != '\n' {
			return bad("a chunk longer than its size")
		}
		s.state, s.n, s.count = chunkSize, 0, 0
	default:
		return s.trailer(c)
	}
	return nil
}

// size takes one byte of the line that begins a chunk.
func (s *chunks) size(c byte) error {
	if s.count++; s.count > maxTrailer {
		return bad("a chunk's size line is too long")
	}
	if s.state == chunkSizeLF {
		if c != '\n' {
			return bad("a chunk's size line does not end with CR LF")
		}
		s.state = chunkData
		if s.n == 0 {
			s.state, s.count, s.line = chunkTrailer, 0, 0
		}
		return nil
	}
	if c == '\r' && s.count > 1 {
		s.state = chunkSizeLF
		return nil
	}
	if s.state == chunkExt {
		if control(c) {
			return bad("a chunk's size line does not end with CR LF")
		}
		return nil
	}
	d, ok := hex(c)
	switch {
	case ok && s.count > 16:
		return bad("a chunk's size is too large")
	case ok:
		s.n = s.n<<4 | uint64(d)
	case c == ';' && s.count > 1:
		s.state = chunkExt
	default:
		return bad("a chunk without a size")
	}
	return nil
}

func hex(c byte) (d byte, ok bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// trailer takes one byte of what follows the last chunk. Its fields are
// ignored.
func (s *chunks) trailer(c byte) error {
	if s.count++; s.count > maxTrailer {
		return bad("its trailer is too large")
	}
	if s.state == chunkTrailerLF {
		if c != '\n' {
			return bad("a line of its trailer does not end with CR LF")
		}
		s.state = chunkTrailer
		if s.line == 0 {
			s.state = chunkEnd
		}
		s.line, s.colon = 0, false
		return nil
	}
	switch {
	case c == '\r' && (s.line == 0 || s.colon):
		s.state = chunkTrailerLF
	case control(c):
		return bad("a line of its trailer does not end with CR LF")
	case !s.colon && !tokenByte(c) && (c != ':' || s.line == 0):
		return bad("a field of its trailer without a proper name")
	default:
		s.line++
		s.colon = s.colon || c == ':'
	}
	return nil
}

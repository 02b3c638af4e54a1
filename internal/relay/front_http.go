package relay

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jimu-ai/jimu"
)

const (
	// writeTimeout is how long a client may take to read one piece.
	writeTimeout = 10 * time.Second
	// largeAnswer may not fit into the connection's own buffers.
	largeAnswer = 64 << 10
	// bodyGrace and bodyRate bound how slowly a request may arrive.
	bodyGrace = 10 * time.Second
	bodyRate  = 1 << 10 // bytes a second
	// restTimeout is how long a connection waits for its client's next request
	// after a stream, as the server's own do.
	restTimeout = 2 * time.Minute
)

// httpFront is a request over HTTP.
type httpFront struct {
	r   *Relay
	w   http.ResponseWriter
	req *http.Request
	buf *[]byte
}

func (f *httpFront) caller() (*jimu.Caller, error) {
	key, err := credential(f.req)
	if err != nil {
		return nil, err
	}
	return f.r.o.Gate.Admit(key)
}

// credential returns the key of a request, from whichever header it is in.
func credential(req *http.Request) (string, error) {
	key := ""
	for _, name := range [...]string{"Authorization", "X-Api-Key", "X-Goog-Api-Key"} {
		for _, v := range req.Header[name] {
			if name == "Authorization" {
				scheme, rest, _ := strings.Cut(v, " ")
				if !strings.EqualFold(scheme, "bearer") {
					continue
				}
				v = rest
			}
			v = strings.TrimSpace(v)
			if v == "" {
				continue
			}
			if key != "" && key != v {
				return "", jimu.Errorf(jimu.Unauthorized, "the request carries two different keys: send one")
			}
			key = v
		}
	}
	if key == "" {
		return "", jimu.Errorf(jimu.Unauthorized, "the request carries no key: send it as \"Authorization: Bearer KEY\"")
	}
	return key, nil
}

var errBodyTooLarge = errors.New("the body is too large")

// body reads the request's body, as long as it arrives at a fair pace.
func (f *httpFront) body() ([]byte, error) {
	limit := f.r.o.MaxBody
	if f.req.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	f.buf = takeBuffer()
	b := (*f.buf)[:0]
	if n := f.req.ContentLength; n > int64(cap(b)) {
		b = make([]byte, 0, n+1)
	}
	err := f.read(&b, limit)
	*f.buf = b
	switch {
	case err == nil:
		return b, nil
	case errors.Is(err, errBodyTooLarge):
		return nil, tooLarge(limit)
	}
	return nil, &jimu.Error{Code: jimu.Invalid, Text: "the request body did not arrive whole, or too slowly", Err: err}
}

func tooLarge(limit int64) error {
	return jimu.Errorf(jimu.TooLarge, "the request is larger than %d bytes", limit)
}

func (f *httpFront) read(into *[]byte, limit int64) error {
	pace := pacer{w: f.w, began: time.Now()}
	b := *into
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		pace.read(len(b))
		n, err := f.req.Body.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		*into = b
		switch {
		case int64(len(b)) > limit:
			return errBodyTooLarge
		case errors.Is(err, io.EOF):
			pace.end()
			return nil
		case err != nil:
			return err // the deadline stays, or the server would read on without one
		}
	}
}

// pacer ends a read that is too slow. It is set again once a second at most.
type pacer struct {
	w     http.ResponseWriter
	began time.Time
	set   time.Time
}

func (p *pacer) read(got int) {
	end := p.began.Add(bodyGrace + time.Duration(got)*time.Second/bodyRate)
	if end.Sub(p.set) > time.Second {
		p.set = end
		_ = http.NewResponseController(p.w).SetReadDeadline(end) // not every writer has one
	}
}

func (p *pacer) end() { _ = http.NewResponseController(p.w).SetReadDeadline(time.Time{}) }

func (f *httpFront) done() {
	if f.buf != nil {
		giveBuffer(f.buf)
		f.buf = nil
	}
}

// headers sets the headers of an answer. The first value in j.head is the
// request's ID.
func (f *httpFront) headers(j *job) {
	h, v := f.w.Header(), &j.head
	if v[1] = j.answer.ContentType(); v[1] == "" {
		v[1] = "application/json"
	}
	v[2] = headerValue(j.target.Upstream.Name)
	h["Content-Type"], h["X-Jimu-Upstream"], h["X-Content-Type-Options"] = v[1:2:2], v[2:3:3], v[3:4:4]
}

// headerValue writes a name so that it fits into a header.
func headerValue(s string) string {
	for _, c := range []byte(s) {
		if c < ' ' || c >= 0x7f {
			return url.PathEscape(s)
		}
	}
	return s
}

func (f *httpFront) wholeAnswer(j *job) error {
	f.headers(j)
	h, v := f.w.Header(), &j.head
	v[4], v[5] = strconv.Itoa(len(j.whole)), j.rec.Cost.String()
	h["Content-Length"], h["X-Jimu-Cost"] = v[4:5:5], v[5:6:6]
	if len(j.whole) > largeAnswer {
		rc := http.NewResponseController(f.w)
		_ = rc.SetWriteDeadline(time.Now().Add(writeTimeout + time.Duration(len(j.whole))*time.Second/bodyRate))
		defer func() { _ = rc.SetWriteDeadline(time.Time{}) }()
	}
	f.w.WriteHeader(j.answer.Status())
	_, _ = f.w.Write(j.whole) // billed; the client's going now changes nothing
	return nil
}

func (f *httpFront) stream(j *job) (sink, bool, error) {
	f.headers(j)
	h := f.w.Header()
	h["Cache-Control"], h["X-Accel-Buffering"], h["Trailer"] = []string{"no-cache"}, []string{"no"}, []string{"X-Jimu-Cost"}
	if f.req.ProtoMajor == 1 && f.req.ProtoMinor >= 1 && f.req.TLS == nil {
		conn, rw, err := http.NewResponseController(f.w).Hijack()
		if err == nil {
			return f.hijacked(j, conn, rw.Reader.Buffered()), true, nil
		}
		if !errors.Is(err, http.ErrNotSupported) {
			return nil, false, err
		}
	}
	f.w.WriteHeader(j.answer.Status())
	return &writerSink{w: f.w, rc: http.NewResponseController(f.w)}, false, nil
}

// hijacked makes the sink of a connection that was taken from the server.
// unread is how much of the client's next request was read already.
func (f *httpFront) hijacked(j *job, conn net.Conn, unread int) sink {
	_ = conn.SetDeadline(time.Time{})
	s := &connSink{conn: conn, watch: f.r.watch.add(conn, j.clientGone)}
	_, ours := conn.(*keptConn)
	s.keep = ours && s.watch != nil && unread == 0 && !f.req.Close
	h := f.w.Header()
	h.Del("Content-Length")
	h["Transfer-Encoding"] = []string{"chunked"}
	h["Date"] = []string{time.Now().UTC().Format(http.TimeFormat)}
	if !s.keep {
		h["Connection"] = []string{"close"}
	}
	var b strings.Builder
	status := j.answer.Status()
	b.WriteString("HTTP/1.1 " + strconv.Itoa(status) + " " + http.StatusText(status) + "\r\n")
	_ = h.Write(&b) // a builder does not fail
	b.WriteString("\r\n")
	s.head = b.String()
	return s
}

// writerSink sends a stream through the server's own writer.
type writerSink struct {
	w        http.ResponseWriter
	rc       *http.ResponseController
	deadline time.Time
}

func (s *writerSink) write(b []byte) error {
	if now := time.Now(); s.deadline.Sub(now) < writeTimeout-time.Second {
		s.deadline = now.Add(writeTimeout)
		_ = s.rc.SetWriteDeadline(s.deadline) // not every writer has one
	}
	if _, err := s.w.Write(b[room:]); err != nil {
		return err
	}
	return s.rc.Flush()
}

func (s *writerSink) finish(b []byte, cost string) error {
	s.w.Header()["X-Jimu-Cost"] = []string{cost}
	var err error
	if len(b) > room {
		err = s.write(b)
	}
	_ = s.rc.SetWriteDeadline(time.Time{})
	return err
}

func (s *writerSink) abort() {}

// connSink sends a stream on a connection that was taken from the server, in
// chunks of its own.
type connSink struct {
	conn     net.Conn
	head     string // not yet sent
	keep     bool
	watch    *watch
	deadline time.Time
}

func (s *connSink) write(b []byte) error {
	return s.send(append(chunk(b), "\r\n"...))
}

// chunk writes the size of a chunk into the room before its data.
func chunk(b []byte) []byte {
	const hex = "0123456789abcdef"
	n, i := len(b)-room, room-2
	b[i], b[i+1] = '\r', '\n'
	for {
		i--
		b[i] = hex[n&15]
		if n >>= 4; n == 0 {
			return b[i:]
		}
	}
}

func (s *connSink) send(b []byte) error {
	if now := time.Now(); s.deadline.Sub(now) < writeTimeout-time.Second {
		s.deadline = now.Add(writeTimeout)
		if err := s.conn.SetWriteDeadline(s.deadline); err != nil {
			return err
		}
	}
	if s.head != "" {
		b = append([]byte(s.head), b...)
		s.head = ""
	}
	_, err := s.conn.Write(b)
	return err
}

func (s *connSink) finish(b []byte, cost string) error {
	if len(b) > room {
		b = append(chunk(b), "\r\n"...)
	} else {
		b = b[:0]
	}
	b = append(b, "0\r\nX-Jimu-Cost: "...)
	b = append(b, cost...)
	b = append(b, "\r\n\r\n"...)
	if err := s.send(b); err != nil {
		s.abort()
		return err
	}
	if k, ok := s.conn.(*keptConn); ok && s.keep {
		_ = k.SetDeadline(time.Time{})
		s.watch.rest(k, restTimeout, k.giveBack)
		return nil
	}
	s.abort()
	return nil
}

func (s *connSink) abort() {
	s.watch.end()
	_ = s.conn.Close()
}

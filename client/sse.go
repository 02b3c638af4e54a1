package client

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// events reads a stream of server-sent events. A line may have any length.
type events struct {
	r    *bufio.Reader
	data []byte
	line []byte
	some bool // data holds at least one line
}

func newEvents(r io.Reader) *events { return &events{r: bufio.NewReader(r)} }

// next returns the data of the next event that has any, valid until the next
// call, or [io.EOF] at a clean end. An event that the end of the stream leaves
// without its blank line counts.
func (e *events) next() ([]byte, error) {
	e.data, e.some = e.data[:0], false
	for {
		line, err := e.readLine()
		e.take(line)
		switch {
		case errors.Is(err, io.EOF) && e.some:
			return e.data, nil
		case err != nil:
			return nil, err
		case len(line) == 0 && e.some:
			return e.data, nil
		}
	}
}

// readLine returns a line without its end. The last line may come with io.EOF.
func (e *events) readLine() ([]byte, error) {
	e.line = e.line[:0]
	for {
		part, err := e.r.ReadSlice('\n')
		e.line = append(e.line, part...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		line := bytes.TrimSuffix(e.line, []byte("\n"))
		return bytes.TrimSuffix(line, []byte("\r")), err
	}
}

// take adds a line to the event. Only its data matters here.
func (e *events) take(line []byte) {
	name, value, _ := bytes.Cut(line, []byte(":"))
	if string(name) != "data" {
		return
	}
	if e.some {
		e.data = append(e.data, '\n')
	}
	e.data = append(e.data, bytes.TrimPrefix(value, []byte(" "))...)
	e.some = true
}

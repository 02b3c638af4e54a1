package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"strconv"
	"time"
)

// conn is a client's connection that costs as little as can be, since it
// shares a core with the mock upstream.
type conn struct {
	net.Conn

	r *bufio.Reader
}

func dial(ctx context.Context, addr string) (*conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", addr, err)
	}
	return &conn{c, bufio.NewReader(c)}, nil
}

// answerTime bounds the wait for one answer.
const answerTime = 20 * time.Second

// do sends a request and reads the answer. line, unless nil, gets each line of
// the body as it comes.
func (c *conn) do(request []byte, line func([]byte)) error {
	if err := c.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return err
	}
	if _, err := c.Write(request); err != nil {
		return err
	}
	status, length, chunked, err := c.head()
	if err != nil {
		return err
	}
	body := io.LimitReader(c.r, int64(length))
	if chunked {
		body = httputil.NewChunkedReader(c.r)
	}
	if status != "200" {
		b, err := io.ReadAll(io.LimitReader(body, 4096))
		return errors.Join(fmt.Errorf("status %s: %s", status, b), err)
	}
	if line == nil {
		_, err = io.Copy(io.Discard, body)
	} else {
		err = lines(body, line)
	}
	if err == nil && chunked {
		err = c.trailer()
	}
	return err
}

// head reads the head of an answer.
func (c *conn) head() (status string, length int, chunked bool, err error) {
	for first := true; ; first = false {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return "", 0, false, err
		}
		line = bytes.TrimRight(line, "\r\n")
		switch name, value, ok := bytes.Cut(line, []byte(": ")); {
		case first && len(line) >= len("HTTP/1.1 200"):
			status = string(line[len("HTTP/1.1 "):len("HTTP/1.1 200")])
		case len(line) == 0:
			return status, length, chunked, nil
		case ok && len(name) == len("Content-Length") && bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return "", 0, false, err
			}
		case ok && len(name) == len("Transfer-Encoding") && bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = true
		}
	}
}

func (c *conn) trailer() error {
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil || len(bytes.TrimRight(line, "\r\n")) == 0 {
			return err
		}
	}
}

func lines(body io.Reader, line func([]byte)) error {
	r := bufio.NewReaderSize(body, 1024)
	for {
		b, err := r.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		line(b)
	}
}

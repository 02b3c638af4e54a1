package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"

	"github.com/jimu-ai/jimu/internal/mock"
)

// The paces of the mock upstream. Each is at a path of its own, which a target
// keeps and which is Jimu's base URL of an upstream.
const (
	plain = "/plain" // an answer at once
	fast  = "/fast"  // streams of an event each 20 ms, stamped
	slow  = "/slow"  // streams of an event each 100 ms
)

const (
	answerSize   = 600
	chunkSize    = 20
	fastInterval = 20 * time.Millisecond
	slowInterval = 100 * time.Millisecond
	idleConns    = 8192
	bufferSize   = 32 << 10
	headerTime   = 30 * time.Second
)

// serve is what a child process of a run does.
func serve(ctx context.Context, what string, args []string) error {
	if len(args) < 1 {
		return fmt.Errorf("%s needs an address", what)
	}
	var h http.Handler
	switch what {
	case "mock":
		h = mockUpstream()
	case "proxy":
		h = reverseProxy(args[1])
	case "auth":
		h = authEndpoint(args[1])
	default:
		return fmt.Errorf("nothing is called %q", what)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", args[0])
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: headerTime}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}

// streamChunks is how many events a stream of a duration has.
func streamChunks(d, interval time.Duration) int { return int(d / interval) }

func mockUpstream() http.Handler {
	mux := http.NewServeMux()
	p := mock.New(mock.Options{Size: answerSize})
	mux.Handle(plain+"/", http.StripPrefix(plain, p))
	mux.Handle("/mock/", p)
	for _, s := range streams() {
		n := streamChunks(s.length, s.interval)
		mux.Handle(s.path+"/", http.StripPrefix(s.path, mock.New(mock.Options{
			Size: n * chunkSize, Chunks: n, Interval: s.interval, Stamp: s.stamp,
		})))
	}
	return mux
}

// pace is a kind of stream that the mock upstream sends.
type pace struct {
	path             string
	length, interval time.Duration
	stamp            bool
}

func streams() []pace {
	return []pace{
		{fast, 2 * time.Second, fastInterval, true},
		{slow, 6 * time.Second, slowInterval, false},
	}
}

// reverseProxy is the least that a Go proxy can be.
func reverseProxy(target string) http.Handler {
	transport := &http.Transport{MaxIdleConns: idleConns, MaxIdleConnsPerHost: idleConns, DisableCompression: true}
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: target})
		},
		Transport:     transport,
		FlushInterval: -1,
		BufferPool:    &buffers{},
	}
}

type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, bufferSize)
}

func (b *buffers) Put(p []byte) { b.pool.Put(&p) }

// authEndpoint is what nginx asks about each request: is the key in the map?
func authEndpoint(key string) http.Handler {
	known := map[[sha256.Size]byte]string{sha256.Sum256([]byte("Bearer " + key)): "user"}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, ok := known[sha256.Sum256([]byte(r.Header.Get("Authorization")))]
		if !ok {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("X-User", user)
		w.WriteHeader(http.StatusOK)
	})
}

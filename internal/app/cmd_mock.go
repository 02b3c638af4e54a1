package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os/signal"
	"syscall"
	"time"

	"github.com/jimu-ai/jimu/internal/mock"
)

func setupMock(fs *flag.FlagSet) func(context.Context, *call) error {
	listen := fs.String("listen", "127.0.0.1:9090", "`ADDR` to serve on")
	delay := fs.Duration("delay", 0, "wait before an answer begins")
	chunks := fs.Int("chunks", 0, "pieces of a streamed answer (0: one for each few words)")
	interval := fs.Duration("interval", 0, "wait between the pieces")
	return func(ctx context.Context, c *call) error {
		ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		h := mock.New(mock.Options{Delay: *delay, Chunks: *chunks, Interval: *interval, Now: time.Now})
		ln, err := new(net.ListenConfig).Listen(ctx, "tcp", *listen)
		if err != nil {
			return fmt.Errorf("%w: choose another address with --listen", err)
		}
		fmt.Fprintf(c.Stdout, "the mock upstream listens on http://%s/v1\n", ln.Addr())
		srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
		context.AfterFunc(ctx, func() { _ = srv.Close() })
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}
}

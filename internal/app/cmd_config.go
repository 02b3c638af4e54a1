package app

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/config"
	"github.com/jimu-ai/jimu/internal/host"
)

// load reads the configuration that the command's flags and environment name.
func (c *call) load(more ...config.Flag) (*config.Config, error) {
	flags := more
	if c.opts.data != "" {
		flags = append(flags, config.Flag{Key: "data", Value: c.opts.data})
	}
	return config.Load(c.opts.config, c.Env, flags...)
}

func newHost(cfg *config.Config, env func(string) (string, bool), log *slog.Logger) *host.Host {
	return host.New(host.Options{Registry: jimu.Bricks, Dir: cfg.Dir, Env: env, Log: log, Now: time.Now})
}

// configured turns the instances of a configuration into what the host loads.
func configured(cfg *config.Config) []host.Entry {
	var out []host.Entry
	for _, list := range [][]config.Instance{cfg.Upstreams, cfg.Bricks} {
		for i := range list {
			out = append(out, host.Entry{Brick: list[i].Brick, Name: list[i].Name, Raw: list[i].Raw, Where: list[i].Where})
		}
	}
	return out
}

func configCheck(ctx context.Context, c *call) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	h := newHost(cfg, c.Env, slog.New(slog.DiscardHandler))
	if err := h.Check(ctx, configured(cfg)); err != nil {
		return err
	}
	name := cfg.Path
	if name == "" {
		name = "no file: the defaults"
	}
	_, err = fmt.Fprintf(c.Stdout, "ok: %s (%d upstreams, %d bricks)\n", name, len(cfg.Upstreams), len(cfg.Bricks))
	return err
}

func configPrint(_ context.Context, c *call) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	return config.Print(c.Stdout, cfg, host.Mask(jimu.Bricks))
}

func configSchema(_ context.Context, c *call) error {
	upstream, err := host.UpstreamSchema(jimu.Bricks)
	if err != nil {
		return err
	}
	bricks := map[string]json.RawMessage{}
	for _, id := range jimu.Bricks.IDs() {
		if isProvider(id) {
			continue
		}
		if bricks[id], err = host.Schema(jimu.Bricks, id); err != nil {
			return err
		}
	}
	schema, err := config.Schema(upstream, bricks)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.Stdout, "%s\n", schema)
	return err
}

func isProvider(id string) bool {
	b, err := jimu.Bricks.New(id)
	if err != nil {
		return false
	}
	_, ok := b.(jimu.Provider)
	return ok
}

func bricksList(_ context.Context, c *call) error {
	if len(c.args) == 1 {
		doc, err := host.Docs(jimu.Bricks, c.args[0])
		if err != nil {
			return err
		}
		if c.opts.output == "json" {
			return c.json(doc)
		}
		_, err = fmt.Fprint(c.Stdout, doc)
		return err
	}
	var docs []*host.Doc
	var rows [][]string
	for _, id := range jimu.Bricks.IDs() {
		doc, err := host.Docs(jimu.Bricks, id)
		if err != nil {
			return err
		}
		first, _, _ := strings.Cut(doc.Text, "\n")
		docs, rows = append(docs, doc), append(rows, []string{id, first})
	}
	return c.print(docs, []string{"BRICK", "WHAT"}, slices.Clip(rows))
}

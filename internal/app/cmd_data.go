package app

import (
	"context"
	"fmt"

	"github.com/jimu-ai/jimu/internal/store"
)

func backupWrite(ctx context.Context, c *call) error {
	if err := c.app.ledger.Flush(ctx); err != nil {
		return err
	}
	file := c.path(c.args[0])
	if err := c.app.store.Backup(ctx, file); err != nil {
		return err
	}
	_, err := fmt.Fprintf(c.Stdout, "backup written to %s; the master key is not in it, so keep that too\n", file)
	return err
}

func backupRestore(ctx context.Context, c *call) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	if err := store.Restore(ctx, c.path(c.args[0]), cfg.Data); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.Stdout, "restored into %s\n", cfg.Data)
	return err
}

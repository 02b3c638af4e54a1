package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/jimu-ai/jimu"
)

// Prices holds the prices that the operator set while the server runs.
type Prices struct{ s *Store }

// NewPrices gives access to the operator's prices.
func NewPrices(s *Store) *Prices { return &Prices{s} }

// Set stores the price of a model, in the site's currency, in place of the one
// before. Replicas take it up within a second.
func (p *Prices) Set(ctx context.Context, price jimu.Price, by string) error {
	if err := price.Seal(); err != nil {
		return err
	}
	if len(price.Model) > maxKey || !isASCII(price.Model) {
		return jimu.Errorf(jimu.Invalid, "a model's name has at most %d characters of ASCII", maxKey)
	}
	data, err := json.Marshal(price)
	if err != nil {
		return fmt.Errorf("encoding the price of %s: %w", price.Model, err)
	}
	return p.s.Main.Tx(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO price_overrides (model, price, set_by, updated_at) VALUES (?, ?, ?, ?)
			{upsert (model)} price = {new price}, set_by = {new set_by}, updated_at = {new updated_at}`,
			price.Model, string(data), fit(by), p.s.now().UnixMicro())
		if err != nil {
			return err
		}
		return tx.Bump(ctx, "routing")
	})
}

// Delete removes the operator's price of a model, so that the price book's
// counts again. It fails with NotFound if there is none.
func (p *Prices) Delete(ctx context.Context, model string) error {
	return p.s.Main.Tx(ctx, func(tx *Tx) error {
		n, err := tx.Exec(ctx, "DELETE FROM price_overrides WHERE model = ?", model)
		if err != nil {
			return err
		}
		if n == 0 {
			return jimu.Errorf(jimu.NotFound, "there is no price of your own for %s", model)
		}
		return tx.Bump(ctx, "routing")
	})
}

// List returns the operator's prices by model, sealed.
func (p *Prices) List(ctx context.Context) ([]jimu.Price, error) {
	var out []jimu.Price
	rows, err := p.s.Main.Query(ctx, "SELECT model, price FROM price_overrides ORDER BY model")
	err = scanAll(rows, err, func(rows *sql.Rows) error {
		var model, data string
		if err := rows.Scan(&model, &data); err != nil {
			return err
		}
		var price jimu.Price
		if err := json.Unmarshal([]byte(data), &price); err != nil {
			return fmt.Errorf("decoding the price of %s: %w", model, err)
		}
		if err := price.Seal(); err != nil {
			return err
		}
		out = append(out, price)
		return nil
	})
	return out, err
}

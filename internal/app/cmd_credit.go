package app

import (
	"context"
	"flag"
	"fmt"

	"github.com/jimu-ai/jimu"
)

func setupCreditGrant(fs *flag.FlagSet) func(context.Context, *call) error {
	user := fs.String("user", "", "who gets it; `NAME` (required)")
	sum := fs.String("amount", "", "how much; `CREDIT`, decimal (required)")
	reason := fs.String("reason", "", "why; `TEXT`, on the user's statement (required)")
	ref := fs.String("ref", "", "names the grant: the same `NAME` again changes nothing")
	return func(ctx context.Context, c *call) error {
		for flagName, v := range map[string]string{"user": *user, "amount": *sum, "reason": *reason} {
			if v == "" {
				return jimu.Errorf(jimu.Invalid, "--%s is missing", flagName)
			}
		}
		u, err := c.app.user(ctx, *user)
		if err != nil {
			return err
		}
		credit, err := amount("amount", *sum)
		if err != nil {
			return err
		}
		if *ref == "" {
			*ref = jimu.NewID(c.app.now())
		}
		e, err := c.app.ledger.Grant(ctx, jimu.UserAccount(u.ID), credit, *reason, *ref)
		if err != nil {
			return err
		}
		return c.print(e, []string{"USER", "GRANTED", "BALANCE"}, [][]string{{u.Name, e.Amount.String(), e.After.String()}})
	}
}

func setupCreditShow(fs *flag.FlagSet) func(context.Context, *call) error {
	user := fs.String("user", "", "whose; `NAME` (required)")
	return func(ctx context.Context, c *call) error {
		if *user == "" {
			return jimu.Errorf(jimu.Invalid, "--user is missing")
		}
		u, err := c.app.user(ctx, *user)
		if err != nil {
			return err
		}
		if err := c.app.ledger.Flush(ctx); err != nil {
			return err
		}
		b, err := c.app.ledger.Balance(ctx, jimu.UserAccount(u.ID))
		if err != nil {
			return err
		}
		return c.print(b, []string{"USER", "BALANCE", "HELD"}, [][]string{{u.Name, b.Balance.String(), b.Held.String()}})
	}
}

func ledgerVerify(ctx context.Context, c *call) error {
	breached := false
	err := c.app.ledger.Verify(ctx, func(line string, err error) {
		if err != nil {
			breached = true
			fmt.Fprintf(c.Stdout, "BREACH  %s: %v\n", line, err)
			return
		}
		fmt.Fprintf(c.Stdout, "ok      %s\n", line)
	})
	if breached {
		return fmt.Errorf("the ledger is not right and grants no credit until it is: keep a copy of the data and report this; %w", err)
	}
	return err
}

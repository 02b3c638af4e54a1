package app

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"time"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/identity"
)

func setupUserCreate(fs *flag.FlagSet) func(context.Context, *call) error {
	role := fs.String("role", string(jimu.RoleUser), "`ROLE`: user, support, finance, admin or owner")
	stdin := fs.Bool("password-stdin", false, "read the password from standard input; without it one is made and printed")
	return func(ctx context.Context, c *call) error {
		password, made := rand.Text(), true
		if *stdin {
			var err error
			if password, err = c.line("password"); err != nil {
				return err
			}
			made = false
		}
		u, err := c.app.identity.CreateUser(ctx, identity.Operator(), c.args[0], jimu.Role(*role), password)
		if err != nil {
			return err
		}
		if !made {
			password = "" // he knows it
		}
		if c.opts.output == "json" {
			return c.json(struct {
				*jimu.User
				Password string `json:"password,omitempty"`
			}{u, password})
		}
		fmt.Fprintf(c.Stdout, "user %s (%s) made\n", u.Name, u.Role)
		if made {
			fmt.Fprintf(c.Stdout, "password: %s\n", password)
		}
		return nil
	}
}

// each calls f with every user.
func (a *App) eachUser(ctx context.Context, f func(*jimu.User)) error {
	const page = 100
	for cursor := ""; ; {
		us, next, err := a.identity.Users(ctx, cursor, page)
		if err != nil {
			return err
		}
		for i := range us {
			f(&us[i])
		}
		if next == "" {
			return nil
		}
		cursor = next
	}
}

func userList(ctx context.Context, c *call) error {
	users := []*jimu.User{}
	var rows [][]string
	err := c.app.eachUser(ctx, func(u *jimu.User) {
		state := "active"
		if u.Disabled {
			state = "disabled"
		}
		users = append(users, u)
		rows = append(rows, []string{u.Name, string(u.Role), state, u.Created.Format(time.DateOnly), u.ID})
	})
	if err != nil {
		return err
	}
	return c.print(users, []string{"NAME", "ROLE", "STATE", "MADE", "ID"}, rows)
}

func setupUserDisable(fs *flag.FlagSet) func(context.Context, *call) error {
	undo := fs.Bool("undo", false, "let the user in again")
	return func(ctx context.Context, c *call) error {
		u, err := c.app.user(ctx, c.args[0])
		if err != nil {
			return err
		}
		disabled := !*undo
		if u, err = c.app.identity.UpdateUser(ctx, identity.Operator(), u.ID, &disabled, nil); err != nil {
			return err
		}
		if err := c.app.refresh(ctx); err != nil {
			return err
		}
		word := "disabled"
		if !u.Disabled {
			word = "enabled"
		}
		_, err = fmt.Fprintf(c.Stdout, "user %s %s\n", u.Name, word)
		return err
	}
}

func setupKeyCreate(fs *flag.FlagSet) func(context.Context, *call) error {
	user := fs.String("user", "", "whose key; `NAME` (required)")
	name := fs.String("name", "cli", "what to call it")
	models := fs.String("models", "", "models it may use, separated by commas (none: all)")
	limit := fs.String("limit", "", "the most `CREDIT` it may ever spend")
	expires := fs.Duration("expires", 0, "how long it is valid, such as 720h (0: for ever)")
	return func(ctx context.Context, c *call) error {
		if *user == "" {
			return jimu.Errorf(jimu.Invalid, "--user is missing: whose key is it?")
		}
		u, err := c.app.user(ctx, *user)
		if err != nil {
			return err
		}
		spec := &jimu.Key{Name: *name, Models: list(*models)}
		if *limit != "" {
			most, err := amount("limit", *limit)
			if err != nil {
				return err
			}
			spec.Limit = &most
		}
		if *expires > 0 {
			at := c.app.now().Add(*expires)
			spec.Expires = &at
		}
		k, secret, err := c.app.identity.CreateKey(ctx, u.ID, spec, "")
		if err != nil {
			return err
		}
		if err := c.app.refresh(ctx); err != nil {
			return err
		}
		if c.opts.output == "json" {
			return c.json(struct {
				*jimu.Key
				Secret string `json:"key"`
			}{k, secret})
		}
		_, err = fmt.Fprintln(c.Stdout, secret)
		return err
	}
}

package app

import (
	"context"
	"flag"
	"fmt"
	"runtime"
)

// version is set at build time (-ldflags -X).
var version = "dev"

type runner = func(ctx context.Context, c *call) error

// commands is the command table.
func commands() []command {
	return []command{
		{name: "serve", short: "serve until SIGTERM, which drains; SIGHUP reloads the configuration", local: true, setup: setupServe},
		{name: "user create", args: "NAME", short: "make a user", setup: setupUserCreate},
		{name: "user list", short: "list the users", setup: plain(userList)},
		{name: "user disable", args: "NAME", short: "shut a user out; sessions end and keys stop", setup: setupUserDisable},
		{name: "key create", short: "make an API key and print it, alone", setup: setupKeyCreate},
		{name: "credit grant", short: "give a user credit", setup: setupCreditGrant},
		{name: "credit show", short: "show a user's balance", setup: setupCreditShow},
		{name: "ledger verify", short: "prove every invariant of the ledger", setup: plain(ledgerVerify)},
		{name: "upstream add", args: "NAME", short: "add an upstream, or change one that was added so", setup: setupUpstreamAdd},
		{name: "upstream list", short: "list the upstreams and their health", setup: plain(upstreamList)},
		{name: "upstream test", args: "NAME", short: "ask an upstream for its models", setup: plain(upstreamTest)},
		{name: "upstream remove", args: "NAME", short: "remove an upstream that was added with upstream add", setup: plain(upstreamRemove)},
		{name: "price set", args: "MODEL", short: "set a model's price, per million tokens in the site's currency", setup: setupPriceSet},
		{name: "price show", args: "[MODEL]", short: "show the prices in force", setup: plain(priceShow)},
		{name: "price update", args: "FILE", short: "set the prices of a JSON file or address, a list as price show -o json prints it", setup: plain(priceUpdate)},
		{name: "route", args: "MODEL", short: "explain which upstreams would serve a model, and why", setup: setupRoute},
		{name: "config check", short: "check the configuration without starting", local: true, setup: plain(configCheck)},
		{name: "config print", short: "print the configuration in force, secrets masked", local: true, setup: plain(configPrint)},
		{name: "config schema", short: "print the JSON Schema of the configuration file", local: true, setup: plain(configSchema)},
		{name: "bricks", args: "[BRICK]", short: "list what this build has, or document one brick's configuration", local: true, setup: plain(bricksList)},
		{name: "backup", args: "FILE", short: "write the data to one file, without the master key", setup: plain(backupWrite)},
		{name: "restore", args: "FILE", short: "restore a backup into an empty data folder", local: true, setup: plain(backupRestore)},
		{name: "mock", short: "serve a mock upstream (OpenAI, Anthropic and Gemini dialects)", local: true, setup: setupMock},
		{name: "version", short: "print the version", local: true, setup: plain(printVersion)},
	}
}

// plain is the setup of a command without flags of its own.
func plain(do runner) func(*flag.FlagSet) func(context.Context, *call) error {
	return func(*flag.FlagSet) func(context.Context, *call) error { return do }
}

func printVersion(_ context.Context, c *call) error {
	_, err := fmt.Fprintf(c.Stdout, "jimu %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

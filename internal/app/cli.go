package app

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/jimu-ai/jimu"
)

// Process is what a command sees of the world outside.
type Process struct {
	Args   []string
	Env    func(name string) (string, bool)
	Dir    string // files named on the command line are relative to it; "" is the working directory
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
}

// Main runs one command line and returns the exit code: 0 done, 1 it could not
// be done (one line on Stderr says what and how to cure it), 2 wrong usage.
func Main(ctx context.Context, p Process) int {
	err := run(ctx, p, nil)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage):
		return 2
	}
	if exit, ok := errors.AsType[exitError](err); ok {
		return int(exit)
	}
	fmt.Fprintln(p.Stderr, "jimu:", oneLine(err))
	return 1
}

var errUsage = errors.New("wrong usage")

// exitError is the exit code of a command that has already said what is wrong.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// oneLine is an error for the operator: on one line, and without the cause
// where there is a text made to be seen.
func oneLine(err error) string {
	text := err.Error()
	if e, ok := errors.AsType[*jimu.Error](err); ok {
		text = strings.Replace(text, e.Error(), e.Text, 1)
	}
	return strings.Join(strings.Fields(text), " ")
}

// command is one row of the command table.
type command struct {
	name  string // with its group: "user create"
	args  string // positional arguments, for the usage line; a trailing [X] is optional
	short string
	// local commands need no data folder; the others run in the server if one
	// is running on the same data, and open the store themselves if not.
	local bool
	// setup declares the flags and returns what runs once they are parsed.
	setup func(fs *flag.FlagSet) func(ctx context.Context, c *call) error
}

// call is one run of a command.
type call struct {
	Process
	app  *App // nil for local commands
	args []string
	opts options
}

// options are the flags that every command has.
type options struct {
	config string
	data   string
	output string
}

// run finds and runs the command of p.Args. In a server, a is the running App;
// otherwise it is nil.
func run(ctx context.Context, p Process, a *App) error {
	cmd, rest := find(commands(), p.Args)
	if cmd == nil {
		return usage(p)
	}
	c := &call{Process: p, app: a}
	fs := flag.NewFlagSet("jimu "+cmd.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&c.opts.config, "config", "", "configuration `FILE` (default jimu.yaml, if there)")
	fs.StringVar(&c.opts.data, "data", "", "data `DIR` (default ./data)")
	fs.StringVar(&c.opts.output, "o", "text", "output `FORMAT` of records: text or json")
	do := cmd.setup(fs)
	switch err := c.parse(fs, cmd, rest); {
	case errors.Is(err, flag.ErrHelp):
		cmd.help(p.Stdout, fs)
		return nil
	case err != nil:
		fmt.Fprintf(p.Stderr, "jimu %s: %s\nusage: jimu %s %s (see --help)\n", cmd.name, oneLine(err), cmd.name, cmd.args)
		return errUsage
	}
	if cmd.local || a != nil {
		return do(ctx, c)
	}
	return c.withData(ctx, do)
}

// find returns the command that the arguments begin with, and the arguments after it.
func find(table []command, args []string) (*command, []string) {
	for n := min(2, len(args)); n > 0; n-- {
		name := strings.Join(args[:n], " ")
		for i := range table {
			if table[i].name == name {
				return &table[i], args[n:]
			}
		}
	}
	return nil, nil
}

// parse reads flags and positional arguments in any order.
func (c *call) parse(fs *flag.FlagSet, cmd *command, rest []string) error {
	for {
		if err := fs.Parse(rest); err != nil {
			return err
		}
		if fs.NArg() == 0 {
			break
		}
		c.args = append(c.args, fs.Arg(0))
		rest = fs.Args()[1:]
	}
	if c.opts.output != "text" && c.opts.output != "json" {
		return fmt.Errorf("-o %s: the formats are text and json", c.opts.output)
	}
	words := strings.Fields(cmd.args)
	need := len(slices.DeleteFunc(slices.Clone(words), func(w string) bool { return strings.HasPrefix(w, "[") }))
	switch {
	case len(c.args) < need:
		return fmt.Errorf("%s is missing", words[len(c.args)])
	case len(c.args) > len(words):
		return fmt.Errorf("%q is one argument too many", c.args[len(words)])
	}
	return nil
}

func (cmd *command) help(w io.Writer, fs *flag.FlagSet) {
	fmt.Fprintf(w, "usage: jimu %s [flags] %s\n\n%s\n\nflags:\n", cmd.name, cmd.args, cmd.short)
	fs.SetOutput(w)
	fs.PrintDefaults()
}

func usage(p Process) error {
	table := commands()
	w, err := p.Stderr, errUsage
	if len(p.Args) > 0 && slices.Contains([]string{"help", "-h", "-help", "--help"}, p.Args[0]) {
		w, err = p.Stdout, nil
	} else if len(p.Args) > 0 {
		group := p.Args[0] + " "
		table = slices.DeleteFunc(table, func(c command) bool { return !strings.HasPrefix(c.name, group) })
		if len(table) == 0 {
			fmt.Fprintf(w, "jimu: there is no command %q; see jimu help\n", p.Args[0])
			return err
		}
	}
	fmt.Fprintln(w, "usage: jimu COMMAND [flags] [arguments]    (each has --help)")
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range table {
		fmt.Fprintf(tw, "  %s %s\t%s\n", c.name, c.args, c.short)
	}
	if ferr := tw.Flush(); ferr != nil {
		return ferr
	}
	return err
}

// path resolves a file named on the command line.
func (c *call) path(name string) string {
	if filepath.IsAbs(name) || c.Dir == "" {
		return name
	}
	return filepath.Join(c.Dir, name)
}

// print writes records: v as JSON with -o json, else the rows as a table.
func (c *call) print(v any, header []string, rows [][]string) error {
	if c.opts.output == "json" {
		return c.json(v)
	}
	tw := tabwriter.NewWriter(c.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, strings.Join(header, "\t"))
	for _, r := range rows {
		fmt.Fprintln(tw, strings.Join(r, "\t"))
	}
	return tw.Flush()
}

func (c *call) json(v any) error {
	enc := json.NewEncoder(c.Stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// line reads one line of standard input, such as a password.
func (c *call) line(what string) (string, error) {
	b, err := io.ReadAll(io.LimitReader(c.Stdin, 4096))
	if err != nil {
		return "", fmt.Errorf("reading the %s: %w", what, err)
	}
	s, _, _ := strings.Cut(string(b), "\n")
	s = strings.TrimSuffix(s, "\r")
	if s == "" {
		return "", jimu.Errorf(jimu.Invalid, "no %s on standard input", what)
	}
	return s, nil
}

// amount reads a flag that is an amount of credit.
func amount(flagName, s string) (jimu.Credit, error) {
	c, err := jimu.ParseCredit(s)
	if err != nil {
		return 0, fmt.Errorf("--%s: %w", flagName, err)
	}
	return c, nil
}

func list(s string) []string {
	return slices.DeleteFunc(strings.Split(s, ","), func(v string) bool { return strings.TrimSpace(v) == "" })
}

func workingDir() string {
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	return dir
}

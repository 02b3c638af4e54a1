package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/jimu-ai/jimu"
)

// loader fills a Config and gathers what is wrong on the way.
type loader struct {
	c        *Config
	env      func(string) (string, bool)
	file     string
	source   string // the variable or flag being read; "" while in the file
	problems []located
}

type located struct {
	line int
	Problem
}

// bad notes a mistake at a node.
func (l *loader) bad(n *yaml.Node, format string, args ...any) {
	p := located{line: n.Line, Problem: Problem{Where: l.where(n), Text: fmt.Sprintf(format, args...)}}
	if l.source != "" {
		p.line = 1 << 30
	}
	l.problems = append(l.problems, p)
}

func (l *loader) where(n *yaml.Node) string {
	if l.source != "" {
		return l.source
	}
	return l.file + ":" + strconv.Itoa(n.Line)
}

func (l *loader) sorted() LoadErrors {
	slices.SortStableFunc(l.problems, func(a, b located) int { return cmp.Compare(a.line, b.line) })
	out := make(LoadErrors, len(l.problems))
	for i, p := range l.problems {
		out[i] = p.Problem
	}
	return out
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// document reads the file's text.
func (l *loader) document(text []byte) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return // empty
	}
	if err != nil {
		m := yamlLine.FindStringSubmatch(err.Error())
		n := &yaml.Node{Line: 1}
		what := err.Error()
		if m != nil {
			what = what[len(m[0]):]
			if m[1] != "" {
				n.Line, _ = strconv.Atoi(m[1])
			}
		}
		l.bad(n, "this is not YAML: %s", what)
		return
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		l.bad(&yaml.Node{Line: doc.Line}, "the file must hold one YAML document; remove the line --- and what follows")
	}
	if len(doc.Content) == 0 || isNull(doc.Content[0]) {
		return
	}
	table := keys()
	names := make([]string, len(table))
	for i := range table {
		names[i] = table[i].name
	}
	l.each(doc.Content[0], "the configuration", names, func(name string, v *yaml.Node) {
		k := table[slices.Index(names, name)]
		if isNull(v) {
			return // "key:" alone leaves the default
		}
		l.c.origins[name] = l.where(v)
		k.set(l, v)
	})
}

// overlay applies the environment, then the flags.
func (l *loader) overlay(flags []Flag) {
	table := keys()
	for _, k := range table {
		if v, ok := l.env(k.env); ok && k.env != "" && v != "" {
			l.one(k, k.env, v)
		}
	}
	for _, f := range flags {
		i := slices.IndexFunc(table, func(k key) bool { return k.name == f.Key && k.env != "" })
		if i < 0 {
			l.source = "--" + f.Key
			l.bad(&yaml.Node{}, "there is no such flag")
			continue
		}
		l.one(table[i], "--"+strings.ReplaceAll(f.Key, "_", "-"), f.Value)
	}
	l.source = ""
}

func (l *loader) one(k key, source, value string) {
	l.source = source
	l.c.origins[k.name] = source
	k.set(l, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value})
}

// whole checks what concerns several keys.
func (l *loader) whole() {
	l.source = l.c.Origin("master_key")
	if path, ok := l.c.MasterKeyFile(); ok && within(l.c.Data, path) {
		if l.source == originDefault {
			l.source = l.c.Origin("data")
		}
		l.bad(&yaml.Node{}, "the master key %s would be inside the data folder %s, and so in every backup of it; set master_key to a file elsewhere", path, l.c.Data)
	}
	l.source = ""
	if _, ok := l.c.Exchange[l.c.Currency]; ok {
		l.source = l.c.Origin("exchange")
		l.bad(&yaml.Node{}, "exchange holds %s, which is the site's own currency; remove it", l.c.Currency)
	}
	l.source = ""
}

func within(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// each calls f for each member of a mapping. Unknown keys (where known is not
// nil) and repeated ones are mistakes.
func (l *loader) each(n *yaml.Node, what string, known []string, f func(key string, v *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		l.bad(n, "%s must be a map, written \"key: value\", not %s", what, kind(n))
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode {
			l.bad(k, "a key of %s must be a word, not %s", what, kind(k))
			continue
		}
		if first, dup := seen[k.Value]; dup {
			l.bad(k, "key %q is written twice; it is on line %d too", k.Value, first)
			continue
		}
		seen[k.Value] = k.Line
		if known != nil && !slices.Contains(known, k.Value) {
			l.bad(k, "unknown key %q%s", k.Value, meant(k.Value, known))
			continue
		}
		f(k.Value, v)
	}
}

// meant is the end of a message about an unknown word.
func meant(word string, known []string) string {
	if near := jimu.Nearest(word, known); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return "; known are " + strings.Join(known, ", ")
}

func kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a map"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias (write the value out)"
	default:
		if isNull(n) {
			return "nothing"
		}
		return strconv.Quote(n.Value)
	}
}

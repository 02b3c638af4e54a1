package config

import (
	"encoding/json"
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// defaultName is the name of an instance that has none.
const defaultName = "main"

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func (l *loader) upstreams(n *yaml.Node) {
	seen := map[string]int{}
	l.list(n, "upstreams", func(v *yaml.Node) {
		if i, ok := l.instance("", v, seen); ok {
			l.c.Upstreams = append(l.c.Upstreams, i)
		}
	})
}

func (l *loader) bricks(n *yaml.Node) {
	l.each(n, "bricks", nil, func(id string, v *yaml.Node) {
		seen := map[string]int{}
		add := func(v *yaml.Node) {
			if i, ok := l.instance(id, v, seen); ok {
				l.c.Bricks = append(l.c.Bricks, i)
			}
		}
		if v.Kind == yaml.SequenceNode {
			l.list(v, "bricks."+id, add)
			return
		}
		add(v)
	})
}

// instance reads one entry: a map, or nothing for a brick without keys.
func (l *loader) instance(brick string, n *yaml.Node, seen map[string]int) (Instance, bool) {
	i := Instance{Brick: brick, Name: defaultName, file: l.file, lines: map[string]int{}}
	if isNull(n) && brick != "" {
		i.Raw = json.RawMessage("{}")
		i.lines[""] = n.Line
	} else {
		if n.Kind != yaml.MappingNode {
			l.bad(n, "%s must be a map, written \"key: value\", not %s", l.entry(brick), kind(n))
			return i, false
		}
		var ok bool
		if i.Raw, ok = l.convert(n, "", i.lines, 0); !ok {
			return i, false
		}
	}
	for k := 0; k+1 < len(n.Content); k += 2 {
		if n.Content[k].Value != "name" {
			continue
		}
		v := n.Content[k+1]
		if v.Kind != yaml.ScalarNode || !nameForm.MatchString(v.Value) {
			l.bad(v, "the name %s must be letters, digits, dots, dashes and underscores, at most 64", kind(v))
			return i, false
		}
		i.Name = v.Value
	}
	if first, dup := seen[i.Name]; dup {
		l.bad(n, "%s named %q is there twice, on line %d too; give each a name of its own", l.entry(brick), i.Name, first)
		return i, false
	}
	seen[i.Name] = n.Line
	return i, true
}

func (l *loader) entry(brick string) string {
	if brick == "" {
		return "an upstream"
	}
	return "an instance of brick " + brick
}

func (l *loader) toJSON(n *yaml.Node, path string) (json.RawMessage, bool) {
	return l.convert(n, path, map[string]int{}, 0)
}

// maxDepth is far deeper than any brick nests.
const maxDepth = 64

// convert writes a node as JSON and notes the line of each part. It reports
// false after a mistake.
func (l *loader) convert(n *yaml.Node, path string, lines map[string]int, depth int) (json.RawMessage, bool) {
	lines[path] = n.Line
	if depth > maxDepth {
		l.bad(n, "this is nested deeper than %d levels", maxDepth)
		return nil, false
	}
	switch n.Kind {
	case yaml.MappingNode:
		return l.convertMap(n, path, lines, depth)
	case yaml.SequenceNode:
		return l.convertList(n, path, lines, depth)
	case yaml.ScalarNode:
		return l.scalar(n)
	default:
		l.bad(n, "anchors and aliases are not supported; write the value out")
		return nil, false
	}
}

func (l *loader) convertMap(n *yaml.Node, path string, lines map[string]int, depth int) (json.RawMessage, bool) {
	good, out := true, []byte{'{'}
	before := len(l.problems)
	l.each(n, "this", nil, func(key string, v *yaml.Node) {
		sub := key
		if path != "" {
			sub = path + "." + key
		}
		b, ok := l.convert(v, sub, lines, depth+1)
		good = good && ok
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(out, quote(key)...), ':'), b...)
	})
	return append(out, '}'), good && len(l.problems) == before
}

func (l *loader) convertList(n *yaml.Node, path string, lines map[string]int, depth int) (json.RawMessage, bool) {
	good, out := true, []byte{'['}
	for i, v := range n.Content {
		b, ok := l.convert(v, path+"["+strconv.Itoa(i)+"]", lines, depth+1)
		good = good && ok
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, b...)
	}
	return append(out, ']'), good
}

// scalar writes a scalar as JSON. Decimal numbers keep their digits.
func (l *loader) scalar(n *yaml.Node) (json.RawMessage, bool) {
	switch n.ShortTag() {
	case "!!null":
		return json.RawMessage("null"), true
	case "!!bool":
		return json.RawMessage(strings.ToLower(n.Value)), true
	case "!!int":
		if v, ok := new(big.Int).SetString(n.Value, 0); ok {
			return json.RawMessage(v.String()), true
		}
	case "!!float":
		if json.Valid([]byte(n.Value)) {
			return json.RawMessage(n.Value), true
		}
		if v, err := strconv.ParseFloat(n.Value, 64); err == nil && !math.IsInf(v, 0) && !math.IsNaN(v) {
			b, err := json.Marshal(v)
			return b, err == nil
		}
		l.bad(n, "%s is not a number that can be used", n.Value)
		return nil, false
	case "!!str", "!!timestamp", "!!merge":
	default:
		l.bad(n, "the tag %s is not supported; write a plain value", n.Tag)
		return nil, false
	}
	return quote(n.Value), true
}

func quote(s string) json.RawMessage {
	b, err := json.Marshal(s)
	if err != nil {
		return json.RawMessage(`""`) // a string always marshals
	}
	return b
}

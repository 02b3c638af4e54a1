package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
)

// Print writes the configuration in force as YAML, each value with where it is
// from. Secrets are masked: those of an upstream (brick "") or brick by mask,
// which knows which of its keys are secret.
func Print(w io.Writer, c *Config, mask func(brick string, raw json.RawMessage) json.RawMessage) error {
	var b bytes.Buffer
	for _, k := range keys() {
		if k.list != nil {
			printList(&b, k.name, k.list(c), mask)
			continue
		}
		v := k.value(c)
		if s, ok := v.(string); ok && k.mask != nil {
			v = k.mask(s)
		}
		text, err := plain(v)
		if err != nil {
			return fmt.Errorf("printing %s: %w", k.name, err)
		}
		fmt.Fprintf(&b, "%s: %s  # %s\n", k.name, text, c.Origin(k.name))
	}
	_, err := w.Write(b.Bytes())
	return err
}

func printList(b *bytes.Buffer, name string, list []*Instance, mask func(string, json.RawMessage) json.RawMessage) {
	if len(list) == 0 {
		fmt.Fprintf(b, "%s: %s  # %s\n", name, map[bool]string{true: "{}", false: "[]"}[name == "bricks"], originDefault)
		return
	}
	fmt.Fprintf(b, "%s:\n", name)
	last := ""
	for _, i := range list {
		indent := "  "
		if i.Brick != "" {
			if i.Brick != last {
				fmt.Fprintf(b, "  %s:\n", quote(i.Brick))
			}
			last, indent = i.Brick, "    "
		}
		fmt.Fprintf(b, "%s- %s  # %s\n", indent, mask(i.Brick, i.Raw), i.Where(""))
	}
}

// plain marshals without escaping <, > and &.
func plain(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

// Schema writes the JSON Schema (draft 2020-12) of the file, for editors. It
// takes the schemas of an upstream and of each linked brick.
func Schema(upstream json.RawMessage, bricks map[string]json.RawMessage) ([]byte, error) {
	props := map[string]any{}
	for _, k := range keys() {
		s := map[string]any{}
		switch k.name {
		case "upstreams":
			s["type"], s["items"] = "array", upstream
		case "bricks":
			of := map[string]any{}
			for id, b := range bricks {
				of[id] = map[string]any{"oneOf": []any{b, map[string]any{"type": "array", "items": b}, map[string]any{"type": "null"}}}
			}
			s["type"], s["properties"], s["additionalProperties"] = "object", of, false
		default:
			if err := json.Unmarshal([]byte(k.schema), &s); err != nil {
				return nil, fmt.Errorf("reading the schema of %s: %w", k.name, err)
			}
		}
		s["description"] = k.doc
		props[k.name] = s
	}
	return json.MarshalIndent(map[string]any{
		"$schema":              "https://json-schema.org/draft/2020-12/schema",
		"title":                "Jimu configuration",
		"type":                 "object",
		"additionalProperties": false,
		"properties":           props,
	}, "", "  ")
}

// Changes are the keys that differ between two configurations.
type Changes struct {
	Restart []string // take effect at the next start
	Live    []string // take effect now
}

// Diff compares two configurations.
func Diff(before, after *Config) Changes {
	var ch Changes
	for _, k := range keys() {
		var same bool
		if k.list != nil {
			same = slices.EqualFunc(k.list(before), k.list(after), func(a, b *Instance) bool {
				return a.Brick == b.Brick && a.Name == b.Name && bytes.Equal(a.Raw, b.Raw)
			})
		} else {
			a, errA := json.Marshal(k.value(before))
			b, errB := json.Marshal(k.value(after))
			same = errA == nil && errB == nil && bytes.Equal(a, b)
		}
		switch {
		case same:
		case k.restart:
			ch.Restart = append(ch.Restart, k.name)
		default:
			ch.Live = append(ch.Live, k.name)
		}
	}
	return ch
}

package host

import (
	_ "embed" // the comments of the configuration's fields
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/jimu-ai/jimu"
)

//go:generate go run ./docgen -root ../.. -out docs_gen.json

// docsJSON holds the comments of structs and their fields, by
// "package path.Type" and then by field ("" is the struct's own).
//
//go:embed docs_gen.json
var docsJSON []byte

type comments map[string]map[string]string

func (c comments) of(t reflect.Type, field string) string {
	return c[t.PkgPath()+"."+t.Name()][field]
}

// text is what a field's comment says, with the key in place of the Go name.
func (d *describer) text(f field) string {
	s := d.comments.of(f.owner, f.typ.Name)
	if rest, ok := strings.CutPrefix(s, f.typ.Name+" "); ok {
		return f.key + " " + rest
	}
	return s
}

func newDescriber() (*describer, error) {
	d := &describer{}
	if err := json.Unmarshal(docsJSON, &d.comments); err != nil {
		return nil, fmt.Errorf("reading the embedded docs: %w", err)
	}
	return d, nil
}

// Doc documents a brick's configuration.
type Doc struct {
	ID      string        `json:"id"`
	Text    string        `json:"text,omitempty"`
	Vendors []jimu.Vendor `json:"vendors,omitempty"` // of a provider
	Fields  []Field       `json:"fields"`
}

// Field documents a key. The keys of a nested map are written with dots, those
// of each entry of a list with [].
type Field struct {
	Key     string `json:"key"`
	Type    string `json:"type"`
	Default string `json:"default,omitempty"`
	Text    string `json:"text,omitempty"`
	Secret  bool   `json:"secret,omitempty"` // also takes env:NAME and file:PATH
}

// Docs documents a brick of the build.
func Docs(reg *jimu.Registry, id string) (*Doc, error) {
	b, err := reg.New(id)
	if err != nil {
		return nil, err
	}
	d, err := newDescriber()
	if err != nil {
		return nil, err
	}
	v := reflect.ValueOf(b).Elem()
	doc := &Doc{ID: id, Text: d.comments.of(v.Type(), "")}
	if p, ok := b.(jimu.Provider); ok {
		doc.Vendors = p.Vendors()
	}
	named := false
	for _, f := range fieldsOf(v.Type()) {
		named = named || f.key == "name"
	}
	if !named {
		doc.Fields = []Field{{Key: "name", Type: "text", Default: defaultName, Text: "What the instance is called."}}
	}
	d.fields("", v.Type(), v, doc)
	return doc, nil
}

func (d *describer) fields(prefix string, t reflect.Type, v reflect.Value, doc *Doc) {
	for _, f := range fieldsOf(t) {
		fv, ft := valueOf(v, f), f.typ.Type
		key := prefix + f.key
		out := Field{Key: key, Type: typeName(ft), Text: d.text(f), Secret: ft == secretType}
		if def := defaultOf(fv); def != nil {
			out.Default = strings.Trim(string(def), `"`)
		}
		lists := 0
		for ft.Kind() == reflect.Pointer || ft.Kind() == reflect.Slice {
			if ft.Kind() == reflect.Slice {
				lists++
			}
			ft, fv = ft.Elem(), reflect.Value{}
		}
		key += strings.Repeat("[]", lists)
		out.Secret = out.Secret || ft == secretType
		doc.Fields = append(doc.Fields, out)
		if ft.Kind() == reflect.Struct && !reads(ft) {
			d.fields(key+".", ft, fv, doc)
		}
	}
}

// String writes the documentation for a terminal.
func (d *Doc) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", d.ID)
	if d.Text != "" {
		fmt.Fprintf(&b, "  %s\n", d.Text)
	}
	for _, f := range d.Fields {
		fmt.Fprintf(&b, "    %-18s %s\n", f.Key, f.line())
	}
	if len(d.Vendors) > 0 {
		ids := make([]string, len(d.Vendors))
		for i, v := range d.Vendors {
			ids[i] = v.ID
		}
		fmt.Fprintf(&b, "  vendors: %s\n", strings.Join(ids, ", "))
	}
	return b.String()
}

func (f *Field) line() string {
	s := f.Type
	if f.Default != "" {
		s += ", default " + f.Default
	}
	if f.Text != "" {
		s += ". " + f.Text
	}
	return s
}

// Markdown writes the brick's page below docs/bricks.
func (d *Doc) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "<!-- Generated from the source; do not edit. -->\n# %s\n\n", d.ID)
	if d.Text != "" {
		fmt.Fprintf(&b, "%s\n\n", d.Text)
	}
	b.WriteString("## Configuration\n\n| Key | Type | Default | What it is |\n|---|---|---|---|\n")
	for _, f := range d.Fields {
		def := ""
		if f.Default != "" {
			def = "`" + f.Default + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.Key, f.Type, cell(def), cell(f.Text))
	}
	for _, f := range d.Fields {
		if f.Secret {
			b.WriteString("\nA secret is written as it is, as `env:NAME` or as `file:PATH`.\n")
			break
		}
	}
	if len(d.Vendors) > 0 {
		b.WriteString("\n## Vendors\n\n| `vendor` | Name | `base_url` | |\n|---|---|---|---|\n")
		for _, v := range d.Vendors {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", v.ID, cell(v.Name), cell(v.BaseURL), vendorNote(v))
		}
	}
	return b.String()
}

func vendorNote(v jimu.Vendor) string {
	var notes []string
	if v.Keyless {
		notes = append(notes, "no key needed")
	}
	if v.Free {
		notes = append(notes, "free")
	}
	if v.Docs != "" {
		notes = append(notes, "[docs]("+v.Docs+")")
	}
	return strings.Join(notes, ", ")
}

// cell makes a text safe inside a table.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ").Replace(s)
}

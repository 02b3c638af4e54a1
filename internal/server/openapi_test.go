package server

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jimu-ai/jimu"
)

var update = flag.Bool("update", false, "write openapi.json anew")

// The OpenAPI document is what the table of routes and the Go types make it.
// The generator lives here, so that it is not part of the binary.
func TestOpenAPIFresh(t *testing.T) {
	t.Parallel()
	s, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	g := &generator{t: t, docs: comments(t), schemas: map[string]any{}, types: map[string]reflect.Type{}}
	b, err := json.MarshalIndent(g.document(s.routes), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	b = append(b, '\n')
	if *update {
		if err := os.WriteFile("openapi.json", b, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(b, openAPI) {
		t.Error("openapi.json is stale; run: go generate ./internal/server")
	}
}

// Every call of the platform API is in the document, and every reference in
// it leads somewhere.
func TestOpenAPIComplete(t *testing.T) {
	t.Parallel()
	var d struct {
		OpenAPI    string
		Paths      map[string]map[string]struct{ OperationID string }
		Components struct{ Schemas map[string]any }
	}
	if err := json.Unmarshal(openAPI, &d); err != nil {
		t.Fatal(err)
	}
	if d.OpenAPI != "3.1.0" {
		t.Error(d.OpenAPI)
	}
	s, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, r := range s.routes {
		method, path, _ := strings.Cut(r.Pattern, " ")
		if !strings.HasPrefix(path, "/api/") {
			continue
		}
		op, ok := d.Paths[path][strings.ToLower(method)]
		if !ok || seen[op.OperationID] {
			t.Errorf("%s is missing, or its ID %q is not its own", r.Pattern, op.OperationID)
		}
		seen[op.OperationID] = true
	}
	for _, part := range strings.Split(string(openAPI), `"#/components/schemas/`)[1:] {
		name, _, _ := strings.Cut(part, `"`)
		if d.Components.Schemas[name] == nil {
			t.Errorf("there is no schema %s", name)
		}
	}
}

type object = map[string]any

type generator struct {
	t       *testing.T
	docs    map[string]string // "Type" and "Type.Field" to comments
	schemas object
	types   map[string]reflect.Type
}

func (g *generator) document(routes []Route) object {
	paths := map[string]object{}
	for i := range routes {
		r := &routes[i]
		if !r.isAPI() {
			continue
		}
		method, path, _ := strings.Cut(r.Pattern, " ")
		if paths[path] == nil {
			paths[path] = object{}
		}
		paths[path][strings.ToLower(method)] = g.operation(r, method, path)
	}
	g.ref(reflect.TypeFor[Problem]())
	return object{
		"openapi": "3.1.0",
		"info": object{
			"title": "Jimu platform API", "version": "1",
			"description": "Amounts of credit are decimal strings. Errors are problem+json with a stable code. Every answer has X-Request-Id.",
			"license":     object{"name": "Apache-2.0", "identifier": "Apache-2.0"},
		},
		"paths": paths,
		"components": object{
			"schemas": g.schemas,
			"securitySchemes": object{
				"session": object{"type": "apiKey", "in": "cookie", "name": "jimu", "description": "The session cookie; over HTTPS its name is __Host-jimu. Requests that change something also need the header X-Jimu-CSRF: 1."},
				"key":     object{"type": "http", "scheme": "bearer", "description": "An API key, jm_…; also taken from x-api-key."},
			},
		},
	}
}

func (g *generator) operation(r *Route, method, path string) object {
	op := object{"summary": r.summary, "operationId": operationID(method, path), "tags": []string{tag(path)}}
	switch r.Policy.kind {
	case policySession:
		op["security"] = []object{{"session": []string{}}}
		op["description"] = "Needs a session of the role " + string(r.Policy.role) + " or one above it."
	case policyKeyOrSession:
		op["security"] = []object{{"session": []string{}}, {"key": []string{}}}
	default:
		op["security"] = []object{}
	}
	var params []object
	if strings.Contains(path, "{id}") {
		params = append(params, object{"name": "id", "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	if r.Policy.kind == policySession && !safe(method) {
		params = append(params, object{"name": "X-Jimu-CSRF", "in": "header", "required": true, "schema": object{"const": "1"}})
	}
	for _, q := range r.query {
		params = append(params, g.parameter(q))
	}
	if params != nil {
		op["parameters"] = params
	}
	if r.in != nil {
		op["requestBody"] = object{"required": true, "content": content("application/json", g.schema(r.in))}
	}
	op["responses"] = g.responses(r, method)
	return op
}

func (g *generator) responses(r *Route, method string) object {
	ok := object{"description": http.StatusText(max(r.status, 200))}
	switch {
	case r.out != nil:
		ok["content"] = content("application/json", g.schema(r.out))
	case strings.HasSuffix(r.Pattern, "/events"):
		ok["content"] = content("text/event-stream", object{"type": "string"})
		ok["description"] = `Events with id: offset in bytes. "text" and "reasoning" carry {"text": …}, "done" the Turn.`
	case r.stream:
		ok["content"] = content("application/json", object{"type": "object"})
	}
	out := object{strconv.Itoa(max(r.status, 200)): ok}
	codes := append([]jimu.Code{jimu.Internal}, r.codes...)
	if r.in != nil {
		codes = append(codes, jimu.Invalid, jimu.TooLarge)
	}
	if len(r.query) > 0 {
		codes = append(codes, jimu.Invalid)
	}
	switch r.Policy.kind {
	case policySession:
		codes = append(codes, jimu.Unauthorized, jimu.Forbidden)
	case policyKeyOrSession:
		codes = append(codes, jimu.Unauthorized)
	default:
		if !safe(method) {
			codes = append(codes, jimu.Forbidden)
		}
	}
	byStatus := map[int][]string{}
	for _, c := range codes {
		if s := statusOf(c); !slices.Contains(byStatus[s], string(c)) {
			byStatus[s] = append(byStatus[s], string(c))
		}
	}
	for status, names := range byStatus {
		slices.Sort(names)
		out[strconv.Itoa(status)] = object{
			"description": http.StatusText(status) + ": code " + strings.Join(names, ", "),
			"content":     content("application/problem+json", g.ref(reflect.TypeFor[Problem]())),
		}
	}
	return out
}

func content(mime string, schema any) object { return object{mime: object{"schema": schema}} }

func (g *generator) parameter(name string) object {
	all := map[string]object{
		"cursor":          {"name": "cursor", "in": "query", "description": "next of the page before", "schema": object{"type": "string"}},
		"limit":           {"name": "limit", "in": "query", "schema": object{"type": "integer", "minimum": 1, "maximum": maxPage, "default": defaultPage}},
		"after":           {"name": "after", "in": "query", "description": "the id of the last event seen; Last-Event-ID goes before it", "schema": object{"type": "integer", "minimum": 0}},
		"Idempotency-Key": {"name": "Idempotency-Key", "in": "header", "description": "makes a repetition of the request harmless", "schema": object{"type": "string", "maxLength": maxOnce}},
	}
	p, ok := all[name]
	if !ok {
		g.t.Errorf("the parameter %q is not described", name)
	}
	return p
}

func operationID(method, path string) string {
	words := []string{strings.ToLower(method)}
	for w := range strings.SplitSeq(strings.Trim(strings.TrimPrefix(path, "/api"), "/"), "/") {
		w = strings.Trim(strings.ReplaceAll(w, ".", ""), "{}")
		words = append(words, strings.ToUpper(w[:1])+w[1:])
	}
	return strings.Join(words, "")
}

func tag(path string) string {
	t, _, _ := strings.Cut(strings.TrimPrefix(path, "/api/"), "/")
	return t
}

func (g *generator) schema(t reflect.Type) object {
	switch t {
	case reflect.TypeFor[jimu.Credit]():
		return object{"type": "string", "pattern": `^-?[0-9]+(\.[0-9]{1,9})?$`, "examples": []string{"12.5"}}
	case reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case reflect.TypeFor[time.Duration]():
		return object{"type": "integer", "description": "nanoseconds"}
	case reflect.TypeFor[jimu.Secret]():
		return object{"type": "string", "writeOnly": true}
	case reflect.TypeFor[jimu.Role]():
		return object{"type": "string", "enum": jimu.Roles()}
	case reflect.TypeFor[jimu.TurnState]():
		return object{"type": "string", "enum": []jimu.TurnState{jimu.TurnRunning, jimu.TurnDone, jimu.TurnFailed, jimu.TurnStopped, jimu.TurnInterrupted}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return g.schema(t.Elem())
	case reflect.Slice:
		return object{"type": "array", "items": g.schema(t.Elem())}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return object{"type": "integer"}
	case reflect.Struct:
		if strings.Contains(t.Name(), "[") { // List[T]
			return g.structure(t)
		}
		return g.ref(t)
	}
	g.t.Fatalf("%s is in no JSON schema", t)
	return nil
}

// ref puts a struct among the components and refers to it.
func (g *generator) ref(t reflect.Type) object {
	name := t.Name()
	if was, ok := g.types[name]; ok && was != t {
		g.t.Fatalf("two types are called %s: %s and %s", name, was, t)
	}
	if g.types[name] == nil {
		g.types[name] = t
		g.schemas[name] = g.structure(t)
	}
	return object{"$ref": "#/components/schemas/" + name}
}

func (g *generator) structure(t reflect.Type) object {
	props, required := object{}, []string{}
	g.fields(t, props, &required)
	slices.Sort(required)
	out := object{"type": "object", "properties": props}
	if len(required) > 0 {
		out["required"] = required
	}
	if d := g.docs[t.Name()]; d != "" {
		out["description"] = d
	}
	return out
}

func (g *generator) fields(t reflect.Type, props object, required *[]string) {
	for f := range t.Fields() {
		ft := f.Type
		if f.Anonymous && f.Tag.Get("json") == "" {
			if ft.Kind() == reflect.Pointer {
				ft = ft.Elem()
			}
			g.fields(ft, props, required)
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" || !f.IsExported() {
			continue
		}
		if name == "" {
			name = f.Name
		}
		s := g.schema(ft)
		optional := strings.Contains(options, "omit")
		if ft.Kind() == reflect.Pointer && !optional {
			s = object{"anyOf": []object{s, {"type": "null"}}}
		}
		if d := g.docs[t.Name()+"."+f.Name]; d != "" {
			s["description"] = d
		}
		props[name] = s
		if !optional {
			*required = append(*required, name)
		}
	}
}

// comments reads what the source says about types and fields.
func comments(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, glob := range []string{"*.go", "../../*.go"} {
		files, err := filepath.Glob(glob)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if d, ok := n.(*ast.GenDecl); ok && d.Tok == token.TYPE && len(d.Specs) == 1 {
					typeComments(d, out)
				}
				return true
			})
		}
	}
	return out
}

func typeComments(d *ast.GenDecl, out map[string]string) {
	spec, ok := d.Specs[0].(*ast.TypeSpec)
	if !ok {
		return
	}
	text := func(gs ...*ast.CommentGroup) string {
		for _, g := range gs {
			if s := strings.Join(strings.Fields(g.Text()), " "); s != "" {
				return s
			}
		}
		return ""
	}
	out[spec.Name.Name] = text(d.Doc)
	st, ok := spec.Type.(*ast.StructType)
	if !ok {
		return
	}
	for _, f := range st.Fields.List {
		for _, n := range f.Names {
			out[spec.Name.Name+"."+n.Name] = text(f.Doc, f.Comment)
		}
	}
}

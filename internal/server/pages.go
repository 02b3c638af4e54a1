package server

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/jimu-ai/jimu"
)

// pages serves the built front end. Files with a hash in their name (in
// assets/) never change; everything else is asked for again, by ETag.
type pages struct {
	files map[string]*page // by path, such as "assets/app-3f2a.js"
	dist  fs.FS
}

// page is a file and the forms of it that are there.
type page struct {
	mime  string
	cache string
	forms []form // best first; the last is the plain one
}

type form struct {
	name     string // of the file
	encoding string // br, gzip or ""
	etag     string
	size     int64
}

// newPages reads the names and hashes of the files; their content stays where
// it is, in the binary.
func newPages(dist fs.FS) (*pages, error) {
	p := &pages{dist: dist, files: map[string]*page{}}
	if dist == nil {
		return p, nil
	}
	err := fs.WalkDir(dist, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(path.Base(name), ".") || slices.Contains([]string{".br", ".gz"}, path.Ext(name)) {
			return err
		}
		pg, err := p.load(name)
		if err == nil {
			p.files[name] = pg
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the pages: %w", err)
	}
	return p, nil
}

func (p *pages) load(name string) (*page, error) {
	pg := &page{mime: mimeOf(name), cache: "no-cache"}
	if strings.HasPrefix(name, "assets/") {
		pg.cache = "public, max-age=31536000, immutable"
	}
	for _, e := range [...]struct{ ext, encoding string }{{".br", "br"}, {".gz", "gzip"}, {"", ""}} {
		f, err := p.measure(name + e.ext)
		if errors.Is(err, fs.ErrNotExist) && e.ext != "" {
			continue
		}
		if err != nil {
			return nil, err
		}
		f.encoding = e.encoding
		pg.forms = append(pg.forms, f)
	}
	return pg, nil
}

func (p *pages) measure(name string) (form, error) {
	f, err := p.dist.Open(name)
	if err != nil {
		return form{}, err
	}
	defer f.Close() //nolint:errcheck // read only
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	if err != nil {
		return form{}, err
	}
	return form{name: name, size: n, etag: `"` + base64.RawURLEncoding.EncodeToString(sum.Sum(nil)[:12]) + `"`}, nil
}

// mimeOf is the type of a file by its ending. The system's own table is asked
// last: it differs between machines.
func mimeOf(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js", ".mjs":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".json", ".map":
		return "application/json"
	case ".webmanifest":
		return "application/manifest+json"
	case ".woff2":
		return "font/woff2"
	case ".txt":
		return "text/plain; charset=utf-8"
	case ".png":
		return "image/png"
	case ".ico":
		return "image/x-icon"
	}
	if t := mime.TypeByExtension(path.Ext(name)); t != "" {
		return t
	}
	return "application/octet-stream"
}

// spaPaths are the addresses that the front end draws.
func spaPaths() []string {
	return []string{"/{$}", "/login", "/setup", "/c/{id}", "/keys", "/usage", "/account"}
}

const indexPage = "index.html"

func (s *Server) pageRoutes() {
	for _, p := range spaPaths() {
		s.route("GET "+p, Public(), raw(s.index), doc{})
	}
	s.route("/", Public(), raw(s.file), doc{})
}

func (s *Server) index(q *request) error {
	pg := s.pages.files[indexPage]
	if pg == nil {
		return plain(q.w, http.StatusServiceUnavailable,
			"Jimu runs, but its pages are not in this binary.\nBuild it with: make build\nThe API works: see /api/openapi.json\n")
	}
	return s.serve(q, pg)
}

func (s *Server) file(q *request) error {
	pg := s.pages.files[strings.TrimPrefix(q.r.URL.Path, "/")]
	if pg == nil || !safe(q.r.Method) {
		if strings.Contains(q.r.Header.Get("Accept"), "text/html") {
			return plain(q.w, http.StatusNotFound, "There is no such page here. The chat is at /\n")
		}
		return jimu.Errorf(jimu.NotFound, "there is no such page here")
	}
	return s.serve(q, pg)
}

func (s *Server) serve(q *request, pg *page) error {
	h := q.w.Header()
	f := pg.choose(q.r.Header.Get("Accept-Encoding"))
	if len(pg.forms) > 1 {
		h.Set("Vary", "Accept-Encoding")
	}
	h.Set("Cache-Control", pg.cache)
	h.Set("ETag", f.etag)
	if matchesETag(q.r.Header.Get("If-None-Match"), f.etag) {
		q.w.WriteHeader(http.StatusNotModified)
		return nil
	}
	file, err := s.pages.dist.Open(f.name)
	if err != nil {
		return fmt.Errorf("opening a page: %w", err)
	}
	defer file.Close() //nolint:errcheck // read only
	h.Set("Content-Type", pg.mime)
	h.Set("Content-Length", strconv.FormatInt(f.size, 10))
	if f.encoding != "" {
		h.Set("Content-Encoding", f.encoding)
	}
	defer deadline(q.w, apiTimeout)()
	q.w.WriteHeader(http.StatusOK)
	if q.r.Method != http.MethodHead {
		_, _ = io.Copy(q.w, file) // a client that has gone is no error of ours
	}
	return nil
}

// choose picks the smallest form that the client takes.
func (pg *page) choose(accept string) *form {
	for i := range pg.forms {
		if e := pg.forms[i].encoding; e == "" || takes(accept, e) {
			return &pg.forms[i]
		}
	}
	return &pg.forms[len(pg.forms)-1]
}

// takes reports whether an Accept-Encoding names an encoding, and not with
// q=0.
func takes(accept, encoding string) bool {
	for part := range strings.SplitSeq(accept, ",") {
		name, params, _ := strings.Cut(part, ";")
		if !strings.EqualFold(strings.TrimSpace(name), encoding) {
			continue
		}
		weight, ok := strings.CutPrefix(strings.ReplaceAll(strings.ToLower(params), " ", ""), "q=")
		return !ok || strings.Trim(weight, "0.") != ""
	}
	return false
}

func matchesETag(header, etag string) bool {
	for part := range strings.SplitSeq(header, ",") {
		part = strings.TrimSpace(part)
		if part == "*" || strings.TrimPrefix(part, "W/") == etag {
			return true
		}
	}
	return false
}

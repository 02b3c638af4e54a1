package host

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"

	"github.com/jimu-ai/jimu"
)

var secretType = reflect.TypeFor[jimu.Secret]() //nolint:gochecknoglobals // a constant

// maxSecret is the largest file a secret may be in, in bytes.
const maxSecret = 64 << 10

// Resolve returns the value that a secret stands for: that of an environment
// variable for env:NAME, a file's content without the newline at its end for
// file:PATH, and the secret itself otherwise.
//
// A file that others may read or write is refused, except where a container's
// runtime put it (below /run/secrets) or where it holds a public key or a
// certificate: those are no secrets.
func (h *Host) Resolve(s jimu.Secret) (jimu.Secret, error) {
	if name, ok := strings.CutPrefix(s.Reveal(), "env:"); ok {
		v, ok := h.o.Env(name)
		if !ok || v == "" {
			return jimu.Secret{}, fmt.Errorf("the environment variable %s is not set", name)
		}
		return jimu.NewSecret(v), nil
	}
	if path, ok := strings.CutPrefix(s.Reveal(), "file:"); ok {
		if !filepath.IsAbs(path) {
			path = filepath.Join(h.o.Dir, path)
		}
		return readSecret(path)
	}
	return s, nil
}

func readSecret(path string) (jimu.Secret, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return jimu.Secret{}, fmt.Errorf("there is no file %s", path)
		}
		return jimu.Secret{}, fmt.Errorf("reading the secret: %w", err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return jimu.Secret{}, fmt.Errorf("reading the secret: %w", err)
	}
	if len(b) > maxSecret {
		return jimu.Secret{}, fmt.Errorf("file %s is larger than 64 KiB, which no secret is", path)
	}
	info, err := f.Stat()
	if err != nil {
		return jimu.Secret{}, fmt.Errorf("reading the secret: %w", err)
	}
	if tooOpen(path, info.Mode(), b) {
		return jimu.Secret{}, fmt.Errorf("file %s can be read or changed by others (mode %04o); run: chmod 600 %s", path, info.Mode().Perm(), path)
	}
	b = bytes.TrimRight(b, "\r\n")
	if len(b) == 0 {
		return jimu.Secret{}, fmt.Errorf("file %s is empty", path)
	}
	return jimu.NewSecret(string(b)), nil
}

func tooOpen(path string, mode fs.FileMode, content []byte) bool {
	if runtime.GOOS == "windows" {
		return false // modes say nothing there
	}
	const groupWrites, othersRead, othersWrite = 0o020, 0o004, 0o002
	if mode&(groupWrites|othersWrite) != 0 {
		return true
	}
	mounted := strings.HasPrefix(path, "/run/secrets/") || strings.HasPrefix(path, "/var/run/secrets/")
	public := bytes.Contains(content, []byte("-----BEGIN PUBLIC KEY-----")) || bytes.Contains(content, []byte("-----BEGIN CERTIFICATE-----"))
	private := bytes.Contains(content, []byte("PRIVATE KEY-----"))
	return mode&othersRead != 0 && !mounted && (!public || private)
}

// resolveAll replaces every secret below v by its value, and calls each for it.
func (h *Host) resolveAll(f *filler, path string, v reflect.Value, each func(value string)) {
	if v.Type() == secretType {
		h.resolveOne(f, path, v, each)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			h.resolveAll(f, path, v.Elem(), each)
		}
	case reflect.Struct:
		for _, fd := range fieldsOf(v.Type()) {
			if sub, err := v.FieldByIndexErr(fd.index); err == nil { // not below a nil embedded pointer
				h.resolveAll(f, join(path, fd.key), sub, each)
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			h.resolveAll(f, path+"["+strconv.Itoa(i)+"]", v.Index(i), each)
		}
	case reflect.Map:
		for _, k := range sortedKeys(v) {
			e := reflect.New(v.Type().Elem()).Elem()
			e.Set(v.MapIndex(k))
			h.resolveAll(f, join(path, k.String()), e, each)
			v.SetMapIndex(k, e)
		}
	default:
	}
}

func (h *Host) resolveOne(f *filler, path string, v reflect.Value, each func(value string)) {
	s, ok := reflect.TypeAssert[jimu.Secret](v)
	if !ok || s.IsZero() {
		return
	}
	value, err := h.Resolve(s)
	if err != nil {
		f.bad(path, "%s: %v", path, err)
		return
	}
	v.Set(reflect.ValueOf(value))
	each(value.Reveal())
}

package seal

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/jimu-ai/jimu"
)

// KeyLen is the length of a master key in bytes.
const KeyLen = 32

const idLen = 8

// Key is a master key. It prints and logs as ***.
type Key struct{ b [KeyLen]byte }

// NewKey makes a random key.
func NewKey() Key {
	var k Key
	_, _ = rand.Read(k.b[:]) // never fails (crypto/rand)
	return k
}

// ParseKey reads a key from its text: 32 bytes in hexadecimal or base64,
// spaces and line ends around it ignored.
func ParseKey(text string) (Key, error) {
	text = strings.TrimSpace(text)
	var k Key
	b, err := hex.DecodeString(text)
	if err != nil {
		plain := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
		b, err = base64.RawStdEncoding.DecodeString(plain)
	}
	if err != nil || len(b) != KeyLen || [KeyLen]byte(b) == k.b {
		return k, jimu.Errorf(jimu.Invalid, "the master key is not 32 random bytes in hexadecimal or base64: make one with `openssl rand -hex 32`")
	}
	k.b = [KeyLen]byte(b)
	return k, nil
}

// LoadOrCreate reads the key in a file, or makes the file, for its owner
// alone. It reports whether it was made.
func LoadOrCreate(file string) (k Key, made bool, err error) {
	k, err = load(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, false, err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return Key{}, false, fmt.Errorf("making the folder of the master key: %w", err)
	}
	k = NewKey()
	err = create(file, k)
	if errors.Is(err, fs.ErrExist) { // another process was first
		k, err = load(file)
		return k, false, err
	}
	if err != nil {
		return Key{}, false, fmt.Errorf("writing the master key: %w", err)
	}
	return k, true, nil
}

func load(file string) (Key, error) {
	b, err := os.ReadFile(file) //nolint:gosec // the operator names the file
	if err != nil {
		return Key{}, fmt.Errorf("reading the master key: %w", err)
	}
	k, err := ParseKey(string(b))
	if err != nil {
		return Key{}, fmt.Errorf("%s: %w", file, err)
	}
	return k, nil
}

// create writes a new file whole: it is linked to its name once its content is
// on the disk, and never replaces one.
func create(file string, k Key) error {
	f, err := os.CreateTemp(filepath.Dir(file), ".key-*") // 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(hex.EncodeToString(k.b[:]) + "\n")
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Link(f.Name(), file)
	}
	return errors.Join(err, os.Remove(f.Name()))
}

// id names the key without telling anything of it.
func (k Key) id() [idLen]byte {
	mac := hmac.New(sha256.New, k.b[:])
	mac.Write([]byte("jimu master key id"))
	return [idLen]byte(mac.Sum(nil))
}

// ID names the key, for messages.
func (k Key) ID() string {
	id := k.id()
	return hex.EncodeToString(id[:])
}

func (k Key) isZero() bool { return k == Key{} }

const masked = "***"

// String implements [fmt.Stringer].
func (Key) String() string { return masked }

// GoString implements [fmt.GoStringer].
func (Key) GoString() string { return masked }

// LogValue implements [slog.LogValuer].
func (Key) LogValue() slog.Value { return slog.StringValue(masked) }

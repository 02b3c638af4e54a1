package seal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func sealer(tb testing.TB, keys ...Key) *Sealer {
	tb.Helper()
	s, err := New(keys[0], keys[1:]...)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestSealOpens(t *testing.T) {
	t.Parallel()
	s := sealer(t, NewKey())
	for _, plain := range []string{"", "x", strings.Repeat("积木", 10000)} {
		a, err := s.Seal("t", "c", "r", []byte(plain))
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.Seal("t", "c", "r", []byte(plain))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(a, b) {
			t.Error("two seals of the same value are equal")
		}
		if len(plain) > 1 && bytes.Contains(a, []byte(plain)) {
			t.Error("the value can be read in its sealed form")
		}
		got, err := s.Open("t", "c", "r", a)
		if err != nil || string(got) != plain {
			t.Errorf("%d bytes came back as %d (%v)", len(plain), len(got), err)
		}
	}
}

func TestSealedElsewhereDoesNotOpen(t *testing.T) {
	t.Parallel()
	s := sealer(t, NewKey())
	sealed, err := s.Seal("table", "column", "row", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range [][3]string{
		{"other", "column", "row"},
		{"table", "other", "row"},
		{"table", "column", "other"},
		{"tablec", "olumn", "row"},
		{"table", "columnrow", ""},
		{"", "", ""},
	} {
		if _, err := s.Open(p[0], p[1], p[2], sealed); !errors.Is(err, ErrDamaged) {
			t.Errorf("%q: %v", p, err)
		}
	}
}

func TestChangedDoesNotOpen(t *testing.T) {
	t.Parallel()
	s := sealer(t, NewKey())
	sealed, err := s.Seal("t", "c", "r", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := s.Seal("t", "c", "r", []byte("public"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := s.Open("t", "c", "r", changed); err == nil {
			t.Errorf("byte %d changed, and it opens", i)
		}
		if _, err := s.Open("t", "c", "r", sealed[:i]); err == nil {
			t.Errorf("cut to %d bytes, and it opens", i)
		}
	}
	mixed := append(bytes.Clone(sealed[:header+wrapped]), other[header+wrapped:]...)
	if _, err := s.Open("t", "c", "r", mixed); !errors.Is(err, ErrDamaged) {
		t.Errorf("the data key of one value opens another: %v", err)
	}
}

func TestMasterKeyChanges(t *testing.T) {
	t.Parallel()
	first, second := NewKey(), NewKey()
	old := sealer(t, first)
	sealed, err := old.Seal("t", "c", "r", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	both := sealer(t, second, first)
	if got, err := both.Open("t", "c", "r", sealed); err != nil || string(got) != "secret" {
		t.Errorf("%q, %v", got, err)
	}
	again, err := both.Seal("t", "c", "r", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sealer(t, second).Open("t", "c", "r", again); err != nil {
		t.Errorf("what is sealed after the change needs the old key: %v", err)
	}
	_, err = sealer(t, second).Open("t", "c", "r", sealed)
	if e, ok := errors.AsType[*OtherKeyError](err); !ok || e.ID != first.ID() {
		t.Errorf("the key that is missing is not named: %v", err)
	}
	if _, err := New(Key{}); err == nil {
		t.Error("no key is accepted as a key")
	}
}

func TestParseKey(t *testing.T) {
	t.Parallel()
	const hexKey = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eff"
	want, err := ParseKey(hexKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		" " + strings.ToUpper(hexKey) + "\r\n",
		"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHv8=",
		"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHv8",
		"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHv8=\n",
	} {
		if k, err := ParseKey(text); err != nil || k != want {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{
		"", "secret", hexKey[2:], hexKey + "00", strings.Repeat("0", 64),
		"AAECAwQFBgcICQoLDA0ODw==", strings.Repeat("é", 32), "correct horse battery staple 123",
	} {
		if _, err := ParseKey(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

func TestKeyIsNotPrinted(t *testing.T) {
	t.Parallel()
	k := NewKey()
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", k)
	for _, s := range []string{fmt.Sprint(k), fmt.Sprintf("%v %+v %#v %s %x", k, k, k, k, k), log.String()} {
		if strings.Contains(s, hex.EncodeToString(k.b[:4])) || !strings.Contains(s, "*") && !strings.Contains(s, "2a2a2a") {
			t.Errorf("printed as %q", s)
		}
	}
}

func TestLoadOrCreate(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sub", "jimu.key")
	keys, made := make([]Key, 8), make([]bool, 8)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			var err error
			if keys[i], made[i], err = LoadOrCreate(file); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	n := 0
	for i := range keys {
		if keys[i] != keys[0] || keys[i].isZero() {
			t.Error("two starts at once made two keys")
		}
		if made[i] {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d of them made the file", n)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode() != fs.FileMode(0o600) {
		t.Errorf("the file has mode %v (%v)", info.Mode(), err)
	}
	left, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(left) != 1 {
		t.Errorf("files left: %v (%v)", left, err)
	}
	if err := os.WriteFile(file, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := LoadOrCreate(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a bad file: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	k, err := ParseKey("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eff")
	if err != nil {
		f.Fatal(err)
	}
	s := sealer(f, k)
	good, err := s.Seal("t", "c", "r", []byte("secret"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:minLen])
	f.Add([]byte{version})
	f.Fuzz(func(t *testing.T, sealed []byte) {
		plain, err := s.Open("t", "c", "r", sealed)
		if err == nil && string(plain) != "secret" { // nothing else was ever sealed with this key
			t.Errorf("%x opened as %q", sealed, plain)
		}
		if err != nil && bytes.Equal(sealed, good) {
			t.Error(err)
		}
	})
}

package store

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/jimu-ai/jimu"
)

const (
	manifestName   = "manifest.json"
	manifestFormat = 1
	maxManifest    = 1 << 16
)

// manifest is the first file of a backup and says what the others must be.
type manifest struct {
	Format  int              `json:"format"`
	Created time.Time        `json:"created"`
	Schema  map[string]int64 `json:"schema"` // line of migrations → version
	Files   []manifestFile   `json:"files"`
}

type manifestFile struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Backup writes everything that SQLite holds into one new file, from one
// moment for each of its two databases, while the service goes on. The master
// key is not in it: without that key the secrets in it cannot be read.
func (s *Store) Backup(ctx context.Context, file string) error {
	if s.Main.dialect != SQLite {
		return jimu.Errorf(jimu.Invalid, "jimu backup is for SQLite; back a %s database up with %s", s.Main.dialect, s.Main.dialect.pick("", "mysqldump --single-transaction", "pg_dump"))
	}
	if _, err := os.Lstat(file); err == nil {
		return jimu.Errorf(jimu.Conflict, "%s exists already: name a new file", file)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(file), ".jimu-backup-*")
	if err != nil {
		return fmt.Errorf("making the backup: %w", err)
	}
	err = s.backup(ctx, tmp, file)
	return errors.Join(err, os.RemoveAll(tmp))
}

func (s *Store) backup(ctx context.Context, tmp, file string) error {
	m := manifest{Format: manifestFormat, Created: s.now().UTC(), Schema: map[string]int64{}}
	for _, l := range s.lines() {
		name := filepath.Base(l.db.file)
		if err := copySQLite(ctx, l.db.file, filepath.Join(tmp, name)); err != nil {
			return fmt.Errorf("copying %s: %w", name, err)
		}
		f, err := describe(filepath.Join(tmp, name))
		if err != nil {
			return err
		}
		m.Files = append(m.Files, f)
		version, err := schemaVersion(ctx, filepath.Join(tmp, name), l.name)
		if err != nil {
			return fmt.Errorf("reading the schema version of %s: %w", name, err)
		}
		m.Schema[l.name] = version
	}
	archive := filepath.Join(tmp, "archive")
	if err := writeArchive(archive, tmp, &m); err != nil {
		return fmt.Errorf("writing the backup: %w", err)
	}
	// A link never replaces what somebody else put there meanwhile.
	if err := os.Link(archive, file); err != nil {
		return fmt.Errorf("naming the backup: %w", err)
	}
	return syncFolder(filepath.Dir(file))
}

// copySQLite writes a consistent copy, on a connection of its own so that no
// reader or writer waits.
func copySQLite(ctx context.Context, from, to string) error {
	pool, err := sqlitePool(from)
	if err != nil {
		return err
	}
	return errors.Join(vacuumInto(ctx, pool, to), pool.Close())
}

// schemaVersion reads the newest migration of a line that a database file has.
func schemaVersion(ctx context.Context, file, line string) (version int64, err error) {
	pool, err := sqlitePool(file, "query_only(1)")
	if err != nil {
		return 0, err
	}
	var newest sql.NullInt64
	err = pool.QueryRowContext(ctx, "SELECT MAX(version) FROM schema_migrations WHERE line = ?", line).Scan(&newest)
	return newest.Int64, errors.Join(err, pool.Close())
}

func describe(file string) (manifestFile, error) {
	f, err := os.Open(file) //nolint:gosec // our own copy
	if err != nil {
		return manifestFile{}, err
	}
	h := sha256.New()
	n, err := io.Copy(h, f)
	return manifestFile{Name: filepath.Base(file), Size: n, SHA256: hex.EncodeToString(h.Sum(nil))}, errors.Join(err, f.Close())
}

func writeArchive(archive, dir string, m *manifest) error {
	out, err := os.OpenFile(archive, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // in the folder just made
	if err != nil {
		return err
	}
	err = fillArchive(tar.NewWriter(out), dir, m)
	if err == nil {
		err = out.Sync()
	}
	return errors.Join(err, out.Close())
}

func fillArchive(w *tar.Writer, dir string, m *manifest) error {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Name: manifestName, Mode: 0o600, Size: int64(len(text)), ModTime: m.Created}); err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	for _, file := range m.Files {
		if err := w.WriteHeader(&tar.Header{Name: file.Name, Mode: 0o600, Size: file.Size, ModTime: m.Created}); err != nil {
			return err
		}
		f, err := os.Open(filepath.Join(dir, file.Name)) //nolint:gosec // our own copy
		if err != nil {
			return err
		}
		_, err = io.Copy(w, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return w.Close()
}

// Restore puts a backup into a data folder that holds nothing yet. The folder
// gets the databases only once all of them are whole and of a schema that this
// program knows.
func Restore(ctx context.Context, file, data string) error {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return fmt.Errorf("making the data folder: %w", err)
	}
	lock, err := lockFolder(data)
	if err != nil {
		return err
	}
	return errors.Join(restore(ctx, file, data), lock.release())
}

func restore(ctx context.Context, file, data string) error {
	there, err := os.ReadDir(data)
	if err != nil {
		return fmt.Errorf("reading the data folder: %w", err)
	}
	for _, f := range there {
		if f.Name() != "lock" {
			return jimu.Errorf(jimu.Conflict, "the data folder %s is not empty (it has %s): restore into a new one, or move the old one away first", data, f.Name())
		}
	}
	in, err := os.Open(file) //nolint:gosec // the operator names the file
	if err != nil {
		return fmt.Errorf("opening the backup: %w", err)
	}
	defer in.Close() //nolint:errcheck // only read
	tmp, err := os.MkdirTemp(data, ".restore-*")
	if err != nil {
		return fmt.Errorf("making a folder to restore in: %w", err)
	}
	return errors.Join(unpack(ctx, in, tmp, data), os.RemoveAll(tmp))
}

func unpack(ctx context.Context, in io.Reader, tmp, data string) error {
	r := tar.NewReader(in)
	m, err := readManifest(r)
	if err != nil {
		return err
	}
	for _, want := range m.Files {
		if err := unpackFile(r, want, tmp); err != nil {
			return damaged(err)
		}
		if err := checkSQLite(ctx, filepath.Join(tmp, want.Name)); err != nil {
			return damaged(err)
		}
	}
	for _, f := range m.Files {
		if err := os.Rename(filepath.Join(tmp, f.Name), filepath.Join(data, f.Name)); err != nil {
			return fmt.Errorf("putting %s in place: %w", f.Name, err)
		}
	}
	return syncFolder(data)
}

func damaged(err error) error {
	return &jimu.Error{Code: jimu.Invalid, Text: "the backup is damaged; nothing was restored: use another one", Err: err}
}

func readManifest(r *tar.Reader) (*manifest, error) {
	h, err := r.Next()
	if err != nil || h.Name != manifestName {
		return nil, &jimu.Error{Code: jimu.Invalid, Text: "this is not a backup that jimu made", Err: err}
	}
	var m manifest
	if err := json.NewDecoder(io.LimitReader(r, maxManifest)).Decode(&m); err != nil {
		return nil, damaged(err)
	}
	if m.Format != manifestFormat {
		return nil, jimu.Errorf(jimu.Conflict, "the backup has format %d, this program knows %d: restore it with the jimu version that made it", m.Format, manifestFormat)
	}
	for _, line := range []string{"main", "history"} {
		all, err := loadMigrations(migrationFiles, "migrations/"+line, SQLite)
		if err != nil {
			return nil, err
		}
		if m.Schema[line] > int64(len(all)) {
			return nil, jimu.Errorf(jimu.Conflict, "the backup is of a newer jimu: restore it with that version")
		}
	}
	if len(m.Files) != 2 || m.Files[0].Name != mainFile || m.Files[1].Name != historyFile {
		return nil, damaged(errors.New("the manifest names other files than the two databases"))
	}
	return &m, nil
}

// unpackFile writes the next file of the archive and checks that it is the
// one that the manifest means.
func unpackFile(r *tar.Reader, want manifestFile, dir string) error {
	h, err := r.Next()
	if err != nil {
		return err
	}
	if h.Name != want.Name || h.Size != want.Size {
		return fmt.Errorf("%s of %d bytes is where %s of %d bytes should be", h.Name, h.Size, want.Name, want.Size)
	}
	out, err := os.OpenFile(filepath.Join(dir, want.Name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // one of two constant names
	if err != nil {
		return err
	}
	sum := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, sum), io.LimitReader(r, want.Size))
	if err == nil {
		err = out.Sync()
	}
	if err := errors.Join(err, out.Close()); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != want.SHA256 {
		return fmt.Errorf("%s has SHA-256 %s, want %s", want.Name, got, want.SHA256)
	}
	return nil
}

func checkSQLite(ctx context.Context, file string) error {
	pool, err := sqlitePool(file, "query_only(1)")
	if err != nil {
		return err
	}
	var verdict string
	err = pool.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict)
	if err == nil && verdict != "ok" {
		err = fmt.Errorf("%s: %s", filepath.Base(file), verdict)
	}
	return errors.Join(err, pool.Close())
}

// syncFolder makes new names in a folder last. Windows does that by itself.
func syncFolder(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir) //nolint:gosec // the operator names the folder
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

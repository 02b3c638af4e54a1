package store_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/jimu-ai/jimu/internal/store"
)

// TestKilled kills a process that commits one number after the other and says
// so. Everything it said must be there, the data folder must be free, and
// nothing that was not committed may show.
func TestKilled(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	for range 3 {
		said := killedAfter(t, data, 20)
		s, err := store.Open(t.Context(), store.Options{Data: data})
		if err != nil {
			t.Fatal(err)
		}
		a, b := revision(t, s, "a"), revision(t, s, "b")
		if a < said || a != b {
			t.Errorf("it said %d; there is %d and %d", said, a, b)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// killedAfter runs writeUntilKilled in a process of its own, kills it once it has said so many
// numbers, and returns the last one it said.
func killedAfter(t *testing.T, data string, lines int) (last int64) {
	t.Helper()
	cmd := exec.Command(os.Args[0], data)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewScanner(out)
	for n := 0; in.Scan(); n++ {
		text, ok := strings.CutPrefix(in.Text(), "committed ")
		if !ok {
			t.Fatalf("the process says %q", in.Text())
		}
		if last, err = strconv.ParseInt(text, 10, 64); err != nil {
			t.Fatal(err)
		}
		if n == lines {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the process ended by itself")
	}
	return last
}

// writeUntilKilled is the process that [TestKilled] kills.
func writeUntilKilled(data string) error {
	ctx := context.Background()
	s, err := store.Open(ctx, store.Options{Data: data})
	if err != nil {
		return err
	}
	for {
		err := s.Main.Tx(ctx, func(tx *store.Tx) error {
			if err := tx.Bump(ctx, "a"); err != nil {
				return err
			}
			return tx.Bump(ctx, "b")
		})
		if err != nil {
			return err
		}
		rev, err := s.Main.Revision(ctx, "a")
		if err != nil {
			return err
		}
		fmt.Printf("committed %d\n", rev)
	}
}

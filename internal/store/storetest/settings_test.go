package storetest

import (
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/seal"
	"github.com/jimu-ai/jimu/internal/store"
)

func TestSettings(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		s, ctx := open(), t.Context()
		settings := store.NewSettings(s)
		type site struct {
			Name string
			N    *int64
		}
		got := site{Name: "untouched"}
		if ok, err := settings.Get(ctx, "site", &got); err != nil || ok || got.Name != "untouched" {
			t.Errorf("%v, %v, %+v", ok, err, got)
		}
		for _, want := range []site{{Name: "a"}, {Name: "积木 🧱 '\\ \x00", N: new(int64(1) << 62)}} {
			if err := settings.Set(ctx, "site", want); err != nil {
				t.Fatal(err)
			}
			var got site
			if ok, err := settings.Get(ctx, "site", &got); err != nil || !ok {
				t.Errorf("%v, %v", ok, err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		}
		for range 2 {
			if err := settings.Delete(ctx, "site"); err != nil {
				t.Fatal(err)
			}
		}
		if ok, err := settings.Get(ctx, "site", &got); err != nil || ok {
			t.Errorf("%v, %v", ok, err)
		}
		if rev, err := s.Main.Revision(ctx, "settings"); err != nil || rev != 4 {
			t.Errorf("revision %d, %v", rev, err)
		}
	})
}

// TestMasterKey starts with two keys at once: one of them becomes the
// database's, and from then on only that one is accepted.
func TestMasterKey(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		s := open()
		var sealers [2]*seal.Sealer
		var errs [2]error
		var wg sync.WaitGroup
		for i := range sealers {
			var err error
			if sealers[i], err = seal.New(seal.NewKey()); err != nil {
				t.Fatal(err)
			}
			wg.Go(func() { errs[i] = store.NewSettings(s).CheckMasterKey(t.Context(), sealers[i]) })
		}
		wg.Wait()
		right, wrong := 0, 1
		if errs[0] != nil {
			right, wrong = 1, 0
		}
		for range 2 {
			if err := store.NewSettings(s).CheckMasterKey(t.Context(), sealers[right]); err != nil {
				t.Error(err)
			}
			err := store.NewSettings(s).CheckMasterKey(t.Context(), sealers[wrong])
			if codeOf(err) != jimu.Conflict || !strings.Contains(err.Error(), "master_key") {
				t.Errorf("the wrong key: %v", err)
			}
		}
		if errs[right] != nil || errs[wrong] == nil {
			t.Errorf("both keys were treated alike: %v", errs)
		}
	})
}

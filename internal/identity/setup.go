package identity

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"sync"
	"time"

	"github.com/jimu-ai/jimu"
)

const (
	setupLasts = 30 * time.Minute
	setupBytes = 16
)

// setup is the one-time secret of a site without an owner. Only its hash is
// kept, in memory: a restart makes a new one and the old one is void.
type setup struct {
	mu    sync.Mutex
	hash  []byte // nil: there is none
	until time.Time
}

// NeedsSetup reports whether the site has no owner yet.
func (i *Identity) NeedsSetup(ctx context.Context) (bool, error) {
	if i.owned.Load() {
		return false, nil
	}
	has, err := i.people.HasOwner(ctx)
	if err != nil {
		return false, err
	}
	if has {
		i.owned.Store(true)
	}
	return !has, nil
}

// NewSetup makes the secret of the setup link, or "" if the site has an owner.
// It replaces the one before.
func (i *Identity) NewSetup(ctx context.Context) (string, error) {
	needed, err := i.NeedsSetup(ctx)
	if err != nil || !needed {
		return "", err
	}
	var b [setupBytes]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	secret := hex.EncodeToString(b[:])
	i.setup.mu.Lock()
	defer i.setup.mu.Unlock()
	i.setup.hash, i.setup.until = hashToken(secret), i.now().Add(setupLasts)
	return secret, nil
}

// CheckSetup says whether a setup may go on with this secret: [jimu.Conflict]
// if there is an owner, [jimu.Forbidden] if the secret is not right.
func (i *Identity) CheckSetup(ctx context.Context, secret string) error {
	needed, err := i.NeedsSetup(ctx)
	if err != nil {
		return err
	}
	if !needed {
		return errOwned()
	}
	i.setup.mu.Lock()
	defer i.setup.mu.Unlock()
	s := &i.setup
	// Hashes are compared, so that neither content nor length shows in time.
	if s.hash == nil || !i.now().Before(s.until) || subtle.ConstantTimeCompare(s.hash, hashToken(secret)) != 1 {
		return &jimu.Error{
			Code: jimu.Forbidden, Param: "secret",
			Text: "the setup link is wrong or older than 30 minutes; start jimu again for a new one",
		}
	}
	return nil
}

func errOwned() error {
	return jimu.Errorf(jimu.Conflict, "this site has an owner already; sign in")
}

// Setup makes the first owner and starts his session. The secret ends with it.
// Of any number of calls at the same time, on any number of replicas, one
// makes the owner.
func (i *Identity) Setup(ctx context.Context, secret, name, password string) (string, *jimu.Caller, error) {
	if err := i.CheckSetup(ctx, secret); err != nil {
		return "", nil, err
	}
	u, phc, err := i.newUser(ctx, name, jimu.RoleOwner, password)
	if err != nil {
		return "", nil, err
	}
	if err := i.people.AddFirstOwner(ctx, u, phc); err != nil {
		if codeOf(err) == jimu.Conflict {
			return "", nil, i.firstOwnerConflict(ctx, err)
		}
		return "", nil, err
	}
	i.owned.Store(true)
	i.setup.mu.Lock()
	i.setup.hash = nil
	i.setup.mu.Unlock()
	return i.start(ctx, u)
}

// firstOwnerConflict tells a taken name from an owner who came first.
func (i *Identity) firstOwnerConflict(ctx context.Context, err error) error {
	needed, again := i.NeedsSetup(ctx)
	if again != nil {
		return again
	}
	if needed {
		return taken(err)
	}
	return errOwned()
}

package identity

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"slices"
	"unicode"
	"unicode/utf8"

	"github.com/jimu-ai/jimu"
)

const (
	maxKeys       = 200 // of one user, not counting revoked and expired ones
	maxKeyModels  = 100
	maxModelBytes = 190
	keyTail       = 4
	keyPage       = 100
)

// CreateKey makes an API key of a user. Of the spec it takes the name, models,
// limit, limits and expiry. The key itself is returned here and never again.
//
// once, if not "", names the request: a second one of the same name is a
// [jimu.Conflict], so that a repeated request cannot make a second key.
func (i *Identity) CreateKey(ctx context.Context, user string, spec *jimu.Key, once string) (*jimu.Key, string, error) {
	now := i.now()
	name, err := i.checkKey(spec)
	if err != nil {
		return nil, "", err
	}
	if err := i.checkKeyCount(ctx, user); err != nil {
		return nil, "", err
	}
	secret := jimu.NewKey()
	hash, ok := jimu.HashKey(secret)
	if !ok {
		return nil, "", errors.New("a new key is not well-formed")
	}
	k := &jimu.Key{
		ID: keyID(jimu.NewID(now), user, once), User: user, Name: name, Tail: secret[len(secret)-keyTail:],
		Models: slices.Clone(spec.Models), Limit: spec.Limit, Limits: spec.Limits, Created: now, Expires: spec.Expires,
	}
	if err := i.people.AddKey(ctx, k, hash); err != nil {
		if once != "" && codeOf(err) == jimu.Conflict {
			return nil, "", &jimu.Error{Code: jimu.Conflict, Err: err, Text: "a key was made already with this Idempotency-Key, and a key is shown only once; delete it and make another"}
		}
		return nil, "", err
	}
	return k, secret, nil
}

// keyID derives the ID from the request's name, if it has one, so that the
// unique ID is what refuses a repetition.
func keyID(fresh, user, once string) string {
	if once == "" {
		return fresh
	}
	sum := sha256.Sum256([]byte("key\x00" + user + "\x00" + once))
	return base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding).EncodeToString(sum[:16])
}

func (i *Identity) checkKey(k *jimu.Key) (string, error) {
	bad := func(param, text string) (string, error) {
		return "", &jimu.Error{Code: jimu.Invalid, Param: param, Text: text}
	}
	name, err := cleanName(k.Name)
	if err != nil {
		return "", err
	}
	if len(k.Models) > maxKeyModels {
		return bad("models", "a key may name at most 100 models; none means all")
	}
	for _, m := range k.Models {
		if m == "" || len(m) > maxModelBytes || !utf8.ValidString(m) || slices.ContainsFunc([]rune(m), unicode.IsControl) {
			return bad("models", "a model's name must have 1 to 190 bytes")
		}
	}
	if k.Limit != nil && *k.Limit <= 0 {
		return bad("limit", "the limit must be above 0; leave it out for none")
	}
	if k.Limits.RPM < 0 || k.Limits.TPM < 0 || k.Limits.Concurrent < 0 {
		return bad("limits", "limits cannot be below 0; 0 is no limit")
	}
	if k.Expires != nil && !k.Expires.After(i.now()) {
		return bad("expires", "the expiry must be in the future")
	}
	return name, nil
}

// checkKeyCount bounds the routing snapshot, which holds every key.
func (i *Identity) checkKeyCount(ctx context.Context, user string) error {
	live, now := 0, i.now()
	for cursor := ""; ; {
		ks, next, err := i.people.Keys(ctx, user, cursor, keyPage)
		if err != nil {
			return err
		}
		for n := range ks {
			if ks[n].Revoked == nil && (ks[n].Expires == nil || ks[n].Expires.After(now)) {
				live++
			}
		}
		if live >= maxKeys {
			return jimu.Errorf(jimu.Conflict, "you have %d keys already; delete one that is not used any more", live)
		}
		if next == "" {
			return nil
		}
		cursor = next
	}
}

// Keys lists a user's keys, a page at a time.
func (i *Identity) Keys(ctx context.Context, user, cursor string, limit int) ([]jimu.Key, string, error) {
	return i.people.Keys(ctx, user, cursor, limit)
}

// KeyNames maps the IDs of a user's keys to their names.
func (i *Identity) KeyNames(ctx context.Context, user string) (map[string]string, error) {
	return i.people.KeyNames(ctx, user)
}

// RevokeKey ends a key of a user, in all replicas within a second.
func (i *Identity) RevokeKey(ctx context.Context, user, id string) error {
	return i.people.RevokeKey(ctx, user, id, i.now())
}

// Package identity is who may do what: users and their roles, passwords,
// sessions, API keys, and the first owner of a new site.
//
// It decides; where rows are kept is behind [People], and how a request
// carries a session or a key is the server's business. Callers of the model
// API are not looked up here: they are part of the routing snapshot.
package identity

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/jimu-ai/jimu"
)

// People is where users, sessions and keys are kept. Names are unique without
// regard to case. What is not there is [jimu.NotFound], what is there already
// [jimu.Conflict]. Of sessions and keys only hashes are known to it.
type People interface {
	// AddUser adds a user with a password in PHC form.
	AddUser(ctx context.Context, u *jimu.User, password string) error
	// AddFirstOwner adds an owner if there is none, and [jimu.Conflict]s
	// otherwise. Of any number of calls at the same time one succeeds.
	AddFirstOwner(ctx context.Context, u *jimu.User, password string) error
	HasOwner(ctx context.Context) (bool, error)
	UserByID(ctx context.Context, id string) (*jimu.User, error)
	UserByName(ctx context.Context, name string) (*jimu.User, error)
	Users(ctx context.Context, cursor string, limit int) (us []jimu.User, next string, err error)
	// ChangeUser runs change in the transaction that writes its result.
	// owners is the number of owners who are not disabled. It ends all
	// sessions of a user whose role or disabled state changed.
	ChangeUser(ctx context.Context, id string, change func(u *jimu.User, owners int) error) (*jimu.User, error)

	Password(ctx context.Context, user string) (string, error)
	// SetPassword ends all sessions of the user but the one with the hash keep.
	SetPassword(ctx context.Context, user, password string, keep []byte) error

	AddSession(ctx context.Context, hash []byte, user string, now time.Time) error
	Session(ctx context.Context, hash []byte) (u *jimu.User, created, seen time.Time, err error)
	TouchSession(ctx context.Context, hash []byte, seen time.Time) error
	// EndSession is no error if there is none.
	EndSession(ctx context.Context, hash []byte) error
	// PruneSessions removes what began or was last used before the given
	// times, and returns how many.
	PruneSessions(ctx context.Context, began, seen time.Time) (int64, error)

	AddKey(ctx context.Context, k *jimu.Key, hash jimu.KeyHash) error
	Keys(ctx context.Context, user, cursor string, limit int) (ks []jimu.Key, next string, err error)
	// RevokeKey is done only for the key's owner. Doing it again is no error.
	RevokeKey(ctx context.Context, user, id string, at time.Time) error
	// KeyNames maps the IDs of a user's keys, revoked ones too, to their names.
	KeyNames(ctx context.Context, user string) (map[string]string, error)
}

// Options are what an [Identity] needs.
type Options struct {
	People People
	Log    *slog.Logger
	Now    func() time.Time
}

// Identity answers who somebody is and decides what they may change.
type Identity struct {
	people  People
	log     *slog.Logger
	now     func() time.Time
	hashing chan struct{} // a place for each password being hashed at once
	tries   *throttle
	setup   setup
	owned   atomic.Bool // an owner was seen; owners never all go away
}

// New makes an Identity.
func New(o Options) *Identity {
	return &Identity{
		people: o.People, log: o.Log, now: o.Now,
		hashing: make(chan struct{}, hashesAtOnce),
		tries:   newThrottle(o.Now),
	}
}

// Operator is the caller of whoever has the machine: the command line. It may
// do what an owner may.
func Operator() *jimu.Caller { return &jimu.Caller{Name: "operator", Role: jimu.RoleOwner} }

// caller makes the caller that a user's session stands for.
func caller(u *jimu.User) *jimu.Caller {
	return &jimu.Caller{User: u.ID, Name: u.Name, Role: u.Role, Account: jimu.UserAccount(u.ID)}
}

const maxNameRunes = 64

// cleanName returns a name in the form it is stored in. Characters that cannot
// be seen are refused: two names that look the same would be two people.
func cleanName(name string) (string, error) {
	if !utf8.ValidString(name) {
		return "", &jimu.Error{Code: jimu.Invalid, Param: "name", Text: "the name is not valid UTF-8"}
	}
	name = norm.NFC.String(strings.TrimSpace(name))
	if n := utf8.RuneCountInString(name); n < 1 || n > maxNameRunes {
		return "", &jimu.Error{Code: jimu.Invalid, Param: "name", Text: "the name must have 1 to 64 characters"}
	}
	for _, r := range name {
		if !unicode.IsPrint(r) {
			return "", &jimu.Error{Code: jimu.Invalid, Param: "name", Text: "the name has a character that cannot be seen; leave it out"}
		}
	}
	return name, nil
}

// User returns a user by ID.
func (i *Identity) User(ctx context.Context, id string) (*jimu.User, error) {
	return i.people.UserByID(ctx, id)
}

// UserByName returns a user by name, in any case.
func (i *Identity) UserByName(ctx context.Context, name string) (*jimu.User, error) {
	name, err := cleanName(name)
	if err != nil {
		return nil, err
	}
	return i.people.UserByName(ctx, name)
}

// Users lists users, a page at a time.
func (i *Identity) Users(ctx context.Context, cursor string, limit int) ([]jimu.User, string, error) {
	return i.people.Users(ctx, cursor, limit)
}

// CreateUser makes a user. The actor must stand above the new user's role,
// unless he is an owner.
func (i *Identity) CreateUser(ctx context.Context, actor *jimu.Caller, name string, role jimu.Role, password string) (*jimu.User, error) {
	if err := mayManage(actor, role); err != nil {
		return nil, err
	}
	u, phc, err := i.newUser(ctx, name, role, password)
	if err != nil {
		return nil, err
	}
	if err := i.people.AddUser(ctx, u, phc); err != nil {
		return nil, taken(err)
	}
	return u, nil
}

func (i *Identity) newUser(ctx context.Context, name string, role jimu.Role, password string) (*jimu.User, string, error) {
	name, err := cleanName(name)
	if err != nil {
		return nil, "", err
	}
	if err := checkPassword(password, name); err != nil {
		return nil, "", err
	}
	phc, err := i.hash(ctx, password)
	if err != nil {
		return nil, "", err
	}
	now := i.now()
	return &jimu.User{ID: jimu.NewID(now), Name: name, Role: role, Created: now}, phc, nil
}

// taken says which field a conflict of a new user is about.
func taken(err error) error {
	if codeOf(err) == jimu.Conflict {
		return &jimu.Error{Code: jimu.Conflict, Param: "name", Text: "a user of this name exists already; choose another name", Err: err}
	}
	return err
}

// codeOf returns the code of an error made to be seen, or "".
func codeOf(err error) jimu.Code {
	if e, ok := errors.AsType[*jimu.Error](err); ok {
		return e.Code
	}
	return ""
}

// UpdateUser disables, enables or gives another role; nil leaves it. The actor
// must stand above the user's role before and after, unless he is an owner.
// The last owner stays.
func (i *Identity) UpdateUser(ctx context.Context, actor *jimu.Caller, id string, disabled *bool, role *jimu.Role) (*jimu.User, error) {
	return i.people.ChangeUser(ctx, id, func(u *jimu.User, owners int) error {
		if err := mayManage(actor, u.Role); err != nil {
			return err
		}
		wasOwner := u.Role == jimu.RoleOwner && !u.Disabled
		if role != nil {
			if err := mayManage(actor, *role); err != nil {
				return err
			}
			u.Role = *role
		}
		if disabled != nil {
			u.Disabled = *disabled
		}
		if wasOwner && owners <= 1 && (u.Role != jimu.RoleOwner || u.Disabled) {
			return jimu.Errorf(jimu.Conflict, "this is the last owner; make another owner first")
		}
		return nil
	})
}

// mayManage reports whether the actor may make or change users of a role.
func mayManage(actor *jimu.Caller, role jimu.Role) error {
	if !role.Valid() {
		return &jimu.Error{Code: jimu.Invalid, Param: "role", Text: "there is no such role; use user, support, finance, admin or owner"}
	}
	if actor.Role == jimu.RoleOwner || (actor.Role.AtLeast(jimu.RoleAdmin) && !role.AtLeast(actor.Role)) {
		return nil
	}
	return &jimu.Error{Code: jimu.Forbidden, Text: "only an owner may make or change a user of this role"}
}

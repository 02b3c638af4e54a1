package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/netip"
	"strings"
	"time"

	"github.com/jimu-ai/jimu"
)

// How long a session lasts. From admin up it is 12 hours in all; a shorter
// idle time would end the owner of a small site in the middle of a chat, and
// belongs to a step-up before dangerous actions, not to the session.
const (
	sessionIdle  = 7 * 24 * time.Hour
	sessionMost  = 30 * 24 * time.Hour
	adminMost    = 12 * time.Hour
	touchEvery   = time.Minute // how exactly the last use is kept
	sessionBytes = 32
)

// sessionToken makes a session and its hash. Only the hash is stored.
func sessionToken() (string, []byte) {
	var b [sessionBytes]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	token := base64.RawURLEncoding.EncodeToString(b[:])
	return token, hashToken(token)
}

func hashToken(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// errLogin is the one answer to a wrong name, a wrong password and a disabled
// user: it does not tell which names exist.
func errLogin() error {
	return jimu.Errorf(jimu.Unauthorized, "the name or the password is wrong")
}

func errSession() error {
	return jimu.Errorf(jimu.Unauthorized, "the session has ended; sign in again")
}

// Login starts a session. It is slow on purpose, and slower after failures.
func (i *Identity) Login(ctx context.Context, name, password string, from netip.Addr) (string, *jimu.Caller, error) {
	clean, nameErr := cleanName(name)
	if nameErr != nil {
		clean = ""
	}
	done, err := i.tries.begin(strings.ToLower(clean), from)
	if err != nil {
		return "", nil, err
	}
	u, err := i.authenticate(ctx, clean, password)
	done(outcomeOf(err))
	if err != nil {
		return "", nil, err
	}
	return i.start(ctx, u)
}

// start begins a session of a user who has proven himself.
func (i *Identity) start(ctx context.Context, u *jimu.User) (string, *jimu.Caller, error) {
	token, hash := sessionToken()
	if err := i.people.AddSession(ctx, hash, u.ID, i.now()); err != nil {
		return "", nil, err
	}
	return token, caller(u), nil
}

// authenticate does the same work whether or not the user exists.
func (i *Identity) authenticate(ctx context.Context, name, password string) (*jimu.User, error) {
	stored, u := absent, (*jimu.User)(nil)
	if name != "" {
		found, err := i.people.UserByName(ctx, name)
		switch {
		case err == nil:
			if stored, err = i.people.Password(ctx, found.ID); err != nil {
				return nil, err
			}
			u = found
		case codeOf(err) != jimu.NotFound:
			return nil, err
		}
	}
	ok, err := i.matches(ctx, password, stored)
	if err != nil {
		return nil, err
	}
	if !ok || u == nil || u.Disabled {
		return nil, errLogin()
	}
	return u, nil
}

// Session returns who a session belongs to, while it lasts.
func (i *Identity) Session(ctx context.Context, token string) (*jimu.Caller, error) {
	if len(token) != base64.RawURLEncoding.EncodedLen(sessionBytes) {
		return nil, errSession()
	}
	hash := hashToken(token)
	u, created, seen, err := i.people.Session(ctx, hash)
	if codeOf(err) == jimu.NotFound {
		return nil, errSession()
	}
	if err != nil {
		return nil, err
	}
	most := sessionMost
	if u.Role.AtLeast(jimu.RoleAdmin) {
		most = adminMost
	}
	now := i.now()
	if u.Disabled || now.Sub(created) >= most || now.Sub(seen) >= sessionIdle {
		return nil, errSession()
	}
	if now.Sub(seen) >= touchEvery {
		if err := i.people.TouchSession(ctx, hash, now); err != nil {
			// The session is good; at worst it ends a little early.
			i.log.WarnContext(ctx, "session's last use not kept", "user", u.ID, "error", err)
		}
	}
	return caller(u), nil
}

// PruneSessions removes sessions that have ended by age. It is for calling
// once in a while; nothing depends on it but the size of the table.
func (i *Identity) PruneSessions(ctx context.Context) (int64, error) {
	now := i.now()
	return i.people.PruneSessions(ctx, now.Add(-sessionMost), now.Add(-sessionIdle))
}

// Logout ends a session. One that has ended already is no error.
func (i *Identity) Logout(ctx context.Context, token string) error {
	return i.people.EndSession(ctx, hashToken(token))
}

// SetPassword changes the password of a session's user, who gives the old one.
// All his other sessions end.
func (i *Identity) SetPassword(ctx context.Context, token, old, password string, from netip.Addr) error {
	c, err := i.Session(ctx, token)
	if err != nil {
		return err
	}
	done, err := i.tries.begin(strings.ToLower(c.Name), from)
	if err != nil {
		return err
	}
	_, err = i.authenticate(ctx, c.Name, old)
	done(outcomeOf(err))
	if codeOf(err) == jimu.Unauthorized {
		return &jimu.Error{Code: jimu.Forbidden, Param: "old", Text: "the old password is wrong"}
	}
	if err != nil {
		return err
	}
	return i.replacePassword(ctx, c.User, c.Name, password, hashToken(token))
}

// ResetPassword gives a user a new password without the old one, for whoever
// has the machine. All his sessions end.
func (i *Identity) ResetPassword(ctx context.Context, user, password string) error {
	u, err := i.people.UserByID(ctx, user)
	if err != nil {
		return err
	}
	return i.replacePassword(ctx, u.ID, u.Name, password, nil)
}

func (i *Identity) replacePassword(ctx context.Context, user, name, password string, keep []byte) error {
	if err := checkPassword(password, name); err != nil {
		return err
	}
	phc, err := i.hash(ctx, password)
	if err != nil {
		return err
	}
	return i.people.SetPassword(ctx, user, phc, keep)
}

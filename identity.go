package jimu

import (
	"slices"
	"time"
)

// Role is what a user may do. Each role may do what the ones below it may.
type Role string

// The roles, lowest first.
const (
	RoleUser    Role = "user"
	RoleSupport Role = "support" // sees users and their usage
	RoleFinance Role = "finance" // also grants credit and refunds
	RoleAdmin   Role = "admin"   // also manages users, upstreams and prices
	RoleOwner   Role = "owner"   // also manages admins
)

var roles = []Role{RoleUser, RoleSupport, RoleFinance, RoleAdmin, RoleOwner} //nolint:gochecknoglobals // a constant list

// Roles lists the roles, lowest first.
func Roles() []Role { return slices.Clone(roles) }

// Valid reports whether the role exists.
func (r Role) Valid() bool { return slices.Contains(roles, r) }

// AtLeast reports whether the role includes another.
func (r Role) AtLeast(other Role) bool {
	return slices.Index(roles, r) >= slices.Index(roles, other) && r.Valid() && other.Valid()
}

// User is a person with an account.
type User struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Role     Role      `json:"role"`
	Disabled bool      `json:"disabled"`
	Created  time.Time `json:"created"`
}

// Limits bound what a key or user may do. 0 means no limit.
type Limits struct {
	RPM        int64 `json:"rpm,omitempty"`        // requests a minute
	TPM        int64 `json:"tpm,omitempty"`        // tokens a minute, input and output
	Concurrent int64 `json:"concurrent,omitempty"` // requests at once
}

// Key is an API key that a user made. The key itself is shown once and stored
// as its SHA-256.
type Key struct {
	ID      string     `json:"id"`
	User    string     `json:"user"`
	Name    string     `json:"name"`
	Tail    string     `json:"tail"`             // its last four characters
	Models  []string   `json:"models,omitempty"` // allowed models; none means all
	Limit   *Credit    `json:"limit,omitempty"`  // the most it may ever spend; nil means no limit
	Spent   Credit     `json:"spent"`            // what it has spent (counted for keys with a limit)
	Limits  Limits     `json:"limits"`
	Created time.Time  `json:"created"`
	Expires *time.Time `json:"expires,omitempty"`
	Revoked *time.Time `json:"revoked,omitempty"`
}

// Caller is who makes a model request, and who pays. It is immutable and part
// of the routing snapshot.
type Caller struct {
	User    string // user ID
	Name    string
	Role    Role
	Account string   // who pays; see UserAccount
	Key     string   // the key's ID, or "" for a session
	Models  []string // allowed models; none means all
	// Budget is the ID of the key's spending limit in the ledger, or "".
	Budget     string
	UserLimits Limits
	KeyLimits  Limits
	Expires    time.Time // zero means never
}

// May reports whether the caller may use a model.
func (c *Caller) May(model string) bool {
	return len(c.Models) == 0 || slices.Contains(c.Models, model)
}

// UserAccount names a user's account in the ledger.
func UserAccount(user string) string { return "user:" + user }

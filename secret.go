package jimu

import (
	"encoding/json"
	"log/slog"
)

// Secret is a value that must not be seen: a key, a password. It prints, logs
// and marshals as ***, and only [Secret.Reveal] tells it. In configuration it
// may be written as env:NAME or file:PATH; the host resolves those.
type Secret struct{ v string }

// NewSecret wraps a value.
func NewSecret(v string) Secret { return Secret{v} }

const masked = "***"

// Reveal returns the value.
func (s Secret) Reveal() string { return s.v }

// IsZero reports whether there is no value.
func (s Secret) IsZero() bool { return s.v == "" }

// String implements [fmt.Stringer].
func (s Secret) String() string {
	if s.v == "" {
		return ""
	}
	return masked
}

// GoString implements [fmt.GoStringer].
func (s Secret) GoString() string { return s.String() }

// LogValue implements [slog.LogValuer].
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText implements [encoding.TextMarshaler].
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalJSON reads a string.
func (s *Secret) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &s.v) }

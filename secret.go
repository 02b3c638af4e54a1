package jimu

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
)

// Secret is a value that must not be seen: a key, a password. It prints, logs
// and marshals as ***, and only [Secret.Reveal] tells it. In configuration it
// may be written as env:NAME or file:PATH; the host resolves those.
type Secret struct {
	v *string // a pointer, so that printing a struct around it by reflection shows an address
}

// NewSecret wraps a value.
func NewSecret(v string) Secret {
	if v == "" {
		return Secret{}
	}
	return Secret{&v}
}

// Reveal returns the value.
func (s Secret) Reveal() string {
	if s.v == nil {
		return ""
	}
	return *s.v
}

// IsZero reports whether there is no value.
func (s Secret) IsZero() bool { return s.v == nil }

// String returns *** or, where there is no value, nothing.
func (s Secret) String() string {
	if s.v == nil {
		return ""
	}
	return "***"
}

// Format implements [fmt.Formatter]: no verb shows the value.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue implements [slog.LogValuer].
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText implements [encoding.TextMarshaler].
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalJSON reads a string.
func (s *Secret) UnmarshalJSON(b []byte) error {
	var v string
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	*s = NewSecret(v)
	return nil
}

// Package seal encrypts the secrets that are kept in the database under a
// master key that is not. Each value has a data key of its own, wrapped under
// the master key, and is bound to the table, column and row it belongs to: a
// ciphertext that is copied elsewhere does not open.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

// A sealed value is: the format's version, the master key's ID, the data key
// under the master key, the value under the data key. Both ciphertexts are
// AES-256-GCM with a random 96-bit nonce before and a 128-bit tag behind them;
// both authenticate the version, the key ID and the place.
const (
	version  = 1
	overhead = 12 + 16
	header   = 1 + idLen
	wrapped  = KeyLen + overhead
	minLen   = header + wrapped + overhead
)

// ErrDamaged says that a value was changed, or sealed for another place.
var ErrDamaged = errors.New("the sealed value is damaged or belongs elsewhere")

// OtherKeyError says that a value was sealed under a master key that we do not
// have.
type OtherKeyError struct{ ID string }

func (e *OtherKeyError) Error() string {
	return fmt.Sprintf("the value is sealed under master key %s, which is not the one given", e.ID)
}

// Sealer seals under one master key, and opens under that one and older ones.
// It is safe for use by many goroutines.
type Sealer struct {
	current [idLen]byte
	masters map[[idLen]byte]cipher.AEAD
}

// New makes a sealer. The old keys open what was sealed before a change of the
// master key.
func New(current Key, old ...Key) (*Sealer, error) {
	s := &Sealer{current: current.id(), masters: make(map[[idLen]byte]cipher.AEAD)}
	for _, k := range append(old, current) {
		if k.isZero() {
			return nil, errors.New("a master key is missing")
		}
		a, err := aead(k.b[:])
		if err != nil {
			return nil, err
		}
		s.masters[k.id()] = a
	}
	return s, nil
}

// Seal encrypts a value for its place.
func (s *Sealer) Seal(table, column, row string, plain []byte) ([]byte, error) {
	var data [KeyLen]byte
	_, _ = rand.Read(data[:]) // never fails (crypto/rand)
	a, err := aead(data[:])
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, minLen+len(plain))
	out = append(out, version)
	out = append(out, s.current[:]...)
	bound := place(out, table, column, row)
	out = s.masters[s.current].Seal(out, nil, data[:], bound) //nolint:gosec // it puts a random nonce of its own
	return a.Seal(out, nil, plain, bound), nil                //nolint:gosec // as above
}

// Open decrypts a value that was sealed for this place.
func (s *Sealer) Open(table, column, row string, sealed []byte) ([]byte, error) {
	if len(sealed) < minLen || sealed[0] != version {
		return nil, ErrDamaged
	}
	id := [idLen]byte(sealed[1:header])
	master, ok := s.masters[id]
	if !ok {
		return nil, &OtherKeyError{ID: hex.EncodeToString(id[:])}
	}
	bound := place(sealed[:header], table, column, row)
	data, err := master.Open(nil, nil, sealed[header:header+wrapped], bound)
	if err != nil {
		return nil, ErrDamaged
	}
	a, err := aead(data)
	if err != nil {
		return nil, err
	}
	plain, err := a.Open(nil, nil, sealed[header+wrapped:], bound)
	if err != nil {
		return nil, ErrDamaged
	}
	return plain, nil
}

// place writes what a value is bound to. Lengths go before the parts, so that
// no two places are written alike.
func place(head []byte, parts ...string) []byte {
	out := append([]byte("jimu sealed value\x00"), head...)
	for _, p := range parts {
		out = binary.BigEndian.AppendUint64(out, uint64(len(p)))
		out = append(out, p...)
	}
	return out
}

func aead(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

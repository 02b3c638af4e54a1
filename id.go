package jimu

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"time"
)

// IDLen is the length of an ID in characters.
const IDLen = 26

var idAlphabet = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding) //nolint:gochecknoglobals // a constant

// NewID makes a UUIDv7 (RFC 9562: 48 bits of milliseconds, then random bits)
// written in base32hex, so that IDs sort by the time they were made. Ordered
// IDs keep the unique indexes of the ledger dense. An ID is not a secret.
func NewID(now time.Time) string {
	var b [16]byte
	_, _ = rand.Read(b[6:]) // never fails (crypto/rand)
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(now.UnixMilli()))
	copy(b[:6], ms[2:])
	b[6] = b[6]&0x0f | 0x70
	b[8] = b[8]&0x3f | 0x80
	var out [IDLen]byte
	idAlphabet.Encode(out[:], b[:])
	return string(out[:])
}

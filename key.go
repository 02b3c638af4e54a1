package jimu

import (
	"crypto/rand"
	"crypto/sha256"
	"hash/crc32"
	"math/big"
	"strings"
)

// An API key is "jm_", 27 characters of base62 that write 160 random bits, and
// 6 that write the CRC-32 of all before them. A typo is refused before any
// look-up, and scanners recognise a leaked key.
const (
	keyPrefix = "jm_"
	keyBody   = 27
	keySum    = 6
	// KeyLen is the length of an API key in characters.
	KeyLen = len(keyPrefix) + keyBody + keySum
)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// KeyHash is the SHA-256 of an API key, which is all that is stored of it.
type KeyHash [sha256.Size]byte

// KeyCaller is a key's hash and who calls with it.
type KeyCaller struct {
	Hash   KeyHash
	Caller Caller
}

// NewKey makes an API key.
func NewKey() string {
	var b [20]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	s := []byte(keyPrefix + inBase62(new(big.Int).SetBytes(b[:]), keyBody))
	sum := keyCheck(s)
	return string(append(s, sum[:]...))
}

// HashKey returns the hash of a well-formed API key. It reports false where
// the text cannot be a key at all.
func HashKey(key string) (KeyHash, bool) {
	if len(key) != KeyLen || !strings.HasPrefix(key, keyPrefix) {
		return KeyHash{}, false
	}
	var b [KeyLen]byte
	copy(b[:], key)
	if keyCheck(b[:KeyLen-keySum]) != [keySum]byte(b[KeyLen-keySum:]) {
		return KeyHash{}, false
	}
	return sha256.Sum256(b[:]), true
}

func keyCheck(s []byte) (out [keySum]byte) {
	n := crc32.ChecksumIEEE(s)
	for i := keySum - 1; i >= 0; i-- {
		out[i] = base62[n%62]
		n /= 62
	}
	return out
}

func inBase62(n *big.Int, width int) string {
	out := make([]byte, width)
	base, digit := big.NewInt(62), new(big.Int)
	for i := width - 1; i >= 0; i-- {
		n.DivMod(n, base, digit)
		out[i] = base62[digit.Int64()]
	}
	return string(out)
}

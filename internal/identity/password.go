package identity

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	_ "embed"
	"encoding/base64"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"github.com/jimu-ai/jimu"
)

// Passwords are stored with argon2id in PHC form. 19 MiB and two passes are
// OWASP's figures for small machines; at most two hashes run at once, so that
// a flood of logins cannot use up the memory.
const (
	argonTime    = 2
	argonMemory  = 19 * 1024 // KiB
	argonThreads = 1
	argonSalt    = 16
	argonKey     = 32
	hashesAtOnce = 2
)

// absent is the hash of nothing. A login of an unknown user is compared with
// it, so that it takes as long as one of a known user.
const absent = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

const (
	minPasswordRunes = 12
	maxPasswordBytes = 1024 // argon2id takes any length; this bounds the work
)

// argon computes argon2id when it is this process's turn.
func (i *Identity) argon(ctx context.Context, password string, p *phc) ([]byte, error) {
	select {
	case i.hashing <- struct{}{}:
	case <-ctx.Done():
		return nil, &jimu.Error{Code: jimu.Overloaded, Text: "too many people are signing in just now; try again", Err: ctx.Err()}
	}
	defer func() { <-i.hashing }()
	return argon2.IDKey([]byte(password), p.salt, p.time, p.memory, p.threads, argonKey), nil
}

func (i *Identity) hash(ctx context.Context, password string) (string, error) {
	p := &phc{time: argonTime, memory: argonMemory, threads: argonThreads, salt: make([]byte, argonSalt)}
	_, _ = rand.Read(p.salt) // never fails (crypto/rand)
	sum, err := i.argon(ctx, password, p)
	if err != nil {
		return "", err
	}
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.memory, p.time, p.threads,
		b64.EncodeToString(p.salt), b64.EncodeToString(sum)), nil
}

// matches reports whether the password is the one of a stored hash.
func (i *Identity) matches(ctx context.Context, password, stored string) (bool, error) {
	p, err := parsePHC(stored)
	if err != nil {
		return false, err
	}
	if len(password) > maxPasswordBytes {
		password = "" // cannot be one; takes as long
	}
	sum, err := i.argon(ctx, password, p)
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(sum, p.sum) == 1 && password != "", nil
}

// phc is a stored password: parameters, salt and hash.
type phc struct {
	time, memory uint32
	threads      uint8
	salt, sum    []byte
}

// parsePHC reads "$argon2id$v=19$m=…,t=…,p=…$salt$hash".
func parsePHC(s string) (*phc, error) {
	bad := func(what string) (*phc, error) { return nil, fmt.Errorf("reading a stored password: %s", what) }
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return bad("not argon2id in PHC form")
	}
	if parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return bad("unknown version")
	}
	p := new(phc)
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.memory, &p.time, &p.threads); err != nil {
		return bad("parameters")
	}
	if !p.bearable() {
		return bad("parameters out of range")
	}
	var err error
	if p.salt, err = base64.RawStdEncoding.DecodeString(parts[4]); err != nil || len(p.salt) < 8 {
		return bad("salt")
	}
	if p.sum, err = base64.RawStdEncoding.DecodeString(parts[5]); err != nil || len(p.sum) != argonKey {
		return bad("hash")
	}
	return p, nil
}

// bearable reports whether the parameters are ones that this process can
// compute with.
func (p *phc) bearable() bool {
	return p.memory >= 8 && p.memory <= 1<<18 && p.time >= 1 && p.time <= 16 && p.threads >= 1 && p.threads <= 8
}

// common are words and phrases that guessers try first, in lower case. What
// is decorated with digits, signs or repetition is undone before a look-up, so
// that the list is short: see checkPassword.
//
//go:embed common.txt
var common string

// checkPassword says whether a new password is good enough: 12 characters or
// more, and not one that is guessed first. Those are: a word of common.txt or
// the user's name, with digits and signs before or after, in any case, with
// letters written as digits (p4ssw0rd), or repeated; a short piece repeated
// (abcabcabcabc); runs along the alphabet, the digits or the keyboard
// (qwertyuiop12). There are no rules about kinds of characters: length is what
// counts.
func checkPassword(password, name string) error {
	bad := func(text string) error { return &jimu.Error{Code: jimu.Invalid, Param: "password", Text: text} }
	switch {
	case !utf8.ValidString(password):
		return bad("the password is not valid UTF-8")
	case utf8.RuneCountInString(password) < minPasswordRunes:
		return bad("the password is too short: use at least 12 characters, such as four words")
	case len(password) > maxPasswordBytes:
		return bad("the password is too long: use at most 1024 bytes")
	}
	p := strings.ToLower(password)
	switch {
	case isRepeated([]rune(p)):
		return bad("the password repeats itself; use a different one, such as four words")
	case isRuns([]rune(p)):
		return bad("the password is a row of the keyboard or of the alphabet; use a different one, such as four words")
	case isCommon(p, strings.ToLower(name)):
		return bad("the password is among the first that are guessed; use a different one, such as four words")
	}
	return nil
}

// isRepeated reports whether a piece of at most four characters fills it.
func isRepeated(p []rune) bool {
	for period := 1; period <= 4; period++ {
		same := true
		for i := period; i < len(p) && same; i++ {
			same = p[i] == p[i-period]
		}
		if same {
			return true
		}
	}
	return false
}

// isRuns reports whether nearly all of it (all but two characters) lies in
// runs of four or more along rows.
func isRuns(p []rune) bool {
	const rows = "01234567890 abcdefghijklmnopqrstuvwxyz qwertyuiop[] asdfghjkl;' zxcvbnm,./ " +
		"1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik,9ol.0p;/ !@#$%^&*()_+ `1234567890-="
	back := []rune(rows)
	for i, j := 0, len(back)-1; i < j; i, j = i+1, j-1 {
		back[i], back[j] = back[j], back[i]
	}
	outside := 0
	for i := 0; i < len(p); {
		n := max(run(rows, p[i:]), run(string(back), p[i:]))
		if n < 4 {
			outside++
			n = 1
		}
		i += n
	}
	return outside <= 2
}

// run returns how much of the beginning of p lies in rows as it is.
func run(rows string, p []rune) int {
	n := 0
	for n < len(p) && p[n] != ' ' && strings.Contains(rows, string(p[:n+1])) {
		n++
	}
	return n
}

// isCommon reports whether what is left without decoration is a common word,
// the name, or those put together or repeated. Both are in lower case.
func isCommon(p, name string) bool {
	words := strings.Fields(common)
	if name != "" {
		words = append(words, strings.Fields(name)...)
		words = append(words, name, strings.ReplaceAll(name, " ", ""))
	}
	known := make(map[string]bool, len(words))
	for _, w := range words {
		known[w] = true
	}
	for _, form := range []string{p, unleet(p)} {
		if known[form] || madeOf(known, strings.TrimFunc(form, notLetter)) || madeOf(known, onlyLetters(form)) {
			return true
		}
	}
	return false
}

// madeOf reports whether s is at most three of the known words in a row.
func madeOf(known map[string]bool, s string) bool {
	var made func(s string, left int) bool
	made = func(s string, left int) bool {
		if s == "" {
			return true
		}
		if left == 0 {
			return false
		}
		for i := 1; i <= len(s); i++ {
			if known[s[:i]] && made(s[i:], left-1) {
				return true
			}
		}
		return false
	}
	return made(s, 3)
}

func notLetter(r rune) bool { return !unicode.IsLetter(r) }

func onlyLetters(s string) string {
	return strings.Map(func(r rune) rune {
		if notLetter(r) {
			return -1
		}
		return r
	}, s)
}

// unleet turns digits and signs that stand for letters into those.
func unleet(s string) string {
	return strings.NewReplacer("0", "o", "1", "i", "3", "e", "4", "a", "5", "s", "7", "t", "@", "a", "$", "s", "!", "i").Replace(s)
}

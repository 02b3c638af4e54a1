package openai

import (
	"strings"
	"unicode"
)

const (
	longestText = 300 // bytes of an upstream's words that are kept
	longestWord = 24  // a longer word of letters and digits may be a key
)

// clean makes an upstream's words fit to be seen: without keys, addresses,
// account numbers and control characters, and not too long.
func clean(s string) string {
	if s == "" {
		return ""
	}
	if len(s) > 4*longestText {
		s = s[:4*longestText]
	}
	var out strings.Builder
	for _, w := range strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == unicode.ReplacementChar }) {
		if out.Len()+len(w) > longestText {
			break
		}
		if out.Len() > 0 {
			out.WriteByte(' ')
		}
		if telling(w) {
			w = "***"
		}
		out.WriteString(w)
	}
	return out.String()
}

// telling reports whether a word may tell a key, an address or an account.
func telling(w string) bool {
	if strings.Contains(w, "://") || strings.Contains(w, "@") {
		return true
	}
	low := strings.ToLower(strings.TrimLeft(w, "\"'`(["))
	for _, p := range [...]string{"sk-", "sk_", "org-", "proj_", "proj-", "www.", "ak-", "bce-v3/"} {
		if strings.HasPrefix(low, p) {
			return true
		}
	}
	return keyLike(w) || addressLike(w)
}

// keyLike reports whether a word holds a long run of letters and digits.
func keyLike(w string) bool {
	run, digits := 0, 0
	for _, r := range w {
		switch {
		case r >= '0' && r <= '9':
			run, digits = run+1, digits+1
		case r < 0x80 && (unicode.IsLetter(r) || strings.ContainsRune("-_*", r)):
			run++
		default:
			run, digits = 0, 0
		}
		if run >= longestWord && digits > 0 {
			return true
		}
	}
	return false
}

// addressLike reports whether a word may be an IP address.
func addressLike(w string) bool {
	parts := strings.FieldsFunc(w, func(r rune) bool { return r < '0' || r > '9' })
	return strings.Count(w, ".")+strings.Count(w, ":") >= 3 && len(parts) >= 4
}

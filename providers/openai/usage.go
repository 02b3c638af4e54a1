package openai

import (
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/jimu-ai/jimu"
)

// insane is the count in place of a number that cannot be one; it fails
// [jimu.Usage.Sane].
const insane = -1

// readUsage turns a usage object into the normal form, in which no count is
// part of another. beside says that the vendor's reasoning is not part of
// completion_tokens. It reports false where the object counts nothing.
func readUsage(raw []byte, beside bool) (jimu.Usage, bool) {
	v := gjson.ParseBytes(raw)
	in := count(v, "prompt_tokens", "input_tokens")
	out := count(v, "completion_tokens", "output_tokens")
	total := count(v, "total_tokens")
	if in == 0 && out == 0 {
		in = total // rerankers and some embeddings say no more
	}
	if in == 0 && out == 0 {
		return jimu.Usage{}, false
	}
	u := jimu.Usage{
		InCached: count(v, "prompt_tokens_details.cached_tokens", "input_tokens_details.cached_tokens",
			"prompt_cache_hit_tokens", "cached_tokens"),
		InCacheWrite5m: count(v, "prompt_tokens_details.cache_write_tokens", "input_tokens_details.cache_write_tokens",
			"prompt_tokens_details.cache_creation_input_tokens"),
		InAudio: count(v, "prompt_tokens_details.audio_tokens", "input_tokens_details.audio_tokens"),
		InImage: count(v, "prompt_tokens_details.image_tokens", "input_tokens_details.image_tokens"),
		OutReasoning: count(v, "completion_tokens_details.reasoning_tokens", "output_tokens_details.reasoning_tokens",
			"reasoning_tokens"),
		OutAudio: count(v, "completion_tokens_details.audio_tokens", "output_tokens_details.audio_tokens"),
		OutImage: count(v, "completion_tokens_details.image_tokens", "output_tokens_details.image_tokens"),
	}
	u.UpstreamCost = nano(v.Get("cost"))
	splitInput(&u, in)
	splitOutput(&u, out, total-in-out, beside)
	return u, true
}

// splitInput takes the kinds of input out of the whole. Cached tokens may be
// audio or images at once; then they count as cached.
func splitInput(u *jimu.Usage, in int64) {
	rest := in - u.InCached - u.InCacheWrite5m
	u.InText = rest
	if rest < 0 || u.InAudio < 0 || u.InImage < 0 {
		return // insane, and left so
	}
	u.InAudio = min(u.InAudio, rest)
	u.InImage = min(u.InImage, rest-u.InAudio)
	u.InText = rest - u.InAudio - u.InImage
}

// splitOutput takes the kinds of output out of the whole. hidden is what the
// total has beyond input and output: it is reasoning where the vendor counts
// that beside.
func splitOutput(u *jimu.Usage, out, hidden int64, beside bool) {
	if hidden > 0 && (beside || hidden == u.OutReasoning) {
		u.OutReasoning = max(u.OutReasoning, hidden)
		out += u.OutReasoning
	}
	u.OutText = out - u.OutReasoning - u.OutAudio - u.OutImage
}

// count returns the first of the members that is there and not 0.
func count(v gjson.Result, paths ...string) int64 {
	for _, p := range paths {
		if n := whole(v.Get(p)); n != 0 {
			return n
		}
	}
	return 0
}

// whole reads a count. A fraction, or a number too large, is insane; null and
// what is no number is 0.
func whole(r gjson.Result) int64 {
	if r.Type != gjson.Number {
		return 0
	}
	s, frac, dot := strings.Cut(r.Raw, ".")
	if dot && strings.Trim(frac, "0") != "" {
		return insane
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return insane
	}
	return n
}

// nano reads a decimal number of some currency as nano-units, cut off below.
// What cannot be read is 0, which means unknown.
func nano(r gjson.Result) int64 {
	const decimals = 9
	s := strings.ToLower(r.Raw)
	if r.Type == gjson.String {
		s = strings.ToLower(r.Str)
	}
	mantissa, exp, scientific := strings.Cut(s, "e")
	shift := 0
	if scientific {
		n, err := strconv.Atoi(exp)
		if err != nil || n < -30 || n > 15 {
			return 0
		}
		shift = n
	}
	digits, frac, _ := strings.Cut(mantissa, ".")
	point := len(digits) + shift + decimals
	digits += frac
	if point <= 0 || len(digits) > 40 {
		return 0
	}
	if len(digits) < point {
		digits += strings.Repeat("0", point-len(digits))
	}
	n, err := strconv.ParseInt(digits[:point], 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

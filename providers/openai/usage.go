package openai

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/jimu-ai/jimu"
)

// insane is the count in place of a number that cannot be one; it fails
// [jimu.Usage.Sane].
const insane = -1

// tally is a usage object as it comes, before it is known what is part of what.
type tally struct {
	in, out, total int64
	// cached tokens, under the names that vendors have for them
	cached, hit, plain int64
	reasoning, beside  int64 // in the details, and next to them
	detail             jimu.Usage
}

// readUsage turns a usage object into the normal form, in which no count is
// part of another. beside says that the vendor's reasoning is not part of
// completion_tokens. It reports false where the object counts nothing.
func readUsage(raw []byte, beside bool) (jimu.Usage, bool) {
	var t tally
	for w := walk(raw); w.next(); {
		t.member(w.key, w.val)
	}
	if t.in == 0 && t.out == 0 {
		t.in = t.total // rerankers and some embeddings say no more
	}
	if t.in == 0 && t.out == 0 {
		return jimu.Usage{}, false
	}
	u := t.detail
	u.InCached = first(t.cached, t.hit, t.plain)
	u.OutReasoning = first(t.reasoning, t.beside)
	splitInput(&u, t.in)
	splitOutput(&u, t.out, t.total-t.in-t.out, beside)
	return u, true
}

func (t *tally) member(key, val []byte) {
	switch string(key) {
	case "prompt_tokens", "input_tokens":
		set(&t.in, val)
	case "completion_tokens", "output_tokens":
		set(&t.out, val)
	case "total_tokens":
		set(&t.total, val)
	case "prompt_cache_hit_tokens": // DeepSeek
		set(&t.hit, val)
	case "cached_tokens": // Moonshot, StepFun
		set(&t.plain, val)
	case "reasoning_tokens":
		set(&t.beside, val)
	case "cost": // OpenRouter
		t.detail.UpstreamCost = nano(val)
	case "prompt_tokens_details", "input_tokens_details":
		for w := walk(val); w.next(); {
			t.input(w.key, w.val)
		}
	case "completion_tokens_details", "output_tokens_details":
		for w := walk(val); w.next(); {
			t.output(w.key, w.val)
		}
	}
}

func (t *tally) input(key, val []byte) {
	switch string(key) {
	case "cached_tokens":
		set(&t.cached, val)
	case "cache_write_tokens", "cache_creation_input_tokens": // OpenAI and OpenRouter; DashScope
		set(&t.detail.InCacheWrite5m, val)
	case "audio_tokens":
		set(&t.detail.InAudio, val)
	case "image_tokens":
		set(&t.detail.InImage, val)
	}
}

func (t *tally) output(key, val []byte) {
	switch string(key) {
	case "reasoning_tokens":
		set(&t.reasoning, val)
	case "audio_tokens":
		set(&t.detail.OutAudio, val)
	case "image_tokens":
		set(&t.detail.OutImage, val)
	}
}

// set takes a count unless it says nothing.
func set(to *int64, val []byte) {
	if n := whole(val); n != 0 {
		*to = n
	}
}

// first returns the first count that is not 0.
func first(ns ...int64) int64 {
	for _, n := range ns {
		if n != 0 {
			return n
		}
	}
	return 0
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

// mostCount is beyond any count, and small enough that sums of counts do not
// overflow.
const mostCount = 1 << 58

// whole reads a count. A fraction, or a number too large, is insane; null and
// what is no number is 0.
func whole(raw []byte) int64 {
	if len(raw) == 0 || (raw[0] != '-' && (raw[0] < '0' || raw[0] > '9')) {
		return 0
	}
	digits, frac, dot := bytes.Cut(raw, []byte("."))
	if dot && len(bytes.Trim(frac, "0")) > 0 {
		return insane
	}
	n, err := strconv.ParseInt(string(digits), 10, 64)
	if err != nil || n > mostCount || n < -mostCount {
		return insane
	}
	return n
}

// nano reads a decimal number of some currency, or a string that holds one, as
// nano-units, cut off below. What cannot be read is 0, which means unknown.
func nano(raw []byte) int64 {
	const decimals, longest = 9, 40
	s := strings.ToLower(strings.Trim(string(raw), `"`))
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
	if point <= 0 || len(digits) > longest {
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

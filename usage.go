package jimu

// Usage is what a request used, in the one form that is priced. The counts
// are disjoint: their sum is the total, whatever an upstream nests in what.
type Usage struct {
	InText         int64 `json:"in_text,omitempty"`
	InCached       int64 `json:"in_cached,omitempty"`
	InCacheWrite5m int64 `json:"in_cache_write_5m,omitempty"`
	InCacheWrite1h int64 `json:"in_cache_write_1h,omitempty"`
	InAudio        int64 `json:"in_audio,omitempty"`
	InImage        int64 `json:"in_image,omitempty"`
	OutText        int64 `json:"out_text,omitempty"`
	OutReasoning   int64 `json:"out_reasoning,omitempty"`
	OutAudio       int64 `json:"out_audio,omitempty"`
	OutImage       int64 `json:"out_image,omitempty"`
	WebSearches    int64 `json:"web_searches,omitempty"`
	// UpstreamCost is what the upstream says it charged us, in nano-units of
	// its own currency; 0 is unknown.
	UpstreamCost int64 `json:"upstream_cost,omitempty"`
	// Estimated says that the upstream gave no usage and we counted.
	Estimated bool `json:"estimated,omitempty"`
}

// In is the number of input tokens.
func (u *Usage) In() int64 {
	return u.InText + u.InCached + u.InCacheWrite5m + u.InCacheWrite1h + u.InAudio + u.InImage
}

// Out is the number of output tokens.
func (u *Usage) Out() int64 { return u.OutText + u.OutReasoning + u.OutAudio + u.OutImage }

// maxTokens is far above what any model can read or write in one request, and
// small enough that sums of counts cannot overflow.
const maxTokens = 1e10

// Sane reports whether the counts can be true: none negative, none absurd,
// and, where the model's context window is known (> 0), the input within it.
// What is not sane is quarantined: billed at the hold at most.
func (u *Usage) Sane(context int64) bool {
	for _, n := range [...]int64{
		u.InText, u.InCached, u.InCacheWrite5m, u.InCacheWrite1h, u.InAudio, u.InImage,
		u.OutText, u.OutReasoning, u.OutAudio, u.OutImage, u.WebSearches,
	} {
		if n < 0 || n > maxTokens {
			return false
		}
	}
	return context <= 0 || (u.In() <= context && u.Out() <= context)
}

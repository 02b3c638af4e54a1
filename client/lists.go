package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Embeddings turns texts into vectors.
type Embeddings struct{ c *Client }

// EmbeddingRequest is what to turn into vectors.
type EmbeddingRequest struct {
	Model      string   `json:"model"`
	Input      []string `json:"input"`
	Dimensions int64    `json:"dimensions,omitempty"`
}

// EmbeddingList are the vectors, in the order of the input.
type EmbeddingList struct {
	Model string `json:"model"`
	Data  []struct {
		Index     int       `json:"index"`
		Embedding []float64 `json:"embedding"`
	} `json:"data"`
	Usage TokenUsage `json:"usage"`

	Cost      *Amount `json:"-"` // what was charged; nil is not said
	RequestID string  `json:"-"`
}

// Create asks for vectors.
func (s *Embeddings) Create(ctx context.Context, r *EmbeddingRequest) (*EmbeddingList, error) {
	var out EmbeddingList
	h, err := s.c.call(ctx, http.MethodPost, "/v1/embeddings", r, &out)
	if err != nil {
		return nil, err
	}
	out.Cost, out.RequestID = costOf(h), h.Get("X-Request-Id")
	return &out, nil
}

// Models lists models.
type Models struct{ c *Client }

// Model is a model that the key may use.
type Model struct {
	ID      string `json:"id"`
	Created int64  `json:"created"` // Unix seconds
	OwnedBy string `json:"owned_by"`
}

// List returns the models that the key may use.
func (s *Models) List(ctx context.Context) ([]Model, error) {
	var out struct {
		Data []Model `json:"data"`
	}
	_, err := s.c.call(ctx, http.MethodGet, "/v1/models", nil, &out)
	return out.Data, err
}

// Usage lists requests that were made.
type Usage struct{ c *Client }

// UsageRow is one request: what it used and what it cost.
type UsageRow struct {
	Request string    `json:"request"` // the request ID
	At      time.Time `json:"at"`
	Key     string    `json:"key"` // the key's ID
	KeyName string    `json:"key_name"`
	Op      string    `json:"op"`
	Model   string    `json:"model"`
	Stream  bool      `json:"stream"`
	State   string    `json:"state"` // ok, failed, refused, cancelled or ended
	Code    string    `json:"code"`  // of the error, if it failed
	Cost    Amount    `json:"cost"`
	// Counts are the tokens by kind: in_text, in_cached, out_text, ...
	Counts  Counts `json:"usage"`
	FirstMS int64  `json:"first_ms"` // until the first event of the answer, in milliseconds
	TookMS  int64  `json:"took_ms"`
}

// Counts are tokens by kind. They are disjoint: no kind is part of another.
type Counts struct {
	InText         int64 `json:"in_text"`
	InCached       int64 `json:"in_cached"`
	InCacheWrite5m int64 `json:"in_cache_write_5m"`
	InCacheWrite1h int64 `json:"in_cache_write_1h"`
	InAudio        int64 `json:"in_audio"`
	InImage        int64 `json:"in_image"`
	OutText        int64 `json:"out_text"`
	OutReasoning   int64 `json:"out_reasoning"`
	OutAudio       int64 `json:"out_audio"`
	OutImage       int64 `json:"out_image"`
	WebSearches    int64 `json:"web_searches"`
	Estimated      bool  `json:"estimated"` // the upstream did not say, so it was counted
}

// usagePage is how many rows are asked for at once.
const usagePage = 100

// List yields the requests of the key's user, newest first, page by page as
// they are read. An error is the last that is yielded.
func (s *Usage) List(ctx context.Context) iter.Seq2[*UsageRow, error] {
	return func(yield func(*UsageRow, error) bool) {
		query := url.Values{"limit": {strconv.Itoa(usagePage)}}
		for {
			var page struct {
				Data []UsageRow `json:"data"`
				Next string     `json:"next"`
			}
			if _, err := s.c.call(ctx, http.MethodGet, "/api/usage?"+query.Encode(), nil, &page); err != nil {
				yield(nil, err)
				return
			}
			for i := range page.Data {
				if !yield(&page.Data[i], nil) {
					return
				}
			}
			if page.Next == "" {
				return
			}
			query.Set("cursor", page.Next)
		}
	}
}

// Balance is the credit of the key's user.
type Balance struct {
	Balance Amount `json:"balance"`
	Held    Amount `json:"held"` // set aside for requests that run
}

// Balance returns the credit of the key's user.
func (c *Client) Balance(ctx context.Context) (*Balance, error) {
	var out struct {
		Credit Balance `json:"credit"`
	}
	if _, err := c.call(ctx, http.MethodGet, "/api/me", nil, &out); err != nil {
		return nil, err
	}
	return &out.Credit, nil
}

package store

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/jimu-ai/jimu"
)

// detail is what a usage row tells that is neither searched for nor summed: as
// JSON in one column, since each column more costs every request.
type detail struct {
	Op          jimu.Operation `json:"op"`
	Code        jimu.Code      `json:"code"`
	Upstream    string         `json:"upstream"`
	Key         int            `json:"key"`  // of the only attempt
	Name        string         `json:"name"` // the model's there; "" if the attempts have rows
	Price       string         `json:"price"`
	First       int64          `json:"first"` // microseconds
	Stream      bool           `json:"stream"`
	Quarantined bool           `json:"quarantined"`
	jimu.Usage
}

func (d *detail) first() time.Duration { return time.Duration(d.First) * time.Microsecond }

// appendDetail writes the detail of a record without what is empty. It is on
// the path of every request, so it is written by hand.
func appendDetail(dst []byte, r *jimu.Record, only *jimu.Attempt) []byte {
	d := object{append(dst, '{')}
	d.text(`"op":`, ascii(string(r.Op)))
	d.text(`"code":`, ascii(string(r.Code)))
	d.text(`"upstream":`, fit(r.Upstream))
	if only != nil {
		d.number(`"key":`, int64(only.Key))
		d.text(`"name":`, fit(only.Name))
	}
	d.text(`"price":`, ascii(r.Price))
	d.number(`"first":`, r.First.Microseconds())
	d.truth(`"stream":true`, r.Stream)
	d.truth(`"quarantined":true`, r.Quarantined)
	u := &r.Usage
	d.number(`"in_text":`, u.InText)
	d.number(`"in_cached":`, u.InCached)
	d.number(`"in_cache_write_5m":`, u.InCacheWrite5m)
	d.number(`"in_cache_write_1h":`, u.InCacheWrite1h)
	d.number(`"in_audio":`, u.InAudio)
	d.number(`"in_image":`, u.InImage)
	d.number(`"out_text":`, u.OutText)
	d.number(`"out_reasoning":`, u.OutReasoning)
	d.number(`"out_audio":`, u.OutAudio)
	d.number(`"out_image":`, u.OutImage)
	d.number(`"web_searches":`, u.WebSearches)
	d.number(`"upstream_cost":`, u.UpstreamCost)
	d.truth(`"estimated":true`, u.Estimated)
	return append(d.b, '}')
}

func readDetail(request, data string) (detail, error) {
	var d detail
	if err := json.Unmarshal([]byte(data), &d); err != nil {
		return d, fmt.Errorf("decoding the usage of %s: %w", request, err)
	}
	return d, nil
}

// object is a JSON object that is being written. Its methods add a member,
// given with its quoted name, unless it is empty.
type object struct{ b []byte }

func (o *object) name(s string) {
	if o.b[len(o.b)-1] != '{' {
		o.b = append(o.b, ',')
	}
	o.b = append(o.b, s...)
}

func (o *object) number(name string, n int64) {
	if n != 0 {
		o.name(name)
		o.b = strconv.AppendInt(o.b, n, 10)
	}
}

func (o *object) truth(member string, is bool) {
	if is {
		o.name(member)
	}
}

func (o *object) text(name, s string) {
	if s == "" {
		return
	}
	o.name(name)
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			o.b = appendQuoted(o.b, s)
			return
		}
	}
	o.b = append(append(append(o.b, '"'), s...), '"')
}

// appendQuoted writes any text as JSON.
func appendQuoted(dst []byte, s string) []byte {
	quoted, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string always marshals
	}
	return append(dst, quoted...)
}

package relay

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/jimu-ai/jimu"
)

// Models answers GET /v1/models and GET /v1/models/{id}.
func (r *Relay) Models(w http.ResponseWriter, req *http.Request) {
	w.Header()["X-Request-Id"] = []string{jimu.NewID(r.o.Now())}
	caller, err := (&httpFront{r: r, w: w, req: req}).caller()
	if err != nil {
		r.WriteError(w, req, err)
		return
	}
	_, id, one := strings.Cut(req.URL.Path, "/models/")
	var b []byte
	if !one {
		b = append(b, `{"object":"list","data":[`...)
	}
	found := false
	for _, m := range r.o.Router.Models(caller) {
		if one && m.ID != id {
			continue
		}
		if found {
			b = append(b, ',')
		}
		found = true
		b = append(b, `{"id":`...)
		b = appendString(b, m.ID)
		b = append(b, `,"object":"model","created":0,"owned_by":`...)
		b = appendString(b, m.Vendor)
		b = append(b, '}')
	}
	if one && !found {
		r.WriteError(w, req, &jimu.Error{Code: jimu.NotFound, Text: "there is no model " + id + " for this key", Param: "model"})
		return
	}
	if !one {
		b = append(b, "]}"...)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(b)))
	_, _ = w.Write(b) // the client may have gone
}

package server

import (
	"fmt"
	"io"
	"net/http"
	"net/http/pprof" // its routes are on admin_listen alone: nothing serves http.DefaultServeMux
	"runtime"

	"github.com/jimu-ai/jimu"
)

func (s *Server) healthRoutes() {
	s.route("GET /healthz", Public(), raw(func(q *request) error { return plain(q.w, http.StatusOK, "ok\n") }), doc{})
	s.route("GET /readyz", Public(), raw(s.ready), doc{})
}

func plain(w http.ResponseWriter, status int, text string) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
	return nil
}

// ready tells a balancer whether to send requests here. Why not is for the
// log: the answer is public.
func (s *Server) ready(q *request) error {
	if s.draining.Load() {
		return plain(q.w, http.StatusServiceUnavailable, "draining\n")
	}
	if err := s.o.Ready(q.r.Context()); err != nil {
		s.o.Log.ErrorContext(q.r.Context(), "not ready", "request_id", q.id, "error", err)
		return plain(q.w, http.StatusServiceUnavailable, "not ready\n")
	}
	return plain(q.w, http.StatusOK, "ready\n")
}

func (s *Server) modelRoutes() {
	for _, pattern := range s.o.ModelRoutes {
		s.route(pattern, ModelKey(), model(s.o.Model), doc{})
	}
	s.route("/v1/", ModelKey(), model(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.modelError(w, r, jimu.Errorf(jimu.NotFound, "there is no %s here", r.Method+" "+r.URL.Path))
	})), doc{})
}

// Admin is what is served on admin_listen, which is never public: metrics and
// profiles. It asks for no key.
func (s *Server) Admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		s.metrics(w)
		for _, m := range s.o.Metrics {
			m(w)
		}
	})
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

func (s *Server) metrics(w io.Writer) {
	fmt.Fprint(w, "# HELP jimu_http_answers_total Answers by class of status.\n# TYPE jimu_http_answers_total counter\n")
	for class := 1; class < len(s.answers); class++ {
		fmt.Fprintf(w, "jimu_http_answers_total{class=\"%dxx\"} %d\n", class, s.answers[class].Load())
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fmt.Fprintf(w, "# HELP jimu_memory_heap_bytes Heap in use.\n# TYPE jimu_memory_heap_bytes gauge\njimu_memory_heap_bytes %d\n", m.HeapInuse)
	fmt.Fprintf(w, "# HELP jimu_memory_system_bytes Memory from the system.\n# TYPE jimu_memory_system_bytes gauge\njimu_memory_system_bytes %d\n", m.Sys)
	fmt.Fprintf(w, "# HELP jimu_goroutines Goroutines that exist.\n# TYPE jimu_goroutines gauge\njimu_goroutines %d\n", runtime.NumGoroutine())
	fmt.Fprintf(w, "# HELP jimu_info The version.\n# TYPE jimu_info gauge\njimu_info{version=%q} 1\n", s.o.Version)
}

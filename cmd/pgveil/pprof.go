package main

import (
	"net/http"
	"runtime/pprof"
	"strconv"
	"time"
)

const (
	defaultProfile = 30 * time.Second
	longestProfile = 5 * time.Minute
)

// profile adds /debug/pprof/profile, where the processor's time goes, and /debug/pprof/goroutine, what the goroutines wait for: names of functions and
// lines, without arguments. There is nothing that shows memory, which holds values and keys.
func (s *status) profile() {
	s.mux.HandleFunc("GET /debug/pprof/profile", func(w http.ResponseWriter, r *http.Request) {
		length := defaultProfile
		if text := r.URL.Query().Get("seconds"); text != "" {
			n, err := strconv.Atoi(text)
			if length = time.Duration(n) * time.Second; err != nil || length <= 0 || length > longestProfile {
				answer(w, http.StatusBadRequest, "seconds is a whole number from 1 to 300")
				return
			}
		}
		if err := pprof.StartCPUProfile(w); err != nil {
			answer(w, http.StatusConflict, "another profile is being taken")
			return
		}
		defer pprof.StopCPUProfile()
		w.Header().Set("Content-Type", "application/octet-stream")
		select {
		case <-time.After(length):
		case <-r.Context().Done():
		}
	})
	s.mux.HandleFunc("GET /debug/pprof/goroutine", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		pprof.Lookup("goroutine").WriteTo(w, 1)
	})
}

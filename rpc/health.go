package rpc

import (
	"fmt"
	"net/http"
	"strings"
)

// Check is one thing that must hold.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"` // one short sentence
}

// Health is what the two health endpoints report. Live: the process turns and should not be restarted. Ready: it
// can be relied on, which also needs peers, a recent tip and no stop under way.
type Health struct {
	Live  []Check
	Ready []Check
}

// serveHealth answers 200 "ok" if all checks hold and 503 with those that don't; ?verbose lists all, as Kubernetes
// components do.
func serveHealth(checks func() []Check) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		verbose := r.URL.Query().Has("verbose")
		var b strings.Builder
		all := true
		for _, c := range checks() {
			all = all && c.OK
			if c.OK && !verbose {
				continue
			}
			mark, word := "+", "ok"
			if !c.OK {
				mark, word = "-", "failed"
			}
			fmt.Fprintf(&b, "[%s] %s %s", mark, c.Name, word)
			if c.Detail != "" {
				fmt.Fprintf(&b, ": %s", c.Detail)
			}
			b.WriteByte('\n')
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		if !all {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintf(w, "%snot ok\n", b.String())
			return
		}
		fmt.Fprintf(w, "%sok\n", b.String())
	}
}

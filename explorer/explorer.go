// Package explorer is the web page of a node, and the one of a test network's supervisor: static files in the
// binary, plain ES modules and hand-written SVG, nothing fetched from elsewhere. The node's page reads the public RPC
// and nothing else; the test network's page reads one JSON document.
//
// Names, memos and reasons are other people's text: the scripts write text nodes only, and the content security policy
// allows no inline script or style.
package explorer

import (
	"embed"
	"encoding/json"
	"io/fs"
	"net/http"
)

//go:embed web
var files embed.FS

// contentSecurityPolicy lets the page load its own files and talk to its own origin, and nothing else.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Node serves the page of one node at / and its files under /assets/.
func Node() http.Handler { return site("node.html") }

// Testnet serves the page of a test network at / and its files under /assets/. The page reads GET /api/state, which
// State serves.
func Testnet() http.Handler { return site("testnet.html") }

// State serves what the function returns as /api/state.
func State(now func() TestnetState) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := now()
		s.Schema = TestnetSchema
		if s.Nodes == nil {
			s.Nodes = []TestnetNode{}
		}
		if s.Log == nil {
			s.Log = []TestnetLog{}
		}
		text, err := json.Marshal(s)
		if err != nil {
			http.Error(w, "internal error", http.StatusInternalServerError)
			return
		}
		headers(w)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(text)
	})
}

func site(page string) http.Handler {
	web, err := fs.Sub(files, "web")
	if err != nil {
		panic(err) // the embedded folder is there, or it wouldn't compile
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, web, page) })
	mux.HandleFunc("GET /assets/{name}", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFileFS(w, r, web, "assets/"+r.PathValue("name"))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		headers(w)
		w.Header().Set("Cache-Control", "no-cache") // a newer binary brings newer files
		mux.ServeHTTP(w, r)
	})
}

func headers(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Security-Policy", contentSecurityPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
}

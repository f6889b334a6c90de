package explorer

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

const maxSize = 120 << 10 // bytes of all files

// TestFiles: small enough, nothing inline, nothing parsed as HTML, nothing from elsewhere.
func TestFiles(t *testing.T) {
	total := 0
	banned := map[string]*regexp.Regexp{
		"inline script":         regexp.MustCompile(`<script(?:[^>]*>\s*[^<\s]|>)`),
		"inline style":          regexp.MustCompile(`<style|\sstyle\s*=|'style'|"style"`),
		"inline event handler":  regexp.MustCompile(`<[^>]*\son[a-z]+\s*=`),
		"HTML made from text":   regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|srcdoc`),
		"text run as code":      regexp.MustCompile(`\beval\(|new Function|javascript:|setTimeout\('`),
		"something from abroad": regexp.MustCompile(`(?:src|href)="(?:https?:)?//|@import|url\(`),
	}
	err := fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(files, path)
		if err != nil {
			return err
		}
		total += len(text)
		for what, re := range banned {
			if m := re.Find(text); m != nil {
				t.Errorf("%s: %s: %q", path, what, m)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if total > maxSize {
		t.Errorf("%d bytes, at most %d", total, maxSize)
	}
	t.Logf("%d bytes of %d", total, maxSize)
}

// TestPages fetches each page and every file it names, and checks that ids the scripts look up are in it.
func TestPages(t *testing.T) {
	refs := regexp.MustCompile(`(?:src|href)="(assets/[^"]+)"`)
	imports := regexp.MustCompile(`from '\./([^']+)'`)
	ids := regexp.MustCompile(`\$\('([a-z]+)'\)`)
	for name, h := range map[string]http.Handler{"node": Node(), "testnet": Testnet()} {
		page := fetch(t, h, "/", "text/html")
		need := refs.FindAllStringSubmatch(page, -1)
		if len(need) != 2 {
			t.Errorf("%s names %d files, want a style and a script", name, len(need))
		}
		for len(need) > 0 {
			path := need[0][1]
			need = need[1:]
			kind := "text/css"
			if strings.HasSuffix(path, ".js") {
				kind = "text/javascript"
			}
			text := fetch(t, h, "/"+path, kind)
			for _, m := range imports.FindAllStringSubmatch(text, -1) {
				need = append(need, []string{"", "assets/" + m[1]})
			}
			for _, m := range ids.FindAllStringSubmatch(text, -1) {
				if !strings.Contains(page, `id="`+m[1]+`"`) {
					t.Errorf("%s: %s looks up id %q, which the page lacks", name, path, m[1])
				}
			}
		}
		for _, must := range []string{`lang="en"`, `role="status"`, `id="pause"`, `aria-pressed="false"`, `scope="col"`, `name="color-scheme"`, "<noscript>"} {
			if !strings.Contains(page, must) {
				t.Errorf("%s lacks %s", name, must)
			}
		}
		for _, path := range []string{"/none", "/assets/none.js", "/assets/", "/assets/..%2fnode.html", "/web/node.html"} {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
			if w.Code != http.StatusNotFound && w.Code != http.StatusBadRequest {
				t.Errorf("%s: %s: HTTP %d", name, path, w.Code)
			}
		}
	}
}

func fetch(t *testing.T, h http.Handler, path, kind string) string {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	if ct := w.Header().Get("Content-Type"); w.Code != 200 || !strings.HasPrefix(ct, kind) {
		t.Errorf("%s: HTTP %d %s, want %s", path, w.Code, ct, kind)
	}
	if csp := w.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
		t.Errorf("%s: CSP %q", path, csp)
	}
	return w.Body.String()
}

// TestState holds the names in the document.
func TestState(t *testing.T) {
	h := State(func() TestnetState { return TestnetState{Network: "x", Nodes: []TestnetNode{{N: 1, Name: "node-1"}}} })
	var got map[string]any
	if err := json.Unmarshal([]byte(fetch(t, h, "/api/state", "application/json")), &got); err != nil {
		t.Fatal(err)
	}
	if got["schema"] != TestnetSchema || got["network"] != "x" {
		t.Errorf("%v", got)
	}
	if log, ok := got["log"].([]any); !ok || len(log) != 0 {
		t.Errorf("log is %v, want []", got["log"])
	}
	node := got["nodes"].([]any)[0].(map[string]any)
	for _, key := range []string{"n", "name", "state", "peers", "height", "tip", "side", "bans", "up_ms", "http", "p2p", "pid"} {
		if _, ok := node[key]; !ok {
			t.Errorf("a node has no %q", key)
		}
	}
}

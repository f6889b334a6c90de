package rpc

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// ask sends one request to the server's handler, as from its own host.
func ask(s *Server, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = "127.0.0.1:4821"
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

const okCall = `{"jsonrpc":"2.0","id":1,"method":"mempool_stats"}`

func TestRequests(t *testing.T) {
	s, _ := start(t, newFake(0), nil)
	id64 := strings.Repeat("ab", 32)
	for _, c := range []struct {
		name, body string
		status     int
		want       Name // "" is a result
	}{
		{"no params", okCall, 200, ""},
		{"empty object", `{"jsonrpc":"2.0","id":"x","method":"mempool_stats","params":{}}`, 200, ""},
		{"empty array", `{"jsonrpc":"2.0","id":1,"method":"mempool_stats","params":[ ]}`, 200, ""},
		{"null params", `{"jsonrpc":"2.0","id":1,"method":"mempool_stats","params":null}`, 200, ""},
		{"no JSON", `{`, 400, NameParse},
		{"empty body", ``, 400, NameParse},
		{"two documents", okCall + okCall, 400, NameParse},
		{"a number", `1`, 400, NameInvalidRequest},
		{"null", `null`, 400, NameInvalidRequest},
		{"no version", `{"id":1,"method":"mempool_stats"}`, 400, NameInvalidRequest},
		{"version 1.0", `{"jsonrpc":"1.0","id":1,"method":"mempool_stats"}`, 400, NameInvalidRequest},
		{"unknown member", `{"jsonrpc":"2.0","id":1,"method":"mempool_stats","extra":1}`, 400, NameInvalidRequest},
		{"member in other case", `{"jsonrpc":"2.0","id":1,"Method":"mempool_stats"}`, 400, NameInvalidRequest},
		{"method twice", `{"jsonrpc":"2.0","id":1,"method":"mempool_stats","method":"admin_stop"}`, 400, NameInvalidRequest},
		{"method a number", `{"jsonrpc":"2.0","id":1,"method":1}`, 400, NameInvalidRequest},
		{"id an object", `{"jsonrpc":"2.0","id":{},"method":"mempool_stats"}`, 400, NameInvalidRequest},
		{"id too long", `{"jsonrpc":"2.0","id":"` + strings.Repeat("x", maxID) + `","method":"mempool_stats"}`, 400, NameInvalidRequest},
		{"params a string", `{"jsonrpc":"2.0","id":1,"method":"mempool_stats","params":"x"}`, 400, NameInvalidRequest},
		{"unknown method", `{"jsonrpc":"2.0","id":1,"method":"chain_heads"}`, 200, NameMethodNotFound},
		{"unknown param", `{"jsonrpc":"2.0","id":1,"method":"mempool_stats","params":{"x":1}}`, 200, NameInvalidParams},
		{"param in other case", `{"jsonrpc":"2.0","id":1,"method":"mempool_list","params":{"Max":1}}`, 200, NameInvalidParams},
		{"param twice", `{"jsonrpc":"2.0","id":1,"method":"mempool_list","params":{"max":1,"max":2}}`, 200, NameInvalidParams},
		{"param missing", `{"jsonrpc":"2.0","id":1,"method":"mempool_list"}`, 200, NameInvalidParams},
		{"param null", `{"jsonrpc":"2.0","id":1,"method":"mempool_list","params":{"max":null}}`, 200, NameInvalidParams},
		{"param of another type", `{"jsonrpc":"2.0","id":1,"method":"mempool_list","params":{"max":"1"}}`, 200, NameInvalidParams},
		{"positional", `{"jsonrpc":"2.0","id":1,"method":"mempool_list","params":[1]}`, 200, NameInvalidParams},
		{"max 0", `{"jsonrpc":"2.0","id":1,"method":"mempool_list","params":{"max":0}}`, 200, NameInvalidParams},
		{"max 1000", `{"jsonrpc":"2.0","id":1,"method":"mempool_list","params":{"max":1000}}`, 200, ""},
		{"max 1001", `{"jsonrpc":"2.0","id":1,"method":"mempool_list","params":{"max":1001}}`, 200, NameInvalidParams},
		{"101 blocks", `{"jsonrpc":"2.0","id":1,"method":"chain_blocks","params":{"count":101}}`, 200, NameInvalidParams},
		{"block by nothing", `{"jsonrpc":"2.0","id":1,"method":"chain_block","params":{}}`, 200, NameInvalidParams},
		{"block by both", `{"jsonrpc":"2.0","id":1,"method":"chain_block","params":{"height":1,"id":"` + id64 + `"}}`, 200, NameInvalidParams},
		{"block 0", `{"jsonrpc":"2.0","id":1,"method":"chain_block","params":{"height":0}}`, 200, ""},
		{"no such block", `{"jsonrpc":"2.0","id":1,"method":"chain_block","params":{"id":"` + id64 + `"}}`, 200, NameNotFound},
		{"upper-case id", `{"jsonrpc":"2.0","id":1,"method":"chain_block","params":{"id":"` + strings.ToUpper(id64) + `"}}`, 200, NameInvalidParams},
		{"negative height", `{"jsonrpc":"2.0","id":1,"method":"chain_block","params":{"height":-1}}`, 200, NameInvalidParams},
		{"tx no hex", `{"jsonrpc":"2.0","id":1,"method":"tx_submit","params":{"tx":"0g"}}`, 200, NameInvalidParams},
		{"tx too long", `{"jsonrpc":"2.0","id":1,"method":"tx_submit","params":{"tx":"` + strings.Repeat("00", 10_400) + `"}}`, 200, NameInvalidParams},
		{"tx and txs", `{"jsonrpc":"2.0","id":1,"method":"tx_submit","params":{"tx":"00","txs":["00"]}}`, 200, NameInvalidParams},
		{"a panic", `{"jsonrpc":"2.0","id":1,"method":"test_panic"}`, 200, NameInternal},
		{"an error", `{"jsonrpc":"2.0","id":1,"method":"test_error"}`, 200, NameInternal},
		{"admin without token", `{"jsonrpc":"2.0","id":1,"method":"admin_stop"}`, 401, NameUnauthorized},
	} {
		w := ask(s, "POST", "/rpc", c.body)
		var reply struct {
			JSONRPC string
			ID      json.RawMessage
			Result  json.RawMessage
			Error   *Error
		}
		if err := json.Unmarshal(w.Body.Bytes(), &reply); err != nil || reply.JSONRPC != "2.0" {
			t.Errorf("%s: answer %q", c.name, w.Body)
			continue
		}
		got := Name("")
		if reply.Error != nil {
			got = reply.Error.Data.Name
			if reply.Error.Code != codes[got].code || codes[got].code == 0 {
				t.Errorf("%s: code %d of %q", c.name, reply.Error.Code, got)
			}
		} else if reply.Result == nil {
			t.Errorf("%s: neither result nor error", c.name)
		}
		if got != c.want || w.Code != c.status {
			t.Errorf("%s: HTTP %d %q (%v), want HTTP %d %q", c.name, w.Code, got, reply.Error, c.status, c.want)
		}
	}
}

// TestCodes holds the codes: they are a contract.
func TestCodes(t *testing.T) {
	seen := map[int]Name{}
	for name, c := range codes {
		if seen[c.code] != "" {
			t.Errorf("%s and %s share code %d", name, seen[c.code], c.code)
		}
		seen[c.code] = name
	}
	for code, name := range map[int]Name{
		-32700: NameParse, -32600: NameInvalidRequest, -32601: NameMethodNotFound, -32602: NameInvalidParams, -32603: NameInternal,
		1001: NameNotFound, 1002: NameUnauthorized, 1003: NameForbidden, 1004: NameRejected, 1005: NameRefused, 1006: NameFunds,
		1007: NameNotReady, 1008: NameTimeout, 1009: NameTooLarge, 1010: NameBusy, 1011: NameUnavailable,
	} {
		if seen[code] != name {
			t.Errorf("code %d is %q, want %q", code, seen[code], name)
		}
	}
}

func TestBatch(t *testing.T) {
	s, _ := start(t, newFake(0), nil)
	batch := func(n int, call string) string {
		return "[" + strings.TrimSuffix(strings.Repeat(call+",", n), ",") + "]"
	}
	note := `{"jsonrpc":"2.0","method":"mempool_stats"}`
	for _, c := range []struct {
		name, body string
		status     int
		answers    int // −1: a single error
	}{
		{"one", batch(1, okCall), 200, 1},
		{"100", batch(MaxBatch, okCall), 200, MaxBatch},
		{"101", batch(MaxBatch+1, okCall), 400, -1},
		{"none", "[]", 400, -1},
		{"half bad", "[" + okCall + ",1," + okCall + "]", 200, 3},
		{"notification among calls", "[" + okCall + "," + note + "]", 200, 1},
		{"notifications", batch(2, note), 204, 0},
		{"one notification", note, 204, 0},
		{"admin inside", `[{"jsonrpc":"2.0","id":1,"method":"admin_stop"},` + okCall + "]", 200, 2},
		{"a million ones", batch(1_000_000, "1"), 400, -1},
	} {
		w := ask(s, "POST", "/rpc", c.body)
		if w.Code != c.status {
			t.Errorf("%s: HTTP %d, want %d: %.200s", c.name, w.Code, c.status, w.Body)
			continue
		}
		var replies []response
		err := json.Unmarshal(w.Body.Bytes(), &replies)
		if c.answers > 0 && (err != nil || len(replies) != c.answers) {
			t.Errorf("%s: %d answers, want %d (%v)", c.name, len(replies), c.answers, err)
		}
		if c.answers == 0 && w.Body.Len() > 0 {
			t.Errorf("%s: answered %q", c.name, w.Body)
		}
	}

	// Answers together are bounded: the fifth quarter finds the room used up.
	w := ask(s, "POST", "/rpc", batch(8, `{"jsonrpc":"2.0","id":1,"method":"test_big"}`))
	var replies []response
	if err := json.Unmarshal(w.Body.Bytes(), &replies); err != nil || len(replies) != 8 {
		t.Fatalf("%d answers, %v", len(replies), err)
	}
	if replies[3].Error != nil || replies[7].Error == nil || replies[7].Error.Data.Name != NameTooLarge {
		t.Errorf("the last of eight large answers: %v", replies[7].Error)
	}
}

func TestLimits(t *testing.T) {
	s, _ := start(t, newFake(0), nil)
	full := okCall + strings.Repeat(" ", MaxBody-len(okCall))
	if w := ask(s, "POST", "/rpc", full); w.Code != 200 {
		t.Errorf("8 MiB: HTTP %d", w.Code)
	}
	if w := ask(s, "POST", "/rpc", full+" "); w.Code != 413 || !strings.Contains(w.Body.String(), string(NameTooLarge)) {
		t.Errorf("8 MiB and a byte: HTTP %d %s", w.Code, w.Body)
	}
	if w := ask(s, "GET", "/rpc", ""); w.Code != 405 {
		t.Errorf("GET: HTTP %d", w.Code)
	}
}

func TestHost(t *testing.T) {
	s, _ := start(t, newFake(0), func(c *Config) { c.AllowHosts = []string{"node.example"} })
	for host, want := range map[string]int{
		"localhost": 200, "LOCALHOST:4821": 200, "127.0.0.1": 200, "127.0.0.1:9": 200, "[::1]:4821": 200, "[::1]": 200,
		"node.example": 200, "Node.Example:80": 200,
		"evil.example": 403, "127.0.0.1.evil.example": 403, "localhost.evil.example": 403, "10.0.0.1:4821": 403, "": 403, "127.0.0.2": 403,
	} {
		for _, path := range []string{"/rpc", "/", "/health/livez"} {
			method, body := "GET", ""
			if path == "/rpc" {
				method, body = "POST", okCall
			}
			w := ask(s, method, path, body, "Host", host)
			if w.Code != want {
				t.Errorf("%s with Host %q: HTTP %d, want %d", path, host, w.Code, want)
			}
			if want == 403 && !strings.Contains(w.Body.String(), "--allow-host") {
				t.Errorf("the refusal of Host %q names no flag: %s", host, w.Body)
			}
		}
	}
}

func TestCrossSite(t *testing.T) {
	s, _ := start(t, newFake(0), nil)
	for _, c := range []struct {
		name   string
		header []string
		want   int
	}{
		{"a program", nil, 200},
		{"our own page", []string{"Sec-Fetch-Site", "same-origin"}, 200},
		{"another site", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"another port of this machine", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"an old browser on another site", []string{"Origin", "http://evil.example"}, 403},
	} {
		w := ask(s, "POST", "/rpc", okCall, c.header...)
		if w.Code != c.want {
			t.Errorf("%s: HTTP %d, want %d", c.name, w.Code, c.want)
		}
		for name := range w.Header() {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s: CORS header %s", c.name, name)
			}
		}
		if csp := w.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") {
			t.Errorf("%s: CSP %q", c.name, csp)
		}
	}
}

func TestAdmin(t *testing.T) {
	s, _ := start(t, newFake(0), nil)
	call := `{"jsonrpc":"2.0","id":1,"method":"admin_gate","params":{"block":[]}}`
	for _, c := range []struct {
		name, auth string
		status     int
		want       string
	}{
		{"no token", "", 401, "token_required"},
		{"basic", "Basic " + s.token, 401, "token_required"},
		{"empty bearer", "Bearer ", 401, "token_required"},
		{"wrong token", "Bearer " + strings.Repeat("0", 64), 403, "token_wrong"},
		{"a prefix of the token", "Bearer " + s.token[:63], 403, "token_wrong"},
		{"the token", "Bearer " + s.token, 200, `"blocked":[]`},
	} {
		w := ask(s, "POST", "/rpc", call, "Authorization", c.auth)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s: HTTP %d %s", c.name, w.Code, w.Body)
		}
		if strings.Contains(w.Body.String(), s.token) {
			t.Errorf("%s: the token is in the answer", c.name)
		}
	}
}

func TestNoTokenFile(t *testing.T) {
	s, _ := start(t, newFake(0), func(c *Config) { c.TokenFile = "" })
	if w := ask(s, "POST", "/rpc", `{"jsonrpc":"2.0","id":1,"method":"admin_stop"}`, "Authorization", "Bearer "); w.Code != 403 {
		t.Errorf("HTTP %d", w.Code)
	}
}

func TestRemoteNeedsTokenForAll(t *testing.T) {
	s, _ := start(t, newFake(0), func(c *Config) { c.AllowRemote = true })
	for _, path := range []string{"/rpc", "/events", "/metrics"} {
		method := "GET"
		if path == "/rpc" {
			method = "POST"
		}
		if w := ask(s, method, path, okCall); w.Code != 401 {
			t.Errorf("%s: HTTP %d", path, w.Code)
		}
	}
	if w := ask(s, "POST", "/rpc", okCall, "Authorization", "Bearer "+s.token); w.Code != 200 {
		t.Errorf("with token: HTTP %d", w.Code)
	}
}

func TestTokenFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "rpc.token")
	first, err := newToken(file)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	second, err := newToken(file)
	if err != nil || second == first || len(second) != 64 {
		t.Errorf("the token is not new at each start: %v", err)
	}
	removeToken(file, first)
	if held, err := readToken(file); err != nil || held != second {
		t.Errorf("an ending server removed the token of a newer one: %v", err)
	}
	removeToken(file, second)
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("files left: %v", left)
	}
	if _, err := newToken(filepath.Join(dir, "none", "rpc.token")); err == nil {
		t.Error("a missing directory went unnoticed")
	}
}

func TestListen(t *testing.T) {
	ln, err := Listen("127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, err = Listen(ln.Addr().String(), false)
	if !errors.Is(err, ErrAddrInUse) || !strings.Contains(err.Error(), ln.Addr().String()) || !strings.Contains(err.Error(), "--http") || strings.Contains(err.Error(), "\n") {
		t.Errorf("a taken port: %v", err)
	}
	for _, addr := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0", "node.example:0", "127.0.0.1"} {
		if ln, err := Listen(addr, false); err == nil {
			ln.Close()
			t.Errorf("%s was bound", addr)
		} else if !strings.Contains(err.Error(), "--http") {
			t.Errorf("%s: the refusal doesn't say what to type: %v", addr, err)
		}
	}
	all, err := Listen("0.0.0.0:0", true)
	if err != nil {
		t.Fatal(err)
	}
	all.Close()
}

func TestHealthAndMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	s, _ := start(t, newFake(0), func(c *Config) { c.Metrics = reg })
	for _, c := range []struct {
		path   string
		status int
		want   string
	}{
		{"/health/livez", 200, "ok\n"},
		{"/health/livez?verbose", 200, "[+] turns ok\nok\n"},
		{"/health/readyz", 503, "[-] tip failed: 12 s old\nnot ok\n"},
		{"/health/readyz?verbose", 503, "[+] peers ok: 4\n[-] tip failed: 12 s old\nnot ok\n"},
		{"/", 200, "page"},
	} {
		if w := ask(s, "GET", c.path, ""); w.Code != c.status || w.Body.String() != c.want {
			t.Errorf("%s: HTTP %d %q", c.path, w.Code, w.Body)
		}
	}
	ask(s, "POST", "/rpc", okCall)
	ask(s, "POST", "/rpc", strings.Replace(okCall, "mempool_stats", "made_up_1", 1))
	text := ask(s, "GET", "/metrics", "").Body.String()
	for _, want := range []string{
		`quipu_rpc_requests_total{code="ok",method="mempool_stats"} 1`,
		`quipu_rpc_requests_total{code="method_not_found",method="unknown"} 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if strings.Contains(text, "made_up") {
		t.Error("a caller's text became a label")
	}
}

func TestCallTimeout(t *testing.T) {
	s, _ := start(t, newFake(0), func(c *Config) { c.CallTimeout = 1 })
	if w := ask(s, "POST", "/rpc", `{"jsonrpc":"2.0","id":1,"method":"test_wait"}`); !strings.Contains(w.Body.String(), string(NameTimeout)) {
		t.Errorf("%s", w.Body)
	}
}

// TestStream reads server-sent events over a connection, with and without Last-Event-ID, through a gap.
func TestStream(t *testing.T) {
	f := newFake(2)
	s, _ := start(t, f, func(c *Config) {
		c.Events = func(seq uint64) ([]Event, <-chan struct{}) { // a ring that has lost everything before 2
			events, more := f.events(max(seq, 1))
			return events, more
		}
	})
	open := func(query, last string) (*bufio.Scanner, func()) {
		req, _ := http.NewRequestWithContext(t.Context(), "GET", s.URL()+"/events"+query, nil)
		if last != "" {
			req.Header.Set("Last-Event-ID", last)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if ct := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || ct != "text/event-stream" {
			t.Fatalf("HTTP %d %s", resp.StatusCode, ct)
		}
		return bufio.NewScanner(resp.Body), func() { resp.Body.Close() }
	}
	next := func(sc *bufio.Scanner) string {
		for sc.Scan() {
			if line := sc.Text(); strings.HasPrefix(line, "id: ") || strings.HasPrefix(line, "event: ") {
				return line
			}
		}
		return fmt.Sprint("end: ", sc.Err())
	}
	sc, end := open("", "")
	if got := next(sc); got != "id: 2" {
		t.Errorf("first: %s", got)
	}
	f.emit()
	if got := next(sc); got != "id: 3" {
		t.Errorf("then: %s", got)
	}
	end()
	sc, end = open("?since=1", "2")
	if got := next(sc); got != "id: 3" {
		t.Errorf("Last-Event-ID goes before since: %s", got)
	}
	end()

	f.ring = f.ring[:3]
	lossy := func(seq uint64) ([]Event, <-chan struct{}) { return f.ring[2:], f.more }
	w := httptest.NewRecorder()
	events, _ := lossy(1)
	if err := writeEvents(w, 1, events); err != nil || !strings.HasPrefix(w.Body.String(), "event: gap\ndata: {\"after\":1,\"next\":3}\n\nid: 3\n") {
		t.Errorf("gap: %q", w.Body)
	}
	if w := ask(s, "GET", "/events?since=x", ""); w.Code != 400 {
		t.Errorf("since=x: HTTP %d", w.Code)
	}
}

func TestStreamLimit(t *testing.T) {
	s, _ := start(t, newFake(0), nil)
	for range maxStreams {
		s.streams <- struct{}{}
	}
	if w := ask(s, "GET", "/events", ""); w.Code != 503 {
		t.Errorf("HTTP %d", w.Code)
	}
}

func TestConfig(t *testing.T) {
	e := faulty()[0]
	for name, cfg := range map[string]Config{
		"twice":          {Methods: []Entry{e, e}},
		"empty":          {Methods: []Entry{{}}},
		"remote no file": {AllowRemote: true},
	} {
		if cfg.Validate() == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	api := newFake(0).api()
	api.PeerBans = nil
	if _, err := api.Table(); err == nil || !strings.Contains(err.Error(), "PeerBans") {
		t.Errorf("a missing function: %v", err)
	}
}

// TestDiscover holds the wire contract: every method, parameter, field and error code.
func TestDiscover(t *testing.T) {
	table, err := newFake(0).api().Table()
	if err != nil {
		t.Fatal(err)
	}
	got := append([]byte(Discover(table)), '\n')
	const file = "testdata/discover.json"
	if os.Getenv("QUIPU_GOLDEN") == "1" {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the wire contract changed; if nothing was renamed, QUIPU_GOLDEN=1 go test ./rpc -run Discover rewrites %s", file)
	}
	const methods = "node_status chain_head chain_block chain_blocks chain_genesis tx_submit tx_status account_get account_history account_proof tx_proof " +
		"state_snapshots state_range mempool_stats mempool_list peer_list peer_bans peer_book events_since admin_gate admin_connect admin_unban admin_stop"
	if Names(table) != methods {
		t.Errorf("methods: %s", Names(table))
	}
	for _, e := range table {
		if e.Admin != strings.HasPrefix(e.Name, "admin_") || e.Doc == "" {
			t.Errorf("%s: admin %v, doc %q", e.Name, e.Admin, e.Doc)
		}
	}
}

func TestDecimal(t *testing.T) {
	for text, ok := range map[string]bool{
		`"0"`: true, `"18446744073709551615"`: true, `"18446744073709551616"`: false, `"01"`: false, `"-1"`: false,
		`"+1"`: false, `1`: false, `"1.0"`: false, `""`: false, `null`: false, `"1e3"`: false,
	} {
		var d Decimal
		if err := json.Unmarshal([]byte(text), &d); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		} else if out, _ := json.Marshal(d); ok && string(out) != text {
			t.Errorf("%s is written as %s", text, out)
		}
	}
	if out, _ := json.Marshal(PeerList{}); string(out) != `{"peers":[]}` {
		t.Errorf("an empty list is %s", out)
	}
}

// FuzzRequest: whatever arrives is answered with JSON or nothing, within the limits, and doesn't reach a method
// through a second way of writing it.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{okCall, "[" + okCall + "]", "[]", "{", `{"jsonrpc":"2.0","id":null,"method":"x","params":[1]}`,
		`{"jsonrpc":"2.0","id":-1.5e9,"method":"mempool_list","params":{"max":7}}`, `[[[[]]]]`, "\xff", `{"jsonrpc":"2.0","method":"tx_submit","params":{"txs":["00"]}}`} {
		f.Add([]byte(seed))
	}
	table, err := newFake(0).api().Table()
	if err != nil {
		f.Fatal(err)
	}
	methods := map[string]Entry{}
	for _, e := range table {
		methods[e.Name] = e
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		calls, batch, bad := decodeRequests(body)
		if bad != nil {
			if len(calls) != 0 || bad.Code == 0 {
				t.Fatalf("%d calls beside the error %v", len(calls), bad)
			}
			return
		}
		if len(calls) == 0 || len(calls) > MaxBatch || (!batch && len(calls) != 1) {
			t.Fatalf("%d calls", len(calls))
		}
		for _, c := range calls {
			if c.id != nil && (!json.Valid(c.id) || len(c.id) > maxID) {
				t.Fatalf("id %q", c.id)
			}
			if c.err != nil {
				if c.id == nil {
					t.Fatal("a malformed call without an id to answer to")
				}
				continue
			}
			if e, ok := methods[c.method]; ok {
				result, err := e.call(t.Context(), c.params)
				if err != nil && AsError(err).Code == 0 {
					t.Fatalf("error without a code: %v", err)
				}
				if err == nil {
					if _, err := json.Marshal(result); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	})
}

func TestPageGetsNoPost(t *testing.T) {
	s, _ := start(t, newFake(0), nil)
	if w := ask(s, "POST", "/", ""); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("HTTP %d", w.Code)
	}
}

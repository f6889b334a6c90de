package testnet

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"quipu/chain"
	"quipu/wallet"
)

func TestParseSides(t *testing.T) {
	nodes := []int{1, 2, 3, 4, 5}
	for text, want := range map[string][][]int{
		"1,2/3,4,5":                    {{1, 2}, {3, 4, 5}},
		"5/4/3/2/1":                    {{5}, {4}, {3}, {2}, {1}},
		"node-1, node-2 / 3,node-4, 5": {{1, 2}, {3, 4, 5}},
	} {
		got, err := ParseSides(text, nodes)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for text, why := range map[string]string{
		"":              "no node",
		"1,2,3,4,5":     "one side",
		"1,2/3,4":       "node-5 stands on none; perhaps 1,2/3,4,5",
		"1,2":           "node-3, node-4 and node-5 stand on none; perhaps 1,2/3,4,5",
		"1,2/3":         "node-4 and node-5 stand on none; perhaps 1,2/3,4,5",
		"1,2/3,4,5,6":   "no honest node-6",
		"1,2/2,3,4,5":   "twice",
		"1,2//3,4,5":    "no node",
		"1,2/3,4,5/":    "no node",
		"1,2|3,4,5":     "no node",
		"0,1,2/3,4,5":   "no node",
		"01,2/3,4,5":    "no node",
		"+1,2/3,4,5":    "no node",
		"node-/1,2,3,4": "no node",
	} {
		if _, err := ParseSides(text, nodes); err == nil || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), "1,2/3,4,5") {
			t.Errorf("%q: %v, want %q", text, err, why)
		}
	}
}

// TestPortsTaken: a taken port, p2p or HTTP, is stepped over and reported.
func TestPortsTaken(t *testing.T) {
	base := freeRun(t)
	hold := func(port int) {
		ln, err := net.Listen("tcp", loopback(port))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
	}
	hold(base)
	hold(base + 11)
	p := portPicker{next: base}
	var got []int
	for range 2 {
		p2p, http, err := p.pair()
		if err != nil || http != p2p+1 {
			t.Fatal(p2p, http, err)
		}
		got = append(got, p2p)
	}
	if want := []int{base + 20, base + 30}; !reflect.DeepEqual(got, want) {
		t.Errorf("ports %v, want %v", got, want)
	}
	if want := []int{base, base + 11}; !reflect.DeepEqual(p.taken, want) {
		t.Errorf("reported as taken %v, want %v", p.taken, want)
	}
	last := portPicker{next: 65530}
	if _, _, err := last.pair(); err == nil {
		if _, _, err = last.pair(); err == nil {
			t.Error("a pair beyond 65535 was given out")
		}
	}
}

// freeRun finds a base with 4 free pairs.
func freeRun(t *testing.T) int {
	t.Helper()
	for base := 25000; base < 30000; base += 100 {
		p := portPicker{next: base}
		for range 4 {
			if _, _, err := p.pair(); err != nil {
				t.Fatal(err)
			}
		}
		if len(p.taken) == 0 {
			return base
		}
	}
	t.Fatal("no free ports at all")
	return 0
}

// TestGenesis: the difficulty fits the hashes of all nodes, the file reads back to the same network, every wallet opens
// and holds the account that the genesis funds.
func TestGenesis(t *testing.T) {
	dir := t.TempDir()
	extra := chain.GenesisBalance{Balance: 7} // the generator's x
	if err := extra.Account.UnmarshalText([]byte("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Dir: dir, Name: "testnet-0001", Nodes: 5, MineRate: 500, BodyLimit: 2 << 20, Balances: []chain.GenesisBalance{extra}}
	g, err := makeNetwork(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	back, err := loadNetwork(dir)
	if err != nil || back.NetworkID() != g.NetworkID() {
		t.Fatalf("genesis.json: %v", err)
	}
	if g.Prefix != "tqp" || g.Spacing != 1000 || g.AccountPrice != 0 || g.BodyLimit != 2<<20 || g.HalfLife != 144_000 || len(g.Balances) != 5 {
		t.Errorf("genesis: %+v", g)
	}
	funded := map[chain.Account]uint64{}
	for _, b := range g.Balances {
		funded[b.Account] = b.Balance
	}
	if funded[extra.Account] != extra.Balance {
		t.Errorf("the balance asked for is %d", funded[extra.Account])
	}
	for _, label := range append([]string{"node-1", "node-5"}, Labels...) {
		w, err := wallet.Open(wallet.Path(walletsDir(dir), label), nil)
		if err != nil {
			t.Fatal(err)
		}
		a, err := w.Account(0)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.CheckNetwork(g); err != nil {
			t.Error(err)
		}
		if (funded[a] > 0) == strings.HasPrefix(label, "node-") {
			t.Errorf("%s has %d knots", label, funded[a])
		}
		w.Close()
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".new-*")); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
	other, err := makeNetwork(&Config{Dir: t.TempDir(), Name: "testnet-0001", Nodes: 5, MineRate: 500, BodyLimit: bodyLimit})
	if err != nil || other.NetworkID() == g.NetworkID() {
		t.Errorf("two networks of one name are the same: %v", err)
	}
}

func TestBitsFor(t *testing.T) {
	for _, hashes := range []float64{0, 1, 50, 500, 2500, 16_000, 1e6, 3.2e7} {
		bits := bitsFor(hashes, time.Second)
		work := chain.BlockWork(bits)
		want := max(hashes, 2)
		if got := float64(work.Uint64()); got < want*0.99 || got > want*1.01+1 {
			t.Errorf("%g hashes a second: a block takes %g", hashes, got)
		}
		if _, err := newGenesis("n", time.UnixMilli(1), hashes, bodyLimit, nil); err != nil {
			t.Errorf("%g hashes a second: %v", hashes, err)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	ok := Config{}
	if err := ok.Validate(); err != nil || ok.Nodes != 5 || !strings.HasPrefix(ok.Name, "testnet-") || len(ok.Command) != 1 {
		t.Fatalf("the zero Config: %+v, %v", ok, err)
	}
	for why, c := range map[string]Config{
		"nodes":     {Nodes: 33},
		"nodes ":    {Nodes: -1},
		"name":      {Name: "../x"},
		"name ":     {Name: "a b"},
		"name  ":    {Name: strings.Repeat("a", 25)},
		"base port": {BasePort: 80},
		"mine rate": {MineRate: 1},
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(why)) {
			t.Errorf("%s: %v", why, err)
		}
	}
}

// TestLogFile: a log never exceeds its cap, and keeps the one before.
func TestLogFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n.log")
	l, err := openLog(path, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		fmt.Fprintf(l, "line %03d\n", i)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var all []byte
	for _, p := range []string{path + ".1", path} {
		b, err := os.ReadFile(p)
		if err != nil || len(b) > 1000 {
			t.Fatalf("%s: %d bytes, %v", p, len(b), err)
		}
		all = append(all, b...)
	}
	if !bytes.HasSuffix(all, []byte("line 198\nline 199\n")) || bytes.Count(all, []byte("\n")) < 111 {
		t.Errorf("kept: %s", all)
	}
	if got := string(Tail(path, 18)); got != "line 198\nline 199\n" {
		t.Errorf("Tail of whole lines: %q", got)
	}
	if got := string(Tail(path, 20)); got != "line 198\nline 199\n" {
		t.Errorf("Tail: %q", got)
	}
	if got := lastLine(path); got != "line 199" {
		t.Errorf("lastLine: %q", got)
	}
	if n, err := l.Write([]byte("after close")); n != 11 || err != nil {
		t.Errorf("a write after the end: %d, %v", n, err)
	}
}

// TestRecords: what is no record is passed over, and a relative XDG path is ignored.
func TestRecords(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("XDG_RUNTIME_DIR", "relative")
	t.Setenv("XDG_STATE_HOME", "")
	if got := recordPath("n"); got != filepath.Join(dir, ".local/state/quipu/run/testnets/n/control.json") {
		t.Errorf("without XDG: %s", got)
	}
	t.Setenv("XDG_RUNTIME_DIR", filepath.Join(dir, "run"))
	if got := recordPath("n"); got != filepath.Join(dir, "run/quipu/testnets/n/control.json") {
		t.Errorf("with XDG: %s", got)
	}
	if _, ok := Discover(); ok {
		t.Error("a network is found where none ever was")
	}
	for name, text := range map[string]string{
		"a": `not JSON`, "b": `{"name":"other"}`, "c": `{"name":"c","url":"http://127.0.0.1:1"}`, "d": "",
	} {
		if err := os.MkdirAll(filepath.Dir(recordPath(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(recordPath(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := records(); len(got) != 1 || got[0].Name != "c" {
		t.Errorf("records: %+v", got)
	}
	if _, ok := Discover(); ok {
		t.Error("a dead network is found")
	}
	if got := Leftover(); len(got) != 1 {
		t.Errorf("leftovers: %+v", got)
	}
}

package main

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"quipu/chain"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; if that is meant, run with -update and look at the diff\ngot:\n%s", file, got)
	}
}

// TestUsage: one table of command lines nobody can mean.
func TestUsage(t *testing.T) {
	home(t)
	for _, c := range []struct {
		args string
		err  string
	}{
		{"nosuch", `"nosuch" is not a command of "quipu"`},
		{"statsu", "try: quipu status"},
		{"walet new", "try: quipu wallet"},
		{"wallet nwe x", "try: quipu wallet new"},
		{"chain", ""}, // help
		{"chain blok 1", "try: quipu chain block"},
		{"--nosuch", "unknown flag: --nosuch"},
		{"status --nosuch", "try: quipu status --help"},
		{"status extra", "takes no values"},
		{"send bob", "wants a recipient and an amount in QPU, and was given 1"},
		{"send", "wants a recipient"},
		{"wallet new", "wants a name"},
		{"wallet new a b", "wants a name"},
		{"wallet new ../x --no-passphrase", "not a wallet name"},
		{"wallet new x --words 13", "12, 15, 18, 21 or 24"},
		{"chain block", "wants a height or a block id"},
		{"chain block xyz", "neither a height nor a block id"},
		{"chain block -- -1", "neither a height nor a block id"},
		{"chain blocks --count 0", "1 to 100"},
		{"chain blocks --count 101", "1 to 100"},
		{"chain blocks --count x", "invalid argument"},
		{"tx status 12", "is no txid"},
		{"tx status " + strings.Repeat("AB", 32), "is no txid"},
		{"tx watch 12", "is no txid"},
		{"account history", "wants an address or a wallet's name"},
		{"account history bob --limit 0", "1 to 1000"},
		{"account history bob --limit 1001", "1 to 1000"},
		{"account history bob --before 7", "is no HEIGHT:INDEX"},
		{"account balance", "wants an address or a wallet's name"},
		{"account balance bob --light", "--light needs --peer"},
		{"account balance bob --peer /ip4/127.0.0.1/tcp/1", "go with --light"},
		{"tx proof 12", "is no txid"},
		{"tx proof " + strings.Repeat("ab", 32) + " --under 12", "--under"},
		{"proof verify", "wants a file"},
		{"node run extra", "takes no values"},
		{"node run --mine", "try: quipu node run --mine --miner $(quipu wallet address miner)"},
		{"node run --mine --miner nobody", ""}, // not found
		{"node run --mine-rate -1", "can't be negative"},
		{"node run --profile big", "only testnet is known"},
		{"node run --log-format xml", "text or json"},
		{"node run --miner " + chain.EncodeAddress("tqp", stranger.Account), "another network"},
		{"node run --listen 127.0.0.1:4820", "is no multiaddress"},
		{"node run --bootstrap /ip4/127.0.0.1/tcp/4820", "ends in /p2p/"},
		{"node run --bootstrap node.example:4820", "ends in /p2p/"},
		{"node run --http 4821", "is no HOST:PORT"},
		{"node run --http 127.0.0.1:99999", "is no HOST:PORT"},
		{"node run --http 0.0.0.0:4821", "on this machine only"},
		{"node run --http :4821", "on this machine only"},
		{"version extra", "takes no values"},
	} {
		code := exitUsage
		switch {
		case c.args == "chain":
			code = exitOK
		case strings.Contains(c.args, "nobody"):
			code = exitNotFound
		}
		r := cli(t, strings.Fields(c.args)...).want(t, code, c.err)
		if code != exitOK && (strings.Count(r.err, "quipu: ") != 1 || r.out != "") {
			t.Errorf("%s: the error isn't said once on err alone:\nout: %s\nerr: %s", c.args, r.out, r.err)
		}
	}
}

func TestMinerHint(t *testing.T) {
	r := cli(t, "node", "run", "--mine").want(t, exitUsage)
	want := "quipu: --mine needs --miner, the address that is paid for the blocks\n" +
		"  try: quipu wallet new miner\n" +
		"  try: quipu node run --mine --miner $(quipu wallet address miner)\n"
	if r.err != want {
		t.Errorf("got\n%s", r.err)
	}
}

// TestHelpTopics holds what users and scripts rely on; every exit code is explained, in order.
func TestHelpTopics(t *testing.T) {
	for _, topic := range []string{"exit-codes", "environment", "files"} {
		r := cli(t, "help", topic).want(t, 0)
		golden(t, topic+".golden", r.out)
	}
	text := cli(t, "help", "exit-codes").out
	at := 0
	for _, code := range []int{exitOK, exitOther, exitUsage, exitNotFound, exitLocked, exitUnreachable, exitRejected, exitUnknown, exitFunds,
		exitRunning, exitCheck, exitSpace, exitData, exitTerminal, exitInterrupted} {
		i := strings.Index(text[at:], "\n  "+strconv.Itoa(code)+" ")
		if i < 0 {
			t.Fatalf("exit code %d isn't explained", code)
		}
		at += i + 1
	}
	env := cli(t, "help", "environment").out
	for _, v := range []string{"QUIPU_DATA_DIR", "QUIPU_RPC", "QUIPU_WALLET", "QUIPU_PASSPHRASE_FILE", "QUIPU_RPC_TOKEN_FILE"} {
		if !strings.Contains(env, v) {
			t.Errorf("%s isn't explained", v)
		}
	}
}

// TestEveryCommand: each has a short help that begins with a capital and ends without a full stop, each that isn't
// hidden is in a group or below a noun, and --help of each works. No flag takes a secret.
func TestEveryCommand(t *testing.T) {
	root := (&app{in: strings.NewReader(""), found: discoverTestnet}).root()
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") || strings.ToUpper(c.Short[:1]) != c.Short[:1] {
			t.Errorf("%s: short help %q", c.CommandPath(), c.Short)
		}
		if c != root && !c.HasParent() {
			t.Errorf("%s has no parent", c.Name())
		}
		cli(t, append(strings.Fields(c.CommandPath())[1:], "--help")...).want(t, 0)
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			for _, word := range []string{"passphrase", "password", "key", "token", "mnemonic", "secret"} {
				takesPath := strings.HasSuffix(f.Name, "-file") || strings.HasSuffix(f.Name, "-fd") || strings.HasSuffix(f.Name, "-out") || strings.HasPrefix(f.Usage, "`FILE`")
				if strings.Contains(f.Name, word) && !takesPath && f.Value.Type() != "bool" {
					t.Errorf("%s --%s looks as if it took a secret", c.CommandPath(), f.Name)
				}
			}
		})
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
}

// TestTyped: suggested commands repeat the flags that say which node, directory or network is meant, where the command
// takes them, in front of words that explain the line.
func TestTyped(t *testing.T) {
	a := &app{rpc: "http://127.0.0.1:4899", dataDir: "/tmp/a b", testnet: "two"}
	for line, want := range map[string]string{
		"quipu tx watch 12":                          "quipu tx watch 12 --rpc http://127.0.0.1:4899",
		"quipu tx watch 12 --rpc http://127.0.0.1:1": "quipu tx watch 12 --rpc http://127.0.0.1:1",
		"quipu chain block 1":                        "quipu chain block 1 --rpc http://127.0.0.1:4899",
		"quipu chain verify":                         "quipu chain verify --data-dir '/tmp/a b'",
		"quipu chain compact --to DIR, a new one":    "quipu chain compact --to DIR --data-dir '/tmp/a b', a new one",
		"quipu testnet ps     the BANS column":       "quipu testnet ps --name two     the BANS column",
		"quipu bench verify":                         "quipu bench verify",
		"quipu chain blocky":                         "quipu chain blocky",
		"add --rpc URL":                              "add --rpc URL",
		"quipu node run --data-dir /d":               "quipu node run --data-dir /d",
		"quipu status":                               "quipu status --rpc http://127.0.0.1:4899",
	} {
		if got := a.typed(line); got != typed(want) {
			t.Errorf("%q: %q", line, got)
		}
	}
	if got := (&app{}).typed("quipu tx watch 12"); got != typed("quipu tx watch 12") {
		t.Error(got)
	}
	root := (&app{in: strings.NewReader(""), found: discoverTestnet}).root()
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for _, f := range []struct {
			name string
			of   []string
		}{{"data-dir", usingDataDir}, {"name", usingTestnet}} {
			takes := c.Flags().Lookup(f.name) != nil || c.InheritedFlags().Lookup(f.name) != nil
			listed := slices.ContainsFunc(f.of, func(v string) bool { return c.CommandPath() == v || strings.HasPrefix(c.CommandPath(), v+" ") })
			if takes != listed && !c.Hidden {
				t.Errorf("%s takes --%s: %v, and is listed: %v", c.CommandPath(), f.name, takes, listed)
			}
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
}

// TestDocuments holds the names in every JSON document: adding one is fine, renaming or removing one needs a v2.
func TestDocuments(t *testing.T) {
	names := map[string][]string{}
	for schema, doc := range map[string]any{
		"quipu.send/v1": sendDoc{}, "quipu.status/v1": statusDoc{}, "quipu.peers/v1": peersDoc{}, "quipu.bans/v1": bansDoc{}, "quipu.peerbook/v1": bookDoc{}, "quipu.bootnode/v1": bootnodeDoc{},
		"quipu.chain-head/v1": headDoc{}, "quipu.chain-block/v1": blockDoc{}, "quipu.chain-blocks/v1": blocksDoc{},
		"quipu.tx-status/v1": txDoc{}, "quipu.chain-verify/v1": verifyDoc{}, "quipu.chain-export/v1": exportDoc{},
		"quipu.chain-import/v1": importDoc{}, "quipu.chain-info/v1": infoDoc{}, "quipu.bench-chain/v1": benchChainDoc{},
		"quipu.chain-rollback/v1": rollbackDoc{}, "quipu.chain-reconsider/v1": reconsiderDoc{}, "quipu.chain-reindex/v1": reindexDoc{},
		"quipu.chain-compact/v1": compactDoc{}, "quipu.wallet/v1": walletDoc{}, "quipu.balance/v1 accounts[]": balanceDoc{}, "quipu.version/v1": versionDoc{},
		"quipu.account-history/v1": historyDoc{},
	} {
		fieldNames(reflect.TypeOf(doc), "", func(name string) { names[schema] = append(names[schema], name) })
		slices.Sort(names[schema])
	}
	text, err := json.MarshalIndent(names, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "documents.golden", string(text)+"\n")
}

// fieldNames yields the JSON names of a struct, those of our own nested structs with their path.
func fieldNames(t reflect.Type, prefix string, yield func(string)) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t.PkgPath() == "time" {
		return
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
			fieldNames(f.Type, prefix, yield)
			continue
		}
		yield(prefix + name)
		fieldNames(f.Type, prefix+name+".", yield)
	}
}

// TestOpenNetwork: the genesis that is built in parses, and is the one whose wallets need a passphrase.
func TestOpenNetwork(t *testing.T) {
	if g := openNetwork(); g.Name != "quipu-open" || g.Prefix != openPrefix {
		t.Errorf("the open network is %s with prefix %s", g, g.Prefix)
	}
	if _, err := chain.ParseGenesis(openNetwork().JSON()); err != nil {
		t.Error(err)
	}
}

func TestWords(t *testing.T) {
	if got := clean("a\x1b[31mb\r\u202ec\u009b"); got != "a?[31mb??c?" {
		t.Errorf("clean: %q", got)
	}
	if got := quoteHex("1b5b33316d"); got != `"\x1b[31m"` {
		t.Errorf("quoteHex: %s", got)
	}
	for in, want := range map[string]string{"": "''", "a b": "'a b'", "it's": `'it'\''s'`, "/tmp/x-1": "/tmp/x-1", "$(x)": "'$(x)'"} {
		if got := shellQuote(in); got != want {
			t.Errorf("shellQuote(%q) = %s", in, got)
		}
	}
	for in, want := range map[string]string{"quipu-open": "quipu-open", "a/b": "a_b", "..": "_", "wallets": "wallets", "My Net": "My_Net"} {
		if got := fileName(in); got != want {
			t.Errorf("fileName(%q) = %q", in, got)
		}
	}
	if dir, err := (&app{}).nodeDir("wallets"); err != nil || filepath.Base(dir) == "wallets" {
		t.Errorf("a network named wallets lives in %s, %v", dir, err)
	}
	for in, want := range map[string]string{"/tmp/go-build12/b001/exe/quipu": "go run ./cmd/quipu", "/usr/bin/quipu": "quipu"} {
		if isGoRun(in) != (want != "quipu") {
			t.Errorf("isGoRun(%q)", in)
		}
	}
}

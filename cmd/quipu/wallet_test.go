package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quipu/chain"
)

// TestWalletFlow: made, listed, asked for its address, restored from its words elsewhere; no secret on any stream.
func TestWalletFlow(t *testing.T) {
	dir := home(t)
	const secret = "correct horse battery staple"
	pass, words := filepath.Join(dir, "pass"), filepath.Join(dir, "words")
	if err := os.WriteFile(pass, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var printed []result
	run := func(code int, args ...string) result {
		t.Helper()
		r := cli(t, args...).want(t, code)
		printed = append(printed, r)
		return r
	}
	run(exitLocked, "wallet", "new", "savings") // nobody to ask for a passphrase
	run(exitUsage, "wallet", "new", "savings", "--no-passphrase")
	if list := run(0, "wallet", "list"); list.out != "" || !strings.Contains(list.err, "quipu wallet new NAME") {
		t.Errorf("an empty list: %+v", list)
	}
	run(exitNotFound, "wallet", "address")
	r := run(0, "wallet", "new", "savings", "--passphrase-file", pass, "--mnemonic-out", words)
	address := strings.TrimSpace(r.out)
	if _, err := chain.DecodeAddress("qp", address); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(words)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("the words' file: %v %v", st.Mode(), err)
	}
	mnemonic, err := os.ReadFile(words)
	if err != nil || len(strings.Fields(string(mnemonic))) != 12 {
		t.Fatalf("%d words, %v", len(strings.Fields(string(mnemonic))), err)
	}
	own := filepath.Join(dir, "xdg_data_home", "quipu", "wallets", "savings.json")
	before, err := os.ReadFile(own)
	if err != nil {
		t.Fatal(err)
	}

	// Nothing is overwritten, neither wallet nor words.
	run(exitUsage, "wallet", "new", "savings", "--passphrase-file", pass)
	run(exitUsage, "wallet", "new", "other", "--passphrase-file", pass, "--mnemonic-out", words)
	run(exitUsage, "wallet", "restore", "savings", "--passphrase-file", pass, "--mnemonic-file", words)
	if after, err := os.ReadFile(own); err != nil || string(after) != string(before) {
		t.Error("the wallet's file changed")
	}

	if r := run(0, "wallet", "address", "savings"); r.out != address+"\n" {
		t.Errorf("address: %q", r.out)
	}
	if r := run(0, "wallet", "address"); r.out != address+"\n" { // the only one
		t.Errorf("address: %q", r.out)
	}
	var doc walletDoc
	if r := run(0, "wallet", "address", "savings", "--json"); json.Unmarshal([]byte(r.out), &doc) != nil || doc.Address != address || !doc.BackedUp || !doc.Passphrase {
		t.Errorf("%s", r.out)
	}
	r = run(0, "wallet", "restore", "again", "--passphrase-file", pass, "--mnemonic-file", words)
	if r.out != address+"\n" {
		t.Errorf("restored %q, want %q", r.out, address)
	}
	run(exitUsage, "wallet", "address") // two now
	if r := run(0, "wallet", "list"); strings.Count(r.out, address) != 2 || !strings.Contains(r.out, "quipu-open") {
		t.Errorf("list:\n%s", r.out)
	}
	if r := run(0, "wallet", "list", "--json"); !strings.Contains(r.out, `"schema": "quipu.wallets/v1"`) {
		t.Errorf("list:\n%s", r.out)
	}
	run(exitTerminal, "wallet", "words", "savings") // on a terminal only
	run(exitNotFound, "wallet", "address", "nobody")

	for _, r := range printed {
		noSecret(t, r, secret, strings.TrimSpace(string(mnemonic)))
		for _, form := range []string{"\x1b[?1049h", strings.Join(strings.Fields(string(mnemonic))[:3], " ")} {
			if strings.Contains(r.out+r.err, form) {
				t.Errorf("%q was printed where no terminal is", form)
			}
		}
	}
}

// TestWalletRestoreRefuses: words that are none name a position and never a word.
func TestWalletRestoreRefuses(t *testing.T) {
	dir := home(t)
	genesis, _ := easyNetwork(t, dir, "easy")
	for _, c := range []struct{ words, err string }{
		{"", "these words are no wallet"},
		{"abandon abandon", "these words are no wallet"},
		{strings.Repeat("abandon ", 11) + "zzzzz", "word 12"},
		{strings.Repeat("abandon ", 12), "these words are no wallet"}, // checksum
	} {
		r := cliCtx(t, t.Context(), c.words, "wallet", "restore", "x", "--genesis", genesis, "--no-passphrase", "--mnemonic-file", "-").want(t, exitUsage, c.err)
		if strings.Contains(r.err, "zzzzz") {
			t.Errorf("a word was printed: %s", r.err)
		}
	}
	cli(t, "wallet", "restore", "x", "--genesis", genesis, "--no-passphrase").want(t, exitTerminal, "add --mnemonic-file FILE")
	cliCtx(t, t.Context(), "", "wallet", "restore", "x", "--genesis", genesis, "--passphrase-file", "-", "--mnemonic-file", "-").want(t, exitUsage)
	r := cliCtx(t, t.Context(), strings.Repeat("abandon ", 11)+"about", "wallet", "restore", "x", "--genesis", genesis, "--no-passphrase", "--mnemonic-file", "-").want(t, 0)
	if !strings.HasPrefix(r.out, "tqp1p") {
		t.Errorf("%q", r.out)
	}
}

// TestWalletFileFaults: one clear sentence and an exit code of its own each, and nothing lost.
func TestWalletFileFaults(t *testing.T) {
	home(t)
	f := newFake(t)
	path, _ := sealed(t, f.g, "rich", "secret")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		harm func()
		code int
		err  string
	}{
		{"readable by others", func() { chmod(t, path, 0o644) }, exitLocked, "chmod 600"},
		{"cut short", func() { put(t, path, good[:len(good)/2]) }, exitData, "damaged"},
		{"empty", func() { put(t, path, nil) }, exitData, "damaged"},
		{"one digit changed", func() { put(t, path, []byte(flip(string(good)))) }, exitData, "damaged"},
		{"newer", func() {
			put(t, path, []byte(strings.Replace(string(good), `"quipu_wallet": 1`, `"quipu_wallet": 2`, 1)))
		}, exitData, "newer program"},
	} {
		put(t, path, good)
		chmod(t, path, 0o600)
		c.harm()
		r := cliCtx(t, t.Context(), "secret\n", "send", "bob", "1", "-y", "--wallet", "rich", "--passphrase-file", "-").want(t, c.code, c.err)
		if f.submits() != 0 || r.out != "" {
			t.Errorf("%s: %d handed in, out %q", c.name, f.submits(), r.out)
		}
		if l := cli(t, "wallet", "list").want(t, 0); !strings.Contains(l.out, "alice") || !strings.Contains(l.out, "rich") {
			t.Errorf("%s: list\n%s", c.name, l.out)
		}
	}
}

// TestWalletOtherNetwork: a wallet pays on its own network only.
func TestWalletOtherNetwork(t *testing.T) {
	dir := home(t)
	f := newFake(t)
	genesis, _ := easyNetwork(t, dir, "other")
	cli(t, "wallet", "new", "foreign", "--genesis", genesis, "--no-passphrase").want(t, 0)
	cli(t, "send", "bob", "1", "-y", "--wallet", "foreign").want(t, exitUsage, "another network")
	cli(t, "send", "foreign", "1", "-y").want(t, exitUsage, "another network")
	cli(t, "wallet", "balance", "foreign").want(t, exitUsage, "another network")
	if r := cli(t, "wallet", "balance").want(t, 0); strings.Contains(r.out, "foreign") || !strings.Contains(r.out, "alice") {
		t.Errorf("balance:\n%s", r.out)
	}
	if f.submits() != 0 {
		t.Error("something was handed in")
	}
	// Without --genesis the wallet is for the network of the node that QUIPU_RPC names.
	cli(t, "wallet", "new", "local", "--no-passphrase").want(t, 0, f.g.NetworkID().Short())
	t.Setenv("QUIPU_RPC", "")
	cli(t, "wallet", "new", "x", "--no-passphrase").want(t, exitUsage, "quipu-open")
}

func TestPassphraseLine(t *testing.T) {
	for in, want := range map[string]string{"a b\n": "a b", "a\r\nrest": "a", " a ": " a ", "ü": "ü"} {
		if got, err := firstLine(strings.NewReader(in), "x"); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

func put(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// flip changes one digit of the sealed part.
func flip(s string) string {
	i := strings.Index(s, `"sealed": "`) + len(`"sealed": "`)
	c := byte('0')
	if s[i] == '0' {
		c = '1'
	}
	return s[:i] + string(c) + s[i+1:]
}

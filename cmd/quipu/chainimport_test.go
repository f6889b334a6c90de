package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quipu/bench"
)

// benchFile is a chain of 6 blocks with 20 payments each, and its bytes.
func benchFile(t *testing.T, dir, seed string) (file string, b []byte) {
	t.Helper()
	file = filepath.Join(dir, "chain"+seed)
	cli(t, "bench", "chain", "--blocks", "6", "--txs", "20", "--accounts", "9", "--seed", seed, "--out", file).want(t, 0, "6 blocks")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return file, b
}

// TestChainImport: whole, again, from standard input, of another network, cut, damaged, gone on with, and what info,
// verify and export say then.
func TestChainImport(t *testing.T) {
	dir := home(t)
	file, whole := benchFile(t, dir, "1")
	data := filepath.Join(dir, "a")
	if r := cli(t, "chain", "import", file, "--data-dir", data).want(t, 0, "0 known before, 6 verified and added with 120 transactions"); !strings.Contains(r.out, "height        6") {
		t.Error(r.out)
	}
	cli(t, "chain", "import", file, "--data-dir", data).want(t, 0, "6 known before, 0 verified")
	cliCtx(t, t.Context(), string(whole), "chain", "import", "-", "--data-dir", filepath.Join(dir, "stdin")).want(t, 0, "6 verified")

	if r := cli(t, "chain", "info", "--data-dir", data).want(t, 0); !strings.Contains(r.out, "headers       7, bodies 7, invalid 0\naccounts      9\n") {
		t.Error(r.out)
	}
	if r := cli(t, "chain", "info", "--sizes", "--data-dir", data).want(t, 0); !strings.Contains(r.out, "in 120 records\n") {
		t.Error(r.out)
	}
	cli(t, "chain", "verify", "--data-dir", data).want(t, 0)
	copied := filepath.Join(dir, "again")
	cli(t, "chain", "export", copied, "--data-dir", data).want(t, 0)
	if b, err := os.ReadFile(copied); err != nil || string(b) != string(whole) {
		t.Errorf("what comes out is not what went in (%v)", err)
	}
	cli(t, "chain", "info", "--data-dir", filepath.Join(dir, "none")).want(t, exitNotFound)

	other, _ := benchFile(t, dir, "2")
	one := cli(t, "chain", "import", other, "--data-dir", data).want(t, exitData, "is of network bench (")
	if strings.Count(one.err, "quipu: ") != 1 || one.out != "" {
		t.Errorf("not one sentence: %s%s", one.err, one.out)
	}
	cli(t, "chain", "import", file).want(t, exitData, "not of the open network", "--data-dir")
	cli(t, "chain", "info", "--data-dir", data).want(t, 0) // as it was

	size := len(whole) / 2
	spoil := func(name string, b []byte) string {
		f := filepath.Join(dir, name)
		if err := os.WriteFile(f, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return f
	}
	broken := filepath.Join(dir, "b")
	cli(t, "chain", "import", spoil("cut", whole[:size]), "--data-dir", broken).want(t, exitOther, "it ends in the body of block 3", "all whole blocks before that were kept")
	flipped := append([]byte(nil), whole...)
	flipped[len(whole)-10] ^= 1
	cli(t, "chain", "import", spoil("flipped", flipped), "--data-dir", broken).want(t, exitRejected, "is damaged: block 6 (", "2 known before, 3 verified")
	cli(t, "chain", "import", file, "--data-dir", broken).want(t, 0, "5 known before, 1 verified")
	cli(t, "chain", "import", spoil("head", whole[:10]), "--data-dir", broken).want(t, exitOther, "shorter than its head")
	cli(t, "chain", "import", spoil("text", []byte(strings.Repeat("no chain ", 9))), "--data-dir", broken).want(t, exitOther, "doesn't begin with")
	cli(t, "chain", "import", filepath.Join(dir, "none"), "--data-dir", broken).want(t, exitNotFound)
	cli(t, "chain", "import", dir, "--data-dir", broken).want(t, exitUsage, "is no file")

	var d importDoc
	r := cli(t, "chain", "import", file, "--data-dir", filepath.Join(dir, "c"), "--json").want(t, 0)
	if err := json.Unmarshal([]byte(r.out), &d); err != nil || !d.OK || d.Applied != 6 || d.Height != 6 || d.Txs != 120 {
		t.Errorf("%+v, %v", d, err)
	}
}

// TestBenchImport runs the whole thing small: chain made and kept, a process for each run, the middle one chosen.
func TestBenchImport(t *testing.T) {
	dir := home(t)
	t.Setenv(asProgram, "1") // for the processes it starts
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
	line := []string{"bench", "import", "--blocks", "4", "--txs", "30", "--accounts", "20", "--dir", dir}
	profile := filepath.Join(dir, "cpu")
	r := cli(t, append(line, "--json", "--cpuprofile", profile)...).want(t, 0, "making ")
	var d bench.ImportResult
	if err := json.Unmarshal([]byte(r.out), &d); err != nil {
		t.Fatal(err)
	}
	if len(d.Runs) != 3 || d.Blocks != 4 || d.Txs != 120 || d.TxPerS <= 0 || d.PeakRSSMB <= 0 || len(d.Stages) < 8 || d.Go == "" {
		t.Errorf("%+v", d)
	}
	if !exists(profile) || !exists(profile+".open") {
		t.Error("no profile")
	}
	if r := cli(t, append(line, "--runs", "1")...).want(t, 0); strings.Contains(r.err, "making ") || !strings.Contains(r.out, "transactions  ") {
		t.Errorf("out: %s\nerr: %s", r.out, r.err)
	}
	r = cli(t, append(line, "--runs", "1", "--hints", "--cores", "1", "--json")...).want(t, 0, "hints")
	if err := json.Unmarshal([]byte(r.out), &d); err != nil || !d.Hints || d.Using != 1 || d.Txs != 120 {
		t.Errorf("%v: %+v", err, d)
	}
	left, _ := filepath.Glob(filepath.Join(dir, "quipu-bench-*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	cli(t, "bench", "import", "--runs", "0").want(t, exitUsage)
	cli(t, "bench", "import", "--accounts", "0").want(t, exitUsage)
	cli(t, "bench", "import", "--cores", "-1").want(t, exitUsage, "--cores")
	cli(t, "bench", "chain").want(t, exitUsage, "--out")
	cli(t, "bench", "import", "--file", filepath.Join(dir, "none")).want(t, exitOther, "no such file")
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/chain/ledger"
	"quipu/rpc"
)

// process is this test binary run as the program.
type process struct {
	cmd *exec.Cmd
	url string // of a node's API

	mu  sync.Mutex
	log bytes.Buffer
}

// startNode starts a node and waits for its banner.
func startNode(t *testing.T, args ...string) *process {
	t.Helper()
	args = append([]string{"node", "run", "--profile", "testnet", "--listen", "/ip4/127.0.0.1/tcp/0", "--http", "127.0.0.1:0"}, args...)
	p := &process{cmd: exec.Command(os.Args[0], args...)}
	p.cmd.Env = append(os.Environ(), asProgram+"=1")
	pipe, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it may have ended
		_, _ = p.cmd.Process.Wait()
	})
	url := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(pipe)
		for lines.Scan() {
			p.mu.Lock()
			p.log.WriteString(lines.Text() + "\n")
			p.mu.Unlock()
			if u, ok := strings.CutPrefix(lines.Text(), "  API      "); ok {
				url <- u
			}
		}
		close(url)
	}()
	select {
	case p.url = <-url:
	case <-time.After(30 * time.Second):
	}
	if p.url == "" {
		t.Fatalf("the node didn't start:\n%s", p.text())
	}
	return p
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// waitFor asks until it is so.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		if ok() {
			return
		}
		select {
		case <-t.Context().Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	t.Fatalf("still not: %s", what)
}

// easyNetwork writes the genesis of a network that is mined with a few hashes.
func easyNetwork(t *testing.T, dir, name string) (string, *chain.Genesis) {
	t.Helper()
	g := chaintest.Genesis(func(g *chain.Genesis) { g.Name = name })
	file := filepath.Join(dir, name+".json")
	if err := os.WriteFile(file, g.JSON(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, g
}

// TestNodeProcess is one node's life: a wallet, mined coins, a payment, a look at it, a clean stop, a check of all its
// data, and everything that can be wrong with its data directory.
func TestNodeProcess(t *testing.T) {
	dir := home(t)
	genesis, g := easyNetwork(t, dir, "easy")
	data := filepath.Join(dir, "node")
	cli(t, "wallet", "new", "alice", "--genesis", genesis, "--no-passphrase").want(t, 0)
	bob := strings.TrimSpace(cli(t, "wallet", "new", "bob", "--genesis", genesis, "--no-passphrase").want(t, 0, "not backed up").out)

	p := startNode(t, "--data-dir", data, "--genesis", genesis, "--mine", "--mine-rate", "20", "--miner", "alice")
	node := &rpc.Client{URL: p.url}
	waitFor(t, "two blocks", func() bool {
		h, err := node.ChainHead(context.Background())
		return err == nil && h.Header.Height >= 2
	})
	t.Setenv("QUIPU_RPC", p.url)
	t.Setenv("QUIPU_WALLET", "alice")

	// Two spellings of the recipient, both waits.
	r := cli(t, "send", "bob", "1.5", "-y").want(t, 0, "verified", "in block", "confirmed", "easy", bob)
	id := strings.TrimSpace(r.out)
	r = cli(t, "send", bob, "0.5", "-y", "--json", "--wait", "included", "--memo", "second", "--confirmations", "1").want(t, 0)
	var doc sendDoc
	if err := json.Unmarshal([]byte(r.out), &doc); err != nil || doc.Outcome != "included" || doc.Block == nil || doc.Amount != chain.Knots/2 || doc.To != bob {
		t.Fatalf("send --json: %v\n%s", err, r.out)
	}

	if r := cli(t, "tx", "status", id).want(t, 0); !strings.Contains(r.out, "in a block of the best chain") || !strings.Contains(r.out, "verified it itself") {
		t.Errorf("tx status:\n%s", r.out)
	}
	var st txDoc
	if r := cli(t, "tx", "status", id, "--json").want(t, 0); json.Unmarshal([]byte(r.out), &st) != nil || st.Block == nil || st.Confirmations < 2 || st.Schema != "quipu.tx-status/v1" {
		t.Errorf("tx status --json:\n%s", r.out)
	}
	if r := cli(t, "tx", "watch", id).want(t, 0, "confirmed"); strings.TrimSpace(r.out) != id {
		t.Errorf("tx watch:\n%s", r.out)
	}
	if r := cli(t, "wallet", "balance", "bob").want(t, 0); r.out != "2\n" {
		t.Errorf("bob has %q", r.out)
	}
	if r := cli(t, "chain", "block", st.Block.String(), "--txs").want(t, 0); !strings.Contains(r.out, id) {
		t.Errorf("the block of the payment:\n%s", r.out)
	}
	for _, args := range [][]string{{"status"}, {"peer", "list"}, {"peer", "bans"}, {"chain", "head"}, {"chain", "blocks"}, {"chain", "block", "1"}, {"wallet", "balance"}} {
		cli(t, args...).want(t, 0)
		if r := cli(t, append(args, "--json")...).want(t, 0); !json.Valid([]byte(r.out)) || !strings.Contains(r.out, `"schema": "quipu.`) {
			t.Errorf("%v --json:\n%s", args, r.out)
		}
	}
	cli(t, "tx", "status", strings.Repeat("ab", 32)).want(t, exitNotFound)
	cli(t, "chain", "block", "4000000").want(t, exitNotFound)

	checkProofs(t, dir, p, genesis, bob, id)

	// The directory is held by the running node.
	cli(t, "node", "run", "--data-dir", data, "--genesis", genesis, "--http", "").want(t, exitRunning, "process "+itoa(p.cmd.Process.Pid))
	cli(t, "node", "run", "--profile", "testnet", "--data-dir", filepath.Join(dir, "second"), "--genesis", genesis, "--listen", "/ip4/127.0.0.1/tcp/0",
		"--http", strings.TrimPrefix(p.url, "http://")).want(t, exitRunning, "address already in use")
	cli(t, "chain", "verify", "--data-dir", data).want(t, exitRunning)
	cli(t, "chain", "export", "--data-dir", data, filepath.Join(dir, "busy")).want(t, exitRunning)

	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil || !strings.Contains(p.text(), "stopping cleanly") {
		t.Fatalf("Ctrl-C: %v\n%s", err, p.text())
	}
	checkStopped(t, dir, data, genesis, g, id)
}

// checkStopped is what can be done with a stopped node's data directory, and what is refused.
func checkStopped(t *testing.T, dir, data, genesis string, g *chain.Genesis, txid string) {
	t.Helper()
	r := cli(t, "chain", "verify", "--data-dir", data, "--json").want(t, 0)
	var v verifyDoc
	if err := json.Unmarshal([]byte(r.out), &v); err != nil || !v.OK || v.Network != g.NetworkID() || v.Signatures < 2 || v.Issued == 0 {
		t.Fatalf("chain verify --json: %v\n%s", err, r.out)
	}
	cli(t, "chain", "verify", "--data-dir", data).want(t, 0)
	file := filepath.Join(dir, "chain.bin")
	cli(t, "chain", "export", "--data-dir", data, file).want(t, 0, "blocks")
	cli(t, "chain", "export", "--data-dir", data, file).want(t, 0, "bytes were there") // and nothing was added
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if r := cli(t, "chain", "export", "--data-dir", data, "-").want(t, 0); r.out != string(text) {
		t.Error("two exports of one chain differ")
	}
	if head, blocks, found := readExport(t, bytes.NewReader(text), txid); head.NetworkID() != g.NetworkID() || blocks != v.Height || !found {
		t.Errorf("the export has network %s, %d blocks, payment %v; want %s, %d, true", head, blocks, found, g, v.Height)
	}

	other, _ := easyNetwork(t, dir, "other")
	cli(t, "node", "run", "--data-dir", data, "--genesis", other, "--http", "").want(t, exitData, "another network")
	cli(t, "chain", "verify", "--data-dir", filepath.Join(dir, "nowhere")).want(t, exitNotFound, "nowhere")
	cli(t, "chain", "verify", "--data-dir", dir).want(t, exitNotFound)

	freeSpace = func(string) (uint64, error) { return 100 << 20, nil }
	defer func() { freeSpace = nil }()
	cli(t, "node", "run", "--data-dir", data, "--genesis", genesis, "--http", "").want(t, exitSpace, "100 MiB free", data)
}

func readExport(t *testing.T, in io.Reader, txid string) (*chain.Genesis, uint64, bool) {
	t.Helper()
	g, blocks, err := ledger.ReadExport(in)
	if err != nil {
		t.Fatal(err)
	}
	n, found := uint64(0), false
	for b, err := range blocks {
		if err != nil {
			t.Fatal(err)
		}
		n++
		raws, err := chain.SplitBody(b.Body)
		if err != nil {
			t.Fatal(err)
		}
		for _, raw := range raws {
			found = found || chain.TxIDOf(g.NetworkID(), raw).String() == txid
		}
	}
	return g, n, found
}

// TestDataDirectories: what is no data directory, or holds a store that does not open.
func TestDataDirectories(t *testing.T) {
	dir := home(t)
	genesis, _ := easyNetwork(t, dir, "easy")
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cli(t, "node", "run", "--data-dir", file, "--genesis", genesis, "--http", "").want(t, exitData)

	broken := filepath.Join(dir, "broken", "chain")
	if err := os.MkdirAll(broken, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(broken, "MANIFEST"), []byte("not a manifest"), 0o600); err != nil {
		t.Fatal(err)
	}
	cli(t, "node", "run", "--profile", "testnet", "--data-dir", filepath.Dir(broken), "--genesis", genesis, "--http", "").want(t, exitData, "damaged")
	cli(t, "chain", "verify", "--data-dir", filepath.Dir(broken)).want(t, exitData)

	cli(t, "node", "run", "--genesis", filepath.Join(dir, "none.json")).want(t, exitNotFound)
	cli(t, "node", "run", "--genesis", file).want(t, exitUsage, "no genesis of a network")
}

// TestLowSpaceWhileRunning: a mining node whose disk runs full stops with its own exit code, and nothing is lost.
func TestLowSpaceWhileRunning(t *testing.T) {
	dir := home(t)
	genesis, _ := easyNetwork(t, dir, "easy")
	data := filepath.Join(dir, "node")
	cli(t, "wallet", "new", "alice", "--genesis", genesis, "--no-passphrase").want(t, 0)
	var asked atomic.Int64
	freeSpace = func(string) (uint64, error) {
		if asked.Add(1) > 40 {
			return 1 << 20, nil
		}
		return 1 << 40, nil
	}
	defer func() { freeSpace = nil }()
	cli(t, "node", "run", "--profile", "testnet", "--data-dir", data, "--genesis", genesis, "--mine", "--mine-rate", "100", "--miner", "alice",
		"--listen", "/ip4/127.0.0.1/tcp/0", "--http", "127.0.0.1:0").want(t, exitSpace, data, "1 MiB free", "make room")
	freeSpace = nil
	var v verifyDoc
	r := cli(t, "chain", "verify", "--data-dir", data, "--json").want(t, 0)
	if err := json.Unmarshal([]byte(r.out), &v); err != nil || v.Height == 0 {
		t.Errorf("%v\n%s", err, r.out)
	}
}

// TestVerifyFinds: what differs is a failed check, exit 10, with the first thing that does; what can't be opened isn't.
func TestVerifyFinds(t *testing.T) {
	dir := home(t)
	before := verifyLedger
	t.Cleanup(func() { verifyLedger = before })
	verifyLedger = func(_ context.Context, _ ledger.Config, _ uint64, progress func(done, total uint64)) (ledger.Report, error) {
		progress(7, 10)
		return ledger.Report{Network: chain.NetworkID{1}, Height: 7}, fmt.Errorf("%w: account x differs", ledger.ErrCorrupt)
	}
	r := cli(t, "chain", "verify", "--data-dir", dir).want(t, exitCheck, "account x differs", "after block 7", filepath.Join(dir, "chain"))
	if !strings.Contains(r.out, "DOES NOT HOLD") {
		t.Errorf("%s", r.out)
	}
	var v verifyDoc
	if r := cli(t, "chain", "verify", "--data-dir", dir, "--json").want(t, exitCheck); json.Unmarshal([]byte(r.out), &v) != nil || v.OK || !strings.Contains(v.Problem, "account x") {
		t.Errorf("%s", r.out)
	}
	verifyLedger = func(context.Context, ledger.Config, uint64, func(done, total uint64)) (ledger.Report, error) {
		return ledger.Report{}, ledger.ErrNewerSchema
	}
	cli(t, "chain", "verify", "--data-dir", dir).want(t, exitData, "newer program")
}

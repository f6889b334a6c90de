package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"quipu/chain"
	"quipu/rpc"
)

// TestStatusScreen holds the screen: short lines, few of them, and a stranger's text can't steer the terminal.
func TestStatusScreen(t *testing.T) {
	s := rpc.NodeStatus{
		Version: "0.1.0", Name: "node-3", PID: 77, UptimeMS: 252_000, Network: rpc.Network{Name: "demo", ID: chain.NetworkID{0x77, 0xab}},
		PeerID: "12D3KooW", Listen: []string{"/ip4/127.0.0.1/tcp/4850"}, HTTP: "http://127.0.0.1:4851",
		Tip: rpc.BlockRef{Height: 900, ID: chain.BlockID{0xa0}}, TipAgeMS: 1500, BestHeader: rpc.BlockRef{Height: 1000},
		Sync: rpc.SyncStatus{State: "bodies", Behind: 100, Peers: 3}, Peers: rpc.PeerCount{In: 3, Out: 1}, Bans: 1,
		Mempool: rpc.MempoolStats{Txs: 2, Queued: 1, Bytes: 477, MaxBytes: 16 << 20},
		Mining:  rpc.Mining{On: true, HashRate: 498, RateCap: 500, Miner: "tqp1pxyz", BlocksMined: 1},
		Supply:  rpc.Supply{Genesis: 4000 * chain.Knots, Issued: 50 * chain.Knots, Burned: chain.Knots / 2, Max: 1e15},
		Health:  []rpc.Check{{Name: "peers", OK: true}, {Name: "tip", Detail: "no block for \x1b[2J 9 s"}},
	}
	golden(t, "status.golden", statusScreen(&s, "QUIPU_RPC"))
	s.Pruned = 88
	if screen := statusScreen(&s, ""); !strings.Contains(screen, "pruned    no bodies of blocks up to 88, all headers\n") {
		t.Error(screen)
	}
	for state, want := range map[string]string{"synced": "synced", "no_peers": "no peers", "headers": "headers  900 of 1000 blocks (90.0 %), 100 to go",
		"snapshot": "beginning with a snapshot", "rebuilding": "applying a heavier chain from block 0  900 of 1000 blocks (90.0 %)"} {
		s.Sync.State = state
		if got := syncLine(&s); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q", state, got)
		}
	}
}

func TestBarLine(t *testing.T) {
	start := time.Unix(1e9, 0)
	for _, c := range []struct {
		unit        string
		done, total uint64
		took        time.Duration
		want        string
	}{
		{"", 0, 0, 0, "x"},
		{"kB", 7, 0, 0, "x 7 kB"},
		{"", 0, 10, 0, "x [                        ] 0 of 10, 0 %"},
		{"blocks", 5, 10, 10 * time.Second, "x [============            ] 5 of 10 blocks, 50 %, 10.0 s left"},
		{"blocks", 5, 10, 10 * time.Millisecond, "x [============            ] 5 of 10 blocks, 50 %"},
		{"kB", 5_000_000, 10_000_000, time.Minute, "x [============            ] 5000 of 10000 MB, 50 %, 1m00s left"},
		{"", 10, 10, time.Hour, "x [========================] 10 of 10, 100 %"},
		{"", 11, 10, time.Hour, "x [========================] 10 of 10, 100 %"},
	} {
		b := bar{what: "x", unit: c.unit, start: start, since: mark{at: start}, later: mark{at: start}}
		if got := b.line(start.Add(c.took), c.done, c.total, barWidth); got != c.want {
			t.Errorf("%d of %d: %q", c.done, c.total, got)
		}
	}
}

// TestBarElsewhere: not on a terminal there is a line now and then, none with --quiet, and the time left is that of the
// last seconds' rate.
func TestBarElsewhere(t *testing.T) {
	var out strings.Builder
	a := &app{err: &out}
	b := a.barOf("x", "blocks")
	for s := range 61 { // 90 blocks in the first 30 s, then one a second
		b.updateAt(b.start.Add(time.Duration(s)*time.Second), uint64(min(3*s, 60+s)), 200)
	}
	b.done()
	want := "x 45 of 200 blocks, 22 %, 52.0 s left\n" +
		"x 90 of 200 blocks, 45 %, 37.0 s left\n" +
		"x 105 of 200 blocks, 52 %, 1m35s left\n" +
		"x 120 of 200 blocks, 60 %, 1m20s left\n"
	if out.String() != want {
		t.Errorf("%s", out.String())
	}
	out.Reset()
	a.quiet = true
	b = a.bar("x")
	b.updateAt(b.start.Add(time.Minute), 1, 2)
	if out.Len() > 0 {
		t.Error(out.String())
	}
}

// TestTxStatus: what is said of each state, and that unknown is exit 3 with the document all the same.
func TestTxStatus(t *testing.T) {
	home(t)
	f := newFake(t)
	id := strings.Repeat("ab", 32)
	rival := chain.TxID{9}
	for _, c := range []struct {
		status rpc.TxStatus
		code   int
		out    string
	}{
		{rpc.TxStatus{State: rpc.TxUnknown}, exitNotFound, "unknown to this node"},
		{rpc.TxStatus{State: rpc.TxQueued}, 0, "waiting for earlier"},
		{peersSay(4, 3), 0, "3 of 4 verified"},
		{included(1, 3), 0, "3 confirmations"},
		{rpc.TxStatus{State: rpc.TxReplaced, Rival: &rival, Never: true}, 0, "sending again is safe"},
		{rpc.TxStatus{State: rpc.TxRejected, Reason: "tx-signature: \x1b[31mred"}, 0, "tx-signature: ?[31mred"},
		{rpc.TxStatus{State: "what\x1b"}, 0, "what?"},
	} {
		f.status = func(int, chain.TxID) (rpc.TxStatus, error) { return c.status, nil }
		if r := cli(t, "tx", "status", id).want(t, c.code); !strings.Contains(r.out, c.out) {
			t.Errorf("%s:\n%s", c.status.State, r.out)
		}
		var doc txDoc
		if r := cli(t, "tx", "status", id, "--json").want(t, c.code); json.Unmarshal([]byte(r.out), &doc) != nil || doc.State != c.status.State {
			t.Errorf("%s:\n%s", c.status.State, r.out)
		}
	}
}

// TestTxWatchStream: --json gives one line a change, no line without one.
func TestTxWatchStream(t *testing.T) {
	home(t)
	f := newFake(t)
	steps := []rpc.TxStatus{{State: rpc.TxUnknown}, {State: rpc.TxPending}, {State: rpc.TxPending}, peersSay(4, 1), peersSay(4, 1), peersSay(4, 3), included(1, 1), included(1, 1), included(1, 2)}
	f.status = func(n int, _ chain.TxID) (rpc.TxStatus, error) { return steps[min(n, len(steps))-1], nil }
	r := cli(t, "tx", "watch", strings.Repeat("ab", 32), "--json").want(t, 0, "3 of 4 peers say verified too")
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	if len(lines) != 6 {
		t.Errorf("%d lines, want 6:\n%s", len(lines), r.out)
	}
	for _, line := range lines {
		var doc txDoc
		if err := json.Unmarshal([]byte(line), &doc); err != nil || doc.Schema != "quipu.tx-status/v1" {
			t.Errorf("%v: %s", err, line)
		}
	}
	if f.submits() != 0 {
		t.Error("watching handed something in")
	}
}

// TestQuiet: -q leaves standard output alone and silences progress and hints, never an error.
func TestQuiet(t *testing.T) {
	home(t)
	f := newFake(t)
	f.status = func(int, chain.TxID) (rpc.TxStatus, error) { return included(1, 2), nil }
	r := cli(t, "send", "bob", "1", "-y", "-q").want(t, 0)
	f.wantTxID(t, r)
	if r.err != "" {
		t.Errorf("err: %s", r.err)
	}
	cli(t, "send", "bob", "100", "-y", "-q").want(t, exitFunds, "quipu: wallet alice has")
}

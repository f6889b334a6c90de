package node

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/chain/statetree"
	"quipu/rpc"
)

// snapWorld is a world with a chain of n blocks that pay many accounts, and two nodes that have it and snapshots of
// every fourth block: those of blocks 4 and 8 are at least 4 deep if n is 12 or more.
func snapWorld(t *testing.T, n int, f func(w *world, gen *chaintest.Gen)) {
	g := chaintest.Genesis(func(g *chain.Genesis) { g.Time = worldStart - 3_600_000 }, alice, bob)
	gen := chaintest.New(g)
	gen.Chain("a", n, func(i int) []chain.Tx {
		var outs []chain.Output
		for j := range 100 {
			outs = append(outs, chain.Output{To: chain.Account{byte(i), byte(j), 1}, Amount: 5})
		}
		return []chain.Tx{alice.Pay(g, gen.Account(alice.Account).Nonce, 0, outs...)}
	})
	inWorld(t, g, func(w *world) {
		for range 2 {
			w.start(func(c *Config) { c.DataDir, c.snapshots, c.FreeSpace = t.TempDir(), 4, plenty })
		}
		time.Sleep(time.Second)
		for from, to := 1, min(n, 9); from <= n; from, to = to+1, n {
			w.feed(w.nodes[0], gen, from, to)
			w.within(10*time.Second, "here", agree(uint64(to), w.nodes...))
			w.within(10*time.Second, "snapshots written", func() bool {
				return !slices.ContainsFunc(w.nodes, func(s *Node) bool {
					list := s.Snapshots()
					return len(list) == 0 || list[len(list)-1].Height < uint64(to/4*4)
				})
			})
		}
		f(w, gen)
	})
}

func plenty(string) (uint64, error) { return 1 << 50, nil }

func (w *world) feed(n *Node, gen *chaintest.Gen, from, to int) {
	w.Helper()
	for i := from; i <= to; i++ {
		b := gen.Get(fmt.Sprintf("a%d", i))
		if _, err := n.AddHeaders([]chain.Header{b.Header}); err != nil {
			w.Fatal(err)
		}
		if err := n.Import([]chain.Block{b.Block}); err != nil {
			w.Fatal(err)
		}
	}
}

func fromSnapshot(c *Config) { c.SyncSnapshot, c.snapshots = true, 4 }

func (n *Node) saw(kind string) bool {
	list, _ := n.events.since(0)
	return slices.ContainsFunc(list, func(e rpc.Event) bool { return e.Kind == kind })
}

// A node begins with the snapshot of block 8, has the rest at once, and is verified once it has fetched and applied what lies
// before. Then it is a node as any other, and serves all.
func TestSnapshotSync(t *testing.T) {
	snapWorld(t, 14, func(w *world, gen *chaintest.Gen) {
		n := w.start(fromSnapshot)
		if s := n.snapshotStatus(); s == nil || s.State != "waiting" || n.Verified() {
			w.Fatalf("at start: %+v", s)
		}
		if s := n.syncStatus(1); s.State != "snapshot" {
			w.Fatalf("at start: %+v", s)
		}
		w.within(10*time.Second, "at the tip", agree(14, w.nodes...))
		if !n.saw("node.snapshot") {
			w.Fatal("it applied all")
		}
		verified := func() rpc.Check {
			list := (&api{n: n}).health().Ready
			return list[len(list)-1]
		}
		if c := verified(); c.Name != "verified" || c.OK || !strings.Contains(c.Detail, "snapshot of block 8") {
			w.Fatalf("ready: %+v", c)
		}
		if base, ok := n.ledger.Base(); !ok || base.Height != 8 || n.Verified() {
			w.Fatalf("base %v", base)
		}
		early := gen.Get("a2").Checked.Txs()[0].ID()
		w.within(30*time.Second, "verified", n.Verified)
		if c := verified(); !c.OK {
			w.Fatalf("not ready: %+v", c)
		}
		if _, raw, ok, err := n.ledger.FindTx(early); !ok || err != nil || raw == nil {
			w.Fatalf("an early payment: %v %v", ok, err)
		}
		if h := n.ledger.Held(); len(h) != 1 || h[0].From != 1 || !n.saw("node.verified") || n.snapshotStatus() != nil {
			w.Fatalf("held %v", h)
		}
	})
}

// The first peer comes long after the start, as where one has to be found first. Until its headers are here, that says
// nothing about the chain, whenever the node looks.
func TestSnapshotSyncLatePeer(t *testing.T) {
	snapWorld(t, 14, func(w *world, _ *chaintest.Gen) {
		server := w.nodes[0].net.Addrs()[0]
		for late := time.Duration(0); late < 250*time.Millisecond; late += 25 * time.Millisecond {
			n := w.start(func(c *Config) { fromSnapshot(c); c.Bootstrap = nil })
			time.Sleep(2*headersSettle + late) // virtual
			if err := n.net.Connect(context.Background(), server); err != nil {
				t.Fatal(err)
			}
			w.within(10*time.Second, "at the tip", agree(14, n))
			if !n.saw("node.snapshot") {
				t.Fatalf("%v: it applied all", late)
			}
			w.halt(n)
		}
	})
}

// It is stopped between beginning and confirming, and goes on.
func TestSnapshotSyncRestarts(t *testing.T) {
	snapWorld(t, 14, func(w *world, _ *chaintest.Gen) {
		dir := w.TempDir()
		n := w.start(func(c *Config) { fromSnapshot(c); c.DataDir, c.FreeSpace = dir, plenty })
		w.within(10*time.Second, "begun", func() bool { _, ok := n.ledger.Base(); return ok })
		w.halt(n)
		n = w.start(func(c *Config) { fromSnapshot(c); c.DataDir, c.FreeSpace = dir, plenty })
		if base, ok := n.ledger.Base(); !ok || base.Height != 8 || n.awaiting.Load() {
			w.Fatalf("after the restart: %v", base)
		}
		w.within(30*time.Second, "verified at the tip", func() bool { return n.Verified() && agree(14, w.nodes...)() })
		if list := n.Snapshots(); len(list) == 0 {
			w.Fatalf("it serves %v itself", list)
		}
	})
}

// halt stops the node started last, which isn't looked at any more.
func (w *world) halt(n *Node) {
	w.Helper()
	last := len(w.nodes) - 1
	if w.nodes[last] != n {
		w.Fatal("not the last")
	}
	w.stop[last]()
	w.stop[last] = func() {}
	w.nodes = w.nodes[:last]
}

// Where no peer has a snapshot deep enough, all blocks are applied; a short chain is known to have none.
func TestNoSnapshot(t *testing.T) {
	for _, blocks := range []int{5, 11} {
		snapWorld(t, blocks, func(w *world, _ *chaintest.Gen) {
			n := w.start(fromSnapshot)
			start := time.Now()
			w.within(time.Minute, "at the tip", agree(uint64(blocks), w.nodes...))
			if !n.Verified() || n.saw("node.snapshot") {
				w.Fatal("it began with a snapshot")
			}
			if took := time.Since(start); took < headersSettle || blocks < 8 && took > 3*headersSettle {
				w.Fatalf("it took %v", took)
			}
		})
	}
}

// Nor does a node wait for a snapshot for ever where none comes and blocks go on coming.
func TestNoSnapshotOfAChainThatGrows(t *testing.T) {
	snapWorld(t, 14, func(w *world, gen *chaintest.Gen) {
		servers := slices.Clone(w.nodes)
		n := w.start(func(c *Config) { fromSnapshot(c); c.snapshots = 7 }) // what its peers have doesn't fit
		start := time.Now()
		for _, b := range gen.Chain("more", 12, nil) {
			time.Sleep(patienceSmall / 3) // virtual
			if _, err := servers[0].AddHeaders([]chain.Header{b.Header}); err != nil {
				w.Fatal(err)
			}
			if err := servers[0].Import([]chain.Block{b.Block}); err != nil {
				w.Fatal(err)
			}
		}
		w.within(patienceSmall/3, "at the tip", agree(26, w.nodes...))
		if !n.Verified() || n.saw("node.snapshot") {
			w.Fatalf("after %v it began with a snapshot", time.Since(start))
		}
	})
}

// genesis -> a1 … a14
//
//	\-> f1 -> false -> g1 … g16
//
// The header of false names a state root that its body doesn't lead to, and more work lies above: headers alone don't show
// it. A node that has begun with g3 finds it, raises the alarm, and goes over to a14.
func TestFalseSnapshot(t *testing.T) {
	snapWorld(t, 14, func(w *world, gen *chaintest.Gen) {
		gen.SetTip("genesis")
		gen.Next("f1", nil)
		gen.Next("false", []chain.Tx{alice.Pay(gen.G, 0, 0, chaintest.To(bob, 5))}, chaintest.Header(func(h *chain.Header) { h.StateRoot[7] ^= 1 }))
		gen.Chain("g", 16, nil)
		servers := slices.Clone(w.nodes)
		n := w.start(func(c *Config) { fromSnapshot(c); c.snapshots = 400 }) // it finds none that fits
		names := []string{"f1", "false"}
		for i := range 16 {
			names = append(names, fmt.Sprintf("g%d", i+1))
		}
		var blocks []chain.Block
		for _, name := range names {
			blocks = append(blocks, gen.Get(name).Block)
			if _, err := n.AddHeaders([]chain.Header{blocks[len(blocks)-1].Header}); err != nil {
				w.Fatal(err)
			}
		}
		gen.SetTip("g3")
		var leaves []statetree.Leaf
		for a, s := range gen.Accounts() {
			leaves = append(leaves, statetree.Leaf{Account: a, Balance: s.Balance, Nonce: s.Nonce})
		}
		slices.SortFunc(leaves, func(a, b statetree.Leaf) int {
			p, q := statetree.PathOf(a.Account), statetree.PathOf(b.Account)
			return bytes.Compare(p[:], q[:])
		})
		if err := n.ledger.LoadSnapshot(gen.Get("g3").ID(), func() (l statetree.Leaf, ok bool, err error) {
			if ok = len(leaves) > 0; ok {
				l, leaves = leaves[0], leaves[1:]
			}
			return l, ok, nil
		}); err != nil {
			w.Fatal(err)
		}
		if err := n.Import(blocks); err != nil { // those before the snapshot too
			w.Fatal(err)
		}
		if tip := n.Tip(); tip.ID != gen.Get("g16").ID() {
			w.Fatalf("tip %d", tip.Header.Height)
		}
		w.within(2*time.Minute, "the honest chain followed", agree(14, append(servers, n)...))
		if !n.Verified() || !n.saw("node.alarm") || !n.ledger.Info(gen.Get("false").ID()).Invalid {
			w.Fatalf("alarm %v", n.saw("node.alarm"))
		}
		for _, s := range servers {
			if len(s.net.Bans()) > 0 { // it never said that it had validated what it began with
				w.Fatalf("bans: %v", s.net.Bans())
			}
		}
	})
}

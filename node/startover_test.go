package node

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/chain/ledger"
	"quipu/p2p"
	"quipu/p2p/wire"
)

// payments are blocks with one payment of an account each.
func payBlocks(gen *chaintest.Gen, name string, n int, from chaintest.Key) []*chaintest.Block {
	gen.Miner = from.Account
	return gen.Chain(name, n, func(i int) []chain.Tx {
		return []chain.Tx{from.Pay(gen.G, gen.Account(from.Account).Nonce, uint64(i), chaintest.To(carol, 1))}
	})
}

func kinds(n *Node) map[string]int {
	out := map[string]int{}
	all, _ := n.events.since(0)
	for _, e := range all {
		out[e.Kind]++
	}
	return out
}

// A heavier branch that leaves the chain below what can be undone is followed from block 0: with an alarm, while nothing
// is judged or mined, and with everybody's payments back in the pool.
//
// genesis -> a1 -> a2 -> a3 -> … -> a10      alice's payments
//
//	\-> b1 -> … -> b9        bob's payments
func TestDeepReorgIsFollowedFromBlock0(t *testing.T) {
	g := worldGenesis(1)
	inWorld(t, g, func(w *world) {
		gen := chaintest.New(g)
		time.Sleep(time.Minute) // virtual: the blocks below are in the past
		n := w.start(func(c *Config) { c.undoKeep = 4 })
		feed(t, n, payBlocks(gen, "a", 10, alice)...)
		waiting := alice.Pay(g, 10, 0, chaintest.To(carol, 5))
		submit(w, n, waiting)
		b := payBlocks(gen.SetTip("a2"), "b", 9, bob)
		feed(t, n, b...)
		if len(alarms(n)) != 1 { // what follows it may have begun
			t.Fatalf("tip at height %d, alarms %q", n.Tip().Header.Height, alarms(n))
		}
		w.within(5*time.Second, "on the heavier branch", func() bool { return n.Tip().ID == b[8].ID() && !n.rebuilding.Load() })
		if k := kinds(n); k["node.rebuilding"] != 1 || k["node.rebuilt"] != 1 || n.deep.Load() != nil || len(n.fault) != 0 {
			t.Errorf("events %v, deep %v", k, n.deep.Load())
		}
		if following := (&api{n: n}).health().Ready[3]; !following.OK {
			t.Errorf("health: %+v", following)
		}
		for i := 2; i < 10; i++ {
			id := gen.Get(fmt.Sprint("a", i+1)).Checked.Txs()[0].ID()
			if _, pending, ok := n.pool.ByID(id); !ok || !pending {
				t.Errorf("payment %d of the branch that was left isn't back (%v, %v)", i, ok, pending)
			}
		}
		if _, pending, ok := n.pool.ByID(waiting.ID(g.NetworkID())); !ok || !pending {
			t.Error("a payment that waited is lost")
		}
		if s := n.pool.Stats(); s.Txs != 9 || s.GappedTxs != 0 {
			t.Errorf("pool: %+v", s)
		}
		for _, c := range n.pool.Candidates(1 << 20) {
			if !n.known(c.Leaf()) {
				t.Error("its signature would be verified again")
			}
		}
		feed(t, n, payBlocks(gen.SetTip("b9"), "c", 2, bob)...)
		if n.Tip().ID != gen.Get("c2").ID() {
			t.Error("it doesn't go on")
		}
	})
}

// While the chain is applied anew no transaction is judged, nothing is mined, status and health say why, and what was in
// the pool outlives a restart.
func TestRebuildingIsSaidAndOutlivesARestart(t *testing.T) {
	gen := chaintest.New(crashGenesis())
	cfg := Config{Genesis: gen.G, DataDir: t.TempDir(), undoKeep: 4}
	n := withoutNet(t, cfg)
	feed(t, n, payBlocks(gen, "a", 10, alice)...)
	raw := chaintest.Raw(alice.Pay(gen.G, 10, 0, chaintest.To(carol, 5)))
	if res := n.AcceptTxs([][]byte{raw}); res[0].Err != nil {
		t.Fatal(res[0].Err)
	}
	feed(t, n, payBlocks(gen.SetTip("a2"), "b", 9, bob)...)
	if err := n.beginAnew(); err != nil || !n.rebuilding.Load() {
		t.Fatal(err)
	}
	for range 2 {
		for range 3 {
			if _, _, err := n.ledger.Step(atMost(1)); err != nil {
				t.Fatal(err)
			}
		}
		height := n.Tip().Header.Height
		res := n.AcceptTxs([][]byte{raw})
		if res[0].Err != errRebuilding || res[0].Checked || p2pFault(res[0].Err) {
			t.Fatalf("a transaction is judged: %+v", res[0])
		}
		if h := n.pool.Stats(); h.Txs != 0 || len(n.aside) != 1 {
			t.Fatalf("pool %+v, %d aside", h, len(n.aside))
		}
		n.savePool()
		n.Close()
		n = withoutNet(t, cfg)
		n.loadPool()
		if n.Tip().Header.Height != height || !n.rebuilding.Load() || n.ledger.Rebuilding() == nil {
			t.Fatalf("opened at height %d, was at %d", n.Tip().Header.Height, height)
		}
	}
	if err := n.startOver(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n.Tip().ID != gen.Get("b9").ID() || n.rebuilding.Load() {
		t.Fatalf("tip at height %d", n.Tip().Header.Height)
	}
	if s := n.pool.Stats(); s.Txs != 9 {
		t.Fatalf("pool: %+v", s)
	}
	n.Close()
	if _, err := ledger.Verify(t.Context(), ledger.Config{Dir: filepath.Join(cfg.DataDir, "chain")}, 0, nil); err != nil {
		t.Fatal(err)
	}
}

// A pruned node whose ledger knows of a deep branch from an earlier run raises the alarm, and isn't ready until it has
// followed it. Alone it says what it lacks.
func TestDeepBranchFoundAtStart(t *testing.T) {
	gen := chaintest.New(crashGenesis())
	cfg := Config{Genesis: gen.G, DataDir: t.TempDir(), undoKeep: 4, Prune: 8}
	n := withoutNet(t, cfg)
	a := payBlocks(gen, "a", 20, alice)
	feed(t, n, a...)
	feed(t, n, payBlocks(gen.SetTip("a2"), "b", 19, bob)...)
	n.Close()
	n = withoutNet(t, cfg)
	for range 2 {
		var missing *ledger.MissingBodiesError
		if err := n.startOver(t.Context()); !errors.As(err, &missing) || missing.Bodies != 12 {
			t.Fatal(err)
		}
		if n.deep.Load() == nil || len(alarms(n)) != 1 || n.Tip().ID != a[19].ID() {
			t.Fatalf("deep %v, alarms %q, tip at %d", n.deep.Load(), alarms(n), n.Tip().Header.Height)
		}
	}
	var back []chain.Block
	for _, b := range a[:12] {
		back = append(back, b.Block)
	}
	if err := n.Import(back); err != nil {
		t.Fatal(err)
	}
	if err := n.startOver(t.Context()); err != nil || n.Tip().ID != gen.Get("b19").ID() || n.deep.Load() != nil {
		t.Fatalf("tip at %d, deep %v, %v", n.Tip().Header.Height, n.deep.Load(), err)
	}
}

func atMost(n int) func() bool { return func() bool { n--; return n >= 0 } }

func p2pFault(err error) bool { return strings.Contains(err.Error(), "rule") }

// A file with a heavier chain that leaves ours below the undo is imported whole.
func TestImportOfADeeperChain(t *testing.T) {
	gen := chaintest.New(crashGenesis())
	n := withoutNet(t, Config{Genesis: gen.G, DataDir: t.TempDir(), undoKeep: 4})
	feed(t, n, payBlocks(gen, "a", 10, alice)...)
	var blocks []chain.Block
	for _, b := range payBlocks(gen.SetTip("genesis"), "b", 11, bob) {
		blocks = append(blocks, b.Block)
	}
	done, err := n.ImportStream(t.Context(), stream(blocks, nil), nil)
	if err != nil || done.Beside || n.Tip().ID != gen.Get("b11").ID() {
		t.Fatalf("%+v, tip at %d, %v", done, n.Tip().Header.Height, err)
	}
}

// A node that pruned what it has to apply again gets it from its peers, keeps its chain until all is there, and prunes on.
func TestPrunedNodeStartsOverFromItsPeers(t *testing.T) {
	g := worldGenesis(1)
	inWorld(t, g, func(w *world) {
		gen := chaintest.New(g)
		time.Sleep(time.Minute) // virtual
		a := payBlocks(gen, "a", 20, alice)
		b := payBlocks(gen.SetTip("a2"), "b", 19, bob)
		pruned := w.start(func(c *Config) { c.undoKeep, c.Prune = 4, 8 })
		feed(t, pruned, a...)
		feed(t, pruned, b...)
		w.within(5*time.Second, "in want of bodies", func() bool { return len(pruned.Wanted(1<<20)) == 12 })
		time.Sleep(30 * time.Second) // virtual
		if pruned.Tip().ID != a[19].ID() || pruned.rebuilding.Load() {
			t.Fatal("it gave up its chain before it had all of the other")
		}
		whole := w.start(nil)
		feed(t, whole, a...)
		feed(t, whole, b...)
		w.within(time.Minute, "the pruned node on the heavier branch", agree(21, whole, pruned))
		w.within(time.Second, "an ordinary node again", func() bool { return !pruned.rebuilding.Load() && pruned.ledger.Pruned() >= 12 })
		if len(pruned.net.Bans())+len(whole.net.Bans()) != 0 {
			t.Errorf("bans %v %v", pruned.net.Bans(), whole.net.Bans())
		}
	})
}

// liar is a bare host that offers a chain and says that it has validated it.
func (w *world) liar(blocks []*chaintest.Block) p2p.Host {
	h := w.host()
	tip := blocks[len(blocks)-1].State
	answer := func(name string, max int, f func(st network.Stream, request []byte)) {
		h.SetStreamHandler(protocol.ID(wire.ProtocolID(w.g.NetworkID(), name)), func(st network.Stream) {
			defer st.Close()
			if request, err := wire.ReadFrame(st, max); err == nil {
				f(st, request)
			}
		})
	}
	answer(wire.NameStatus, wire.MaxStatus, func(st network.Stream, _ []byte) {
		s := wire.Status{BestID: tip.ID, BestHeight: tip.Header.Height, BestWork: tip.Work, TipID: tip.ID, TipHeight: tip.Header.Height,
			TipWork: tip.Work, Version: 1, Clock: uint64(time.Now().UnixMilli()), Ranges: []wire.Range{{From: 1, To: tip.Header.Height}}}
		wire.WriteFrame(st, s.Append(nil))
	})
	answer(wire.NameHeaders, wire.MaxHeadersRequest, func(st network.Stream, b []byte) {
		q, err := wire.DecodeHeadersRequest(b)
		if err != nil {
			return
		}
		from := 0
		for i, b := range blocks {
			for _, id := range q.Locator {
				if b.ID() == id {
					from = max(from, i+1)
				}
			}
		}
		var hs []chain.Header
		for _, b := range blocks[from:] {
			hs = append(hs, b.Header)
		}
		wire.WriteFrame(st, wire.AppendHeaders(nil, hs))
	})
	answer(wire.NameBodies, wire.MaxBodiesRequest, func(st network.Stream, b []byte) {
		q, err := wire.DecodeBodiesRequest(b)
		if err != nil {
			return
		}
		for _, id := range q.IDs {
			code, body := wire.BodyMissing, []byte(nil)
			for _, b := range blocks {
				if b.ID() == id {
					code, body = wire.BodyFollows, b.Body
				}
			}
			wire.WriteBody(st, code, body)
		}
	})
	w.stop = append(w.stop, func() { h.Close() })
	return h
}

func bannedFor(n *Node, id peer.ID) p2p.Evidence {
	for _, b := range n.net.Bans() {
		if b.ID == id.String() {
			return b.Evidence
		}
	}
	return ""
}

// A heavier branch with an invalid block at depth: two nodes follow it as far as it is good, find the bad block, go back to
// the best valid one and remember it. Who claims the branch's end as validated is banned; the node that brought the other one
// the headers, and served it the bodies, is not.
//
// genesis -> a1 -> … -> a8
//
//	\-> b1 -> b2 -> … -> b9 -> bad -> c1 -> c2      offered by the liar to the relay alone
func TestInvalidBranchCostsWhoClaimsItNeverWhoRelaysIt(t *testing.T) {
	g := worldGenesis(1)
	for _, undo := range []int{0, 4} { // within undo, and below it
		t.Run(fmt.Sprint("undo ", undo), func(t *testing.T) {
			inWorld(t, g, func(w *world) {
				gen := chaintest.New(g)
				time.Sleep(time.Minute) // virtual
				a := payBlocks(gen, "a", 8, alice)
				b := payBlocks(gen.SetTip("genesis"), "b", 9, bob)
				b = append(b, gen.Next("bad", []chain.Tx{bob.Pay(g, 99, 0, chaintest.To(carol, 1))}))
				b = append(b, gen.Chain("c", 2, nil)...)
				relay := w.start(func(c *Config) { c.undoKeep = undo })
				feed(t, relay, a...)
				end := w.start(func(c *Config) { c.undoKeep = undo })
				w.within(20*time.Second, "one chain", agree(8, relay, end))

				liar := w.liar(b)
				info, err := peer.AddrInfoFromString(relay.net.Addrs()[0])
				if err != nil {
					t.Fatal(err)
				}
				if err := liar.Connect(w.Context(), *info); err != nil {
					t.Fatal(err)
				}
				bad := gen.Get("bad").ID()
				w.within(time.Minute, "the relay has found the bad block", func() bool { return relay.Invalid(bad) })
				w.within(20*time.Second, "the liar is banned", func() bool { return bannedFor(relay, liar.ID()) == p2p.InvalidTip })
				w.within(time.Minute, "the best valid block is the tip of both", func() bool {
					return relay.Tip().ID == b[8].ID() && end.Tip().ID == b[8].ID() && !relay.rebuilding.Load() && !end.rebuilding.Load()
				})
				if anew := kinds(relay)["node.rebuilding"] > 0; anew != (undo > 0) {
					t.Errorf("applied anew from block 0: %v", anew)
				}
				if !relay.Invalid(gen.Get("c2").ID()) || relay.BestHeader().ID != b[8].ID() {
					t.Error("the branch isn't remembered as invalid")
				}
				for i, n := range []*Node{relay, end} {
					for _, ban := range n.net.Bans() {
						if ban.ID != liar.ID().String() {
							t.Errorf("node %d banned %+v", i, ban)
						}
					}
					if len(n.fault) != 0 {
						t.Errorf("node %d: %v", i, <-n.fault)
					}
				}
				if len(end.net.Peers()) != 1 {
					t.Errorf("the end has %d peers, want the relay", len(end.net.Peers()))
				}
			})
		})
	}
}

// The relay knows the headers of a bad branch alone: the end gets them from it, finds the bad block in bodies that the
// liar serves it, bans the liar and keeps the relay.
func TestRelayOfHeadersAloneIsNeverCharged(t *testing.T) {
	g := worldGenesis(1)
	inWorld(t, g, func(w *world) {
		gen := chaintest.New(g)
		time.Sleep(time.Minute) // virtual
		a := payBlocks(gen, "a", 8, alice)
		b := payBlocks(gen.SetTip("a3"), "b", 6, bob)
		b = append(b, gen.Next("bad", []chain.Tx{bob.Pay(g, 99, 0, chaintest.To(carol, 1))}))
		b = append(b, gen.Chain("c", 2, nil)...)
		relay := w.start(nil)
		feed(t, relay, a...)
		end := w.start(nil)
		w.within(20*time.Second, "one chain", agree(8, relay, end))
		var hs []chain.Header
		for _, b := range b {
			hs = append(hs, b.Header)
		}
		if _, err := relay.AddHeaders(hs); err != nil {
			t.Fatal(err)
		}
		relay.net.Announce()
		w.within(20*time.Second, "the headers at the end", func() bool { return end.BestHeader().ID == b[8].ID() })
		liar := w.liar(append(append([]*chaintest.Block{}, a[:3]...), b...))
		info, err := peer.AddrInfoFromString(end.net.Addrs()[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := liar.Connect(w.Context(), *info); err != nil {
			t.Fatal(err)
		}
		w.within(time.Minute, "the liar is banned", func() bool { return bannedFor(end, liar.ID()) == p2p.InvalidTip })
		w.within(time.Minute, "the best valid block is the tip of both", agree(9, end, relay))
		if end.Tip().ID != b[5].ID() || len(end.net.Bans()) != 1 || len(relay.net.Bans()) != 0 {
			t.Errorf("tip at %d, bans %v and %v", end.Tip().Header.Height, end.net.Bans(), relay.net.Bans())
		}
	})
}

// After a restart in the middle what was put aside comes from a file: a signature that doesn't hold is found.
func TestWhatWasPutAsideIsVerified(t *testing.T) {
	gen := chaintest.New(chaintest.Genesis(nil, alice, bob))
	n := withoutNet(t, Config{Genesis: gen.G})
	honest, forged := alice.Pay(gen.G, 0, 0, chaintest.To(carol, 5)), bob.Pay(gen.G, 0, 0, chaintest.To(carol, 5))
	forged.Signature[63] ^= 1
	n.putPoolAside()
	n.aside = [][]byte{chaintest.Raw(honest), chaintest.Raw(forged)}
	n.bringPoolBack(&ledger.Rebuilding{})
	if s := n.pool.Stats(); s.Txs != 1 || s.GappedTxs != 0 {
		t.Fatalf("pool: %+v", s)
	}
	if _, pending, ok := n.pool.ByID(honest.ID(gen.G.NetworkID())); !ok || !pending {
		t.Fatal("the honest one isn't back")
	}
}

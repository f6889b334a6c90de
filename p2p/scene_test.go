package p2p

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/p2p/wire"
)

func TestTwoNodesExchangeStatusAndABatch(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	blocks := testChain(g, 3, 1)
	inWorld(t, func(w *world) {
		fa, fb := newFake(g), newFake(g)
		fa.load(blocks[:1])
		fb.load(blocks[:1])
		a := w.start(fa, nil)
		b := w.start(fb, nil, a.addr())
		w.within(3*time.Second, "both know each other's tip", func() bool {
			pa, pb := a.Peers(), b.Peers()
			return len(pa) == 1 && len(pb) == 1 && pa[0].TipHeight == 1 && pb[0].TipHeight == 1
		})
		w.within(5*time.Second, "in the mesh", func() bool { return len(a.gossip.txs.ListPeers()) == 1 })
		raws := payments(g, 100)
		a.PublishTxs(raws)
		took := w.within(2*time.Second, "all transactions at the other node", func() bool { return fb.poolSize() == 100 })
		if b.Counters()["txs_repaired"] > 0 {
			t.Errorf("after %v the exchange had to repair what gossip should bring", took)
		}
		if p := a.Peers()[0]; p.RTT < 20*time.Millisecond || p.RTT > 200*time.Millisecond || p.Version != "quipu" {
			t.Errorf("peer info %+v", p)
		}
		fa.load(blocks[1:2])
		a.PublishBlock(blocks[1].Header, blocks[1].Body)
		w.within(time.Second, "small block by gossip", func() bool { return fb.Tip().Header.Height == 2 })
	})
}

// A fresh node syncs from three peers that hold everything; each must have carried a part.
func TestSyncFromThreePeersInParallel(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	blocks := testChain(g, 300, 20)
	inWorld(t, func(w *world) {
		var addrs []string
		for range 3 {
			f := newFake(g)
			f.load(blocks)
			addrs = append(addrs, w.start(f, nil).addr())
		}
		fresh := newFake(g)
		n := w.start(fresh, nil, addrs...)
		w.within(20*time.Second, "synced", func() bool { return fresh.Tip().Header.Height == 300 })
		for _, p := range n.Peers() {
			if p.Bodies < 30 {
				t.Errorf("peer %s has delivered %d of 300 bodies", p.ID, p.Bodies)
			}
		}
		if got := n.Counters()["bodies_received"]; got != 300 {
			t.Errorf("received %d bodies to sync 300", got)
		}
		if s := n.SyncState(); s.Syncing || s.NetworkHeight != 300 || s.Flying != 0 {
			t.Errorf("sync state %+v", s)
		}
	})
}

// One of three peers serves bodies of other blocks: it is banned, the sync ends from the others.
func TestPeerThatServesWrongBodiesIsBanned(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	blocks := testChain(g, 200, 1)
	inWorld(t, func(w *world) {
		var addrs []string
		var bad *node
		for i := range 3 {
			f := newFake(g)
			f.load(blocks)
			if i == 1 {
				f.lies = func(id chain.BlockID, body []byte) []byte { return blocks[0].Body }
			}
			n := w.start(f, nil)
			addrs = append(addrs, n.addr())
			if i == 1 {
				bad = n
			}
		}
		fresh := newFake(g)
		n := w.start(fresh, nil, addrs...)
		w.within(20*time.Second, "synced", func() bool { return fresh.Tip().Header.Height == 200 })
		w.within(time.Second, "banned", w.banned(n, bad.host, WrongBody))
		w.within(time.Second, "disconnected", func() bool { return len(n.Peers()) == 2 })
		if len(n.Bans()) != 1 {
			t.Errorf("bans: %+v", n.Bans())
		}
	})
}

// One of two peers takes requests for bodies and never answers. What it was asked for is asked of the other too as soon as
// that one has nothing else to do.
func TestStalledPeerDelaysNobodyBeyondItsDeadline(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	blocks := testChain(g, 400, 1)
	inWorld(t, func(w *world) {
		full := newFake(g)
		full.load(blocks)
		good := w.start(full, nil)
		hung := w.liar(g, func() wire.Status { return statusOf(full) })
		release := make(chan struct{})
		defer close(release)
		w.handle(hung, g, wire.NameHeaders, func(s network.Stream) {
			b, _ := wire.ReadFrame(s, wire.MaxHeadersRequest)
			q, _ := wire.DecodeHeadersRequest(b)
			wire.WriteFrame(s, wire.AppendHeaders(nil, full.HeadersAfter(q.Locator, int(q.Max))))
		})
		w.handle(hung, g, wire.NameBodies, func(s network.Stream) { <-release })
		fresh := newFake(g)
		n := w.start(fresh, nil, addrOf(hung))
		asked := func() bool { return n.SyncState().Jobs >= 1 }
		w.within(2*time.Second, "the stalled peer asked", asked)
		if err := n.Connect(w.Context(), good.addr()); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		w.within(10*time.Second, "synced", func() bool { return fresh.Tip().Header.Height == 400 })
		if took := time.Since(start); took > n.t.stall/2 {
			t.Errorf("synced after %v, want at most half the stall time", took)
		}
		if len(n.Bans()) > 0 {
			t.Errorf("slowness was banned: %+v", n.Bans())
		}
	})
}

// A branch with more work whose bodies nobody delivers is left aside: the rest of the chain comes in meanwhile.
func TestBranchThatNobodyDeliversDelaysNoOther(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	gen := chaintest.New(g)
	short := gen.Chain("s", 5, func(i int) []chain.Tx { return []chain.Tx{alice.Pay(g, uint64(i), 0, chaintest.To(bob, 1))} })
	gen.SetTip("genesis")
	long := gen.Chain("l", 8, func(i int) []chain.Tx { return []chain.Tx{alice.Pay(g, uint64(i), 0, chaintest.To(bob, 2))} })
	inWorld(t, func(w *world) {
		honest, fresh := newFake(g), newFake(g)
		for _, b := range short {
			honest.load([]chain.Block{b.Block})
		}
		var hs []chain.Header
		for _, b := range long {
			hs = append(hs, b.Header)
		}
		a := w.start(honest, nil)
		holder := newFake(g) // has the headers of the heavier branch and says that it holds the bodies
		holder.AddHeaders(hs)
		st := statusOf(holder)
		st.Ranges = []wire.Range{{From: 1, To: 8}}
		h := w.liar(g, func() wire.Status { return st })
		w.handle(h, g, wire.NameHeaders, func(s network.Stream) {
			wire.ReadFrame(s, wire.MaxHeadersRequest)
			wire.WriteFrame(s, wire.AppendHeaders(nil, hs))
		})
		w.handle(h, g, wire.NameBodies, func(s network.Stream) {
			b, _ := wire.ReadFrame(s, wire.MaxBodiesRequest)
			q, _ := wire.DecodeBodiesRequest(b)
			for range q.IDs {
				wire.WriteBody(s, wire.BodyMissing, nil)
			}
		})
		n := w.start(fresh, nil, a.addr(), addrOf(h))
		w.within(5*time.Second, "heavier headers known", func() bool { return fresh.BestHeader().Header.Height == 8 })
		// The lighter branch's headers were offered before or are now: it has less work than the best header, so only
		// a node that saw them first knows them.
		fresh.AddHeaders([]chain.Header{short[0].Header, short[1].Header, short[2].Header, short[3].Header, short[4].Header})
		n.WakeSync()
		w.within(3*time.Second, "the deliverable branch", func() bool { return fresh.Tip().Header.Height == 5 })
	})
}

func TestStatusThatNamesAnInvalidTipIsBanned(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	blocks := testChain(g, 6, 1)
	inWorld(t, func(w *world) {
		f := newFake(g)
		f.poison[blocks[3].Header.ID()] = true
		f.load(blocks[:5]) // block 4 turns out invalid, block 5 descends from it
		n := w.start(f, nil)
		other := newFake(g)
		other.load(blocks[:3])
		honest := w.start(other, nil, n.addr())
		for _, named := range []chain.Block{blocks[3], blocks[4]} {
			st := statusOf(f)
			st.TipID, st.TipHeight = named.Header.ID(), named.Header.Height
			h := w.liar(g, func() wire.Status { return st })
			w.dialTo(h, n)
			w.within(3*time.Second, "banned", w.banned(n, h, InvalidTip))
			w.within(time.Second, "disconnected", func() bool { return n.host.Network().Connectedness(h.ID()) != network.Connected })
			info, _ := peer.AddrInfoFromString(n.addr())
			ctx, cancel := context.WithTimeout(w.Context(), 2*time.Second)
			h.Connect(ctx, *info) // may look connected for a moment; the gate closes it
			cancel()
			w.within(time.Second, "refused", func() bool { return n.remote(h.ID()) == nil })
		}
		if len(n.Bans()) != 2 || honest.remote(n.host.ID()) == nil {
			t.Errorf("bans %+v", n.Bans())
		}
	})
}

// A tip that is found invalid after it was named costs the same.
func TestTipFoundInvalidLaterIsBanned(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	blocks := testChain(g, 4, 1)
	inWorld(t, func(w *world) {
		liar, f := newFake(g), newFake(g)
		liar.load(blocks) // holds block 4 for valid
		f.poison[blocks[3].Header.ID()] = true
		bad := w.start(liar, nil)
		n := w.start(f, nil, bad.addr())
		w.within(5*time.Second, "banned", w.banned(n, bad.host, InvalidTip))
		if f.Tip().Header.Height != 3 {
			t.Errorf("tip at height %d", f.Tip().Header.Height)
		}
	})
}

func TestGateCutsAndHeals(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	blocks := testChain(g, 4, 1)
	inWorld(t, func(w *world) {
		fa, fb := newFake(g), newFake(g)
		fa.load(blocks[:1])
		fb.load(blocks[:1])
		a := w.start(fa, nil)
		b := w.start(fb, nil, a.addr())
		linked := func() bool { return len(a.Peers()) == 1 && len(b.Peers()) == 1 }
		w.within(3*time.Second, "linked", linked)
		if err := a.Gate([]string{b.ID()}); err != nil {
			t.Fatal(err)
		}
		if err := b.Gate([]string{a.ID()}); err != nil {
			t.Fatal(err)
		}
		w.within(time.Second, "cut", func() bool { return len(a.Peers())+len(b.Peers()) == 0 })
		fa.load(blocks[1:3])
		a.PublishBlock(blocks[2].Header, blocks[2].Body)
		time.Sleep(30 * time.Second) // virtual
		if len(a.Peers())+len(b.Peers()) > 0 || fb.Tip().Header.Height != 1 {
			t.Fatal("the partition leaks")
		}
		a.Gate(nil)
		b.Gate(nil)
		took := w.within(5*time.Second, "healed", func() bool { return linked() && fb.Tip().Header.Height == 3 })
		if took > 3*time.Second {
			t.Errorf("healed after %v", took)
		}
		w.within(5*time.Second, "in the mesh again", func() bool { return len(a.gossip.txs.ListPeers()) == 1 })
		if err := a.Gate([]string{"nonsense"}); err == nil {
			t.Error("a peer id that is none is accepted")
		}
	})
}

// The transactions are in a's pool but never gossiped, and its block is never published: the exchange brings both.
func TestExchangeRepairsWhatGossipDropped(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	blocks := testChain(g, 2, 1)
	inWorld(t, func(w *world) {
		fa, fb := newFake(g), newFake(g)
		a := w.start(fa, nil)
		b := w.start(fb, nil, a.addr())
		w.within(3*time.Second, "linked", func() bool { return len(a.Peers()) == 1 && len(b.Peers()) == 1 })
		fa.AcceptTxs(payments(g, 50))
		w.within(2*a.t.statusEvery, "pool repaired", func() bool { return fb.poolSize() == 50 })
		if b.Counters()["txs_repaired"] != 50 {
			t.Errorf("repaired %d", b.Counters()["txs_repaired"])
		}
		fa.mu.Lock()
		fa.svc = nil // no announcement
		fa.mu.Unlock()
		fa.load(blocks)
		w.within(2*a.t.statusEvery, "chain repaired", func() bool { return fb.Tip().Header.Height == 2 })
	})
}

// A large body isn't gossiped: it is fetched from who announced it, hop by hop.
func TestLargeBlockTravelsByPull(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	blocks := testChain(g, 1, 200)
	if blocks[0].Header.BodySize <= wire.SmallBody {
		t.Fatal("not large")
	}
	inWorld(t, func(w *world) {
		fa, fb, fc := newFake(g), newFake(g), newFake(g)
		a := w.start(fa, nil)
		b := w.start(fb, nil, a.addr())
		w.start(fc, nil, b.addr())
		w.within(5*time.Second, "meshed", func() bool { return len(a.gossip.blocks.ListPeers()) == 1 && len(b.gossip.blocks.ListPeers()) == 2 })
		time.Sleep(2 * time.Second) // virtual: all is quiet
		fa.load(blocks)
		a.PublishBlock(blocks[0].Header, blocks[0].Body)
		took := w.within(5*time.Second, "at the last node", func() bool { return fc.Tip().Header.Height == 1 })
		if took > time.Second {
			t.Errorf("two hops took %v", took)
		}
		if gossiped, imported := fc.counts(); gossiped != 1 || imported != 1 {
			t.Errorf("%d headers by gossip, %d bodies by pull", gossiped, imported)
		}
	})
}

func TestNodesOfTwoNetworksPartWithoutABan(t *testing.T) {
	here, there := chaintest.Genesis(nil, alice), chaintest.Genesis(func(g *chain.Genesis) { g.Name = "elsewhere" }, alice)
	inWorld(t, func(w *world) {
		fa, fb := newFake(here), newFake(there)
		a := w.start(fa, nil)
		b := w.start(fb, nil, a.addr())
		w.within(10*time.Second, "charged by one of them", func() bool {
			for _, f := range []*fake{fa, fb} {
				f.mu.Lock()
				found := slices.ContainsFunc(f.events, func(e Event) bool { return e.Evidence == OtherNetwork })
				f.mu.Unlock()
				if found {
					return true
				}
			}
			return false
		})
		w.within(time.Second, "parted", func() bool { return len(a.Peers()) == 0 && len(b.Peers()) == 0 })
		if len(a.Bans())+len(b.Bans()) > 0 {
			t.Errorf("bans %+v %+v", a.Bans(), b.Bans())
		}
	})
}

func TestAskTxStatus(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	raw := payments(g, 1)[0]
	inWorld(t, func(w *world) {
		fa, fb := newFake(g), newFake(g)
		a := w.start(fa, nil)
		b := w.start(fb, nil, a.addr())
		w.within(3*time.Second, "linked", func() bool { return len(b.Peers()) == 1 })
		fa.AcceptTxs([][]byte{raw})
		id := chain.TxIDOf(g.NetworkID(), raw)
		got := b.AskTxStatus(w.Context(), []chain.TxID{id, {}})
		if len(got) != 1 || got[0].Err != nil || got[0].Peer != a.ID() || got[0].Statuses[0].State != wire.TxVerified || got[0].Statuses[1].State != wire.TxUnknown {
			t.Errorf("answer %+v", got)
		}
	})
}

// Twelve nodes, each dialling three others; blocks and transactions start at varying nodes; one node is cut off and
// comes back. All end with the same tip and pool, and nobody is blamed.
func TestTwelveNodesAgree(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	blocks := testChain(g, 30, 1)
	raws := payments(g, 300)
	inWorld(t, func(w *world) {
		var all []*node
		for i := range 12 {
			var dial []string
			for j := max(0, i-3); j < i; j++ {
				dial = append(dial, all[j].addr())
			}
			all = append(all, w.start(newFake(g), nil, dial...))
		}
		w.within(5*time.Second, "linked", func() bool {
			return !slices.ContainsFunc(all, func(n *node) bool { return len(n.Peers()) < 3 })
		})
		var others []string
		for _, n := range all[:11] {
			others = append(others, n.ID())
		}
		for i, b := range blocks {
			n := all[i%11]
			w.within(3*time.Second, "parent", func() bool { _, ok := n.f.Header(b.Header.Parent); return ok })
			n.f.load([]chain.Block{b})
			n.PublishBlock(b.Header, b.Body)
			n.f.AcceptTxs(raws[10*i : 10*i+10])
			n.PublishTxs(raws[10*i : 10*i+10])
			switch i {
			case 10:
				all[11].Gate(others)
			case 20:
				all[11].Gate(nil)
			}
			time.Sleep(300 * time.Millisecond) // virtual
		}
		w.within(10*time.Second, "all agree", func() bool {
			return !slices.ContainsFunc(all, func(n *node) bool { return n.f.Tip().Header.Height != 30 || n.f.poolSize() != 300 })
		})
		for _, n := range all {
			if len(n.Bans()) > 0 {
				t.Errorf("bans %+v", n.Bans())
			}
			n.f.mu.Lock()
			for _, e := range n.f.events {
				if e.Kind == PeerCharged {
					t.Errorf("charged: %+v", e)
				}
			}
			n.f.mu.Unlock()
		}
	})
}

// Two halves mine on after a cut; healed, both hold the heavier branch.
func TestHalvesThatMinedApartConverge(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	gen := chaintest.New(g)
	var short, long []chain.Block
	for _, b := range gen.Chain("s", 40, nil) {
		short = append(short, b.Block)
	}
	gen.SetTip("s10")
	for _, b := range gen.Chain("l", 60, func(i int) []chain.Tx { return []chain.Tx{alice.Pay(g, uint64(i), 0, chaintest.To(bob, 1))} }) {
		long = append(long, b.Block)
	}
	inWorld(t, func(w *world) {
		var all []*node
		for i := range 4 {
			f := newFake(g)
			f.load(short[:10])
			if i < 2 {
				f.load(short[10:])
			} else {
				f.load(long)
			}
			var dial []string
			for _, n := range all {
				dial = append(dial, n.addr())
			}
			all = append(all, w.start(f, nil, dial...))
		}
		took := w.within(10*time.Second, "converged", func() bool {
			return !slices.ContainsFunc(all, func(n *node) bool { return n.f.Tip().ID != long[59].Header.ID() })
		})
		if took > 5*time.Second {
			t.Errorf("converged after %v", took)
		}
	})
}

// A node that stops leaves its host open for a while: its neighbours take it for silent, not for foreign, and are with
// it again as soon as it is back.
func TestStoppingNodeIsNotTakenForAForeigner(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	inWorld(t, func(w *world) {
		fa := newFake(g)
		a := w.start(fa, nil)
		b := w.start(newFake(g), nil, a.addr())
		w.within(3*time.Second, "linked", func() bool { return len(a.Peers()) == 1 && a.Peers()[0].HasStatus })
		b.cancel()
		for i := range 20 {
			if i == 10 { // we meet it anew: nothing is remembered of it
				a.drop(b.host.ID())
				w.within(time.Second, "gone", func() bool { return a.remote(b.host.ID()) == nil })
				if err := a.host.Connect(w.Context(), peer.AddrInfo{ID: b.host.ID(), Addrs: b.host.Addrs()}); err != nil {
					t.Fatal(err)
				}
			}
			a.Announce()
			time.Sleep(time.Second) // virtual
			if a.gate.denied(b.host.ID()) || len(a.Bans()) > 0 {
				t.Fatal("a stopping node is refused")
			}
		}
		if err := b.Run(w.Context()); err == nil {
			t.Error("Run may be called twice")
		}
	})
}

// However often a peer tells its status, a long list of missing bodies is read again a few times a second at most.
func TestHintsDontReadALongListAgain(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	blocks := testChain(g, 2*listedFew, 1)
	inWorld(t, func(w *world) {
		full, f := newFake(g), newFake(g)
		full.load(blocks)
		f.AddHeaders(headersOf(blocks))
		n := w.start(f, nil)
		h := w.liar(g, func() wire.Status { return statusOf(full) })
		w.handle(h, g, wire.NameBodies, func(s network.Stream) { time.Sleep(time.Minute) })
		w.dialTo(h, n)
		time.Sleep(10 * time.Second) // virtual
		f.mu.Lock()
		before := f.listed
		f.mu.Unlock()
		for range 400 {
			n.hear(n.remote(h.ID()), statusOf(full), 0)
			time.Sleep(5 * time.Millisecond) // virtual
		}
		f.mu.Lock()
		if got, most := f.listed-before, int(2*time.Second/refusedMin)+2; got < 2 || got > most {
			t.Errorf("listed %d times in 2 s, want at most %d", got, most)
		}
		f.mu.Unlock()
	})
}

// A peer that serves nothing is asked first once; after that, the next block comes from another at once.
func TestNewBlockDoesntWaitForALiar(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	blocks := testChain(g, 30, 1)
	inWorld(t, func(w *world) {
		full, f := newFake(g), newFake(g)
		full.load(blocks[:20])
		n := w.start(f, nil)
		liar := w.liar(g, func() wire.Status {
			st := statusOf(full)
			st.Ranges = []wire.Range{{From: 1, To: 30}}
			return st
		})
		w.handle(liar, g, wire.NameBodies, func(s network.Stream) { time.Sleep(10 * time.Second) })
		w.handle(liar, g, wire.NameHeaders, func(s network.Stream) {
			b, _ := wire.ReadFrame(s, wire.MaxHeadersRequest)
			q, _ := wire.DecodeHeadersRequest(b)
			wire.WriteFrame(s, wire.AppendHeaders(nil, full.HeadersAfter(q.Locator, int(q.Max))))
		})
		w.dialTo(liar, n)
		m := w.start(full, nil, n.addr())
		w.within(10*time.Second, "synced", func() bool { return f.Tip().Header.Height == 20 })
		for i := 20; i < 30; i++ {
			time.Sleep(3 * time.Second) // virtual: the liar has told its status, and has no rest to keep for long
			full.load(blocks[i : i+1])
			if took := w.within(10*time.Second, "next block", func() bool { return f.Tip().Header.Height == uint64(i+1) }); took > time.Second {
				t.Errorf("block %d took %v", i+1, took)
			}
		}
		if n.remote(m.host.ID()) == nil || len(n.Bans()) > 0 {
			t.Errorf("bans %+v", n.Bans())
		}
	})
}

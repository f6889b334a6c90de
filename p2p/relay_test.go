package p2p

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/p2p/wire"
)

const relayTxs = 200

// blockToRelay is a chain of one block of so many transactions, too large to ride with its header.
func blockToRelay(g *chain.Genesis) (chain.Block, [][]byte) {
	raws := payments(g, relayTxs)
	txs := make([]chain.Tx, len(raws))
	for i := range txs {
		txs[i] = alice.Pay(g, uint64(i), 0, chaintest.To(bob, 1))
	}
	return chaintest.New(g).Next("b", txs).Block, raws
}

// pooled fills a pool. Just before the block: status exchanges mend what pools lack.
func (f *fake) pooled(raws [][]byte) *fake {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, raw := range raws {
		f.pool[chain.LeafOf(raw)] = raw
	}
	return f
}

// startRow starts nodes of which each dials the one before.
func (w *world) startRow(fs ...*fake) []*node {
	var out []*node
	for i, f := range fs {
		var dial []string
		if i > 0 {
			dial = append(dial, out[i-1].addr())
		}
		out = append(out, w.start(f, nil, dial...))
	}
	w.within(5*time.Second, "connected and in the mesh", func() bool {
		for i, n := range out {
			want := 2
			if i == 0 || i == len(out)-1 {
				want = 1
			}
			if len(n.Peers()) < want || len(n.gossip.blocks.ListPeers()) < want {
				return false
			}
		}
		return true
	})
	time.Sleep(time.Second) // virtual: the mesh grafts
	return out
}

// mined gives a node a block of its own and makes it tell.
func (n *node) mined(b chain.Block) {
	n.f.load([]chain.Block{b})
	n.PublishBlock(b.Header, b.Body)
}

func (f *fake) has(b *chain.Block) func() bool {
	return func() bool { return f.HasBody(b.Header.ID()) }
}

func (w *world) counted(n *node, want map[string]uint64) {
	w.Helper()
	got := n.Counters()
	for name, v := range want {
		if got[name] != v {
			w.Errorf("%s is %d, want %d", name, got[name], v)
		}
	}
}

// Warm pools: each of two hops takes one round trip of short ids and no transaction travels.
func TestRelayWarm(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	b, raws := blockToRelay(g)
	inWorld(t, func(w *world) {
		ns := w.startRow(newFake(g).pooled(raws), newFake(g).pooled(raws), newFake(g).pooled(raws))
		ns[0].mined(b)
		// Header, question and answer to the first hop, then the answer that waited there: 4 × 10 ms on the way.
		took := w.within(time.Second, "at the far end", ns[2].f.has(&b))
		if took > 60*time.Millisecond {
			t.Errorf("two hops took %v", took)
		}
		synctest.Wait()
		for _, n := range ns[1:] {
			w.counted(n, map[string]uint64{
				"relay_blocks": 1, "relay_round_trips": 1, "relay_txs_found": relayTxs, "relay_txs_missing": 0, "relay_txs_prefilled": 0,
				"compact_asked": 1, "relay_whole_bodies": 0, "bodies_received": 0,
			})
			if got := n.Counters()["bytes_in_compact"]; got > 6*relayTxs+100 {
				t.Errorf("%d bytes for %d transactions", got, relayTxs)
			}
		}
	})
}

// What two nodes in a row lack is prefilled for the next ones, and only that.
func TestRelayMissing(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	b, raws := blockToRelay(g)
	inWorld(t, func(w *world) {
		ns := w.startRow(newFake(g), newFake(g), newFake(g), newFake(g), newFake(g))
		for i, from := range []int{0, 20, 30, 30, 25} {
			ns[i].f.pooled(raws[from:])
		}
		ns[0].mined(b)
		w.within(time.Second, "at the far end", ns[4].f.has(&b))
		for i, want := range [][4]uint64{1: {2, 20, 0, 180}, 2: {2, 30, 0, 170}, 3: {2, 10, 20, 170}, 4: {2, 5, 20, 175}} {
			w.counted(ns[i], map[string]uint64{
				"relay_round_trips": want[0], "relay_txs_missing": want[1], "relay_txs_prefilled": want[2], "relay_txs_found": want[3],
			})
		}
	})
}

// A node with nothing in its pool takes the whole body: short ids would cost more.
func TestRelayCold(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	b, raws := blockToRelay(g)
	inWorld(t, func(w *world) {
		ns := w.startRow(newFake(g), newFake(g))
		ns[0].f.pooled(raws)
		ns[0].mined(b)
		w.within(time.Second, "at the far end", ns[1].f.has(&b))
		w.counted(ns[1], map[string]uint64{"relay_cold": 1, "relay_whole_bodies": 1, "relay_round_trips": 2, "bodies_received": 0})
	})
}

// A pool in which another transaction has the short id of one in the block: the whole body decides, nobody is charged.
func TestRelayCollision(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	b, raws := blockToRelay(g)
	other := chaintest.Raw(alice.Pay(g, 0, 7, chaintest.To(bob, 5)))
	inWorld(t, func(w *world) {
		f := newFake(g).pooled(raws)
		f.collide = func(found []Found) { found[3] = Found{chain.LeafOf(other), other} }
		ns := w.startRow(newFake(g).pooled(raws), f)
		ns[0].mined(b)
		w.within(time.Second, "at the far end", f.has(&b))
		w.counted(ns[1], map[string]uint64{"relay_wrong_root": 1, "relay_whole_bodies": 1, "charged_wrong-compact": 0, "charged_silent": 0})
		if bans := ns[1].Bans(); len(bans) > 0 {
			t.Errorf("banned: %+v", bans)
		}
	})
}

// liarScene is a bare host that gossips the header of a block first, and an honest node that has the whole block and gossips
// it a moment later. The victim knows the transactions.
func liarScene(t *testing.T, known int, answer func(g *chain.Genesis, b *chain.Block, h host.Host, w *world), want func(w *world, victim *node, liar host.Host)) {
	g := chaintest.Genesis(nil, alice)
	b, raws := blockToRelay(g)
	inWorld(t, func(w *world) {
		ns := w.startRow(newFake(g), newFake(g))
		honest, victim := ns[0], ns[1]
		liar := w.liar(g, func() wire.Status { return statusOf(newFake(g)) })
		topics := w.speaker(liar, g)
		w.dialTo(liar, victim)
		answer(g, &b, liar, w)
		time.Sleep(2 * time.Second) // virtual: the meshes settle
		honest.f.pooled(raws)
		victim.f.pooled(raws[:known])
		if err := topics[wire.TopicBlocks].Publish(w.Context(), b.Header.Append(nil)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(15 * time.Millisecond) // virtual: it is the victim's first announcer
		honest.mined(b)
		w.within(10*time.Second, "the victim has the block", victim.f.has(&b))
		synctest.Wait()
		if got := victim.announced.of(b.Header.ID()); len(got) < 2 || got[0] != liar.ID() || got[1] != honest.host.ID() {
			t.Errorf("announcers %v, want the liar and then the honest node", got)
		}
		if slices.ContainsFunc(victim.Bans(), func(b BanInfo) bool { return b.ID == honest.ID() }) {
			t.Errorf("the honest node is banned: %+v", victim.Bans())
		}
		want(w, victim, liar)
	})
}

// lying answers compact and blocktxs as told: what is nil is reset.
func lying(w *world, h host.Host, g *chain.Genesis, compact func(q wire.CompactRequest) []byte, places func(q wire.BlockIndexRequest) []byte) {
	w.handle(h, g, wire.NameCompact, func(st network.Stream) {
		raw, err := wire.ReadFrame(st, wire.CompactRequestSize)
		if err != nil {
			return
		}
		q, _ := wire.DecodeCompactRequest(raw)
		if b := compact(q); b != nil {
			wire.WriteFrame(st, b)
		} else {
			st.Reset()
		}
	})
	w.handle(h, g, wire.NameBlockTxs, func(st network.Stream) {
		raw, err := wire.ReadFrame(st, wire.MaxIndexRequest)
		if err != nil || places == nil {
			st.Reset()
			return
		}
		q, _ := wire.DecodeBlockIndexRequest(raw)
		wire.WriteFrame(st, places(q))
	})
}

// listOf is the honest answer, edited.
func listOf(b *chain.Block, q wire.CompactRequest, edit func(*wire.Compact)) []byte {
	c := newWhole(&b.Header, b.Body).compact(wire.NewShortKey(&b.Header, q.Nonce))
	if edit != nil {
		edit(&c)
	}
	return wire.AppendCompact(nil, &c)
}

// TestRelayLiars: whatever the first announcer answers, the block comes from the honest one, and only what no honest node
// sends is charged.
func TestRelayLiars(t *testing.T) {
	forged := chaintest.Raw(alice.Pay(chaintest.Genesis(nil, alice), 9, 7, chaintest.To(bob, 5)))
	for _, c := range []struct {
		name   string
		known  int // transactions in the victim's pool
		list   func(b *chain.Block, q wire.CompactRequest) []byte
		places func(b *chain.Block, q wire.BlockIndexRequest) []byte
		ban    Evidence // none: ""
	}{
		{"vanishes", relayTxs, func(*chain.Block, wire.CompactRequest) []byte { return nil }, nil, ""},
		{"not here", relayTxs, func(*chain.Block, wire.CompactRequest) []byte { return []byte{byte(wire.BodyMissing)} }, nil, ""},
		{"not yet", relayTxs, func(*chain.Block, wire.CompactRequest) []byte { return []byte{byte(wire.BodyLater)} }, nil, ""},
		{"two short ids swapped", relayTxs, func(b *chain.Block, q wire.CompactRequest) []byte {
			return listOf(b, q, func(c *wire.Compact) { c.IDs[0], c.IDs[1] = c.IDs[1], c.IDs[0] })
		}, nil, WrongCompact},
		{"one short id twice", relayTxs, func(b *chain.Block, q wire.CompactRequest) []byte {
			return listOf(b, q, func(c *wire.Compact) { c.IDs[0] = c.IDs[1] })
		}, nil, WrongCompact},
		{"random short ids", relayTxs, func(b *chain.Block, q wire.CompactRequest) []byte {
			return listOf(b, q, func(c *wire.Compact) {
				for i := range c.IDs {
					c.IDs[i] ^= 1
				}
			})
		}, nil, WrongCompact},
		{"one short id fewer", relayTxs, func(b *chain.Block, q wire.CompactRequest) []byte {
			return listOf(b, q, func(c *wire.Compact) { c.IDs = c.IDs[1:] })
		}, nil, Malformed},
		{"a forged transaction prefilled", relayTxs, func(b *chain.Block, q wire.CompactRequest) []byte {
			return listOf(b, q, func(c *wire.Compact) {
				c.IDs, c.Prefilled = c.IDs[1:], []wire.PlacedTx{{Index: 0, Raw: forged}}
			})
		}, nil, WrongCompact},
		{"a forged transaction by place", relayTxs - 1, func(b *chain.Block, q wire.CompactRequest) []byte { return listOf(b, q, nil) },
			func(b *chain.Block, q wire.BlockIndexRequest) []byte {
				return wire.AppendBlockIndexTxs(nil, []wire.PlacedTx{{Index: q.Indexes[0], Raw: forged}})
			}, ""}, // an honest node might find it beside a list that lies
		{"a transaction nobody asked for", relayTxs - 1, func(b *chain.Block, q wire.CompactRequest) []byte { return listOf(b, q, nil) },
			func(b *chain.Block, q wire.BlockIndexRequest) []byte {
				return wire.AppendBlockIndexTxs(nil, []wire.PlacedTx{{Index: q.Indexes[0] - 1, Raw: forged}})
			}, Malformed},
		{"nothing by place", relayTxs - 1, func(b *chain.Block, q wire.CompactRequest) []byte { return listOf(b, q, nil) },
			func(*chain.Block, wire.BlockIndexRequest) []byte { return nil }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			liarScene(t, c.known, func(g *chain.Genesis, b *chain.Block, h host.Host, w *world) {
				places := func(q wire.BlockIndexRequest) []byte { return nil }
				if c.places != nil {
					places = func(q wire.BlockIndexRequest) []byte { return c.places(b, q) }
				}
				lying(w, h, g, func(q wire.CompactRequest) []byte { return c.list(b, q) }, places)
			}, func(w *world, victim *node, liar host.Host) {
				if c.ban != "" {
					w.within(time.Second, fmt.Sprintf("banned: %s", c.ban), w.banned(victim, liar, c.ban))
				} else if bans := victim.Bans(); len(bans) > 0 {
					w.Errorf("banned: %+v", bans)
				}
			})
		})
	}
}

// An announcer that takes the question and says nothing holds the block up for a second, not for good.
func TestRelayStalledAnnouncer(t *testing.T) {
	liarScene(t, relayTxs, func(g *chain.Genesis, b *chain.Block, h host.Host, w *world) {
		lying(w, h, g, func(q wire.CompactRequest) []byte { time.Sleep(time.Minute); return nil }, nil)
	}, func(w *world, victim *node, liar host.Host) {
		w.counted(victim, map[string]uint64{"relay_blocks": 1, "compact_asked": 2, "relay_round_trips": 2})
	})
}

// A compact form, or a transaction by place, of an old block is short, but the whole body is read and hashed for it: who asks
// for many gets no more of them than of bodies.
func TestOldBlocksInShortCostTheirBodies(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	var blocks []chain.Block
	for _, b := range chaintest.New(g).Chain("b", 2*nearTip, func(i int) (txs []chain.Tx) {
		for k := range 100 {
			txs = append(txs, alice.Pay(g, uint64(100*i+k), 0, chaintest.To(bob, 1)))
		}
		return txs
	}) {
		blocks = append(blocks, b.Block)
	}
	old, tip := &blocks[0], &blocks[len(blocks)-1]
	inWorld(t, func(w *world) {
		f := newFake(g)
		f.load(blocks)
		n := w.start(f, nil)
		h := w.liar(g, func() wire.Status { return statusOf(f) })
		w.dialTo(h, n)
		r := n.remote(h.ID())
		r.bytes.SetLimit(1)
		r.bytes.SetBurst(3 * len(old.Body)) // two, and what the answers take
		answered := func(name string, q []byte) bool {
			st, err := h.NewStream(network.WithNoDial(w.Context(), ""), n.host.ID(), protocol.ID(wire.ProtocolID(g.NetworkID(), name)))
			if err != nil {
				return false
			}
			defer st.Close()
			wire.WriteFrame(st, q)
			st.CloseWrite()
			answer, err := wire.ReadFrame(st, 1<<20)
			return err == nil && len(answer) > 1
		}
		asks := func(b *chain.Block) (n int) {
			short, place := wire.CompactRequest{ID: b.Header.ID()}, wire.BlockIndexRequest{ID: b.Header.ID(), Indexes: []uint16{0}}
			for range 3 {
				n += b2i(answered(wire.NameCompact, short.Append(nil))) + b2i(answered(wire.NameBlockTxs, place.Append(nil)))
			}
			return n
		}
		if got := asks(tip); got != 6 {
			t.Errorf("%d of 6 answers about the last block", got)
		}
		f.mu.Lock()
		before := f.read
		f.mu.Unlock()
		got := asks(old)
		f.mu.Lock()
		read := f.read - before
		f.mu.Unlock()
		if got < 1 || got > 3 || read > 3 {
			t.Errorf("%d of 6 answers about an old block, %d bodies read", got, read)
		}
		if len(n.Bans()) > 0 {
			t.Errorf("bans: %+v", n.Bans())
		}
	})
}

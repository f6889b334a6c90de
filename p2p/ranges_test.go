package p2p

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/x/simlibp2p"
	"github.com/marcopolo/simnet"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/p2p/wire"
)

// tall are two chains of empty blocks, made once: one of 14,000, and one of 6,000 that leaves it at height 2,000.
var tall = sync.OnceValue(func() (t struct {
	g           *chain.Genesis
	long, other []chain.Block
}) {
	t.g = chaintest.Genesis(nil, alice)
	gen := chaintest.New(t.g)
	for _, b := range gen.Chain("b", 14_000, nil) {
		t.long = append(t.long, b.Block)
	}
	t.other = append(t.other, t.long[:2000]...)
	gen.SetTip("b2000")
	for _, b := range gen.Chain("o", 4000, func(i int) []chain.Tx { return []chain.Tx{alice.Pay(t.g, uint64(i), 0, chaintest.To(bob, 1))} }) {
		t.other = append(t.other, b.Block)
	}
	return t
})

// narrow is a link that takes 2 s for 2,000 headers.
var narrow = simnet.NodeBiDiLinkSettings{
	Downlink: simnet.LinkSettings{BitsPerSecond: 100 * simlibp2p.OneMbps},
	Uplink:   simnet.LinkSettings{BitsPerSecond: 16 * simlibp2p.OneMbps / 10},
}

// holder is a bare host that has a backend's headers and answers as edit says; nil edits nothing.
func (w *world) holder(f *fake, edit func(q wire.HeadersRequest, hs []chain.Header) []chain.Header) host.Host {
	h := w.liar(f.g, func() wire.Status { return statusOf(f) })
	w.handle(h, f.g, wire.NameHeaders, func(s network.Stream) {
		b, _ := wire.ReadFrame(s, wire.MaxHeadersRequest)
		q, _ := wire.DecodeHeadersRequest(b)
		var hs []chain.Header
		if len(q.Locator) > 0 {
			hs = f.HeadersAfter(q.Locator, int(q.Max))
		} else {
			hs = f.HeadersTo(q.Of, q.From, int(q.Max))
		}
		if edit != nil {
			hs = edit(q, hs)
		}
		wire.WriteFrame(s, wire.AppendHeaders(nil, hs))
	})
	return h
}

// bare is a backend that wants no bodies.
func bare(g *chain.Genesis) *fake {
	f := newFake(g)
	f.bare = true
	return f
}

// fetched runs a fresh node until it has all headers and returns how long that took. It holds the bound of memory all
// the while.
func (w *world) fetched(n *node, f *fake, id chain.BlockID) time.Duration {
	w.Helper()
	return w.within(5*time.Minute, "all headers", func() bool {
		n.ranging.mu.Lock()
		held := n.ranging.held
		n.ranging.mu.Unlock()
		if held > rangesSmall*wire.MaxHeaders {
			w.Fatalf("%d headers wait in memory", held)
		}
		return f.BestHeader().ID == id
	})
}

// Four peers on narrow links bring a long chain's headers much faster than one, and each about its part.
func TestHeadersFromManyPeersAtOnce(t *testing.T) {
	c := tall()
	full := newFake(c.g)
	full.load(c.long)
	took := map[int]time.Duration{}
	for _, peers := range []int{1, 4} {
		inWorld(t, func(w *world) {
			f := bare(c.g)
			n := w.start(f, nil)
			w.link = narrow
			for range peers {
				w.dialTo(w.holder(full, nil), n)
			}
			took[peers] = w.fetched(n, f, c.long[len(c.long)-1].Header.ID())
			got := n.Counters()
			t.Logf("%d peers: %v of virtual time, counters %v", peers, took[peers], got)
			if got["headers_received"] > 2*14_000 || got["header_runs"] != 1 {
				t.Errorf("%d peers: counters %v", peers, got)
			}
			w.fine(n)
		})
	}
	if took[4] > took[1]/2 {
		t.Errorf("%v from four peers, %v from one", took[4], took[1])
	}
}

// Four peers hold a long chain; what one of them does with ranges costs that one only.
func TestRangesOfABadPeer(t *testing.T) {
	c := tall()
	full, other := newFake(c.g), newFake(c.g)
	full.load(c.long)
	other.load(c.other)
	goal := c.long[len(c.long)-1].Header.ID()
	noWork := func(hs []chain.Header) []chain.Header {
		h := &hs[len(hs)/2]
		for chain.MeetsTarget(h.ID(), h.Bits) {
			h.Nonce++
		}
		return hs
	}
	for _, v := range []struct {
		name  string
		edit  func(q wire.HeadersRequest, hs []chain.Header) []chain.Header
		want  Evidence // "": it isn't banned
		first bool     // it names the target
	}{
		{"stalls", func(_ wire.HeadersRequest, hs []chain.Header) []chain.Header {
			time.Sleep(time.Minute)
			return nil
		}, "", false},
		{"has nothing", func(wire.HeadersRequest, []chain.Header) []chain.Header { return nil }, "", false},
		{"sends half of it", func(_ wire.HeadersRequest, hs []chain.Header) []chain.Header { return hs[:len(hs)/2] }, "", false},
		{"has named it, and has nothing", func(wire.HeadersRequest, []chain.Header) []chain.Header { return nil }, "", true},
		{"has named it, and leads away", func(q wire.HeadersRequest, hs []chain.Header) []chain.Header {
			return other.HeadersTo(other.Tip().ID, q.From, len(hs))
		}, "", true},
		{"sends a header more", func(_ wire.HeadersRequest, hs []chain.Header) []chain.Header { return append(hs, hs[0]) }, Malformed, false},
		{"sends others in between", func(_ wire.HeadersRequest, hs []chain.Header) []chain.Header {
			return append(hs[:len(hs)/2:len(hs)/2], headersOf(c.other[3000:3000+len(hs)-len(hs)/2])...)
		}, WrongRange, false},
		{"sends one without work", func(_ wire.HeadersRequest, hs []chain.Header) []chain.Header { return noWork(hs) }, HeaderWork, false},
		{"sends others of the same heights", func(q wire.HeadersRequest, hs []chain.Header) []chain.Header {
			if q.From < 3000 || q.From > 4500 {
				return hs
			}
			return other.HeadersTo(other.Tip().ID, q.From, len(hs))
		}, WrongRange, false},
		// What it sends keeps all rules and is stored, and then nothing links to it. It is found by asking who named the target.
		{"leads away from the start", func(q wire.HeadersRequest, hs []chain.Header) []chain.Header {
			return other.HeadersTo(other.Tip().ID, q.From, len(hs))
		}, "", false},
	} {
		t.Run(v.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				f := bare(c.g)
				n := w.start(f, nil)
				bad := w.holder(full, func(q wire.HeadersRequest, hs []chain.Header) []chain.Header {
					if len(q.Locator) > 0 || q.Max == 1 || len(hs) == 0 {
						return hs
					}
					return v.edit(q, hs)
				})
				if v.first {
					w.dialTo(bad, n)
				}
				w.link = narrow
				for range 3 {
					w.dialTo(w.holder(full, nil), n)
				}
				w.within(time.Minute, "the run", func() bool { return n.Counters()["header_runs"] > 0 })
				if !v.first {
					w.dialTo(bad, n)
				}
				took := w.fetched(n, f, goal)
				t.Logf("%v of virtual time, counters %v", took, n.Counters())
				if took > 12*time.Second {
					t.Errorf("took %v", took)
				}
				if v.want != "" {
					w.within(time.Second, "banned", w.banned(n, bad, v.want))
				}
				for _, b := range n.Bans() {
					if b.ID != bad.ID().String() || b.Evidence != v.want {
						t.Errorf("%s is banned for %s", b.ID, b.Evidence)
					}
				}
			})
		})
	}
}

// A peer that goes away after it has served ranges is charged for what they turn out to be all the same.
func TestRangesOfABadPeerThatHasGone(t *testing.T) {
	c := tall()
	full, other := newFake(c.g), newFake(c.g)
	full.load(c.long)
	other.load(c.other)
	inWorld(t, func(w *world) {
		f := bare(c.g)
		n := w.start(f, nil)
		var bad host.Host
		var gone atomic.Bool
		bad = w.holder(full, func(q wire.HeadersRequest, hs []chain.Header) []chain.Header {
			if len(q.Locator) > 0 || q.Max == 1 || len(hs) == 0 || gone.Swap(true) {
				return hs
			}
			time.AfterFunc(300*time.Millisecond, func() { bad.Close() }) // virtual: the answer is there
			return other.HeadersTo(other.Tip().ID, q.From, len(hs))
		})
		w.link = narrow
		w.dialTo(w.holder(full, nil), n)
		w.within(time.Minute, "the run", func() bool { return n.Counters()["header_runs"] > 0 })
		w.dialTo(bad, n)
		w.fetched(n, f, c.long[len(c.long)-1].Header.ID())
		if n.Counters()["ranges_unlinked"] == 0 || n.remote(bad.ID()) != nil {
			t.Errorf("its range linked, or it is here: %v", n.Counters())
		}
		w.within(time.Second, "banned", w.banned(n, bad, WrongRange))
	})
}

// A claim of a height that its block doesn't have: nobody is asked for a chain to it, so nobody is blamed for another.
func TestClaimOfAWrongHeightStartsNoRanges(t *testing.T) {
	c := tall()
	full := newFake(c.g)
	full.load(c.long[:5000])
	for _, height := range []uint64{4500, 12_000, chain.MaxHeight} {
		inWorld(t, func(w *world) {
			f := bare(c.g)
			n := w.start(f, nil)
			bad := w.liar(c.g, func() wire.Status {
				st := statusOf(full)
				st.BestHeight = height
				return st
			})
			w.handle(bad, c.g, wire.NameHeaders, func(s network.Stream) {
				b, _ := wire.ReadFrame(s, wire.MaxHeadersRequest)
				q, _ := wire.DecodeHeadersRequest(b)
				hs := full.HeadersAfter(q.Locator, int(q.Max))
				if len(q.Locator) == 0 {
					hs = full.HeadersTo(q.Of, min(q.From, 5000), int(q.Max))
				}
				wire.WriteFrame(s, wire.AppendHeaders(nil, hs))
			})
			w.dialTo(bad, n)
			w.dialTo(w.holder(full, nil), n)
			w.fetched(n, f, full.Tip().ID)
			if n.remote(bad.ID()) != nil && n.Counters()["header_runs"] > 1 || len(n.Bans()) > 0 {
				t.Errorf("height %d: counters %v, bans %+v", height, n.Counters(), n.Bans())
			}
		})
	}
}

// The node stops in the middle and starts again over what it has stored, and the peer that named the target goes away:
// little is fetched twice.
func TestRangesGoOnAfterARestartAndALostPeer(t *testing.T) {
	c := tall()
	full := newFake(c.g)
	full.load(c.long)
	goal := full.Tip().ID
	at := func(f *fake, height uint64) func() bool {
		return func() bool { return f.BestHeader().Header.Height >= height }
	}
	t.Run("restart", func(t *testing.T) {
		inWorld(t, func(w *world) {
			f := bare(c.g)
			w.link = narrow
			var addrs []string
			for range 3 {
				addrs = append(addrs, addrOf(w.holder(full, nil)))
			}
			w.link = link
			n := w.start(f, nil, addrs...)
			w.within(time.Minute, "some headers", at(f, 6000))
			n.cancel()
			had := f.BestHeader().Header.Height
			n = w.start(f, nil, addrs...)
			w.fetched(n, f, goal)
			if got := n.Counters()["headers_received"]; got > 14_000-had+2*wire.MaxHeaders+10 {
				t.Errorf("%d headers fetched after a restart at %d of 14,000", got, had)
			}
			w.fine(n)
		})
	})
	t.Run("lost peer", func(t *testing.T) {
		inWorld(t, func(w *world) {
			f := bare(c.g)
			n := w.start(f, nil)
			w.link = narrow
			first := w.holder(full, nil)
			w.dialTo(first, n)
			w.within(time.Minute, "the run", func() bool { return n.Counters()["header_runs"] == 1 })
			w.dialTo(w.holder(full, nil), n)
			w.dialTo(w.holder(full, nil), n)
			w.within(time.Minute, "some headers", at(f, 4000))
			first.Close()
			w.fetched(n, f, goal)
			if n.Counters()["header_runs"] != 1 || len(n.Bans()) > 0 {
				t.Errorf("counters %v, bans %+v", n.Counters(), n.Bans())
			}
		})
	})
}

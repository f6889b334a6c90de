package p2p

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/p2p/wire"
)

// boaster claims more work than anybody and answers headers as told, i counting its answers.
func (w *world) boaster(f *fake, answer func(i int, q wire.HeadersRequest) []chain.Header) host.Host {
	h := w.liar(f.g, func() wire.Status {
		st := statusOf(f)
		st.BestID, st.BestHeight = chain.BlockID{1}, 4000
		st.BestWork.SetAllOne()
		return st
	})
	i := 0
	w.handle(h, f.g, wire.NameHeaders, func(s network.Stream) {
		b, _ := wire.ReadFrame(s, wire.MaxHeadersRequest)
		q, _ := wire.DecodeHeadersRequest(b)
		i++
		wire.WriteFrame(s, wire.AppendHeaders(nil, answer(i-1, q)))
	})
	return h
}

// As many liars as there are slots, and one more, do what keeps a header download going. An honest peer gets its turn.
func TestBoastersDontHoldUpHeaders(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	blocks := testChain(g, 30, 1)
	header := func(i int) []chain.Header { return []chain.Header{blocks[i].Header} }
	for _, c := range []struct {
		name   string
		answer func(i int, q wire.HeadersRequest) []chain.Header
		within time.Duration
	}{
		{"two headers in turn", func(i int, _ wire.HeadersRequest) []chain.Header {
			time.Sleep(100 * time.Millisecond)
			return header(i % 2)
		}, 15 * time.Second},
		{"known headers one by one, slowly", func(i int, _ wire.HeadersRequest) []chain.Header {
			time.Sleep(4 * time.Second)
			return header(i % 5)
		}, 3 * time.Minute},
		{"silence", func(i int, _ wire.HeadersRequest) []chain.Header {
			time.Sleep(time.Minute)
			return nil
		}, 30 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				f := newFake(g)
				f.load(blocks[:5])
				n := w.start(f, nil)
				for range headerSlots + 1 {
					w.dialTo(w.boaster(f, c.answer), n)
				}
				w.within(10*time.Second, "all slots taken", func() bool {
					n.mu.Lock()
					defer n.mu.Unlock()
					return n.fetching == headerSlots
				})
				honest := newFake(g)
				honest.load(blocks)
				m := w.start(honest, nil, n.addr())
				w.within(c.within, "headers of the honest peer", func() bool { return f.BestHeader().Header.Height == 30 })
				if r := n.remote(m.host.ID()); r == nil || !r.hasStatusNow(n) || len(n.Bans()) > 0 {
					t.Errorf("peers %+v, bans %+v", n.Peers(), n.Bans())
				}
			})
		})
	}
}

// A peer whose answers another has made stale is not charged for them, whoever is faster.
func TestHeadersOfTwoPeersAtOnceChargeNobody(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	gen := chaintest.New(g)
	var blocks []chain.Block
	for _, b := range gen.Chain("b", 300, nil) {
		blocks = append(blocks, b.Block)
	}
	inWorld(t, func(w *world) {
		full, f := newFake(g), newFake(g)
		full.load(blocks)
		n := w.start(f, nil)
		for i := range 3 {
			h := w.liar(g, func() wire.Status { return statusOf(full) })
			w.handle(h, g, wire.NameHeaders, func(s network.Stream) { // ten headers an answer, each peer with its own delay
				b, _ := wire.ReadFrame(s, wire.MaxHeadersRequest)
				q, _ := wire.DecodeHeadersRequest(b)
				time.Sleep(time.Duration(50*i) * time.Millisecond)
				wire.WriteFrame(s, wire.AppendHeaders(nil, full.HeadersAfter(q.Locator, 10)))
			})
			w.handle(h, g, wire.NameBodies, func(s network.Stream) {
				b, _ := wire.ReadFrame(s, wire.MaxBodiesRequest)
				q, _ := wire.DecodeBodiesRequest(b)
				for range q.IDs {
					wire.WriteBody(s, wire.BodyFollows, nil)
				}
			})
			w.dialTo(h, n)
		}
		w.within(20*time.Second, "all headers", func() bool { return f.BestHeader().Header.Height == 300 })
		for _, r := range n.everyone() {
			if n.mu.Lock(); r.fails > 0 || r.restUntil.After(time.Now()) {
				t.Errorf("%s was charged", r.id)
			}
			n.mu.Unlock()
		}
		if got := n.Counters()["headers_received"]; got > 700 {
			t.Errorf("%d headers received for 300", got)
		}
	})
}

// A peer whose clock is ahead of ours shows headers that are not due yet: no error of ours and no fault of its own. The
// bodies of those before are fetched from it meanwhile, and the rest when it is due.
func TestHeadersAheadOfTheClock(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	blocks := testChain(g, 30, 1)
	inWorld(t, func(w *world) {
		full, f := newFake(g), newFake(g)
		full.load(blocks)
		f.early = 21
		m := w.start(full, nil)
		n := w.start(f, nil, m.addr())
		w.within(5*time.Second, "what is due", func() bool { return f.Tip().Header.Height == 20 })
		time.Sleep(20 * time.Second) // virtual
		if r := n.remote(m.host.ID()); r == nil || r.fails > 0 || f.log.String() != "" {
			t.Errorf("peers %+v, log %q", n.Peers(), f.log.String())
		}
		f.mu.Lock()
		f.early = 0
		f.mu.Unlock()
		w.within(5*time.Second, "the rest", func() bool { return f.Tip().Header.Height == 30 })
	})
}

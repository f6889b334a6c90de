package p2p

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"quipu/chain"
	"quipu/chain/chaintest"
)

// largeChain is 80 blocks with bodies of about 100 kB, made once.
var largeChain = sync.OnceValues(func() (*chain.Genesis, []chain.Block) {
	g := chaintest.Genesis(nil, alice)
	outs := make([]chain.Output, 250)
	for i := range outs {
		outs[i] = chaintest.To(bob, 1)
	}
	blocks := make([]chain.Block, 0, 80)
	for _, b := range chaintest.New(g).Chain("large", 80, func(i int) (txs []chain.Tx) {
		for k := range 10 {
			txs = append(txs, alice.Pay(g, uint64(10*i+k), 0, outs...))
		}
		return txs
	}) {
		blocks = append(blocks, b.Block)
	}
	return g, blocks
})

// fetching is servers of the large chain with limited uploads, and how long a fresh node takes.
type fetching struct {
	*world
	g      *chain.Genesis
	blocks []chain.Block
	size   float64
	addrs  []string
}

func newSwarm(w *world) *fetching {
	s := &fetching{world: w}
	s.g, s.blocks = largeChain()
	for i := range s.blocks {
		s.size += float64(len(s.blocks[i].Body))
	}
	return s
}

// serve starts a server with so many bytes a second.
func (s *fetching) serve(rate int64, fault func(f *fake)) *node {
	s.Helper()
	f := newFake(s.g)
	f.load(s.blocks)
	if fault != nil {
		fault(f)
	}
	n := s.startOn(s.host(), f, func(c *Config) { c.MaxUpload = rate }, nil)
	s.addrs = append(s.addrs, n.addr())
	return n
}

// fetch is the time from a node's first request to its last block.
func (s *fetching) fetch() (*node, time.Duration) {
	s.Helper()
	f := newFake(s.g)
	n := s.start(f, nil, s.addrs...)
	s.within(5*time.Minute, "synced", func() bool { return f.Tip().Header.Height == uint64(len(s.blocks)) })
	return n, time.Since(n.SyncState().First)
}

const kB = 1000

// A node's download is at least 90 % of all uploads together, whatever each is, and hardly anything comes twice.
func TestSyncFillsUnevenLinks(t *testing.T) {
	for _, rates := range [][]int64{{400 * kB}, {800 * kB, 400 * kB, 200 * kB, 100 * kB}, {200 * kB, 200 * kB, 200 * kB, 200 * kB, 200 * kB, 200 * kB}} {
		t.Run(fmt.Sprint(len(rates)), func(t *testing.T) {
			inWorld(t, func(w *world) {
				s, sum := newSwarm(w), int64(0)
				for _, r := range rates {
					s.serve(r, nil)
					sum += r
				}
				n, took := s.fetch()
				if goodput := s.size / took.Seconds(); goodput < 0.9*float64(sum) {
					t.Errorf("%.0f bytes a second of %d", goodput, sum)
				}
				c := n.Counters()
				if got, most := c["body_bytes_received"]+c["body_bytes_duplicate"], uint64(1.1*s.size); got > most {
					t.Errorf("received %d bytes for %.0f", got, s.size)
				}
				t.Logf("%v, %.0f bytes a second of %d; hedged %d, duplicate %d", took, s.size/took.Seconds(), sum, c["body_bytes_hedged"], c["body_bytes_duplicate"])
			})
		})
	}
}

// One of four peers stalls, is slow or sends garbage after it was good for a while: it takes at most 10 % longer than with
// the three good ones alone, and only garbage is banned.
func TestSyncWithOneBadPeer(t *testing.T) {
	const rate = 400 * kB
	var alone time.Duration
	inWorld(t, func(w *world) {
		s := newSwarm(w)
		for range 3 {
			s.serve(rate, nil)
		}
		_, alone = s.fetch()
	})
	after := func(n int, f func(chain.BlockID, []byte) []byte) func(*fake) {
		return func(fake *fake) {
			served := 0
			fake.lies = func(id chain.BlockID, body []byte) []byte {
				if served++; served > n {
					return f(id, body)
				}
				return body
			}
		}
	}
	for name, c := range map[string]struct {
		rate  int64
		fault func(*fake)
		bans  int
	}{
		"slow":    {rate / 20, nil, 0},
		"garbage": {rate, after(5, func(id chain.BlockID, body []byte) []byte { return make([]byte, len(body)) }), 1},
		"stall":   {rate, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				s := newSwarm(w)
				for range 3 {
					s.serve(rate, nil)
				}
				bad := s.serve(c.rate, c.fault)
				if name == "stall" { // answers to bodies stop after a while
					time.AfterFunc(2*time.Second, func() {
						u := bad.upload
						u.mu.Lock()
						defer u.mu.Unlock()
						u.tokens = -1e15
					})
				}
				n, took := s.fetch()
				if took > alone*11/10 {
					t.Errorf("took %v, with three good ones %v", took, alone)
				}
				if len(n.Bans()) != c.bans {
					t.Errorf("bans %+v", n.Bans())
				}
				t.Logf("took %v, with three good ones %v", took, alone)
			})
		})
	}
}

// Empty nodes that fetch from one seed serve each other: the seed sends little more than the chain, and all are done long
// before it could have served each.
func TestSwarmSpreadsASeed(t *testing.T) {
	const rate, empty = 400 * kB, 5
	inWorld(t, func(w *world) {
		s := newSwarm(w)
		seed := s.serve(rate, nil)
		var all []*fake
		for range empty {
			f := newFake(s.g)
			all = append(all, f)
			n := s.startOn(s.host(), f, func(c *Config) { c.MaxUpload = rate }, nil, s.addrs...)
			s.addrs = append(s.addrs, n.addr())
		}
		start := time.Now()
		w.within(5*time.Minute, "all synced", func() bool {
			for _, f := range all {
				if f.Tip().Header.Height < uint64(len(s.blocks)) {
					return false
				}
			}
			return true
		})
		took, one := time.Since(start).Seconds(), s.size/rate
		sent := float64(seed.Counters()["body_bytes_served"]) / s.size
		if took > 2.5*one || sent > 2.5 {
			t.Errorf("took %.1f s, one alone %.1f s; the seed sent %.2f times the chain", took, one, sent)
		}
		t.Logf("took %.1f s, one alone %.1f s; the seed sent %.2f times the chain", took, one, sent)
	})
}

// A node that is stopped in the middle goes on with what it has stored, applied or not.
func TestSyncResumes(t *testing.T) {
	inWorld(t, func(w *world) {
		s := newSwarm(w)
		s.serve(400*kB, nil)
		s.serve(400*kB, nil)
		f := newFake(s.g)
		if _, err := f.AddHeaders(headersOf(s.blocks)); err != nil {
			t.Fatal(err)
		}
		f.add(s.blocks[40:50]) // stored ahead
		n := s.start(f, nil, s.addrs...)
		w.within(time.Minute, "half of it", func() bool { _, k := f.counts(); return k >= 30 })
		n.cancel()
		_, before := f.counts()
		if tip := f.Tip().Header.Height; tip == 0 || tip >= 80 {
			t.Fatalf("stopped at height %d", tip)
		}
		n = s.start(f, nil, s.addrs...)
		w.within(time.Minute, "synced", func() bool { return f.Tip().Header.Height == 80 })
		if got, want := n.Counters()["bodies_received"], uint64(80-10-before); got != want {
			t.Errorf("received %d bodies, %d were missing", got, want)
		}
	})
}

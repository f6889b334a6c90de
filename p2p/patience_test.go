package p2p

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/p2p/wire"
)

func TestPatience(t *testing.T) {
	const spacing = 5 * time.Second // full is 15 s
	start := time.Unix(1_700_000_000, 0)
	near := func(p *patience, s int) { p.look(p.at.Add(time.Duration(s)*time.Second), false, false, 0) }
	wait := func(p *patience, s, bodies int) {
		p.look(p.at.Add(time.Duration(s)*time.Second), true, true, bodies)
	}
	for _, c := range []struct {
		name string
		do   func(p *patience)
		left time.Duration
	}{
		{"fresh", func(p *patience) {}, 15 * time.Second},
		{"behind for 14 s", func(p *patience) { wait(p, 14, 0) }, time.Second},
		{"behind for 15 s", func(p *patience) { wait(p, 15, 0) }, 0},
		{"behind for an hour", func(p *patience) { wait(p, 3600, 0) }, 0},
		{"importing for an hour", func(p *patience) { p.look(p.at.Add(time.Hour), true, false, 0) }, 15 * time.Second},
		{"a body a spacing", func(p *patience) {
			for range 100 {
				wait(p, 5, 1)
			}
		}, 15 * time.Second},
		{"a body in three spacings, at the end of each", func(p *patience) {
			for range 100 {
				wait(p, 15, 0)
				wait(p, 0, 1)
			}
		}, 5 * time.Second},
		{"the same, just before each", func(p *patience) {
			for range 100 {
				wait(p, 0, 1)
				wait(p, 14, 0)
			}
		}, 0},
		{"many bodies at once", func(p *patience) { wait(p, 60, 1<<30) }, 15 * time.Second},
		{"near again for 50 s", func(p *patience) { wait(p, 60, 0); near(p, 50) }, 5 * time.Second},
		{"near for a day", func(p *patience) { wait(p, 60, 0); near(p, 86400) }, 15 * time.Second},
		{"a clock that goes back", func(p *patience) { wait(p, 60, 0); near(p, -60) }, 0},
	} {
		p := newPatience(spacing, start)
		if c.do(&p); p.left != c.left || p.over() != (c.left == 0) {
			t.Errorf("%s: %v left, want %v", c.name, p.left, c.left)
		}
	}
	if p := newPatience(time.Second, start); p.full != patienceMin {
		t.Errorf("full is %v at a spacing of 1 s", p.full)
	}
}

func TestFarRuns(t *testing.T) {
	for _, c := range []struct {
		heights []uint64
		far     string
	}{
		{nil, ""},
		{[]uint64{5}, "-"},
		{[]uint64{5, 6}, "--"},
		{[]uint64{5, 6, 7}, "fff"},
		{[]uint64{5, 6, 7, 5, 6}, "fff--"},
		{[]uint64{5, 5, 6, 9, 4, 4}, "-fff--"},
	} {
		wants, got := make([]Want, len(c.heights)), ""
		for i, h := range c.heights {
			wants[i] = Want{Header: chain.Header{Height: h}, far: true}
		}
		markFar(wants)
		for _, w := range wants {
			got += map[bool]string{true: "f", false: "-"}[w.far]
		}
		if got != c.far {
			t.Errorf("%v: %s, want %s", c.heights, got, c.far)
		}
	}
}

// A miner shows headers far ahead and keeps their bodies, one way or another. The node waits for a while, then counts
// as synced, so that its miner goes on; what it mines is near the best header for all to see.
func TestWithheldBodiesDontHaltTheNetwork(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	blocks := testChain(g, 60, 1)
	for name, serve := range map[string]func(s network.Stream, ids []chain.BlockID){
		"refused": func(s network.Stream, ids []chain.BlockID) {
			for range ids {
				wire.WriteBody(s, wire.BodyMissing, nil)
			}
		},
		"later":   func(s network.Stream, ids []chain.BlockID) { wire.WriteBody(s, wire.BodyLater, nil) },
		"stalled": func(s network.Stream, ids []chain.BlockID) { time.Sleep(10 * time.Second) },
		"dripping": func(s network.Stream, ids []chain.BlockID) {
			time.Sleep(1900 * time.Millisecond)
			for _, b := range blocks {
				if b.Header.ID() == ids[0] {
					wire.WriteBody(s, wire.BodyFollows, b.Body)
				}
			}
			time.Sleep(8 * time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				f, ahead := newFake(g), newFake(g)
				f.load(blocks[:5])
				var hs []chain.Header
				for _, b := range blocks {
					hs = append(hs, b.Header)
				}
				ahead.AddHeaders(hs)
				n := w.start(f, nil)
				h := w.liar(g, func() wire.Status {
					st := statusOf(ahead)
					st.Ranges = []wire.Range{{From: 1, To: 60}}
					return st
				})
				w.handle(h, g, wire.NameHeaders, func(s network.Stream) {
					wire.ReadFrame(s, wire.MaxHeadersRequest)
					wire.WriteFrame(s, wire.AppendHeaders(nil, hs))
				})
				w.handle(h, g, wire.NameBodies, func(s network.Stream) {
					b, _ := wire.ReadFrame(s, wire.MaxBodiesRequest)
					q, _ := wire.DecodeBodiesRequest(b)
					serve(s, q.IDs)
				})
				w.dialTo(h, n)
				syncing := func() bool { return n.SyncState().Syncing }
				w.within(5*time.Second, "syncing", syncing)
				if n.near() {
					t.Error("judges transactions while it syncs")
				}
				w.within(40*time.Second, "no longer syncing", func() bool { return !syncing() })
				if s := n.SyncState(); s.BestHeight != 60 || s.TipHeight > 20 {
					t.Errorf("sync state %+v", s)
				}
				paused := 0
				for range 120 {
					if time.Sleep(time.Second); syncing() { // virtual
						paused++
					}
				}
				if paused > 60 {
					t.Errorf("syncing for %d of 120 s", paused)
				}
				w.within(30*time.Second, "judging transactions", n.near)
				if len(n.Bans()) > 0 {
					t.Errorf("bans %+v", n.Bans())
				}
			})
		})
	}
}

// A slow sync is a sync all the same: at two bodies a spacing the node counts as syncing to the end.
func TestSlowSyncIsSyncing(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	blocks := testChain(g, 100, 1)
	inWorld(t, func(w *world) {
		f, full := newFake(g), newFake(g)
		full.load(blocks)
		n := w.start(f, nil)
		h := w.liar(g, func() wire.Status { return statusOf(full) })
		w.handle(h, g, wire.NameHeaders, func(s network.Stream) {
			b, _ := wire.ReadFrame(s, wire.MaxHeadersRequest)
			q, _ := wire.DecodeHeadersRequest(b)
			wire.WriteFrame(s, wire.AppendHeaders(nil, full.HeadersAfter(q.Locator, int(q.Max))))
		})
		w.handle(h, g, wire.NameBodies, func(s network.Stream) {
			b, _ := wire.ReadFrame(s, wire.MaxBodiesRequest)
			q, _ := wire.DecodeBodiesRequest(b)
			for _, id := range q.IDs {
				body, _ := full.Body(id)
				time.Sleep(time.Second)
				wire.WriteBody(s, wire.BodyFollows, body)
			}
		})
		w.dialTo(h, n)
		w.within(5*time.Second, "syncing", func() bool { return n.SyncState().Syncing })
		start := time.Now()
		w.within(2*time.Minute, "synced", func() bool {
			s := n.SyncState()
			if !s.Syncing && s.TipHeight+nearTip < 100 {
				t.Fatalf("no longer syncing after %v, at %+v", time.Since(start), s)
			}
			return s.TipHeight == 100
		})
		if took := time.Since(start); took < 2*patienceMin {
			t.Errorf("not slow: %v", took)
		}
	})
}

package p2p

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/p2p/wire"
)

// forks are a chain of 400 blocks, and branches off its block 5 with empty blocks: one of 450, and others.
type forks struct {
	g                  *chain.Genesis
	ours, long, other  []chain.Block
	short              []chain.Block // 200 blocks
	noWork, badHistory chain.Header  // after long[99]
}

func makeForks() forks {
	g := chaintest.Genesis(nil, alice)
	gen := chaintest.New(g)
	grow := func(prefix, from string, n int, seconds uint64) []chain.Block {
		gen.SetTip(from)
		var out []chain.Block
		for b := gen.Get(from); b.State.Header.Height > 0; {
			out = append(out, b.Block)
			if b.State.Header.Height == 1 {
				break
			}
			b = gen.Get("a" + strconv.Itoa(int(b.State.Header.Height)-1))
		}
		slices.Reverse(out)
		for i := range n {
			opts := []chaintest.Option{chaintest.At(1000)}
			if i == 0 {
				opts[0] = chaintest.At(1000 + seconds)
			}
			out = append(out, gen.Next(prefix+strconv.Itoa(len(out)+1), nil, opts...).Block)
		}
		return out
	}
	f := forks{g: g}
	f.ours = grow("a", "genesis", 400, 0)
	f.long = grow("l", "a5", 445, 1)
	f.other = grow("o", "a5", 445, 2)
	f.short = grow("s", "a5", 195, 3)
	f.badHistory = gen.SetTip("l100").Next("bad", nil, chaintest.Header(func(h *chain.Header) { h.HistoryRoot[0] ^= 1 })).Header
	f.noWork = f.long[100].Header
	for chain.MeetsTarget(f.noWork.ID(), f.noWork.Bits) {
		f.noWork.Nonce++
	}
	return f
}

// A node whose branch fell far behind finds the heavier one, whose first headers have too little work to be stored.
func TestLowBranchIsWalkedThenStored(t *testing.T) {
	c := makeForks()
	inWorld(t, func(w *world) {
		full, f := newFake(c.g), newFake(c.g)
		full.load(c.long)
		f.load(c.ours)
		f.floored = true
		m := w.start(full, nil)
		n := w.start(f, nil, m.addr())
		w.within(10*time.Second, "the heavier branch", func() bool { return f.Tip().ID == c.long[449].Header.ID() })
		if got := n.Counters(); got["header_walks"] != 1 || got["headers_walked"] != 445 || got["headers_received"] > 900 || got["header_runs"] != 1 {
			t.Errorf("counters %v", got)
		}
		w.fine(n)
	})
}

func (w *world) fine(n *node) {
	w.Helper()
	for name, v := range n.Counters() {
		if len(name) > 8 && name[:8] == "charged_" && v > 0 {
			w.Errorf("%s: %d", name, v)
		}
	}
}

// What a peer shows of a low branch, the first time and the second.
func TestWalks(t *testing.T) {
	c := makeForks()
	for _, v := range []struct {
		name   string
		serve  func(after uint64, second bool) (from []chain.Block, most int, delay time.Duration) // most: the first time
		edit   func(hs []chain.Header)
		want   Evidence // "": it is followed to its end
		within time.Duration
	}{
		{"100 headers an answer", func(uint64, bool) ([]chain.Block, int, time.Duration) { return c.long, 100, 0 }, nil, "", 10 * time.Second},
		{"7 headers an answer, slowly", func(uint64, bool) ([]chain.Block, int, time.Duration) { return c.long, 7, 2 * time.Second }, nil, "", 10 * time.Minute},
		{"ends too early", func(uint64, bool) ([]chain.Block, int, time.Duration) { return c.short, 100, 0 }, nil, Unproven, 10 * time.Second},
		{"another branch the second time", func(_ uint64, second bool) ([]chain.Block, int, time.Duration) {
			if second {
				return c.other, 100, 0
			}
			return c.long, 100, 0
		}, nil, WrongRange, 10 * time.Second},
		{"switches on the way", func(after uint64, _ bool) ([]chain.Block, int, time.Duration) {
			if after >= 105 {
				return c.other, 100, 0
			}
			return c.long, 100, 0
		}, nil, Unproven, 10 * time.Second},
		{"stops the second time", func(_ uint64, second bool) ([]chain.Block, int, time.Duration) {
			if second {
				return nil, 0, 0
			}
			return c.long, 100, 0
		}, nil, Unproven, 10 * time.Second},
		{"one header an answer, as slow as may be", func(uint64, bool) ([]chain.Block, int, time.Duration) { return c.long, 1, 4900 * time.Millisecond }, nil, Unproven, 20 * time.Minute},
		{"a header without work", func(uint64, bool) ([]chain.Block, int, time.Duration) { return c.long, 100, 0 }, func(hs []chain.Header) {
			for i := range hs {
				if hs[i].Height == 101 {
					hs[i] = c.noWork
				}
			}
		}, HeaderWork, 10 * time.Second},
		{"a header with another history", func(uint64, bool) ([]chain.Block, int, time.Duration) { return c.long, 100, 0 }, func(hs []chain.Header) {
			for i := range hs {
				if hs[i].Height == 101 {
					hs[i] = c.badHistory
				}
			}
		}, HeaderRule, 10 * time.Second},
	} {
		t.Run(v.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				f, claim := newFake(c.g), newFake(c.g)
				f.load(c.ours)
				f.floored = true
				claim.load(c.long)
				n := w.start(f, nil)
				h := w.liar(c.g, func() wire.Status { return statusOf(claim) })
				w.handle(h, c.g, wire.NameHeaders, func(s network.Stream) {
					b, _ := wire.ReadFrame(s, wire.MaxHeadersRequest)
					q, _ := wire.DecodeHeadersRequest(b)
					second := len(q.Locator) == 0
					after := max(q.From, 1) - 1
					for _, chain := range [][]chain.Block{c.long, c.other, c.short} {
						for _, b := range chain {
							if slices.Contains(q.Locator, b.Header.ID()) {
								after = max(after, b.Header.Height)
							}
						}
					}
					from, most, delay := v.serve(after, second)
					time.Sleep(delay)
					if second {
						most = wire.MaxHeaders
					}
					var hs []chain.Header
					for i := int(after); i < len(from) && len(hs) < min(most, int(q.Max)); i++ {
						hs = append(hs, from[i].Header)
					}
					if v.edit != nil {
						v.edit(hs)
					}
					wire.WriteFrame(s, wire.AppendHeaders(nil, hs))
				})
				w.dialTo(h, n)
				if v.want == "" {
					w.within(v.within, "followed", func() bool { return f.BestHeader().ID == c.long[449].Header.ID() })
					if got := n.Counters()["charged_"+string(Unproven)]; got > 0 {
						t.Errorf("charged %d times", got)
					}
				} else {
					w.within(v.within, string(v.want), func() bool { return n.Counters()["charged_"+string(v.want)] > 0 })
					f.mu.Lock()
					if len(f.states) != 401 {
						t.Errorf("%d headers stored of a branch that is not proven", len(f.states)-401)
					}
					f.mu.Unlock()
				}
				if n.Counters()["header_walks"] == 0 {
					t.Error("not walked")
				}
				if banned := w.banned(n, h, v.want)(); banned != (blame[v.want].Penalty == Ban) {
					t.Errorf("bans %+v", n.Bans())
				}
			})
		})
	}
}

// A walk of many answers keeps few ids, none further from the next than one request reaches, and finds each again.
func TestWalkKeepsFewMarks(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	gen := chaintest.New(g)
	var hs []chain.Header
	for _, b := range gen.Chain("b", 3*wire.MaxHeaders+10, nil) {
		hs = append(hs, b.Header)
	}
	for _, step := range []int{1, 7, 999, 1001, wire.MaxHeaders} {
		s := g.State()
		k := newWalk(&s)
		for i := 0; i < len(hs); i += step {
			if err := k.walk(g, hs[i:min(i+step, len(hs))]); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(k.marks); n > 2*len(hs)/wire.MaxHeaders+2 || k.end.ID != hs[len(hs)-1].ID() {
			t.Errorf("steps of %d: %d marks for %d headers", step, n, len(hs))
		}
		run, at := k.run(""), uint64(0)
		for run.fill(3, wire.MaxHeaders); len(run.ranges) > 0; run.fill(3, wire.MaxHeaders) {
			r := run.ranges[0]
			run.ranges = run.ranges[1:]
			if r.from != at+1 || r.n < 1 || r.n > wire.MaxHeaders || r.parent != hs[at].Parent || r.end != hs[at+uint64(r.n)-1].ID() {
				t.Fatalf("steps of %d: range of %d from height %d", step, r.n, r.from)
			}
			at += uint64(r.n)
			run.last = mark{at, r.end}
		}
		if at != uint64(len(hs)) {
			t.Errorf("steps of %d: %d of %d headers the second time", step, at, len(hs))
		}
	}
}

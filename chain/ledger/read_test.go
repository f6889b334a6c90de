package ledger

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/chain/statetree"
)

// bare adds the headers of n empty blocks named prefix1 … on the named block, mined by prefix.
func (s *scene) bare(on, prefix string, n int) {
	s.t.Helper()
	s.SetTip(on)
	var hs []chain.Header
	miner := chaintest.NewKey(prefix)
	for i := range n {
		hs = append(hs, s.Next(fmt.Sprint(prefix, i+1), nil, chaintest.MinedBy(miner)).Header)
	}
	if got, err := s.l.AddHeaders(hs); got != n || err != nil {
		s.t.Fatalf("%d of %d headers stored: %v", got, n, err)
	}
}

func (s *scene) wants(maxBytes int) (names []string) {
	for _, w := range s.l.Wanted(maxBytes) {
		if b := s.Get(s.name(w.ID)); b.Header != w.Header {
			s.t.Fatalf("%s is wanted with another header", b.Name)
		}
		names = append(names, s.name(w.ID))
	}
	return names
}

// genesis -> a1 -> a2
//
//	\-> b1 -> b2 -> b3 -> b4
//	\-> c1 -> c2 -> c3 -> c4 -> c5
//	              \-> d1 (a lighter end of c)
func TestWantedAndHeld(t *testing.T) {
	s := newScene(t, nil)
	s.chain("genesis", "a", 2)
	b := s.chain("genesis", "b", 4)
	c := s.chain("genesis", "c", 5)
	s.chain("c2", "d", 1)
	s.add("a1", "a2")
	if got := s.wants(1 << 20); got != nil {
		t.Fatalf("wanted %v", got)
	}
	s.headers(b...)
	s.headers(c...)
	s.headers("d1")
	check := func(maxBytes int, want ...string) {
		t.Helper()
		if got := s.wants(maxBytes); !slices.Equal(got, want) {
			t.Fatalf("wanted %v, want %v", got, want)
		}
	}
	held := func(want ...Range) {
		t.Helper()
		if got := s.l.Held(); !slices.Equal(got, want) {
			t.Fatalf("held %v, want %v", got, want)
		}
	}
	size := int(s.Get("c1").Header.BodySize) + wantCost
	check(1<<20, "c1", "c2", "c3", "c4", "c5", "b1", "b2", "b3", "b4", "d1")
	check(0, "c1", "b1") // the first of each branch, whatever its size; d leaves c above c1
	check(2*size, "c1", "c2", "b1", "b2", "d1")
	held()
	s.bodies("c2", "c4")
	held(Range{2, 2}, Range{4, 4})
	check(2*size, "c1", "c3", "b1", "b2", "d1")
	s.bodies("c5", "c1")
	held(Range{1, 2}, Range{4, 5})
	s.tip("a2") // c2 has the same work and came later
	check(1<<20, "c3", "b1", "b2", "b3", "b4", "d1")
	s.bodies("c3")
	s.tip("c5")
	held(Range{1, 5})
	check(1 << 20)
	s.bare("c5", "e", 200)
	for i := 1; i <= 199; i += 2 {
		s.bodies(s.name(s.l.headers[5+i].id)) // e1, e3, … e199
	}
	s.bare("e200", "f", 2100)
	if got := s.wants(1 << 30); len(got) != maxWanted || got[0] != "e2" || got[100] != "f1" {
		t.Fatalf("%d wanted from %s", len(got), got[0])
	}
	got := s.l.Held()
	if len(got) != 64 || got[0] != (Range{1, 6}) || got[63] != (Range{5 + 127, 5 + 127}) {
		t.Fatalf("%d ranges from %v to %v", len(got), got[0], got[len(got)-1])
	}
}

func TestLocatorAndHeadersAfter(t *testing.T) {
	s := newScene(t, nil)
	s.bare("genesis", "a", 500)
	s.bare("a300", "b", 100)
	loc := s.l.Locator()
	if len(loc) > 64 || loc[0] != s.Get("a500").ID() || loc[9] != s.Get("a491").ID() || loc[len(loc)-1] != s.Get("genesis").ID() {
		t.Fatalf("locator of %d", len(loc))
	}
	for _, c := range []struct {
		locator []string
		max     int
		first   string
		n       int
	}{
		{[]string{"genesis"}, 2000, "a1", 500},
		{[]string{"genesis"}, 7, "a1", 7},
		{[]string{"a500", "genesis"}, 10, "", 0},
		{[]string{"a499"}, 10, "a500", 1},
		{[]string{"b100", "a1"}, 10, "a301", 10}, // a branch we know: from where it leaves ours
		{[]string{"?", "a400", "genesis"}, 1000, "a401", 100},
		{[]string{"?"}, 10, "", 0},
		{nil, 10, "", 0},
		{[]string{"genesis"}, 0, "", 0},
	} {
		var ids []chain.BlockID
		for _, name := range c.locator {
			id := chain.BlockID{1}
			if name != "?" {
				id = s.Get(name).ID()
			}
			ids = append(ids, id)
		}
		hs, err := s.l.HeadersAfter(ids, c.max)
		if err != nil || len(hs) != c.n || c.n > 0 && hs[0] != s.Get(c.first).Header {
			t.Errorf("after %v: %d headers (%v)", c.locator, len(hs), err)
		}
	}
	for _, c := range []struct {
		of     string
		from   uint64
		max    int
		first  string
		n      int
		second string // the header after that
	}{
		{"a500", 1, 2000, "a1", 500, "a2"},
		{"a500", 301, 7, "a301", 7, "a302"},
		{"b100", 299, 10, "a299", 10, "a300"}, // a branch that isn't the best: its own headers
		{"b100", 300, 2, "a300", 2, "b1"},
		{"b100", 301, 2, "b1", 2, "b2"},
		{"b100", 390, 2000, "b90", 11, "b91"},
		{"a10", 10, 5, "a10", 1, ""},
		{"a10", 11, 5, "", 0, ""},
		{"a10", 1 << 40, 5, "", 0, ""},
		{"?", 1, 5, "", 0, ""},
		{"a10", 1, 0, "", 0, ""},
	} {
		id := chain.BlockID{1}
		if c.of != "?" {
			id = s.Get(c.of).ID()
		}
		hs, err := s.l.HeadersTo(id, c.from, c.max)
		if err != nil || len(hs) != c.n || c.n > 0 && hs[0] != s.Get(c.first).Header || c.second != "" && hs[1] != s.Get(c.second).Header {
			t.Errorf("%d of %s from %d: %d headers (%v)", c.max, c.of, c.from, len(hs), err)
		}
	}
	b, ok, err := s.l.Header(s.Get("b50").ID())
	if want := s.Get("b50").State; err != nil || !ok || b.ID != want.ID || b.Work != want.Work || b.ParentTime != want.ParentTime || !slices.Equal(b.Peaks, want.Peaks) {
		t.Fatalf("state of b50: %v", err)
	}
	if _, ok, err := s.l.Header(chain.BlockID{1}); ok || err != nil {
		t.Fatal("an unknown header was found")
	}
}

func TestPreviewAndProve(t *testing.T) {
	s := newScene(t, nil)
	s.add(s.chain("genesis", "a", 2)...)
	a3 := s.SetTip("a2").Next("a3", []chain.Tx{s.alice.Pay(s.G, 2, 0, chaintest.To(chaintest.NewKey("new"), 5))})
	u, err := s.G.Apply(&a3.Checked, s.SetTip("a2").Accounts())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		root, err := s.l.Preview(&a3.Header, u.Changes)
		if err != nil || root != a3.Header.StateRoot {
			t.Fatalf("preview gives %s, want %s (%v)", root, a3.Header.StateRoot, err)
		}
		s.tip("a2")
	}
	_, err = s.l.Preview(&s.Get("a2").Header, nil)
	wantErr(t, err, ErrStale)
	s.l.Add(nil)
	s.add("a3")
	for _, k := range []chaintest.Key{s.alice, s.bob, chaintest.NewKey("new"), chaintest.NewKey("nobody")} {
		tip, p, leaf, present, err := s.l.Prove(k.Account)
		if err != nil || tip.ID != a3.ID() {
			t.Fatal(err)
		}
		if present {
			err = statetree.VerifyMember(tip.Header.StateRoot, leaf, p)
		} else {
			err = statetree.VerifyAbsent(tip.Header.StateRoot, k.Account, p)
		}
		if err != nil || present == (k.Name == "nobody") {
			t.Errorf("%s: present %v, %v", k.Name, present, err)
		}
	}
}

// TestProveBlock: each block of the best header's chain under each that follows it, bodies or not, and nothing else.
func TestProveBlock(t *testing.T) {
	s := newScene(t, nil)
	s.add(s.chain("genesis", "a", 9)...)
	s.add(s.chain("a5", "b", 3)...)
	s.SetTip("a9").Chain("c", 4, nil)
	s.headers("c1", "c2", "c3", "c4")
	path := []string{"genesis", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9", "c1", "c2", "c3", "c4"}
	for i, anchor := range path {
		for j, name := range path {
			p, ok, err := s.l.ProveBlock(s.Get(anchor).ID(), s.Get(name).ID())
			if err != nil || ok != (j <= i) {
				t.Fatalf("%s under %s: %v %v", name, anchor, ok, err)
			}
			if !ok {
				continue
			}
			if err := p.Verify(&s.Get(anchor).Header); err != nil || p.Header != s.Get(name).Header || j < i && p.Work != s.Get(name).State.Work {
				t.Errorf("%s under %s: %v", name, anchor, err)
			}
		}
	}
	for _, c := range [][2]chain.BlockID{
		{s.Get("b3").ID(), s.Get("a5").ID()}, {s.Get("c4").ID(), s.Get("b1").ID()}, {{1}, s.Get("a1").ID()}, {s.Get("a1").ID(), {1}},
	} {
		if _, ok, err := s.l.ProveBlock(c[0], c[1]); ok || err != nil {
			t.Errorf("%s under %s: %v %v", c[1], c[0], ok, err)
		}
	}
}

func TestFindTxInALargeBody(t *testing.T) {
	s := &scene{t: t, alice: chaintest.NewKey("alice"), names: map[chain.BlockID]string{}}
	g := chaintest.Genesis(func(g *chain.Genesis) { g.BodyLimit = 1 << 21 }, s.alice)
	s.Gen, s.cfg = chaintest.New(g), Config{Genesis: g}
	s.open()
	defer s.l.Close()
	b := s.Next("a1", dense(s.alice, g, 1_200_000))
	s.add("a1")
	txs := b.Checked.Txs()
	for _, i := range []int{0, len(txs) / 2, len(txs) - 1, 524288 / len(txs[0].Raw())} { // the last lies across two pieces
		loc, raw, ok, err := s.l.FindTx(txs[i].ID())
		if err != nil || !ok || loc.Index != i || string(raw) != string(txs[i].Raw()) {
			t.Fatalf("transaction %d: %+v %v %v", i, loc, ok, err)
		}
	}
}

func TestStats(t *testing.T) {
	s := newScene(t, onDisk(t))
	s.chain("genesis", "a", 2)
	s.badNonce("bad")
	s.add("a1", "a2", "bad")
	got := s.l.Stats()
	if got.Headers != 4 || got.Bodies != 4 || got.Invalid != 1 || got.Height != 2 || got.BestHeight != 2 || got.Accounts != 3 ||
		got.DiskBytes == 0 || got.DiskBytes > 64<<20 || got.NeedBytes != 512<<20 || got.FreeBytes != 1<<50 {
		t.Fatalf("%+v", got)
	}
}

// Readers see whole blocks only while a writer adds and reorganizes, by undo or from block 0.
func TestReadersDuringReorgs(t *testing.T) {
	for _, undo := range []int{0, 3} {
		readersDuringReorgs(t, undo)
	}
}

func readersDuringReorgs(t *testing.T, undo int) {
	s := newScene(t, func(c *Config) { c.UndoKeep = undo })
	a, b := s.chain("genesis", "a", 30), s.chain("genesis", "b", 31)
	s.headers(append(a, b...)...)
	done := make(chan struct{})
	var wg sync.WaitGroup
	keys := []chain.Account{s.alice.Account, s.bob.Account, s.Miner}
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				tip, accs, err := s.l.Accounts(keys)
				sum := accs[keys[0]].Balance + accs[keys[1]].Balance + accs[keys[2]].Balance
				if want := s.G.Supply() + tip.Header.Height*s.G.Subsidy; sum != want || err != nil {
					t.Errorf("at height %d the balances sum to %d, want %d (%v)", tip.Header.Height, sum, want, err)
					return
				}
				s.l.Wanted(1 << 16)
				s.l.Held()
				s.l.Stats()
				s.l.HeadersAfter(s.l.Locator(), 10)
				if h, id, ok, err := s.l.HeaderAt(tip.Header.Height / 2); err != nil || ok && h.ID() != id {
					t.Errorf("HeaderAt: %v", err)
				}
				if body, ok, err := s.l.Body(tip.ID); err != nil || ok && chain.CheckBody(&tip.Header, body) != nil {
					t.Errorf("body of the tip: %v", err)
				}
			}
		})
	}
	give := func(name string) {
		for s.bodies(name); s.l.Deep() != nil; s.steps(4) {
			if err := s.l.StartOver(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range 30 {
		give(b[i])
		give(a[i])
	}
	give(b[30])
	close(done)
	wg.Wait()
	s.tip("b31")
}

// The in-memory ledger runs whole inside a bubble of virtual time.
func TestInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, nil)
		s.add(s.chain("genesis", "a", 3)...)
		time.Sleep(time.Hour)
		s.tip("a3")
	})
}

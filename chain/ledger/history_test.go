package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"quipu/chain"
	"quipu/chain/chaintest"
)

// historian is the index done naively: it keeps every block it was shown and walks the best chain back to block 1.
type historian map[chain.BlockID]chain.Block

func (n historian) learn(blocks ...*chaintest.Block) {
	for _, b := range blocks {
		n[b.ID()] = b.Block
	}
}

// of lists all of an account's history, newest first.
func (n historian) of(tip chain.BlockID, a chain.Account) (out []Touch) {
	for b, ok := n[tip]; ok; b, ok = n[tip] {
		h := b.Header.Height
		if b.Header.Miner == a {
			out = append(out, Touch{Place{h, MinerPlace}, tip})
		}
		var txs []Touch
		for at, i := 0, uint32(0); at < len(b.Body); i++ {
			t, size, err := chain.DecodeTx(b.Body[at:])
			if err != nil {
				panic(err)
			}
			at += size
			if t.From == a || slices.ContainsFunc(t.Outputs, func(o chain.Output) bool { return o.To == a }) {
				txs = append(txs, Touch{Place{h, i}, tip})
			}
		}
		slices.Reverse(txs)
		out = append(out, txs...)
		tip = b.Header.Parent
	}
	return out
}

// accounts are all that any block names, and one that none does.
func (n historian) accounts() (out []chain.Account) {
	seen := map[chain.Account]bool{{0xee}: true}
	for _, b := range n {
		seen[b.Header.Miner] = true
		for at := 0; at < len(b.Body); {
			t, size, _ := chain.DecodeTx(b.Body[at:])
			at += size
			seen[t.From] = true
			for _, o := range t.Outputs {
				seen[o.To] = true
			}
		}
	}
	for a := range seen {
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b chain.Account) int { return bytes.Compare(a[:], b[:]) })
	return out
}

// compare reads the history of every account in pages and wants what a walk over the chain gives.
func (n historian) compare(t *testing.T, l *Ledger, limit int) {
	t.Helper()
	for _, a := range n.accounts() {
		want := n.of(l.Tip().ID, a)
		got, indexed := readHistory(t, l, a, limit)
		if height := l.Tip().Header.Height; indexed != height {
			if indexed > height || !l.historyDue(indexed) {
				t.Fatalf("%d of %d blocks are listed", indexed, height)
			}
			want = slices.DeleteFunc(want, func(at Touch) bool { return at.Height > indexed })
		}
		if !slices.Equal(got, want) {
			t.Fatalf("account %s at tip %d, pages of %d:\n%v, want\n%v", a, l.Tip().Header.Height, limit, got, want)
		}
	}
}

// readHistory follows the pages to the end.
func readHistory(t *testing.T, l *Ledger, a chain.Account, limit int) (out []Touch, indexed uint64) {
	t.Helper()
	var before *Place
	for {
		p, err := l.History(a, before, limit)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Touches) > limit || p.More && len(p.Touches) < limit || p.Tip.ID != l.Tip().ID {
			t.Fatalf("a page of %d with %d entries, more %v", limit, len(p.Touches), p.More)
		}
		out, indexed = append(out, p.Touches...), p.Indexed
		if !p.More {
			return out, indexed
		}
		before = &out[len(out)-1].Place
	}
}

func withHistory(span int) func(*Config) {
	return func(c *Config) { c.History, c.historySpan, c.FreeSpace = true, span, plenty }
}

func (s *scene) index() {
	s.t.Helper()
	for more := true; more; {
		var err error
		if more, err = s.l.IndexHistory(true); err != nil {
			s.t.Fatal(err)
		}
	}
}

// genesis -> a1 -> a2 -> a3
//
//	\-> b2 -> b3 -> b4
//
// Each payment is listed for sender and recipient, each block for its miner; what the reorg left isn't.
func TestHistory(t *testing.T) {
	for _, span := range []int{1, 2, 3, 64} {
		s := newScene(t, withHistory(span))
		twice := s.alice.Pay(s.G, 1, 0, chaintest.To(s.bob, 1), chaintest.To(s.alice, 2), chaintest.To(s.bob, 3))
		s.Next("a1", s.pay(0, 10))
		s.Next("a2", []chain.Tx{twice, s.bob.Pay(s.G, 0, 0, chaintest.To(s.alice, 5))}, chaintest.MinedBy(s.bob))
		s.Next("a3", nil)
		s.SetTip("a1")
		s.Next("b2", nil)
		s.Next("b3", s.pay(1, 20), chaintest.MinedBy(s.alice))
		s.Next("b4", nil)
		want := func(k chaintest.Key, places ...string) {
			t.Helper()
			touches, _ := readHistory(t, s.l, k.Account, 2)
			var got []string
			for _, at := range touches {
				index := fmt.Sprint(at.Index)
				if at.Index == MinerPlace {
					index = "miner"
				}
				got = append(got, s.name(at.Block)+":"+index)
			}
			if !slices.Equal(got, places) {
				t.Fatalf("batches of %d: %v, want %v", span, got, places)
			}
		}
		s.add("a1", "a2", "a3")
		for range 2 {
			want(s.alice, "a2:1", "a2:0", "a1:0")
			want(s.bob, "a2:miner", "a2:1", "a2:0", "a1:0")
			want(chaintest.NewKey("nobody"))
			s.index()
		}
		s.add("b2", "b3", "b4")
		for range 2 {
			want(s.alice, "b3:miner", "b3:0", "a1:0")
			want(s.bob, "b3:0", "a1:0")
			s.index()
		}
	}
}

func TestHistoryLimits(t *testing.T) {
	s := newScene(t, nil)
	if _, err := s.l.History(s.bob.Account, nil, 10); !errors.Is(err, ErrNoHistory) {
		t.Fatalf("without an index: %v", err)
	}
	s = newScene(t, withHistory(4))
	for _, limit := range []int{-1, 0, MaxHistory + 1} {
		if _, err := s.l.History(s.bob.Account, nil, limit); err == nil {
			t.Fatalf("%d entries were given", limit)
		}
	}
	s.Next("a1", s.pay(0, 10))
	s.add("a1")
	for _, c := range []struct {
		before Place
		n      int
	}{{Place{0, 0}, 0}, {Place{0, MinerPlace}, 0}, {Place{1, 0}, 0}, {Place{1, 1}, 1}, {Place{2, 0}, 1}, {Place{1 << 40, 0}, 1}, {Place{1<<64 - 1, MinerPlace}, 1}} {
		if p, err := s.l.History(s.bob.Account, &c.before, 10); err != nil || len(p.Touches) != c.n {
			t.Fatalf("before %v: %v %v", c.before, p.Touches, err)
		}
	}
	s.l.Close()
	if _, err := s.l.History(s.bob.Account, nil, 10); !errors.Is(err, ErrClosed) {
		t.Fatalf("closed: %v", err)
	}
}

// TestHistoryModel gives random trees of blocks to a ledger that keeps little undo, with bodies pruned in some runs and
// the index off at times, and compares all accounts with the naive walk at every step.
func TestHistoryModel(t *testing.T) {
	t.Parallel() // it waits for the disk
	runs := 30
	if os.Getenv("QUIPU_LONG") != "" {
		runs = 1000
	}
	var seen historyCount
	for seed := range uint64(runs) {
		historyRun(t, seed, &seen)
	}
	t.Logf("%+v", seen)
	if seen.reverted < 2*runs || seen.pruned < runs/2 || seen.batches < 3*runs || seen.crashes < runs/6 || seen.off == 0 {
		t.Fatal("the runs were too tame")
	}
}

// historyCount shows that the runs met what they are for.
type historyCount struct{ reverted, pruned, batches, crashes, off int }

func historyRun(t *testing.T, seed uint64, seen *historyCount) {
	r := rand.New(rand.NewPCG(seed, 77))
	keys := []chaintest.Key{chaintest.NewKey("alice"), chaintest.NewKey("bob"), chaintest.NewKey("carol"), chaintest.NewKey("dave"), chaintest.NewKey("erin")}
	g := chaintest.Genesis(func(g *chain.Genesis) { g.BodyLimit, g.AccountPrice = 1<<16, 700 }, keys[:3]...)
	blocks := randomTree(r, g, chaintest.New(g), keys)
	cfg := Config{Genesis: g, groupBlocks: r.IntN(3), FreeSpace: plenty, History: true, historySpan: 1 + r.IntN(6), historyCut: r.IntN(4), UndoKeep: 5}
	if r.IntN(2) == 0 {
		cfg.Prune = 5
	}
	crashed := ""
	if r.IntN(2) == 0 {
		cfg.Dir = t.TempDir()
		cfg.afterCommit = func() {
			if crashed == "" && r.IntN(60) == 0 {
				crashed = copySettled(t, cfg.Dir)
			}
		}
	}
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { l.Close() }()
	naive := historian{}
	give := func(b *chaintest.Block) {
		if _, err := l.AddHeaders([]chain.Header{b.Header}); err != nil {
			return // below an invalid one
		}
		naive.learn(b)
		res, err := l.Add([]chain.CheckedBlock{b.Checked})
		if err != nil && !errors.Is(err, ErrDeepReorg) {
			t.Fatalf("seed %d: %v", seed, err)
		}
		seen.reverted += len(res.Change.Reverted)
	}
	for given := 0; given < len(blocks); {
		for n := 1 + r.IntN(3); n > 0 && given < len(blocks); n-- {
			give(blocks[given])
			given++
		}
		if crashed != "" { // go on from the copy
			l.Close()
			cfg.Dir, crashed = crashed, ""
			seen.crashes++
			if l, err = Open(cfg); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if l.cfg.History {
				naive.compare(t, l, 1+r.IntN(7))
			}
			for _, b := range blocks[:given] {
				give(b)
			}
		}
		if l.cfg.History {
			naive.compare(t, l, 1+r.IntN(7))
		}
		switch r.IntN(6) {
		case 0:
			if _, err := l.IndexHistory(true); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		case 1:
			if cfg.Dir == "" {
				break
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if cfg.History = r.IntN(2) > 0 || cfg.Prune > 0; !cfg.History { // pruning without it would end it
				seen.off++
			}
			if l, err = Open(cfg); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
	}
	seen.pruned += int(l.Pruned())
	seen.batches += int(l.history.next)
	if err := l.db.View(func(txn *badger.Txn) error { return l.verifyHistory(txn, l.pruned+1) }); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
}

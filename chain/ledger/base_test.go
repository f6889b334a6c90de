package ledger

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/chain/statetree"
)

// leavesAt are the accounts after a named block, as a snapshot gives them.
func (s *scene) leavesAt(name string) (out []statetree.Leaf) {
	s.SetTip(name)
	for a, v := range s.Accounts() {
		out = append(out, statetree.Leaf{Account: a, Balance: v.Balance, Nonce: v.Nonce})
	}
	slices.SortFunc(out, func(a, b statetree.Leaf) int {
		p, q := statetree.PathOf(a.Account), statetree.PathOf(b.Account)
		return bytes.Compare(p[:], q[:])
	})
	return out
}

func giving(leaves []statetree.Leaf) func() (statetree.Leaf, bool, error) {
	return func() (l statetree.Leaf, ok bool, err error) {
		if ok = len(leaves) > 0; ok {
			l, leaves = leaves[0], leaves[1:]
		}
		return l, ok, nil
	}
}

// begin makes the ledger begin with a named block, whose header and those before must be stored.
func (s *scene) begin(name string) {
	s.t.Helper()
	if err := s.l.AwaitSnapshot(); err != nil {
		s.t.Fatal(err)
	}
	if err := s.l.LoadSnapshot(s.Get(name).ID(), giving(s.leavesAt(name))); err != nil {
		s.t.Fatal(err)
	}
	s.tip(name)
}

// history gives the bodies that the ledger wants, a few at a time, until none is.
func (s *scene) history() {
	s.t.Helper()
	for {
		wants := s.l.Wanted(1200)
		if len(wants) == 0 {
			return
		}
		for _, w := range slices.Backward(wants) { // the order doesn't matter
			s.bodies(s.name(w.ID))
		}
	}
}

func (s *scene) replay(dir string) error {
	s.t.Helper()
	r, err := s.l.OpenReplay(dir, 1<<20)
	if err != nil {
		return err
	}
	defer r.Close()
	for {
		n := 0
		done, err := r.Step(func() bool { n++; return n < 2 })
		if err != nil {
			return err
		}
		if done {
			return s.l.Confirm(r.base)
		}
	}
}

// payments makes n blocks with a payment each.
func (s *scene) payments(parent, prefix string, n int) (names []string) {
	s.SetTip(parent)
	for i := range n {
		name := prefix + string(rune('0'+i+1))
		s.Next(name, s.pay(s.Account(s.alice.Account).Nonce, 10+uint64(i)))
		names = append(names, name)
	}
	return names
}

// genesis -> a1 … a8: the ledger begins with a5.
func TestBeginWithSnapshot(t *testing.T) {
	for _, disk := range []bool{false, true} {
		s := newScene(t, func(c *Config) {
			if disk {
				onDisk(t)(c)
			}
			c.behind = 5
		})
		names := s.payments("genesis", "a", 8)
		s.headers(names...)
		s.begin("a5")
		if base, ok := s.l.Base(); !ok || base.ID != s.Get("a5").ID() || s.l.Pruned() != 5 || len(s.l.Held()) != 0 {
			t.Fatalf("base %v, pruned %d, held %v", base, s.l.Pruned(), s.l.Held())
		}
		if disk {
			s.reopen()
			s.tip("a5")
			if err := s.l.Close(); err != nil {
				t.Fatal(err)
			}
			cfg := s.cfg
			cfg.History = true
			if _, err := Open(cfg); !errors.Is(err, ErrPruned) || !strings.Contains(err.Error(), "until quipu status says that it is verified") {
				t.Fatalf("with --history: %v", err)
			}
			s.open()
		}
		if _, err := s.l.OpenReplay("", 1<<20); err != nil {
			t.Fatal(err)
		}
		if w := s.l.Wanted(1 << 20); len(w) != 3 || w[0].ID != s.Get("a6").ID() {
			t.Fatalf("wanted %v before history", w)
		}
		s.bodies("a7", "a6")
		s.bodies("a8")
		s.tip("a8")
		if err := s.l.Confirm(Base{5, s.Get("a5").ID()}); err == nil {
			t.Fatal("confirmed without bodies")
		}
		if h := s.l.Held(); len(h) != 1 || h[0] != (Range{6, 8}) || s.l.Info(s.Get("a3").ID()).Validated {
			t.Fatalf("held %v", h)
		}
		pay := s.Get("a3").Checked.Txs()[0].ID()
		if _, _, ok, _ := s.l.FindTx(pay); ok {
			t.Fatal("it finds a transaction whose block it never had")
		}
		s.bodies("a5", "a3")
		if s.l.Pruned() != 4 {
			t.Fatalf("pruned %d", s.l.Pruned())
		}
		if disk {
			s.reopen() // a3 doesn't count any more: a4 is missing
		}
		s.history()
		if s.l.Pruned() != 0 || s.l.Held()[0] != (Range{1, 8}) {
			t.Fatalf("pruned %d, held %v", s.l.Pruned(), s.l.Held())
		}
		if loc, raw, ok, err := s.l.FindTx(pay); !ok || err != nil || loc.Height != 3 || !bytes.Equal(raw, s.Get("a3").Body) {
			t.Fatalf("FindTx: %v %v %v", loc, ok, err)
		}
		dir := ""
		if disk {
			dir = t.TempDir()
		}
		if err := s.replay(dir); err != nil {
			t.Fatal(err)
		}
		if _, ok := s.l.Base(); ok || !s.l.Info(s.Get("a3").ID()).Validated {
			t.Fatal("not confirmed")
		}
		s.tip("a8")
		if disk { // it is as any other
			s.l.Close()
			if _, err := Verify(t.Context(), s.cfg, 0, nil); err != nil {
				t.Fatal(err)
			}
			s.open()
			s.tip("a8")
		}
	}
}

// Each row is a list of accounts that isn't the block's. The ledger stays empty, and what was written does no harm to what
// comes after.
func TestWrongSnapshots(t *testing.T) {
	broken := errors.New("the network is down")
	for name, row := range map[string]struct {
		edit func([]statetree.Leaf) []statetree.Leaf
		err  error
		is   error
	}{
		"none":       {func(l []statetree.Leaf) []statetree.Leaf { return nil }, nil, ErrWrongState},
		"one less":   {func(l []statetree.Leaf) []statetree.Leaf { return l[1:] }, nil, ErrWrongState},
		"one twice":  {func(l []statetree.Leaf) []statetree.Leaf { return append(l, l[len(l)-1]) }, nil, ErrWrongState},
		"unordered":  {func(l []statetree.Leaf) []statetree.Leaf { l[0], l[1] = l[1], l[0]; return l }, nil, ErrWrongState},
		"another":    {func(l []statetree.Leaf) []statetree.Leaf { l[0].Balance++; return l }, nil, ErrWrongState},
		"a void one": {func(l []statetree.Leaf) []statetree.Leaf { l[0].Balance, l[0].Nonce = 0, 0; return l }, nil, ErrWrongState},
		"too much":   {func(l []statetree.Leaf) []statetree.Leaf { l[0].Balance = 1<<64 - 1; return l }, nil, ErrWrongState},
		"an error":   {func(l []statetree.Leaf) []statetree.Leaf { return l }, broken, broken},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, func(c *Config) { onDisk(t)(c); c.behind = 5 })
			names := s.payments("genesis", "a", 6)
			s.headers(names...)
			if err := s.l.AwaitSnapshot(); err != nil {
				t.Fatal(err)
			}
			next := giving(row.edit(s.leavesAt("a4")))
			err := s.l.LoadSnapshot(s.Get("a4").ID(), func() (statetree.Leaf, bool, error) {
				leaf, ok, err := next()
				if !ok && row.err != nil {
					err = row.err
				}
				return leaf, ok, err
			})
			wantErr(t, err, row.is)
			s.tip("genesis")
			s.bodies(names...)
			s.tip("genesis") // it is still awaited
			s.begin("a4")
			s.reopen()
			s.tip("a6")
			s.history()
			if err := s.replay(""); err != nil {
				t.Fatal(err)
			}
		})
	}
	// And nothing comes: the ledger is any other.
	s := newScene(t, func(c *Config) { onDisk(t)(c); c.behind = 5 })
	names := s.payments("genesis", "a", 6)
	s.headers(names...)
	if err := s.l.AwaitSnapshot(); err != nil {
		t.Fatal(err)
	}
	wantErr(t, s.l.LoadSnapshot(s.Get("a4").ID(), giving(s.leavesAt("a4")[1:])), ErrWrongState)
	wantErr(t, s.l.LoadSnapshot(chain.BlockID{1}, giving(nil)), ErrNotBest)
	if w := s.l.Wanted(1 << 20); len(w) != 0 {
		t.Fatalf("wants %d bodies while it waits", len(w))
	}
	s.bodies(names...)
	if res, err := s.l.GoOn(); err != nil || len(res.Change.Applied) != 6 {
		t.Fatal(res, err)
	}
	s.tip("a6")
	wantErr(t, s.l.AwaitSnapshot(), ErrNotEmpty)
	s.reopen()
	s.l.Close()
	if _, err := Verify(t.Context(), s.cfg, 0, nil); err != nil {
		t.Fatal(err)
	}
}

// crashes runs f with a copy of the directory after each commit, and check with a scene opened on each copy.
func crashes(t *testing.T, make func(s *scene), f func(s *scene), check func(s *scene, i int)) {
	t.Helper()
	var copies []string
	dir := t.TempDir()
	s := newScene(t, func(c *Config) {
		c.Dir, c.FreeSpace, c.UndoKeep, c.behind, c.loadPart = dir, plenty, 8, 5, 150
		c.afterCommit = func() { copies = append(copies, copyDir(t, dir)) }
	})
	make(s)
	copies = nil
	f(s)
	s.l.Close()
	if len(copies) < 4 {
		t.Fatalf("%d commits", len(copies))
	}
	for i, dir := range copies {
		s.cfg.Dir, s.cfg.afterCommit = dir, nil
		s.open()
		check(s, i)
		s.l.Close()
		os.RemoveAll(dir)
	}
}

// genesis -> a1 … a8: it begins with a5, and a crash may come anywhere until a5 is confirmed. It leaves an empty ledger or
// one that goes on.
func TestCrashWithSnapshot(t *testing.T) {
	t.Parallel() // it waits for the disk
	seen := map[string]int{}
	var names []string
	replays := t.TempDir()
	crashes(t, func(s *scene) {
		names = s.payments("genesis", "a", 8)
	}, func(s *scene) {
		s.headers(names...)
		s.begin("a5")
		s.bodies("a6", "a7")
		s.bodies("a8")
		s.history()
		if err := s.replay(replays); err != nil {
			t.Fatal(err)
		}
	}, func(s *scene, i int) {
		at := s.name(s.l.Tip().ID)
		s.tip(at)
		base, ok := s.l.Base()
		switch {
		case at == "genesis":
			seen["empty"]++
			if ok {
				t.Fatalf("copy %d is empty and has a base", i)
			}
			s.headers(names...)
			if i%2 == 0 {
				s.begin("a5")
			}
		case ok:
			seen["open"]++
			if base.ID != s.Get("a5").ID() {
				t.Fatalf("copy %d: base %v", i, base)
			}
		default:
			seen["confirmed"]++
		}
		s.bodies("a6", "a7", "a8")
		s.history()
		s.bodies(names...)
		s.tip("a8")
		if err := s.replay(""); err != nil && (!errors.Is(err, ErrNoBase) || ok) {
			t.Fatalf("copy %d: %v", i, err)
		}
		s.l.Close()
		if _, err := Verify(t.Context(), s.cfg, 0, nil); err != nil {
			t.Fatalf("copy %d: %v", i, err)
		}
		s.open()
	})
	if seen["empty"] < 3 || seen["open"] < 4 || seen["confirmed"] == 0 {
		t.Fatal(seen)
	}
}

// genesis -> a1 -> a2 -> bad -> c1 … c5
//
//	\-> b1 … b5
//
// bad has a false state root under valid work, and those above go on from a2's accounts: peers that don't know better serve
// c2's. The replay finds it; so does whoever marks it. The ledger is left for a2, or for b5 once it has its bodies.
func TestRefutedSnapshot(t *testing.T) {
	t.Parallel() // it waits for the disk
	for _, by := range []string{"replay", "mark"} {
		var up, other []string
		staying, left := 0, 0
		refute := func(s *scene) {
			var res Result
			var err error
			if by == "mark" {
				res, err = s.l.MarkInvalid(s.Get("bad").ID(), errors.New("a bad signature"))
			} else {
				s.history()
				err = s.replay("")
				var r *RefutedError
				if !errors.As(err, &r) || r.ID != s.Get("bad").ID() || r.Height != 3 {
					t.Fatalf("replay: %v", err)
				}
				wantErr(t, err, chain.ErrStateRoot)
				res, err = s.l.MarkInvalid(r.ID, r.Err)
			}
			if err != nil || !res.Restarted || !res.More || len(res.Change.Applied)+len(res.Change.Reverted) > 0 {
				t.Fatalf("%s: %+v %v", by, res, err)
			}
		}
		rest := func(s *scene) {
			for more := true; more; {
				res, err := s.l.Add(nil)
				if err != nil {
					t.Fatal(err)
				}
				more = res.More
			}
			s.bodies("a1", "a2")
			if !s.l.Info(s.Get("b3").ID()).Header {
				s.tip("a2")
			}
			s.headers(other...)
			s.bodies(other...)
			s.tip("b3")
		}
		crashes(t, func(s *scene) {
			up = s.payments("genesis", "a", 2)
			s.Next("bad", s.pay(2, 5), chaintest.Header(func(h *chain.Header) { h.StateRoot[0] ^= 1 }))
			up = append(append(up, "bad"), s.chain("bad", "c", 5)...)
			other = s.payments("a1", "b", 3)
			s.headers(up...)
			s.begin("c2")
			s.bodies("c3", "c4")
			s.tip("c4")
		}, func(s *scene) {
			refute(s)
			s.tip("genesis")
			rest(s)
		}, func(s *scene, i int) {
			at := s.name(s.l.Tip().ID)
			s.tip(at)
			if _, ok := s.l.Base(); ok {
				refute(s)
				staying++
			} else {
				left++ // Open has seen to it
			}
			rest(s)
			s.l.Close()
			if _, err := Verify(t.Context(), s.cfg, 0, nil); err != nil {
				t.Fatalf("copy %d: %v", i, err)
			}
			s.open()
		})
		if left < 4 || by == "replay" && staying == 0 {
			t.Fatalf("%s: %d copies had left, %d hadn't", by, left, staying)
		}
	}
}

// genesis -> a1 -> a2 -> a3 -> a4, base a3
//
//	\-> b1 … b5
//
// A heavier branch leaves below the base: history is fetched, and the chain applied from block 0.
func TestReorgBelowSnapshot(t *testing.T) {
	s := newScene(t, onDisk(t))
	up := s.payments("genesis", "a", 4)
	s.headers(up...)
	s.begin("a3")
	s.bodies("a4")
	other := s.payments("a1", "b", 5)
	s.headers(other...)
	if res := s.bodies(other...); res.Deep == nil || res.Deep.Fork != 1 {
		t.Fatalf("deep: %v", res.Deep)
	}
	var missing *MissingBodiesError
	if err := s.l.StartOver(); !errors.As(err, &missing) || missing.Bodies != 3 {
		t.Fatal(err)
	}
	s.reopen()
	s.history()
	if err := s.l.StartOver(); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.l.Base(); ok {
		t.Fatal("it still has a base")
	}
	wantErr(t, s.replay(""), ErrNoBase)
	for {
		if _, done, err := s.l.Step(func() bool { return true }); err != nil {
			t.Fatal(err)
		} else if done {
			break
		}
	}
	s.tip("b5")
	s.reopen()
	s.tip("b5")
	s.l.Close()
	if _, err := Verify(t.Context(), s.cfg, 0, nil); err != nil {
		t.Fatal(err)
	}
	s.open()
}

// A replay's own store that is damaged is told from the ledger's and from a false snapshot: nothing is held against any
// block, and one that begins anew confirms.
func TestDamagedReplay(t *testing.T) {
	t.Parallel() // it waits for the disk
	s := newScene(t, nil)
	s.headers(s.payments("genesis", "a", 8)...)
	s.begin("a8")
	s.history()
	dir := t.TempDir()
	r, err := s.l.OpenReplay(dir, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if _, err := r.Step(func() bool { n++; return n < 4 }); err != nil {
		t.Fatal(err)
	}
	r.own.fatal(corrupt("a page"))
	_, err = r.Step(func() bool { return false })
	wantErr(t, err, ErrReplayStore)
	if refuted := (*RefutedError)(nil); errors.As(err, &refuted) {
		t.Fatalf("it is held against block %d", refuted.Height)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "MANIFEST"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantErr(t, s.replay(dir), ErrReplayStore)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.replay(dir); err != nil {
		t.Fatal(err)
	}
	if base, ok := s.l.Base(); ok {
		t.Fatalf("base %d", base.Height)
	}
}

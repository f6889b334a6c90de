package ledger

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"quipu/chain"
)

// steps calls Step, so many blocks each, until it is done, and returns how often, with what was found invalid.
func (s *scene) steps(n int) (calls int, invalid []InvalidBlock) {
	s.t.Helper()
	for {
		left := n
		res, done, err := s.l.Step(func() bool { left--; return left >= 0 })
		if err != nil {
			s.t.Fatal(err)
		}
		invalid = append(invalid, res.Invalid...)
		if calls++; done {
			return calls, invalid
		}
		if calls > 10_000 {
			s.t.Fatal("it doesn't end")
		}
		s.tipIsWhole()
	}
}

// tipIsWhole wants the tip to be a block that was made, with its accounts.
func (s *scene) tipIsWhole() {
	s.t.Helper()
	s.tip(s.name(s.l.Tip().ID))
}

// deepScene has a chain of 12 blocks and a heavier branch of 13, 4 blocks in common; undo reaches 3 back.
//
// genesis -> a1 -> … -> a4 -> a5 -> … -> a12
//
//	\-> b1 -> … -> b9
func deepScene(t *testing.T, edit func(*Config)) *scene {
	s := newScene(t, func(c *Config) {
		c.UndoKeep = 3
		if edit != nil {
			edit(c)
		}
	})
	a := s.chain("genesis", "a", 12)
	s.add(a...)
	s.tip("a12")
	return s
}

func (s *scene) give(names []string) Result {
	s.t.Helper()
	s.headers(names...)
	return s.bodies(names...)
}

func TestStartOver(t *testing.T) {
	t.Parallel() // it waits for the disk
	onto := onDisk(t)
	for _, edit := range []func(*Config){nil, onto} {
		s := deepScene(t, edit)
		if err := s.l.StartOver(); err != nil || s.l.Rebuilding() != nil {
			t.Fatalf("started over without a reason (%v)", err)
		}
		b := s.chain("a4", "b", 9)
		if res := s.give(b); res.Deep == nil || s.l.Deep() == nil {
			t.Fatal("no deep reorg")
		}
		s.tip("a12")
		if err := s.l.StartOver(); err != nil {
			t.Fatal(err)
		}
		s.tip("genesis")
		r := s.l.Rebuilding()
		if r == nil || *r != (Rebuilding{0, 13, s.Get("b9").ID(), s.Get("a12").ID(), 4}) {
			t.Fatalf("rebuilding: %+v", r)
		}
		if _, _, ok, err := s.l.FindTx(s.Get("a2").Checked.Txs()[0].ID()); ok || err != nil {
			t.Fatalf("a transaction above the tip is found (%v)", err)
		}
		if n := s.l.workFloor(); s.l.tip.Work.Gt(&n) { // a chain so short has no floor; the reference is what counts
			if ref, _ := s.l.reference(); ref.id != s.Get("a12").ID() {
				t.Fatal("branches are held against the tip of the moment")
			}
		}
		// What comes meanwhile is stored, and the tip stays.
		s.SetTip("b9")
		c := s.chain("b9", "c", 2)
		s.give(c)
		s.tip("genesis")
		if w := s.l.Wanted(1 << 20); len(w) != 0 {
			t.Fatalf("%d bodies wanted", len(w))
		}
		if n, invalid := s.steps(2); n < 7 || len(invalid) != 0 {
			t.Fatalf("%d steps, invalid %v", n, invalid)
		}
		s.tip("c2")
		if s.l.Rebuilding() != nil || s.l.Deep() != nil || s.l.record.undoFrom <= 5 {
			t.Fatalf("it isn't an ordinary ledger again: undo from %d", s.l.record.undoFrom)
		}
		size := int64(s.Get("a5").Header.BodySize) // all have one
		for most, first := range map[int64]int{1 << 20: 5, 3*size + size/2: 10, 3 * size: 10, size - 1: 13} {
			left, err := s.l.Blocks(s.l.Branch(s.Get("a12").ID(), 4, most))
			if err != nil || len(left) != 13-first {
				t.Fatalf("%d blocks of the branch that was left, want %d (%v)", len(left), 13-first, err)
			}
			for i := range left {
				if left[i].ID() != s.Get(fmt.Sprint("a", first+i)).ID() || len(left[i].Txs()) != 1 {
					t.Fatalf("block %d is another", i)
				}
			}
		}
		if ids := s.l.Branch(s.Get("c2").ID(), 4, 1<<20); len(ids) != 0 {
			t.Fatalf("%d blocks of the best chain", len(ids))
		}
		if s.cfg.Dir != "" {
			s.reopen()
			s.tip("c2")
			s.l.Close()
			if _, err := Verify(t.Context(), s.cfg, 0, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// The new branch turns out invalid near its end, further above the fork than undo is kept: the old chain is there again.
//
// genesis -> a1 -> … -> a4 -> a5 -> … -> a12
//
//	\-> b1 -> … -> b8 -> bad -> d1
func TestStartOverForAnInvalidBranch(t *testing.T) {
	for _, step := range []int{1, 2, 5, 100} {
		s := deepScene(t, nil)
		b := s.chain("a4", "b", 8)
		s.badNonce("bad")
		s.Next("d1", nil)
		s.give(append(b, "bad", "d1"))
		s.tip("a12")
		if err := s.l.StartOver(); err != nil {
			t.Fatal(err)
		}
		_, invalid := s.steps(step)
		if len(invalid) != 1 || invalid[0].ID != s.Get("bad").ID() {
			t.Fatalf("invalid: %v", invalid)
		}
		s.tip("a12") // as heavy as b8, and its body was complete before
		if s.l.Deep() != nil || !s.l.Info(s.Get("d1").ID()).Invalid || s.l.BestHeader().ID != s.Get("a12").ID() {
			t.Fatal("the branch isn't remembered as invalid")
		}
		s.chain("a12", "e", 5)
		s.add("e1", "e2", "e3", "e4", "e5")
		s.tip("e5")
	}
}

// Bodies that were pruned are wanted again, in whatever order they come, and nothing is dropped before all are here.
func TestStartOverOfAPrunedChain(t *testing.T) {
	t.Parallel() // it waits for the disk
	for _, cut := range []bool{false, true} {
		onto := onDisk(t)
		s := deepScene(t, func(c *Config) { onto(c); c.Prune = 4 })
		if s.l.Pruned() != 8 {
			t.Fatalf("pruned to %d", s.l.Pruned())
		}
		b := s.chain("a4", "b", 9)
		s.give(b)
		var missing *MissingBodiesError
		for range 2 {
			if err := s.l.StartOver(); !errors.As(err, &missing) || missing.Bodies != 8 {
				t.Fatal(err)
			}
		}
		s.tip("a12")
		var wanted []string
		for _, w := range s.l.Wanted(1 << 20) {
			wanted = append(wanted, s.name(w.ID))
		}
		if !slices.Equal(wanted, []string{"a8", "a7", "a6", "a5", "a4", "a3", "a2", "a1"}) {
			t.Fatalf("wanted %v", wanted)
		}
		s.bodies("a5", "a8", "a3")
		if s.l.Pruned() != 7 {
			t.Fatalf("pruned to %d", s.l.Pruned())
		}
		s.bodies("a7", "a6")
		if s.l.Pruned() != 4 || len(s.l.Wanted(1<<20)) != 3 {
			t.Fatalf("pruned to %d, %d wanted", s.l.Pruned(), len(s.l.Wanted(1<<20)))
		}
		if cut { // a restart keeps what came in a row
			s.reopen()
			s.tip("a12")
			if err := s.l.StartOver(); !errors.As(err, &missing) || missing.Bodies != 4 {
				t.Fatal(err)
			}
			s.bodies("a3")
		}
		s.bodies("a1", "a2")
		s.bodies("a4")
		s.tip("a12")
		if err := s.l.StartOver(); err != nil {
			t.Fatal(err)
		}
		s.steps(3)
		s.tip("b9")
		if p := s.l.Pruned(); p != 9 {
			t.Fatalf("pruned to %d: pruning doesn't go on", p)
		}
		s.reopen()
		s.tip("b9")
	}
}

// The process ends after each commit of a start from block 0: what is left opens on a whole block, goes on, and ends at
// the heavier branch; or, where that is invalid, at the old one.
func TestStartOverCrashes(t *testing.T) {
	t.Parallel() // it waits for the disk
	for _, bad := range []bool{false, true} {
		var copies []string
		dir := t.TempDir()
		keep := false
		s := deepScene(t, func(c *Config) {
			c.Dir, c.FreeSpace, c.behind = dir, plenty, 5
			c.afterCommit = func() {
				if keep {
					copies = append(copies, copyDir(t, dir))
				}
			}
		})
		names, end := s.chain("a4", "b", 9), "b9"
		if bad {
			s.SetTip("b8")
			s.badNonce("bad")
			s.Next("d1", nil)
			names, end = append(names[:8:8], "bad", "d1"), "a12"
		}
		s.give(names)
		keep = true
		if err := s.l.StartOver(); err != nil {
			t.Fatal(err)
		}
		s.steps(4)
		s.tip(end)
		s.l.Close()
		heights, step := map[uint64]bool{}, 4
		if os.Getenv("QUIPU_LONG") != "" {
			step = 1
		}
		for i := 0; i < len(copies); i += step {
			dir := copies[i]
			s.cfg.Dir, s.cfg.afterCommit = dir, nil
			s.open()
			s.tipIsWhole()
			if s.l.Rebuilding() != nil {
				heights[s.l.Tip().Header.Height] = true
			}
			s.steps(3)
			s.tip(end)
			s.reopen()
			s.tip(end)
			if s.l.Rebuilding() != nil {
				t.Fatalf("copy %d: it isn't over", i)
			}
			s.l.Close()
			if _, err := Verify(t.Context(), s.cfg, 0, nil); err != nil {
				t.Fatalf("copy %d: %v", i, err)
			}
		}
		if len(copies) < 15 || len(heights) < 12/step {
			t.Fatalf("%d copies, %d heights", len(copies), len(heights))
		}
	}
}

// Tools read what a start from block 0 left when it was interrupted, or say what to do.
func TestToolsOnAStartOver(t *testing.T) {
	t.Parallel() // it waits for the disk
	onto := onDisk(t)
	s := deepScene(t, onto)
	s.give(s.chain("a4", "b", 9))
	if err := s.l.StartOver(); err != nil {
		t.Fatal(err)
	}
	left := 6
	if _, done, err := s.l.Step(func() bool { left--; return left >= 0 }); done || err != nil {
		t.Fatal(done, err)
	}
	s.tip("b2")
	s.l.Close()
	r, err := Verify(t.Context(), s.cfg, 0, nil)
	if err != nil || r.Height != 6 {
		t.Fatalf("verify: height %d, %v", r.Height, err)
	}
	s.open()
	s.tip("b2")
	w := spill{l: s.l}
	if err := w.set(metaStartOver, startOverRecord(stageDropping, s.Get("a12").ID(), s.Get("b9").ID(), 4)); err != nil {
		t.Fatal(err)
	}
	if err := w.flush(); err != nil {
		t.Fatal(err)
	}
	s.l.Close()
	_, err = Verify(t.Context(), s.cfg, 0, nil)
	wantErr(t, err, ErrCorrupt, "start the node")
	s.open()
	s.tip("genesis")
	s.l.Close()
	if _, err := Reindex(t.Context(), s.cfg, nil); err != nil { // it ends what goes on
		t.Fatal(err)
	}
	s.open()
	s.tip("b9")
	if s.l.Rebuilding() != nil {
		t.Fatal("it goes on after a reindex")
	}
}

// A second heavier branch, which leaves the old chain and the new one still further below, is followed after the first.
func TestStartOverTwice(t *testing.T) {
	s := deepScene(t, nil)
	s.give(s.chain("a4", "b", 9))
	if err := s.l.StartOver(); err != nil {
		t.Fatal(err)
	}
	s.steps(100)
	s.tip("b9")
	s.give(s.chain("a2", "c", 12))
	s.tip("b9")
	if err := s.l.StartOver(); err != nil {
		t.Fatal(err)
	}
	left := 11
	s.l.Step(func() bool { left--; return left >= 0 })
	s.give(s.chain("a1", "d", 14)) // while the second goes on
	s.steps(1)
	s.tip("c12")
	if s.l.Deep() == nil {
		t.Fatal("undo reaches the third branch")
	}
	if err := s.l.StartOver(); err != nil {
		t.Fatal(err)
	}
	s.steps(100)
	s.tip("d14")
	var names []string
	for i := range 3 {
		names = append(names, fmt.Sprint("d", 12+i))
	}
	for _, n := range names {
		if i := s.l.Info(s.Get(n).ID()); !i.OnBest {
			t.Fatalf("%s: %+v", n, i)
		}
	}
	if _, err := s.l.MarkInvalid(s.Get("d14").ID(), &chain.RuleError{Kind: chain.ErrSignature, Desc: "for the test"}); err != nil {
		t.Fatal(err)
	}
	s.tip("d13")
}

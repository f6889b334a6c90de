package ledger

import (
	"testing"

	"quipu/chain"
)

// genesis -> a1 -> a2 -> … -> a6
//
//	a2 -> b1 -> b2                  lighter; b1 is the checkpoint at height 3
func TestCheckpoint(t *testing.T) {
	t.Parallel() // it waits for the disk
	dir := t.TempDir()
	s := newScene(t, func(c *Config) { c.Dir, c.FreeSpace = dir, plenty })
	a := s.chain("genesis", "a", 6)
	s.chain("a2", "b", 2)
	at3 := map[uint64]chain.BlockID{3: s.Get("b1").ID()}
	s.l.Close()

	s.cfg.Checkpoints = at3
	s.open()
	s.add("a1", "a2")
	n, err := s.l.AddHeaders([]chain.Header{s.Get("a2").Header, s.Get("a3").Header, s.Get("a4").Header})
	wantErr(t, err, ErrCheckpoint, s.Get("b1").ID().String())
	if n != 1 || s.l.Info(s.Get("a3").ID()).Header {
		t.Fatalf("%d headers, a3 stored: %v", n, s.l.Info(s.Get("a3").ID()))
	}
	_, err = s.l.AddHeaders([]chain.Header{s.Get("a4").Header})
	wantErr(t, err, chain.ErrUnknownParent)
	broken := s.Get("a3").Header
	broken.Bits++
	_, err = s.l.AddHeaders([]chain.Header{broken}) // a broken rule is its maker's fault all the same
	wantErr(t, err, chain.ErrBits)
	s.add("b1", "b2")
	s.tip("b2")
	s.l.Close()

	s.cfg.Checkpoints = nil // it holds while it is given
	s.open()
	s.add(a[2:]...)
	s.tip("a6")
	s.l.Close()

	s.cfg.Checkpoints = at3
	for range 2 {
		s.open()
		s.tip("b2")
		if i := s.l.Info(s.Get("a5").ID()); !i.Invalid || !i.Refused {
			t.Fatalf("%+v", i)
		}
		if best := s.l.BestHeader(); best.ID != s.Get("b2").ID() {
			t.Fatal("the best header is beside the checkpoint")
		}
		s.l.Close()
	}
	s.cfg.Checkpoints = nil
	s.open()
	s.tip("a6")
	s.l.Close()

	s.cfg.Checkpoints, s.cfg.UndoKeep = map[uint64]chain.BlockID{1: {1}}, 2
	s.open() // undo still reaches back
	s.tip("genesis")
	s.l.Close()
	s.cfg.Checkpoints = map[uint64]chain.BlockID{0: {1}}
	if _, err := Open(s.cfg); err == nil {
		t.Fatal("a checkpoint beside block 0 was taken")
	}
}

// A checkpoint deeper than undo can't be followed: the ledger says so and doesn't go on.
func TestCheckpointBelowUndo(t *testing.T) {
	t.Parallel() // it waits for the disk
	s := stopped(t)
	s.cfg.Checkpoints = map[uint64]chain.BlockID{1: {1}}
	_, err := Open(s.cfg)
	wantErr(t, err, ErrDeepReorg, "sync again")
	s.cfg.Checkpoints = nil
	s.open()
	s.tip("a6")
}

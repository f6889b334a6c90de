package ledger

import (
	"context"
	"testing"

	"quipu/chain"
)

// stopped is a closed ledger on disk with six blocks and a lighter branch; undo of five is kept.
//
// genesis -> a1 -> a2 -> … -> a6
//
//	a3 -> b1 -> b2
func stopped(t *testing.T) *scene {
	dir := t.TempDir()
	s := newScene(t, func(c *Config) { c.Dir, c.FreeSpace, c.UndoKeep = dir, plenty, 5 })
	a := s.chain("genesis", "a", 6)
	b := s.chain("a3", "b", 2)
	s.add(a...)
	s.headers(b...)
	s.bodies(b...)
	s.tip("a6")
	s.l.Close()
	return s
}

func (s *scene) verify(want string) {
	s.t.Helper()
	r, err := Verify(s.t.Context(), s.cfg, 0, nil)
	if err != nil || r.Tip != s.Get(want).ID() {
		s.t.Fatalf("replay ends at %s, want %s (%v)", s.name(r.Tip), want, err)
	}
}

func TestRollback(t *testing.T) {
	t.Parallel() // it waits for the disk
	s := stopped(t)
	cfg := s.cfg
	cfg.Genesis = nil
	steps := 0
	r, err := Rollback(t.Context(), cfg, 4, false, func(done, total uint64) {
		if steps++; done != uint64(steps) || total != 2 {
			t.Errorf("progress %d of %d", done, total)
		}
	})
	if err != nil || r != (RolledBack{From: 6, To: 4, Tip: s.Get("a4").ID()}) || steps != 2 {
		t.Fatalf("%+v %v, %d steps", r, err, steps)
	}
	s.verify("a4")
	s.open() // nothing was marked: the heaviest branch is followed again
	s.tip("a6")
	s.l.Close()

	for _, c := range []struct {
		height uint64
		says   string
	}{{6, "the tip is at height 6"}, {9, "the tip is at height 6"}, {0, "1 is the lowest height"}} {
		_, err := Rollback(t.Context(), cfg, c.height, true, nil)
		wantErr(t, err, ErrRollback, c.says)
	}
	s.verify("a6")
	over, cancel := context.WithCancel(t.Context())
	r, err = Rollback(over, cfg, 2, false, func(done, _ uint64) { cancel() })
	wantErr(t, err, context.Canceled)
	if r.To != 5 {
		t.Fatalf("%+v", r)
	}
	s.verify("a5")
}

// A rolled back block that is refused stays refused, another branch is followed, and the mark can be taken back.
func TestRollbackRefusing(t *testing.T) {
	t.Parallel() // it waits for the disk
	s := stopped(t)
	a4 := s.Get("a4").ID()
	r, err := Rollback(t.Context(), s.cfg, 3, true, nil)
	if err != nil || r.Refused != a4 || r.Tip != s.Get("a3").ID() {
		t.Fatalf("%+v %v", r, err)
	}
	s.verify("a3")
	s.SetTip("a6")
	s.Next("a7", nil)
	for range 2 {
		s.open()
		s.tip("b2")
		for _, name := range []string{"a4", "a6"} {
			if i := s.l.Info(s.Get(name).ID()); !i.Invalid || !i.Refused || !i.Body {
				t.Fatalf("%s: %+v", name, i)
			}
		}
		_, err = s.l.AddHeaders([]chain.Header{s.Get("a7").Header})
		wantErr(t, err, ErrInvalidAncestor)
		s.l.Close()
	}
	for name, says := range map[string]string{"a5": "descends from invalid block", "b1": "never marked", "genesis": "never marked"} {
		_, err := Reconsider(s.cfg, s.Get(name).ID())
		wantErr(t, err, ErrNoMark, says)
	}
	_, err = Reconsider(s.cfg, chain.BlockID{1})
	wantErr(t, err, ErrNoMark, "isn't stored")
	if why, err := Reconsider(s.cfg, a4); err != nil || why != localMark+"the operator rolled it back" {
		t.Fatalf("%q %v", why, err)
	}
	s.open()
	s.tip("a6")
}

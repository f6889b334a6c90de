package ledger

import (
	"fmt"
	"io"
	"testing"

	"quipu/chain"
	"quipu/chain/chaintest"
)

// pruning keeps eight bodies and undo of four.
func pruning(t *testing.T) *scene {
	dir := t.TempDir()
	return newScene(t, func(c *Config) { c.Dir, c.FreeSpace, c.UndoKeep, c.Prune = dir, plenty, 4, 8 })
}

// genesis -> a1 -> … -> a20            the tip
//
//	a3 -> b1 -> b2                  left behind: its bodies go as well
//	a17 -> c1                       may win yet
func TestPrune(t *testing.T) {
	t.Parallel() // it waits for the disk
	s := pruning(t)
	a := s.chain("genesis", "a", 20)
	b := s.chain("a3", "b", 2)
	c := s.chain("a17", "c", 1)
	s.add(a[:5]...)
	s.headers(b...)
	s.bodies(b...)
	s.add(a[5:]...)
	s.add(c...)
	for range 2 {
		s.tip("a20")
		for i, name := range a {
			info := s.l.Info(s.Get(name).ID())
			body, ok, err := s.l.Body(s.Get(name).ID())
			if kept := i >= 12; info.Body != kept || info.Pruned == kept || ok != kept || err != nil || !info.Validated || !info.OnBest {
				t.Fatalf("%s: %+v, %v %v", name, info, ok, err)
			} else if ok && string(body) != string(s.Get(name).Body) {
				t.Fatalf("%s: another body", name)
			}
			loc, raw, ok, err := s.l.FindTx(s.Get(name).Checked.Txs()[0].ID())
			if err != nil || !ok || loc != (TxLocation{uint64(i + 1), s.Get(name).ID(), 0}) || (raw != nil) != (i >= 12) {
				t.Fatalf("transaction of %s: %+v %v %v", name, loc, ok, err)
			}
			if h, _, ok, err := s.l.HeaderAt(uint64(i + 1)); !ok || err != nil || h != s.Get(name).Header {
				t.Fatalf("header of %s: %v %v", name, ok, err)
			}
		}
		for _, name := range b {
			if i := s.l.Info(s.Get(name).ID()); i.Body || i.Pruned || i.Invalid || !i.Header {
				t.Fatalf("%s: %+v", name, i)
			}
		}
		if i := s.l.Info(s.Get("c1").ID()); !i.Body {
			t.Fatalf("c1: %+v", i)
		}
		if got := s.l.Held(); len(got) != 1 || got[0] != (Range{13, 20}) {
			t.Fatalf("held: %v", got)
		}
		if got := s.wants(1 << 20); got != nil {
			t.Fatalf("wanted: %v", got)
		}
		if st := s.l.Stats(); st.Pruned != 12 || st.Bodies != 1+8+1 {
			t.Fatalf("%+v", st)
		}
		if res := s.bodies("a5"); len(res.Change.Applied) != 0 || s.l.Info(s.Get("a5").ID()).Body {
			t.Fatal("a pruned body was taken again")
		}
		wantErr(t, s.l.Export(t.Context(), io.Discard, nil), ErrPruned, "1 to 12")
		s.reopen()
	}
	s.SetTip("c1")
	for i := range 3 { // a reorg above what was pruned
		s.Next(fmt.Sprint("d", i+1), nil)
	}
	s.add("d1", "d2", "d3")
	s.tip("d3")
	s.l.Close()

	_, err := Verify(t.Context(), s.cfg, 0, nil)
	wantErr(t, err, ErrPruned, "1 to 13", "--from 18 ")
	for _, from := range []uint64{18, 19, 20} {
		if r, err := Verify(t.Context(), s.cfg, from, nil); err != nil || r.From != from || r.Height != 21 {
			t.Fatalf("%+v %v", r, err)
		}
	}
	wantErr(t, Export(t.Context(), s.cfg, io.Discard, nil), ErrPruned, "can't export")
	_, err = Reindex(t.Context(), s.cfg, nil)
	wantErr(t, err, ErrPruned, "rebuild")
	r, err := Rollback(t.Context(), s.cfg, 18, false, nil)
	if err != nil || r.Tip != s.Get("c1").ID() {
		t.Fatalf("%+v %v", r, err)
	}
	_, err = Rollback(t.Context(), s.cfg, 12, false, nil)
	wantErr(t, err, ErrRollback)
	s.cfg.Prune = 0 // what is gone stays gone, and nothing more goes
	s.open()
	s.tip("d3")
	s.chain("d3", "e", 12)
	for i := range 12 {
		s.add(fmt.Sprint("e", i+1))
	}
	if got := s.l.Held(); len(got) != 1 || got[0] != (Range{14, 33}) {
		t.Fatalf("held: %v", got)
	}
}

// A heavier branch that leaves the chain where bodies are pruned is fetched and raises the alarm, as without pruning;
// its bodies stay while it is heavier.
func TestPruneAndDeepReorg(t *testing.T) {
	t.Parallel() // it waits for the disk
	s := pruning(t)
	a := s.chain("genesis", "a", 20)
	s.add(a...)
	s.chain("a2", "b", 25)
	for i := range 25 {
		s.headers(fmt.Sprint("b", i+1))
	}
	for round := 0; ; round++ {
		names := s.wants(1 << 20)
		if len(names) == 0 {
			break
		}
		if round > 0 {
			t.Fatalf("wanted again: %v", names)
		}
		if res := s.bodies(names...); res.Deep == nil || res.Deep.Fork != 2 {
			t.Fatalf("%+v", res)
		}
	}
	s.tip("a20")
	s.chain("a20", "c", 2)
	s.add("c1", "c2")
	s.reopen()
	if got := s.wants(1 << 20); got != nil {
		t.Fatalf("wanted: %v", got)
	}
	s.tip("c2")
}

// What was pruned leaves the disk: after compaction the files take at most 1.3 times those of a ledger that never had
// the old bodies' bytes.
func TestPruneFreesTheDisk(t *testing.T) {
	t.Parallel() // it waits for the disk
	const blocks, keep = 300, 30
	run := func(prune int, small bool) uint64 {
		dir := t.TempDir()
		s := newScene(t, func(c *Config) { c.Dir, c.FreeSpace, c.UndoKeep, c.groupBlocks = dir, plenty, 8, 0 })
		memo := make([]byte, 80)
		nonce := uint64(0)
		for i := range blocks {
			var txs []chain.Tx
			if !small || i >= blocks-keep {
				for range 16 {
					txs = append(txs, s.alice.Sign(s.G, chain.Tx{Nonce: nonce, Memo: memo, Outputs: outputs(s.bob, 64)}, 0))
					nonce++
				}
			}
			s.Next(fmt.Sprint("m", i+1), txs)
		}
		var hs []chain.Header
		var bodies []chain.CheckedBlock
		for i := range blocks {
			b := s.Get(fmt.Sprint("m", i+1))
			hs, bodies = append(hs, b.Header), append(bodies, b.Checked)
		}
		if _, err := s.l.AddHeaders(hs); err != nil {
			t.Fatal(err)
		}
		if _, err := s.l.Add(bodies); err != nil {
			t.Fatal(err)
		}
		s.l.Close()
		if s.cfg.Prune = prune; prune > 0 {
			s.open()
			if got := s.l.Stats().Pruned; got != blocks-keep {
				t.Fatalf("pruned up to %d", got)
			}
		} else {
			s.open()
		}
		if err := s.l.compact(); err != nil { // pruning does it too, but a busy machine may leave some of it undone
			t.Fatal(err)
		}
		s.l.Close()
		return diskBytes(dir)
	}
	pruned, never := run(keep, false), run(0, true)
	t.Logf("%d kB pruned, %d kB never had them", pruned>>10, never>>10)
	if 10*pruned > 13*never {
		t.Errorf("%d bytes after pruning, %d without the old bodies", pruned, never)
	}
}

func outputs(to chaintest.Key, n int) (out []chain.Output) {
	for range n {
		out = append(out, chaintest.To(to, 1))
	}
	return out
}

package ledger

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"quipu/chain"
	"quipu/chain/chaintest"
)

// forked makes named blocks in which alice pays bob, and mines the even ones. All but genesis are known to the result.
//
//	genesis -> a1 … a9
//	      a2 -> b3 … b9
//	      a5 -> c6 … c10
func (s *scene) forked() historian {
	n := historian{}
	grow := func(from, prefix string, to int) {
		s.SetTip(from)
		for h := int(s.Tip().State.Header.Height) + 1; h <= to; h++ {
			var opts []chaintest.Option
			if h%2 == 0 {
				opts = append(opts, chaintest.MinedBy(s.alice))
			}
			name := prefix + string(rune('0'+h%10))
			if h > 9 {
				name = prefix + "1" + string(rune('0'+h%10))
			}
			n.learn(s.Next(name, s.pay(s.Account(s.alice.Account).Nonce, uint64(1+prefix[0]%7)), opts...))
		}
	}
	grow("genesis", "a", 9)
	grow("a2", "b", 9)
	grow("a5", "c", 10)
	return n
}

// TestHistoryCrash copies the directory after every commit of two reorgs, few records of the index in
// one commit. Every copy opens, lists what its chain has, and goes on to list it when
// either branch is made the heaviest before anything more is indexed, or everything is given again.
func TestHistoryCrash(t *testing.T) {
	t.Parallel() // it waits for the disk
	var copies []string
	watch, dir, cut := false, t.TempDir(), 3
	if os.Getenv("QUIPU_LONG") != "" {
		cut = 1
	}
	s := newScene(t, func(c *Config) {
		withHistory(3)(c)
		c.Dir, c.historyCut = dir, cut
		c.afterCommit = func() {
			if watch {
				copies = append(copies, copySettled(t, dir))
			}
		}
	})
	n := s.forked()
	s.add("a1", "a2", "a3", "a4", "a5")
	watch = true
	s.add("a6")
	s.index()
	s.headers("b3", "b4", "b5", "b6", "b7")
	s.bodies("b3", "b4", "b5", "b6", "b7")
	s.index()
	s.add("a7", "a8")
	s.index()
	s.tip("a8")
	s.l.Close()
	all := []string{"a1", "a2", "a3", "a4", "a5", "a6", "b3", "b4", "b5", "b6", "b7", "a7", "a8"}
	partial := 0
	for i, from := range copies {
		for j, then := range [][]string{{"a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9"}, {"a1", "a2", "b3", "b4", "b5", "b6", "b7", "b8", "b9"}, all} {
			if j == 2 && i%5 > 0 {
				break
			}
			s.cfg.Dir, s.cfg.afterCommit, s.cfg.historySpan, s.cfg.historyCut = copyDir(t, from), nil, 64, 0
			s.open()
			if info := s.l.HistoryInfo(); info.Stored && info.Height < s.l.Tip().Header.Height {
				partial++
			}
			n.compare(t, s.l, 3)
			s.add(then...)
			s.tip(then[len(then)-1])
			n.compare(t, s.l, 3)
			s.index()
			n.compare(t, s.l, 100)
			if err := s.l.Close(); err != nil {
				t.Fatal(err)
			}
			if j == 0 {
				if _, err := Verify(t.Context(), s.cfg, 0, nil); err != nil {
					t.Fatalf("copy %d: %v", i, err)
				}
			}
			os.RemoveAll(s.cfg.Dir)
		}
	}
	t.Logf("%d commits, the index was behind %d times", len(copies), partial)
	if len(copies) < 30 || partial < 30 {
		t.Fatalf("%d commits, the index was behind %d times", len(copies), partial)
	}
}

// TestHistoryVerify: Verify names what differs, a node without the index leaves it alone, and Reindex makes it anew.
func TestHistoryVerify(t *testing.T) {
	made := func(t *testing.T) (*scene, historian) {
		dir := t.TempDir()
		s := newScene(t, func(c *Config) { withHistory(3)(c); c.Dir = dir })
		n := s.forked()
		s.add("a1", "a2", "a3", "a4", "a5", "a6")
		s.index()
		s.headers("b3", "b4", "b5", "b6", "b7")
		s.bodies("b3", "b4", "b5", "b6", "b7")
		s.index()
		s.l.Close()
		return s, n
	}
	first := func(txn *badger.Txn, kind byte) (k, v []byte) {
		_ = each(txn, kind, func(key, value []byte) error {
			k, v = append([]byte{kind}, key...), append([]byte{}, value...)
			return errors.New("enough")
		})
		return k, v
	}
	bob := chaintest.NewKey("bob").Account
	for _, c := range []struct {
		name   string
		damage func(txn *badger.Txn) error
		words  string
	}{
		{"nothing", func(*badger.Txn) error { return nil }, ""},
		{"missing record", func(txn *badger.Txn) error { return txn.Delete(heightKeyOf(bob, 3)) }, "which isn't listed"},
		{"missing entry", func(txn *badger.Txn) error {
			return txn.Set(heightKeyOf(bob, 3), appendHistory(nil, 2, []touch{{bob, 3, 0}}))
		}, "which isn't listed"},
		{"extra entry", func(txn *badger.Txn) error {
			return txn.Set(heightKeyOf(bob, 5), appendHistory(nil, 2, []touch{{bob, 5, 0}, {bob, 5, 1}}))
		}, "isn't touched"},
		{"extra account", func(txn *badger.Txn) error {
			return txn.Set(heightKeyOf(chain.Account{9}, 3), appendHistory(nil, 2, []touch{{height: 3}}))
		}, "their bodies give"},
		{"garbled record", func(txn *badger.Txn) error {
			return txn.Set(heightKeyOf(bob, 3), []byte{1, 2})
		}, "doesn't decode"},
		{"batch of no block", func(txn *badger.Txn) error {
			k, _ := first(txn, keyBatch)
			return txn.Set(k, make([]byte, 32))
		}, "has no block"},
		{"record of another block", func(txn *badger.Txn) error { return txn.Set(metaHistory, make([]byte, 36)) }, "doesn't name a block"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, n := made(t)
			s.tamper(c.damage)
			_, err := Verify(t.Context(), s.cfg, 0, nil)
			if c.words == "" {
				if err != nil {
					t.Fatal(err)
				}
			} else {
				wantErr(t, err, ErrCorrupt, c.words, "chain reindex")
			}
			cfg := Config{Dir: s.cfg.Dir, FreeSpace: plenty} // as the tool does it, which isn't told of the index
			if _, err := Reindex(t.Context(), cfg, nil); err != nil {
				t.Fatal(err)
			}
			if _, err := Verify(t.Context(), cfg, 0, nil); err != nil {
				t.Fatalf("after Reindex: %v", err)
			}
			s.open()
			n.compare(t, s.l, 4)
		})
	}
}

// TestHistoryOff: a chain that had the index off is indexed in steps, and one whose bodies are gone is refused.
func TestHistoryOff(t *testing.T) {
	dir := t.TempDir()
	s := newScene(t, func(c *Config) { c.Dir, c.FreeSpace, c.UndoKeep, c.Prune = dir, plenty, 4, 0 })
	n := historian{}
	for _, b := range s.Gen.Chain("m", 40, func(int) []chain.Tx { return s.pay(s.Account(s.alice.Account).Nonce, 1) }) {
		n.learn(b)
		s.names[b.ID()] = b.Name
		s.add(b.Name)
	}
	s.l.Close()
	s.cfg.History, s.cfg.historySpan, s.cfg.Prune = true, 2, 8
	s.open() // a few batches at once, the rest when asked; bodies stay until then
	if at := s.l.HistoryInfo(); !at.On || at.Height != 2*historySteps || s.l.Pruned() > at.Height {
		t.Fatalf("after Open: %+v, pruned to %d", at, s.l.Pruned())
	}
	n.compare(t, s.l, 5)
	steps := 1
	for more := true; more; steps++ {
		var err error
		if more, err = s.l.IndexHistory(false); err != nil {
			t.Fatal(err)
		}
		n.compare(t, s.l, 5)
	}
	if at := s.l.HistoryInfo(); at.Height != 40 || steps < 15 {
		t.Fatalf("after %d steps: %+v", steps, at)
	}
	s.l.Close()

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Reindex(ctx, Config{Dir: dir, FreeSpace: plenty}, nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("Reindex of a context that is over: %v", err)
	}
	s.cfg.History = false
	s.open()
	for _, b := range s.Gen.Chain("o", 20, nil) {
		s.names[b.ID()] = b.Name
		s.add(b.Name)
	}
	if s.l.Pruned() < 45 {
		t.Fatalf("pruned to %d", s.l.Pruned())
	}
	s.l.Close()
	s.cfg.History = true
	_, err := Open(s.cfg)
	wantErr(t, err, ErrPruned, "reaches to block 40", "run without --history")
}

func FuzzHistoryRecord(f *testing.F) {
	a := chain.Account{1}
	f.Add(uint32(7), appendHistory(nil, 3, []touch{{a, 7, 0}, {a, 7, 9}, {a, 7, MinerPlace}, {a, 9, MinerPlace}, {a, 70, 1 << 20}}))
	f.Add(uint32(0), []byte{})
	f.Add(uint32(1<<32-1), []byte{0, 0, 0})
	f.Fuzz(func(t *testing.T, first uint32, b []byte) {
		batch, places, err := decodeHistory(first, b)
		if err != nil {
			return
		}
		touches := make([]touch, len(places))
		for i, at := range places {
			touches[i] = touch{a, uint32(at.height()), uint32(at)}
			if i > 0 && places[i-1] >= at || at.height() < uint64(first) || at.height() >= uint64(first)+historySpan {
				t.Fatalf("entry %d of %v", i, places)
			}
		}
		if string(appendHistory(nil, batch, touches)) != string(b) {
			t.Fatal("decode then encode isn't the identity")
		}
	})
}

// TestHistoryStartsOver: a chain that is applied anew from block 0 has its index made anew, over a crash too.
func TestHistoryStartsOver(t *testing.T) {
	t.Parallel() // it waits for the disk
	for _, crash := range []bool{false, true} {
		var copies []string
		dir := t.TempDir()
		s := deepScene(t, func(c *Config) {
			withHistory(2)(c)
			c.Dir = dir
		})
		n := historian{}
		b := s.chain("a4", "b", 9)
		for _, name := range []string{"a", "b"} {
			for i := 1; i < 13; i++ {
				if name == "a" || i < 10 {
					n.learn(s.Get(fmt.Sprint(name, i)))
				}
			}
		}
		s.index()
		s.give(b)
		if crash {
			s.l.Close()
			s.cfg.afterCommit = func() { copies = append(copies, copySettled(t, s.cfg.Dir)) }
			s.open()
		}
		if err := s.l.StartOver(); err != nil {
			t.Fatal(err)
		}
		n.compare(t, s.l, 5)
		for done := false; !done; {
			left := 2
			var err error
			if _, done, err = s.l.Step(func() bool { left--; return left >= 0 }); err != nil {
				t.Fatal(err)
			}
			n.compare(t, s.l, 5)
		}
		s.tip("b9")
		if at := s.l.HistoryInfo(); at.Behind >= 2 {
			t.Fatalf("%+v", at)
		}
		s.l.Close()
		for i, dir := range copies {
			s.cfg.Dir, s.cfg.afterCommit = dir, nil
			s.open()
			n.compare(t, s.l, 5)
			s.steps(100)
			n.compare(t, s.l, 5)
			s.tip("b9")
			s.l.Close()
			if _, err := Verify(t.Context(), s.cfg, 0, nil); err != nil {
				t.Fatalf("copy %d: %v", i, err)
			}
			os.RemoveAll(dir)
		}
	}
}

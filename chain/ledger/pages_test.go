package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/chain/statetree"
)

// crowd is a scene whose genesis has so many accounts that the least memory takes a third of them.
func crowd(t *testing.T, accounts int, edit func(*Config)) (*scene, []chain.Account) {
	t.Helper()
	s := &scene{t: t, alice: chaintest.NewKey("alice"), bob: chaintest.NewKey("bob"), names: map[chain.BlockID]string{}}
	all := make([]chain.Account, accounts)
	g := chaintest.Genesis(func(g *chain.Genesis) {
		g.BodyLimit = 1 << 16
		for i := range all {
			all[i] = sha256.Sum256(binary.LittleEndian.AppendUint64([]byte("crowd"), uint64(i)))
			g.Balances = append(g.Balances, chain.GenesisBalance{Account: all[i], Balance: 1 + uint64(i)})
		}
	}, s.alice, s.bob)
	s.Gen = chaintest.New(g)
	s.names[s.Get("genesis").ID()] = "genesis"
	s.cfg = Config{Genesis: g, groupBlocks: 2, StateMemory: 1 << 20, behind: 600}
	edit(&s.cfg)
	s.open()
	t.Cleanup(func() { s.l.Close() })
	return s, all
}

// spread makes n blocks in which alice pays many of the crowd and some who are new.
func (s *scene) spread(r *rand.Rand, parent, prefix string, n int, all []chain.Account) (names []string) {
	s.SetTip(parent)
	for range n {
		nonce := s.Account(s.alice.Account).Nonce
		var txs []chain.Tx
		for i := range uint64(2) {
			var outs []chain.Output
			for range 1 + r.IntN(120) {
				to := all[r.IntN(len(all))]
				if r.IntN(10) == 0 {
					to = chain.Account{31: byte(r.Uint32()), 30: byte(r.Uint32())}
				}
				outs = append(outs, chain.Output{To: to, Amount: 1 + r.Uint64N(50)})
			}
			txs = append(txs, s.alice.Pay(s.G, nonce+i, 0, outs...))
		}
		name := prefix + string(rune('a'+len(names)/26)) + string(rune('a'+len(names)%26))
		s.Next(name, txs)
		names = append(names, name)
	}
	return names
}

// holds compares every account of the ledger with the generator's.
func (s *scene) holds(name string) {
	s.t.Helper()
	s.SetTip(name)
	want := s.Gen.Accounts()
	n := 0
	err := s.l.tree.Walk(func(leaf *statetree.Leaf) error {
		n++
		if a := want[leaf.Account]; a.Balance != leaf.Balance || a.Nonce != leaf.Nonce {
			s.t.Fatalf("account %x: %+v, want %+v", leaf.Account[:4], leaf, a)
		}
		return nil
	})
	if err != nil || n != len(want) || s.l.Stats().Accounts != n {
		s.t.Fatalf("%d accounts, counted %d, want %d (%v)", n, s.l.Stats().Accounts, len(want), err)
	}
}

// genesis -> a × 24, and from the twelfth b × 14
//
// With memory for a third of the accounts and a checkpoint of the pages in slices all the time, the directory is copied
// after each commit. Each copy opens (which compares the root), verifies and holds every account as it should be.
func TestPagesAndCrashes(t *testing.T) {
	t.Parallel() // it waits for the disk
	r := rand.New(rand.NewPCG(3, 4))
	dir := t.TempDir()
	var copies []string
	commits := 0
	s, all := crowd(t, 30_000, func(c *Config) {
		c.Dir, c.FreeSpace, c.UndoKeep = dir, plenty, 16
		c.afterCommit = func() {
			if commits++; commits > 20 && commits%4 == 0 && len(copies) < 24 {
				copies = append(copies, copyDir(t, dir))
			}
		}
	})
	a := s.spread(r, "genesis", "a", 24, all)
	b := s.spread(r, a[11], "b", 14, all)
	checkpoints, from := 0, uint64(0)
	for _, name := range append(a, b...) {
		s.headers(name)
		s.bodies(name)
		if s.l.journal.from != from {
			checkpoints, from = checkpoints+1, s.l.journal.from
		}
		if used := s.l.tree.InMemory(); used > 2<<20 {
			t.Fatalf("%d bytes of the tree in memory", used)
		}
	}
	s.tip(b[13])
	s.holds(b[13])
	if checkpoints < 3 {
		t.Fatalf("%d checkpoints came to their end", checkpoints)
	}
	s.cfg.afterCommit = nil
	s.reopen()
	s.holds(b[13])
	s.l.Close()
	for i, dir := range copies {
		s.cfg.Dir = dir
		if i%6 == 0 {
			if _, err := Verify(t.Context(), s.cfg, 0, nil); err != nil {
				t.Fatalf("copy %d: %v", i, err)
			}
		}
		s.open()
		s.holds(s.name(s.l.Tip().ID))
		s.l.Close()
		os.RemoveAll(dir)
	}
}

// genesis -> a × 40, and from the fifth b × 42
//
// Many blocks in one call don't make the journal longer, nor what is in memory larger, than many calls do: up, down and
// up again, and when they are applied by Open.
func TestPagesInOneWalk(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 9))
	most := 0
	var memory int64
	var s *scene
	s, all := crowd(t, 30_000, func(c *Config) {
		onDisk(t)(c)
		c.afterCommit = func() {
			if s != nil && s.l != nil {
				most, memory = max(most, s.l.journal.accounts), max(memory, s.l.tree.InMemory())
			}
		}
	})
	within := func(what string) {
		t.Helper()
		if a, m := 600+2*484, int64(3<<20); most == 0 || most > a || memory > m { // two blocks touch 484 accounts at most
			t.Fatalf("%s: %d accounts in the journal, want at most %d; %d bytes in memory, at most %d", what, most, a, memory, m)
		}
		most, memory = 0, 0
	}
	a := s.spread(r, "genesis", "a", 40, all)
	b := s.spread(r, a[4], "b", 42, all)
	s.headers(a...)
	s.bodies(a...)
	s.holds(a[39])
	within("forward")
	s.headers(b...)
	s.bodies(b...)
	s.holds(b[41])
	within("back and forward")
	s.l.condemn(nil, s.l.index.byID[s.Get(b[0]).ID()], errors.New("for the test"))
	s.reopen()
	s.holds(a[39])
	if n := s.l.journal.accounts; n > 600+2*484 {
		t.Fatalf("opened: %d accounts in the journal", n)
	}
}

// A page that was changed on disk is found when it is read, by whoever asks, and by the node itself before it does
// anything with it.
func TestDamagedPage(t *testing.T) {
	s, all := crowd(t, 30_000, onDisk(t))
	s.l.Close() // nothing changed: the journal is empty, and so the pages are written by the next lines
	s.open()
	names := s.spread(rand.New(rand.NewPCG(1, 2)), "genesis", "a", 2, all)
	s.add(names[0])
	s.l.Close()
	spoiled := chain.Account{}
	s.tamper(func(txn *badger.Txn) error {
		var key, page []byte
		err := each(txn, keyPage, func(k, v []byte) error {
			if k[8] >= 8 && len(v) > 200 && v[0] == 1 && key == nil {
				key, page = append([]byte{keyPage}, k...), append([]byte(nil), v...)
			}
			return nil
		})
		if err != nil || key == nil {
			t.Fatalf("no page of leaves (%v)", err)
		}
		spoiled = chain.Account(page[1:33])
		page[1+32] ^= 1
		return txn.Set(key, page)
	})
	s.open() // what it doesn't need it doesn't read
	_, _, err := s.l.Accounts([]chain.Account{spoiled})
	wantErr(t, err, ErrCorrupt, "reindex")
	_, _, _, _, err = s.l.Prove(spoiled)
	wantErr(t, err, ErrCorrupt)
	before := s.l.Tip()
	s.SetTip(names[0])
	s.Next("pays", []chain.Tx{s.alice.Pay(s.G, s.Account(s.alice.Account).Nonce, 0, chain.Output{To: spoiled, Amount: 1})})
	s.headers("pays")
	_, err = s.l.Add([]chain.CheckedBlock{s.Get("pays").Checked})
	wantErr(t, err, ErrCorrupt, "reindex")
	if now := s.l.Tip(); now.ID != before.ID || s.l.Info(s.Get("pays").ID()).Invalid {
		t.Fatal("a block was judged by a damaged page")
	}
	s.l.Close()
	_, err = Verify(t.Context(), s.cfg, 0, nil)
	wantErr(t, err, ErrCorrupt)
	if _, err := Reindex(t.Context(), s.cfg, nil); err != nil {
		t.Fatal(err)
	}
	s.open()
	s.tip("pays")
	s.holds("pays")
}

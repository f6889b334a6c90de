package ledger

import (
	"errors"
	"fmt"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/holiman/uint256"

	"quipu/chain"
	"quipu/chain/chaintest"
)

// genesis -> m1 -> … -> m300            the tip
//
//	\-> x1 -> … -> x200             far behind: not stored, unless its end is proven to have enough work
//
// m200 -> y1 -> y2                      within 144 blocks of the tip's work: stored
func TestHeadersBelowTheFloorAreNotStored(t *testing.T) {
	s := newScene(t, nil)
	for i := range 300 {
		n := fmt.Sprint("m", i+1)
		s.Next(n, nil)
		s.add(n)
	}
	branch := func(on, prefix string, n int) (hs []chain.Header) {
		s.SetTip(on)
		for i := range n {
			hs = append(hs, s.Next(fmt.Sprint(prefix, i+1), nil, chaintest.At(2000)).Header)
		}
		return hs
	}
	far := branch("genesis", "x", 200)
	n, err := s.l.AddHeaders(far)
	wantErr(t, err, ErrLowWork)
	if held := s.l.Stats().Headers; n != 0 || held != 301 {
		t.Errorf("%d of the low branch stored, %d headers held", n, held)
	}
	if n, err := s.l.AddHeaders(branch("m200", "y", 2)); n != 2 || err != nil {
		t.Errorf("100 blocks behind: %d stored, %v", n, err)
	}
	if n, err := s.l.AddHeadersProven(far); n != 200 || err != nil {
		t.Errorf("proven: %d stored, %v", n, err)
	}
	s.tip("m300")
}

// A network that is known to have some work takes nothing with less, from block 0 on.
func TestHeadersBelowTheNetworksWorkAreNotStored(t *testing.T) {
	work := chain.BlockWork(chaintest.Genesis(nil, chaintest.NewKey("alice")).Bits)
	s := newScene(t, func(c *Config) { c.MinWork.Mul(&work, uint256.NewInt(20)) })
	if floor := s.l.WorkFloor(); floor != s.l.cfg.MinWork {
		t.Errorf("floor %v", &floor)
	}
	var hs []chain.Header
	for i := range 30 {
		hs = append(hs, s.Next(fmt.Sprint("a", i+1), nil).Header)
	}
	if n, err := s.l.AddHeaders(hs); n != 0 || !errors.Is(err, ErrLowWork) || s.l.Stats().Headers != 1 {
		t.Errorf("%d stored, %v", n, err)
	}
	if n, err := s.l.AddHeadersProven(hs); n != 30 || err != nil {
		t.Errorf("proven: %d stored, %v", n, err)
	}
}

// What Badger once brought back after a deletion (its issues 2278 and 2286) would do no harm: an index
// record is believed only if it leads to its transaction.
func TestNothingDependsOnDeletion(t *testing.T) {
	s := newScene(t, onDisk(t))
	carol := chaintest.NewKey("carol")
	id := s.Next("a1", []chain.Tx{s.alice.Pay(s.G, 0, 0, chaintest.To(carol, 5))}).Checked.Txs()[0].ID()
	s.SetTip("genesis")
	s.Next("b1", nil)
	s.Next("b2", nil)
	s.add("a1")
	var old []byte
	if err := s.l.db.View(func(txn *badger.Txn) (err error) { old, err = get(txn, idKey(keyTx, id)); return err }); err != nil {
		t.Fatal(err)
	}
	s.add("b1", "b2")
	s.tip("b2")
	if err := s.l.writeBehind(true); err != nil {
		t.Fatal(err)
	}
	err := s.l.db.Update(func(txn *badger.Txn) error {
		return txn.Set(idKey(keyTx, id), old)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, ok, err := s.l.FindTx(id); ok || err != nil {
		t.Errorf("a stale index record: found %v, %v", ok, err)
	}
	s.reopen()
	s.tip("b2")
}

// A first start writes a large genesis in several commits. Killed after any of them, or out of room before any, it
// opens later.
func TestFirstStartOfALargeGenesis(t *testing.T) {
	g := chaintest.Genesis(func(g *chain.Genesis) {
		g.BodyLimit = 1 << 16
		for i := range 60_000 {
			a := chain.Account{0: byte(i), 1: byte(i >> 8), 2: 1}
			g.Balances = append(g.Balances, chain.GenesisBalance{Account: a, Balance: 1})
		}
	})
	var copies []string
	cfg := Config{Genesis: g, Dir: t.TempDir(), FreeSpace: plenty}
	cfg.afterCommit = func() { copies = append(copies, copyDir(t, cfg.Dir)) }
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if len(copies) < 2 {
		t.Fatalf("%d commits: not large enough to show anything", len(copies))
	}
	for i, dir := range copies {
		l, err := Open(Config{Genesis: g, Dir: dir, FreeSpace: plenty})
		if err != nil {
			t.Fatalf("killed after commit %d: %v", i+1, err)
		}
		l.Close()
	}
	for room := range len(copies) + 1 { // looks at the disk that find room: one at Open, one a commit
		looks := 0
		_, err := Open(Config{Genesis: g, Dir: t.TempDir(), FreeSpace: func(string) (uint64, error) {
			if looks++; looks > room {
				return 0, nil
			}
			return plenty("")
		}})
		var low *LowSpaceError
		if !errors.As(err, &low) {
			t.Errorf("no room after %d looks: %v", room, err)
		}
	}
}

// A damaged journal is reported, and what is on disk stays as it was found: no one's records are written from it.
func TestDamagedJournalIsLeftAsFound(t *testing.T) {
	dir := t.TempDir()
	s := newScene(t, func(c *Config) { c.Dir, c.FreeSpace, c.UndoKeep = dir, plenty, 4 })
	s.add(s.chain("genesis", "a", 5)...)
	s.l.broken = ErrClosed // closed as by a crash: nothing is written behind
	s.l.db.Close()
	s.l.closed = true
	values := func() (n int) {
		s.tamper(func(txn *badger.Txn) error {
			return each(txn, keyJournal, func(_, _ []byte) error { n++; return nil })
		})
		return n
	}
	s.tamper(func(txn *badger.Txn) error {
		key := pieceKey(journalKey(4), 0)
		v, err := get(txn, key)
		if err != nil {
			return err
		}
		v[33] ^= 1
		return txn.Set(key, v)
	})
	before := values()
	_, err := LookInto(s.cfg)
	wantErr(t, err, ErrCorrupt)
	if after := values(); before == 0 || after != before {
		t.Errorf("the journal had %d values and has %d after a look", before, after)
	}
}

package ledger

import (
	"github.com/dgraph-io/badger/v4"

	"quipu/chain"
	"quipu/chain/statetree"
)

// States is the accounts' part of a ledger, in a store of its own, without blocks: their tree, its pages and the
// journal. It is for measuring them alone.
type States struct{ l *Ledger }

// metaRoot is the tree's root after the last change, where no header says it.
var metaRoot = []byte("mroot")

// OpenStates opens or makes one in a directory, with a node's memtable, as a ledger opens its own, and compares the root.
func OpenStates(dir string, memory int64) (*States, error) {
	cfg := Config{Dir: dir, MemTable: NodeMemTable, StateMemory: memory}
	if err := cfg.defaults(); err != nil {
		return nil, err
	}
	db, err := openStore(&cfg, true)
	if err != nil {
		return nil, err
	}
	l := &Ledger{cfg: cfg, g: &chain.Genesis{}, db: db}
	err = db.View(func(txn *badger.Txn) error {
		root, err := get(txn, metaRoot)
		if err != nil {
			return err
		}
		if l.tree, l.journal, err = l.openTree(txn, l.readPage(nil), cfg.StateMemory); err != nil {
			return err
		}
		if len(root) == 32 && chain.Hash(root) != l.tree.Root() {
			return corrupt("the accounts give state root %x, want %x", l.tree.Root(), root)
		}
		return nil
	})
	if err != nil {
		db.Close()
		return nil, err
	}
	return &States{l}, nil
}

// Fill changes accounts without a journal: durable is what Settle writes.
func (s *States) Fill(changes []statetree.Change) error {
	if _, err := s.l.update(changes); err != nil {
		return err
	}
	if s.l.tree.Trim() {
		return nil
	}
	return s.l.checkpoint(0)
}

// Settle writes all pages.
func (s *States) Settle() error {
	if err := s.l.setRoot(); err != nil {
		return err
	}
	return s.l.checkpoint(0)
}

func (l *Ledger) setRoot() error {
	root := l.tree.Root()
	w := spill{l: l}
	defer w.close()
	if err := w.set(metaRoot, root[:]); err != nil {
		return err
	}
	return w.flush()
}

// Apply changes accounts and returns when that is durable. Pages are written behind, or never if keep is set.
func (s *States) Apply(changes []statetree.Change, keep bool) error {
	l := s.l
	root, err := l.update(changes)
	if err != nil {
		return err
	}
	b, err := l.begin()
	if err != nil {
		return err
	}
	defer b.discard()
	g := group{batch: b, dirty: make(map[chain.Account]chain.AccountState, len(changes))}
	for i := range changes {
		leaf := &changes[i].Leaf
		g.dirty[leaf.Account] = chain.AccountState{Balance: leaf.Balance, Nonce: leaf.Nonce}
	}
	if err := g.appendJournal(); err != nil {
		return err
	}
	if err := g.set(metaRoot, root[:]); err != nil {
		return err
	}
	if err := g.commit(); err != nil {
		return err
	}
	l.journal.next++
	l.journal.accounts += len(g.dirty)
	if keep {
		return nil
	}
	return l.writeBehind(false)
}

// Get is an account's leaf, (0, 0) if there is none.
func (s *States) Get(a chain.Account) (statetree.Leaf, error) {
	leaf, _, err := s.l.tree.Get(a)
	return leaf, damagedPage(err)
}

// Root is the tree's.
func (s *States) Root() chain.Hash { return s.l.tree.Root() }

// Behind is how many accounts the journal names: what the pages don't know yet.
func (s *States) Behind() int { return s.l.journal.accounts }

// InMemory is what the tree takes, in bytes.
func (s *States) InMemory() int64 { return s.l.tree.InMemory() }

// Timings are as a ledger's.
func (s *States) Timings() Timings { return s.l.times }

// Close writes nothing: whatever is durable is.
func (s *States) Close() error { return s.l.db.Close() }

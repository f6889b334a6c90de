package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"

	"quipu/chain"
	"quipu/chain/statetree"
)

// The accounts are a statetree.Paged: its pages are records here, and what groups changed since is in the journal.
// Pages are written behind, in slices after other work, by a statetree.Checkpoint that begins when the journal is two
// thirds full; when its last page, the one at the top, is written, the journal begins where it stood when the checkpoint did.
// At every moment the stored pages and the journal together give the accounts at the tip: see Checkpoint.
const (
	// JournalAccounts is the most accounts in the journal, 14 MB: Open reads and replays them.
	JournalAccounts = 300_000
	journalValues   = 1024
	// StateMemory is what accounts and hashes in memory may take if nothing else is said, in bytes: about 2 million
	// accounts. Those of more are read from pages as they are needed.
	StateMemory = 256 << 20
)

func pageRecord(k statetree.PageKey) []byte { return append([]byte{keyPage}, k[:]...) }

// readPage is a statetree.ReadPage of a transaction; without one, of what is stored at that moment.
func (l *Ledger) readPage(txn *badger.Txn) statetree.ReadPage {
	read := func(txn *badger.Txn, k statetree.PageKey, use func([]byte) error) error {
		item, err := txn.Get(pageRecord(k))
		if errors.Is(err, badger.ErrKeyNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the ledger: %w", err)
		}
		return item.Value(use)
	}
	return func(k statetree.PageKey, use func([]byte) error) error {
		if txn != nil {
			return read(txn, k, use)
		}
		return l.db.View(func(txn *badger.Txn) error { return read(txn, k, use) })
	}
}

// openTree brings up the accounts as stored, through pages read by read: those of genesis if no checkpoint ever ended,
// all of which are then in memory, and the journal.
func (l *Ledger) openTree(txn *badger.Txn, read statetree.ReadPage, memory int64) (*statetree.Paged, journal, error) {
	tree, err := statetree.OpenPaged(read, memory)
	if err != nil {
		return nil, journal{}, damagedPage(err)
	}
	found := false
	if err := read(statetree.PageKey{}, func([]byte) error { found = true; return nil }); err != nil {
		return nil, journal{}, err
	}
	made := l.g.TakeTree()
	switch {
	case found:
	case made != nil:
		tree.Adopt(made)
	default:
		changes := make([]statetree.Change, len(l.g.Balances))
		for i, b := range l.g.Balances {
			changes[i].Leaf = statetree.Leaf{Account: b.Account, Balance: b.Balance}
		}
		if _, err := tree.Update(changes); err != nil {
			return nil, journal{}, damagedPage(err)
		}
	}
	var changes []statetree.Change
	j, err := readJournal(txn, func(more []statetree.Change) error {
		changes = append(changes, more...) // of a repeated account the last counts
		return nil
	})
	if err != nil {
		return nil, journal{}, err
	}
	scan := pageScan{txn: txn}
	defer scan.close()
	if _, err := tree.Replay(changes, scan.read); err != nil {
		return nil, journal{}, damagedPage(err)
	}
	return tree, j, nil
}

// pageScan reads pages in the order of their keys: where many of them are wanted, going from one to the next costs a
// fraction of finding each. Each of the 16 subtrees below the top has an iterator of its own, so they can be read at
// the same time.
type pageScan struct {
	txn *badger.Txn
	its [16]*badger.Iterator
}

// scanSteps is how many pages are passed over before the wanted one is sought anew.
const scanSteps = 8

func (s *pageScan) read(k statetree.PageKey, use func([]byte) error) error {
	key, it := pageRecord(k), s.its[k[0]>>4]
	if it == nil {
		it = s.txn.NewIterator(badger.IteratorOptions{Prefix: []byte{keyPage}})
		s.its[k[0]>>4] = it
		it.Seek(key)
	}
	for n := 0; it.Valid() && bytes.Compare(it.Item().Key(), key) < 0; n++ {
		if n == scanSteps {
			it.Seek(key)
			break
		}
		it.Next()
	}
	if !it.Valid() || !bytes.Equal(it.Item().Key(), key) {
		return nil
	}
	return it.Item().Value(use)
}

func (s *pageScan) close() {
	for _, it := range s.its {
		if it != nil {
			it.Close()
		}
	}
}

// loadAccounts brings up the tree and compares it with the tip.
func (l *Ledger) loadAccounts(txn *badger.Txn) error {
	tree, j, err := l.openTree(txn, l.readPage(nil), l.cfg.StateMemory)
	if err != nil {
		return err
	}
	if root := chain.Hash(tree.Root()); root != l.tip.Header.StateRoot {
		return corrupt("the accounts give state root %s and block %d says %s", root, l.record.height, l.tip.Header.StateRoot)
	}
	l.tree, l.journal = tree, j
	return nil
}

// damagedPage says what an error of the tree means: a page that can't be right, or the store's own error.
func damagedPage(err error) error {
	if errors.Is(err, statetree.ErrPage) {
		return corrupt("the accounts' pages don't hold together (%v): quipu chain reindex rebuilds them", err)
	}
	return err
}

// treeFailed makes an error of a changing tree final: what is in memory is of no more use.
func (l *Ledger) treeFailed(err error) error {
	return l.fatal(damagedPage(err))
}

// update changes the tree.
func (l *Ledger) update(changes []statetree.Change) (chain.Hash, error) {
	root, err := l.tree.Update(changes)
	if err != nil {
		return chain.Hash{}, l.treeFailed(err)
	}
	return root, nil
}

// fetch brings accounts into memory and returns those that exist: for who is about to change them.
func (l *Ledger) fetch(keys []chain.Account) (chain.Accounts, error) {
	plain := make([][32]byte, len(keys))
	for i := range keys {
		plain[i] = keys[i]
	}
	leaves, err := l.tree.Fetch(plain)
	if err != nil {
		return nil, l.treeFailed(err)
	}
	accs := make(chain.Accounts, len(keys))
	for i := range leaves {
		if leaf := &leaves[i]; !leaf.Void() {
			accs[keys[i]] = chain.AccountState{Balance: leaf.Balance, Nonce: leaf.Nonce}
		}
	}
	return accs, nil
}

// accounts reads accounts beside the tree, which stays as it is: for who asks.
func (l *Ledger) accounts(keys []chain.Account) (chain.Accounts, error) {
	accs := make(chain.Accounts, len(keys))
	for _, a := range keys {
		leaf, ok, err := l.tree.Get(a)
		if err != nil {
			return nil, damagedPage(err)
		}
		if ok {
			accs[a] = chain.AccountState{Balance: leaf.Balance, Nonce: leaf.Nonce}
		}
	}
	return accs, nil
}

// StateInfo is how the accounts are kept.
type StateInfo struct {
	Memory int64 // bytes that accounts and hashes in memory take
	Behind int   // changed accounts in the journal that the stored pages may not have
}

// State tells how the accounts are kept.
func (l *Ledger) State() StateInfo {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return StateInfo{Memory: l.tree.InMemory(), Behind: l.journal.accounts}
}

// behind is a checkpoint of the tree on its way.
type behind struct {
	pages    *statetree.Checkpoint // nil: none is
	from     uint64                // where the journal begins once it is done
	accounts int                   // in the journal before that
	seen     int                   // accounts in the journal when the last slice was written
}

// writeBehind writes a slice of the tree's changed pages, if the journal or they grow large; with all, all of them.
func (l *Ledger) writeBehind(all bool) error {
	start := time.Now()
	defer lap(&start, &l.times.Pages)
	room := l.tree.Trim()
	values := l.journal.next - l.journal.from
	switch {
	case all && values == 0 && l.behind.pages == nil:
		return nil
	case all || l.tree.InMemory() > 2*l.cfg.StateMemory: // begin anew: what an unfinished one wrote is not written again
		if err := l.checkpoint(0); err != nil {
			return err
		}
		l.tree.Trim()
		return nil
	case l.behind.pages != nil:
		slice := 256 + 3*(l.journal.accounts-l.behind.seen) // so that it ends before the journal has doubled
		if !room {
			slice += 4096
		}
		if l.journal.accounts >= l.cfg.behind || values >= journalValues {
			slice = 0
		}
		return l.writeSlice(slice)
	case !room || l.journal.accounts >= l.cfg.behind*2/3 || values >= journalValues/2:
		return l.checkpoint(256)
	}
	return nil
}

// checkpoint begins one and writes its first slice, or all of it for 0.
func (l *Ledger) checkpoint(slice int) error {
	l.behind = behind{pages: l.tree.Checkpoint(), from: l.journal.next, accounts: l.journal.accounts, seen: l.journal.accounts}
	return l.writeSlice(slice)
}

func (l *Ledger) writeSlice(pages int) error {
	if err := l.cfg.checkSpace(0); err != nil { // while nothing is lost by it
		return err
	}
	w := spill{l: l}
	defer w.close()
	l.behind.seen = l.journal.accounts
	done, err := l.behind.pages.Write(pages, func(k statetree.PageKey, page []byte) error {
		l.times.PagesWritten++
		l.times.PageBytes += uint64(len(page) + 1 + len(k))
		return w.set(pageRecord(k), page)
	})
	if err != nil {
		return l.treeFailed(err) // pages count as written that aren't
	}
	if !done {
		return l.flushed(&w)
	}
	was := l.journal
	if err := w.set(metaJournal, le.AppendUint64(nil, l.behind.from)); err != nil {
		return l.treeFailed(err)
	}
	if err := l.flushed(&w); err != nil {
		return err
	}
	l.journal.from, l.journal.accounts = l.behind.from, was.accounts-l.behind.accounts
	most := recordPieces(statetree.LeafSize * was.accounts)
	l.behind = behind{}
	for seq := was.from; seq < l.journal.from; seq++ { // what is left of them below the beginning is never read
		if err := w.forget(journalKey(seq), most); err != nil {
			return err
		}
	}
	return w.flush()
}

func (l *Ledger) flushed(w *spill) error {
	if err := w.flush(); err != nil {
		return l.treeFailed(err)
	}
	return nil
}

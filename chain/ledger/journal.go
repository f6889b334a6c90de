package ledger

import (
	"bytes"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"quipu/chain"
	"quipu/chain/statetree"
)

// The journal makes a group durable with one value instead of one record an account: each group appends the accounts
// it changed as they stand after it. The pages of their tree are written behind, many groups at once and each page once,
// in transactions of their own; then the journal begins later. What Open gives the tree is the pages, overwritten by the
// journal in order. Both are states, not differences, so pages that are newer than where the journal begins do no harm:
// whatever they hold, the journal holds as well.
//
// A value: count × (account 32 | balance u64 | nonce u64), accounts ascending, both numbers 0 for an account that
// undo removed.
type journal struct {
	from, next uint64 // sequence numbers of the first value to be read and of the next to be written
	accounts   int    // in these values, repeated ones counted again
}

func journalKey(seq uint64) []byte { return be.AppendUint64([]byte{keyJournal}, seq) }

// maxJournal bounds a value: a Badger transaction, with a memtable of 1 GiB, takes less.
const maxJournal = 256 << 20

// appendJournal writes the accounts of a group into its transaction.
func (g *group) appendJournal() error {
	l := g.l
	touched := make([]chain.Account, 0, len(g.dirty))
	for a := range g.dirty {
		touched = append(touched, a)
	}
	slices.SortFunc(touched, func(a, b chain.Account) int { return bytes.Compare(a[:], b[:]) })
	value := make([]byte, 0, statetree.LeafSize*len(touched))
	for _, a := range touched {
		state := g.dirty[a]
		value = append(value, a[:]...)
		value = le.AppendUint64(value, state.Balance)
		value = le.AppendUint64(value, state.Nonce)
	}
	l.times.JournalBytes += uint64(len(value))
	return putRecord(func(k, v []byte) error { return g.fail(g.txn.Set(k, v)) }, journalKey(l.journal.next), value)
}

// readJournal calls f with the accounts of every value, in order, and returns what the journal is.
func readJournal(txn *badger.Txn, f func([]statetree.Change) error) (j journal, err error) {
	v, err := get(txn, metaJournal)
	if err != nil {
		return j, err
	}
	if v != nil {
		if len(v) != 8 {
			return j, corrupt("the journal's record has %d bytes, want 8", len(v))
		}
		j.from = le.Uint64(v)
	}
	for j.next = j.from; ; j.next++ {
		first, err := get(txn, pieceKey(journalKey(j.next), 0))
		if err != nil || first == nil {
			return j, err
		}
		b, err := getRecord(txn, journalKey(j.next), maxJournal)
		if err == errIncomplete || err == nil && len(b)%statetree.LeafSize != 0 {
			return j, corrupt("value %d of the journal is incomplete", j.next)
		}
		if err != nil {
			return j, err
		}
		changes := make([]statetree.Change, len(b)/statetree.LeafSize)
		for i := range changes {
			leaf := &changes[i].Leaf
			leaf.Account, leaf.Balance, leaf.Nonce = [32]byte(b), le.Uint64(b[32:]), le.Uint64(b[40:])
			b = b[statetree.LeafSize:]
		}
		if err := f(changes); err != nil {
			return j, err
		}
		j.accounts += len(changes)
	}
}

func has(db *badger.DB, key []byte) (found bool, err error) {
	err = db.View(func(txn *badger.Txn) error {
		v, err := get(txn, key)
		found = v != nil
		return err
	})
	return found, err
}

// spill writes without atomicity: in order, in as many transactions as it takes.
type spill struct {
	l *Ledger
	b *batch
}

func (w *spill) room(bytes int) error {
	if w.b != nil && !w.b.fits(1, int64(bytes)) {
		if err := w.flush(); err != nil {
			return err
		}
	}
	if w.b == nil {
		b, err := w.l.begin()
		if err != nil {
			return err
		}
		w.b = b
	}
	return nil
}

func (w *spill) set(k, v []byte) error {
	if err := w.room(len(k) + len(v)); err != nil {
		return err
	}
	return w.b.set(k, v)
}

func (w *spill) delete(k []byte) error {
	if err := w.room(len(k)); err != nil {
		return err
	}
	return w.b.delete(k)
}

// forget deletes the pieces of a record, of which there are at most so many.
func (w *spill) forget(prefix []byte, most int) error {
	for n := range most {
		key := pieceKey(prefix, n)
		if found, err := has(w.l.db, key); err != nil || !found {
			return err
		}
		if err := w.delete(key); err != nil {
			return err
		}
	}
	return nil
}

func (w *spill) flush() error {
	if w.b == nil {
		return nil
	}
	err := w.b.commit()
	w.b.discard()
	w.b = nil
	return err
}

func (w *spill) close() {
	if w.b != nil {
		w.b.discard()
	}
}

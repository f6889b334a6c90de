package ledger

import (
	"slices"

	"github.com/dgraph-io/badger/v4"

	"quipu/chain"
)

// HistoryInfo is what is stored of the account history index.
type HistoryInfo struct {
	On     bool   // the ledger was opened with it; it may be stored without
	Stored bool   // there is one
	Height uint64 // it is complete up to this block of the best chain
	Behind uint64 // blocks above
}

func (l *Ledger) historyInfo() HistoryInfo {
	base := l.historyBase()
	return HistoryInfo{On: l.cfg.History, Stored: l.history.stored, Height: base, Behind: l.record.height - base}
}

// HistoryInfo takes no time.
func (l *Ledger) HistoryInfo() HistoryInfo {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.historyInfo()
}

// verifyHistory holds the stored index, if there is one, against the bodies of blocks from on: it lists all that touches
// an account there, and nothing else.
func (l *Ledger) verifyHistory(txn *badger.Txn, from uint64) error {
	if !l.history.stored {
		return nil
	}
	base, from := l.historyBase(), max(from, 1)
	r := historyReader{l: l, txn: txn, top: base, reach: map[uint32]uint64{}}
	if from > base {
		return nil
	}
	it := txn.NewIterator(badger.DefaultIteratorOptions)
	defer it.Close()
	total := uint64(0)
	for at := l.main[from-1]; uint64(at.height) < base; {
		touches, to, err := l.touches(txn, at)
		if err != nil {
			return err
		}
		touches = slices.DeleteFunc(touches, func(t touch) bool { return uint64(t.height) > base })
		total += uint64(len(touches))
		for len(touches) > 0 {
			n := 1
			for n < len(touches) && touches[n].account == touches[0].account {
				n++
			}
			if err := r.compare(it, touches[:n], uint64(at.height)+1, min(uint64(to.height), base)); err != nil {
				return err
			}
			touches = touches[n:]
		}
		at = to
	}
	stored, err := r.count(it, from)
	if err == nil && stored != total {
		err = historyCorrupt("it has %d entries of blocks %d to %d, their bodies give %d", stored, from, base, total)
	}
	return err
}

// compare wants exactly these entries of one account between two heights.
func (r *historyReader) compare(it *badger.Iterator, want []touch, lo, hi uint64) error {
	a := want[0].account
	stored, err := r.between(it, a, lo, hi)
	if err != nil {
		return err
	}
	for i := range max(len(want), len(stored)) {
		switch {
		case i >= len(stored) || i < len(want) && want[i].place() < stored[i]:
			return historyCorrupt("account %s is touched in block %d, which isn't listed", a, want[i].height)
		case i >= len(want) || want[i].place() > stored[i]:
			return historyCorrupt("account %s isn't touched in block %d as it says", a, stored[i].height())
		}
	}
	return nil
}

// count is how many entries of blocks from on all records give, each counted once.
func (r *historyReader) count(it *badger.Iterator, from uint64) (n uint64, err error) {
	var account chain.Account
	var open []place // of account: later records may hold the same
	settle := func(below uint64) {
		open = tidy(open)
		n += uint64(len(open))
		open = slices.DeleteFunc(open, func(at place) bool { return at.height() < below })
		n -= uint64(len(open))
	}
	for it.Seek([]byte{keyHistory}); it.ValidForPrefix([]byte{keyHistory}); it.Next() {
		key := it.Item().Key()
		first, err := historyHeight(key)
		if err != nil {
			return 0, err
		}
		if a := chain.Account(key[1:]); a != account {
			settle(1 << 32)
			account = a
		} else {
			settle(uint64(first))
		}
		if err := it.Item().Value(func(v []byte) error {
			places, err := r.record(first, v)
			for _, at := range places {
				if at.height() >= from {
					open = append(open, at)
				}
			}
			return err
		}); err != nil {
			return 0, err
		}
	}
	settle(1 << 32)
	return n, nil
}

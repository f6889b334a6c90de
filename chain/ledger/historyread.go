package ledger

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"quipu/chain"
)

// MaxHistory is the most entries of one answer.
const MaxHistory = 1000

// Place is where on the best chain an account is touched: the transaction's index in its block, from 0, or MinerPlace.
// Places are ordered by height and then by index.
type Place struct {
	Height uint64
	Index  uint32
}

// Touch is one entry of an account's history.
type Touch struct {
	Place
	Block chain.BlockID
}

// HistoryPage is a part of an account's history as of a tip, newest first.
type HistoryPage struct {
	Tip     chain.State
	Indexed uint64 // entries of blocks up to here are listed; below the tip's height while the index catches up
	Touches []Touch
	More    bool // there are older ones: ask again, before the last one here
}

// History lists up to limit (1 to MaxHistory) entries of an account that are older than before, newest first; a nil
// before is the tip. It reads the index, and the bodies of the few blocks that the index is behind.
//
// Errors: ErrNoHistory where the ledger was opened without Config.History, ErrClosed, or one of the store.
func (l *Ledger) History(a chain.Account, before *Place, limit int) (HistoryPage, error) {
	if limit < 1 || limit > MaxHistory {
		return HistoryPage{}, fmt.Errorf("ledger: %d entries of history, want 1 to %d", limit, MaxHistory)
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	page := HistoryPage{Tip: l.tip}
	if err := l.usable(); err != nil {
		return page, err
	}
	if !l.cfg.History {
		return page, ErrNoHistory
	}
	p := pager{limit: limit + 1, before: 1<<64 - 1} // the miner of block 2^32 − 1, which has none above it
	if before != nil {
		p.before = place(min(before.Height, chain.MaxHeight))<<32 | place(before.Index)
		if before.Height > chain.MaxHeight {
			p.before = 1<<64 - 1
		}
	}
	err := l.db.View(func(txn *badger.Txn) error {
		base := l.historyBase()
		page.Indexed = base
		if !l.historyDue(base) { // else the tail is long, and being indexed
			page.Indexed = l.record.height
			if err := l.tailHistory(txn, a, base, &p); err != nil {
				return err
			}
		}
		r := historyReader{l: l, txn: txn, top: base, reach: map[uint32]uint64{}}
		return r.newest(a, &p)
	})
	if err != nil {
		return page, err
	}
	page.More = len(p.found) > limit
	for _, at := range p.found[:min(len(p.found), limit)] {
		page.Touches = append(page.Touches, Touch{Place{at.height(), uint32(at)}, l.main[at.height()].id})
	}
	return page, nil
}

// BlockSupply is what a block of the best chain issued and burned, in knots; false where its undo isn't kept any more.
func (l *Ledger) BlockSupply(id chain.BlockID) (issued, burned uint64, known bool, err error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	e := l.index.byID[id]
	if err := l.usable(); err != nil || e == nil || !l.main.has(e) || uint64(e.height) < l.record.undoFrom {
		return 0, 0, false, err
	}
	err = l.db.View(func(txn *badger.Txn) error {
		v, err := get(txn, pieceKey(heightKey(keyUndo, uint64(e.height)), 0))
		if err == nil && len(v) >= 52 && chain.BlockID(v) == id {
			issued, burned, known = le.Uint64(v[32:]), le.Uint64(v[40:]), true
		}
		return err
	})
	return issued, burned, known, err
}

// place is height << 32 | index.
type place uint64

func (p place) height() uint64 { return uint64(p >> 32) }

// pager keeps the newest places below before, newest first, each once.
type pager struct {
	before place
	limit  int
	found  []place
}

func (p *pager) full() bool { return len(p.found) >= p.limit }

// add takes places in any order.
func (p *pager) add(places []place) {
	for _, at := range places {
		if at < p.before {
			p.found = append(p.found, at)
		}
	}
	slices.SortFunc(p.found, func(a, b place) int {
		if a > b {
			return -1
		}
		return int(min(1, b-a))
	})
	p.found = slices.Compact(p.found)
	p.found = p.found[:min(len(p.found), p.limit)]
}

// tailHistory adds the entries of the blocks above base.
func (l *Ledger) tailHistory(txn *badger.Txn, a chain.Account, base uint64, p *pager) error {
	var body []byte
	for h := min(l.record.height, p.before.height()); h > base && !p.full(); h-- {
		e := l.main[h]
		miner, err := blockMiner(txn, e)
		if err != nil {
			return err
		}
		var found []place
		if miner == a {
			found = append(found, place(h)<<32|MinerPlace)
		}
		if body, err = appendBody(body[:0], txn, e); err != nil {
			return err
		}
		err = parties(body, func(index uint32, account []byte) {
			at := place(h)<<32 | place(index)
			if chain.Account(account) == a && (len(found) == 0 || found[len(found)-1] != at) {
				found = append(found, at)
			}
		})
		if err != nil {
			return corrupt("the body of block %d (%s) does not decode (%v)", e.height, e.id, err)
		}
		p.add(found)
	}
	return nil
}

// historyReader reads records against the best chain.
type historyReader struct {
	l     *Ledger
	txn   *badger.Txn
	top   uint64            // entries above this height are passed over
	reach map[uint32]uint64 // of a batch: the height to which its branch and the best chain are one
}

// newest adds the entries of an account's records.
func (r *historyReader) newest(a chain.Account, p *pager) error {
	opts := badger.DefaultIteratorOptions
	opts.Reverse, opts.Prefix, opts.PrefetchSize = true, idKey(keyHistory, a), 16
	it := r.txn.NewIterator(opts)
	defer it.Close()
	for it.Seek(heightKeyOf(a, min(r.top, p.before.height()))); it.Valid(); it.Next() {
		first, err := historyHeight(it.Item().Key())
		if err != nil {
			return err
		}
		// No record from here on reaches further than a span above where it begins.
		if p.full() && p.found[p.limit-1].height() >= uint64(first)+historySpan {
			return nil
		}
		if err := it.Item().Value(func(v []byte) error {
			places, err := r.record(first, v)
			p.add(places)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// between lists the entries of an account's records from lo to hi, ascending, each once. it goes forward over all
// records.
func (r *historyReader) between(it *badger.Iterator, a chain.Account, lo, hi uint64) (out []place, err error) {
	prefix := idKey(keyHistory, a)
	for it.Seek(heightKeyOf(a, lo-min(lo, historySpan))); it.ValidForPrefix(prefix); it.Next() {
		first, err := historyHeight(it.Item().Key())
		if err != nil || uint64(first) > hi {
			return tidy(out), err
		}
		err = it.Item().Value(func(v []byte) error {
			places, err := r.record(first, v)
			for _, at := range places {
				if at.height() >= lo && at.height() <= hi {
					out = append(out, at)
				}
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return tidy(out), nil
}

func tidy(places []place) []place {
	slices.Sort(places)
	return slices.Compact(places)
}

// record decodes a record and keeps what is true of the best chain.
func (r *historyReader) record(first uint32, v []byte) ([]place, error) {
	batch, places, err := decodeHistory(first, v)
	if err != nil {
		return nil, err
	}
	reach, known := r.reach[batch]
	if !known {
		id, err := get(r.txn, batchKey(batch))
		if err != nil {
			return nil, err
		}
		if len(id) != 32 || r.l.index.byID[chain.BlockID(id)] == nil {
			return nil, historyCorrupt("batch %d has no block", batch)
		}
		reach = uint64(r.l.main.fork(r.l.index.byID[chain.BlockID(id)]).height)
		if len(r.reach) < 1<<16 {
			r.reach[batch] = reach
		}
	}
	reach = min(reach, r.top)
	return slices.DeleteFunc(places, func(at place) bool { return at.height() > reach }), nil
}

func heightKeyOf(a chain.Account, height uint64) []byte {
	return be.AppendUint32(idKey(keyHistory, a), uint32(height))
}

// historyHeight is the first height of a record, from its key.
func historyHeight(key []byte) (uint32, error) {
	if len(key) != 37 {
		return 0, historyCorrupt("a key of %d bytes", len(key))
	}
	return be.Uint32(key[33:]), nil
}

// decodeHistory reads a record: its batch, and its places ascending. What it takes encodes back to the same bytes.
func decodeHistory(first uint32, b []byte) (batch uint32, places []place, err error) {
	whole := len(b)
	bad := func() (uint32, []place, error) {
		return 0, nil, historyCorrupt("a record of %d bytes at height %d doesn't decode", whole, first)
	}
	number := func() (v uint64, ok bool) {
		v, n := binary.Uvarint(b)
		if n <= 0 || n > 1 && b[n-1] == 0 || v > 1<<32-1 {
			return 0, false
		}
		b = b[n:]
		return v, true
	}
	n, ok := number()
	if !ok || len(b) == 0 {
		return bad()
	}
	height, index := uint64(first), int64(-1)
	places = make([]place, 0, len(b)/2)
	for len(b) > 0 {
		up, ok := number()
		height += up
		if !ok || len(places) == 0 && up > 0 || height > uint64(first)+historySpan-1 || height > chain.MaxHeight {
			return bad()
		}
		step, ok := number()
		if up > 0 {
			index = -1
		}
		if !ok || index == MinerPlace {
			return bad()
		}
		if index += int64(step); step == 0 {
			index = MinerPlace
		} else if index >= MinerPlace {
			return bad()
		}
		places = append(places, place(height)<<32|place(index))
	}
	return uint32(n), places, nil
}

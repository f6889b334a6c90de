package ledger

import (
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"quipu/chain"
)

// ready checks schema and genesis, or writes both into an empty store. The tip is written last and makes the ledger
// whole, so what an interrupted first start left is written again.
func (l *Ledger) ready(create bool) error {
	var version, tip []byte
	var stored *chain.Genesis
	empty := true
	err := l.db.View(func(txn *badger.Txn) (err error) {
		if version, err = get(txn, metaSchema); err != nil {
			return err
		}
		if tip, err = get(txn, metaTip); err != nil {
			return err
		}
		if version == nil {
			it := txn.NewIterator(badger.IteratorOptions{})
			defer it.Close()
			it.Rewind()
			empty = !it.Valid()
			return nil
		}
		if err := checkSchema(version, l.cfg.Dir); err != nil {
			return err
		}
		if tip == nil && create {
			return nil // an interrupted first start: everything is written again
		}
		stored, err = storedGenesis(txn, l.cfg.Dir)
		return err
	})
	switch {
	case err != nil:
		return err
	case version == nil && !empty:
		return corrupt("%s holds records but no schema number", l.cfg.Dir)
	case stored != nil && l.g != nil && stored.NetworkID() != l.g.NetworkID():
		return wrongGenesis(l.cfg.Dir, stored.NetworkID(), l.g.NetworkID())
	case tip != nil:
		if l.g == nil {
			l.g = stored
		}
		return nil
	case !create:
		return fmt.Errorf("%w: %s was made but never filled; start a node with it", ErrNoLedger, l.cfg.Dir)
	}
	return l.create()
}

// create writes block 0. The accounts of genesis are in the stored genesis alone.
func (l *Ledger) create() error {
	b, err := l.begin()
	if err != nil {
		return err
	}
	defer func() { b.discard() }()
	put := func(k, v []byte) error {
		if !b.fits(1, int64(len(k)+len(v))) {
			if err := b.commit(); err != nil {
				return err
			}
			next, err := l.begin()
			if err != nil {
				return err
			}
			b = next
		}
		return b.set(k, v)
	}
	if err := put(metaSchema, le.AppendUint32(nil, schema)); err != nil { // first: it says whose directory this is
		return err
	}
	canonical := l.g.Append(nil)
	if len(canonical) > maxGenesis {
		return fmt.Errorf("ledger: genesis of %d bytes, at most %d", len(canonical), maxGenesis)
	}
	if err := putRecord(put, metaGenesis, canonical); err != nil {
		return err
	}
	s := l.g.State()
	r := headerRecord{state: s, arrival: 0}
	t := l.tipAt0()
	if err := put(idKey(keyHeader, s.ID), r.encode()); err != nil {
		return err
	}
	if err := put(heightKey(keyMain, 0), s.ID[:]); err != nil {
		return err
	}
	if err := put(metaTip, t.encode()); err != nil {
		return err
	}
	return b.commit()
}

func (l *Ledger) tipAt0() tipRecord {
	return tipRecord{id: l.g.State().ID, undoFrom: 1, accounts: uint64(len(l.g.Balances))}
}

// load brings headers, marks and the tip into memory.
func (l *Ledger) load(txn *badger.Txn) error {
	if v, err := get(txn, metaReindex); err != nil || len(v) == 1 && v[0] != 0 {
		if err == nil {
			err = corrupt("rebuilding its records was interrupted: quipu chain reindex begins again")
		}
		return err
	}
	if err := l.loadHeaders(txn); err != nil {
		return err
	}
	if err := l.loadBase(txn); err != nil {
		return err
	}
	if err := l.loadMarks(txn); err != nil {
		return err
	}
	v, err := get(txn, metaTip)
	if err != nil {
		return err
	}
	if l.record, err = decodeTip(v); err != nil {
		return err
	}
	tip := l.index.byID[l.record.id]
	if tip == nil || !tip.linked || uint64(tip.height) != l.record.height {
		return corrupt("the tip %s at height %d has no complete chain", l.record.id, l.record.height)
	}
	l.main = l.main.to(tip)
	for _, e := range l.main {
		e.applied = l.base == nil || e.height > l.base.height || e.height == 0
	}
	if err := l.loadPruned(txn); err != nil {
		return err
	}
	if err := l.loadStartOver(txn); err != nil {
		return err
	}
	if err := l.loadHistory(txn); err != nil {
		return err
	}
	l.holdCheckpoints()
	l.headers = append(path(nil), l.main...)
	if l.tip, err = l.mustState(txn, tip); err != nil {
		return err
	}
	l.best = l.tip
	return nil
}

// holdCheckpoints turns away from headers that were stored before the checkpoint was given. Open then reverts them.
func (l *Ledger) holdCheckpoints() {
	for _, e := range l.index.byID {
		if want, ok := l.cfg.Checkpoints[uint64(e.height)]; ok && e.id != want {
			l.index.condemn(e, localMark+"another block is the checkpoint at this height, "+want.String())
		}
		if len(l.cfg.Checkpoints) == 0 {
			return
		}
	}
}

func (l *Ledger) loadHeaders(txn *badger.Txn) error {
	var all []*entry
	parents := map[*entry]chain.BlockID{}
	err := each(txn, keyHeader, func(k, v []byte) error {
		if len(k) != 32 {
			return corrupt("header key of %d bytes", len(k))
		}
		r, err := decodeHeaderRecord(chain.BlockID(k), v)
		if err != nil {
			return err
		}
		h := &r.state.Header
		if h.Height > chain.MaxHeight || h.BodySize > l.g.BodyLimit {
			return corrupt("header record of %s has height %d", r.state.ID, h.Height)
		}
		e := &entry{id: r.state.ID, work: r.state.Work, height: uint32(h.Height), bodySize: h.BodySize, arrival: r.arrival}
		parents[e] = h.Parent
		all = append(all, e)
		l.arrivals = max(l.arrivals, r.arrival)
		return nil
	})
	if err != nil {
		return err
	}
	sortByHeight(all)
	for _, e := range all {
		if e.height == 0 {
			if e.id != l.g.State().ID {
				return corrupt("it has a block 0 that isn't its genesis")
			}
			e.body, e.linked = true, true
			l.main = path{e}
		} else if e.parent = l.index.byID[parents[e]]; e.parent == nil || e.parent.height+1 != e.height {
			return corrupt("the parent of header %s at height %d is missing", e.id, e.height)
		}
		l.index.add(e)
	}
	if l.main == nil {
		return corrupt("block 0 is missing")
	}
	return nil
}

// loadMarks reads which bodies are held and which blocks are invalid.
func (l *Ledger) loadMarks(txn *badger.Txn) error {
	var held []*entry
	err := each(txn, keySeq, func(k, v []byte) error {
		if len(k) != 32 || len(v) != 8 || l.index.byID[chain.BlockID(k)] == nil {
			return corrupt("body mark %x has no header", k)
		}
		e := l.index.byID[chain.BlockID(k)]
		if e.seq = le.Uint64(v); e.seq == 0 {
			return nil // it was held
		}
		l.arrivals = max(l.arrivals, e.seq)
		held = append(held, e)
		return nil
	})
	if err != nil {
		return err
	}
	sortByHeight(held) // so that each hold finds its parent's link made
	for _, e := range held {
		l.index.hold(e, e.seq)
	}
	return each(txn, keyInvalid, func(k, v []byte) error {
		if len(k) != 32 || l.index.byID[chain.BlockID(k)] == nil {
			return corrupt("invalid mark %x has no header", k)
		}
		l.index.condemn(l.index.byID[chain.BlockID(k)], string(v[:min(len(v), maxReason)]))
		return nil
	})
}

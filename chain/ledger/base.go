package ledger

import (
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"quipu/chain"
	"quipu/chain/statetree"
)

// An empty ledger may begin with the accounts of a block whose header it holds, instead of applying all blocks up to
// there: its base. The accounts come from peers, proved against the header's state root, and what is not proved is that
// this root is what the blocks lead to. So the base is remembered until Confirm, which Replay leads to.
//
// While accounts are loaded the ledger is still and empty: pages are written bottom up, and the one at the top, which
// alone makes them count, in the same transaction as the new tip. A crash before it leaves an empty ledger; what was
// loaded is loaded again.
//
// Up to the base bodies are missing like pruned ones, and are wanted, from the newest down. Undo begins above it. A
// branch that leaves the chain below is reached as any other beyond the undo, by StartOver, which forgets the base. So
// does an invalid block at or below it.

// metaBase: height u64 | block 32. Empty or missing when there is none.
var metaBase = []byte("mbase")

// Reasons why no snapshot can be taken.
var (
	// ErrNotEmpty: the ledger has gone beyond block 0, or goes back to it.
	ErrNotEmpty = errors.New("the ledger isn't empty")
	// ErrNotBest: the block isn't on the heaviest chain of headers, or on none.
	ErrNotBest = errors.New("the block isn't on the heaviest chain of headers")
	// ErrWrongState: the accounts given aren't those of the block's state root.
	ErrWrongState = errors.New("the accounts don't give the block's state root")
)

// Base is the block whose accounts the ledger began with.
type Base struct {
	Height uint64
	ID     chain.BlockID
}

// Base is there until its accounts are confirmed or it is forgotten.
func (l *Ledger) Base() (Base, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.base == nil {
		return Base{}, false
	}
	return Base{uint64(l.base.height), l.base.id}, true
}

// AwaitSnapshot keeps an empty ledger as it is, whatever bodies come, until LoadSnapshot or GoOn. No bodies are wanted
// meanwhile. ErrNotEmpty says that there is no use for a snapshot.
func (l *Ledger) AwaitSnapshot() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return l.broken
	}
	stored, err := has(l.db, pageRecord(statetree.PageKey{}))
	if err != nil {
		return err
	}
	if stored || l.record.height > 0 || l.over != nil {
		return ErrNotEmpty
	}
	l.still = true
	return nil
}

// GoOn ends AwaitSnapshot and follows the bodies that are there.
func (l *Ledger) GoOn() (Result, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var res Result
	if l.broken != nil {
		return res, l.broken
	}
	l.still, l.unsettled = false, true
	return res, l.settle(&res, nil, nil)
}

// loadPart is how many bytes of pages are written at once.
const loadPart = 4 << 20

// LoadSnapshot makes a block the ledger's base: next gives all accounts as of it, ascending by path, false at the end.
// It is to be called after AwaitSnapshot, and ends that if it succeeds. What next gives is held against the block's
// state root as a whole.
//
// Errors: ErrNotEmpty, ErrNotBest, ErrWrongState or next's own, after which the ledger is as it was; else one of ours.
func (l *Ledger) LoadSnapshot(id chain.BlockID, next func() (statetree.Leaf, bool, error)) error {
	e, s, err := l.baseOf(id)
	if err != nil {
		return err
	}
	w := loader{l: l}
	sum, n, failed := uint64(0), uint64(0), error(nil)
	root, _, err := statetree.BuildPages(func() (statetree.Leaf, bool, error) {
		leaf, ok, err := next()
		if failed = err; ok {
			n++
			if sum += leaf.Balance; sum < leaf.Balance {
				err = fmt.Errorf("%w: their balances are more than there can be", ErrWrongState)
			}
		}
		return leaf, ok, err
	}, w.page)
	switch {
	case failed != nil:
		return failed
	case w.err != nil:
		return w.err
	case errors.Is(err, ErrWrongState):
		return err
	case err != nil:
		return fmt.Errorf("%w: %v", ErrWrongState, err)
	case chain.Hash(root) != s.Header.StateRoot:
		return fmt.Errorf("%w: root %x, block %d says %s", ErrWrongState, root, s.Header.Height, s.Header.StateRoot)
	}
	issued := uint64(0)
	for h := uint64(1); h <= s.Header.Height; h++ {
		issued += l.g.SubsidyAt(h)
	}
	most := l.g.Supply() + issued
	if sum > most {
		return fmt.Errorf("%w: balances of %d knots where %d were issued", ErrWrongState, sum, most)
	}
	if err := w.mainIndex(e); err != nil {
		return err
	}
	return l.standAt(e, s, &w, tipRecord{id: id, height: s.Header.Height, issued: issued, burned: most - sum, undoFrom: s.Header.Height + 1, accounts: n})
}

// BaseHeader is the header of a block that LoadSnapshot would take. Errors are as there.
func (l *Ledger) BaseHeader(id chain.BlockID) (chain.State, error) {
	_, s, err := l.baseOf(id)
	return s, err
}

// baseOf is a block that can be the base.
func (l *Ledger) baseOf(id chain.BlockID) (*entry, chain.State, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.broken != nil {
		return nil, chain.State{}, l.broken
	}
	e := l.index.byID[id]
	switch {
	case !l.still || l.record.height > 0:
		return nil, chain.State{}, ErrNotEmpty
	case e == nil || e.bad || e.height == 0 || !l.headers.has(e):
		return nil, chain.State{}, ErrNotBest
	}
	var s chain.State
	err := l.db.View(func(txn *badger.Txn) (err error) {
		s, err = l.mustState(txn, e)
		return err
	})
	return e, s, err
}

// loader writes what doesn't count before its end, in parts between which others may use the ledger.
type loader struct {
	l     *Ledger
	top   []byte // the page at the top
	parts [][2][]byte
	bytes int
	err   error
}

func (w *loader) page(k statetree.PageKey, page []byte) error {
	if k == (statetree.PageKey{}) {
		w.top = page
		return nil
	}
	w.err = w.put(pageRecord(k), page)
	return w.err
}

func (w *loader) put(k, v []byte) error {
	w.parts = append(w.parts, [2][]byte{k, v})
	if w.bytes += len(k) + len(v); w.bytes < w.l.cfg.loadPart {
		return nil
	}
	return w.flush()
}

func (w *loader) flush() error {
	w.l.mu.Lock()
	defer w.l.mu.Unlock()
	if err := w.l.usable(); err != nil {
		return err
	}
	out := spill{l: w.l}
	defer out.close()
	for _, kv := range w.parts {
		if err := out.set(kv[0], kv[1]); err != nil {
			return err
		}
	}
	w.parts, w.bytes = w.parts[:0], 0
	return out.flush()
}

// mainIndex names the blocks up to e.
func (w *loader) mainIndex(e *entry) error {
	for ; e.parent != nil; e = e.parent {
		if err := w.put(heightKey(keyMain, uint64(e.height)), e.id[:]); err != nil {
			return err
		}
	}
	return w.flush()
}

// standAt moves the tip to the base, on disk in one transaction, then in memory.
func (l *Ledger) standAt(e *entry, s chain.State, w *loader, r tipRecord) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.broken != nil:
		return l.broken
	case !l.still || l.record.height > 0:
		return ErrNotEmpty
	case e.bad || !l.headers.has(e):
		return ErrNotBest
	}
	next, err := nextJournal(l.db)
	if err != nil {
		return err
	}
	b, err := l.begin()
	if err != nil {
		return err
	}
	defer b.discard()
	for _, kv := range [][2][]byte{
		{pageRecord(statetree.PageKey{}), w.top}, {metaTip, r.encode()}, {metaJournal, le.AppendUint64(nil, next)},
		{metaPruned, le.AppendUint64(nil, r.height)}, {metaBase, append(le.AppendUint64(nil, r.height), e.id[:]...)},
	} {
		if err := b.set(kv[0], kv[1]); err != nil {
			return err
		}
	}
	if err := b.commit(); err != nil {
		return err
	}
	l.still, l.base, l.pruned, l.record, l.tip = false, e, r.height, r, s
	l.linkBase()
	for a := e; a.parent != nil; a = a.parent {
		a.body = false // some may have come by gossip: they come again
	}
	l.index.relink(e)
	l.main = l.main.to(e)
	l.behind, l.unsettled = behind{}, true
	if err := l.db.View(l.loadAccounts); err != nil {
		return l.fatal(err)
	}
	if l.cfg.pinEvery > 0 {
		l.pin() // others may begin with it too
	}
	return l.chooseHeader()
}

// loadBase reads the base. Headers are loaded and bodies aren't.
func (l *Ledger) loadBase(txn *badger.Txn) error {
	v, err := get(txn, metaBase)
	if err != nil || len(v) == 0 {
		return err
	}
	if len(v) != 40 || l.index.byID[chain.BlockID(v[8:])] == nil {
		return corrupt("the record of the block whose accounts it began with names none that is stored")
	}
	l.base = l.index.byID[chain.BlockID(v[8:])]
	l.linkBase()
	return nil
}

// linkBase makes the blocks up to the base count as if their bodies had been here, in the order of their headers.
func (l *Ledger) linkBase() {
	for e := l.base; e.parent != nil; e = e.parent {
		e.linked = true
		if e.seq == 0 {
			e.seq = e.arrival
		}
	}
}

// relink notes what became linked below e, which did.
func (x *index) relink(e *entry) {
	for c := e.child; c != nil; c = c.sibling {
		if c.body && !c.linked {
			x.hold(c, c.seq)
		}
	}
}

// wantsHistory reports whether bodies up to the base are to be fetched.
func (l *Ledger) wantsHistory() bool { return l.base != nil && l.pruned > 0 }

// belowBase reports a block up to the base, on its chain.
func (l *Ledger) belowBase(e *entry) bool {
	return l.base != nil && e.height <= l.base.height && l.main.has(e)
}

// indexBelow writes the transactions of a block below the base into a batch that stores its body.
func (b *batch) indexBelow(e *entry, block *chain.CheckedBlock) error {
	txs, offset := block.Txs(), 0
	for i := range txs {
		n := len(txs[i].Raw())
		r := txRecord{height: e.height, index: uint32(i), offset: uint32(offset), length: uint32(n)}
		if err := b.set(idKey(keyTx, txs[i].ID()), r.encode()); err != nil {
			return err
		}
		offset += n
	}
	return nil
}

// Confirm notes that the blocks from genesis on lead to the accounts of the base. All bodies must be here. After it the
// ledger is as if it had applied them.
func (l *Ledger) Confirm(base Base) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return l.broken
	}
	if l.base == nil || l.base.id != base.ID {
		return nil
	}
	if l.pruned > 0 {
		return fmt.Errorf("bodies of blocks 1 to %d are missing: the accounts of block %d can't be confirmed", l.pruned, base.Height)
	}
	b, err := l.begin()
	if err != nil {
		return err
	}
	defer b.discard()
	if err := b.set(metaBase, nil); err != nil {
		return err
	}
	if err := b.commit(); err != nil {
		return err
	}
	for e := l.base; e.parent != nil; e = e.parent {
		e.applied = true
	}
	l.base = nil
	return nil
}

// forgetBase leaves a base that is found to be, or to stand on, an invalid block: the ledger stands at block 0, with all
// headers, bodies and marks, as after an Open.
func (l *Ledger) forgetBase() error {
	if l.cfg.Log != nil {
		l.cfg.Log.Error("the snapshot that the ledger began with stands on an invalid block: all blocks are applied from block 0",
			"height", l.base.height, "block", l.base.id, "reason", l.index.reason(l.base))
	}
	if err := l.toBlock0([2][]byte{metaStartOver, {stageForgetting}}, [2][]byte{metaStartOver, nil}); err != nil {
		return l.fatal(err)
	}
	l.unpin()
	l.index, l.main, l.headers = newIndex(), nil, nil
	l.over, l.deep, l.refetch, l.base, l.behind, l.unsettled = nil, nil, false, nil, behind{}, true
	err := l.db.View(l.load)
	if err == nil {
		err = l.db.View(l.loadAccounts)
	}
	if err != nil {
		return l.fatal(err)
	}
	return l.chooseHeader()
}

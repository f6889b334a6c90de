package ledger

import (
	"fmt"

	"github.com/dgraph-io/badger/v4"
	"github.com/holiman/uint256"

	"quipu/chain"
)

// AddHeaders checks headers in order, each against its stored parent, and stores those not yet known. It returns
// how many leading ones are stored now, known ones counted, and why the next one isn't.
//
// Errors: *chain.RuleError (its maker's fault); chain.ErrUnknownParent, chain.ErrUpgrade, ErrInvalidAncestor,
// ErrLowWork or ErrCheckpoint (nobody's); anything else is ours.
//
// A new header with no more work than WorkFloor is refused with ErrLowWork: such branches cost next to nothing to make,
// and memory and disk to keep.
func (l *Ledger) AddHeaders(hs []chain.Header) (n int, err error) { return l.addHeaders(hs, true) }

// AddHeadersProven is AddHeaders for a branch whose end is known to have more work than the floor.
func (l *Ledger) AddHeadersProven(hs []chain.Header) (n int, err error) {
	return l.addHeaders(hs, false)
}

// floorDepth is how many blocks of the tip's difficulty a branch may be behind and still be stored.
const floorDepth = 144

// WorkFloor is the work that a new header must exceed to be stored: Config.MinWork, or floorDepth blocks of the tip's
// difficulty below the tip if that is more.
func (l *Ledger) WorkFloor() chain.Work {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.workFloor()
}

func (l *Ledger) workFloor() (floor chain.Work) {
	_, tip := l.reference()
	below := chain.BlockWork(tip.Header.Bits)
	below.Mul(&below, uint256.NewInt(floorDepth))
	if below.Lt(&tip.Work) {
		floor.Sub(&tip.Work, &below)
	}
	if floor.Lt(&l.cfg.MinWork) {
		return l.cfg.MinWork
	}
	return floor
}

func (l *Ledger) addHeaders(hs []chain.Header, floored bool) (n int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return 0, l.broken
	}
	w := headerWriter{l: l}
	if floored {
		w.floor = l.workFloor()
	}
	defer w.close()
	var verdict error
	for i := range hs {
		if verdict = w.add(&hs[i]); verdict != nil {
			break
		}
		n++
	}
	if err := w.flush(); err != nil {
		return w.stored, err
	}
	if err := l.chooseHeader(); err != nil {
		return n, err
	}
	return n, verdict
}

// headerWriter stores headers in transactions as large as they may be, and enters them into the index after each.
type headerWriter struct {
	l       *Ledger
	floor   chain.Work
	b       *batch
	last    chain.State // the last one added, stored or not
	pending []*entry
	byID    map[chain.BlockID]*entry // of pending
	count   int                      // added so far, known ones included
	stored  int                      // of those, how many a crash can't take back
}

func (w *headerWriter) add(h *chain.Header) error {
	id := h.ID()
	if e := w.find(id); e != nil {
		if e.bad {
			return fmt.Errorf("header %s at height %d: %w", id, h.Height, ErrInvalidAncestor)
		}
		w.count++
		return nil
	}
	parent := w.find(h.Parent)
	if parent == nil {
		return chain.ErrUnknownParent
	}
	if parent.bad {
		return fmt.Errorf("header %s at height %d: %w", id, h.Height, ErrInvalidAncestor)
	}
	if w.last.ID != h.Parent {
		var err error
		if w.last, err = w.read(parent); err != nil {
			return err
		}
	}
	s, err := w.l.g.CheckHeader(&w.last, h)
	if err != nil {
		return err
	}
	if want, ok := w.l.cfg.Checkpoints[h.Height]; ok && id != want {
		return fmt.Errorf("header %s at height %d: %w, %s", id, h.Height, ErrCheckpoint, want)
	}
	if !w.floor.IsZero() && !s.Work.Gt(&w.floor) {
		return fmt.Errorf("header %s at height %d: %w", id, h.Height, ErrLowWork)
	}
	return w.put(s, parent)
}

func (w *headerWriter) find(id chain.BlockID) *entry {
	if e := w.byID[id]; e != nil {
		return e
	}
	return w.l.index.byID[id]
}

func (w *headerWriter) read(e *entry) (s chain.State, err error) {
	if w.b != nil {
		return w.l.mustState(w.b.txn, e)
	}
	err = w.l.db.View(func(txn *badger.Txn) error {
		s, err = w.l.mustState(txn, e)
		return err
	})
	return s, err
}

func (w *headerWriter) put(s chain.State, parent *entry) error {
	r := headerRecord{state: s, arrival: w.l.arrivals + 1}
	key, value := idKey(keyHeader, s.ID), r.encode()
	if w.b != nil && !w.b.fits(1, int64(len(key)+len(value))) {
		if err := w.flush(); err != nil {
			return err
		}
	}
	if w.b == nil {
		b, err := w.l.begin()
		if err != nil {
			return err
		}
		w.b, w.byID = b, map[chain.BlockID]*entry{}
	}
	if err := w.b.set(key, value); err != nil {
		return err
	}
	w.l.arrivals++
	e := &entry{
		id: s.ID, parent: parent, work: s.Work, height: uint32(s.Header.Height), bodySize: s.Header.BodySize, arrival: r.arrival,
	}
	w.pending = append(w.pending, e)
	w.byID[e.id] = e
	w.last = s
	w.count++
	return nil
}

func (w *headerWriter) flush() error {
	if w.b != nil {
		if err := w.b.commit(); err != nil {
			return err
		}
	}
	for _, e := range w.pending {
		w.l.index.add(e)
	}
	w.b, w.pending, w.byID, w.stored = nil, nil, nil, w.count
	return nil
}

func (w *headerWriter) close() {
	if w.b != nil {
		w.b.discard()
	}
}

// chooseHeader moves BestHeader. On equal work the tip stands for itself: its body is here, and what this node
// serves ends in blocks it can serve.
func (l *Ledger) chooseHeader() error {
	e := l.index.heaviest()
	if tip := l.main.tip(); e == nil || !tip.bad && tip.work.Cmp(&e.work) >= 0 {
		e = tip
	}
	if e == l.headers.tip() {
		return nil
	}
	var s chain.State
	err := l.db.View(func(txn *badger.Txn) (err error) {
		s, err = l.mustState(txn, e)
		return err
	})
	if err != nil {
		return err
	}
	l.best, l.headers = s, l.headers.to(e)
	return nil
}

// Header is a stored header with the chain's state after it.
func (l *Ledger) Header(id chain.BlockID) (s chain.State, ok bool, err error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if err := l.usable(); err != nil {
		return s, false, err
	}
	if id == l.tip.ID {
		return l.tip, true, nil
	}
	if l.index.byID[id] == nil {
		return s, false, nil
	}
	err = l.db.View(func(txn *badger.Txn) error {
		s, ok, err = state(txn, id)
		return err
	})
	return s, ok, err
}

// HeaderAt is the header at a height of the validated best chain, false above its tip.
func (l *Ledger) HeaderAt(height uint64) (h chain.Header, id chain.BlockID, ok bool, err error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if err := l.usable(); err != nil || height >= uint64(len(l.main)) {
		return h, id, false, err
	}
	e := l.main[height]
	err = l.db.View(func(txn *badger.Txn) error {
		s, err := l.mustState(txn, e)
		h = s.Header
		return err
	})
	return h, e.id, err == nil, err
}

// Locator names blocks of BestHeader's chain, newest first: dense for 10, then in doubling steps, block 0 last. At
// most 42 for heights below 2^32.
func (l *Ledger) Locator() []chain.BlockID {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var out []chain.BlockID
	step := 1
	for h := len(l.headers) - 1; h > 0; h -= step {
		out = append(out, l.headers[h].id)
		if len(out) >= 10 {
			step *= 2
		}
	}
	return append(out, l.headers[0].id)
}

// HeadersAfter are up to max headers along BestHeader's chain, after where the first known block of the locator
// leaves it. None if no block of the locator is known.
func (l *Ledger) HeadersAfter(locator []chain.BlockID, max int) ([]chain.Header, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if err := l.usable(); err != nil {
		return nil, err
	}
	for _, id := range locator {
		e := l.index.byID[id]
		if e == nil {
			continue
		}
		from := int(l.headers.fork(e).height) + 1
		return l.read(l.headers[min(from, len(l.headers)):min(from+max, len(l.headers))])
	}
	return nil, nil
}

// HeadersTo are up to max headers of the chain that ends in a block, whether or not that is the best one, from a height
// on. None if the block isn't known, is lower, or is known to be invalid.
func (l *Ledger) HeadersTo(id chain.BlockID, from uint64, max int) ([]chain.Header, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if err := l.usable(); err != nil {
		return nil, err
	}
	e := l.index.byID[id]
	if e == nil || e.bad || from > uint64(e.height) || max <= 0 {
		return nil, nil
	}
	to := min(from+uint64(max)-1, uint64(e.height))
	fork := l.headers.fork(e)
	entries := make(path, to-from+1)
	for ; e != fork; e = e.parent {
		if h := uint64(e.height); from <= h && h <= to {
			entries[h-from] = e
		}
	}
	for h := from; h <= min(to, uint64(fork.height)); h++ {
		entries[h-from] = l.headers[h]
	}
	return l.read(entries)
}

// read reads the headers of some entries.
func (l *Ledger) read(entries path) (out []chain.Header, err error) {
	if len(entries) == 0 {
		return nil, nil
	}
	out = make([]chain.Header, len(entries))
	err = l.db.View(func(txn *badger.Txn) error {
		for i, e := range entries {
			s, err := l.mustState(txn, e)
			if err != nil {
				return err
			}
			out[i] = s.Header
		}
		return nil
	})
	return out, err
}

// Want is a body worth fetching.
type Want struct {
	ID     chain.BlockID
	Header chain.Header
}

// Wanted lists bodies not held, of branches with more work than the tip: heaviest branch first, ascending height,
// each once. Of each branch sizes, each with 512 bytes for the asking, sum to at most maxBytes (its first body is
// always there), so that a branch whose bodies nobody delivers hides no other; at most 2,048 bodies of each of at
// most 8 branches. While StartOver waits for them, pruned bodies of the tip's chain are listed after, from the newest
// down; those up to a base once nothing else is missing.
func (l *Ledger) Wanted(maxBytes int) []Want {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed || l.still {
		return nil
	}
	entries := l.wanted(maxBytes)
	out := make([]Want, 0, len(entries))
	l.db.View(func(txn *badger.Txn) error {
		for _, e := range entries {
			s, err := l.mustState(txn, e)
			if err != nil { // what can't be read isn't asked for
				return err
			}
			out = append(out, Want{ID: e.id, Header: s.Header})
		}
		return nil
	})
	return out
}

const (
	maxWanted   = 2048 // bodies of one branch
	maxBranches = 8
	wantCost    = 512 // bytes a wanted body counts beside its own, so that empty ones aren't free
)

func (l *Ledger) wanted(maxBytes int) []*entry {
	var out []*entry
	reached := l.linkedHeight() // along BestHeader's chain: below, everything is held or listed
	taken := map[*entry]bool{}
	reference, _ := l.reference()
	for i, head := range l.index.headsByWork(reference) {
		if i == maxBranches {
			break
		}
		left, first := int64(maxBytes), len(out)
		take := func(e *entry) bool {
			if n := len(out) - first; n > 0 && int64(e.bodySize)+wantCost > left || n == maxWanted {
				return false
			}
			left -= int64(e.bodySize) + wantCost
			out = append(out, e)
			return true
		}
		if i == 0 && head == l.headers.tip() { // no walk from the head down: it may be a whole history away
			for reached+1 < len(l.headers) {
				if e := l.headers[reached+1]; !e.body && !take(e) {
					break
				}
				reached++
			}
			continue
		}
		var missing []*entry
		e := head
		for ; !e.linked && !taken[e] && !l.headers.has(e); e = e.parent {
			taken[e] = true
			if !e.body {
				missing = append(missing, e)
			}
		}
		if l.headers.has(e) && int(e.height) > reached {
			continue // it leaves the heaviest branch above what is asked for yet
		}
		for j := len(missing) - 1; j >= 0 && take(missing[j]); j-- {
		}
	}
	if l.refetch || l.wantsHistory() && len(out) == 0 { // history waits for the rest
		out = l.wantPruned(out, maxBytes)
	}
	return out
}

// wantPruned adds what was pruned and is needed to start over, from the newest down.
func (l *Ledger) wantPruned(out []*entry, maxBytes int) []*entry {
	left := int64(maxBytes)
	for h, n := l.pruned, 0; h > 0 && n < maxWanted; h-- {
		e := l.main[h]
		if e.body {
			continue
		}
		if left -= int64(e.bodySize) + wantCost; left < 0 && n > 0 {
			break
		}
		out = append(out, e)
		n++
	}
	return out
}

// linkedHeight is the highest linked block of BestHeader's chain; a binary search, since links begin at block 0.
func (l *Ledger) linkedHeight() int {
	lo, hi := 0, len(l.headers)-1
	for lo < hi {
		if mid := (lo + hi + 1) / 2; l.headers[mid].linked {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	return lo
}

// Range is a run of heights, both ends included.
type Range struct{ From, To uint64 }

// maxRanges is what a status message carries.
const maxRanges = 64

// Held are the heights from 1 on whose bodies are held along BestHeader's chain, ascending; the lowest 64 runs. They
// begin above what was pruned.
func (l *Ledger) Held() []Range {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var out []Range
	first := l.linkedHeight()
	if uint64(first) > l.pruned {
		out = append(out, Range{l.pruned + 1, uint64(first)})
	}
	for h := first + 1; h < len(l.headers); h++ {
		if !l.headers[h].body {
			continue
		}
		if n := len(out); n > 0 && out[n-1].To == uint64(h)-1 {
			out[n-1].To++
		} else if n == maxRanges {
			break
		} else {
			out = append(out, Range{uint64(h), uint64(h)})
		}
	}
	return out
}

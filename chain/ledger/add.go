package ledger

import (
	"errors"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"

	"quipu/chain"
)

// Result is what a call did.
type Result struct {
	// Change is net: from the tip before the call to the tip after it, whatever was tried in between.
	Change  chain.Change
	Invalid []InvalidBlock  // found invalid in this call, in the order found; descendants aren't listed
	Deep    *DeepReorgError // a heavier branch that undo doesn't reach; reported by every call while it stands
	// More says that the walk to the heaviest branch has been left where it was, at a valid block, so that Change doesn't
	// hold blocks without limit: Add goes on with it, without blocks too.
	More bool
	// Restarted says that the ledger was found to have begun with the accounts of an invalid block, and stands at block 0
	// again: More leads on. Change doesn't tell of it.
	Restarted bool
}

// maxChange is how many bytes of bodies a Change holds before the walk is left.
const maxChange = 256 << 20

// InvalidBlock broke a rule although its header keeps all of its.
type InvalidBlock struct {
	ID     chain.BlockID
	Height uint64
	Err    error // *chain.RuleError, or the reason given to MarkInvalid
}

// Add stores bodies, in any order, and moves the tip to the heaviest complete valid branch. Their headers must be
// stored: ErrUnknownParent otherwise, and nothing is stored. Known bodies and bodies of blocks known to be invalid
// are passed over. *DeepReorgError raises an alarm but stops nothing: all else was done. Any other error is ours; the
// Result says what was done before it.
func (l *Ledger) Add(blocks []chain.CheckedBlock) (Result, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var res Result
	if l.broken != nil {
		return res, l.broken
	}
	var fresh []*chain.CheckedBlock
	seen := map[chain.BlockID]*chain.CheckedBlock{}
	for i := range blocks {
		b := &blocks[i]
		e := l.index.byID[b.ID()]
		if e == nil {
			return res, fmt.Errorf("block %d (%s): its header isn't stored: %w", b.Header().Height, b.ID(), chain.ErrUnknownParent)
		}
		if n := len(b.Body()); n != int(e.bodySize) {
			return res, fmt.Errorf("block %d (%s): a checked body of %d bytes, its header says %d", e.height, e.id, n, e.bodySize)
		}
		if !e.body && !e.bad && seen[e.id] == nil && (l.refetch || l.wantsHistory() || !l.isPruned(e)) {
			seen[e.id] = b
			fresh = append(fresh, b)
		}
	}
	start := time.Now()
	linked, err := l.storeBodies(fresh)
	lap(&start, &l.times.Bodies)
	if err == nil && (l.refetch || l.wantsHistory()) {
		err = l.refetched()
	}
	if err != nil {
		l.unsettled = true
		return res, err
	}
	if err = l.settle(&res, linked, seen); err == nil && res.Deep != nil {
		err = res.Deep
	}
	return res, err
}

// storeBodies stores bodies and returns the entries that became linked.
func (l *Ledger) storeBodies(blocks []*chain.CheckedBlock) (linked []*entry, err error) {
	var b *batch
	var pending []*entry
	var seqs []uint64
	flush := func() error {
		if b == nil {
			return nil
		}
		if err := b.commit(); err != nil {
			return err
		}
		for i, e := range pending {
			if e.linked { // it was pruned and has come back
				e.body = true
				continue
			}
			linked = append(linked, l.index.hold(e, seqs[i])...)
		}
		b, pending, seqs = nil, nil, nil
		return nil
	}
	defer func() {
		if b != nil {
			b.discard()
		}
	}()
	for _, block := range blocks {
		e, body := l.index.byID[block.ID()], block.Body()
		indexed := 0
		if l.belowBase(e) {
			indexed = len(block.Txs())
		}
		if b != nil && !b.fits(int64(pieces(len(body))+1+indexed), int64(len(body)+indexed*49+256)) {
			if err := flush(); err != nil {
				return linked, err
			}
		}
		if b == nil {
			if b, err = l.begin(); err != nil {
				return linked, err
			}
		}
		if err := putPieces(b.set, idKey(keyBody, e.id), body); err != nil {
			return linked, err
		}
		if indexed > 0 {
			if err := b.indexBelow(e, block); err != nil {
				return linked, err
			}
		}
		seq := e.seq
		if !e.linked {
			l.arrivals++
			seq = l.arrivals
		}
		if err := b.set(idKey(keySeq, e.id), le.AppendUint64(nil, seq)); err != nil {
			return linked, err
		}
		pending, seqs = append(pending, e), append(seqs, seq)
	}
	return linked, flush()
}

// MarkInvalid notes that a block whose body gives its tx_root broke a stateless rule. The header must be stored:
// ErrUnknownParent otherwise. A block on the best chain is left together with all above it.
func (l *Ledger) MarkInvalid(id chain.BlockID, reason error) (Result, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var res Result
	if l.broken != nil {
		return res, l.broken
	}
	e := l.index.byID[id]
	if e == nil {
		return res, fmt.Errorf("block %s: its header isn't stored: %w", id, chain.ErrUnknownParent)
	}
	if e.parent == nil {
		return res, errors.New("block 0 can't be invalid")
	}
	if _, marked := l.index.why[id]; marked {
		return res, nil
	}
	if err := l.condemn(&res, e, reason); err != nil {
		return res, err
	}
	return res, l.settle(&res, nil, nil)
}

// condemn stores that e is invalid and why.
func (l *Ledger) condemn(res *Result, e *entry, reason error) error {
	why := reason.Error()
	why = why[:min(len(why), maxReason)]
	b, err := l.begin()
	if err != nil {
		return err
	}
	defer b.discard()
	if err := b.set(idKey(keyInvalid, e.id), []byte(why)); err != nil {
		return err
	}
	if err := b.commit(); err != nil {
		return err
	}
	l.index.condemn(e, why)
	if res != nil {
		res.Invalid = append(res.Invalid, InvalidBlock{ID: e.id, Height: uint64(e.height), Err: reason})
	}
	l.unsettled = true
	return nil
}

// settle moves the tip until no complete valid branch is ahead of it. linked are entries that became linked since
// it last ran to its end; known are blocks at hand, others are read from disk. res may be nil.
func (l *Ledger) settle(res *Result, linked []*entry, known map[chain.BlockID]*chain.CheckedBlock) error {
	if l.base != nil && l.base.bad {
		if err := l.forgetBase(); err != nil {
			return err
		}
		if res != nil {
			res.Restarted, res.More = true, true
			return nil
		}
	}
	if l.over != nil || l.still { // Step moves the tip, or LoadSnapshot
		l.unsettled = true
		return l.chooseHeader()
	}
	m := mover{l: l, known: known, record: res != nil}
	return m.run(res, linked)
}

// run is settle, with disk and memory equal after it unless the store failed.
func (m *mover) run(res *Result, linked []*entry) error {
	l := m.l
	err := m.settle(res, linked)
	if m.g != nil && l.broken == nil { // whole units before an error that isn't the store's: keep disk and memory equal
		if e := m.flush(); err == nil {
			err = e
		}
	}
	if res != nil {
		res.Change = m.net
	}
	if e := l.chooseHeader(); err == nil {
		err = e
	}
	return err
}

// mover is one run of fork choice.
type mover struct {
	l      *Ledger
	known  map[chain.BlockID]*chain.CheckedBlock
	record bool
	net    chain.Change
	g      *group      // the transaction in the making, nil if none
	more   func() bool // asked before each block; false ends the walk where it is. nil goes on
	paused bool
	bytes  int64 // of bodies walked over
}

func (m *mover) settle(res *Result, linked []*entry) error {
	l := m.l
	candidates := linked
	if l.unsettled {
		candidates = l.index.better(l.main.tip())
	}
	l.unsettled = true // until this ends well
	for {
		target, deep := m.choose(candidates)
		l.deep = deep
		if res != nil {
			res.Deep = deep
		}
		if target == nil {
			if l.main.tip().bad {
				return fmt.Errorf("the tip is invalid and the blocks above its invalid ancestor can't all be reverted: %w; sync again from an empty data directory", ErrDeepReorg)
			}
			if err := m.flush(); err != nil {
				return err
			}
			l.unsettled = deep != nil
			l.refetch = l.refetch && deep != nil
			if err := l.arrive(); err != nil {
				return err
			}
			if err := l.pruneUndo(); err != nil {
				return err
			}
			if err := l.pruneBodies(); err != nil {
				return err
			}
			if err := l.writeBehind(false); err != nil {
				return err
			}
			return l.indexHistory()
		}
		bad, err := m.walk(target)
		if err != nil {
			return err
		}
		if m.paused {
			if res != nil {
				res.More = l.over == nil
			}
			return m.pause()
		}
		if bad != nil { // the way to target is closed; whatever was left for it counts again
			if err := l.condemn(res, bad.entry, bad.err); err != nil {
				return err
			}
			candidates = l.index.better(l.main.tip())
		}
	}
}

// choose returns the candidate that is ahead of all others and of the tip, nil if none. Branches that leave the
// chain below the kept undo are passed over; the heaviest of them is returned beside.
func (m *mover) choose(candidates []*entry) (target *entry, deep *DeepReorgError) {
	l := m.l
	tip := l.main.tip()
	tooDeep := map[*entry]bool{}
	for {
		var best *entry
		for _, e := range candidates {
			if l.main.has(e) && uint64(e.height)+1 < l.record.undoFrom {
				continue
			}
			if e.linked && !e.bad && !tooDeep[e] && (tip.bad || e.ahead(tip)) && (best == nil || e.ahead(best)) {
				best = e
			}
		}
		if best == nil {
			return nil, deep
		}
		fork := l.main.fork(best)
		if uint64(fork.height)+1 >= l.record.undoFrom {
			return best, deep
		}
		for e := best; e != fork; e = e.parent {
			tooDeep[e] = true
		}
		if deep == nil {
			deep = &DeepReorgError{ID: best.id, Height: uint64(best.height), Fork: uint64(fork.height), UndoFrom: l.record.undoFrom}
		}
	}
}

// failed is a block that broke a rule.
type failed struct {
	entry *entry
	err   error
}

// walk reverts to the fork and applies along target's branch. On failed the tip stands right below the bad block
// and everything up to it is committed.
func (m *mover) walk(target *entry) (*failed, error) {
	l := m.l
	fork := l.main.fork(target)
	start := time.Now()
	for l.main.tip() != fork {
		if err := l.stepped(); err != nil {
			return nil, err
		}
		if m.stop(l.main.tip()) {
			return nil, nil
		}
		if err := m.revert(); err != nil {
			return nil, err
		}
	}
	lap(&start, &l.times.Revert)
	defer lap(&start, &l.times.Forward)
	way := make([]*entry, 0, int(target.height)-int(fork.height))
	for e := target; e != fork; e = e.parent {
		way = append(way, e)
	}
	for i := len(way) - 1; i >= 0; i-- {
		err := l.stepped()
		if err == nil && m.stop(way[i]) {
			return nil, nil
		}
		if err == nil {
			err = m.apply(way[i])
		}
		var rule *chain.RuleError
		if errors.As(err, &rule) {
			return &failed{way[i], err}, m.flush()
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// stop reports whether the walk is to be left before this block.
func (m *mover) stop(e *entry) bool {
	m.paused = m.more != nil && !m.more() || m.record && m.bytes >= m.l.cfg.maxChange
	m.bytes += int64(e.bodySize)
	return m.paused
}

// block is e's checked block: at hand, or read back from disk.
func (m *mover) block(txn *badger.Txn, e *entry, h *chain.Header) (*chain.CheckedBlock, error) {
	if b := m.known[e.id]; b != nil {
		return b, nil
	}
	body, err := getBody(txn, e)
	if err != nil {
		return nil, err
	}
	b, err := m.l.g.AssumeChecked(chain.Block{Header: *h, Body: body})
	if err != nil {
		return nil, corrupt("the body of block %d (%s) does not decode (%v)", e.height, e.id, err)
	}
	return &b, nil
}

// pruneUndo forgets undo further back than it must be kept. It runs only when fork choice has come to its end: an
// abandoned branch must be left as it was entered.
func (l *Ledger) pruneUndo() error {
	keep := uint64(l.cfg.UndoKeep)
	if l.record.height < l.record.undoFrom+keep+keep/64 || l.over != nil && l.record.undoFrom > l.over.fork { // in steps, not at every block
		return nil
	}
	b, err := l.begin()
	if err != nil {
		return err
	}
	defer func() { b.discard() }()
	r := l.record
	for r.height >= r.undoFrom+keep && (l.over == nil || r.undoFrom <= l.over.fork) {
		prefix := heightKey(keyUndo, r.undoFrom)
		u, err := getUndo(b.txn, r.undoFrom, l.g.BodyLimit)
		if err != nil {
			return err
		}
		n := recordPieces(len(u))
		if !b.fits(int64(n)+1, 256) {
			break // the rest at the next call
		}
		for i := range n {
			if err := b.delete(pieceKey(prefix, i)); err != nil {
				return err
			}
		}
		r.undoFrom++
	}
	if err := b.set(metaTip, r.encode()); err != nil {
		return err
	}
	if err := b.commit(); err != nil {
		return err
	}
	l.record = r
	return nil
}

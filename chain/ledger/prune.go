package ledger

import (
	"context"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"quipu/chain"
)

// ErrPruned is wrapped where bodies are needed that pruning removed.
var ErrPruned = errors.New("old bodies were pruned")

// metaPruned: height u64. Bodies of the best chain are gone up to there; their headers, body marks and transaction
// index stay. None of these blocks can be reverted: undo begins above.
var metaPruned = []byte("mpruned")

// compactAfter is how many bodies Open must have pruned to rewrite the tables at once. What is pruned while a node runs
// leaves the disk as Badger compacts by itself.
const compactAfter = 256

// prunedAt reads up to which height bodies are gone; 0 if none are.
func prunedAt(txn *badger.Txn) (uint64, error) {
	v, err := get(txn, metaPruned)
	if err != nil || v == nil {
		return 0, err
	}
	if len(v) != 8 {
		return 0, corrupt("the record of pruning has %d bytes, want 8", len(v))
	}
	return le.Uint64(v), nil
}

// Pruned is the height up to which bodies of the best chain were pruned, 0 if none were.
func (l *Ledger) Pruned() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.pruned
}

// loadPruned takes from the blocks of the best chain the bodies that are gone.
func (l *Ledger) loadPruned(txn *badger.Txn) (err error) {
	if l.pruned, err = prunedAt(txn); err != nil {
		return err
	}
	if l.pruned >= uint64(len(l.main)) || l.pruned >= l.record.undoFrom {
		return corrupt("bodies are pruned up to height %d, the tip is at %d and undo begins at %d", l.pruned, l.record.height, l.record.undoFrom)
	}
	for _, e := range l.main[1 : l.pruned+1] {
		e.body = false
	}
	for h := l.pruned + 1; l.base != nil && h <= uint64(l.base.height); h++ {
		if !l.main[h].body {
			return corrupt("the body of block %d isn't held", h)
		}
	}
	return nil
}

// isPruned reports a block of the best chain whose body was here and isn't any more. It isn't taken again.
func (l *Ledger) isPruned(e *entry) bool {
	return uint64(e.height) <= l.pruned && l.main.has(e) && e.height > 0
}

// whole refuses what needs every body of the best chain.
func (l *Ledger) whole(what string) error {
	if l.pruned == 0 {
		return nil
	}
	return prunedError(l.pruned, what)
}

func refusePruned(txn *badger.Txn, what string) error {
	height, err := prunedAt(txn)
	if err == nil && height > 0 {
		err = prunedError(height, what)
	}
	return err
}

func prunedError(height uint64, what string) error {
	return fmt.Errorf("%w: this node keeps no bodies of blocks 1 to %d and can't %s; use a node that runs without --prune", ErrPruned, height, what)
}

// pruneBodies removes bodies further back than cfg.Prune, in steps, and with them those of branches that left the
// best chain there and are lighter. It never touches a block that can be reverted.
func (l *Ledger) pruneBodies() error {
	keep := uint64(l.cfg.Prune)
	if keep == 0 || l.base != nil || l.over != nil || l.deep != nil || l.record.height < l.pruned+keep+max(1, keep/64) {
		return nil
	}
	return l.pruneTo(l.pruneGoal())
}

// pruneGoal is the height up to which cfg.Prune lets bodies go now.
func (l *Ledger) pruneGoal() uint64 {
	keep := uint64(l.cfg.Prune)
	if keep == 0 || l.base != nil || l.over != nil || l.deep != nil || l.record.height < keep {
		return l.pruned
	}
	return max(l.pruned, l.prunable(min(l.record.height-keep, l.record.undoFrom-1)))
}

func (l *Ledger) pruneTo(to uint64) error {
	if l.pruned >= to {
		return nil
	}
	p := pruner{l: l, at: l.pruned}
	defer p.close()
	for p.at < to {
		e := l.main[p.at+1]
		for _, side := range l.leftBehind(e) {
			if err := p.drop(side); err != nil {
				return err
			}
		}
		if err := p.drop(e); err != nil {
			return err
		}
		p.at++
	}
	return p.flush()
}

// toPrune lists the blocks whose bodies pruneTo would remove now, true for those off the best chain, and the height up
// to which the best chain would be pruned then.
func (l *Ledger) toPrune() (gone map[chain.BlockID]bool, pruned uint64) {
	gone, pruned = map[chain.BlockID]bool{}, l.pruneGoal()
	for _, e := range l.main[l.pruned+1 : pruned+1] {
		gone[e.id] = false
		for _, side := range l.leftBehind(e) {
			gone[side.id] = true
		}
	}
	return gone, pruned
}

// leftBehind are the blocks with bodies on branches that leave the best chain right below e, but for branches that
// are heavier: such a one can't be followed, and says so only while it is held.
func (l *Ledger) leftBehind(e *entry) (out []*entry) {
	for side := e.parent.child; side != nil; side = side.sibling {
		if side == e {
			continue
		}
		branch, heaviest := side.descendants()
		if heaviest.Gt(&l.tip.Work) {
			continue
		}
		for _, s := range branch {
			if s.body {
				out = append(out, s)
			}
		}
	}
	return out
}

// pruner removes bodies in as many transactions as it takes. Each says how far the best chain is pruned by it.
type pruner struct {
	l    *Ledger
	b    *batch
	at   uint64 // bodies of the best chain are gone up to there, once flushed
	gone []*entry
}

// drop removes the body of one block. That a block of the best chain is gone is for at to say.
func (p *pruner) drop(e *entry) error {
	few := p.l.cfg.pruneStep > 0 && len(p.gone) >= p.l.cfg.pruneStep
	if p.b != nil && (few || !p.b.fits(int64(pieces(int(e.bodySize)))+2, 1024)) {
		if err := p.flush(); err != nil {
			return err
		}
	}
	if p.b == nil {
		b, err := p.l.begin()
		if err != nil {
			return err
		}
		p.b = b
	}
	if err := p.b.deleteBody(e); err != nil {
		return err
	}
	if !p.l.main.has(e) {
		if err := p.b.set(idKey(keySeq, e.id), make([]byte, 8)); err != nil { // 0: not held
			return err
		}
	}
	p.gone = append(p.gone, e)
	return nil
}

func (p *pruner) flush() error {
	if p.b == nil {
		return nil
	}
	if err := p.b.set(metaPruned, le.AppendUint64(nil, p.at)); err != nil {
		return err
	}
	if err := p.b.commit(); err != nil {
		return err
	}
	p.close()
	p.l.pruned = p.at
	for _, e := range p.gone {
		e.body = false
		if !p.l.main.has(e) {
			e.seq = 0
			e.unlink()
		}
	}
	p.gone = nil
	return nil
}

func (p *pruner) close() {
	if p.b != nil {
		p.b.discard()
		p.b = nil
	}
}

func (b *batch) deleteBody(e *entry) error {
	for n := range pieces(int(e.bodySize)) {
		if err := b.delete(pieceKey(idKey(keyBody, e.id), n)); err != nil {
			return err
		}
	}
	return nil
}

// compact rewrites the tables so that what was deleted takes no room. Nobody else may use the ledger. For a while old and
// new tables are both there: *LowSpaceError if there isn't room for that, and nothing was changed.
func (l *Ledger) compact() error {
	if l.cfg.Dir == "" {
		return nil
	}
	free, err := l.cfg.FreeSpace(l.cfg.Dir)
	if err != nil {
		return fmt.Errorf("looking at free space: %w", err)
	}
	if need := l.cfg.needSpace() + diskBytes(l.cfg.Dir); free < need {
		return &LowSpaceError{Dir: l.cfg.Dir, Free: free, Need: need}
	}
	if err := damagedTables(context.Background(), l.cfg.Dir); err != nil {
		return err
	}
	reopen := func(c Config) error {
		if err := l.db.Close(); err != nil { // puts the memtable into a table
			return fmt.Errorf("closing the ledger to compact it: %w", err)
		}
		db, err := openStore(&c, false)
		if err == nil {
			l.db = db
		}
		return err
	}
	few := l.cfg
	few.levelZero = 1 // else Badger leaves a few newest tables as they are
	if err := reopen(few); err != nil {
		return err
	}
	if err := l.db.Flatten(2); err != nil {
		return fmt.Errorf("compacting the ledger: %w", err)
	}
	return reopen(l.cfg)
}

// compactIfRoom is compact where there is room. Where there isn't, the disk shrinks as Badger compacts by itself.
func (l *Ledger) compactIfRoom() error {
	err := l.compact()
	var low *LowSpaceError
	if errors.As(err, &low) {
		if l.cfg.Log != nil {
			l.cfg.Log.Warn("bodies were pruned, and there is no room to compact at once: their room comes back slowly", "free", low.Free, "need", low.Need)
		}
		return nil
	}
	return err
}

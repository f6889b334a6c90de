package ledger

import (
	"context"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
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
	if keep == 0 || l.over != nil || l.deep != nil || l.record.height < l.pruned+keep+max(1, keep/64) {
		return nil
	}
	to := l.prunable(min(l.record.height-keep, l.record.undoFrom-1))
	for l.pruned < to {
		if err := l.pruneSome(to); err != nil {
			return err
		}
	}
	return nil
}

// pruneSome is one transaction of it: bodies go and the record says so at once.
func (l *Ledger) pruneSome(to uint64) error {
	b, err := l.begin()
	if err != nil {
		return err
	}
	defer b.discard()
	var gone []*entry
	at := l.pruned
	for ; at < to && b.fits(1024, 1<<16); at++ {
		e := l.main[at+1]
		if err := b.deleteBody(e); err != nil {
			return err
		}
		gone = append(gone, e)
		for side := e.parent.child; side != nil; side = side.sibling {
			if side == e {
				continue
			}
			branch, heaviest := side.descendants()
			if heaviest.Gt(&l.tip.Work) {
				continue // it can't be followed, and says so only while it is held
			}
			for _, s := range branch {
				if !s.body {
					continue
				}
				if !b.fits(int64(pieces(int(s.bodySize)))+2, 512) { // a long branch: the rest stays
					break
				}
				if err := b.deleteBody(s); err != nil {
					return err
				}
				if err := b.set(idKey(keySeq, s.id), make([]byte, 8)); err != nil { // 0: not held
					return err
				}
				gone = append(gone, s)
			}
		}
	}
	if err := b.set(metaPruned, le.AppendUint64(nil, at)); err != nil {
		return err
	}
	if err := b.commit(); err != nil {
		return err
	}
	l.pruned = at
	for _, e := range gone {
		e.body = false
		if !l.main.has(e) {
			e.seq = 0
			e.unlink()
		}
	}
	return nil
}

func (b *batch) deleteBody(e *entry) error {
	for n := range pieces(int(e.bodySize)) {
		if err := b.delete(pieceKey(idKey(keyBody, e.id), n)); err != nil {
			return err
		}
	}
	return nil
}

// compact rewrites the tables so that what was deleted takes no room. Nobody else may use the ledger.
func (l *Ledger) compact() error {
	if l.cfg.Dir == "" {
		return nil
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

package ledger

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"

	"quipu/chain"
)

// ErrTaken is wrapped where a directory that is to be made is there.
var ErrTaken = errors.New("there is something already")

// Compacted is what Compact did.
type Compacted struct {
	Height, Pruned uint64 // of the tip; bodies up to Pruned aren't there any more
	Before, After  uint64 // bytes on disk
}

// Compact rewrites a stopped node's ledger so that what was deleted takes no room. keep is how many bodies stay,
// counted from the tip: at least cfg.UndoKeep, or 0 for all that are there. With to, a directory that must not exist,
// the result goes there and the ledger in cfg.Dir isn't touched: that works on a full disk. Without, it is made in
// place: old bodies go first, for which little room is enough, then tables are rewritten, for which there must be as
// much as they take; *LowSpaceError otherwise, with the bodies gone and their room not yet free. cfg.Genesis may be
// nil. progress may be nil; it is called with bytes copied and the bytes there are about.
func Compact(ctx context.Context, cfg Config, keep int, to string, progress func(done, total uint64)) (Compacted, error) {
	cfg.Prune, cfg.lean = keep, true
	if err := cfg.writable(); err != nil {
		return Compacted{}, err
	}
	if err := cfg.defaults(); err != nil {
		return Compacted{}, err
	}
	if err := damagedTables(ctx, cfg.Dir); err != nil { // whoever rewrites them loses what stands behind the damage
		return Compacted{}, err
	}
	c := compaction{ctx: ctx, cfg: cfg, to: to, out: Compacted{Before: diskBytes(cfg.Dir)}, progress: progress}
	if progress == nil {
		c.progress = func(uint64, uint64) {}
	}
	err := c.run()
	return c.out, err
}

type compaction struct {
	ctx      context.Context
	cfg      Config
	to       string
	out      Compacted
	progress func(done, total uint64)
}

func (c *compaction) run() error {
	if c.to == "" {
		return c.inPlace()
	}
	if _, err := os.Stat(c.to); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %s was left as it was", ErrTaken, c.to)
	}
	part := filepath.Clean(c.to) + ".part"
	if err := os.RemoveAll(part); err != nil { // of a run that was stopped
		return err
	}
	err := c.copyTo(part)
	if err == nil {
		err = os.Rename(part, c.to)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(part))
	}
	c.out.After = diskBytes(c.to)
	return nil
}

func (c *compaction) inPlace() error {
	l, err := openTool(c.cfg)
	if err != nil {
		return err
	}
	defer l.Close()
	if c.cfg.Prune > 0 {
		if err := l.pruneTo(l.pruneGoal()); err != nil {
			return err
		}
	}
	c.out.Height, c.out.Pruned = l.record.height, l.pruned
	if err := l.compact(); err != nil {
		return err
	}
	if err := l.Close(); err != nil {
		return err
	}
	c.out.After = diskBytes(c.cfg.Dir)
	return nil
}

// copyTo writes a new store with all records but the bodies that go.
func (c *compaction) copyTo(dir string) error {
	l, err := openToLook(c.cfg)
	if err != nil {
		return err
	}
	defer l.Close()
	gone, pruned := l.toPrune()
	c.out.Height, c.out.Pruned = l.record.height, pruned

	cfg := c.cfg
	cfg.Dir, cfg.lean = dir, false
	db, err := openStore(&cfg, true)
	if err != nil {
		return err
	}
	made := &Ledger{cfg: cfg, g: l.g, db: db}
	err = l.db.View(func(txn *badger.Txn) error { return c.copyRecords(txn, made, gone, pruned) })
	if err == nil {
		err = made.compact()
	}
	if err = errors.Join(err, made.db.Close()); err != nil {
		return err
	}
	cfg.Genesis, cfg.Prune = nil, 0
	look, err := LookInto(cfg) // with the state root
	if err == nil && look.Tip.ID != l.record.id {
		err = corrupt("the copy in %s ends at block %s", dir, look.Tip.ID)
	}
	return err
}

func (c *compaction) copyRecords(txn *badger.Txn, made *Ledger, gone map[chain.BlockID]bool, pruned uint64) error {
	w := spill{l: made}
	defer w.close()
	it := txn.NewIterator(badger.IteratorOptions{PrefetchValues: true, PrefetchSize: 64})
	defer it.Close()
	done, n := uint64(0), 0
	for it.Rewind(); it.Valid(); it.Next() {
		item := it.Item()
		k := item.KeyCopy(nil)
		if n++; n%1024 == 0 {
			if err := c.ctx.Err(); err != nil {
				return err
			}
			c.progress(min(done, c.out.Before), c.out.Before)
		}
		var of chain.BlockID
		if len(k) > 32 {
			of = chain.BlockID(k[1:33])
		}
		side, drop := gone[of]
		if drop && k[0] == keyBody {
			continue
		}
		v, err := item.ValueCopy(nil)
		if err != nil {
			return fmt.Errorf("reading the ledger: %w", err)
		}
		if done += uint64(len(k) + len(v)); drop && side && k[0] == keySeq {
			v = make([]byte, 8) // 0: not held
		}
		if err := w.set(k, v); err != nil {
			return err
		}
	}
	if pruned > 0 {
		if err := w.set(metaPruned, le.AppendUint64(nil, pruned)); err != nil {
			return err
		}
	}
	return w.flush()
}

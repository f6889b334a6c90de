package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/dgraph-io/badger/v4"

	"quipu/chain"
)

// ErrRollback is wrapped by every refusal to roll back. Nothing was changed then.
var ErrRollback = errors.New("can't roll back")

// localMark begins the reason of a block that breaks no rule and that this node doesn't follow all the same, because
// its operator said so.
const localMark = "not followed here: "

// RolledBack is what Rollback did.
type RolledBack struct {
	From, To uint64        // height of the tip before and after
	Tip      chain.BlockID // after
	Refused  chain.BlockID // the block that was at To + 1, if it is never to be followed again; else zero
}

// Rollback reverts a stopped node's chain to a height, by undo. Bodies and headers stay: the next Open applies the
// heaviest branch again. With refuse, the block at height + 1 is marked first, so that Open goes on along another
// branch or waits for one; Reconsider takes the mark back. cfg.Genesis may be nil. progress may be nil.
//
// An error that wraps ErrRollback says why it can't be done: the tip isn't above that height, or undo of the blocks
// above isn't kept any more. When ctx ends, the chain stands at some height in between; running it again goes on.
func Rollback(ctx context.Context, cfg Config, height uint64, refuse bool, progress func(done, total uint64)) (RolledBack, error) {
	l, err := openTool(cfg)
	if err != nil {
		return RolledBack{}, err
	}
	defer l.Close()
	out := RolledBack{From: l.record.height, To: l.record.height, Tip: l.record.id}
	switch {
	case height >= l.record.height:
		return out, fmt.Errorf("%w to height %d: the tip is at height %d", ErrRollback, height, l.record.height)
	case height+1 < l.record.undoFrom:
		return out, fmt.Errorf("%w to height %d: undo is kept of blocks %d to %d, so %d is the lowest height; to go lower, sync again from an empty data directory",
			ErrRollback, height, l.record.undoFrom, l.record.height, l.record.undoFrom-1)
	}
	if refuse {
		e := l.main[height+1]
		if err := l.condemn(nil, e, errors.New(localMark+"the operator rolled it back")); err != nil {
			return out, err
		}
		out.Refused = e.id
	}
	m := mover{l: l}
	for err == nil && l.record.height > height {
		if err = ctx.Err(); err != nil {
			break
		}
		if err = m.revert(); err == nil && progress != nil {
			progress(out.From-l.record.height, out.From-height)
		}
	}
	if l.broken == nil {
		err = errors.Join(err, m.flush())
	}
	out.To, out.Tip = l.record.height, l.record.id
	return out, err
}

// Reconsider takes back the mark of a block that was found invalid or refused in a stopped node's ledger, and returns
// the mark's text. The next Open judges the block anew. An error that wraps ErrNoMark says that the block isn't known or
// has no mark of its own.
func Reconsider(cfg Config, id chain.BlockID) (why string, err error) {
	l, err := openTool(cfg)
	if err != nil {
		return "", err
	}
	defer l.Close()
	why, marked := l.index.why[id]
	if !marked {
		e := l.index.byID[id]
		switch {
		case e == nil:
			return "", fmt.Errorf("%w: %s isn't stored", ErrNoMark, id)
		case e.bad:
			return "", fmt.Errorf("%w: block %s is fine but %s", ErrNoMark, id, l.index.reason(e))
		}
		return "", fmt.Errorf("%w: block %d (%s) was never marked", ErrNoMark, e.height, id)
	}
	b, err := l.begin()
	if err != nil {
		return why, err
	}
	defer b.discard()
	if err := b.delete(idKey(keyInvalid, id)); err != nil {
		return why, err
	}
	return why, b.commit()
}

// ErrNoMark is wrapped when there is nothing to reconsider.
var ErrNoMark = errors.New("there is no mark to take back")

// refused reports whether e is bad by this node's choice: no rule was broken, as far as is known.
func (x *index) refused(e *entry) bool {
	for a := e; a != nil; a = a.parent {
		if why, ok := x.why[a.id]; ok {
			return strings.HasPrefix(why, localMark)
		}
	}
	return false
}

// openTool opens a stopped node's ledger to change it: without fork choice, with the accounts.
func openTool(cfg Config) (*Ledger, error) {
	if err := cfg.writable(); err != nil {
		return nil, err
	}
	l, err := openStopped(cfg)
	if err != nil {
		return nil, err
	}
	if err = l.db.View(l.loadAccounts); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// writable fills in the stored genesis, which says how large a memtable writing takes.
func (c *Config) writable() error {
	if c.Genesis != nil {
		return nil
	}
	probe := *c
	if err := probe.defaults(); err != nil {
		return err
	}
	db, err := openStore(&probe, false)
	if err != nil {
		return err
	}
	defer db.Close()
	return db.View(func(txn *badger.Txn) (err error) {
		c.Genesis, err = storedGenesis(txn, c.Dir)
		return err
	})
}

// storedGenesis reads schema and genesis of a store that has both.
func storedGenesis(txn *badger.Txn, dir string) (*chain.Genesis, error) {
	version, err := get(txn, metaSchema)
	if err != nil {
		return nil, err
	}
	if version == nil {
		return nil, fmt.Errorf("%w: %s holds no network", ErrNoLedger, dir)
	}
	if err := checkSchema(version, dir); err != nil && !errors.Is(err, ErrOlderSchema) { // genesis was always stored so
		return nil, err
	}
	canonical, err := getRecord(txn, metaGenesis, maxGenesis)
	if err == errIncomplete {
		return nil, corrupt("the stored genesis is missing")
	}
	if err != nil {
		return nil, err
	}
	g, err := chain.DecodeGenesis(canonical)
	if err != nil {
		return nil, corrupt("the stored genesis does not decode (%v)", err)
	}
	return g, nil
}

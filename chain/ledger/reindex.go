package ledger

import (
	"context"
	"errors"

	"github.com/dgraph-io/badger/v4"

	"quipu/chain"
)

// metaReindex is there while derived records are being dropped: what is stored is no ledger until they are.
var metaReindex = []byte("mreindex")

// derived are the kinds of record that replaying bodies gives.
var derived = []byte{keyMain, keyUndo, keyPage, 'a', keyTx, keyJournal, keyHistory, keyBatch} // 'a': accounts in schema 1 and 2

// Reindexed is what Reindex did.
type Reindexed struct {
	Headers, Bodies uint64 // found whole
	Forgotten       uint64 // bodies that aren't what their headers commit to: the node fetches them again
	Height          uint64 // of the tip after
	Tip             chain.BlockID
}

// Reindex rebuilds what a stopped node's ledger derives from headers and bodies: the best chain, its transaction
// index, undo, accounts and tip. It first holds every header against its parent and every body against its header;
// a header that isn't whole is an error that wraps ErrCorrupt, and nothing was changed. Then it drops what is derived
// and applies the heaviest chain anew, with every rule but signatures. Blocks marked invalid stay so. cfg.Genesis may
// be nil. progress may be nil; stage is "checking" "applying" or "indexing".
//
// When ctx ends in between, Open or Reindex goes on; if it ended while records were dropped, only Reindex does.
func Reindex(ctx context.Context, cfg Config, progress func(stage string, done, total uint64)) (Reindexed, error) {
	if progress == nil {
		progress = func(string, uint64, uint64) {}
	}
	r := reindex{ctx: ctx, cfg: cfg, progress: progress}
	if err := r.cfg.writable(); err != nil {
		return r.out, err
	}
	if err := r.cfg.defaults(); err != nil {
		return r.out, err
	}
	if err := damagedTables(ctx, cfg.Dir); err != nil { // dropping records would lose others
		return r.out, err
	}
	if err := r.drop(); err != nil {
		return r.out, err
	}
	return r.out, r.replay()
}

type reindex struct {
	ctx      context.Context
	cfg      Config
	progress func(stage string, done, total uint64)
	out      Reindexed
	goal     chain.BlockID // the tip before, if it can be read
}

// drop checks headers and bodies and leaves a ledger of them that stands at block 0.
func (r *reindex) drop() error {
	db, err := openStore(&r.cfg, false)
	if err != nil {
		return err
	}
	defer db.Close()
	l := &Ledger{cfg: r.cfg, g: r.cfg.Genesis, db: db, index: newIndex()}
	var damaged []*entry
	err = db.View(func(txn *badger.Txn) error {
		if err := refusePruned(txn, "rebuild its records from bodies"); err != nil {
			return err
		}
		if err := l.loadHeaders(txn); err != nil {
			return err
		}
		if err := l.loadMarks(txn); err != nil {
			return err
		}
		if v, err := get(txn, metaTip); err == nil && len(v) >= 32 {
			r.goal = chain.BlockID(v)
		}
		if v, err := get(txn, metaHistory); err == nil && v != nil {
			r.cfg.History = true // there was one: it is made anew
		}
		damaged, err = r.check(txn, l)
		return err
	})
	if err != nil {
		return err
	}
	w := spill{l: l}
	defer w.close()
	if err := w.set(metaReindex, []byte{1}); err != nil {
		return err
	}
	for _, e := range damaged {
		if err := w.set(idKey(keySeq, e.id), make([]byte, 8)); err != nil {
			return err
		}
	}
	if err := w.flush(); err != nil {
		return err
	}
	return l.toBlock0([2][]byte{metaReindex, {1}}, [2][]byte{metaReindex, {0}})
}

// check holds headers against their parents and bodies against their headers. It returns the blocks whose bodies
// aren't whole.
func (r *reindex) check(txn *badger.Txn, l *Ledger) (damaged []*entry, err error) {
	all := make([]*entry, 0, len(l.index.byID))
	for _, e := range l.index.byID {
		all = append(all, e)
	}
	sortByHeight(all)
	for i, e := range all {
		if err := r.ctx.Err(); err != nil {
			return nil, err
		}
		if e.parent == nil {
			r.out.Headers++
			continue
		}
		parent, err := l.mustState(txn, e.parent)
		if err != nil {
			return nil, err
		}
		kept, err := l.mustState(txn, e)
		if err != nil {
			return nil, err
		}
		if err := l.sameHeader(&parent, &kept, e); err != nil {
			return nil, err
		}
		r.out.Headers++
		if e.body {
			body, err := getBody(txn, e)
			if err == nil {
				err = chain.CheckBody(&kept.Header, body)
			}
			var rule *chain.RuleError
			switch {
			case err == nil:
				r.out.Bodies++
			case errors.Is(err, ErrCorrupt), errors.As(err, &rule):
				damaged = append(damaged, e)
				r.out.Forgotten++
			default:
				return nil, err
			}
		}
		r.progress("checking", uint64(i+1), uint64(len(all)))
	}
	return damaged, nil
}

// sameHeader holds a stored header against the one before it.
func (l *Ledger) sameHeader(parent, kept *chain.State, e *entry) error {
	s, err := l.g.CheckHeader(parent, &kept.Header)
	if err != nil {
		return corrupt("header %d (%s) breaks a rule (%v)", e.height, e.id, err)
	}
	if !sameState(&s, kept) || s.ID != e.id {
		return corrupt("the record of header %d (%s) doesn't hold what the headers before it give", e.height, e.id)
	}
	return nil
}

// nextJournal is a sequence number that no value of the journal ever had.
func nextJournal(db *badger.DB) (next uint64, err error) {
	err = db.View(func(txn *badger.Txn) error {
		if v, err := get(txn, metaJournal); err != nil {
			return err
		} else if len(v) == 8 {
			next = le.Uint64(v)
		}
		return each(txn, keyJournal, func(k, _ []byte) error {
			if len(k) == 10 {
				next = max(next, be.Uint64(k)+1)
			}
			return nil
		})
	})
	return next, err
}

// replayStep is how many blocks are applied between looks at the undo that need not be kept.
const replayStep = 1024

// replay opens the ledger at block 0 and applies the chain that the last tip ended, or else the heaviest, in steps;
// then fork choice has the word.
func (r *reindex) replay() error {
	l, err := open(r.cfg, true)
	if err != nil {
		return err
	}
	defer l.Close()
	l.unsettled = true
	goal := l.index.byID[r.goal]
	if goal == nil || !goal.linked || goal.bad {
		goal = l.main.tip()
		for _, e := range l.index.better(goal) {
			if e.ahead(goal) {
				goal = e
			}
		}
	}
	total := uint64(goal.height)
	l.step = func() error {
		r.progress("applying", l.record.height, max(total, l.record.height))
		return r.ctx.Err()
	}
	err = l.replayTo(goal)
	if err == nil {
		err = l.settle(nil, nil, nil)
	}
	if err == nil {
		err = l.finishHistory(r.ctx, r.progress)
	}
	r.out.Height, r.out.Tip = l.record.height, l.record.id
	if err == nil {
		r.progress("applying", r.out.Height, r.out.Height)
	}
	return err
}

func (l *Ledger) stepped() error {
	if l.step == nil {
		return nil
	}
	return l.step()
}

// replayTo applies the blocks up to goal, and ends early at one that breaks a rule: settle will see to it.
func (l *Ledger) replayTo(goal *entry) error {
	way := path{l.main[0]}.to(goal)
	for l.main.tip() != goal {
		m := mover{l: l}
		next := way[min(len(way)-1, int(l.record.height)+replayStep)]
		bad, err := m.walk(next)
		if l.broken == nil {
			err = errors.Join(err, m.flush())
		}
		if err != nil || bad != nil {
			return err
		}
		if err := l.pruneUndo(); err != nil {
			return err
		}
		if err := l.writeBehind(false); err != nil {
			return err
		}
	}
	return nil
}

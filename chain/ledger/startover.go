package ledger

import (
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"quipu/chain"
)

// A branch that is heavier and leaves the chain below the kept undo can't be reached by reverting. It is reached by
// starting over: what is derived from bodies is dropped, the chain stands at block 0, and steps apply the heaviest
// branch again, without signatures, since only checked bodies are stored. Headers, bodies and marks stay. Undo is kept
// from the fork on until the end, so that a branch that turns out invalid is left again for the one that was left for
// it: nothing is lost but time. Between steps readers see a valid, shorter chain. A crash goes on where it was.

// startOver is what is remembered of one that goes on.
type startOver struct {
	old   *entry      // the tip that was left
	state chain.State // of old: what came with so much less work isn't worth keeping
	goal  *entry      // the branch that is followed, as it ended then
	fork  uint64      // where it leaves old's: undo is kept above
}

// metaStartOver: stage u8 | old 32 | goal 32 | fork u64. Stage 1: records are being dropped; 2: blocks are applied.
// Empty when there is none.
var metaStartOver = []byte("mstartover")

const (
	stageDropping   = 1
	stageApplying   = 2
	stageForgetting = 3 // records are being dropped, to apply the chain as any other: see forgetBase
)

func startOverRecord(stage byte, old, goal chain.BlockID, fork uint64) []byte {
	b := append([]byte{stage}, old[:]...)
	return le.AppendUint64(append(b, goal[:]...), fork)
}

// Rebuilding is how far a start from block 0 has come.
type Rebuilding struct {
	Height, Goal uint64        // of the tip and of the branch's end
	GoalID       chain.BlockID // its end
	OldID        chain.BlockID // the tip that was left
	Fork         uint64        // where they part
}

// Deep is the heavier complete branch that undo doesn't reach, nil if there is none. StartOver leads to it.
func (l *Ledger) Deep() *DeepReorgError {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.deep
}

// Rebuilding tells of a start from block 0 that goes on: nil if none does. It goes on by Step alone.
func (l *Ledger) Rebuilding() *Rebuilding {
	l.mu.RLock()
	defer l.mu.RUnlock()
	o := l.over
	if o == nil {
		return nil
	}
	return &Rebuilding{
		Height: l.record.height, Goal: max(uint64(o.goal.height), l.record.height), GoalID: o.goal.id, OldID: o.old.id, Fork: o.fork,
	}
}

// MissingBodiesError says that bodies of the chain followed now were pruned and are needed to start over. Wanted lists
// them from then on, and Add takes them.
type MissingBodiesError struct{ Bodies uint64 }

func (e *MissingBodiesError) Error() string {
	return fmt.Sprintf("%d pruned bodies are fetched again before the chain can be applied from block 0", e.Bodies)
}

// StartOver puts the chain back to block 0 because of a branch that Deep names; nothing happens if there is none or it
// has been done. Then Step is to be called until it is done; until then Add and MarkInvalid don't move the tip, and
// Change of their results is empty. *MissingBodiesError: nothing was changed, and Add has to be given the pruned bodies
// first. Any other error is ours; after one the ledger is to be closed, and Open goes on.
func (l *Ledger) StartOver() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return l.broken
	}
	if l.over != nil || l.deep == nil {
		return nil
	}
	goal := l.index.byID[l.deep.ID]
	if goal == nil || goal.bad || !goal.linked {
		return nil
	}
	if l.pruned > 0 {
		l.refetch = true
		return &MissingBodiesError{l.pruned}
	}
	o := &startOver{old: l.main.tip(), state: l.tip, goal: goal, fork: uint64(l.main.fork(goal).height)}
	if err := l.toBlock0(
		[2][]byte{metaStartOver, startOverRecord(stageDropping, o.old.id, goal.id, o.fork)},
		[2][]byte{metaStartOver, startOverRecord(stageApplying, o.old.id, goal.id, o.fork)},
	); err != nil {
		return l.fatal(err)
	}
	l.over, l.deep, l.unsettled = o, nil, true
	if err := l.standAtBlock0(); err != nil {
		return l.fatal(err)
	}
	return l.chooseHeader()
}

// fatal makes an error final: memory isn't what is on disk.
func (l *Ledger) fatal(err error) error {
	if l.broken == nil {
		l.broken = err
	}
	return err
}

// Step goes on after StartOver, or after an Open that found one interrupted, for as long as more says so: it is asked
// before each block. Done means that the tip is the heaviest valid chain's and the ledger an ordinary one again. The
// Result has no Change.
func (l *Ledger) Step(more func() bool) (res Result, done bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return res, false, l.broken
	}
	if l.over == nil {
		return res, true, nil
	}
	m := mover{l: l, more: more}
	err = m.run(&res, nil)
	return res, l.over == nil, err
}

// pause leaves a walk: everything is committed, and undo stays as far back as it may be needed.
func (m *mover) pause() error {
	l := m.l
	if err := m.flush(); err != nil {
		return err
	}
	if l.over != nil {
		if err := l.pruneUndo(); err != nil {
			return err
		}
	}
	if err := l.writeBehind(false); err != nil {
		return err
	}
	return l.indexHistory()
}

// arrive ends a start from block 0: fork choice has come to its end.
func (l *Ledger) arrive() error {
	if l.over == nil {
		return nil
	}
	b, err := l.begin()
	if err != nil {
		return err
	}
	defer b.discard()
	if err := b.set(metaStartOver, nil); err != nil {
		return err
	}
	if err := b.commit(); err != nil {
		return err
	}
	l.over = nil
	return nil
}

// Branch names the newest blocks of the branch that ends in tip, down to a height not included, that aren't on the best
// chain and whose bodies are held: at most so many bytes of bodies, ascending. It is what a start from block 0 left.
func (l *Ledger) Branch(tip chain.BlockID, above uint64, bytes int64) (ids []chain.BlockID) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for e := l.index.byID[tip]; e != nil && uint64(e.height) > above && !l.main.has(e) && e.body; e = e.parent {
		if bytes -= int64(e.bodySize); bytes < 0 {
			break
		}
		ids = append(ids, e.id)
	}
	slices.Reverse(ids)
	return ids
}

// Blocks reads blocks that were checked when they came. Those that aren't held are left out.
func (l *Ledger) Blocks(ids []chain.BlockID) (out []chain.CheckedBlock, err error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if err := l.usable(); err != nil {
		return nil, err
	}
	m := mover{l: l}
	for _, id := range ids {
		e := l.index.byID[id]
		if e == nil || !e.body || e.parent == nil {
			continue
		}
		_, b, err := m.read(e)
		if err != nil {
			return out, err
		}
		out = append(out, *b)
	}
	return out, nil
}

// toBlock0 drops all records that replaying bodies gives, and stores block 0 as tip. before is stored first, after
// together with the tip; in between what is stored is no ledger, and it is to be called again.
func (l *Ledger) toBlock0(before, after [2][]byte) error {
	next, err := nextJournal(l.db)
	if err != nil {
		return err
	}
	w := spill{l: l}
	defer w.close()
	if err := w.set(before[0], before[1]); err != nil {
		return err
	}
	if err := w.flush(); err != nil {
		return err
	}
	l.drops.Add(1)
	for _, kind := range derived {
		if err := l.db.DropPrefix([]byte{kind}); err != nil {
			return fmt.Errorf("dropping records: %w", err)
		}
	}
	if l.cfg.afterCommit != nil {
		l.cfg.afterCommit()
	}
	s, t := l.g.State(), l.tipAt0()
	for _, kv := range [][2][]byte{
		{metaSchema, le.AppendUint32(nil, schema)}, {metaJournal, le.AppendUint64(nil, next)}, {metaStartOver, nil}, {metaBase, nil}, {metaPruned, le.AppendUint64(nil, 0)},
		{heightKey(keyMain, 0), s.ID[:]}, {metaTip, t.encode()}, after, // these few fit any transaction
	} {
		if err := w.set(kv[0], kv[1]); err != nil {
			return err
		}
	}
	if err := l.restartHistory(w.set); err != nil {
		return err
	}
	return w.flush()
}

// standAtBlock0 brings memory to what toBlock0 stored.
func (l *Ledger) standAtBlock0() error {
	l.main, l.base = l.main[:1], nil
	l.record = l.tipAt0()
	l.tip = l.g.State()
	l.behind = behind{}
	l.unpin() // its pages were dropped
	return l.db.View(func(txn *badger.Txn) error {
		if err := l.loadHistory(txn); err != nil {
			return err
		}
		return l.loadAccounts(txn)
	})
}

// resumeDrop goes on with dropping records if a start from block 0 was interrupted in it.
func (l *Ledger) resumeDrop() error {
	var v []byte
	err := l.db.View(func(txn *badger.Txn) (err error) {
		v, err = get(txn, metaStartOver)
		return err
	})
	if err == nil && len(v) > 0 && v[0] == stageForgetting {
		return l.toBlock0([2][]byte{metaStartOver, v}, [2][]byte{metaStartOver, nil})
	}
	if err != nil || len(v) == 0 || v[0] != stageDropping {
		return err
	}
	after := append([]byte{stageApplying}, v[1:]...)
	return l.toBlock0([2][]byte{metaStartOver, v}, [2][]byte{metaStartOver, after})
}

// loadStartOver notes one that was interrupted. Headers and tip are loaded.
func (l *Ledger) loadStartOver(txn *badger.Txn) error {
	v, err := get(txn, metaStartOver)
	if err != nil || len(v) == 0 {
		return err
	}
	if len(v) == 1 && v[0] == stageForgetting {
		return corrupt("leaving the snapshot it began with was interrupted: start the node, which goes on")
	}
	if len(v) != 73 || v[0] != stageDropping && v[0] != stageApplying {
		return corrupt("the record of a start from block 0 has %d bytes", len(v))
	}
	if v[0] == stageDropping {
		return corrupt("applying its chain from block 0 was interrupted at its beginning: start the node, which goes on")
	}
	o := &startOver{old: l.index.byID[chain.BlockID(v[1:])], goal: l.index.byID[chain.BlockID(v[33:])], fork: le.Uint64(v[65:])}
	if o.old == nil || o.goal == nil {
		return corrupt("the record of a start from block 0 names blocks that aren't stored")
	}
	o.state, err = l.mustState(txn, o.old)
	l.over = o
	return err
}

// reference is what other branches are held against: the tip, or while the chain is applied anew the one that was left.
func (l *Ledger) reference() (*entry, *chain.State) {
	if tip := l.main.tip(); l.over == nil || tip.work.Gt(&l.over.old.work) || l.over.old.bad {
		return tip, &l.tip
	}
	return l.over.old, &l.over.state
}

// refetched notes pruned bodies that came back. They count from the newest down: what lies below pruned is gone.
func (l *Ledger) refetched() error {
	at := l.pruned
	for at > 0 && l.main[at].body {
		at--
	}
	if at == l.pruned {
		return nil
	}
	b, err := l.begin()
	if err != nil {
		return err
	}
	defer b.discard()
	if err := b.set(metaPruned, le.AppendUint64(nil, at)); err != nil {
		return err
	}
	if err := b.commit(); err != nil {
		return err
	}
	l.pruned = at
	return nil
}

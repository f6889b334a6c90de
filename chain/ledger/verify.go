package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"quipu/chain"
	"quipu/chain/statetree"
)

// Report is what Verify replayed.
type Report struct {
	Network        chain.NetworkID
	Height         uint64
	Tip            chain.BlockID
	Work           chain.Work
	StateRoot      chain.Hash
	Txs            uint64
	Signatures     uint64 // verified
	BodyBytes      uint64
	Accounts       uint64
	Issued, Burned uint64 // knots; Σ balances = genesis + issued − burned
	UndoFrom       uint64 // undo of heights from here to the tip was compared
	From           uint64 // first block replayed: 1, or the one asked for where undo leads to the state before it
	Damaged        string // tables with damaged blocks, "" if none or not looked for
}

// Verify replays a stopped node's validated chain and compares everything stored with it: every header rule and root,
// every transaction and signature, Σ balances = genesis + issued − burned after every block, then accounts, tip, supply,
// transaction index and undo, then the checksum of every block of the store's tables. cfg.Genesis may be nil. Nothing of
// ours is written. progress may be nil.
//
// With from above 1, signatures below height from are taken as verified. Where undo of that block and all above is
// kept, more is: the accounts after block from − 1 are what undo leads to from the stored ones, provided that their root
// is that block's state root and that they add up, and the blocks up to there aren't replayed; their headers are checked
// all the same. Else all is replayed from genesis. Report says which.
//
// An error that wraps ErrCorrupt names the first thing that differs; one that wraps ErrPruned says from which height on
// there are bodies and undo to do it.
func Verify(ctx context.Context, cfg Config, from uint64, progress func(done, total uint64)) (Report, error) {
	l, err := openToLook(cfg)
	if err != nil {
		return Report{}, err
	}
	defer l.Close()
	v := newReplay(l, from)
	err = v.run(ctx, progress)
	r := v.report()
	if err == nil || errors.Is(err, ErrCorrupt) {
		damaged := damagedTables(ctx, cfg.Dir)
		if d := (*DamagedTablesError)(nil); errors.As(damaged, &d) {
			r.Damaged = d.What
		}
		if err == nil {
			err = damaged
		}
	}
	return r, err
}

func (v *replay) run(ctx context.Context, progress func(done, total uint64)) error {
	l := v.l
	switch {
	case v.from > 1 && v.from >= l.record.undoFrom && v.from <= l.record.height:
		if err := l.db.View(func(txn *badger.Txn) error { return v.startBefore(ctx, txn, v.from) }); err != nil {
			return err
		}
	case l.pruned > 0:
		return fmt.Errorf("%w: this node keeps no bodies of blocks 1 to %d and can't replay them; quipu chain verify --from %d replays the blocks from there on",
			ErrPruned, l.pruned, max(l.record.undoFrom, l.pruned+1))
	}
	total := uint64(len(l.main) - 1)
	for v.state.Header.Height < total {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := l.db.View(v.next); err != nil {
			return err
		}
		if progress != nil {
			progress(v.state.Header.Height, total)
		}
	}
	return l.db.View(v.compare)
}

// openStopped opens without fork choice and without the accounts in memory.
func openStopped(cfg Config) (*Ledger, error) {
	if err := cfg.defaults(); err != nil {
		return nil, err
	}
	return open(cfg, false)
}

// openToLook is openStopped for tools that write nothing: it works on a full disk too, unless a crash is to be mended.
func openToLook(cfg Config) (*Ledger, error) {
	cfg.readOnly = true
	l, err := openStopped(cfg)
	if err == nil {
		l.broken = errReadOnly
	}
	return l, err
}

var errReadOnly = errors.New("the ledger was opened to look only")

type replay struct {
	l      *Ledger
	g      *chain.Genesis
	from   uint64 // signatures from there on
	start  uint64 // first block replayed
	full   *chain.Checker
	trust  *chain.Checker // of blocks below from
	state  chain.State
	tree   *statetree.Tree
	sum    uint64 // Σ balances
	record tipRecord
	txs    uint64
	sigs   uint64
	bytes  uint64
}

func newReplay(l *Ledger, from uint64) *replay {
	v := &replay{
		l: l, g: l.g, from: from, start: 1, state: l.g.State(), tree: statetree.New(), sum: l.g.Supply(),
		full: l.g.NewChecker(verifyKeys, nil), trust: l.g.NewChecker(0, func(chain.LeafHash) bool { return true }),
	}
	changes := make([]statetree.Change, len(l.g.Balances))
	for i, b := range l.g.Balances {
		changes[i].Leaf = statetree.Leaf{Account: b.Account, Balance: b.Balance}
	}
	v.tree.Update(changes)
	v.record = l.tipAt0()
	v.record.undoFrom = l.record.undoFrom
	return v
}

// verifyKeys is how many senders' keys are remembered from one batch to the next, 64 bytes each.
const verifyKeys = 1 << 18

// startBefore puts the replay to where block from is next, by undo.
func (v *replay) startBefore(ctx context.Context, txn *badger.Txn, from uint64) error {
	l := v.l
	for v.state.Header.Height+1 < from {
		s, err := v.header(txn, l.main[v.state.Header.Height+1])
		if err != nil {
			return err
		}
		if v.state = s; s.Header.Height%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if err := v.loadStored(txn); err != nil {
		return err
	}
	r := &v.record
	for *r = l.record; r.height >= from; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := v.takeBack(txn, l.main[r.height]); err != nil {
			return err
		}
	}
	if want := v.g.Supply() + r.issued - r.burned; v.sum != want {
		return corrupt("at block %d the balances sum to %d knots, genesis + issued − burned is %d", r.height, v.sum, want)
	}
	v.start = from
	return nil
}

// loadStored takes the accounts as they are stored.
func (v *replay) loadStored(txn *badger.Txn) error {
	l := v.l
	v.tree, v.sum = statetree.New(), 0
	stored, _, err := l.openTree(txn, l.readPage(txn), l.cfg.StateMemory)
	if err != nil {
		return err
	}
	var changes []statetree.Change
	err = stored.Walk(func(leaf *statetree.Leaf) error {
		v.sum += leaf.Balance
		if changes = append(changes, statetree.Change{Leaf: *leaf}); len(changes) == 1<<14 {
			v.tree.Update(changes)
			changes = changes[:0]
		}
		return nil
	})
	if err != nil {
		return damagedPage(err)
	}
	v.tree.Update(changes)
	if root := chain.Hash(v.tree.Root()); root != l.tip.Header.StateRoot {
		return corrupt("the accounts give state root %s and block %d says %s", root, l.record.height, l.tip.Header.StateRoot)
	}
	return nil
}

// takeBack undoes one block.
func (v *replay) takeBack(txn *badger.Txn, e *entry) error {
	m, r := mover{l: v.l}, &v.record
	undo, _, err := m.undo(e)
	if err != nil {
		return err
	}
	changes := make([]statetree.Change, len(undo.before))
	for i, b := range undo.before {
		leaf, _ := v.tree.Get(b.account)
		v.sum += b.state.Balance - leaf.Balance
		changes[i].Leaf = statetree.Leaf{Account: b.account, Balance: b.state.Balance, Nonce: b.state.Nonce}
		if changes[i].Delete = !b.existed; changes[i].Delete {
			r.accounts--
		}
	}
	before, err := v.l.mustState(txn, e.parent)
	if err != nil {
		return err
	}
	if root := chain.Hash(v.tree.Update(changes)); root != before.Header.StateRoot {
		return corrupt("the undo of block %d (%s) doesn't lead to the state root of its parent", e.height, e.id)
	}
	r.id, r.height = e.parent.id, uint64(e.parent.height)
	r.issued -= undo.issued
	r.burned -= undo.burned
	return nil
}

func (v *replay) report() Report {
	return Report{
		Network: v.g.NetworkID(), Height: v.record.height, Tip: v.record.id, Work: v.state.Work, StateRoot: v.state.Header.StateRoot,
		Txs: v.txs, Signatures: v.sigs, BodyBytes: v.bytes, Accounts: uint64(v.tree.Len()),
		Issued: v.record.issued, Burned: v.record.burned, UndoFrom: v.record.undoFrom, From: v.start,
	}
}

// next replays some blocks: signature batches cross block borders.
func (v *replay) next(txn *badger.Txn) error {
	var blocks []chain.Block
	var states []chain.State
	for size := 0; len(blocks) < 256 && size < 4<<20 && int(v.state.Header.Height)+1 < len(v.l.main); {
		e := v.l.main[v.state.Header.Height+1]
		s, b, err := v.stored(txn, e)
		if err != nil {
			return err
		}
		size += len(b.Body)
		blocks, states, v.state = append(blocks, b), append(states, s), s
	}
	split := 0
	for split < len(blocks) && blocks[split].Header.Height < v.from {
		split++
	}
	cores := runtime.GOMAXPROCS(0)
	checked, errs := v.trust.Blocks(cores, blocks[:split])
	more, moreErrs := v.full.Blocks(cores, blocks[split:])
	for i := range more {
		v.sigs += uint64(len(more[i].Txs()))
	}
	checked, errs = append(checked, more...), append(errs, moreErrs...)
	for i := range checked {
		if errs[i] != nil {
			return corrupt("block %d (%s) breaks a rule (%v)", states[i].Header.Height, states[i].ID, errs[i])
		}
		if err := v.apply(txn, &checked[i]); err != nil {
			return err
		}
	}
	return nil
}

// stored reads a block by the main index and checks its header against the one before.
func (v *replay) stored(txn *badger.Txn, e *entry) (s chain.State, b chain.Block, err error) {
	if s, err = v.header(txn, e); err != nil {
		return s, b, err
	}
	b.Header = s.Header
	b.Body, err = getBody(txn, e)
	return s, b, err
}

func (v *replay) header(txn *badger.Txn, e *entry) (s chain.State, err error) {
	id, err := get(txn, heightKey(keyMain, uint64(e.height)))
	if err != nil {
		return s, err
	}
	if !bytes.Equal(id, e.id[:]) {
		return s, corrupt("the main index doesn't name block %d (%s)", e.height, e.id)
	}
	kept, err := v.l.mustState(txn, e)
	if err != nil {
		return s, err
	}
	if s, err = v.g.CheckHeader(&v.state, &kept.Header); err != nil {
		return s, corrupt("header %d (%s) breaks a rule (%v)", e.height, e.id, err)
	}
	if s.ID != e.id || !sameState(&s, &kept) {
		return s, corrupt("the record of header %d (%s) doesn't hold what the headers before it give", e.height, e.id)
	}
	return s, nil
}

func sameState(a, b *chain.State) bool {
	return a.Work == b.Work && a.ParentTime == b.ParentTime && slices.Equal(a.Peaks, b.Peaks)
}

func (v *replay) apply(txn *badger.Txn, b *chain.CheckedBlock) error {
	h, id := b.Header(), b.ID()
	base := chain.Accounts{}
	for _, a := range chain.Touched(h.Miner, b.Txs()) {
		if leaf, ok := v.tree.Get(a); ok {
			base[a] = chain.AccountState{Balance: leaf.Balance, Nonce: leaf.Nonce}
		}
	}
	u, err := v.g.Apply(b, base)
	if err == nil {
		err = chain.CheckStateRoot(h, v.tree.Update(forward(u.Changes)))
	}
	if err != nil {
		return corrupt("block %d (%s) breaks a rule (%v)", h.Height, id, err)
	}
	for i := range u.Changes {
		v.sum += u.Changes[i].After.Balance - u.Changes[i].Before.Balance
	}
	r := &v.record
	r.id, r.height = id, h.Height
	r.issued += u.Issued
	r.accounts += created(&u)
	r.burned += u.Burned
	if want := v.g.Supply() + r.issued - r.burned; v.sum != want {
		return corrupt("after block %d the balances sum to %d knots, genesis + issued − burned is %d", h.Height, v.sum, want)
	}
	if err := v.compareTxs(txn, b); err != nil {
		return err
	}
	if h.Height >= r.undoFrom {
		kept, err := getUndo(txn, h.Height, v.g.BodyLimit)
		if err != nil {
			return err
		}
		if !bytes.Equal(kept, encodeUndo(id, &u)) {
			return corrupt("the undo of block %d isn't what applying it gives", h.Height)
		}
	}
	v.bytes += uint64(len(b.Body()))
	return nil
}

func (v *replay) compareTxs(txn *badger.Txn, b *chain.CheckedBlock) error {
	offset := 0
	for i := range b.Txs() {
		t := &b.Txs()[i]
		want := txRecord{uint32(b.Header().Height), uint32(i), uint32(offset), uint32(len(t.Raw()))}
		kept, err := get(txn, idKey(keyTx, t.ID()))
		if err != nil {
			return err
		}
		if !bytes.Equal(kept, want.encode()) {
			return corrupt("transaction %s of block %d isn't in the index as it should be", t.ID(), want.height)
		}
		offset += len(t.Raw())
		v.txs++
	}
	return nil
}

// compare holds what is stored against the end of the replay.
func (v *replay) compare(txn *badger.Txn) error {
	if err := v.l.verifyHistory(txn, v.start); err != nil {
		return err
	}
	if v.record != v.l.record {
		return corrupt("the tip record says height %d, issued %d, burned %d; the replay gives %d, %d, %d",
			v.l.record.height, v.l.record.issued, v.l.record.burned, v.record.height, v.record.issued, v.record.burned)
	}
	stored, _, err := v.l.openTree(txn, v.l.readPage(txn), v.l.cfg.StateMemory)
	if err != nil {
		return err
	}
	n := uint64(0)
	err = stored.Walk(func(leaf *statetree.Leaf) error {
		n++
		if kept, _ := v.tree.Get(leaf.Account); kept != *leaf {
			return corrupt("account %s is stored with balance %d and nonce %d, the replay gives %d and %d",
				chain.Account(leaf.Account), leaf.Balance, leaf.Nonce, kept.Balance, kept.Nonce)
		}
		return nil
	})
	if err == nil && n != v.record.accounts {
		err = corrupt("%d accounts are stored and the replay gives %d", n, v.record.accounts)
	}
	return damagedPage(err)
}

package ledger

import (
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"quipu/chain"
)

// Replay applies the blocks up to a ledger's base anew from genesis, beside the ledger, which goes on meanwhile: it
// reads bodies there and keeps accounts in a store of its own. Every state root is compared, so at the base it has shown
// what the ledger took on trust. Signatures were verified when the bodies came: only checked ones are stored.
//
// What it has done is durable after each Step, and a crash costs no more than one. It is for one goroutine.
type Replay struct {
	of   *Ledger
	base Base
	own  *Ledger // its accounts, pages and journal only
	at   uint64  // height of the last block applied
	id   chain.BlockID
}

// metaReplay: height u64 | block 32, of the block after which the accounts are those of the replay's store.
var metaReplay = []byte("mreplay")

// ErrNoBase: the ledger has no base, or another one than the replay began for.
var ErrNoBase = errors.New("the ledger has no accounts to confirm")

// RefutedError says that the blocks from genesis don't lead to the accounts of the base: this one breaks a rule. It
// wraps the *chain.RuleError.
type RefutedError struct {
	Height uint64
	ID     chain.BlockID
	Err    error
}

func (e *RefutedError) Unwrap() error { return e.Err }
func (e *RefutedError) Error() string {
	return fmt.Sprintf("block %d (%s), below the snapshot this ledger began with, is invalid: %v", e.Height, e.ID, e.Err)
}

// ErrReplayStore is wrapped where the replay's own store is damaged: it is to be removed, and the next one begins at
// genesis.
var ErrReplayStore = errors.New("the store that the blocks before a snapshot are applied in")

// OpenReplay opens or makes the store in a directory, "" for one in memory, and goes on where it stood. memory bounds
// its accounts in memory, in bytes.
func (l *Ledger) OpenReplay(dir string, memory int64) (*Replay, error) {
	base, ok := l.Base()
	if !ok {
		return nil, ErrNoBase
	}
	cfg := Config{Dir: dir, Genesis: l.g, MemTable: MinMemTable(l.g), StateMemory: memory, FreeSpace: l.cfg.FreeSpace, Log: l.cfg.Log}
	if dir == "" {
		cfg.FreeSpace = nil
	}
	if err := cfg.defaults(); err != nil {
		return nil, err
	}
	db, err := openStore(&cfg, true)
	if errors.Is(err, ErrCorrupt) {
		err = fmt.Errorf("%w: %w", ErrReplayStore, err)
	}
	if err != nil {
		return nil, err
	}
	r := &Replay{of: l, base: base, own: &Ledger{cfg: cfg, g: l.g, db: db}}
	if err := r.open(); err != nil {
		db.Close()
		return nil, err
	}
	return r, nil
}

func (r *Replay) open() error {
	good, err := r.resume()
	if err == nil && !good { // another chain's, or damaged: from genesis again
		if err = r.own.db.DropAll(); err == nil {
			_, err = r.resume()
		}
	}
	return err
}

// resume brings up what is stored. It reports whether that is of the ledger's chain.
func (r *Replay) resume() (good bool, err error) {
	l := r.own
	var v []byte
	err = l.db.View(func(txn *badger.Txn) (err error) {
		if v, err = get(txn, metaReplay); err != nil {
			return err
		}
		l.tree, l.journal, err = l.openTree(txn, l.readPage(nil), l.cfg.StateMemory)
		return err
	})
	if errors.Is(err, ErrCorrupt) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	s := r.of.g.State()
	if r.at, r.id = 0, s.ID; len(v) == 40 {
		r.at, r.id = le.Uint64(v), chain.BlockID(v[8:])
		h, id, ok, err := r.of.HeaderAt(r.at)
		if err != nil {
			return false, err
		}
		if !ok || id != r.id || r.at > r.base.Height {
			return false, nil
		}
		s.Header = h
	}
	return chain.Hash(l.tree.Root()) == s.Header.StateRoot, nil
}

// Height is that of the last block applied.
func (r *Replay) Height() uint64 { return r.at }

// Step applies blocks for as long as more says so, which is asked before each but the first, and makes them durable.
// Done means that the base's accounts are confirmed: Ledger.Confirm is to be told. *RefutedError that they are not;
// ErrNoBase that there is nothing to do any more; any other error is ours. ErrReplayStore as OpenReplay's.
func (r *Replay) Step(more func() bool) (done bool, err error) {
	g := group{dirty: map[chain.Account]chain.AccountState{}}
	limit := int(r.of.g.BodyLimit) / accountBytes
	for n := 0; err == nil && r.at < r.base.Height && len(g.dirty) < limit && (n == 0 || more()); n++ {
		err = r.apply(&g)
	}
	if err == nil {
		err = r.commit(&g)
	}
	if err != nil { // what this step did is in memory only
		if errors.Is(r.own.broken, ErrCorrupt) {
			err = fmt.Errorf("%w: %w", ErrReplayStore, err)
		}
		return false, err
	}
	return r.at == r.base.Height, nil
}

// apply is one block.
func (r *Replay) apply(g *group) error {
	block, err := r.of.below(r.base, r.at+1)
	if err != nil {
		return err
	}
	h, l := block.Header(), r.own
	accs, err := l.fetch(chain.Touched(h.Miner, block.Txs()))
	if err != nil {
		return err
	}
	u, err := r.of.g.Apply(block, accs)
	if err == nil {
		var root chain.Hash
		if root, err = l.update(forward(u.Changes)); err != nil {
			return err
		}
		err = chain.CheckStateRoot(h, root)
	}
	var rule *chain.RuleError
	switch {
	case errors.As(err, &rule):
		if wrong := chain.CheckBody(h, block.Body()); wrong != nil {
			return corrupt("the body of block %d (%s) was changed (%v)", h.Height, block.ID(), wrong)
		}
		return &RefutedError{h.Height, block.ID(), err}
	case err != nil: // the store's: it says nothing of the block
		return err
	}
	for i := range u.Changes {
		g.dirty[u.Changes[i].Account] = u.Changes[i].After
	}
	r.at, r.id = h.Height, block.ID()
	return nil
}

func (r *Replay) commit(g *group) (err error) {
	l := r.own
	if len(g.dirty) == 0 {
		return nil
	}
	if g.batch, err = l.begin(); err != nil {
		return err
	}
	defer g.discard()
	if err := g.appendJournal(); err != nil {
		return err
	}
	if err := g.set(metaReplay, append(le.AppendUint64(nil, r.at), r.id[:]...)); err != nil {
		return err
	}
	if err := g.commit(); err != nil {
		return err
	}
	l.journal.next++
	l.journal.accounts += len(g.dirty)
	return l.writeBehind(false)
}

// Close closes the store. Its directory is the caller's to remove.
func (r *Replay) Close() error { return r.own.db.Close() }

// below is a block up to the base.
func (l *Ledger) below(base Base, height uint64) (*chain.CheckedBlock, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if err := l.usable(); err != nil {
		return nil, err
	}
	if l.base == nil || l.base.id != base.ID || height > base.Height {
		return nil, ErrNoBase
	}
	e := l.main[height]
	if !e.body {
		return nil, fmt.Errorf("the body of block %d isn't held yet", height)
	}
	m := mover{l: l}
	_, b, err := m.read(e)
	return b, err
}

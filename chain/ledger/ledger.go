package ledger

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"

	"quipu/chain"
	"quipu/chain/statetree"
)

// Ledger is one node's ledger. All methods may be called at the same time.
type Ledger struct {
	cfg Config
	g   *chain.Genesis
	db  *badger.DB

	mu        sync.RWMutex
	closed    bool
	broken    error // a write failed: memory may be ahead of the disk, nothing more is written
	unsettled bool  // fork choice didn't run to its end: scan all headers the next time
	arrivals  uint64

	index   *index
	main    path // validated best chain
	headers path // of BestHeader
	tip     chain.State
	best    chain.State
	record  tipRecord
	tree    *statetree.Paged // the accounts at tip; nil where a tool has no need of them
	journal journal
	behind  behind
	pinned  *Pinned
	drops   atomic.Uint64 // how often records were dropped: see startover.go
	times   Timings
	history history
	pruned  uint64     // bodies of the best chain are gone up to this height
	base    *entry     // the accounts of which are not confirmed, see base.go; nil where there is none
	still   bool       // the tip stays where it is: a snapshot is awaited
	over    *startOver // the chain is applied anew from block 0: see startover.go
	deep    *DeepReorgError
	refetch bool         // pruned bodies are taken again
	step    func() error // tools: called before each block is applied or reverted; an error ends the walk
}

// Open opens or makes the ledger, brings headers and accounts into memory, compares the state root with the tip's
// header and goes on with fork choice where the last run stopped.
//
// Errors: ErrLocked, ErrWrongGenesis, ErrNewerSchema, ErrCorrupt, *LowSpaceError, or one of the system.
func Open(cfg Config) (*Ledger, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	l, err := open(cfg, true)
	if err != nil {
		return nil, err
	}
	l.unsettled = true
	before := l.pruned
	err = l.settle(nil, nil, nil)
	if err == nil && l.pruned >= before+compactAfter {
		err = l.compactIfRoom()
	}
	if err != nil {
		l.db.Close()
		return nil, err
	}
	return l, nil
}

// open is Open without fork choice. Without create nothing of ours is written and the accounts stay on disk.
func open(cfg Config, create bool) (*Ledger, error) {
	db, err := openStore(&cfg, create)
	if err != nil {
		return nil, err
	}
	l := &Ledger{cfg: cfg, g: cfg.Genesis, db: db, index: newIndex()}
	if err := l.ready(create); err != nil {
		db.Close()
		return nil, err
	}
	l.cfg.Genesis = l.g
	if create {
		err = l.resumeDrop()
	}
	if err == nil {
		err = db.View(l.load)
	}
	if err == nil && create {
		err = db.View(l.loadAccounts)
	}
	if err != nil {
		db.Close()
		return nil, err
	}
	return l, nil
}

// Close closes the store. It may be called again.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	l.unpin()
	var err error
	if l.broken == nil && l.tree != nil {
		err = l.writeBehind(true) // the next Open has less to read; nothing is lost where this fails
		l.broken = ErrClosed
	}
	var space *LowSpaceError
	if errors.As(err, &space) {
		err = nil
	}
	if cerr := l.db.Close(); cerr != nil {
		err = errors.Join(err, fmt.Errorf("closing the ledger: %w", cerr))
	}
	return err
}

// Genesis is the network the ledger belongs to.
func (l *Ledger) Genesis() *chain.Genesis { return l.g }

// Tip is the last block of the validated best chain.
func (l *Ledger) Tip() chain.State {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.tip
}

// BestHeader has the most work among headers not known to be invalid; between equal ones the tip, then the earlier.
func (l *Ledger) BestHeader() chain.State {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.best
}

// Supply is what the blocks up to the tip issued and burned, in knots. Σ balances = genesis + issued − burned.
func (l *Ledger) Supply() (issued, burned uint64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.record.issued, l.record.burned
}

// Accounts are those of keys that exist, as of tip: one snapshot.
func (l *Ledger) Accounts(keys []chain.Account) (tip chain.State, accs chain.Accounts, err error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if err := l.usable(); err != nil {
		return l.tip, nil, err
	}
	accs, err = l.accounts(keys)
	return l.tip, accs, err
}

// Preview is the state root if these changes were applied to the tip, for the header of a block being made. Only
// Account and After of each change are read. ErrStale if h's parent isn't the tip. Nothing is changed.
func (l *Ledger) Preview(h *chain.Header, changes []chain.AccountChange) (chain.Hash, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return chain.Hash{}, err
	}
	if h.Parent != l.tip.ID {
		return chain.Hash{}, fmt.Errorf("block %d: %w", h.Height, ErrStale)
	}
	keys := make([]chain.Account, len(changes))
	for i := range changes {
		keys[i] = changes[i].Account
	}
	before, err := l.fetch(keys)
	if err != nil {
		return chain.Hash{}, err
	}
	back := make([]statetree.Change, len(changes))
	for i, a := range keys {
		state, ok := before[a]
		back[i] = statetree.Change{Leaf: statetree.Leaf{Account: a, Balance: state.Balance, Nonce: state.Nonce}, Delete: !ok}
	}
	root, err := l.update(forward(changes))
	if err == nil {
		_, err = l.update(back)
	}
	return root, err
}

// Prove proves what the tip's state root says about an account: its leaf, or that it doesn't exist.
func (l *Ledger) Prove(a chain.Account) (tip chain.State, p statetree.Proof, leaf statetree.Leaf, present bool, err error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if err := l.usable(); err != nil {
		return tip, p, leaf, false, err
	}
	if leaf, present, err = l.tree.Get(a); err == nil {
		p, err = l.tree.Prove(a)
	}
	if err != nil {
		return tip, p, leaf, false, damagedPage(err)
	}
	return l.tip, p, leaf, present, nil
}

// ProveBlock proves that a block is an ancestor of an anchor, or the anchor itself; false unless both are on BestHeader's
// chain in that order. It takes two reads a hash.
func (l *Ledger) ProveBlock(anchor, id chain.BlockID) (p chain.BlockProof, ok bool, err error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if err := l.usable(); err != nil {
		return p, false, err
	}
	a, e := l.index.byID[anchor], l.index.byID[id]
	if a == nil || e == nil || !l.headers.has(a) || !l.headers.has(e) || e.height > a.height {
		return p, false, nil
	}
	err = l.db.View(func(txn *badger.Txn) error {
		s, err := l.mustState(txn, e)
		if p.Header = s.Header; err != nil || e == a {
			return err
		}
		p.Work = s.Work
		p.Path, err = chain.HistoryPath(uint64(e.height), uint64(a.height), func(height uint64) (chain.State, error) {
			return l.mustState(txn, l.headers[height])
		})
		return err
	})
	return p, err == nil, err
}

// BlockInfo is what is known about a block.
type BlockInfo struct {
	Height    uint64
	Header    bool // its header is stored
	Body      bool // its body is held
	Pruned    bool // it is on the validated best chain and its body isn't held any more
	Validated bool // it was applied: on the best chain, or off it since the ledger was opened
	Invalid   bool // it or an ancestor broke a rule, or is refused
	Refused   bool // it is called invalid because of this node's operator or a checkpoint: it may keep every rule
	OnBest    bool // it is on the validated best chain
	Reason    string
}

// Info is what is known about a block; the zero value for one never heard of.
func (l *Ledger) Info(id chain.BlockID) BlockInfo {
	l.mu.RLock()
	defer l.mu.RUnlock()
	e := l.index.byID[id]
	if e == nil {
		return BlockInfo{}
	}
	i := BlockInfo{Height: uint64(e.height), Header: true, Body: e.body, Validated: e.applied, Invalid: e.bad, OnBest: l.main.has(e), Pruned: l.isPruned(e)}
	if e.bad {
		i.Reason, i.Refused = l.index.reason(e), l.index.refused(e)
	}
	return i
}

// Body is the stored body of a block, false if it isn't held. Held bodies match their headers; the block may be
// invalid or on no best chain.
func (l *Ledger) Body(id chain.BlockID) ([]byte, bool, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if err := l.usable(); err != nil {
		return nil, false, err
	}
	e := l.index.byID[id]
	if e == nil || !e.body {
		return nil, false, nil
	}
	var body []byte
	err := l.db.View(func(txn *badger.Txn) (err error) {
		body, err = getBody(txn, e)
		return err
	})
	return body, err == nil, err
}

// TxLocation is where on the validated best chain a transaction stands. Index counts from 0.
type TxLocation struct {
	Height uint64
	Block  chain.BlockID
	Index  int
}

// FindTx finds a transaction on the validated best chain and its encoding, which is nil if the block's body was pruned.
func (l *Ledger) FindTx(id chain.TxID) (loc TxLocation, raw []byte, ok bool, err error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if err := l.usable(); err != nil {
		return loc, nil, false, err
	}
	err = l.db.View(func(txn *badger.Txn) error {
		v, err := get(txn, idKey(keyTx, id))
		if err != nil || v == nil {
			return err
		}
		r, err := decodeTxRecord(v)
		if err != nil {
			return err
		}
		// A record that doesn't lead to the transaction is left over from a reverted block: it may be any bytes of
		// the block that took its place. Nothing depends on its having been deleted.
		if int(r.height) >= len(l.main) || r.length < chain.TxMinSize || r.length > chain.TxMaxSize {
			return nil
		}
		e := l.main[r.height]
		if int(r.offset)+int(r.length) > int(e.bodySize) {
			return nil
		}
		loc = TxLocation{Height: uint64(r.height), Block: e.id, Index: int(r.index)}
		if ok = l.isPruned(e); ok {
			return nil // a revert overwrites its records, and this block can't be reverted: the record is its own
		}
		raw, err = bodyRange(txn, e.id, int(e.bodySize), int(r.offset), int(r.length))
		if err != nil || chain.TxIDOf(l.g.NetworkID(), raw) != id {
			loc, raw = TxLocation{}, nil
			return err
		}
		ok = true
		return nil
	})
	return loc, raw, ok, err
}

// bodyRange reads length bytes at offset of a body of size bytes: one piece, or two.
func bodyRange(txn *badger.Txn, id chain.BlockID, size, offset, length int) ([]byte, error) {
	if offset+length > size {
		return nil, corrupt("a transaction record points beyond the body of block %s", id)
	}
	var out []byte
	for n := offset / pieceSize; n*pieceSize < offset+length; n++ {
		v, err := get(txn, pieceKey(idKey(keyBody, id), n))
		if err != nil {
			return nil, err
		}
		lo, hi := max(offset-n*pieceSize, 0), min(offset+length-n*pieceSize, pieceSize)
		if hi > len(v) {
			return nil, corrupt("piece %d of the body of block %s is missing", n, id)
		}
		out = append(out, v[lo:hi]...)
	}
	return out, nil
}

// Stats are counts for a status page and metrics.
type Stats struct {
	Headers, Bodies, Invalid int // stored headers, held bodies, headers known to be invalid with their descendants
	Height, BestHeight       uint64
	Pruned                   uint64 // bodies of the best chain aren't held up to this height
	Accounts                 int
	DiskBytes                uint64 // what the files take; 0 in memory
	FreeBytes, NeedBytes     uint64 // below NeedBytes the ledger stops writing
}

// Stats takes a walk over all headers in memory.
func (l *Ledger) Stats() Stats {
	l.mu.RLock()
	defer l.mu.RUnlock()
	s := Stats{
		Headers: len(l.index.byID), Accounts: int(l.record.accounts), NeedBytes: l.cfg.needSpace(), Pruned: l.pruned,
		Height: l.tip.Header.Height, BestHeight: l.best.Header.Height,
	}
	for _, e := range l.index.byID {
		if e.body {
			s.Bodies++
		}
		if e.bad {
			s.Invalid++
		}
	}
	if l.cfg.Dir != "" {
		s.DiskBytes = diskBytes(l.cfg.Dir)
		s.FreeBytes, _ = l.cfg.FreeSpace(l.cfg.Dir)
	}
	return s
}

func (l *Ledger) usable() error {
	if l.closed {
		return ErrClosed
	}
	return nil
}

// state reads a stored header with all that the check of its child needs.
func state(txn *badger.Txn, id chain.BlockID) (chain.State, bool, error) {
	v, err := get(txn, idKey(keyHeader, id))
	if err != nil || v == nil {
		return chain.State{}, false, err
	}
	r, err := decodeHeaderRecord(id, v)
	return r.state, err == nil, err
}

func (l *Ledger) mustState(txn *badger.Txn, e *entry) (chain.State, error) {
	s, ok, err := state(txn, e.id)
	if err == nil && !ok {
		err = corrupt("the header of block %d (%s) is missing", e.height, e.id)
	}
	return s, err
}

// forward and backward are the tree's view of a block's changes.
func forward(changes []chain.AccountChange) []statetree.Change {
	out := make([]statetree.Change, len(changes))
	for i := range changes {
		c := &changes[i]
		out[i].Leaf = statetree.Leaf{Account: c.Account, Balance: c.After.Balance, Nonce: c.After.Nonce}
	}
	return out
}

func backward(changes []chain.AccountChange) []statetree.Change {
	out := make([]statetree.Change, len(changes))
	for i := range changes {
		c := &changes[i]
		out[i].Leaf = statetree.Leaf{Account: c.Account, Balance: c.Before.Balance, Nonce: c.Before.Nonce}
		out[i].Delete = !c.Existed
	}
	return out
}

func sortByHeight(es []*entry) {
	slices.SortFunc(es, func(a, b *entry) int { return int(int64(a.height) - int64(b.height)) })
}

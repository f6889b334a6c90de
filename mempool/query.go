package mempool

import (
	"maps"
	"slices"

	"quipu/chain"
)

// Has reports whether the pool holds this very transaction, signature included, pending or gapped.
func (p *Pool) Has(leaf chain.LeafHash) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.byLeaf[leaf] != nil
}

// Get is a pooled transaction, pending or gapped.
func (p *Pool) Get(leaf chain.LeafHash) (chain.CheckedTx, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.byLeaf[leaf]; e != nil {
		return e.tx, true
	}
	return chain.CheckedTx{}, false
}

// ByID is a pooled transaction by its id; pending false means that it waits for a missing nonce or for funds.
func (p *Pool) ByID(id chain.TxID) (tx chain.CheckedTx, pending, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.byID[id]; e != nil {
		return e.tx, e.pending, true
	}
	return chain.CheckedTx{}, false, false
}

// NextNonce is the nonce a new transaction of a should use: after its pending ones, and at least chainNonce.
func (p *Pool) NextNonce(a chain.Account, chainNonce uint64) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if acc := p.accounts[a]; acc != nil {
		return max(chainNonce, acc.next())
	}
	return chainNonce
}

// Senders are the accounts with pooled transactions, in no order.
func (p *Pool) Senders() []chain.Account {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.accounts))
}

// Dump is every pooled transaction's encoding, not to be written to: pending best first, then gapped. Each comes
// after those of its account with lower nonces, so that adding them in this order gives the pool back.
func (p *Pool) Dump() [][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([][]byte, 0, len(p.byLeaf))
	p.best(func(e *entry) (follow, more bool) {
		out = append(out, e.tx.Raw())
		return true, true
	})
	for _, a := range p.accounts {
		for _, e := range a.gapped {
			out = append(out, e.tx.Raw())
		}
	}
	return out
}

// Discard removes transactions that a block builder found not to apply. What follows them waits among the gapped.
func (p *Pool) Discard(ids ...chain.TxID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := update{p: p, height: p.height}
	for _, id := range ids {
		if e := p.byID[id]; e != nil {
			e.fate = ReasonDiscarded
			u.touch(e.of)
		}
	}
	for _, a := range u.dirty {
		u.rebuild(a)
	}
	p.trimGaps(&u.result)
	for _, a := range u.dirty {
		a.dirty = false
		p.prune(a)
	}
}

// Fate is what is remembered of a transaction that left the pool.
type Fate struct {
	Reason     string // one of the Reason constants
	From       chain.Account
	Nonce      uint64 // From and Nonce tell whether a rival took its place
	ValidUntil uint32 // and this whether it can still be mined
}

// Fate is why a transaction left the pool, for the last Config.Fates that left. Mined ones are not kept: the ledger
// finds them. A transaction that came back has no fate.
func (p *Pool) Fate(id chain.TxID) (Fate, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f, ok := p.fates.of[id]
	return f.Fate, ok
}

// Stats are sizes now and counters since New.
type Stats struct {
	Txs, Bytes             int // pending
	GappedTxs, GappedBytes int
	Accounts               int

	Admitted uint64 // by Add, pending or gapped
	Promoted uint64 // became pending after they were added: promoted or refilled
	Refilled uint64 // taken back from reverted blocks, pending or gapped
	Dropped  map[string]uint64
	Refused  map[Refusal]uint64
}

func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Stats{
		Txs: p.txs, Bytes: p.bytes,
		GappedTxs: len(p.gaps.items), GappedBytes: p.gapBytes,
		Accounts: len(p.accounts),
		Admitted: p.count.admitted, Promoted: p.count.promoted, Refilled: p.count.refilled,
		Dropped: maps.Clone(p.count.dropped), Refused: maps.Clone(p.count.refused),
	}
}

type counts struct {
	admitted, promoted, refilled uint64
	dropped                      map[string]uint64
	refused                      map[Refusal]uint64
}

func newCounts() counts {
	return counts{dropped: map[string]uint64{}, refused: map[Refusal]uint64{}}
}

// fates is a ring: the oldest makes room.
type fates struct {
	ring []chain.TxID
	at   int
	of   map[chain.TxID]fate
}

type fate struct {
	Fate
	slot int // in ring; a slot that was reused belongs to another
}

func newFates(n int) fates { return fates{ring: make([]chain.TxID, n), of: map[chain.TxID]fate{}} }

func (f *fates) remember(c *chain.CheckedTx, reason string) {
	id, t := c.ID(), c.Tx()
	oldest := f.ring[f.at]
	if was, ok := f.of[oldest]; ok && was.slot == f.at {
		delete(f.of, oldest)
	}
	f.ring[f.at] = id
	f.of[id] = fate{Fate{reason, t.From, t.Nonce, t.ValidUntil}, f.at}
	f.at = (f.at + 1) % len(f.ring)
}

func (f *fates) forget(id chain.TxID) { delete(f.of, id) }

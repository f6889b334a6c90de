package mempool

import (
	"errors"
	"fmt"
	"sync"

	"quipu/chain"
)

// Pool is safe for use by many goroutines.
type Pool struct {
	g   *chain.Genesis
	cfg Config

	mu       sync.Mutex
	height   uint64 // of the newest tip heard of
	accounts map[chain.Account]*account
	byLeaf   map[chain.LeafHash]*entry
	byID     map[chain.TxID]*entry
	heads    order
	tails    order
	gaps     order
	expiry   order
	txs      int // pending
	bytes    int // Σ size of pending
	gapBytes int // Σ size of gapped
	seq      uint64

	fates  fates
	lately lately
	count  counts
}

// New makes an empty pool. cfg has passed Validate; its zero fields mean their defaults.
func New(g *chain.Genesis, cfg Config) *Pool {
	cfg = cfg.filled()
	return &Pool{
		g: g, cfg: cfg,
		accounts: map[chain.Account]*account{},
		byLeaf:   map[chain.LeafHash]*entry{},
		byID:     map[chain.TxID]*entry{},
		heads:    order{slot: byHead, before: better},
		tails:    order{slot: byTail, before: worse},
		gaps:     order{slot: byGap, before: cheapest},
		expiry:   order{slot: byExpiry, before: soonest},
		fates:    newFates(cfg.Fates),
		count:    newCounts(),
	}
}

// Drop tells of a transaction that left the pool and why.
type Drop struct {
	ID     chain.TxID
	Reason string
}

// Result is what became of one transaction given to Add.
type Result struct {
	Err      error             // a Refusal, by errors.Is; nil: admitted
	Pending  bool              // else gapped
	Promoted []chain.CheckedTx // gapped ones that became pending behind it, in nonce order: newly admitted now
	Dropped  []Drop            // what it replaced or evicted, transactions admitted earlier in the same call included
}

// Add admits transactions in order. accs holds their senders and, where the network has an account price, their
// recipients, as they stand on the tip of this height: chain.Touched lists them all. An account the pool tracks
// already is taken as the last Update left it. What is kept is copied: raws may alias larger buffers.
func (p *Pool) Add(height uint64, accs chain.Accounts, txs []chain.CheckedTx) []Result {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Result, len(txs))
	for i := range txs {
		out[i].Err = p.add(&out[i], height, accs, &txs[i])
		if out[i].Err == nil {
			p.count.admitted++
			p.count.promoted += uint64(len(out[i].Promoted))
			continue
		}
		var r Refusal
		errors.As(out[i].Err, &r)
		p.count.refused[r]++
	}
	return out
}

func (p *Pool) add(r *Result, height uint64, accs chain.Accounts, c *chain.CheckedTx) error {
	if height < p.height {
		return fmt.Errorf("%w: accounts of height %d, pool at %d", ErrBehind, height, p.height)
	}
	p.height = height
	if p.byLeaf[c.Leaf()] != nil {
		return ErrKnown
	}
	t := c.Tx()
	a := p.accounts[t.From]
	if a == nil {
		a = &account{key: t.From, state: accs[t.From]} // tracked once it holds something
	}
	if err := p.plain(t, height, a.state); err != nil {
		return err
	}
	if err := p.paysForNew(c.Tx(), len(c.Raw()), accs); err != nil {
		return err
	}
	old := a.at(t.Nonce)
	if old != nil && old.tx.ID() == c.ID() {
		return fmt.Errorf("%w: with another signature", ErrKnown)
	}
	e := newEntry(c, a)
	e.seq = p.seq + 1
	var err error
	switch {
	case t.Nonce < a.next():
		err = p.replace(r, a, e, old, height)
	case t.Nonce == a.next():
		err = p.extend(r, a, e, old)
	default:
		err = p.wait(r, a, e, old, height)
	}
	if err != nil {
		return err
	}
	p.seq++
	p.own(e)
	return nil
}

// plain holds the refusals that need no look at other transactions.
func (p *Pool) plain(t *chain.Tx, height uint64, s chain.AccountState) error {
	if v := uint64(t.ValidUntil); v != 0 && v < height+MinValidity {
		return fmt.Errorf("%w: valid until %d at height %d, want %d blocks left", ErrExpiring, v, height, MinValidity)
	}
	if t.Nonce < s.Nonce {
		return fmt.Errorf("%w: nonce %d, the account is at %d", ErrStale, t.Nonce, s.Nonce)
	}
	if t.Nonce-s.Nonce >= uint64(p.cfg.AccountTxs) {
		return fmt.Errorf("%w: nonce %d, the account is at %d and may run %d ahead", ErrGap, t.Nonce, s.Nonce, p.cfg.AccountTxs)
	}
	if _, ok := t.Spent(s.Balance); !ok {
		return fmt.Errorf("%w: it spends more than the balance %d", ErrFunds, s.Balance)
	}
	return nil
}

// paysForNew is fee ≥ min_fee_rate × length + account_price × recipients absent from accs. The first part is rule
// T2, checked already.
func (p *Pool) paysForNew(t *chain.Tx, size int, accs chain.Accounts) error {
	price := p.g.AccountPrice
	if price == 0 {
		return nil
	}
	created := map[chain.Account]struct{}{}
	for i := range t.Outputs {
		to := t.Outputs[i].To
		if _, exists := accs[to]; !exists && to != t.From {
			created[to] = struct{}{}
		}
	}
	left := t.Fee - min(t.Fee, p.g.MinFee(size))
	if n := uint64(len(created)); n > 0 && left/n < price {
		return fmt.Errorf("%w: it creates %d accounts at %d knots each, the fee leaves %d for that", ErrCreateFee, n, price, left)
	}
	return nil
}

// Worth is the cheap filter before signatures are checked: whether an encoded transaction could be admitted with
// these accounts (its sender and recipients) on the tip of this height. nil promises nothing. It is no judgement: a
// Refusal leaves no trace, and min_fee_rate is left to chain.CheckTxs. A transaction that is pooled under another
// signature is ErrKnown.
func (p *Pool) Worth(t *chain.Tx, raw []byte, height uint64, accs chain.Accounts) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	acc, size := accs[t.From], len(raw)
	next := acc.Nonce
	a := p.accounts[t.From]
	if a != nil {
		if old := a.at(t.Nonce); old != nil && old.tx.ID() == chain.TxIDOf(p.g.NetworkID(), raw) {
			return ErrKnown
		}
		acc, next = a.state, a.next()
	}
	if err := p.plain(t, height, acc); err != nil {
		return err
	}
	if err := p.paysForNew(t, size, accs); err != nil {
		return err
	}
	if a != nil {
		if old := a.at(t.Nonce); old != nil {
			return p.outbids(t.Fee, size, old, 0)
		}
	}
	worst := p.tails.first()
	if t.Nonce == next && worst != nil && p.bytes+size > p.cfg.MaxBytes && !p.beats(t.Fee, size, worst.floor) {
		return p.full(worst.floor)
	}
	return nil
}

// own copies e's bytes, so that the pool pins no larger buffer, and enters it into the tables.
func (p *Pool) own(e *entry) {
	e.tx = e.tx.Clone()
	p.enter(e)
}

func (p *Pool) enter(e *entry) {
	p.accounts[e.of.key] = e.of
	p.byLeaf[e.tx.Leaf()] = e
	p.byID[e.tx.ID()] = e
	p.fates.forget(e.tx.ID())
}

// gone forgets an entry that stands in no chain and no gap any more.
func (p *Pool) gone(e *entry, reason string) Drop {
	p.expiry.remove(e)
	id := e.tx.ID()
	if p.byID[id] == e {
		delete(p.byID, id)
		delete(p.byLeaf, e.tx.Leaf())
	}
	p.count.dropped[reason]++
	if reason != ReasonMined {
		p.fates.remember(&e.tx, reason)
		p.lately.add(&e.tx)
	}
	p.prune(e.of)
	return Drop{ID: id, Reason: reason}
}

func (p *Pool) prune(a *account) {
	if len(a.pending) == 0 && len(a.gapped) == 0 && !a.dirty && p.accounts[a.key] == a {
		delete(p.accounts, a.key)
	}
}

package mempool

import (
	"math/bits"
	"slices"

	"quipu/chain"
)

// entry is one pooled transaction.
type entry struct {
	tx    chain.CheckedTx
	of    *account
	nonce uint64
	fee   uint64
	cost  uint64 // fee + Σ amounts
	size  int    // encoded bytes
	seq   uint64 // order of arrival

	pending bool   // else gapped, or not in the pool
	floor   *entry // the cheapest in the chain up to this one; pending only
	keep    uint64 // last height it is kept for while gapped; 0 until it is
	last    uint64 // last height it may stand in or, gapped, be kept for
	was     bool   // was pending before the rebuild
	late    bool   // last has passed: leaves in the next rebuild
	fate    string // why it leaves in the next rebuild
	place   [orders]int32
}

const noLast = ^uint64(0)

func newEntry(c *chain.CheckedTx, of *account) *entry {
	t := c.Tx()
	cost, _ := t.Spent(chain.AnySupply) // rule T3 holds: it can't fail
	return &entry{tx: *c, of: of, nonce: t.Nonce, fee: t.Fee, cost: cost, size: len(c.Raw())}
}

// validUntil is the last height the transaction's own field lets it stand in.
func (e *entry) validUntil() uint64 {
	if v := e.tx.Tx().ValidUntil; v != 0 {
		return uint64(v)
	}
	return noLast
}

// lower reports fee1/size1 < fee2/size2, exactly.
func lower(fee1 uint64, size1 int, fee2 uint64, size2 int) bool {
	h1, l1 := bits.Mul64(fee1, uint64(size2))
	h2, l2 := bits.Mul64(fee2, uint64(size1))
	return h1 < h2 || h1 == h2 && l1 < l2
}

func (e *entry) cheaper(f *entry) bool { return lower(e.fee, e.size, f.fee, f.size) }

// better orders heads: the higher rate first, then the older.
func better(a, b *entry) bool {
	if b.cheaper(a) {
		return true
	}
	return !a.cheaper(b) && a.seq < b.seq
}

// worse orders tails by effective rate, the lowest first, then the newest.
func worse(a, b *entry) bool {
	if a.floor.cheaper(b.floor) {
		return true
	}
	return !b.floor.cheaper(a.floor) && a.seq > b.seq
}

// cheapest orders the gapped: the lowest rate first, then the newest.
func cheapest(a, b *entry) bool {
	if a.cheaper(b) {
		return true
	}
	return !b.cheaper(a) && a.seq > b.seq
}

func soonest(a, b *entry) bool { return a.last < b.last }

// account is a sender with at least one pooled transaction.
type account struct {
	key     chain.Account
	state   chain.AccountState // on the tip of the last Update, or as first given to Add
	pending []*entry           // nonces state.Nonce, state.Nonce+1, …
	spent   uint64             // Σ cost of pending ≤ state.Balance
	bytes   int                // Σ size of pending
	gapped  []*entry           // ascending nonces, beyond the chain's end or at it and short of funds
	gapSize int                // Σ size of gapped

	head, tail *entry // as they stand in the heaps

	// While Update runs.
	dirty  bool
	refill []*entry
}

// next is the nonce that would continue the pending chain.
func (a *account) next() uint64 { return a.state.Nonce + uint64(len(a.pending)) }

// at finds the pooled transaction with this nonce.
func (a *account) at(nonce uint64) *entry {
	if n := len(a.pending); n > 0 && nonce >= a.pending[0].nonce && nonce-a.pending[0].nonce < uint64(n) {
		return a.pending[nonce-a.pending[0].nonce]
	}
	if i, ok := a.gappedAt(nonce); ok {
		return a.gapped[i]
	}
	return nil
}

func (a *account) gappedAt(nonce uint64) (int, bool) {
	return slices.BinarySearchFunc(a.gapped, nonce, func(e *entry, n uint64) int {
		switch {
		case e.nonce < n:
			return -1
		case e.nonce > n:
			return 1
		}
		return 0
	})
}

// floorAt is the cheapest of e and the first i of the chain: e's effective rate if it stood at place i.
func (a *account) floorAt(i int, e *entry) *entry {
	if i > 0 && !e.cheaper(a.pending[i-1].floor) {
		return a.pending[i-1].floor
	}
	return e
}

// push appends e to the pending chain.
func (p *Pool) push(a *account, e *entry) {
	e.pending, e.keep, e.floor = true, 0, a.floorAt(len(a.pending), e)
	a.pending = append(a.pending, e)
	a.spent += e.cost
	a.bytes += e.size
	p.bytes += e.size
	p.txs++
	p.setLast(e, e.validUntil())
	p.settle(a)
}

// pop takes the tail off the pending chain.
func (p *Pool) pop(a *account) *entry {
	n := len(a.pending) - 1
	e := a.pending[n]
	a.pending[n] = nil
	a.pending = a.pending[:n]
	a.spent -= e.cost
	a.bytes -= e.size
	p.bytes -= e.size
	p.txs--
	p.settle(a)
	e.pending, e.floor = false, nil
	return e
}

// settle puts the account's head and tail into the heaps as they are now.
func (p *Pool) settle(a *account) {
	var head, tail *entry
	if n := len(a.pending); n > 0 {
		head, tail = a.pending[0], a.pending[n-1]
	}
	renew(&p.heads, &a.head, head)
	renew(&p.tails, &a.tail, tail)
}

func renew(o *order, was **entry, now *entry) {
	if *was != now {
		if *was != nil {
			o.remove(*was)
		}
		if now != nil {
			o.push(now)
		}
		*was = now
	} else if now != nil {
		o.fix(now)
	}
}

// hold adds e to the account's gapped ones at this height of the tip, without looking at caps.
func (p *Pool) hold(a *account, e *entry, height uint64) {
	i, _ := a.gappedAt(e.nonce)
	a.gapped = slices.Insert(a.gapped, i, e)
	a.gapSize += e.size
	p.gapBytes += e.size
	if e.keep == 0 { // a second look is no second life
		e.keep = height + uint64(p.cfg.GappedBlocks)
	}
	p.gaps.push(e)
	p.setLast(e, min(e.keep, e.validUntil()))
}

// release takes e out of the gapped ones.
func (p *Pool) release(e *entry) {
	a := e.of
	i, _ := a.gappedAt(e.nonce)
	a.gapped = slices.Delete(a.gapped, i, i+1)
	a.gapSize -= e.size
	p.gapBytes -= e.size
	p.gaps.remove(e)
}

// setLast sets e's last height and its place among those that end.
func (p *Pool) setLast(e *entry, last uint64) {
	e.last = last
	switch {
	case last == noLast:
		p.expiry.remove(e)
	case p.expiry.holds(e):
		p.expiry.fix(e)
	default:
		p.expiry.push(e)
	}
}

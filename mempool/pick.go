package mempool

import (
	"math/rand/v2"

	"quipu/chain"
)

// misfits is how many transactions in a row may be too large for what is left of a block before Candidates
// stops looking; Bitcoin Core's MAX_CONSECUTIVE_FAILURES.
const misfits = 1000

// Candidates are pending transactions of at most maxBytes altogether, highest effective fee rate first, each after
// those of its account with lower nonces. They apply one after another on the tip of the last Update, but for
// account prices and for what ran ahead or behind since: whoever builds the block asks ApplyTx and, for one that it
// refuses, leaves out the rest of that account.
func (p *Pool) Candidates(maxBytes int) []chain.CheckedTx {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]chain.CheckedTx, 0, min(p.txs, max(maxBytes, 0)/chain.TxMinSize))
	missed := 0
	p.best(func(e *entry) (follow, more bool) {
		if e.size > maxBytes {
			missed++
			return false, maxBytes >= chain.TxMinSize && missed < misfits
		}
		missed = 0
		maxBytes -= e.size
		out = append(out, e.tx)
		return true, maxBytes >= chain.TxMinSize
	})
	return out
}

// Leaves are up to max pending transactions, each after those of its account with lower nonces. Of a pool that holds
// more, each call shows another window, so that repeated exchanges between peers cover all of it.
func (p *Pool) Leaves(max int) []chain.LeafHash {
	p.mu.Lock()
	defer p.mu.Unlock()
	if max <= 0 {
		return nil
	}
	out := make([]chain.LeafHash, 0, min(max, p.txs))
	heads := p.heads.items
	if len(heads) == 0 {
		return out
	}
	start := 0
	if p.txs > max {
		start = rand.IntN(len(heads))
	}
	for i := range heads {
		for _, e := range heads[(start+i)%len(heads)].of.pending {
			if out = append(out, e.tx.Leaf()); len(out) == max {
				return out
			}
		}
	}
	return out
}

// Part lists transactions of the accounts that in chooses, each account's in the order of nonces: pending ones that
// arrived no later than the seq-th, or with a seq of 0 all, gapped ones too. Accounts come in no order.
func (p *Pool) Part(in func(*chain.Account) bool, seq uint64) []chain.LeafHash {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []chain.LeafHash
	for key, a := range p.accounts {
		if !in(&key) {
			continue
		}
		for _, e := range a.pending {
			if seq > 0 && e.seq > seq {
				break
			}
			out = append(out, e.tx.Leaf())
		}
		for i := 0; i < len(a.gapped) && seq == 0; i++ {
			out = append(out, a.gapped[i].tx.Leaf())
		}
	}
	return out
}

// Seq counts the transactions that have arrived so far: what a later one has in front of it.
func (p *Pool) Seq() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seq
}

// best visits pending transactions, highest rate first among those whose predecessors were visited. follow lets
// the account's next one come, more goes on.
func (p *Pool) best(visit func(*entry) (follow, more bool)) {
	w := p.heads.walk()
	for e := w.next(); e != nil; e = w.next() {
		follow, more := visit(e)
		if !more {
			return
		}
		if i := int(e.nonce-e.of.state.Nonce) + 1; follow && i < len(e.of.pending) {
			w.add(e.of.pending[i])
		}
	}
}

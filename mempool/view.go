package mempool

import "quipu/chain"

// Pending is what the pending transactions would bring to and take from an account, in knots; fees count as taken.
// It looks through the whole pool.
func (p *Pool) Pending(a chain.Account) (in, out uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.byLeaf {
		if !e.pending {
			continue
		}
		t := e.tx.Tx()
		if t.From == a {
			out += t.Fee
		}
		for i := range t.Outputs {
			if t.From == a {
				out += t.Outputs[i].Amount
			}
			if t.Outputs[i].To == a {
				in += t.Outputs[i].Amount
			}
		}
	}
	return in, out
}

// MaxBytes is the cap of all pending transactions together, in bytes.
func (p *Pool) MaxBytes() int { return p.cfg.MaxBytes }

package mempool

import "quipu/chain"

// latelyBytes bounds the encodings of transactions that are kept after they left the pool.
const latelyBytes = 512 << 10

// lately are transactions that left the pool unmined, the oldest first: a block may hold one that was replaced or evicted
// here, and they have been verified.
type lately struct {
	txs   []chain.CheckedTx
	bytes int
}

func (l *lately) add(c *chain.CheckedTx) {
	l.txs, l.bytes = append(l.txs, c.Clone()), l.bytes+len(c.Raw())
	n := 0
	for ; l.bytes > latelyBytes; n++ {
		l.bytes -= len(l.txs[n].Raw())
		l.txs[n] = chain.CheckedTx{}
	}
	l.txs = l.txs[n:]
}

// AppendLeaves appends the leaf of every pooled transaction, pending or gapped, in no order.
func (p *Pool) AppendLeaves(dst []chain.LeafHash) []chain.LeafHash {
	p.mu.Lock()
	defer p.mu.Unlock()
	for leaf := range p.byLeaf {
		dst = append(dst, leaf)
	}
	return dst
}

// Lately is a copy of what left the pool lately without being mined: at most 512 KiB of encodings. Some may be back.
func (p *Pool) Lately() []chain.CheckedTx {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]chain.CheckedTx(nil), p.lately.txs...)
}

package node

import (
	"sync"

	"quipu/chain"
	"quipu/p2p"
	"quipu/p2p/wire"
)

// Bounds of the blocks whose transactions are kept at hand.
const (
	recentBlocks = 6
	recentBytes  = 8 << 20
)

// recent are the last blocks that were applied: a rival of one of them holds much the same transactions, which are no
// longer in the pool.
type recent struct {
	mu     sync.Mutex
	blocks []*chain.CheckedBlock // newest last
}

func (r *recent) add(b *chain.CheckedBlock) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blocks = append(r.blocks, b)
	total := 0
	for _, k := range r.blocks {
		total += len(k.Body())
	}
	for len(r.blocks) > recentBlocks || total > recentBytes {
		total -= len(r.blocks[0].Body())
		r.blocks[0] = nil
		r.blocks = r.blocks[1:]
	}
}

func (r *recent) all() []*chain.CheckedBlock {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*chain.CheckedBlock(nil), r.blocks...)
}

// leafBuffers are reused: a pool of 100,000 transactions has 3.2 MB of leaves.
var leafBuffers = sync.Pool{New: func() any { return new([]chain.LeafHash) }}

// FindShort looks for transactions by short id: one pass over the pool, what left it lately and the last blocks. All of
// these were verified here.
func (n *Node) FindShort(key wire.ShortKey, ids []uint64) []p2p.Found {
	if n.cfg.relayCost != nil {
		n.cfg.relayCost(len(ids))
	}
	f := finder{key: key, at: make(map[uint64]int, len(ids)), out: make([]p2p.Found, len(ids))}
	for i, id := range ids {
		if _, twice := f.at[id]; twice {
			i = -1
		}
		f.at[id] = i
	}
	buf := leafBuffers.Get().(*[]chain.LeafHash)
	*buf = n.pool.AppendLeaves((*buf)[:0])
	for i := range *buf {
		f.look(&(*buf)[i], nil)
	}
	leafBuffers.Put(buf)
	for _, b := range n.recent.all() {
		txs := b.Txs()
		for i := range txs {
			leaf := txs[i].Leaf()
			f.look(&leaf, txs[i].Raw())
		}
	}
	late := n.pool.Lately()
	for i := range late {
		leaf := late[i].Leaf()
		f.look(&leaf, late[i].Raw())
	}
	for i := range f.out {
		if found := &f.out[i]; found.Raw == nil && found.Leaf != (chain.LeafHash{}) {
			if c, ok := n.pool.Get(found.Leaf); ok {
				found.Raw = c.Raw()
			} else {
				*found = p2p.Found{}
			}
		}
	}
	return f.out
}

// finder matches leaves to the places of short ids.
type finder struct {
	key wire.ShortKey
	at  map[uint64]int // −1: stands twice, or two leaves have it
	out []p2p.Found
}

// look enters a leaf if it was asked for; raw may be nil and is filled in later.
func (f *finder) look(leaf *chain.LeafHash, raw []byte) {
	id := f.key.ID(leaf)
	i, ok := f.at[id]
	if !ok || i < 0 {
		return
	}
	switch found := &f.out[i]; found.Leaf {
	case chain.LeafHash{}:
		*found = p2p.Found{Leaf: *leaf, Raw: raw}
	case *leaf:
		if raw != nil {
			found.Raw = raw
		}
	default:
		*found, f.at[id] = p2p.Found{}, -1
	}
}

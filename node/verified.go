package node

import (
	"sync"

	"quipu/chain"
)

// maxVerified bounds each generation of the cache; two are kept, about 10 MB in all.
const maxVerified = 1 << 16

// verified remembers which leaves this node has verified and with what outcome, so that a signature is verified
// once in its life. The key commits to the signature too. When the newer generation is full the older is dropped.
type verified struct {
	mu       sync.Mutex
	now, old map[chain.LeafHash]error
}

func newVerified() *verified {
	return &verified{now: map[chain.LeafHash]error{}, old: map[chain.LeafHash]error{}}
}

// put records an outcome: nil or the RuleError.
func (v *verified) put(leaf chain.LeafHash, outcome error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.now) >= maxVerified {
		v.old, v.now = v.now, make(map[chain.LeafHash]error, maxVerified)
	}
	v.now[leaf] = outcome
}

func (v *verified) get(leaf chain.LeafHash) (outcome error, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if outcome, ok = v.now[leaf]; !ok {
		outcome, ok = v.old[leaf]
	}
	return outcome, ok
}

// good is the form chain.CheckTxs and CheckBlocks ask for.
func (v *verified) good(leaf chain.LeafHash) bool {
	outcome, ok := v.get(leaf)
	return ok && outcome == nil
}

// drop forgets a leaf.
func (v *verified) drop(leaf chain.LeafHash) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.now, leaf)
	delete(v.old, leaf)
}

// timings remembers how long this node took to verify recent transactions, in µs: the evidence "this node verified".
type timings struct {
	mu       sync.Mutex
	now, old map[chain.TxID]uint32
}

func (t *timings) put(id chain.TxID, us uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now == nil || len(t.now) >= maxVerified {
		t.old, t.now = t.now, map[chain.TxID]uint32{}
	}
	t.now[id] = uint32(min(us, 1<<32-1))
}

// get is 0 for a transaction that isn't remembered.
func (t *timings) get(id chain.TxID) uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if us, ok := t.now[id]; ok {
		return us
	}
	return t.old[id]
}

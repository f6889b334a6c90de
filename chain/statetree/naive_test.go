package statetree

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
)

// naive is the definition read aloud, shared with nothing under test.
func naive(leaves []Leaf, depth int) (h Hash) {
	switch len(leaves) {
	case 0:
		return h
	case 1:
		b := append([]byte{0}, leaves[0].Account[:]...)
		b = binary.LittleEndian.AppendUint64(b, leaves[0].Balance)
		return sha256.Sum256(binary.LittleEndian.AppendUint64(b, leaves[0].Nonce))
	}
	var side [2][]Leaf
	for _, l := range leaves {
		p := sha256.Sum256(l.Account[:])
		bit := p[depth/8] >> (7 - depth%8) & 1
		side[bit] = append(side[bit], l)
	}
	left, right := naive(side[0], depth+1), naive(side[1], depth+1)
	return sha256.Sum256(append(append([]byte{1}, left[:]...), right[:]...))
}

// model is the set of leaves a tree should hold.
type model map[[32]byte]Leaf

func (m model) leaves() []Leaf { return slices.Collect(maps.Values(m)) }

func (m model) apply(changes []Change) {
	for _, c := range changes {
		if c.Delete || c.Leaf.Balance == 0 && c.Leaf.Nonce == 0 {
			delete(m, c.Leaf.Account)
		} else {
			m[c.Leaf.Account] = c.Leaf
		}
	}
}

// inverse returns the changes that lead back to m from m after changes.
func (m model) inverse(changes []Change) []Change {
	var back []Change
	for _, c := range changes {
		if old, ok := m[c.Leaf.Account]; ok {
			back = append(back, Change{Leaf: old})
		} else {
			back = append(back, Change{Leaf: Leaf{Account: c.Leaf.Account}, Delete: true})
		}
	}
	return back
}

func account(i uint64) (a [32]byte) {
	binary.LittleEndian.PutUint64(a[:], i)
	return a
}

func randomLeaf(r *rand.Rand, accounts uint64) Leaf {
	return Leaf{Account: account(r.Uint64N(accounts)), Balance: r.Uint64N(5), Nonce: r.Uint64N(3)}
}

// neighbours returns pairs of accounts whose paths share at least 24 bits,
// nearest pair first, so that small trees get deep one-sided branches.
var neighbours = sync.OnceValue(func() [][32]byte {
	type entry struct {
		p path
		a [32]byte
	}
	all := make([]entry, 1<<16)
	for i := range all {
		a := account(uint64(i))
		all[i] = entry{pathOf(&a), a}
	}
	slices.SortFunc(all, func(x, y entry) int { return x.p.compare(&y.p) })
	type pair struct {
		xor  uint64
		a, b [32]byte
	}
	var near []pair
	for i := 1; i < len(all); i++ {
		if x := all[i].p[0] ^ all[i-1].p[0]; x>>40 == 0 {
			near = append(near, pair{x, all[i-1].a, all[i].a})
		}
	}
	slices.SortFunc(near, func(x, y pair) int { return cmp.Compare(x.xor, y.xor) })
	var out [][32]byte
	for _, p := range near[:min(len(near), 16)] {
		out = append(out, p.a, p.b)
	}
	return out
})

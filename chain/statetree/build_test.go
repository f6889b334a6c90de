package statetree

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
)

// What Build makes of sorted leaves, with pages of leaves cut out of them, is
// a tree that answers everything as it should.
func TestBuild(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 9))
	for _, n := range []int{0, 1, 2, 3, 17, 200, 1100, 5000} {
		m := model{}
		for i := range n {
			a := account(uint64(i))
			m[a] = Leaf{Account: a, Balance: uint64(i) + 1}
		}
		for _, a := range neighbours()[:min(n, 8)] {
			m[a] = Leaf{Account: a, Balance: 7}
		}
		leaves := m.leaves()
		slices.SortFunc(leaves, func(x, y Leaf) int {
			p, q := pathOf(&x.Account), pathOf(&y.Account)
			return p.compare(&q)
		})
		s, at := newStore(), 0
		next := func() (l Leaf, ok bool, err error) {
			if at == len(leaves) {
				return l, false, nil
			}
			at++
			return leaves[at-1], true, nil
		}
		root, count, err := Build(next, s.put)
		if err != nil || root != RootOf(leaves) || count != uint64(len(leaves)) {
			t.Fatalf("%d leaves: root %x, %d counted, %v", n, root, count, err)
		}
		read := func(k PageKey, use func([]byte) error) error {
			if page, ok := s.pages[k]; ok {
				return use(page)
			}
			lo, _ := slices.BinarySearchFunc(leaves, 0, func(l Leaf, _ int) int { return cmp.Or(k.Above(l.Account), 1) })
			var b []byte
			for ; lo < len(leaves) && k.Above(leaves[lo].Account) == 0; lo++ {
				b = AppendLeaf(b, &leaves[lo])
			}
			return use(LeafPage(b))
		}
		p, err := OpenPaged(read, 0)
		if err != nil {
			t.Fatal(err)
		}
		checkPaged(t, p, m, r)
		if n > 2 { // out of order, or twice
			leaves[0], leaves[1], at = leaves[1], leaves[0], 0
			if _, _, err := Build(next, s.put); err == nil {
				t.Fatal("leaves out of order")
			}
			leaves[0], at = leaves[1], 0
			if _, _, err := Build(next, s.put); err == nil {
				t.Fatal("a leaf twice")
			}
		}
	}
}

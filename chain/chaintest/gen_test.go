package chaintest

import (
	"testing"

	"quipu/chain"
)

// genesis -> a1 -> a2
//
//	\-> b1
func TestBranchesKeepTheirOwnState(t *testing.T) {
	alice, bob := NewKey("alice"), NewKey("bob")
	g := New(Genesis(nil, alice, bob))
	a1 := g.Next("a1", []chain.Tx{alice.Pay(g.G, 0, 0, To(bob, 5))})
	g.Next("a2", []chain.Tx{alice.Pay(g.G, 1, 0, To(bob, 7))})
	b1 := g.SetTip("genesis").Next("b1", nil, At(1))
	if !a1.Valid || !b1.Valid {
		t.Fatal("valid blocks are marked invalid")
	}
	for name, want := range map[string]uint64{"a1": 5, "a2": 12, "b1": 0, "genesis": 0} {
		g.SetTip(name)
		if got := g.Account(bob.Account).Balance - 1000*chain.Knots; got != want {
			t.Errorf("after %s bob has gained %d, want %d", name, got, want)
		}
	}
	for _, b := range []*Block{a1, b1} {
		if _, err := g.G.CheckHeader(&g.Get("genesis").State, &b.Header); err != nil {
			t.Errorf("%s: %v", b.Name, err)
		}
		if _, errs := g.G.CheckBlocks([]chain.Block{b.Block}, nil); errs[0] != nil {
			t.Errorf("%s: %v", b.Name, errs[0])
		}
	}
	if bad := g.SetTip("a1").Next("bad", []chain.Tx{alice.Pay(g.G, 0, 0, To(bob, 1))}); bad.Valid {
		t.Error("a block that reuses a nonce is marked valid")
	}
}

package mempool

import (
	"slices"
	"testing"

	"quipu/chain"
)

// TestPart: a part holds the accounts that were chosen, chains in order; with a bound on arrival, what came later is
// left out, what follows it too, and the gapped.
func TestPart(t *testing.T) {
	s := newScene(t, Config{}, 1e9, a, b)
	a0, a1, a3 := s.pay(a, c, 0, 200, 1), s.pay(a, c, 1, 200, 1), s.pay(a, c, 3, 200, 1)
	b0 := s.pay(b, c, 0, 200, 1)
	s.add(a0, b0, a1)
	seq := s.pool.Seq()
	dearer := s.pay(a, c, 0, 900, 1)
	s.add(a3)

	of := func(want ...chain.Account) func(*chain.Account) bool {
		return func(a *chain.Account) bool { return slices.Contains(want, *a) }
	}
	want := func(what string, got []chain.LeafHash, txs ...chain.CheckedTx) {
		t.Helper()
		if !slices.Equal(got, leavesOf(txs)) {
			t.Errorf("%s: %d leaves, want %d others", what, len(got), len(txs))
		}
	}
	want("all of a", s.pool.Part(of(a), 0), a0, a1, a3)
	want("settled of a", s.pool.Part(of(a), seq), a0, a1)
	want("settled of a, before its second", s.pool.Part(of(a), seq-1), a0)
	want("b", s.pool.Part(of(b), 0), b0)
	want("nobody", s.pool.Part(of(c), 0))
	s.add(dearer)
	want("settled of a, whose first is a late replacement", s.pool.Part(of(a), seq))
	if n := len(s.pool.Part(of(a, b), 0)); n != 4 {
		t.Errorf("%d of both", n)
	}
}

package chain_test

import (
	"errors"
	"fmt"
	"testing"

	"quipu/chain"
	"quipu/chain/chaintest"
)

// A range of headers shows by itself which header rules it breaks, as far as it has what the rule needs.
func TestCheckRange(t *testing.T) {
	gen := chaintest.New(chaintest.Genesis(nil, alice))
	g := gen.G
	gen.Chain("b", 9, nil)
	rang := func(names ...string) (hs []chain.Header) {
		for _, n := range names {
			hs = append(hs, gen.Get(n).Header)
		}
		return hs
	}
	for from := 1; from <= 9; from++ {
		var names []string
		for i := from; i <= 9; i++ {
			names = append(names, fmt.Sprint("b", i))
		}
		if last, err := g.CheckRange(rang(names...)); err != nil || last != gen.Get("b9").ID() {
			t.Errorf("from height %d: %s, %v", from, last, err)
		}
	}
	otherBits := chain.ToBits(new(chain.Work).Rsh(target(g.Bits), 1))
	for i, c := range []struct {
		edit func(h *chain.Header)
		seal func(h *chain.Header)
		// what is wrong with the block of height 6 as the third, the first and the second of a range, nil if nothing shows
		third, first, second error
	}{
		{func(h *chain.Header) { h.Height++ }, nil, chain.ErrHeight, nil, chain.ErrHeight},
		{func(h *chain.Header) { h.Version = 0 }, nil, chain.ErrVersion, chain.ErrVersion, chain.ErrVersion},
		{func(h *chain.Header) { h.Version = 99 }, nil, chain.ErrUpgrade, chain.ErrUpgrade, chain.ErrUpgrade},
		{func(h *chain.Header) { h.Time = gen.Get("b5").Header.Time }, nil, chain.ErrTimeOrder, nil, chain.ErrTimeOrder},
		{func(h *chain.Header) { h.Time = chain.TimeLimit }, nil, chain.ErrTimeLimit, chain.ErrTimeLimit, chain.ErrTimeLimit},
		{func(h *chain.Header) { h.Bits = otherBits }, nil, chain.ErrBits, nil, nil},
		{func(h *chain.Header) { h.Bits = 0x2100ffff }, nil, chain.ErrBits, chain.ErrBits, chain.ErrBits}, // easier than the limit
		{nil, func(h *chain.Header) {
			for chain.MeetsTarget(h.ID(), h.Bits) {
				h.Nonce++
			}
		}, chain.ErrWork, chain.ErrWork, chain.ErrWork},
		{func(h *chain.Header) { h.HistoryRoot[0] ^= 1 }, nil, nil, nil, nil},
		{func(h *chain.Header) { h.BodySize = g.BodyLimit + 1 }, nil, chain.ErrBodySize, chain.ErrBodySize, chain.ErrBodySize},
		{func(h *chain.Header) { h.TxCount = 5 }, nil, chain.ErrTxCount, chain.ErrTxCount, chain.ErrTxCount},
		{func(h *chain.Header) { h.Parent[0] ^= 1 }, nil, chain.ErrUnknownParent, nil, chain.ErrUnknownParent},
	} {
		bad := gen.Get("b6").Header
		if c.edit != nil {
			c.edit(&bad)
			bad.Solve(1 << 40)
		} else {
			c.seal(&bad)
		}
		for _, v := range []struct {
			names []string
			want  error
		}{{[]string{"b4", "b5"}, c.third}, {[]string{"b5"}, c.second}, {nil, c.first}} {
			if _, err := g.CheckRange(append(rang(v.names...), bad)); !errors.Is(err, v.want) {
				t.Errorf("corruption %d after %v: %v, want %v", i, v.names, err, v.want)
			}
		}
	}
	early := gen.Get("b1").Header
	early.Bits = otherBits
	early.Solve(1 << 40)
	if _, err := g.CheckRange([]chain.Header{early}); !errors.Is(err, chain.ErrBits) {
		t.Errorf("other bits than the genesis's at height 1: %v", err)
	}
}

func target(bits uint32) *chain.Work {
	t, _ := chain.ToTarget(bits)
	return &t
}

package node

import (
	"context"
	"fmt"
	"testing"
	"time"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/chain/statetree"
	"quipu/rpc"
)

// A node writes snapshots in the background, and somebody who trusts nothing but headers rebuilds the state from the
// answers to state_range.
func TestSnapshotsAreServed(t *testing.T) {
	gen := chaintest.New(chaintest.Genesis(nil, alice, bob))
	cfg := Config{Genesis: gen.G, DataDir: t.TempDir(), snapshots: 4}
	n := withoutNet(t, cfg)
	a := &api{n: n}
	n.ledger.PinEvery(4) // as keepSnapshots will, which may begin after the first blocks
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.keepSnapshots(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	blocks := gen.Chain("a", 9, func(i int) []chain.Tx {
		var outs []chain.Output
		for j := range 60 {
			outs = append(outs, chain.Output{To: chain.Account{byte(i), byte(j), 1}, Amount: 5})
		}
		return []chain.Tx{alice.Pay(gen.G, gen.Account(alice.Account).Nonce, 0, outs...)}
	})
	listed := func() rpc.StateSnapshots {
		list, err := a.stateSnapshots(ctx, rpc.NoParams{})
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	want := 0
	for i, b := range blocks {
		feed(t, n, b)
		if (i+1)%4 != 0 {
			continue
		}
		want++
		deadline := time.After(30 * time.Second)
		for len(listed().Snapshots) < want {
			select {
			case <-deadline:
				t.Fatalf("no snapshot of block %d: %+v", i+1, listed())
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	for i, s := range listed().Snapshots {
		block := gen.Get(fmt.Sprintf("a%d", 4*(i+1)))
		if s.Height != block.Header.Height || s.Block != block.ID() {
			t.Fatalf("%+v", s)
		}
		var all []statetree.Leaf
		from, more := chain.Hash{}, true
		for more {
			r, err := a.stateRange(ctx, rpc.StateRangeParams{Height: s.Height, From: from, Max: 50})
			if err != nil {
				t.Fatal(err)
			}
			leaves, covered, cut, err := r.Verify(block.Header.StateRoot, from)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, _, err := r.Verify(gen.G.State().Header.StateRoot, from); err == nil {
				t.Fatal("an answer about another root was taken")
			}
			all = append(all, leaves...)
			next, ok := statetree.NextPath(covered)
			from, more = next, ok && cut
		}
		if root := statetree.RootOf(all); chain.Hash(root) != block.Header.StateRoot || uint64(len(all)) != s.Accounts {
			t.Fatalf("%d accounts with root %x", len(all), root)
		}
	}
	if _, err := a.stateRange(ctx, rpc.StateRangeParams{Height: 5, Max: 1}); !rpc.Is(err, rpc.NameNotFound) {
		t.Fatalf("a height without a snapshot: %v", err)
	}
}

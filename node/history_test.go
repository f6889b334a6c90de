package node

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/rpc"
)

// genesis -> a1 -> a2 -> a3
//
//	\-> b2 -> b3 -> b4
//
// account_history tells what each entry did to the account, in pages, and follows a reorg.
func TestAccountHistory(t *testing.T) {
	gen := chaintest.New(chaintest.Genesis(func(g *chain.Genesis) { g.AccountPrice = 700 }, alice, bob))
	n := withoutNet(t, Config{Genesis: gen.G, History: true})
	a := &api{n: n}
	pay := func(nonce uint64, out ...chain.Output) chain.Tx {
		return alice.Pay(gen.G, nonce, uint64(len(out))*700, out...)
	}
	blocks := []*chaintest.Block{
		gen.Next("a1", []chain.Tx{pay(0, chaintest.To(bob, 10), chaintest.To(bob, 5))}),
		gen.Next("a2", []chain.Tx{pay(1, chaintest.To(carol, 7), chaintest.To(alice, 3))}, chaintest.MinedBy(bob)),
		gen.Next("a3", nil),
	}
	gen.SetTip("a1")
	blocks = append(blocks, gen.Next("b2", nil, chaintest.MinedBy(carol)), gen.Next("b3", nil), gen.Next("b4", nil))
	name := map[chain.BlockID]string{}
	for _, b := range blocks {
		name[b.ID()] = b.Name
	}
	list := func(k chaintest.Key, max int) (out []string) {
		t.Helper()
		account := k.Account
		p := rpc.AccountHistoryParams{Account: &account, Max: max}
		for {
			if err := p.Validate(); err != nil {
				t.Fatal(err)
			}
			r, err := a.accountHistory(t.Context(), p)
			if err != nil || len(r.Entries) > max || r.Indexed != n.Tip().Header.Height {
				t.Fatalf("%v: %+v", err, r)
			}
			for _, e := range r.Entries {
				s := fmt.Sprintf("%s %s %d", name[e.Block], e.Kind, e.Confirmations)
				for _, v := range []*rpc.Decimal{e.Received, e.Spent, e.Fee} {
					if s += " -"; v != nil {
						s += fmt.Sprint(uint64(*v))
					}
				}
				if (e.TxID == nil) != (e.Kind == rpc.HistoryMined) || (e.Index == nil) != (e.TxID == nil) {
					t.Fatalf("%+v", e)
				}
				out = append(out, s)
			}
			if r.Next == "" {
				return out
			}
			p.Before = r.Next
		}
	}
	want := func(k chaintest.Key, lines ...string) {
		t.Helper()
		for _, max := range []int{1, 2, 1000} {
			for _, a.atOnce = range []int{0, 1} {
				if got := list(k, max); !slices.Equal(got, lines) {
					t.Fatalf("pages of %d: %q, want %q", max, got, lines)
				}
			}
		}
	}
	fee := func(b *chaintest.Block) uint64 { tx := b.Checked.Txs()[0].Tx(); return tx.Fee }
	feed(t, n, blocks[:3]...)
	f1, f2 := fee(blocks[0]), fee(blocks[1])
	reward := gen.G.SubsidyAt(2) + f2 - 700 // carol's account was made and paid for
	want(bob, fmt.Sprintf("a2 mined 2 -%d - -", reward), "a1 tx 3 -15 - -")
	want(alice, fmt.Sprintf("a2 tx 2 -3 -%d -%d", 10+f2, f2), fmt.Sprintf("a1 tx 3 - -%d -%d", 15+f1, f1))
	want(carol, "a2 tx 2 -7 - -")
	if _, err := n.ledger.IndexHistory(true); err != nil {
		t.Fatal(err)
	}
	feed(t, n, blocks[3:]...)
	want(carol, fmt.Sprintf("b2 mined 3 -%d - -", gen.G.SubsidyAt(2)))
	want(bob, "a1 tx 4 -15 - -")
	if h := n.historyStatus(); h == nil || h.Height != 1 || h.Behind != 3 {
		t.Fatalf("%+v", h)
	}

	for _, p := range []rpc.AccountHistoryParams{
		{Max: 1}, {Account: &bob.Account, Address: "x", Max: 1}, {Account: &bob.Account}, {Account: &bob.Account, Max: 1001},
		{Account: &bob.Account, Max: 1, Before: "7"}, {Account: &bob.Account, Max: 1, Before: "7:"}, {Account: &bob.Account, Max: 1, Before: "07:1"},
		{Account: &bob.Account, Max: 1, Before: "7:4294967296"}, {Account: &bob.Account, Max: 1, Before: "-1:0"},
	} {
		if !rpc.Is(p.Validate(), rpc.NameInvalidParams) {
			t.Errorf("%+v is taken", p)
		}
	}
	off := &api{n: withoutNet(t, Config{Genesis: gen.G})}
	if _, err := off.accountHistory(t.Context(), rpc.AccountHistoryParams{Account: &bob.Account, Max: 1}); !rpc.Is(err, rpc.NameUnavailable) {
		t.Errorf("a node without the index: %v", err)
	}
	if off.n.historyStatus() != nil {
		t.Error("a node without the index says how far it is")
	}
}

// Of what was pruned only the place is known.
func TestHistoryOfPrunedBlocks(t *testing.T) {
	gen := chaintest.New(crashGenesis())
	n := withoutNet(t, Config{Genesis: gen.G, History: true, Prune: 8, undoKeep: 4})
	feed(t, n, gen.Chain("a", 200, func(i int) []chain.Tx {
		return []chain.Tx{alice.Pay(gen.G, uint64(i), 0, chaintest.To(bob, 1))}
	})...)
	pruned := n.ledger.Pruned()
	if pruned < 100 {
		t.Fatalf("pruned to %d", pruned)
	}
	r, err := (&api{n: n}).accountHistory(t.Context(), rpc.AccountHistoryParams{Account: &bob.Account, Max: 1000})
	if err != nil || len(r.Entries) != 200 || r.Next != "" || r.Indexed != 200 {
		t.Fatalf("%v: %d entries of blocks to %d", err, len(r.Entries), r.Indexed)
	}
	for i, e := range r.Entries {
		if e.Height != uint64(200-i) || e.Pruned != (e.Height <= pruned) || (e.TxID == nil) != e.Pruned || (e.Received == nil) != e.Pruned || e.Index == nil || e.TimeMS == 0 {
			t.Fatalf("pruned to %d: %+v", pruned, e)
		}
	}
	r, err = (&api{n: n}).accountHistory(t.Context(), rpc.AccountHistoryParams{Account: &gen.Miner, Max: 1000})
	if err != nil || len(r.Entries) != 200 || r.Entries[0].Received == nil || r.Entries[199].Received != nil || !r.Entries[199].Pruned {
		t.Fatalf("%v: %+v", err, r.Entries[199])
	}
}

// A node that had the index off writes it while it runs.
func TestHistoryCatchesUp(t *testing.T) {
	gen := chaintest.New(crashGenesis())
	cfg := Config{Genesis: gen.G, DataDir: t.TempDir(), TestNet: true}
	n := withoutNet(t, cfg)
	feed(t, n, gen.Chain("a", 700, nil)...)
	n.Close()
	cfg.History = true
	n = withoutNet(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.keepHistory(ctx) }()
	deadline := time.After(30 * time.Second)
	for n.ledger.HistoryInfo().Behind >= 64 {
		select {
		case err := <-done:
			t.Fatalf("it ended: %v", err)
		case <-deadline:
			t.Fatalf("%+v", n.ledger.HistoryInfo())
		case <-time.After(time.Millisecond):
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	page, err := n.ledger.History(gen.Miner, nil, 1000)
	if err != nil || len(page.Touches) != 700 || page.Indexed != 700 {
		t.Fatalf("%v: %d of 700 blocks, %d indexed", err, len(page.Touches), page.Indexed)
	}
}

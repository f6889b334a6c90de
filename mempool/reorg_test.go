package mempool

import (
	"encoding/binary"
	"slices"
	"testing"

	"quipu/chain"
)

// deepReorg is a change that reverts blocks with n transactions of 159 bytes in all, chains of so many an account, and
// the accounts after it.
func deepReorg(t testing.TB, g *chain.Genesis, n, each, perBlock int) (chain.Change, []chain.CheckedTx) {
	raws := make([][]byte, n)
	for i := range raws {
		var from chain.Account
		binary.LittleEndian.PutUint64(from[:], uint64(i%(n/each)))
		fee := 200 + uint64(i)*2654435761%1_000_003 // all different
		tx := chain.Tx{From: from, Nonce: uint64(i / (n / each)), Fee: fee, Outputs: []chain.Output{{To: from, Amount: 1}}}
		raws[i] = tx.Append(nil)
	}
	txs, errs := g.CheckTxs(raws, func(chain.LeafHash) bool { return true })
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	var ch chain.Change
	for at := 0; at < n; at += perBlock {
		block := chain.Seal(chain.Header{Height: uint64(at/perBlock + 1), Miner: acct(255)}, txs[at:min(n, at+perBlock)])
		u := chain.Update{Block: &block}
		for i := range block.Txs() {
			u.Changes = append(u.Changes, chain.AccountChange{Account: block.Txs()[i].Tx().From, Existed: true,
				Before: chain.AccountState{Balance: 1 << 50, Nonce: block.Txs()[i].Tx().Nonce}})
		}
		ch.Reverted = append([]chain.Update{u}, ch.Reverted...) // newest first
	}
	return ch, txs
}

// 100,000 transactions of reverted blocks come back: all that the cap has room for, the best effective rates, offered
// best first, each once, none twice in the way of another.
func TestManyComeBack(t *testing.T) {
	for _, c := range []struct {
		name          string
		n, each, room int // transactions, chains of so many, transactions the pool has room for
	}{
		{"room for half", 100_000, 10, 50_000},
		{"room for all", 10_000, 10, 10_000},
		{"room for half, no chains", 10_000, 1, 5_000},
		{"room for few", 10_000, 10, 1000},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := c.n
			w := newWorld(t, 1, nil)
			p := New(w.g, Config{MaxBytes: max(c.room*159, chain.TxMaxSize), AccountBytes: chain.TxMaxSize})
			ch, txs := deepReorg(t, w.g, n, c.each, 1000)
			admitted := p.Update(ch, nil, 0)
			verify(t, p)
			s := p.Stats()
			if s.Txs != c.room || len(admitted) != c.room || s.GappedTxs != 0 || s.Promoted != uint64(c.room) {
				t.Fatalf("%d pending, %d gapped, %d admitted, want %d", s.Txs, s.GappedTxs, len(admitted), c.room)
			}
			floor := make([]uint64, n) // effective fee: all have one length
			accounts := n / c.each
			for i := range txs {
				floor[i] = txs[i].Tx().Fee
				if i >= accounts {
					floor[i] = min(floor[i], floor[i-accounts])
				}
			}
			at := map[chain.TxID]int{}
			for i := range txs {
				at[txs[i].ID()] = i
			}
			offered := p.Candidates(n * 159)
			if len(offered) != c.room {
				t.Fatalf("%d offered", len(offered))
			}
			seen := make([]bool, n)
			last := ^uint64(0)
			for k := range offered {
				i := at[offered[k].ID()]
				if seen[i] || floor[i] > last || i >= accounts && !seen[i-accounts] {
					t.Fatalf("transaction %d is offered at place %d", i, k)
				}
				seen[i], last = true, floor[i]
			}
			best := slices.Clone(floor)
			slices.Sort(best)
			if want := best[n-c.room]; last != want {
				t.Fatalf("the worst that has room pays %d, want %d", last, want)
			}
			if s.Dropped[ReasonEvicted] != uint64(n-c.room) {
				t.Fatalf("dropped %v", s.Dropped)
			}
		})
	}
}

// BenchmarkComeBack takes 100,000 transactions back into a pool with room for half of them.
func BenchmarkComeBack(b *testing.B) {
	const n = 100_000
	w := newWorld(b, 1, nil)
	ch, _ := deepReorg(b, w.g, n, 10, 1000)
	b.ReportAllocs()
	for b.Loop() {
		p := New(w.g, Config{MaxBytes: n / 2 * 159})
		p.Update(ch, nil, 0)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/n, "µs/tx")
}

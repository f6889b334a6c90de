package mempool

import (
	"encoding/binary"
	"runtime"
	"testing"

	"quipu/chain"
)

// many makes n transactions of 159 bytes, chains of so many an account, rates spread evenly.
func many(b *testing.B, n, each int) (*chain.Genesis, chain.Accounts, []chain.CheckedTx) {
	w := newWorld(b, 1, nil)
	accs, raws := chain.Accounts{}, make([][]byte, n)
	for i := range raws {
		var from chain.Account
		binary.LittleEndian.PutUint64(from[:], uint64(i/each))
		accs[from] = chain.AccountState{Balance: chain.Knots * 1000}
		fee := 200 + uint64(i)*2654435761%100_000
		tx := chain.Tx{From: from, Nonce: uint64(i % each), Fee: fee, Outputs: []chain.Output{{To: from, Amount: 1}}}
		raws[i] = tx.Append(nil)
	}
	txs, _ := w.g.CheckTxs(raws, func(chain.LeafHash) bool { return true })
	return w.g, accs, txs
}

// BenchmarkAdd adds one transaction to a pool that fills up: with 16 MiB it is full after 105,517.
func BenchmarkAdd(b *testing.B) {
	for name, each := range map[string]int{"chains of 1": 1, "chains of 1000": 1000} {
		b.Run(name, func(b *testing.B) {
			const n = 200_000
			g, accs, txs := many(b, n, each)
			p := New(g, Config{})
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; b.Loop(); i++ {
				if i%n == 0 && i > 0 {
					b.StopTimer()
					p = New(g, Config{})
					b.StartTimer()
				}
				p.Add(0, accs, txs[i%n:i%n+1])
			}
		})
	}
}

// BenchmarkFullPool measures what a pool of 100,000 costs: its memory, and one selection of 2 MiB.
func BenchmarkFullPool(b *testing.B) {
	const n = 100_000
	g, accs, txs := many(b, n, 4)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	p := New(g, Config{})
	for _, r := range p.Add(0, accs, txs) {
		if r.Err != nil {
			b.Fatal(r.Err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(txs)
	runtime.KeepAlive(accs)
	for b.Loop() {
		if got := p.Candidates(2 << 20); len(got) != 2<<20/159 {
			b.Fatal(len(got))
		}
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "B/tx")
}

// BenchmarkUpdate applies a block of 10,000 pooled transactions to a pool of 100,000 and takes it back.
func BenchmarkUpdate(b *testing.B) {
	const n, mined = 100_000, 10_000
	g, accs, txs := many(b, n, 4)
	p := New(g, Config{})
	p.Add(0, accs, txs)
	block := chain.Seal(chain.Header{Height: 1, Miner: acct(255)}, txs[:mined])
	u, err := g.Apply(&block, accs)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		p.Update(chain.Change{Applied: []chain.Update{u}}, nil, 1)
		if got := p.Update(chain.Change{Reverted: []chain.Update{u}}, nil, 0); len(got) != mined {
			b.Fatal(len(got))
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/mined, "µs/tx")
}

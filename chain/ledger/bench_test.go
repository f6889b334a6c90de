package ledger

import (
	"fmt"
	"testing"
	"time"

	"quipu/chain"
	"quipu/chain/chaintest"
)

// headersOnly makes n empty headers in a row.
func headersOnly(g *chain.Genesis, n int) []chain.Header {
	s := g.State()
	out := make([]chain.Header, n)
	for i := range out {
		h := g.NewHeader(&s, chain.Account{}, s.Header.Time+uint64(g.Spacing))
		h.StateRoot = s.Header.StateRoot
		h.Solve(1 << 40)
		out[i], s = h, chain.AssumeState(&s, &h)
	}
	return out
}

// BenchmarkHeaders stores 50,000 headers, opens the ledger again with them and asks what sync asks.
func BenchmarkHeaders(b *testing.B) {
	g := chaintest.Genesis(nil)
	hs := headersOnly(g, 50_000)
	cfg := Config{Genesis: g, Dir: b.TempDir()}
	l, err := Open(cfg)
	if err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	for j := 0; j < len(hs); j += 2000 {
		if _, err := l.AddHeaders(hs[j:min(j+2000, len(hs))]); err != nil {
			b.Fatal(err)
		}
	}
	b.Logf("AddHeaders: %d ns a header", time.Since(start).Nanoseconds()/int64(len(hs)))
	b.Run("Open", func(b *testing.B) {
		for range b.N {
			l.Close()
			if l, err = Open(cfg); err != nil {
				b.Fatal(err)
			}
		}
	})
	defer func() { l.Close() }()
	b.Run("Wanted", func(b *testing.B) {
		for range b.N {
			l.Wanted(1 << 20)
		}
	})
	b.Run("Held", func(b *testing.B) {
		for range b.N {
			l.Held()
		}
	})
	b.Run("HeadersAfter", func(b *testing.B) {
		for range b.N {
			l.HeadersAfter([]chain.BlockID{hs[40_000].ID()}, 2000)
		}
	})
}

// BenchmarkAdd applies blocks of 1,000 payments to 2,000 accounts, one Add for each or 16 in one.
func BenchmarkAdd(b *testing.B) {
	var keys []chaintest.Key
	for i := range 1000 {
		keys = append(keys, chaintest.NewKey(fmt.Sprint(i)))
	}
	g := chaintest.Genesis(nil, keys...)
	gen := chaintest.New(g)
	const blocks = 32
	var all []chain.CheckedBlock
	var hs []chain.Header
	for i, block := range gen.Chain("a", blocks, func(i int) (txs []chain.Tx) {
		for j, k := range keys {
			txs = append(txs, k.Pay(g, uint64(i), 0, chain.Output{To: chain.Account{byte(j), byte(j >> 8), 1}, Amount: 1}))
		}
		return txs
	}) {
		all, hs = append(all, gen.Get(fmt.Sprint("a", i+1)).Checked), append(hs, block.Header)
	}
	for _, group := range []int{1, 16} {
		b.Run(fmt.Sprint("group", group), func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				l, err := Open(Config{Genesis: g, Dir: b.TempDir()})
				if err != nil {
					b.Fatal(err)
				}
				l.AddHeaders(hs)
				b.StartTimer()
				for i := 0; i < blocks; i += group {
					if _, err := l.Add(all[i : i+group]); err != nil {
						b.Fatal(err)
					}
				}
				b.StopTimer()
				if l.Tip().Header.Height != blocks {
					b.Fatal("not all were applied")
				}
				l.Close()
				b.StartTimer()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/blocks/1000, "ns/tx")
		})
	}
}

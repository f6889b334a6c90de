package ledger

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"quipu/chain"
	"quipu/chain/chaintest"
)

// BenchmarkHistory writes batches of the index for blocks of 2,500 payments between 10,000 or 1,000,000 accounts, whose
// bodies are stored, and reads 100 entries of an account from it. The blocks keep no other rule.
func BenchmarkHistory(b *testing.B) {
	for _, accounts := range []uint64{10_000, 1_000_000} {
		const blocks, txs = 64, 2500
		l := historyChain(b, blocks, txs, accounts)
		b.Run(fmt.Sprint("write", accounts), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				l.history.base = l.main[0]
				for more := true; more; {
					var err error
					if more, err = l.IndexHistory(true); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/blocks/txs, "ns/tx")
			size := 0
			_ = l.db.View(func(txn *badger.Txn) error {
				return each(txn, keyHistory, func(k, v []byte) error { size += 1 + len(k) + len(v); return nil })
			})
			b.ReportMetric(float64(size)/blocks/txs, "stored-B/tx")
		})
		b.Run(fmt.Sprint("read", accounts), func(b *testing.B) {
			for i := range b.N {
				if _, err := l.History(benchAccount(uint64(i)%accounts), nil, 100); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func benchAccount(i uint64) (a chain.Account) {
	binary.BigEndian.PutUint64(a[:], i*0x9e3779b97f4a7c15)
	return a
}

// historyChain is a ledger whose main chain has blocks of payments, stored without being applied.
func historyChain(b *testing.B, blocks, txs int, accounts uint64) *Ledger {
	g := chaintest.Genesis(nil)
	l, err := Open(Config{Genesis: g, Dir: b.TempDir(), History: true, MemTable: NodeMemTable, FreeSpace: plenty})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	w := spill{l: l}
	n := uint64(0)
	for h := range blocks {
		var body []byte
		for range txs {
			n++
			t := chain.Tx{From: benchAccount(n % accounts), Outputs: []chain.Output{{To: benchAccount((n * 7919) % accounts), Amount: 1}}}
			body = t.Append(body)
		}
		e := &entry{id: chain.BlockID{1, byte(h)}, parent: l.main.tip(), height: uint32(h + 1), bodySize: uint32(len(body)), body: true}
		l.index.add(e)
		l.main = append(l.main, e)
		r := headerRecord{state: chain.State{ID: e.id}}
		if err := w.set(idKey(keyHeader, e.id), r.encode()); err != nil {
			b.Fatal(err)
		}
		if err := putPieces(w.set, idKey(keyBody, e.id), body); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.flush(); err != nil {
		b.Fatal(err)
	}
	l.record.height = uint64(blocks)
	return l
}

package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
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
		l := historyChain(b, blocks, txs, func(n uint64) chain.Tx { return pays(n%accounts, n*7919%accounts) })
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

// TestHistoryOfABusyAccount: one account sends all of 64 blocks that are more than a batch takes in bytes.
func TestHistoryOfABusyAccount(t *testing.T) {
	const blocks, txs = 64, 2700
	l := historyChain(t, blocks, txs, func(n uint64) chain.Tx { return pays(1, 2+n%1000) })
	more, err := l.IndexHistory(false)
	if at := l.HistoryInfo(); err != nil || more || at.Height < blocks/2 || at.Height == blocks {
		t.Fatalf("%v: the first batch of %d blocks reaches to %d", err, blocks, at.Height)
	}
	for range 2 {
		for i, want := range []int{blocks, blocks * txs, blocks * txs / 1000} { // account 0 mines
			touches, indexed := readHistory(t, l, benchAccount(uint64(i)), 1000)
			if n := len(touches); indexed != blocks || n < want || n > want+1 {
				t.Fatalf("account %d: %d entries to block %d, want %d", i, n, indexed, want)
			}
			for j := 1; j < len(touches); j++ {
				if a, b := touches[j-1], touches[j]; a.Height < b.Height || a.Height == b.Height && a.Index <= b.Index {
					t.Fatalf("account %d: %v before %v", i, a, b)
				}
			}
		}
		if _, err := l.IndexHistory(true); err != nil {
			t.Fatal(err)
		}
		err := l.db.View(func(txn *badger.Txn) error {
			longest := 0
			err := each(txn, keyHistory, func(k, v []byte) error {
				_, places, err := decodeHistory(be.Uint32(k[32:]), v)
				longest = max(longest, len(places))
				return err
			})
			if longest < historyEntries || longest > historyEntries+txs {
				t.Errorf("a record of %d entries", longest)
			}
			return errors.Join(err, l.verifyHistory(txn, 1))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestHistoryOfHostileBlocks: 255 outputs to new accounts a transaction. A batch ends before it is too large, and each
// account has one entry.
func TestHistoryOfHostileBlocks(t *testing.T) {
	const blocks, txs = 13, 200
	l := historyChain(t, blocks, txs, func(n uint64) chain.Tx {
		to := make([]uint64, 255)
		for i := range to {
			to[i] = n*255 + uint64(i)
		}
		return pays(1, to...)
	})
	var heights []uint64
	for more := true; more; {
		var err error
		if more, err = l.IndexHistory(true); err != nil {
			t.Fatal(err)
		}
		heights = append(heights, l.HistoryInfo().Height)
	}
	if !slices.Equal(heights, []uint64{8, 13}) { // 51,201 entries a block
		t.Fatalf("batches end at %v", heights)
	}
	for _, i := range []uint64{255, 256 * 255, blocks*txs*255 + 254} {
		if touches, _ := readHistory(t, l, benchAccount(i), 3); len(touches) != 1 || touches[0].Height != (i/255-1)/txs+1 {
			t.Fatalf("account %d: %v", i, touches)
		}
	}
}

func pays(from uint64, to ...uint64) chain.Tx {
	t := chain.Tx{From: benchAccount(from)}
	for _, a := range to {
		t.Outputs = append(t.Outputs, chain.Output{To: benchAccount(a), Amount: 1})
	}
	return t
}

func benchAccount(i uint64) (a chain.Account) {
	binary.BigEndian.PutUint64(a[:], i*0x9e3779b97f4a7c15)
	return a
}

// historyChain is a ledger whose main chain has blocks of payments, stored without being applied.
func historyChain(b testing.TB, blocks, txs int, tx func(n uint64) chain.Tx) *Ledger {
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
			t := tx(n)
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

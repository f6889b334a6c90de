package ledger

import (
	"bytes"
	"testing"

	"quipu/chain"
	"quipu/chain/chaintest"
)

func FuzzHeaderRecord(f *testing.F) {
	g := chaintest.Genesis(nil)
	gen := chaintest.New(g)
	for _, b := range gen.Chain("a", 8, nil) {
		r := headerRecord{state: b.State, arrival: 9}
		f.Add(r.encode())
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeHeaderRecord(chain.BlockID{}, b)
		if err == nil && !bytes.Equal(r.encode(), b) {
			t.Fatal("decode then encode isn't the identity")
		}
	})
}

func FuzzUndo(f *testing.F) {
	u := chain.Update{Issued: 1, Burned: 2, Changes: []chain.AccountChange{
		{Account: chain.Account{1}, Existed: true, Before: chain.AccountState{Balance: 3, Nonce: 4}},
		{Account: chain.Account{2}},
	}}
	f.Add(encodeUndo(chain.BlockID{5}, &u))
	f.Add([]byte{})
	f.Add(append(make([]byte, 48), 0xff, 0xff, 0xff, 0xff))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeUndo(b)
		if err != nil {
			return
		}
		u := chain.Update{Issued: r.issued, Burned: r.burned}
		for _, a := range r.before {
			u.Changes = append(u.Changes, chain.AccountChange{Account: a.account, Existed: a.existed, Before: a.state})
		}
		if !bytes.Equal(encodeUndo(r.block, &u), b) {
			t.Fatal("decode then encode isn't the identity")
		}
	})
}

func FuzzSmallRecords(f *testing.F) {
	tip := tipRecord{height: 1, issued: 2, burned: 3, undoFrom: 4}
	f.Add(tip.encode())
	f.Add(txRecord{1, 2, 3, 4}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := decodeTip(b); err == nil && !bytes.Equal(r.encode(), b) {
			t.Fatal("tip: decode then encode isn't the identity")
		}
		if r, err := decodeTxRecord(b); err == nil && !bytes.Equal(r.encode(), b) {
			t.Fatal("transaction: decode then encode isn't the identity")
		}
	})
}

func FuzzReadExport(f *testing.F) {
	g := chaintest.Genesis(nil, chaintest.NewKey("alice"))
	canonical := g.Append(nil)
	b := append(le.AppendUint32([]byte(exportMagic), uint32(len(canonical))), canonical...)
	f.Add(b)
	gen := chaintest.New(g)
	for _, block := range gen.Chain("a", 3, func(i int) []chain.Tx {
		return []chain.Tx{chaintest.NewKey("alice").Pay(g, uint64(i), 0, chaintest.To(chaintest.NewKey("bob"), 1))}
	}) {
		b = append(block.Header.Append(b), block.Body...)
	}
	f.Add(b)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		g, blocks, err := ReadExport(bytes.NewReader(b))
		if err != nil {
			return
		}
		canonical := g.Append(nil)
		again := append(le.AppendUint32([]byte(exportMagic), uint32(len(canonical))), canonical...)
		for block, err := range blocks {
			if err != nil {
				return
			}
			again = append(block.Header.Append(again), block.Body...)
		}
		if !bytes.Equal(again, b) {
			t.Fatal("reading then writing isn't the identity")
		}
	})
}

package wire

import (
	"bytes"
	"encoding/hex"
	"math/bits"
	"math/rand/v2"
	"testing"

	"quipu/chain"
)

// sipHash is SipHash-2-4 of any input, written from the paper: the unrolled form is held to it.
func sipHash(k0, k1 uint64, b []byte) uint64 {
	v := [4]uint64{k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573}
	rounds := func(n int) {
		for range n {
			v[0] += v[1]
			v[1] = bits.RotateLeft64(v[1], 13)
			v[1] ^= v[0]
			v[0] = bits.RotateLeft64(v[0], 32)
			v[2] += v[3]
			v[3] = bits.RotateLeft64(v[3], 16)
			v[3] ^= v[2]
			v[0] += v[3]
			v[3] = bits.RotateLeft64(v[3], 21)
			v[3] ^= v[0]
			v[2] += v[1]
			v[1] = bits.RotateLeft64(v[1], 17)
			v[1] ^= v[2]
			v[2] = bits.RotateLeft64(v[2], 32)
		}
	}
	padded := append(bytes.Clone(b), make([]byte, 7-len(b)%8)...)
	padded = append(padded, byte(len(b)))
	for ; len(padded) > 0; padded = padded[8:] {
		m := le.Uint64(padded)
		v[3] ^= m
		rounds(2)
		v[0] ^= m
	}
	v[2] ^= 0xff
	rounds(4)
	return v[0] ^ v[1] ^ v[2] ^ v[3]
}

// TestShortID: the vector of the paper's appendix A for the general form, and the form for leaves against that.
func TestShortID(t *testing.T) {
	key, _ := hex.DecodeString("000102030405060708090a0b0c0d0e0f")
	k0, k1 := le.Uint64(key), le.Uint64(key[8:])
	if got := sipHash(k0, k1, key[:15]); got != 0xa129ca6149be45e5 {
		t.Fatalf("SipHash-2-4 of the paper's input is %x", got)
	}
	for i := range 200 {
		var leaf chain.LeafHash
		for j := range leaf {
			leaf[j] = byte(rand.Uint32())
		}
		k := ShortKey{rand.Uint64(), rand.Uint64()}
		if got, want := k.ID(&leaf), sipHash(k.k0, k.k1, leaf[:])&(1<<48-1); got != want {
			t.Fatalf("%d: %x, want %x", i, got, want)
		}
	}
	h, other := exampleHeader(15_900), exampleHeader(15_901)
	if NewShortKey(&h, 5) == NewShortKey(&h, 6) || NewShortKey(&h, 5) == NewShortKey(&other, 5) {
		t.Error("another header or nonce gives the same key")
	}
}

func BenchmarkShortID(b *testing.B) {
	leaves := make([]chain.LeafHash, 4000)
	k := ShortKey{1, 2}
	b.ReportAllocs()
	for b.Loop() {
		for i := range leaves {
			k.ID(&leaves[i])
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(leaves)), "ns/leaf")
}

// TestCompactCorruptions: one valid list of a block of five transactions, and what no honest node sends.
func TestCompactCorruptions(t *testing.T) {
	raw := exampleTx()
	good := Compact{IDs: []uint64{1, 2, 1<<48 - 1}, Prefilled: []PlacedTx{{Index: 0, Raw: raw}, {Index: 3, Raw: raw}}}
	b := AppendCompact(nil, &good)
	code, c, err := DecodeCompact(b, 5)
	if err != nil || code != BodyFollows || c.IDs[2] != 1<<48-1 || c.Prefilled[1].Index != 3 || !bytes.Equal(c.Prefilled[1].Raw, raw) {
		t.Fatalf("%v %+v %v", code, c, err)
	}
	if len(b) != good.Size() {
		t.Errorf("%d bytes, Size says %d", len(b), good.Size())
	}
	second := len(b) - len(raw) - 2 // index of the second prefilled
	for what, v := range map[string]struct {
		count uint32
		b     []byte
	}{
		"a header of four":         {4, b},
		"a header of six":          {6, b},
		"more ids than the header": {2, b},
		"unknown code":             {5, append([]byte{3}, b[1:]...)},
		"bytes after not here":     {5, []byte{0, 0}},
		"bytes after not yet":      {5, []byte{2, 0}},
		"a place twice":            {5, patched(b, second, 0, 0)},
		"a place beyond the block": {5, patched(b, second, 5, 0)},
		"a broken transaction":     {5, patched(b, second+2, 9)},
		"no code":                  {5, nil},
	} {
		if _, _, err := DecodeCompact(v.b, v.count); !isMalformed(err) {
			t.Errorf("%s: %v", what, err)
		}
	}

	widest := chain.Tx{Outputs: make([]chain.Output, chain.MaxOutputs), Memo: make([]byte, chain.MaxMemo)}
	big := widest.Append(nil)
	var most Compact
	for i := range MaxPrefilled/len(big) + 1 {
		most.Prefilled = append(most.Prefilled, PlacedTx{Index: uint16(i), Raw: big})
	}
	n := uint32(len(most.Prefilled))
	if _, _, err := DecodeCompact(AppendCompact(nil, &most), n); !isMalformed(err) {
		t.Errorf("%d bytes prefilled: %v", int(n)*len(big), err)
	}
	most.Prefilled = most.Prefilled[:n-1]
	full := AppendCompact(nil, &most)
	if _, _, err := DecodeCompact(full, n-1); err != nil {
		t.Errorf("as much prefilled as may be: %v", err)
	}
	if size := CompactSize(n-1, (n-1)*chain.TxMaxSize); len(full) > size {
		t.Errorf("an answer of %d bytes, CompactSize says %d", len(full), size)
	}
	ids := Compact{IDs: make([]uint64, MaxBlockTxCount)}
	if full := AppendCompact(nil, &ids); len(full) > CompactSize(MaxBlockTxCount, chain.MaxBody) {
		t.Errorf("the longest list of ids takes %d bytes", len(full))
	}
	// What a header of another network's limits says bounds nothing beyond the format's own.
	if CompactSize(1<<32-1, 1<<32-1) > MaxPrefilled+8*MaxBlockTxCount+compactHead {
		t.Error("CompactSize follows a header without bound")
	}
}

func TestBlockIndexCorruptions(t *testing.T) {
	q := BlockIndexRequest{ID: fill[chain.BlockID](1), Indexes: []uint16{3, 7}}
	b := q.Append(nil)
	if !ByIndex(b) || ByIndex((&BlockTxsRequest{Leaves: make([]chain.LeafHash, 1)}).Append(nil)) || ByIndex(nil) {
		t.Error("the two forms aren't told apart")
	}
	for what, v := range map[string][]byte{
		"form 1":           patched(b, 0, 1),
		"none":             patched(b, 34, 0)[:36],
		"descending":       patched(b, 36, 9),
		"twice":            patched(b, 36, 7),
		"beyond any block": patched(b, 38, 0xff, 0xff),
		"fewer than said":  b[:len(b)-2],
	} {
		if _, err := DecodeBlockIndexRequest(v); !isMalformed(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	most := BlockIndexRequest{Indexes: make([]uint16, MaxBlockTxCount)}
	for i := range most.Indexes {
		most.Indexes[i] = uint16(i)
	}
	if b := most.Append(nil); len(b) != MaxIndexRequest {
		t.Errorf("longest request is %d bytes, MaxIndexRequest is %d", len(b), MaxIndexRequest)
	} else if _, err := DecodeBlockIndexRequest(b); err != nil {
		t.Error(err)
	}

	raw := exampleTx()
	for what, v := range map[string]struct {
		txs []PlacedTx
		ok  bool
	}{
		"both":             {[]PlacedTx{{Index: 3, Raw: raw}, {Index: 7, Raw: raw}}, true},
		"one":              {[]PlacedTx{{Index: 7, Raw: raw}}, true},
		"none":             {nil, true},
		"not asked for":    {[]PlacedTx{{Index: 4, Raw: raw}}, false},
		"twice":            {[]PlacedTx{{Index: 3, Raw: raw}, {Index: 3, Raw: raw}}, false},
		"in another order": {[]PlacedTx{{Index: 7, Raw: raw}, {Index: 3, Raw: raw}}, false},
	} {
		_, err := DecodeBlockIndexTxs(AppendBlockIndexTxs(nil, v.txs), &q)
		if v.ok && err != nil || !v.ok && !isMalformed(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	widest := chain.Tx{Outputs: make([]chain.Output, chain.MaxOutputs), Memo: make([]byte, chain.MaxMemo)}
	many := make([]PlacedTx, 200)
	for i := range many {
		many[i] = PlacedTx{Index: uint16(i), Raw: widest.Append(nil)}
	}
	if got := len(AppendBlockIndexTxs(nil, many)); got > MaxIndexAnswer || got < MaxIndexAnswer-chain.TxMaxSize {
		t.Errorf("an answer of too much is %d bytes long", got)
	}
}

func TestShortRequestCorruptions(t *testing.T) {
	q := ShortRequest{ID: fill[chain.BlockID](1), Nonce: 7, IDs: []uint64{1, 1<<48 - 1}}
	b := q.Append(nil)
	if !ByShortID(b) || ByIndex(b) || ByShortID(nil) {
		t.Error("the forms aren't told apart")
	}
	for what, v := range map[string][]byte{
		"another form":    patched(b, 0, 1),
		"none":            patched(b, 42, 0)[:44],
		"fewer than said": b[:len(b)-ShortIDSize],
		"too many":        (&ShortRequest{IDs: make([]uint64, MaxShortIDs+1)}).Append(nil),
	} {
		if _, err := DecodeShortRequest(v); !isMalformed(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if b := (&ShortRequest{IDs: make([]uint64, MaxShortIDs)}).Append(nil); len(b) != MaxShortRequest {
		t.Errorf("longest request is %d bytes, MaxShortRequest is %d", len(b), MaxShortRequest)
	} else if _, err := DecodeShortRequest(b); err != nil {
		t.Error(err)
	}
}

func patched(b []byte, at int, with ...byte) []byte {
	b = bytes.Clone(b)
	copy(b[at:], with)
	return b
}

func isMalformed(err error) bool {
	_, ok := err.(*chain.RuleError)
	return ok
}

package chain_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"math/big"
	"slices"

	"quipu/chain"
	"quipu/chain/bip340"
	"quipu/chain/chaintest"
)

// mth is RFC 6962 §2.1 by its recursive definition.
func mth(items [][]byte) chain.Hash {
	switch len(items) {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return sha256.Sum256(append([]byte{0}, items[0]...))
	}
	k := split(len(items))
	l, r := mth(items[:k]), mth(items[k:])
	return sha256.Sum256(slices.Concat([]byte{1}, l[:], r[:]))
}

// split is the largest power of two below n.
func split(n int) int {
	k := 1
	for 2*k < n {
		k *= 2
	}
	return k
}

func bigTarget(bits uint32) *big.Int {
	t := big.NewInt(int64(bits & 0x7fffff))
	t.Lsh(t, 8*uint(bits>>24))
	return t.Rsh(t, 24)
}

func bigWork(bits uint32) *big.Int {
	t := bigTarget(bits)
	return t.Div(new(big.Int).Lsh(big.NewInt(1), 256), t.Add(t, big.NewInt(1)))
}

// brokenRules is a second, naive reading of docs/spec.md: it lists every rule that a child of the scene's tip breaks,
// not only the first. A body that isn't the header's, and a transaction that doesn't apply, end the list.
func brokenRules(gen *chaintest.Gen, accounts chain.Accounts, b chain.Block) (broken []string) {
	g, h := gen.G, b.Header
	blocks := path(gen)
	parent := blocks[sceneHeight].State
	say := func(ok bool, rule string) {
		if !ok && !slices.Contains(broken, rule) {
			broken = append(broken, rule)
		}
	}
	say(h.Height == parent.Header.Height+1, "H2")
	say(h.Version == 1, "H3")
	say(h.Time > parent.Header.Time && h.Time < 1<<53, "H4")
	delta := min(int64(parent.Header.Time-blocks[sceneHeight-1].State.Header.Time), g.Spacing+2*g.HalfLife)
	say(h.Bits == chain.ASERT(parent.Header.Bits, g.LimitBits, delta, 0, g.Spacing, g.HalfLife), "H5")
	id := h.ID()
	say(new(big.Int).SetBytes(id[:]).Cmp(bigTarget(h.Bits)) <= 0, "H6")
	var entries [][]byte
	work := new(big.Int)
	for i, b := range blocks {
		if i > 0 {
			work.Add(work, bigWork(b.Header.Bits))
		}
		le := make([]byte, 32)
		slices.Reverse(work.FillBytes(le))
		id := b.Header.ID()
		entries = append(entries, append(id[:], le...))
	}
	say(h.HistoryRoot == mth(entries), "H7")
	say(h.BodySize <= g.BodyLimit, "H8")
	say(159*uint64(h.TxCount) <= uint64(h.BodySize) && uint64(h.BodySize) <= 10399*uint64(h.TxCount), "H9")
	if len(broken) > 0 {
		return broken // a header that isn't one has no body
	}

	var txs []chain.Tx
	var raws [][]byte
	for at := 0; at < len(b.Body); {
		t, n, err := chain.DecodeTx(b.Body[at:])
		if err != nil {
			return []string{"B1"}
		}
		txs, raws = append(txs, t), append(raws, b.Body[at:at+n])
		at += n
	}
	if mth(raws) != h.TxRoot {
		return []string{"B2"}
	}
	say(len(txs) == int(h.TxCount), "B3")
	say(len(b.Body) == int(h.BodySize), "B4")
	spent := make([]*big.Int, len(txs))
	for i, t := range txs {
		say(t.ValidUntil == 0 || uint64(t.ValidUntil) >= h.Height, "B5")
		spent[i] = new(big.Int).SetUint64(t.Fee)
		for _, o := range t.Outputs {
			say(o.Amount >= 1, "T1")
			spent[i].Add(spent[i], new(big.Int).SetUint64(o.Amount))
		}
		say(t.Fee >= uint64(g.MinFeeRate)*uint64(len(raws[i])), "T2")
		say(spent[i].Cmp(new(big.Int).SetUint64(g.MaxSupply())) <= 0, "T3")
		net := g.NetworkID()
		txid := bip340.TaggedHash("quipu/tx", net[:], raws[i][:len(raws[i])-64])
		say(bip340.Verify((*[32]byte)(&t.From), txid[:], &t.Signature), "T4")
	}

	now := after(accounts, nil)
	reward := g.SubsidyAt(h.Height)
	for i, t := range txs {
		from := now[t.From]
		say(t.Nonce == from.Nonce, "A1")
		say(spent[i].Cmp(new(big.Int).SetUint64(from.Balance)) <= 0, "A2")
		if slices.Contains(broken, "A1") || slices.Contains(broken, "A2") {
			return broken
		}
		now[t.From] = chain.AccountState{Balance: from.Balance - spent[i].Uint64(), Nonce: from.Nonce + 1}
		price := uint64(0)
		for _, o := range t.Outputs {
			s, exists := now[o.To]
			if !exists {
				price += g.AccountPrice
			}
			s.Balance += o.Amount
			now[o.To] = s
		}
		say(t.Fee >= uint64(g.MinFeeRate)*uint64(len(raws[i]))+price, "A3")
		if slices.Contains(broken, "A3") {
			return broken
		}
		reward += t.Fee - price
	}
	if reward > 0 {
		s := now[h.Miner]
		s.Balance += reward
		now[h.Miner] = s
	}
	root := rootOf(now)
	say(bytes.Equal(root[:], h.StateRoot[:]), "A4")
	return broken
}

func le64(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

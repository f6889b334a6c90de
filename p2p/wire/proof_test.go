package wire

import (
	"bytes"
	"slices"
	"testing"

	"quipu/chain"
	"quipu/chain/statetree"
)

// TestProofCorruptions: the longest answer of each kind, and what is over a limit or could be written in another way.
func TestProofCorruptions(t *testing.T) {
	ask := codecOf(t, "proof request")
	for kind, ok := range map[ProofKind]bool{0: false, ProofAccount: true, ProofTx: true, 3: false} {
		q := ProofRequest{Kind: kind}
		check(t, ok, ask, q.Append(nil))
	}

	longest := exampleBlockProof(chain.MaxBody)
	longest.Path = slices.Repeat([]chain.Hash{{1}}, chain.MaxBlockPath)
	accounts, txs := codecOf(t, "account proof"), codecOf(t, "tx proof")
	for _, c := range []codec{accounts, txs} {
		refused(t, c, "no code", nil)
		refused(t, c, "unknown code", []byte{3})
		kept(t, c, "not here", []byte{byte(ProofMissing)})
		kept(t, c, "elsewhere", []byte{byte(ProofElsewhere)})
		refused(t, c, "bytes after code 0", []byte{0, 0})
		refused(t, c, "bytes after code 2", []byte{2, 0})
	}

	siblings := make([]statetree.Hash, statetree.MaxDepth-1)
	siblings[len(siblings)-1] = statetree.Hash{1}
	absent := chain.AccountProof{Block: longest, Proof: statetree.Proof{Siblings: siblings, Other: &statetree.Leaf{Balance: 1}}}
	kept(t, accounts, "longest", AppendAccountProof(nil, ProofFollows, &absent))
	if n := len(AppendAccountProof(nil, ProofFollows, &absent)); n > 1+maxAccountProof {
		t.Errorf("account proof of %d bytes, at most %d", n, 1+maxAccountProof)
	}
	account := func(edit func(*chain.AccountProof)) []byte {
		p := exampleAccountProof()
		edit(&p)
		return AppendAccountProof(nil, ProofFollows, &p)
	}
	refused(t, accounts, "33 hashes", account(func(p *chain.AccountProof) { p.Block.Path = append(longest.Path, chain.Hash{}) }))
	refused(t, accounts, "absent with a balance", account(func(p *chain.AccountProof) { p.Exists, p.State.Nonce = false, 0 }))
	refused(t, accounts, "absent with a nonce", account(func(p *chain.AccountProof) { p.Exists, p.State.Balance = false, 0 }))
	refused(t, accounts, "lowest sibling empty", account(func(p *chain.AccountProof) { p.Proof.Siblings[1] = statetree.Hash{} }))
	b := account(func(*chain.AccountProof) {})
	b[1+chain.HeaderSize+32+1+2*32] = 2
	refused(t, accounts, "exists 2", b)

	most := chain.Tx{Outputs: make([]chain.Output, chain.MaxOutputs), Memo: make([]byte, chain.MaxMemo)}
	big := chain.TxProof{Block: longest, Raw: most.Append(nil), Path: slices.Repeat([]chain.Hash{{1}}, chain.MaxTxPath)}
	raw := AppendTxProof(nil, ProofFollows, &big)
	kept(t, txs, "longest", raw)
	if len(raw) != MaxProofAnswer {
		t.Errorf("longest answer is %d bytes, MaxProofAnswer is %d", len(raw), MaxProofAnswer)
	}
	refused(t, txs, "one byte more", append(raw, 0))
	tx := func(edit func(*chain.TxProof)) []byte {
		p := exampleTxProof()
		edit(&p)
		return AppendTxProof(nil, ProofFollows, &p)
	}
	refused(t, txs, "16 hashes of the transaction", tx(func(p *chain.TxProof) { p.Path = append(big.Path, chain.Hash{}) }))
	refused(t, txs, "33 hashes", tx(func(p *chain.TxProof) { p.Block.Path = append(longest.Path, chain.Hash{}) }))
	refused(t, txs, "no transaction", tx(func(p *chain.TxProof) { p.Raw = nil }))
	refused(t, txs, "two transactions", tx(func(p *chain.TxProof) { p.Raw = bytes.Repeat(p.Raw, 2) }))
	refused(t, txs, "a transaction of tomorrow", tx(func(p *chain.TxProof) { p.Raw = append([]byte{2}, p.Raw[1:]...) }))
	if chain.MaxBody/chain.TxMinSize >= 1<<chain.MaxTxPath {
		t.Error("a block may have a longer path than MaxTxPath")
	}
}

package node

import (
	"quipu/chain"
	"quipu/p2p/wire"
)

// Proofs for light clients and for people; see chain.AccountProof and chain.TxProof.

// proveAccount is about the validated tip: older states aren't kept in a form that proves anything.
func (n *Node) proveAccount(a chain.Account) (p chain.AccountProof, tip chain.State, err error) {
	tip, proof, leaf, exists, err := n.ledger.Prove(a)
	if err != nil {
		return p, tip, err
	}
	p = chain.AccountProof{Block: chain.BlockProof{Header: tip.Header}, Exists: exists, Proof: proof}
	if exists {
		p.State = chain.AccountState{Balance: leaf.Balance, Nonce: leaf.Nonce}
	}
	return p, tip, nil
}

// proveTx is about a transaction of the validated chain whose body is held. That a reorg may come between its steps does no
// harm: each is about a block by its id.
func (n *Node) proveTx(anchor chain.BlockID, id chain.TxID) (p chain.TxProof, code wire.ProofCode, err error) {
	loc, raw, ok, err := n.ledger.FindTx(id)
	if err != nil || !ok || raw == nil {
		return p, wire.ProofMissing, err
	}
	block, ok, err := n.ledger.ProveBlock(anchor, loc.Block)
	if err != nil || !ok {
		return p, wire.ProofElsewhere, err
	}
	body, ok, err := n.ledger.Body(loc.Block)
	if err != nil || !ok {
		return p, wire.ProofMissing, err
	}
	raws, err := chain.SplitBody(body)
	if err != nil {
		return p, wire.ProofMissing, err
	}
	leaves := make([]chain.LeafHash, len(raws))
	for i, raw := range raws {
		leaves[i] = chain.LeafOf(raw)
	}
	return chain.TxProof{Block: block, Raw: raw, Index: uint32(loc.Index), Path: chain.TxPath(leaves, loc.Index)}, wire.ProofFollows, nil
}

// AccountProof is proveAccount for a peer that holds the anchor's header.
func (n *Node) AccountProof(anchor chain.BlockID, a chain.Account) (chain.AccountProof, wire.ProofCode) {
	p, tip, err := n.proveAccount(a)
	ok := false
	if err == nil {
		p.Block, ok, err = n.ledger.ProveBlock(anchor, tip.ID)
	}
	if err != nil {
		n.ours(err)
		return p, wire.ProofMissing
	}
	if !ok {
		return p, wire.ProofElsewhere
	}
	return p, wire.ProofFollows
}

// TxProof is proveTx for a peer.
func (n *Node) TxProof(anchor chain.BlockID, id chain.TxID) (chain.TxProof, wire.ProofCode) {
	p, code, err := n.proveTx(anchor, id)
	if err != nil {
		n.ours(err)
		return p, wire.ProofMissing
	}
	return p, code
}

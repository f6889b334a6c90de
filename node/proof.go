package node

import (
	"context"

	"quipu/chain"
	"quipu/p2p/wire"
	"quipu/rpc"
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

func (a *api) accountProof(_ context.Context, p rpc.AccountGetParams) (rpc.AccountProof, error) {
	account, err := p.Resolve(a.n.g)
	if err != nil {
		return rpc.AccountProof{}, err
	}
	proof, tip, err := a.n.proveAccount(account)
	if err != nil {
		return rpc.AccountProof{}, err
	}
	return rpc.AccountProofOf(a.n.g, &tip.Header, account, &proof), nil
}

func (a *api) txProof(_ context.Context, p rpc.TxProofParams) (out rpc.TxProof, err error) {
	anchor := a.n.ledger.Tip()
	if p.Anchor != nil {
		var ok bool
		if anchor, ok, err = a.n.ledger.Header(*p.Anchor); err != nil {
			return out, err
		}
		if !ok {
			return out, rpc.Errorf(rpc.NameNotFound, "", "this node knows no block %s", *p.Anchor)
		}
	}
	proof, code, err := a.n.proveTx(anchor.ID, p.TxID)
	switch {
	case err != nil:
		return out, err
	case code == wire.ProofMissing:
		return out, rpc.Errorf(rpc.NameNotFound, "quipu tx status "+p.TxID.String(), "this node has no such transaction in a block whose contents it keeps")
	case code == wire.ProofElsewhere:
		return out, rpc.Errorf(rpc.NameNotFound, "", "the transaction's block isn't an ancestor of block %s at height %d", anchor.ID, anchor.Header.Height)
	}
	return rpc.TxProofOf(a.n.g, &anchor.Header, p.TxID, &proof), nil
}

package rpc

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/holiman/uint256"

	"quipu/chain"
	"quipu/chain/statetree"
)

// BlockProof is a block and what shows that it is an ancestor of the anchor, or the anchor itself. Height and ID follow from
// the header.
type BlockProof struct {
	Height uint64           `json:"height"`
	ID     chain.BlockID    `json:"id"`
	Header string           `json:"header"` // hex of its 200 bytes
	Work   string           `json:"work"`   // of the chain through it, decimal; 0 for the anchor itself
	Path   List[chain.Hash] `json:"path"`   // of id ‖ work in the anchor's history_root, lowest first
}

// Proved is what every proof has: it holds on the network and under the anchor named, for whoever knows that block to be on
// the best chain.
type Proved struct {
	Network chain.NetworkID `json:"network"`
	Anchor  Anchor          `json:"anchor"`
	Block   BlockProof      `json:"block"`
}

// Anchor is the header that a proof leads to.
type Anchor struct {
	Height uint64        `json:"height"`
	ID     chain.BlockID `json:"id"`
	Header string        `json:"header"` // hex of its 200 bytes
}

// AccountProof is the result of account_proof: what an account has after the validated tip, which is block and anchor.
type AccountProof struct {
	Proved
	Account chain.Account `json:"account"`
	Address string        `json:"address"`
	Exists  bool          `json:"exists"`
	Balance Decimal       `json:"balance"`
	Nonce   Decimal       `json:"nonce"`
	Proof   string        `json:"proof"` // hex, as docs/spec.md §9 encodes it
}

// TxProofParams asks for a proof under a block of the best chain; without anchor under the tip.
type TxProofParams struct {
	TxID   chain.TxID     `json:"txid"`
	Anchor *chain.BlockID `json:"anchor,omitempty"`
}

// TxProof is the result of tx_proof.
type TxProof struct {
	Proved
	TxID  chain.TxID       `json:"txid"`
	Tx    string           `json:"tx"`    // hex
	Index uint32           `json:"index"` // in the block, from 0
	Path  List[chain.Hash] `json:"path"`  // of its leaf in the block's tx_root, lowest first
}

func provedOf(g *chain.Genesis, anchor *chain.Header, p *chain.BlockProof) Proved {
	return Proved{
		Network: g.NetworkID(),
		Anchor:  Anchor{Height: anchor.Height, ID: anchor.ID(), Header: hex.EncodeToString(anchor.Append(nil))},
		Block: BlockProof{Height: p.Header.Height, ID: p.Header.ID(), Header: hex.EncodeToString(p.Header.Append(nil)),
			Work: p.Work.Dec(), Path: p.Path},
	}
}

// AccountProofOf is the wire form of a proof.
func AccountProofOf(g *chain.Genesis, anchor *chain.Header, a chain.Account, p *chain.AccountProof) AccountProof {
	return AccountProof{
		Proved: provedOf(g, anchor, &p.Block), Account: a, Address: chain.EncodeAddress(g.Prefix, a), Exists: p.Exists,
		Balance: Decimal(p.State.Balance), Nonce: Decimal(p.State.Nonce), Proof: hex.EncodeToString(p.Proof.Append(nil)),
	}
}

// TxProofOf is the wire form of a proof.
func TxProofOf(g *chain.Genesis, anchor *chain.Header, id chain.TxID, p *chain.TxProof) TxProof {
	return TxProof{Proved: provedOf(g, anchor, &p.Block), TxID: id, Tx: hex.EncodeToString(p.Raw), Index: p.Index, Path: p.Path}
}

// Verify checks everything that the answer says against the network, and returns its anchor: the proof is worth what the
// caller knows of that header. Errors wrap chain.ErrProof.
func (r *AccountProof) Verify(g *chain.Genesis) (anchor, block chain.Header, err error) {
	anchor, p, err := r.decode(g)
	if err != nil {
		return anchor, block, err
	}
	if r.Address != chain.EncodeAddress(g.Prefix, r.Account) {
		return anchor, block, fmt.Errorf("%w: the address is not that of account %s", chain.ErrProof, r.Account)
	}
	raw, err := hex.DecodeString(r.Proof)
	if err != nil || len(raw) > statetree.MaxProofSize {
		return anchor, block, fmt.Errorf("%w: no hex of a proof", chain.ErrProof)
	}
	proof, err := statetree.DecodeProof(raw)
	if err != nil {
		return anchor, block, fmt.Errorf("%w: %w", chain.ErrProof, err)
	}
	all := chain.AccountProof{Block: p, Exists: r.Exists, Proof: proof, State: chain.AccountState{Balance: uint64(r.Balance), Nonce: uint64(r.Nonce)}}
	return anchor, p.Header, all.Verify(&anchor, r.Account)
}

// Verify is AccountProof's for a transaction, which it returns.
func (r *TxProof) Verify(g *chain.Genesis) (anchor, block chain.Header, tx chain.CheckedTx, err error) {
	anchor, p, err := r.decode(g)
	if err != nil {
		return anchor, block, tx, err
	}
	raw, err := decodeTxHex(r.Tx)
	if err != nil {
		return anchor, block, tx, fmt.Errorf("%w: no hex of a transaction", chain.ErrProof)
	}
	all := chain.TxProof{Block: p, Raw: raw, Index: r.Index, Path: r.Path}
	tx, err = g.VerifyTx(&all, &anchor, r.TxID)
	return anchor, p.Header, tx, err
}

func (r *Proved) decode(g *chain.Genesis) (anchor chain.Header, p chain.BlockProof, err error) {
	if r.Network != g.NetworkID() {
		return anchor, p, fmt.Errorf("%w: it is of network %s, not of %s", chain.ErrProof, r.Network.Short(), g)
	}
	if anchor, err = headerOf(r.Anchor.Header, r.Anchor.Height, r.Anchor.ID); err != nil {
		return anchor, p, err
	}
	if p.Header, err = headerOf(r.Block.Header, r.Block.Height, r.Block.ID); err != nil {
		return anchor, p, err
	}
	work, err := uint256.FromDecimal(r.Block.Work)
	if err != nil || work.Dec() != r.Block.Work {
		return anchor, p, fmt.Errorf("%w: %.80q is no amount of work", chain.ErrProof, r.Block.Work)
	}
	p.Work, p.Path = *work, r.Block.Path
	return anchor, p, nil
}

// headerOf reads a header and holds what is said of it against it.
func headerOf(text string, height uint64, id chain.BlockID) (chain.Header, error) {
	raw, err := hex.DecodeString(text)
	var h chain.Header
	if err == nil {
		h, err = chain.DecodeHeader(raw)
	}
	if err != nil {
		return h, fmt.Errorf("%w: no hex of a header of 200 bytes", chain.ErrProof)
	}
	if h.Height != height || h.ID() != id {
		return h, fmt.Errorf("%w: the header is that of block %s at height %d", chain.ErrProof, h.ID(), h.Height)
	}
	return h, nil
}

func (c *Client) AccountProof(ctx context.Context, a chain.Account) (AccountProof, error) {
	return call[AccountProof](ctx, c, "account_proof", AccountGetParams{Account: &a})
}

func (c *Client) TxProof(ctx context.Context, p TxProofParams) (TxProof, error) {
	return call[TxProof](ctx, c, "tx_proof", p)
}

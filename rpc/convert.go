package rpc

import (
	"encoding/hex"
	"fmt"

	"quipu/chain"
)

// HeaderOf is the wire form of a header.
func HeaderOf(g *chain.Genesis, h *chain.Header) Header {
	return Header{
		ID: h.ID(), Version: h.Version, Height: h.Height, Parent: h.Parent, HistoryRoot: h.HistoryRoot, TimeMS: h.Time,
		TxRoot: h.TxRoot, StateRoot: h.StateRoot, Miner: h.Miner, MinerAddress: chain.EncodeAddress(g.Prefix, h.Miner),
		TxCount: h.TxCount, BodySize: h.BodySize, Bits: fmt.Sprintf("%08x", h.Bits), Nonce: Decimal(h.Nonce),
	}
}

// RefOf names the block of a chain state.
func RefOf(s *chain.State) BlockRef {
	return BlockRef{Height: s.Header.Height, ID: s.ID, TimeMS: s.Header.Time}
}

// NetworkOf names the network of a genesis.
func NetworkOf(g *chain.Genesis) Network {
	return Network{Name: g.Name, ID: g.NetworkID(), Prefix: g.Prefix}
}

// GenesisOf is the result of chain_genesis.
func GenesisOf(g *chain.Genesis) ChainGenesis {
	s := g.State()
	return ChainGenesis{Network: NetworkOf(g), Block: s.ID, MaxSupply: Decimal(g.MaxSupply()), Genesis: g.JSON()}
}

// TxOf decodes one encoded transaction into its wire form.
func TxOf(g *chain.Genesis, raw []byte) (Tx, error) {
	t, n, err := chain.DecodeTx(raw)
	if err != nil {
		return Tx{}, err
	}
	raw = raw[:n]
	out := Tx{
		TxID: chain.TxIDOf(g.NetworkID(), raw), Leaf: chain.LeafOf(raw), From: t.From,
		FromAddress: chain.EncodeAddress(g.Prefix, t.From), Nonce: Decimal(t.Nonce), Fee: Decimal(t.Fee),
		ValidUntil: t.ValidUntil, Outputs: make(List[Output], len(t.Outputs)), Memo: hex.EncodeToString(t.Memo),
		Signature: hex.EncodeToString(t.Signature[:]), Size: n,
	}
	for i, o := range t.Outputs {
		out.Outputs[i] = Output{To: o.To, ToAddress: chain.EncodeAddress(g.Prefix, o.To), Amount: Decimal(o.Amount)}
	}
	return out, nil
}

// BodyTxs decodes a whole body.
func BodyTxs(g *chain.Genesis, body []byte) (List[Tx], error) {
	raws, err := chain.SplitBody(body)
	if err != nil {
		return nil, err
	}
	out := make(List[Tx], len(raws))
	for i, raw := range raws {
		if out[i], err = TxOf(g, raw); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Parse reads the genesis.json of the result and checks that it gives the network id the node claims.
func (r ChainGenesis) Parse() (*chain.Genesis, error) {
	g, err := chain.ParseGenesis(r.Genesis)
	if err != nil {
		return nil, err
	}
	if g.NetworkID() != r.Network.ID {
		return nil, fmt.Errorf("the node says its network is %s, its genesis gives %s", r.Network.ID, g.NetworkID())
	}
	return g, nil
}

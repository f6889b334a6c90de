package p2p

import (
	"context"

	"github.com/libp2p/go-libp2p/core/network"

	"quipu/chain"
	"quipu/p2p/wire"
)

// txProofCost is what making a proof of a transaction takes of a peer's share, in bytes for each byte of the block's body:
// hashing it takes some 10 ns a byte. All of the largest body is the whole burst.
const txProofCost = 4

// serveProof answers what a light client asks. A proof of a transaction is made of its block's whole body, so it takes
// memory for that, and of the peer's share of bytes several times as much as sending it.
func (s *Service) serveProof(ctx context.Context, r *remote, st network.Stream) error {
	b, err := s.request(r, st, wire.MaxProofRequest)
	if err != nil {
		return err
	}
	q, err := wire.DecodeProofRequest(b)
	if err != nil {
		return err
	}
	if q.Kind == wire.ProofAccount {
		return s.answer(ctx, r, st, wire.MaxProofAnswer, func() []byte {
			p, code := s.b.AccountProof(q.Anchor, q.Subject)
			return wire.AppendAccountProof(nil, code, &p)
		})
	}
	limit := int(s.b.Genesis().BodyLimit)
	taken, err := s.hold(ctx, r, limit+limit/2) // and its leaves
	if err != nil {
		return err
	}
	p, code := s.b.TxProof(q.Anchor, chain.TxID(q.Subject))
	b = wire.AppendTxProof(nil, code, &p)
	size := int(p.Block.Header.BodySize)
	p = chain.TxProof{} // it holds the body
	taken.release()
	if err := s.paced(ctx, r, st, txProofCost*size); err != nil {
		return err
	}
	return s.answer(ctx, r, st, len(b), func() []byte { return b })
}

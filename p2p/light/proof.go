package light

import (
	"context"
	"errors"
	"fmt"
	"time"

	"quipu/chain"
	"quipu/p2p/wire"
)

// Evidence says what an answer rests on: the checked headers, and how many peers proved the same.
type Evidence struct {
	Best   chain.State  // last of the headers checked, all from block 0 on
	Block  chain.Header // that the answer is about: Best's or below
	Agreed int          // peers that proved it of that block
	Asked  int          // peers that were to be asked
	Peers  []PeerReport
}

// Account is what an account has after a block.
type Account struct {
	Evidence
	Exists bool
	State  chain.AccountState
}

// Tx is a transaction in a block.
type Tx struct {
	Evidence
	Tx            chain.CheckedTx
	Index         uint32
	Confirmations uint64 // Best's height − the block's + 1
}

// ErrUnknownTx: peers answered, and none knows the transaction in a block. That proves nothing: it may be anywhere.
var ErrUnknownTx = errors.New("no peer knows this transaction in a block")

// Account asks all peers what an account has, checks their proofs and returns the one about the latest block. An error is
// ctx's, of the file, or wraps ErrNoPeers.
func (c *Client) Account(ctx context.Context, a chain.Account) (out Account, err error) {
	p, ev, err := gather(ctx, c, wire.ProofRequest{Kind: wire.ProofAccount, Subject: a}, wire.DecodeAccountProof,
		func(p *chain.AccountProof, anchor *chain.Header) (*chain.BlockProof, error) {
			return &p.Block, p.Verify(anchor, a)
		})
	return Account{Evidence: ev, Exists: p.Exists, State: p.State}, err
}

// Tx asks all peers for a transaction in a block and checks their proofs. Errors as Account's, and ErrUnknownTx.
func (c *Client) Tx(ctx context.Context, id chain.TxID) (out Tx, err error) {
	p, ev, err := gather(ctx, c, wire.ProofRequest{Kind: wire.ProofTx, Subject: id}, wire.DecodeTxProof,
		func(p *chain.TxProof, anchor *chain.Header) (*chain.BlockProof, error) {
			_, err := c.g.VerifyTx(p, anchor, id)
			return &p.Block, err
		})
	if err != nil {
		return Tx{Evidence: ev}, err
	}
	checked, err := c.g.VerifyTx(&p, &ev.Best.Header, id)
	return Tx{ev, checked, p.Index, ev.Best.Header.Height - ev.Block.Height + 1}, err
}

// Peers go on while they are asked: between our headers and their proofs a block may come.
const (
	gatherTries  = 20
	gatherNewest = 2 // so often, while others are ahead, the proof of one that is behind isn't taken
	gatherPause  = 250 * time.Millisecond
)

type answer[P any] struct {
	code  wire.ProofCode
	proof P
	block *chain.BlockProof
}

var errTooFast = errors.New("its blocks come faster than it proves what is in them")

// gather asks all peers the same question under the best header, as often as needed.
func gather[P any](ctx context.Context, c *Client, q wire.ProofRequest, decode func([]byte) (wire.ProofCode, P, error),
	check func(*P, *chain.Header) (*chain.BlockProof, error)) (found P, ev Evidence, err error) {
	for try := range gatherTries {
		if try > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(gatherPause):
			}
		}
		if err := c.Sync(ctx); err != nil {
			return found, ev, err
		}
		ev = Evidence{Best: c.Best(), Asked: len(c.peers)}
		q.Anchor = ev.Best.ID
		answers := make([]answer[P], len(c.peers))
		c.each(func(i int, s *source) error {
			a := &answers[i]
			b, err := c.ask(ctx, s, wire.NameProof, q.Append(nil), wire.MaxProofAnswer)
			if err != nil {
				return err
			}
			if a.code, a.proof, err = decode(b); err == nil && a.code == wire.ProofFollows {
				a.block, err = check(&a.proof, &ev.Best.Header)
			}
			return err
		})
		missing, elsewhere := 0, 0
		for i, s := range c.peers {
			switch a := &answers[i]; {
			case s.err != nil: // what it has sent doesn't count
			case a.code == wire.ProofMissing:
				missing++
			case a.code == wire.ProofElsewhere:
				elsewhere++
			case ev.Agreed == 0 || a.block.Header.Height > ev.Block.Height:
				found, ev.Block, ev.Agreed = a.proof, a.block.Header, 1
			case a.block.Header == ev.Block:
				ev.Agreed++
			}
		}
		ev.Peers = c.reports()
		if ev.Agreed > 0 && (elsewhere == 0 || try >= gatherNewest) {
			return found, ev, nil
		}
		if err := c.left(ctx); err != nil {
			return found, ev, err
		}
		if ev.Agreed == 0 && elsewhere == 0 {
			if q.Kind == wire.ProofTx {
				return found, ev, ErrUnknownTx
			}
			return found, ev, fmt.Errorf("%w: none proves anything of the account", ErrNoPeers)
		}
	}
	return found, ev, fmt.Errorf("%w: %w", ErrNoPeers, errTooFast)
}

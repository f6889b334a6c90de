package badpeer

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"quipu/chain"
	"quipu/chain/bip340"
	"quipu/p2p/wire"
)

const (
	victims    = 16      // accounts a batch steals from
	ahead      = 3       // nonces of each: one of them is past what waits in the pool
	solveSlice = 1 << 14 // nonces tried between two looks at ctx
	mineFor    = 20 * time.Second
)

// liarKey derives this peer's key. It needs no secrecy: the account never owns anything.
func (l *liar) liarKey() (secret [32]byte, account chain.Account, err error) {
	secret = sha256.Sum256([]byte("quipu/badpeer/" + l.host.ID()))
	account, err = bip340.PublicKey(&secret)
	return secret, account, err
}

// sign signs t with this peer's key, whoever t.From is.
func (l *liar) sign(t *chain.Tx, secret *[32]byte) error {
	id := t.ID(l.g.NetworkID())
	var aux [32]byte
	rand.Read(aux[:])
	sig, err := bip340.Sign(secret, id[:], &aux)
	t.Signature = sig
	return err
}

// forgeBatch gossips what forge makes.
func (l *liar) forgeBatch(ctx context.Context) {
	raws, err := l.forge()
	if err != nil {
		l.log.Error("forging transactions", "err", err)
		return
	}
	if len(raws) == 0 {
		return
	}
	var salt [wire.SaltSize]byte
	rand.Read(salt[:])
	if err := l.txs.Publish(ctx, wire.AppendTxBatch(nil, salt, raws)); err != nil {
		l.log.Debug("publishing forged transactions", "err", err)
		return
	}
	l.log.Debug("published forged transactions", "count", len(raws))
}

// forge makes payments out of accounts that have money, with the nonces they are at, so that every cheap check passes
// and only the signature is wrong.
func (l *liar) forge() ([][]byte, error) {
	secret, account, err := l.liarKey()
	if err != nil {
		return nil, err
	}
	var raws [][]byte
	for from, nonce := range l.view.victims() {
		for i := range uint64(ahead) {
			t := chain.Tx{From: from, Nonce: nonce + i, Outputs: []chain.Output{{To: account, Amount: 1}}}
			t.Fee = 4*l.g.MinFee(t.Size()) + l.g.AccountPrice
			if err := l.sign(&t, &secret); err != nil {
				return nil, err
			}
			raws = append(raws, t.Append(nil))
		}
	}
	return raws, nil
}

// victims are accounts that have money: those of the genesis, then recent miners; with the nonce each is at.
func (v *view) victims() map[chain.Account]uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := map[chain.Account]uint64{}
	for _, b := range v.g.Balances {
		if len(out) < victims {
			out[b.Account] = v.nonces[b.Account]
		}
	}
	for h := len(v.states) - 1; h > 0 && h > len(v.states)-64 && len(out) < victims; h-- {
		miner := v.states[h].Header.Miner
		out[miner] = v.nonces[miner]
	}
	return out
}

// countNonces reads bodies from p and counts each sender's transactions: that is its nonce.
func (l *liar) countNonces(ctx context.Context, p peer.ID) {
	want, upTo := l.view.uncounted()
	var bodies [][]byte
	if len(want) > 0 {
		q := wire.BodiesRequest{}
		for _, s := range want {
			q.IDs = append(q.IDs, s.ID)
		}
		stream, err := l.open(ctx, p, wire.NameBodies, q.Append(nil))
		if err != nil {
			return
		}
		defer stream.Reset()
		for i := range want {
			code, body, err := wire.ReadBody(stream, want[i].Header.BodySize)
			if err != nil || code != wire.BodyFollows {
				break
			}
			bodies = append(bodies, body)
		}
		if len(bodies) < len(want) { // the rest another time
			if len(bodies) == 0 {
				return
			}
			want, upTo = want[:len(bodies)], want[len(bodies)-1].Header.Height
		}
	}
	l.view.count(want, bodies, upTo)
}

func (v *view) count(blocks []chain.State, bodies [][]byte, upTo uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i, body := range bodies {
		raws, err := chain.SplitBody(body)
		if err != nil || blocks[i].Header.Height <= v.counted {
			continue
		}
		for _, raw := range raws {
			if t, _, err := chain.DecodeTx(raw); err == nil {
				v.nonces[t.From]++
			}
		}
	}
	v.counted = max(v.counted, upTo)
}

// claimBlock sees to it that there is a bad block with more work than the honest tip, so that every node asks for its
// body, and gossips it. The claim itself is made by status.
func (l *liar) claimBlock(ctx context.Context) {
	tip, claim := l.view.tip(), l.view.claim()
	if _, ok := l.view.badBody(claim.ID); !ok || !claim.Work.Gt(&tip.Work) {
		if len(l.host.Network().Peers()) == 0 {
			return
		}
		bad, err := l.mine(ctx, &tip)
		if err != nil {
			l.log.Error("mining a bad block", "err", err)
			return
		}
		if bad == nil {
			return
		}
		l.view.setBad(bad)
		l.log.Info("mined a block that steals", "id", bad.state.ID, "height", bad.state.Header.Height)
		claim = bad.state
	}
	body, _ := l.view.badBody(claim.ID)
	if err := l.blocks.Publish(ctx, wire.AppendBlockMsg(nil, &claim.Header, body)); err != nil {
		l.log.Debug("publishing the bad block", "err", err)
	}
}

// mine makes a block on parent that keeps every header rule, its work included, and whose one transaction spends all
// the money there will ever be from an account that has none (rule A2). nil if no work was found in time.
func (l *liar) mine(ctx context.Context, parent *chain.State) (*badBlock, error) {
	secret, account, err := l.liarKey()
	if err != nil {
		return nil, err
	}
	t := chain.Tx{From: account, Outputs: []chain.Output{{To: account}}}
	t.Fee = l.g.MinFee(t.Size()) + l.g.AccountPrice
	t.Outputs[0].Amount = max(1, l.g.MaxSupply()-min(t.Fee, l.g.MaxSupply()))
	if err := l.sign(&t, &secret); err != nil {
		return nil, err
	}
	body := t.Append(nil)
	h := l.g.NewHeader(parent, account, uint64(time.Now().UnixMilli()))
	h.TxRoot = chain.MTH([]chain.LeafHash{chain.LeafOf(body)})
	h.StateRoot = parent.Header.StateRoot
	h.TxCount, h.BodySize = 1, uint32(len(body))
	until := time.Now().Add(mineFor)
	for !h.Solve(solveSlice) {
		if ctx.Err() != nil || time.Now().After(until) {
			return nil, nil
		}
	}
	next, err := l.g.CheckHeader(parent, &h)
	if err != nil {
		return nil, err
	}
	return &badBlock{state: next, parent: parent.ID, body: body}, nil
}

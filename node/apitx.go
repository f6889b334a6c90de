package node

import (
	"context"
	"errors"
	"time"

	"quipu/chain"
	"quipu/mempool"
	"quipu/p2p/wire"
	"quipu/rpc"
)

// api, third part: submitting transactions and saying honestly where one stands.

// nearTip is how far the validated tip may be behind the best header for submit to be answered.
const nearTip = 2

func (a *api) txSubmit(_ context.Context, raws [][]byte) ([]rpc.Submitted, error) {
	n := a.n
	if tip, best := n.ledger.Tip().Header.Height, n.ledger.BestHeader().Header.Height; n.net.SyncState().Syncing && best > tip+nearTip {
		return nil, rpc.Errorf(rpc.NameNotReady, "wait until quipu status says synced", "this node is %d blocks behind and can't judge transactions yet", best-tip)
	}
	if n.rebuilding.Load() {
		return nil, rpc.Errorf(rpc.NameNotReady, "wait until quipu status says synced", "%v", errRebuilding)
	}
	out := make([]rpc.Submitted, len(raws))
	var fresh [][]byte
	for i, res := range n.AcceptTxs(raws) {
		if len(raws[i]) > 64 {
			out[i].TxID = chain.TxIDOf(n.g.NetworkID(), raws[i])
		}
		if res.Err != nil && !errors.Is(res.Err, mempool.ErrKnown) {
			if s, err := a.standing(out[i].TxID); err == nil && s.State != rpc.TxUnknown {
				out[i].State, out[i].Known = s.State, true // submitting again is no error
				continue
			}
			out[i].State, out[i].Error = rpc.TxRejected, submitError(res.Err)
			continue
		}
		out[i].Known = res.Err != nil
		out[i].State = rpc.TxQueued
		if _, pending, ok := n.pool.ByID(out[i].TxID); ok && pending {
			out[i].State = rpc.TxPending
		}
		if res.Admitted { // a gapped one is published when it becomes pending
			fresh = append(fresh, raws[i])
		}
	}
	n.net.PublishTxs(fresh)
	return out, nil
}

// submitError gives the pool's refusals the stable names of the API.
func submitError(err error) *rpc.Error {
	var broken *chain.RuleError
	switch {
	case errors.As(err, &broken):
		return rpc.AsError(err)
	case errors.Is(err, mempool.ErrFunds):
		return rpc.Errorf(rpc.NameFunds, "", "%v", err)
	default:
		return rpc.Errorf(rpc.NameRefused, "", "%v", err)
	}
}

func (a *api) txStatus(ctx context.Context, p rpc.TxStatusParams) (rpc.TxStatus, error) {
	depth := p.Confirmations
	if depth == 0 {
		depth = rpc.DefaultConfirmations
	}
	s, err := a.status(ctx, p.TxID, depth)
	if err == nil && p.AskPeers {
		s.Peers = a.askPeers(ctx, p.TxID)
	}
	return s, err
}

// status is where a transaction stands. What it says of chain and pool is of one moment: between a reorg and the pool's
// following it, a payment would seem to be in neither.
func (a *api) status(ctx context.Context, id chain.TxID, depth uint64) (rpc.TxStatus, error) {
	s, err := a.standing(id)
	if err != nil || s.State != rpc.TxUnknown {
		return s, err
	}
	return a.fate(ctx, s, depth)
}

func (a *api) standing(id chain.TxID) (rpc.TxStatus, error) {
	n := a.n
	n.mu.Lock()
	defer n.mu.Unlock()
	s := rpc.TxStatus{TxID: id, State: rpc.TxUnknown}
	loc, raw, ok, err := n.ledger.FindTx(id)
	if err != nil {
		return s, err
	}
	if ok {
		s.State, s.Height, s.Block, s.Index = rpc.TxIncluded, loc.Height, &loc.Block, loc.Index
		s.Confirmations = a.confirmations(loc.Height)
		s.ThisNode = rpc.ThisNode{Verified: true, TookUS: uint64(n.timings.get(id))}
		if raw == nil { // the body was pruned: where it stands is all that is known
			return s, nil
		}
		t, err := rpc.TxOf(n.g, raw)
		s.Tx = &t
		return s, err
	}
	if c, pending, ok := n.pool.ByID(id); ok {
		if s.State = rpc.TxQueued; pending {
			s.State = rpc.TxPending
		}
		s.ThisNode = rpc.ThisNode{Verified: true, TookUS: uint64(n.timings.get(id))}
		t, err := rpc.TxOf(n.g, c.Raw())
		s.Tx = &t
		return s, err
	}
	return s, nil
}

// fate is what became of a transaction that is neither in a block nor in the pool, if this node remembers it.
func (a *api) fate(ctx context.Context, s rpc.TxStatus, depth uint64) (rpc.TxStatus, error) {
	n := a.n
	fate, ok := n.pool.Fate(s.TxID)
	if !ok {
		return s, nil
	}
	tip := n.ledger.Tip().Header.Height
	s.State, s.Reason = rpc.TxDropped, fate.Reason
	if fate.ValidUntil != 0 && tip > uint64(fate.ValidUntil) {
		s.State = rpc.TxExpired
		s.Never = tip-uint64(fate.ValidUntil) >= depth // block valid_until + 1 has that many confirmations
	}
	rival, taken, deep, err := a.rival(ctx, fate.From, fate.Nonce)
	if err != nil || !taken {
		return s, err
	}
	s.State, s.Rival = rpc.TxReplaced, rival
	s.Never = s.Never || deep >= depth
	return s, nil
}

// maxRivalScan bounds the blocks looked through for who took a nonce.
const maxRivalScan = 1000

// rival tells whether the best chain took this sender's nonce, by which transaction and with how many confirmations.
// One that lies deeper than the blocks looked through isn't named, but is known to be at least that deep.
func (a *api) rival(ctx context.Context, from chain.Account, nonce uint64) (id *chain.TxID, taken bool, depth uint64, err error) {
	tip, accs, err := a.n.ledger.Accounts([]chain.Account{from})
	if err != nil || accs[from].Nonce <= nonce {
		return nil, false, 0, err
	}
	for h := tip.Header.Height; h > 0; h-- {
		if depth = tip.Header.Height - h + 1; depth > maxRivalScan {
			return nil, true, maxRivalScan, nil
		}
		if err := ctx.Err(); err != nil {
			return nil, true, 0, err
		}
		_, block, ok, err := a.n.ledger.HeaderAt(h)
		if err != nil || !ok {
			return nil, true, 0, err
		}
		body, ok, err := a.n.ledger.Body(block)
		if err != nil || !ok {
			return nil, true, 0, err
		}
		raws, err := chain.SplitBody(body)
		if err != nil {
			return nil, true, 0, err
		}
		for _, raw := range raws {
			if t, _, err := chain.DecodeTx(raw); err == nil && t.From == from && t.Nonce == nonce {
				txid := chain.TxIDOf(a.n.g.NetworkID(), raw)
				return &txid, true, depth, nil
			}
		}
	}
	return nil, true, depth, nil
}

// askTimeout bounds the wait for peers' words.
const askTimeout = 2 * time.Second

func (a *api) askPeers(ctx context.Context, id chain.TxID) *rpc.PeerEvidence {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	out := &rpc.PeerEvidence{}
	for _, answer := range a.n.net.AskTxStatus(ctx, []chain.TxID{id}) {
		out.Asked++
		say := rpc.PeerSay{Peer: answer.Peer, State: "silent"}
		if answer.Err == nil && len(answer.Statuses) == 1 {
			st := answer.Statuses[0]
			say.Reason, say.TookUS, say.Height = st.Reason, uint64(st.Took), uint64(st.Height)
			switch st.State {
			case wire.TxVerified:
				say.State = "verified"
			case wire.TxInBlock:
				say.State = "included"
			case wire.TxRejected:
				say.State = "rejected"
			default:
				say.State = "unknown"
			}
		}
		switch say.State {
		case "verified", "included":
			out.Verified++
		case "rejected":
			out.Rejected++
		default:
			out.Unknown++
		}
		out.Answers = append(out.Answers, say)
	}
	return out
}

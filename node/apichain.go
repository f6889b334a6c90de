package node

import (
	"context"
	"slices"
	"time"

	"quipu/chain"
	"quipu/rpc"
)

// api, second part: chain, accounts, pool and peers.

func (a *api) chainHead(context.Context, rpc.NoParams) (rpc.ChainHead, error) {
	tip, best := a.n.ledger.Tip(), a.n.ledger.BestHeader()
	return rpc.ChainHead{Header: rpc.HeaderOf(a.n.g, &tip.Header), Work: tip.Work.Dec(), BestHeader: rpc.RefOf(&best)}, nil
}

func (a *api) chainGenesis(context.Context, rpc.NoParams) (rpc.ChainGenesis, error) {
	return rpc.GenesisOf(a.n.g), nil
}

func (a *api) chainBlock(_ context.Context, p rpc.ChainBlockParams) (rpc.ChainBlock, error) {
	l := a.n.ledger
	var out rpc.ChainBlock
	var id chain.BlockID
	if p.Height != nil {
		_, at, ok, err := l.HeaderAt(*p.Height)
		if err != nil {
			return out, err
		}
		if !ok {
			return out, rpc.Errorf(rpc.NameNotFound, "", "no block at height %d: the tip is at %d", *p.Height, l.Tip().Header.Height)
		}
		id = at
	} else {
		id = *p.ID
	}
	s, ok, err := l.Header(id)
	if err != nil {
		return out, err
	}
	if !ok {
		return out, rpc.Errorf(rpc.NameNotFound, "", "this node knows no block %s", id)
	}
	info := l.Info(id)
	out = rpc.ChainBlock{Header: rpc.HeaderOf(a.n.g, &s.Header), OnBest: info.OnBest, Validated: info.Validated, Invalid: info.Reason, Pruned: info.Pruned}
	if info.OnBest {
		out.Confirmations = a.confirmations(s.Header.Height)
	}
	if p.Txs && info.Body {
		body, ok, err := l.Body(id)
		if err != nil {
			return out, err
		}
		if !ok { // pruned meanwhile
			out.Pruned = true
			return out, nil
		}
		if out.Txs, err = rpc.BodyTxs(a.n.g, body); err != nil {
			return out, err
		}
	}
	return out, nil
}

// confirmations of a block at a height of the best chain: tip height − its height + 1; 0 if the tip has meanwhile
// fallen below it.
func (a *api) confirmations(height uint64) uint64 {
	tip := a.n.ledger.Tip().Header.Height
	return tip + 1 - min(height, tip+1)
}

func (a *api) chainBlocks(_ context.Context, p rpc.ChainBlocksParams) (rpc.ChainBlocks, error) {
	var out rpc.ChainBlocks
	tip := a.n.ledger.Tip().Header.Height
	from := tip + 1 - min(tip+1, uint64(p.Count))
	if p.From != nil {
		from = *p.From
	}
	for h := from; h <= tip && len(out.Headers) < p.Count; h++ {
		header, _, ok, err := a.n.ledger.HeaderAt(h)
		if err != nil {
			return out, err
		}
		if !ok {
			break // reverted meanwhile
		}
		out.Headers = append(out.Headers, rpc.HeaderOf(a.n.g, &header))
	}
	return out, nil
}

func (a *api) accountGet(_ context.Context, p rpc.AccountGetParams) (rpc.Account, error) {
	account, err := p.Resolve(a.n.g)
	if err != nil {
		return rpc.Account{}, err
	}
	tip, accs, err := a.n.ledger.Accounts([]chain.Account{account})
	if err != nil {
		return rpc.Account{}, err
	}
	s, exists := accs[account]
	in, out := a.n.pool.Pending(account)
	return rpc.Account{
		Account: account, Address: chain.EncodeAddress(a.n.g.Prefix, account), Exists: exists,
		Balance: rpc.Decimal(s.Balance), Nonce: rpc.Decimal(s.Nonce),
		NextNonce: rpc.Decimal(a.n.pool.NextNonce(account, s.Nonce)),
		PendingIn: rpc.Decimal(in), PendingOut: rpc.Decimal(out), Tip: rpc.RefOf(&tip),
	}, nil
}

func (a *api) poolStats() rpc.MempoolStats {
	s := a.n.pool.Stats()
	return rpc.MempoolStats{Txs: s.Txs, Queued: s.GappedTxs, Bytes: s.Bytes + s.GappedBytes, MaxBytes: a.n.pool.MaxBytes(), Senders: s.Accounts}
}

func (a *api) mempoolStats(context.Context, rpc.NoParams) (rpc.MempoolStats, error) {
	return a.poolStats(), nil
}

func (a *api) mempoolList(_ context.Context, p rpc.MempoolListParams) (rpc.MempoolList, error) {
	list := a.n.pool.Candidates(p.Max * chain.TxMaxSize)
	out := rpc.MempoolList{Total: a.n.pool.Stats().Txs}
	for i := range list[:min(len(list), p.Max)] {
		t := list[i].Tx()
		spent, _ := t.Spent(a.n.g.MaxSupply())
		out.Txs = append(out.Txs, rpc.PoolTx{
			TxID: list[i].ID(), From: t.From, Nonce: rpc.Decimal(t.Nonce), Fee: rpc.Decimal(t.Fee),
			Amount: rpc.Decimal(spent - t.Fee), Size: len(list[i].Raw()), ValidUntil: t.ValidUntil, State: rpc.TxPending,
		})
	}
	return out, nil
}

func (a *api) peerList(context.Context, rpc.NoParams) (rpc.PeerList, error) {
	var out rpc.PeerList
	for _, p := range a.n.net.Peers() {
		w := rpc.Peer{
			ID: p.ID, Addr: p.Addr, Direction: "in", Agent: p.Version, Static: p.Static, PingUS: p.RTT.Microseconds(),
			Height: p.TipHeight, Bodies: p.Bodies, BodyBytes: p.BodyBytes, Rate: int64(p.Rate), Score: p.Score(), Connected: p.Since.UTC(), LastSeen: p.LastSeen.UTC(),
		}
		if p.Outbound {
			w.Direction = "out"
		}
		for ev, n := range p.Charges {
			if w.Charges == nil {
				w.Charges = map[string]uint64{}
			}
			w.Charges[string(ev)] = n
		}
		if p.RestUntil.After(time.Now()) {
			until := p.RestUntil.UTC()
			w.RestsUntil = &until
		}
		if p.HasStatus {
			w.Tip = &p.TipID
		}
		out.Peers = append(out.Peers, w)
	}
	return out, nil
}

func (a *api) peerBans(context.Context, rpc.NoParams) (rpc.PeerBans, error) {
	var out rpc.PeerBans
	for _, b := range a.n.net.Bans() {
		out.Bans = append(out.Bans, rpc.Ban{
			ID: b.ID, Reason: string(b.Evidence), Detail: b.Detail, Since: b.At.UTC(), Until: b.Until.UTC(),
		})
	}
	return out, nil
}

// medianSkew is the median of the peers' clocks minus ours, 0 without peers.
func (n *Node) medianSkew() time.Duration {
	var skews []time.Duration
	for _, p := range n.net.Peers() {
		if p.HasStatus {
			skews = append(skews, p.Skew)
		}
	}
	if len(skews) == 0 {
		return 0
	}
	slices.Sort(skews)
	return skews[len(skews)/2]
}

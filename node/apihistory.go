package node

import (
	"context"
	"errors"
	"time"

	"quipu/chain"
	"quipu/chain/ledger"
	"quipu/rpc"
)

// maxHistoryBytes is how many bytes of bodies one answer of account_history reads, the last one it began included.
const maxHistoryBytes = 32 << 20

func (a *api) accountHistory(ctx context.Context, p rpc.AccountHistoryParams) (rpc.AccountHistory, error) {
	account, err := rpc.AccountGetParams{Account: p.Account, Address: p.Address}.Resolve(a.n.g)
	if err != nil {
		return rpc.AccountHistory{}, err
	}
	out := rpc.AccountHistory{Account: account, Address: chain.EncodeAddress(a.n.g.Prefix, account)}
	var before *ledger.Place
	if p.Before != "" {
		before = &ledger.Place{}
		if before.Height, before.Index, err = rpc.ParsePlace(p.Before); err != nil {
			return out, err
		}
	}
	page, err := a.n.ledger.History(account, before, p.Max)
	if errors.Is(err, ledger.ErrNoHistory) {
		return out, rpc.Errorf(rpc.NameUnavailable, "quipu node run --history", "this node keeps no history of accounts")
	}
	if err != nil {
		return out, err
	}
	out.Indexed, out.Tip = page.Indexed, rpc.RefOf(&page.Tip)
	read, most := 0, maxHistoryBytes
	if a.atOnce > 0 {
		most = a.atOnce
	}
	for rest := page.Touches; len(rest) > 0; {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		n := 1
		for n < len(rest) && rest[n].Block == rest[0].Block {
			n++
		}
		size, entries, err := a.historyOf(account, &page.Tip, rest[:n])
		if err != nil {
			return out, err
		}
		out.Entries = append(out.Entries, entries...)
		last := rest[n-1].Place
		rest, read = rest[n:], read+size
		if page.More && len(rest) == 0 || read >= most && len(rest) > 0 {
			out.Next = rpc.FormatPlace(last.Height, last.Index)
			break
		}
	}
	return out, nil
}

// historyOf tells of an account's entries in one block, and how many bytes it read for that.
func (a *api) historyOf(account chain.Account, tip *chain.State, touches []ledger.Touch) (size int, out []rpc.HistoryEntry, err error) {
	id := touches[0].Block
	s, _, err := a.n.ledger.Header(id)
	if err != nil {
		return 0, nil, err
	}
	body, held, err := a.n.ledger.Body(id)
	if err != nil {
		return 0, nil, err
	}
	raws, err := chain.SplitBody(body)
	if err != nil {
		return 0, nil, err
	}
	for _, at := range touches {
		e := rpc.HistoryEntry{
			Kind: rpc.HistoryTx, Height: at.Height, Block: id, TimeMS: s.Header.Time, Pruned: !held,
			Confirmations: tip.Header.Height - at.Height + 1,
		}
		if at.Index == ledger.MinerPlace {
			e.Kind = rpc.HistoryMined
			if e.Received, err = a.reward(&s.Header, raws, held); err != nil {
				return 0, nil, err
			}
		} else {
			index := at.Index
			e.Index = &index
			if held {
				if int(index) >= len(raws) {
					return 0, nil, rpc.Errorf(rpc.NameInternal, "stop the node and try quipu chain verify", "the history names transaction %d of block %d, which has %d", index, at.Height, len(raws))
				}
				if err := a.describe(&e, account, raws[index]); err != nil {
					return 0, nil, err
				}
			}
		}
		out = append(out, e)
	}
	return len(body), out, nil
}

// describe fills in what a transaction did to an account.
func (a *api) describe(e *rpc.HistoryEntry, account chain.Account, raw []byte) error {
	t, _, err := chain.DecodeTx(raw)
	if err != nil {
		return err
	}
	id := chain.TxIDOf(a.n.g.NetworkID(), raw)
	e.TxID, e.From, e.Outputs = &id, chain.EncodeAddress(a.n.g.Prefix, t.From), len(t.Outputs)
	received, spent := rpc.Decimal(0), rpc.Decimal(t.Fee)
	for _, o := range t.Outputs {
		if o.To == account {
			received += rpc.Decimal(o.Amount)
		}
		spent += rpc.Decimal(o.Amount)
	}
	if received > 0 {
		e.Received = &received
	}
	if t.From == account {
		fee := rpc.Decimal(t.Fee)
		e.Spent, e.Fee = &spent, &fee
	}
	return nil
}

// reward is what a block paid its miner: subsidy and fees without what was burned. Nil where that isn't known any more:
// what a block burned is written in its undo.
func (a *api) reward(h *chain.Header, raws [][]byte, held bool) (*rpc.Decimal, error) {
	if !held {
		return nil, nil
	}
	burned := uint64(0)
	if a.n.g.AccountPrice > 0 && len(raws) > 0 {
		_, b, known, err := a.n.ledger.BlockSupply(h.ID())
		if err != nil || !known {
			return nil, err
		}
		burned = b
	}
	sum := a.n.g.SubsidyAt(h.Height)
	for _, raw := range raws {
		t, _, err := chain.DecodeTx(raw)
		if err != nil {
			return nil, err
		}
		sum += t.Fee
	}
	reward := rpc.Decimal(sum - burned)
	return &reward, nil
}

// historyStatus says how far the index of accounts' histories is, nil if this node keeps none.
func (n *Node) historyStatus() *rpc.HistoryAt {
	info := n.ledger.HistoryInfo()
	if !info.On {
		return nil
	}
	return &rpc.HistoryAt{Height: info.Height, Behind: info.Behind}
}

// IndexHistory writes the index of accounts' histories up to the tip, for an import that wants it whole before it ends.
// Where Config.History isn't set it does nothing.
func (n *Node) IndexHistory(ctx context.Context) error {
	for {
		more, err := n.ledger.IndexHistory(true)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || !more {
			return err
		}
	}
}

// keepHistory writes what the index of accounts' histories is behind: the ledger itself only keeps it where it is. Each
// step holds the ledger for a few blocks' time.
func (n *Node) keepHistory(ctx context.Context) error {
	if !n.cfg.History {
		return nil
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	said := time.Time{}
	for {
		more, err := n.ledger.IndexHistory(false)
		if err != nil {
			return err
		}
		info := n.ledger.HistoryInfo()
		switch {
		case more && time.Since(said) >= 10*time.Second:
			n.log.Info("indexing accounts' histories", "height", info.Height, "of", n.ledger.Tip().Header.Height)
			said = time.Now()
		case !more && !said.IsZero():
			n.log.Info("accounts' histories are indexed", "height", info.Height)
			said = time.Time{}
		}
		if more && ctx.Err() == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

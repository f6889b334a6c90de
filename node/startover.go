package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"quipu/chain"
	"quipu/chain/ledger"
	"quipu/rpc"
)

// A heavier chain that leaves ours further back than undo reaches is followed all the same: the ledger goes back to
// block 0 and applies it in steps, see ledger.StartOver. Meanwhile the tip is a valid block of a shorter chain, no
// transaction is taken and nothing is mined. The pool's transactions are put aside, and come back in the end together
// with those of the branch that was left.

const (
	stepTime     = 100 * time.Millisecond // of one step; readers wait no longer for the ledger
	progressTime = 10 * time.Second       // between lines in the log
	askAgain     = time.Second            // between looks whether pruned bodies have come back
	branchBlocks = 64                     // of the branch that was left are in memory at once
	branchBytes  = 256 << 20              // of its newest bodies give transactions back: many times what the pool takes
)

// errRebuilding refuses transactions while the tip isn't one to judge them by. Nobody's fault.
var errRebuilding = errors.New("this node loads its accounts or applies its chain anew, and can't judge transactions yet")

// keepUp follows chains that undo doesn't reach, until ctx ends.
func (n *Node) keepUp(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.overdue:
		}
		if err := n.startOver(ctx); err != nil && ctx.Err() == nil {
			n.ours(err)
			return nil
		}
	}
}

// overdueNow wakes keepUp.
func (n *Node) overdueNow() {
	select {
	case n.overdue <- struct{}{}:
	default:
	}
}

// startOver goes on until the heaviest valid chain is followed; it returns at once if it is. An error is ours, or ctx's.
func (n *Node) startOver(ctx context.Context) error {
	fetching := uint64(0)
	var said time.Time
	for {
		if err := n.beginAnew(); err != nil {
			var missing *ledger.MissingBodiesError
			if !errors.As(err, &missing) {
				return err
			}
			if n.net == nil {
				return fmt.Errorf("%w: a node with peers does it", err)
			}
			if fetching == 0 || time.Since(said) >= progressTime {
				n.log.Warn("pruned bodies are fetched again to follow the heaviest chain", "missing", missing.Bodies)
				said = time.Now()
			}
			if fetching != missing.Bodies {
				fetching = missing.Bodies
				n.net.WakeSync()
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(askAgain):
			}
			continue
		}
		if n.ledger.Rebuilding() == nil {
			return nil
		}
		if err := n.applyAnew(ctx); err != nil {
			return err
		}
	}
}

// beginAnew puts ledger and pool back to block 0, if there is a reason.
func (n *Node) beginAnew() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if deep := n.ledger.Deep(); deep != nil {
		n.deepReorg(deep) // one that was found at start hasn't raised its alarm
		if err := n.ledger.StartOver(); err != nil {
			return err
		}
	}
	r := n.ledger.Rebuilding()
	if r == nil {
		return nil
	}
	if !n.rebuilding.Load() { // else it goes on after a restart
		n.putPoolAside()
		n.metrics.startOvers.Inc()
	}
	n.deep.Store(nil)
	n.log.Warn("the chain is applied anew from block 0", "from", r.Height, "goal", r.Goal, "tip", r.GoalID, "left", r.OldID, "fork", r.Fork)
	n.events.add(rpc.Event{Kind: "node.rebuilding", ID: r.GoalID.String(), Height: r.Goal, Reason: fmt.Sprintf("from block %d, since a heavier chain left ours at height %d", r.Height, r.Fork)})
	n.tip.fire()
	return nil
}

// putPoolAside makes the pool refuse what comes, and keeps what it holds. n.mu is held, or nothing runs yet.
func (n *Node) putPoolAside() {
	n.rebuilding.Store(true)
	n.aside = append(n.aside, n.pool.Dump()...)
	n.pool.Clear(n.ledger.Tip().Header.Height)
}

// applyAnew takes the steps. n.mu is free between them.
func (n *Node) applyAnew(ctx context.Context) error {
	begun, said := time.Now(), time.Now()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		r := n.ledger.Rebuilding()
		done, err := n.step(r, begun)
		if done || err != nil {
			return err
		}
		if r = n.ledger.Rebuilding(); time.Since(said) >= progressTime && r != nil {
			said = time.Now()
			n.log.Info("applying the chain anew", "height", r.Height, "of", r.Goal)
		}
	}
}

func (n *Node) step(r *ledger.Rebuilding, begun time.Time) (done bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	start := time.Now()
	first := true
	res, done, err := n.ledger.Step(func() bool {
		on := first || time.Since(start) < stepTime
		first = false
		return on
	})
	deep := res.Deep
	res.Deep = nil
	n.settle(res)
	if err != nil {
		return false, err
	}
	if !done {
		return false, nil
	}
	n.bringPoolBack(r)
	n.deepReorg(deep)
	tip := n.ledger.Tip()
	took := time.Since(begun).Round(time.Millisecond)
	n.log.Warn("the chain has been applied anew", "height", tip.Header.Height, "tip", tip.ID, "took", took)
	n.events.add(rpc.Event{Kind: "node.rebuilt", ID: tip.ID.String(), Height: tip.Header.Height, Reason: fmt.Sprintf("in %v; left %s", took, r.OldID)})
	n.events.add(rpc.Event{Kind: "block.tip", ID: tip.ID.String(), Height: tip.Header.Height})
	n.tip.fire()
	if n.net != nil {
		n.net.Announce()
	}
	return true, nil
}

// bringPoolBack gives the pool the transactions of the branch that was left, oldest first so that none waits for
// another, and then those that were put aside. The best pay for their place as ever.
func (n *Node) bringPoolBack(r *ledger.Rebuilding) {
	tip := n.ledger.Tip()
	height := tip.Header.Height
	n.pool.Clear(height)
	left := n.ledger.Branch(r.OldID, r.Fork, branchBytes)
	for len(left) > 0 {
		k := min(len(left), branchBlocks)
		blocks, err := n.ledger.Blocks(left[:k])
		if err != nil {
			n.log.Warn("transactions of the branch that was left don't come back", "err", err)
			break
		}
		left = left[k:]
		var ch chain.Change
		senders := map[chain.Account]struct{}{}
		for i := range blocks {
			ch.Reverted = append(ch.Reverted, chain.Update{Block: &blocks[i]})
			for j := range blocks[i].Txs() {
				senders[blocks[i].Txs()[j].Tx().From] = struct{}{}
			}
		}
		slices.Reverse(ch.Reverted) // newest first
		accs, ok := n.accountsOf(senders)
		if !ok {
			break
		}
		n.pool.Update(ch, accs, height)
	}
	aside := n.aside
	n.aside = nil
	n.rebuilding.Store(false)
	for len(aside) > 0 {
		k := min(len(aside), 1000)
		n.offerAgain(aside[:k], height)
		aside = aside[k:]
	}
}

// offerAgain offers the pool transactions that were put aside. What is not remembered as verified is verified: after a
// restart they come from a file.
func (n *Node) offerAgain(raws [][]byte, height uint64) {
	txs, errs := n.g.CheckTxs(raws, n.known)
	touched := map[chain.Account]struct{}{}
	good := txs[:0]
	for i := range txs {
		if errs[i] != nil {
			continue
		}
		good = append(good, txs[i])
		touched[txs[i].Tx().From] = struct{}{}
		for _, o := range txs[i].Tx().Outputs {
			touched[o.To] = struct{}{}
		}
	}
	if accs, ok := n.accountsOf(touched); ok {
		n.pool.Add(height, accs, good)
	}
}

func (n *Node) accountsOf(set map[chain.Account]struct{}) (chain.Accounts, bool) {
	keys := make([]chain.Account, 0, len(set))
	for a := range set {
		keys = append(keys, a)
	}
	_, accs, err := n.ledger.Accounts(keys)
	if err != nil {
		n.ours(err)
	}
	return accs, err == nil
}

package node

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"quipu/chain"
	"quipu/chain/ledger"
	"quipu/rpc"
)

// reorgAlarm is the depth from which a reorg is logged as a warning and raised as an event.
const reorgAlarm = 6

// Import is the way of every block body, from sync, gossip or file: stateless checks ahead of what is applied, with
// signature batches across block borders (no lock), then the ledger, then the pool. Headers are stored before.
// Bodies may come in any order. A block that breaks a rule is remembered as invalid; the error is nil unless the
// fault is ours.
func (n *Node) Import(blocks []chain.Block) error { return n.importIn(blocks, partTxs) }

// importIn checks up to so many transactions at once, more of them in parts.
func (n *Node) importIn(blocks []chain.Block, most int) error {
	defer n.yield.block()()
	txs := 0
	for i := range blocks {
		txs += int(blocks[i].Header.TxCount)
	}
	if n.cfg.importCost != nil {
		n.cfg.importCost(txs)
	}
	if txs <= most { // no more than one part: both cores check it
		p := part{blocks: blocks}
		p.checked, p.errs = n.checker.Blocks(runtime.GOMAXPROCS(0), blocks)
		return n.store(&p)
	}
	all := func(yield func(HintedBlock, error) bool) {
		for _, b := range blocks {
			if !yield(HintedBlock{Block: b}, nil) {
				return
			}
		}
	}
	return n.checkAhead(context.Background(), all, n.store)
}

// store takes blocks whose stateless checks have been made. Those that break a rule are remembered as invalid.
func (n *Node) store(p *part) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	good := p.checked[:0]
	for i, err := range p.errs {
		var broken *chain.RuleError
		switch {
		case err == nil:
			good = append(good, p.checked[i])
		case chain.WrongBody(err): // says nothing of the block; who served it is charged where it was fetched
		case errors.As(err, &broken):
			res, err := n.ledger.MarkInvalid(p.blocks[i].Header.ID(), broken)
			n.settle(res)
			if err == nil && res.More {
				err = n.add(nil)
			}
			if err != nil && !tooDeep(err) {
				n.ours(err)
				return err
			}
		default:
			n.ours(err)
			return err
		}
	}
	if len(good) == 0 {
		return nil
	}
	return n.add(good)
}

// add stores checked blocks and settles what that changed. n.mu is held.
func (n *Node) add(blocks []chain.CheckedBlock) error {
	res, err := n.ledger.Add(blocks)
	n.settle(res) // also on an error: what was applied before it stays applied
	for res.More && (err == nil || tooDeep(err)) {
		res, err = n.ledger.Add(nil)
		n.settle(res)
	}
	switch {
	case err == nil || tooDeep(err):
		return nil
	case errors.Is(err, chain.ErrUnknownParent):
		return err
	default:
		n.ours(err)
		return err
	}
}

// settle carries a change of the best chain to the pool, the log and whoever waits for a tip. n.mu is held.
func (n *Node) settle(res ledger.Result) {
	for _, bad := range res.Invalid {
		n.log.Warn("block is invalid", "height", bad.Height, "block", bad.ID, "reason", bad.Err)
		n.events.add(rpc.Event{Kind: "block.invalid", ID: bad.ID.String(), Height: bad.Height, Reason: bad.Err.Error()})
		n.metrics.invalidBlocks.Inc()
	}
	if res.Restarted {
		n.restarted()
	}
	n.deepReorg(res.Deep)
	ch := res.Change
	if len(ch.Applied) == 0 && len(ch.Reverted) == 0 {
		return
	}
	for _, u := range ch.Reverted {
		for i := range u.Block.Txs() {
			n.inBlocks.drop(u.Block.Txs()[i].Leaf())
		}
	}
	for _, u := range ch.Applied {
		for i := range u.Block.Txs() {
			n.inBlocks.put(u.Block.Txs()[i].Leaf(), nil)
		}
		n.recent.add(u.Block)
	}
	tip := n.ledger.Tip()
	start := time.Now()
	admitted := n.pool.Update(ch, nil, tip.Header.Height) // the change carries all states the pool needs
	n.stages.pool.add(start)
	n.report(ch, &tip)
	n.tip.fire()
	if n.net == nil {
		return
	}
	n.net.Announce()
	if len(admitted) > 0 && !res.More { // else blocks that come next may hold them
		raws := make([][]byte, len(admitted))
		for i := range admitted {
			raws[i] = admitted[i].Raw()
		}
		n.net.PublishTxs(raws)
	}
}

// tooDeep reports the error of a heavier branch that can't be followed: settle raises the alarm, the node goes on.
func tooDeep(err error) bool {
	var deep *ledger.DeepReorgError
	return errors.As(err, &deep)
}

// deepReorg raises the alarm once for each branch that can't be followed, and keeps it for status and health.
func (n *Node) deepReorg(deep *ledger.DeepReorgError) {
	before := n.deep.Swap(deep)
	if deep != nil {
		n.overdueNow()
	}
	if deep == nil || before != nil && before.Fork == deep.Fork {
		return
	}
	n.log.Error("the heaviest chain leaves ours below what can be undone", "err", deep)
	n.events.add(rpc.Event{Kind: "node.alarm", ID: deep.ID.String(), Height: deep.Height, Reason: deep.Error()})
}

func (n *Node) report(ch chain.Change, tip *chain.State) {
	if depth := len(ch.Reverted); depth > 0 {
		n.metrics.reorgs.Inc()
		n.metrics.reorgDepth.Set(float64(depth))
		n.events.add(rpc.Event{Kind: "reorg", ID: tip.ID.String(), Height: tip.Header.Height, Reason: fmt.Sprintf("%d blocks reverted", depth)})
		if depth >= reorgAlarm {
			n.metrics.reorgAlarms.Inc()
			n.log.Warn("deep reorg", "depth", depth, "height", tip.Header.Height, "tip", tip.ID)
			n.events.add(rpc.Event{Kind: "node.alarm", Reason: "deep reorg: " + fmt.Sprintf("%d blocks reverted", depth)})
		} else {
			n.log.Info("reorg", "depth", depth, "height", tip.Header.Height, "tip", tip.ID)
		}
	}
	txs := 0
	for _, u := range ch.Applied {
		txs += len(u.Block.Txs())
	}
	n.metrics.blocks.Add(float64(len(ch.Applied)))
	n.metrics.txs.Add(float64(txs))
	n.events.add(rpc.Event{Kind: "block.tip", ID: tip.ID.String(), Height: tip.Header.Height})
	n.log.Info("tip", "height", tip.Header.Height, "block", tip.ID, "blocks", len(ch.Applied), "txs", txs)
}

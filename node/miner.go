package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"quipu/chain"
	"quipu/chain/ledger"
)

const (
	mineTick    = 20 * time.Millisecond // a capped miner hashes once a tick and sleeps between
	mineChunk   = 20_000                // hashes an uncapped miner tries between looks at the tip: about 10 ms
	templateAge = time.Second           // how old a template may grow while the pool fills, unless
	templateUse = 8                     // it took more than this part of its age to make
)

// mine makes blocks on the validated tip until ctx ends. A template is made anew on every tip and each
// second, under load less often.
func (n *Node) mine(ctx context.Context) error {
	n.log.Info("mining", "rate", n.cfg.MineRate, "to", chain.EncodeAddress(n.g.Prefix, n.cfg.Miner))
	var budget allowance
	tick := time.NewTicker(mineTick)
	defer tick.Stop()
	for ctx.Err() == nil {
		_, fixed := n.cfg.Checkpoints[n.ledger.Tip().Header.Height+1]
		if fixed || n.rebuilding.Load() || !n.Verified() || n.net.SyncState().Syncing { // blocks on an old tip, or beside a checkpoint, would be work thrown away
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
			continue
		}
		changed := n.tip.changed()
		start := time.Now()
		h, txs, err := n.template()
		if errors.Is(err, ledger.ErrStale) {
			continue // the tip moved while the template was made
		}
		if err != nil {
			n.ours(err)
			return nil
		}
		if err := n.solve(ctx, &h, changed, tick.C, max(templateAge, templateUse*time.Since(start)), &budget); err != nil {
			continue
		}
		if err := n.mined(h, txs); err != nil {
			return nil // n.ours has said why
		}
	}
	return nil
}

var errNoBlock = errors.New("no block found on this template")

// solve hashes until h meets its target, the tip changes, or the template is of an age. It never spins when capped.
func (n *Node) solve(ctx context.Context, h *chain.Header, changed <-chan struct{}, tick <-chan time.Time, age time.Duration, budget *allowance) error {
	for start := time.Now(); time.Since(start) < age; {
		tries := uint64(mineChunk)
		if n.cfg.MineRate > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-changed:
				return errNoBlock
			case <-tick:
			}
			tries = budget.take(n.cfg.MineRate)
		}
		before := h.Nonce
		found := h.Solve(tries)
		n.hashes.Add(h.Nonce - before)
		if found {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
			return errNoBlock
		default:
		}
	}
	return errNoBlock
}

// allowance is what a capped miner may try. Time spent on making templates counts too, or a busy node would mine less
// than its share.
type allowance struct {
	hashes float64
	last   time.Time
}

// take is how many hashes may be tried now at so many a second; at most a second's worth is saved.
func (a *allowance) take(rate float64) uint64 {
	now := time.Now()
	if a.last.IsZero() {
		a.last = now.Add(-mineTick)
	}
	a.hashes = min(a.hashes+rate*now.Sub(a.last).Seconds(), max(1, rate))
	a.last = now
	tries := uint64(a.hashes)
	a.hashes -= float64(tries)
	return tries
}

// template is the next block with everything but its work: the pool's best transactions that apply on the tip. n.mu is
// held only to take them: making a large block takes long, and nobody waits for it. ErrStale if the tip moves meanwhile.
func (n *Node) template() (chain.Header, []chain.CheckedTx, error) {
	n.mu.Lock()
	tip := n.ledger.Tip()
	candidates := n.pool.Candidates(int(n.g.BodyLimit))
	n.mu.Unlock()
	h := n.g.NewHeader(&tip, n.cfg.Miner, uint64(time.Now().UnixMilli()))
	now, accs, err := n.ledger.Accounts(chain.Touched(n.cfg.Miner, candidates))
	if err == nil && now.ID != tip.ID {
		err = ledger.ErrStale
	}
	if err != nil {
		return h, nil, err
	}
	o := n.g.NewOverlay(h.Height, accs)
	txs := candidates[:0]
	var discard []chain.TxID
	for i := range candidates {
		if v := candidates[i].Tx().ValidUntil; v != 0 && h.Height > uint64(v) {
			continue
		}
		err := o.ApplyTx(&candidates[i])
		if errors.Is(err, chain.ErrCreateFee) { // a reorg took the recipient's account away: it may never apply again
			discard = append(discard, candidates[i].ID())
		}
		if err == nil { // what else doesn't apply on this tip stays in the pool
			txs = append(txs, candidates[i])
		}
	}
	if len(discard) > 0 {
		n.mu.Lock()
		n.pool.Discard(discard...)
		n.mu.Unlock()
	}
	o.Reward(h.Miner)
	leaves := make([]chain.LeafHash, len(txs))
	for i := range txs {
		leaves[i] = txs[i].Leaf()
		h.BodySize += uint32(len(txs[i].Raw()))
	}
	h.TxRoot, h.TxCount = chain.MTH(leaves), uint32(len(txs))
	root, err := n.ledger.Preview(&h, o.Changes())
	h.StateRoot = root
	return h, txs, err
}

// mined takes the way of every block, with the signatures known. The network is told first: the template was applied when
// it was made, and others check the block while this node stores it.
func (n *Node) mined(h chain.Header, txs []chain.CheckedTx) error {
	if _, err := n.AddHeaders([]chain.Header{h}); err != nil {
		if isOurs(err) {
			return err
		}
		n.log.Warn("own block refused", "height", h.Height, "err", err)
		return nil
	}
	block := chain.Seal(h, txs)
	n.own.Store(&block)
	n.net.PublishBlock(h, block.Body())
	defer n.yield.block()()
	n.mu.Lock()
	err := n.add([]chain.CheckedBlock{block})
	n.mu.Unlock()
	if err != nil {
		return err
	}
	if n.ledger.Info(block.ID()).Invalid { // losing a tie to a block that came first is no fault
		err := fmt.Errorf("own block %s at height %d is invalid: a template must never be", block.ID(), h.Height)
		n.ours(err)
		return err
	}
	n.metrics.mined.Inc()
	n.blocksMined.Add(1)
	return nil
}

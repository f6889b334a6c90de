package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"quipu/chain"
	"quipu/chain/ledger"
	"quipu/p2p"
	"quipu/p2p/wire"
	"quipu/rpc"
)

// An empty node may begin with a snapshot: all accounts as of one block, from peers, each range proved against the state
// root in that block's header. Blocks since come by the usual sync. What work alone vouches for is that this root is what
// the blocks before lead to, so those are fetched and applied in the background, and until they have been the node says
// that it isn't verified, and mines nothing. If they lead elsewhere, the node raises an alarm and applies all from block 0.

const (
	snapshotPatience = time.Minute      // without a header or account more; then all blocks are applied
	patienceSmall    = 15 * time.Second // of a test network's node
	headersSettle    = 2 * time.Second  // without a header more, where peers claim there are some
	snapshotTries    = 8                // of snapshots that peers offer and that can't be had; then all blocks are applied
	replayStep       = 50 * time.Millisecond
	replayMemory     = 64 << 20 // bytes of accounts
	replayMemSmall   = 8 << 20  // of a test network's node
)

// snapProgress is how far a snapshot sync is, for people to see.
type snapProgress struct {
	mu sync.Mutex
	at rpc.SnapshotSync
}

func (p *snapProgress) set(f func(at *rpc.SnapshotSync)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.at)
}

func (p *snapProgress) get() rpc.SnapshotSync {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at
}

// Verified reports that this node has applied every block from genesis itself.
func (n *Node) Verified() bool {
	_, unconfirmed := n.ledger.Base()
	return !unconfirmed && !n.awaiting.Load()
}

// snapshotStatus is nil unless a snapshot is awaited or not confirmed yet.
func (n *Node) snapshotStatus() *rpc.SnapshotSync {
	if n.Verified() {
		return nil
	}
	at := n.snap.get()
	if base, ok := n.ledger.Base(); ok {
		at.Height, at.Block, at.Missing = base.Height, base.ID, n.ledger.Pruned()
		if at.State = "replay"; at.Missing > 0 {
			at.State = "history"
		}
	}
	return &at
}

// awaitSnapshot keeps an empty ledger empty until a snapshot has come. Nothing runs yet.
func (n *Node) awaitSnapshot() error {
	err := n.ledger.AwaitSnapshot()
	switch {
	case errors.Is(err, ledger.ErrNotEmpty):
		n.log.Info("--sync snapshot does nothing: this node has blocks already", "height", n.ledger.Tip().Header.Height)
		return nil
	case err != nil:
		return err
	}
	n.awaiting.Store(true)
	n.snap.set(func(at *rpc.SnapshotSync) { at.State = "waiting" })
	n.putPoolAside()
	return nil
}

// keepBase begins with a snapshot if one is awaited, then confirms it.
func (n *Node) keepBase(ctx context.Context) error {
	if n.awaiting.Load() {
		if err := n.takeSnapshot(ctx); err != nil {
			if ctx.Err() == nil {
				n.ours(err)
			}
			return nil
		}
	}
	if err := n.confirmBase(ctx); err != nil && ctx.Err() == nil {
		n.ours(err)
	}
	return nil
}

// takeSnapshot looks for a snapshot and loads it, or gives up and lets the node apply all blocks. An error is ours, or ctx's.
func (n *Node) takeSnapshot(ctx context.Context) error {
	patience := snapshotPatience
	if n.cfg.TestNet {
		patience = patienceSmall
	}
	n.log.Info("looking for a snapshot")
	moved, best, heard := time.Now(), uint64(0), false
	failed, tries := map[chain.BlockID]bool{}, 0
	var vain time.Duration // spent with all headers here and no snapshot: new blocks may come more often than patience ends
	looked := time.Now()
	for {
		h, claimed := n.ledger.BestHeader().Header.Height, heard || n.net.SyncState().NetworkHeight > 0
		if h > best || claimed != heard { // the first peer may come late, and its headers later still
			moved, best, heard = time.Now(), h, claimed
		}
		if settled := time.Since(moved) >= headersSettle; settled || n.headersHere() {
			goal, found := n.chooseSnapshot(ctx, failed)
			if found {
				err := n.loadSnapshot(ctx, goal)
				switch {
				case err == nil:
					return n.beginAt(goal)
				case ctx.Err() != nil:
					return ctx.Err()
				case errors.Is(err, p2p.ErrNoState), errors.Is(err, ledger.ErrWrongState), errors.Is(err, ledger.ErrNotBest):
					n.log.Warn("a snapshot can't be had; another is looked for", "height", goal.Height, "block", goal.Block, "err", err)
					failed[goal.Block] = !errors.Is(err, ledger.ErrNotBest)
					if tries++; tries == snapshotTries {
						return n.syncFully(fmt.Sprintf("%d that peers offered can't be had", tries))
					}
					looked = time.Now()
				default:
					return err
				}
				continue
			}
			if settled && heard && best < 2*n.snapshotEvery() {
				return n.syncFully(fmt.Sprintf("the chain has %d blocks, and a snapshot is of block %d or above, %d deep", best, n.snapshotEvery(), n.snapshotEvery()))
			}
			if heard {
				vain += time.Since(looked)
			}
		}
		looked = time.Now()
		if time.Since(moved) > patience || vain > patience {
			return n.syncFully(fmt.Sprintf("no peer offered one for %v", patience))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// headersHere reports that all headers that peers claim are stored.
func (n *Node) headersHere() bool {
	s := n.net.SyncState()
	return s.NetworkHeight > 0 && s.NetworkHeight <= s.BestHeight
}

func (n *Node) snapshotEvery() uint64 {
	if n.cfg.snapshots > 0 {
		return uint64(n.cfg.snapshots)
	}
	return snapshotEvery
}

// chooseSnapshot asks peers and takes the snapshot that most of them have, of these the newest, among those deep enough in
// the heaviest chain.
func (n *Node) chooseSnapshot(ctx context.Context, failed map[chain.BlockID]bool) (goal p2p.StateGoal, found bool) {
	type offer struct {
		p2p.StateGoal
		peers int
	}
	offers := map[chain.BlockID]*offer{}
	best := n.ledger.BestHeader().Header.Height
	for _, list := range n.net.AskSnapshots(ctx) {
		for _, s := range list {
			if s.Height == 0 || s.Height%n.snapshotEvery() != 0 || s.Height+n.snapshotEvery() > best || failed[s.Block] {
				continue
			}
			o := offers[s.Block]
			if o == nil {
				state, err := n.ledger.BaseHeader(s.Block)
				if err != nil || state.Header.Height != s.Height {
					continue
				}
				o = &offer{StateGoal: p2p.StateGoal{Height: s.Height, Block: s.Block, Root: state.Header.StateRoot}}
				offers[s.Block] = o
			}
			o.peers++
			o.Accounts = max(o.Accounts, s.Accounts)
		}
	}
	var all []*offer
	for _, o := range offers {
		all = append(all, o)
	}
	if len(all) == 0 {
		return goal, false
	}
	first := slices.MinFunc(all, func(a, b *offer) int {
		return cmp.Or(cmp.Compare(b.peers, a.peers), cmp.Compare(b.Height, a.Height))
	})
	n.log.Info("loading a snapshot", "height", first.Height, "block", first.Block, "accounts", first.Accounts, "peers", first.peers)
	return first.StateGoal, true
}

// loadSnapshot fetches the accounts and gives them to the ledger, which becomes that of the block.
func (n *Node) loadSnapshot(ctx context.Context, goal p2p.StateGoal) error {
	n.snap.set(func(at *rpc.SnapshotSync) {
		*at = rpc.SnapshotSync{State: "loading", Height: goal.Height, Block: goal.Block, Of: goal.Accounts}
	})
	defer n.snap.set(func(at *rpc.SnapshotSync) { at.State = "waiting" })
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	parts := make(chan []wire.Leaf, 4)
	g.Go(func() error {
		defer close(parts)
		return n.net.FetchState(ctx, goal, func(leaves []wire.Leaf) error {
			select {
			case parts <- leaves:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	var left []wire.Leaf
	next := func() (leaf wire.Leaf, ok bool, err error) {
		for len(left) == 0 {
			if left, ok = <-parts; !ok {
				return leaf, false, g.Wait()
			}
			n.snap.set(func(at *rpc.SnapshotSync) { at.Accounts += uint64(len(left)) })
		}
		leaf, left = left[0], left[1:]
		return leaf, true, nil
	}
	err := n.ledger.LoadSnapshot(goal.Block, next)
	cancel()
	g.Wait()
	return err
}

// beginAt goes on from a snapshot that the ledger begins with now.
func (n *Node) beginAt(goal p2p.StateGoal) error {
	n.log.Info("this node begins with a snapshot; it is not verified until the blocks before have been applied", "height", goal.Height, "block", goal.Block)
	n.events.add(rpc.Event{Kind: "node.snapshot", ID: goal.Block.String(), Height: goal.Height})
	return n.leaveWaiting(func() error { return n.add(nil) })
}

// syncFully gives up on snapshots.
func (n *Node) syncFully(why string) error {
	n.log.Warn("no snapshot: all blocks are fetched and applied from block 0", "why", why)
	return n.leaveWaiting(func() error {
		res, err := n.ledger.GoOn()
		n.settle(res)
		if err == nil || tooDeep(err) {
			err = n.add(nil)
		}
		return err
	})
}

func (n *Node) leaveWaiting(follow func() error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	err := follow()
	n.awaiting.Store(false)
	n.bringPoolBack(&ledger.Rebuilding{})
	n.tip.fire()
	n.net.Announce()
	n.net.WakeSync()
	return err
}

// confirmBase waits until the blocks up to the base are here and applies them beside the ledger, in short steps with as
// long a rest between them, and none while the node is behind.
func (n *Node) confirmBase(ctx context.Context) error {
	dir := n.cfg.path("replay")
	said := time.Time{}
	for {
		base, ok := n.ledger.Base()
		if !ok {
			if dir != "" {
				return os.RemoveAll(dir)
			}
			return nil
		}
		if missing := n.ledger.Pruned(); missing > 0 {
			if time.Since(said) >= time.Minute {
				n.log.Info("fetching the blocks before the snapshot", "missing", missing)
				said = time.Now()
			}
		} else if err := n.replay(ctx, base, dir); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// replay applies the blocks up to the base and acts on what comes out.
func (n *Node) replay(ctx context.Context, base ledger.Base, dir string) error {
	memory := int64(replayMemory)
	if n.cfg.TestNet {
		memory = replayMemSmall
	}
	r, err := n.ledger.OpenReplay(dir, memory)
	if errors.Is(err, ledger.ErrReplayStore) {
		return n.dropReplay(dir, err)
	}
	if err != nil {
		return unlessGone(err)
	}
	defer r.Close()
	n.log.Info("applying the blocks before the snapshot", "from", r.Height(), "to", base.Height)
	began, said := time.Now(), time.Now()
	for {
		start := time.Now()
		done, err := r.Step(func() bool { return time.Since(start) < replayStep })
		n.snap.set(func(at *rpc.SnapshotSync) { at.Replayed = r.Height() })
		var bad *ledger.RefutedError
		switch {
		case errors.As(err, &bad):
			return n.refute(base, bad)
		case errors.Is(err, ledger.ErrReplayStore):
			r.Close()
			return n.dropReplay(dir, err)
		case err != nil:
			return unlessGone(err)
		case done:
			if err := n.ledger.Confirm(base); err != nil {
				return err
			}
			n.log.Info("the snapshot is confirmed: every block has been applied here", "height", base.Height, "took", time.Since(began).Round(time.Millisecond))
			n.events.add(rpc.Event{Kind: "node.verified", ID: base.ID.String(), Height: base.Height})
			return nil
		}
		if time.Since(said) >= progressTime {
			n.log.Info("applying the blocks before the snapshot", "height", r.Height(), "of", base.Height)
			said = time.Now()
		}
		rest := max(time.Since(start), time.Millisecond)
		if n.net.SyncState().Syncing {
			rest = max(rest, time.Second)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(rest):
		}
	}
}

// dropReplay removes a replay's damaged store: all it holds is made again.
func (n *Node) dropReplay(dir string, why error) error {
	n.log.Warn("the blocks before the snapshot are applied from genesis again", "why", why)
	return os.RemoveAll(dir)
}

func unlessGone(err error) error {
	if errors.Is(err, ledger.ErrNoBase) { // the chain has been left meanwhile
		return nil
	}
	return err
}

// refute leaves the chain of a snapshot that the blocks before don't lead to. settle raises the alarm.
func (n *Node) refute(base ledger.Base, bad *ledger.RefutedError) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.log.Error("the snapshot this node began with is false", "height", base.Height, "block", base.ID, "err", bad)
	res, err := n.ledger.MarkInvalid(bad.ID, bad.Err)
	n.settle(res)
	if err == nil && res.More {
		err = n.add(nil)
	}
	if tooDeep(err) {
		err = nil
	}
	return err
}

// restarted follows a ledger that stands at block 0 again. n.mu is held.
func (n *Node) restarted() {
	n.metrics.startOvers.Inc()
	n.pool.Clear(n.ledger.Tip().Header.Height)
	n.events.add(rpc.Event{Kind: "node.alarm", Reason: "the snapshot this node began with stands on an invalid block: all blocks are applied from block 0"})
	n.tip.fire()
}

// Snapshots and StateRange are what the network serves.
func (n *Node) Snapshots() (out []wire.Snapshot) {
	err := n.eachSnapshot(func(s *ledger.Snapshot) bool {
		out = append(out, wire.Snapshot{Height: s.Height, Block: s.Block, Accounts: s.Accounts})
		return true
	})
	if err != nil {
		n.log.Warn("listing snapshots", "err", err)
	}
	slices.SortFunc(out, func(a, b wire.Snapshot) int { return cmp.Compare(a.Height, b.Height) })
	return slices.CompactFunc(out, func(a, b wire.Snapshot) bool { return a.Height == b.Height })
}

// StateRange answers from a snapshot's file. One that can't be read is as if it weren't here.
func (n *Node) StateRange(q *wire.StateRequest, maxLeaves int) (encoded []byte, ok bool) {
	var failed error
	err := n.eachSnapshot(func(s *ledger.Snapshot) bool {
		if s.Height != q.Height || s.Block != q.Block {
			return true
		}
		encoded, failed = s.Answer(q.From, q.To, maxLeaves)
		ok = failed == nil
		return false
	})
	if err = errors.Join(err, failed); err != nil {
		n.log.Warn("a snapshot can't be served", "height", q.Height, "err", err)
	}
	return encoded, ok
}

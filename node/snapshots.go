package node

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"

	"quipu/chain/ledger"
	"quipu/rpc"
)

// snapshotEvery is the number of blocks between snapshots (docs/spec.md §12).
const snapshotEvery = 1024

// snapshotTime bounds the making of one file if the config doesn't: what it reads can't be tidied up meanwhile.
const snapshotTime = 10 * time.Minute

// keepSnapshots writes a file of all accounts at each multiple of snapshotEvery, in the background, and keeps the last
// three. A file that can't be written is a line in the log: the node does without.
func (n *Node) keepSnapshots(ctx context.Context) error {
	dir := n.cfg.path("snapshots")
	if dir == "" {
		return nil
	}
	every := n.cfg.snapshots
	if every == 0 {
		every = snapshotEvery
	}
	n.ledger.PinEvery(every)
	defer n.ledger.PinEvery(0)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	n.tidySnapshots(dir)
	for {
		if p := n.ledger.TakePinned(); p != nil {
			n.writeSnapshot(ctx, p, dir)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// writeSnapshot writes pinned accounts and releases them.
func (n *Node) writeSnapshot(ctx context.Context, p *ledger.Pinned, dir string) {
	defer p.Release()
	most := n.cfg.snapshotTime
	if most == 0 {
		most = snapshotTime
	}
	ctx, cancel := context.WithTimeoutCause(ctx, most, fmt.Errorf("it wasn't finished in %v", most))
	defer cancel()
	start, height := time.Now(), p.Tip.Header.Height
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = p.Write(ctx, dir)
	}
	switch {
	case err == nil:
		n.log.Info("snapshot", "height", height, "block", p.Tip.ID, "took", time.Since(start).Round(time.Millisecond))
		n.metrics.snapshots.Inc()
		n.tidySnapshots(dir)
	case errors.Is(err, context.Canceled): // the node stops
	default:
		n.log.Warn("no snapshot was written; the node does without", "height", height, "err", err)
		n.metrics.snapshotsFailed.Inc()
	}
}

func (n *Node) tidySnapshots(dir string) {
	if err := n.ledger.TidySnapshots(dir); err != nil {
		n.log.Warn("old snapshots were not removed", "dir", dir, "err", err)
	}
}

// eachSnapshot opens the snapshots of the best chain, oldest first, until use returns false.
func (n *Node) eachSnapshot(use func(s *ledger.Snapshot) bool) error {
	files, err := ledger.Snapshots(n.cfg.path("snapshots"))
	if err != nil || n.cfg.DataDir == "" {
		return err
	}
	for _, f := range files {
		s, err := ledger.OpenSnapshot(f)
		if err != nil {
			continue // being removed, or damaged: it is as if it weren't there
		}
		stands, err := n.ledger.Stands(s)
		more := err == nil && (!stands || use(s))
		s.Close()
		if !more {
			return err
		}
	}
	return nil
}

func snapshotOf(s *ledger.Snapshot) rpc.StateSnapshot {
	return rpc.StateSnapshot{Height: s.Height, Block: s.Block, StateRoot: s.Root, Accounts: s.Accounts, Bytes: s.Bytes}
}

func (a *api) stateSnapshots(context.Context, rpc.NoParams) (out rpc.StateSnapshots, err error) {
	err = a.n.eachSnapshot(func(s *ledger.Snapshot) bool {
		out.Snapshots = append(out.Snapshots, snapshotOf(s))
		return true
	})
	return out, err
}

func (a *api) stateRange(_ context.Context, p rpc.StateRangeParams) (out rpc.StateRange, err error) {
	found := false
	var failed error
	err = a.n.eachSnapshot(func(s *ledger.Snapshot) bool {
		if s.Height != p.Height {
			return true
		}
		found = true
		var answer []byte
		answer, failed = s.Answer(p.From, rpc.LastPath, p.Max)
		out = rpc.StateRange{StateSnapshot: snapshotOf(s), Range: hex.EncodeToString(answer)}
		return false
	})
	if err = errors.Join(err, failed); err != nil {
		return rpc.StateRange{}, err
	}
	if !found {
		return rpc.StateRange{}, rpc.Errorf(rpc.NameNotFound, "", "this node has no snapshot at height %d: state_snapshots lists them", p.Height)
	}
	return out, nil
}

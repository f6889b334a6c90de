package node

import (
	"errors"

	"quipu/chain"
	"quipu/chain/ledger"
	"quipu/mempool"
	"quipu/p2p"
	"quipu/p2p/wire"
	"quipu/rpc"
)

// The rest of p2p.Backend: what the network reads. A disk fault stops the node and answers as if nothing were there.
var _ p2p.Backend = (*Node)(nil)

func (n *Node) Genesis() *chain.Genesis  { return n.g }
func (n *Node) Tip() chain.State         { return n.ledger.Tip() }
func (n *Node) BestHeader() chain.State  { return n.ledger.BestHeader() }
func (n *Node) Locator() []chain.BlockID { return n.ledger.Locator() }
func (n *Node) WorkFloor() chain.Work    { return n.ledger.WorkFloor() }

// AddBodies is Import under the name the network knows.
func (n *Node) AddBodies(blocks []chain.Block) error { return n.Import(blocks) }

// Pool is what waits for a block. Only the node may change it.
func (n *Node) Pool() *mempool.Pool { return n.pool }

func (n *Node) HeadersAfter(locator []chain.BlockID, max int) []chain.Header {
	hs, err := n.ledger.HeadersAfter(locator, max)
	if err != nil {
		n.ours(err)
	}
	return hs
}

func (n *Node) HeadersTo(id chain.BlockID, from uint64, max int) []chain.Header {
	hs, err := n.ledger.HeadersTo(id, from, max)
	if err != nil {
		n.ours(err)
	}
	return hs
}

func (n *Node) Header(id chain.BlockID) (chain.State, bool) {
	s, ok, err := n.ledger.Header(id)
	if err != nil {
		n.ours(err)
	}
	return s, ok && err == nil
}

func (n *Node) Body(id chain.BlockID) ([]byte, bool) {
	if own := n.own.Load(); own != nil && own.ID() == id {
		return own.Body(), true
	}
	body, ok, err := n.ledger.Body(id)
	if err != nil {
		n.ours(err)
	}
	return body, ok && err == nil
}

func (n *Node) HasBody(id chain.BlockID) bool {
	own := n.own.Load()
	return own != nil && own.ID() == id || n.ledger.Info(id).Body
}

// Invalid leaves out what only this node refuses: whoever follows it did nothing wrong.
func (n *Node) Invalid(id chain.BlockID) bool {
	info := n.ledger.Info(id)
	return info.Invalid && !info.Refused
}

func (n *Node) Wanted(maxBytes int) []p2p.Want {
	wants := n.ledger.Wanted(maxBytes)
	out := make([]p2p.Want, len(wants))
	for i, w := range wants {
		out[i] = p2p.Want{ID: w.ID, Header: w.Header}
	}
	return out
}

func (n *Node) Held() []wire.Range {
	held := n.ledger.Held()
	out := make([]wire.Range, len(held))
	for i, r := range held {
		out[i] = wire.Range{From: r.From, To: r.To}
	}
	return out
}

func (n *Node) PoolLeaves(max int) []chain.LeafHash { return n.pool.Leaves(max) }

// PoolPart lists leaves of the pool by sender, for p2p.
func (n *Node) PoolPart(part wire.Prefix, settled bool) []chain.LeafHash {
	seq := uint64(0)
	if settled {
		if seq = n.settled.Load(); seq == 0 {
			return nil
		}
	}
	return n.pool.Part(part.Has, seq)
}

// PoolTxs gives the encodings of those that are in the pool.
func (n *Node) PoolTxs(leaves []chain.LeafHash) [][]byte {
	var out [][]byte
	for _, l := range leaves {
		if c, ok := n.pool.Get(l); ok {
			out = append(out, c.Raw())
		}
	}
	return out
}

// HasTx reports a transaction that isn't worth fetching: in the pool, in a recent block, or known to be bad.
func (n *Node) HasTx(leaf chain.LeafHash) bool {
	outcome, seen := n.verified.get(leaf)
	return n.pool.Has(leaf) || n.inBlocks.good(leaf) || seen && outcome != nil
}

// TxStatus is this node's word on transactions a peer asks about.
func (n *Node) TxStatus(ids []chain.TxID) []wire.TxStatus {
	out := make([]wire.TxStatus, len(ids))
	for i, id := range ids {
		if loc, _, ok, err := n.ledger.FindTx(id); err == nil && ok {
			out[i] = wire.TxStatus{State: wire.TxInBlock, Height: uint32(loc.Height), Block: loc.Block}
		} else if _, _, ok := n.pool.ByID(id); ok {
			out[i] = wire.TxStatus{State: wire.TxVerified, Took: n.timings.get(id)}
		} else if fate, ok := n.pool.Fate(id); ok {
			out[i] = wire.TxStatus{State: wire.TxRejected, Reason: wireReason(fate.Reason)}
		}
	}
	return out
}

// wireReason cuts a reason to what the wire carries: 64 bytes of printable ASCII.
func wireReason(s string) string {
	b := make([]byte, 0, wire.MaxReason)
	for i := 0; i < len(s) && len(b) < wire.MaxReason; i++ {
		if s[i] >= 0x20 && s[i] <= 0x7e {
			b = append(b, s[i])
		}
	}
	return string(b)
}

// Observe keeps what the network saw for people to read.
func (n *Node) Observe(ev p2p.Event) {
	out := rpc.Event{Kind: ev.Kind, ID: ev.Peer, Reason: string(ev.Evidence)}
	if ev.Detail != "" {
		out.Reason += ": " + ev.Detail
	}
	if ev.Kind == p2p.PeerBanned {
		out.Verdict = "reject"
		n.metrics.banned.WithLabelValues(string(ev.Evidence)).Inc()
	}
	n.events.add(out)
}

// headerFault translates the ledger's sentinels to those the network knows.
func headerFault(err error) error {
	switch {
	case errors.Is(err, ledger.ErrInvalidAncestor), errors.Is(err, ledger.ErrCheckpoint): // nobody's fault
		return p2p.ErrInvalidAncestor
	case errors.Is(err, ledger.ErrLowWork):
		return p2p.ErrLowWork
	}
	return err
}

// isOurs reports an error about a header that is neither the sender's fault nor nobody's: the disk's.
func isOurs(err error) bool {
	var rule *chain.RuleError
	for _, known := range []error{chain.ErrUnknownParent, chain.ErrUpgrade, p2p.ErrTooEarly, p2p.ErrInvalidAncestor, p2p.ErrLowWork, p2p.ErrKnown} {
		if errors.Is(err, known) {
			return false
		}
	}
	return err != nil && !errors.As(err, &rule)
}

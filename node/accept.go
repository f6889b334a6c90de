package node

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"quipu/chain"
	"quipu/chain/ledger"
	"quipu/mempool"
	"quipu/p2p"
	"quipu/rpc"
)

// Nobody's fault: the network ignores what these are said of.
var (
	errLowWork  = errors.New("header with an unknown parent has too little work to be looked into")
	errFarBelow = errors.New("header is far below the tip")
)

// relayDepth is how far below the tip a valid header is still forwarded in gossip.
const relayDepth = 144

// AcceptTxs is the way of every transaction: decode → seen → cheap nonce and balance filter on a snapshot →
// stateless checks (no lock) → pool. One result an input; a RuleError is the sender's fault, all else nobody's. What
// several callers bring at once is checked as one batch.
func (n *Node) AcceptTxs(raws [][]byte) []p2p.TxResult {
	return n.together.run(raws, n.yield.wait, n.acceptTxs)
}

func (n *Node) acceptTxs(raws [][]byte) []p2p.TxResult {
	out := make([]p2p.TxResult, len(raws))
	if n.rebuilding.Load() {
		for i := range out {
			out[i].Err = errRebuilding
		}
		return out
	}
	var open []int                    // inputs still undecided
	first := map[chain.LeafHash]int{} // where each stands first
	var again [][2]int                // inputs that stand twice, with the first of them
	accounts := map[chain.Account]struct{}{}
	txs := make([]chain.Tx, len(raws))
	for i, raw := range raws {
		t, used, err := chain.DecodeTx(raw)
		if err == nil && used != len(raw) {
			err = &chain.RuleError{Kind: chain.ErrTrailing, Desc: fmt.Sprintf("%d bytes after the transaction", len(raw)-used)}
		}
		if err != nil {
			out[i].Err = err
			continue
		}
		leaf := chain.LeafOf(raw)
		if at, ok := first[leaf]; ok {
			again = append(again, [2]int{i, at})
			continue
		}
		first[leaf] = i
		outcome, seen := n.verified.get(leaf)
		out[i].Checked = seen && outcome == nil
		switch {
		case seen && outcome != nil:
			out[i].Err = outcome
		case n.pool.Has(leaf):
			out[i].Err = mempool.ErrKnown
		default:
			txs[i] = t
			open = append(open, i)
			accounts[t.From] = struct{}{}
			for k := 0; k < len(t.Outputs) && n.g.AccountPrice > 0; k++ { // else nobody asks for recipients
				accounts[t.Outputs[k].To] = struct{}{}
			}
		}
	}
	n.decide(out, open, raws, txs, accounts)
	for _, pair := range again {
		r := out[pair[1]]
		if r.Admitted = false; r.Err == nil {
			r.Err = mempool.ErrKnown
		}
		out[pair[0]] = r
	}
	return out
}

// decide answers what is neither malformed nor known.
func (n *Node) decide(out []p2p.TxResult, open []int, raws [][]byte, txs []chain.Tx, accounts map[chain.Account]struct{}) {
	if len(open) == 0 {
		return
	}
	keys := slices.Collect(maps.Keys(accounts))
	tip, accs, err := n.ledger.Accounts(keys)
	if err != nil {
		n.ours(err)
		refuse(out, open, err)
		return
	}
	worth := open[:0]
	var rawsLeft [][]byte
	for _, i := range open {
		if out[i].Err = n.pool.Worth(&txs[i], raws[i], tip.Header.Height, accs); out[i].Err == nil {
			worth, rawsLeft = append(worth, i), append(rawsLeft, raws[i])
		}
	}
	n.admit(out, worth, rawsLeft, snapshot{keys, tip.ID, accs})
}

// snapshot is accounts as they stood on a tip.
type snapshot struct {
	keys []chain.Account
	tip  chain.BlockID
	accs chain.Accounts
}

// admit runs the stateless checks without a lock and then offers what passed to the pool. s is renewed if the tip has
// changed since.
func (n *Node) admit(out []p2p.TxResult, index []int, raws [][]byte, s snapshot) {
	start := time.Now()
	checked, errs := n.checker.Txs(raws)
	each := uint64(time.Since(start).Microseconds()) / uint64(max(1, len(raws)))
	var passed []chain.CheckedTx
	var at []int
	var happened []rpc.Event
	for k, i := range index {
		if errs[k] != nil {
			out[i].Err = errs[k]
			// Only outcomes of bytes that decode are cached: their leaf names exactly this variant.
			n.verified.put(chain.LeafOf(raws[k]), errs[k])
			n.metrics.rejected(errs[k])
			happened = append(happened, rpc.Event{Kind: "tx.rejected", ID: chain.TxIDOf(n.g.NetworkID(), raws[k]).String(), Reason: errs[k].Error()})
			continue
		}
		n.verified.put(checked[k].Leaf(), nil)
		out[i].Checked = true
		passed, at = append(passed, checked[k]), append(at, i)
	}
	if len(passed) > 0 {
		for k, r := range n.offer(out, at, passed, s) {
			if r.Err == nil {
				n.timings.put(passed[k].ID(), each)
				happened = append(happened, rpc.Event{Kind: "tx.verified", ID: passed[k].ID().String(), TookUS: each})
			}
		}
	}
	n.events.add(happened...)
}

// offer gives checked transactions to the pool. It returns nil if it couldn't.
func (n *Node) offer(out []p2p.TxResult, at []int, passed []chain.CheckedTx, s snapshot) []mempool.Result {
	n.mu.Lock()
	tip := n.ledger.Tip()
	var err error
	if n.rebuilding.Load() {
		n.mu.Unlock()
		refuse(out, at, errRebuilding)
		return nil
	}
	if tip.ID != s.tip {
		tip, s.accs, err = n.ledger.Accounts(s.keys)
	}
	if err != nil {
		n.mu.Unlock()
		n.ours(err)
		refuse(out, at, err)
		return nil
	}
	results := n.pool.Add(tip.Header.Height, s.accs, passed)
	n.mu.Unlock()

	var promoted [][]byte
	accepted := 0
	for k, i := range at {
		out[i].Err = results[k].Err
		out[i].Admitted = results[k].Err == nil && results[k].Pending
		if results[k].Err == nil {
			accepted++
		}
		for _, p := range results[k].Promoted {
			promoted = append(promoted, p.Raw())
		}
	}
	n.metrics.accepted.Add(float64(accepted))
	if len(promoted) > 0 {
		n.net.PublishTxs(promoted)
	}
	return results
}

// known reports a transaction whose signature needs no second look: everything in the pool and in recent blocks was
// verified.
func (n *Node) known(leaf chain.LeafHash) bool {
	return n.verified.good(leaf) || n.pool.Has(leaf) || n.inBlocks.good(leaf)
}

func refuse(out []p2p.TxResult, index []int, err error) {
	for _, i := range index {
		out[i].Err = err
	}
}

// AcceptHeader is the way of a block in gossip: its header and, if the block is small, its whole body. nil means
// forward. What the body turns out to be never charges whoever relays a header that keeps all header rules.
func (n *Node) AcceptHeader(h chain.Header, body []byte) error {
	id := h.ID()
	if !chain.MeetsTarget(id, h.Bits) {
		return &chain.RuleError{Kind: chain.ErrWork, Desc: fmt.Sprintf("id %s misses its own target", id)}
	}
	parent, ok, err := n.ledger.Header(h.Parent)
	if err != nil {
		n.ours(err)
		return err
	}
	if !ok {
		if enoughWork(h.Bits, n.ledger.BestHeader().Header.Bits) {
			return chain.ErrUnknownParent
		}
		return errLowWork
	}
	if n.early(&h) {
		n.park(&parent, chain.Block{Header: h, Body: body})
		return p2p.ErrTooEarly
	}
	if _, err := n.AddHeaders([]chain.Header{h}); err != nil {
		return err
	}
	if body != nil && !n.ledger.Info(id).Body {
		if err := chain.CheckBody(&h, body); err != nil {
			return err // this sender put a wrong body beside the header
		}
		if err := n.Import([]chain.Block{{Header: h, Body: body}}); err != nil {
			return err
		}
	}
	if h.Height+relayDepth < n.ledger.Tip().Header.Height {
		return errFarBelow
	}
	return nil
}

// enoughWork reports whether bits is at least a sixteenth as hard as ours.
func enoughWork(bits, ours uint32) bool {
	w, o := chain.BlockWork(bits), chain.BlockWork(ours)
	return !w.Lt(o.Rsh(&o, 4))
}

// AddHeaders checks and stores headers in order and returns how many leading ones are stored. Errors are as the
// ledger's; a fault of ours stops the node.
func (n *Node) AddHeaders(hs []chain.Header) (int, error) { return n.addDue(hs, n.ledger.AddHeaders) }

// AddHeadersProven is AddHeaders for a branch whose end has been shown to have enough work to be kept.
func (n *Node) AddHeadersProven(hs []chain.Header) (int, error) {
	return n.addDue(hs, n.ledger.AddHeadersProven)
}

// addDue adds the leading headers that are not too far ahead of the clock.
func (n *Node) addDue(hs []chain.Header, add func([]chain.Header) (int, error)) (int, error) {
	for i := range hs {
		if n.early(&hs[i]) {
			k, err := n.addHeaders(hs[:i], add)
			if err == nil {
				err = p2p.ErrTooEarly
			}
			return k, err
		}
	}
	return n.addHeaders(hs, add)
}

func (n *Node) addHeaders(hs []chain.Header, add func([]chain.Header) (int, error)) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	k, err := add(hs)
	if errors.Is(err, ledger.ErrCheckpoint) {
		n.offCheckpoint(&hs[k], err)
	}
	if err = headerFault(err); isOurs(err) {
		n.ours(err)
	}
	return k, err
}

// offCheckpoint raises the alarm about a chain that isn't followed because of a checkpoint: once for each of its blocks
// in a row. n.mu is held.
func (n *Node) offCheckpoint(h *chain.Header, err error) {
	n.metrics.offCheckpoint.Inc()
	id := h.ID()
	if id == n.offered {
		return
	}
	n.offered = id
	n.log.Warn("a peer offers a chain beside the checkpoint", "height", h.Height, "block", id, "err", err)
	n.events.add(rpc.Event{Kind: "node.alarm", ID: id.String(), Height: h.Height, Reason: err.Error()})
}

// early reports whether a header's time is too far ahead of the own clock.
func (n *Node) early(h *chain.Header) bool {
	return h.Time < chain.TimeLimit && time.UnixMilli(int64(h.Time)).After(time.Now().Add(tooFar(n.g)))
}

const (
	maxParked = 256       // headers that wait for the clock; each took a block's work near the tip to make
	maxWait   = time.Hour // a header due later than this is forgotten: it comes again when it is due
)

// park keeps a block until it is due, if it is near the tip, not too far ahead and otherwise in order.
func (n *Node) park(parent *chain.State, b chain.Block) {
	due := time.UnixMilli(int64(b.Header.Time))
	if b.Header.Bits != n.g.NextBits(parent) || due.After(time.Now().Add(maxWait)) ||
		parent.Header.Height+relayDepth < n.ledger.Tip().Header.Height ||
		b.Body != nil && chain.CheckBody(&b.Header, b.Body) != nil {
		return
	}
	if !n.parked.add(b.Header.ID(), b) {
		n.metrics.parkedDropped.Inc()
	}
}

// parked holds blocks whose time is too far ahead, until they are due.
type parked struct {
	mu   sync.Mutex
	byID map[chain.BlockID]chain.Block
}

// add is false if there is no room.
func (p *parked) add(id chain.BlockID, b chain.Block) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byID == nil {
		p.byID = map[chain.BlockID]chain.Block{}
	}
	_, known := p.byID[id]
	if !known && len(p.byID) < maxParked {
		p.byID[id] = b
		known = true
	}
	return known
}

func (p *parked) due(early func(*chain.Header) bool) []chain.Block {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []chain.Block
	for id, b := range p.byID {
		if !early(&b.Header) {
			out = append(out, b)
			delete(p.byID, id)
		}
	}
	return out
}

// unpark validates parked headers that became due once more and publishes them itself: gossip has marked them
// seen and won't bring them again.
func (n *Node) unpark() {
	for _, b := range n.parked.due(n.early) {
		if n.AcceptHeader(b.Header, b.Body) == nil {
			n.net.PublishBlock(b.Header, b.Body)
		}
	}
}

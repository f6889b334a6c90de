package badpeer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/p2p"
	"quipu/p2p/wire"
)

// honest is the least node that judges for itself: a fixed valid chain, and every header and body it is told.
type honest struct {
	g        *chain.Genesis
	accounts chain.Accounts
	blocks   []*chaintest.Block // genesis first

	mu     sync.Mutex
	states map[chain.BlockID]chain.State
	best   chain.State
	bad    map[chain.BlockID]error
	forged []error // verdicts on transactions
}

func newHonest(g *chain.Genesis, accounts chain.Accounts, blocks []*chaintest.Block) *honest {
	n := &honest{g: g, accounts: accounts, blocks: blocks, states: map[chain.BlockID]chain.State{}, bad: map[chain.BlockID]error{}}
	for _, b := range n.blocks {
		n.states[b.ID()] = b.State
	}
	n.best = n.Tip()
	return n
}

func (n *honest) Genesis() *chain.Genesis { return n.g }
func (n *honest) Tip() chain.State        { return n.blocks[len(n.blocks)-1].State }
func (n *honest) BestHeader() chain.State {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.best
}

func (n *honest) AcceptTxs(raws [][]byte) []p2p.TxResult {
	_, errs := n.g.CheckTxs(raws, nil)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.forged = append(n.forged, errs...)
	out := make([]p2p.TxResult, len(raws))
	for i, err := range errs {
		out[i] = p2p.TxResult{Err: err, Admitted: err == nil, Checked: err == nil}
	}
	return out
}

func (n *honest) AcceptHeader(h chain.Header, body []byte) error {
	if _, err := n.AddHeaders([]chain.Header{h}); err != nil || body == nil {
		return err
	}
	if err := chain.CheckBody(&h, body); err != nil {
		return err
	}
	return n.AddBodies([]chain.Block{{Header: h, Body: body}})
}

func (n *honest) AddHeadersProven(hs []chain.Header) (int, error) { return n.AddHeaders(hs) }

func (n *honest) AddHeaders(hs []chain.Header) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range hs {
		if _, ok := n.states[hs[i].ID()]; ok {
			continue
		}
		parent, ok := n.states[hs[i].Parent]
		if !ok {
			return i, chain.ErrUnknownParent
		}
		next, err := n.g.CheckHeader(&parent, &hs[i])
		if err != nil {
			return i, err
		}
		n.states[next.ID] = next
		if next.Work.Gt(&n.best.Work) {
			n.best = next
		}
	}
	return len(hs), nil
}

func (n *honest) AddBodies(blocks []chain.Block) error {
	for i := range blocks {
		checked, errs := n.g.CheckBlocks(blocks[i:i+1], nil)
		err := errs[0]
		if err == nil {
			_, err = n.g.Apply(&checked[0], n.accounts)
		}
		n.mu.Lock()
		if id := blocks[i].Header.ID(); err != nil {
			n.bad[id] = err
			n.best = n.Tip()
		}
		n.mu.Unlock()
	}
	return nil
}

func (n *honest) Locator() []chain.BlockID {
	var ids []chain.BlockID
	for _, b := range slices.Backward(n.blocks) {
		ids = append(ids, b.ID())
	}
	return ids
}

func (n *honest) HeadersAfter(locator []chain.BlockID, max int) (out []chain.Header) {
	for _, id := range locator {
		if at := slices.IndexFunc(n.blocks, func(b *chaintest.Block) bool { return b.ID() == id }); at >= 0 {
			return headersOf(n.blocks[at+1:]...)
		}
	}
	return nil
}

func (n *honest) HeadersTo(id chain.BlockID, from uint64, max int) []chain.Header { return nil }
func (n *honest) WorkFloor() (floor chain.Work)                                   { return floor }

func (n *honest) Header(id chain.BlockID) (chain.State, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s, ok := n.states[id]
	return s, ok
}

func (n *honest) Body(id chain.BlockID) ([]byte, bool) {
	for _, b := range n.blocks {
		if b.ID() == id {
			return b.Body, true
		}
	}
	return nil, false
}

func (n *honest) Invalid(id chain.BlockID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.bad[id] != nil
}

func (n *honest) Wanted(int) []p2p.Want {
	best := n.BestHeader()
	if best.ID == n.Tip().ID {
		return nil
	}
	return []p2p.Want{{ID: best.ID, Header: best.Header}}
}

func (n *honest) Held() []wire.Range                                { return []wire.Range{{From: 1, To: n.Tip().Header.Height}} }
func (n *honest) PoolLeaves(int) []chain.LeafHash                   { return nil }
func (n *honest) PoolPart(wire.Prefix, bool) []chain.LeafHash       { return nil }
func (n *honest) PoolTxs([]chain.LeafHash) [][]byte                 { return nil }
func (n *honest) HasTx(chain.LeafHash) bool                         { return false }
func (n *honest) Verified() bool                                    { return true }
func (n *honest) Snapshots() []wire.Snapshot                        { return nil }
func (n *honest) StateRange(*wire.StateRequest, int) ([]byte, bool) { return nil, false }
func (n *honest) TxStatus(ids []chain.TxID) []wire.TxStatus         { return make([]wire.TxStatus, len(ids)) }
func (n *honest) AccountProof(chain.BlockID, chain.Account) (p chain.AccountProof, code wire.ProofCode) {
	return p, wire.ProofMissing
}
func (n *honest) TxProof(chain.BlockID, chain.TxID) (p chain.TxProof, code wire.ProofCode) {
	return p, wire.ProofMissing
}
func (n *honest) Observe(p2p.Event) {}

func (n *honest) HasBody(id chain.BlockID) bool { _, ok := n.Body(id); return ok }
func (n *honest) FindShort(_ wire.ShortKey, ids []uint64) []p2p.Found {
	return make([]p2p.Found, len(ids))
}

// TestHonestNodesBan: over real sockets, every honest node judges the liar for itself and bans it for what it did, and
// the honest nodes keep each other. The liar is told of all of them and ends up alone.
func TestHonestNodesBan(t *testing.T) {
	alice, bob := chaintest.NewKey("alice"), chaintest.NewKey("bob")
	gen := chaintest.New(chaintest.Genesis(nil, alice, bob))
	blocks := []*chaintest.Block{
		gen.Get("genesis"), gen.Next("a1", []chain.Tx{alice.Pay(gen.G, 0, 0, chaintest.To(bob, 1))}),
		gen.Next("a2", nil), gen.Next("a3", nil),
	}
	accounts := gen.Accounts()
	for kind, want := range map[string]p2p.Evidence{BadSignature: p2p.TxSignature, BadBlock: p2p.InvalidTip} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var nodes []*honest
			var services []*p2p.Service
			var addrs []string
			var wg sync.WaitGroup
			for range 3 {
				ident, err := p2p.NewIdentity()
				if err != nil {
					t.Fatal(err)
				}
				cfg := p2p.Config{Identity: ident, Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Bootstrap: slices.Clone(addrs), TestNet: true}
				h, err := p2p.NewHost(cfg)
				if err != nil {
					t.Fatal(err)
				}
				defer h.Close()
				n := newHonest(gen.G, accounts, blocks)
				s, err := p2p.New(cfg, h, n)
				if err != nil {
					t.Fatal(err)
				}
				nodes, services, addrs = append(nodes, n), append(services, s), append(addrs, s.Addrs()...)
				wg.Go(func() { s.Run(ctx) })
			}
			defer wg.Wait()
			defer cancel()

			ident, err := p2p.NewIdentity()
			if err != nil {
				t.Fatal(err)
			}
			result := make(chan error, 1)
			wg.Go(func() { result <- Run(ctx, Config{Kind: kind, Genesis: gen.G, Identity: ident, Bootstrap: addrs}) })

			for i, s := range services {
				waitFor(t, fmt.Sprintf("node %d bans the liar", i), func() bool { return len(s.Bans()) > 0 })
				bans := s.Bans()
				if len(bans) != 1 || bans[0].ID != ident.ID() || bans[0].Evidence != want {
					t.Errorf("node %d has banned %+v, want %s for %s", i, bans, ident.ID(), want)
				}
				if nodes[i].Tip().ID != blocks[3].ID() {
					t.Errorf("node %d has left its tip", i)
				}
				if kind == BadSignature {
					nodes[i].mu.Lock()
					for _, err := range nodes[i].forged {
						if !errors.Is(err, chain.ErrSignature) {
							t.Errorf("node %d says of a forged transaction: %v", i, err)
						}
					}
					nodes[i].mu.Unlock()
				}
			}
			if err := <-result; err != ErrShunned {
				t.Errorf("the liar ends with %v, want %v", err, ErrShunned)
			}
			for i, s := range services {
				waitFor(t, fmt.Sprintf("node %d keeps its honest peers", i), func() bool { return len(s.Peers()) == 2 })
			}
		})
	}
}

func waitFor(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !f(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("waited in vain: %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

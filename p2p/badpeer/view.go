package badpeer

import (
	"context"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"

	"quipu/chain"
	"quipu/p2p/wire"
)

const maxView = 1 << 16 // headers followed; a test network is younger

// view is the honest chain as the nodes tell it, headers only, and the bad block on top of it.
type view struct {
	g  *chain.Genesis
	mu sync.Mutex

	states []chain.State // by height
	height map[chain.BlockID]uint64
	bad    *badBlock
	mined  map[chain.BlockID]struct{} // every bad block so far: never followed when honest nodes tell it back

	counted uint64                   // height up to which nonces counts
	nonces  map[chain.Account]uint64 // transactions by sender
}

type badBlock struct {
	state  chain.State
	parent chain.BlockID
	body   []byte
}

func newView(g *chain.Genesis) *view {
	s := g.State()
	return &view{
		g: g, states: []chain.State{s}, height: map[chain.BlockID]uint64{s.ID: 0}, mined: map[chain.BlockID]struct{}{},
		nonces: map[chain.Account]uint64{},
	}
}

func (v *view) tip() chain.State {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.states[len(v.states)-1]
}

// claim is the bad block if there is one, else the tip.
func (v *view) claim() chain.State {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.bad != nil {
		return v.bad.state
	}
	return v.states[len(v.states)-1]
}

func (v *view) badBody(id chain.BlockID) ([]byte, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.bad == nil || v.bad.state.ID != id {
		return nil, false
	}
	return v.bad.body, true
}

func (v *view) setBad(b *badBlock) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.bad = b
	v.mined[b.state.ID] = struct{}{}
}

// locator is the tip and ever sparser ancestors, block 0 last.
func (v *view) locator() []chain.BlockID {
	v.mu.Lock()
	defer v.mu.Unlock()
	var ids []chain.BlockID
	for h, step := len(v.states)-1, 1; h > 0 && len(ids) < wire.MaxLocator-1; h -= step {
		ids = append(ids, v.states[h].ID)
		if len(ids) > 8 {
			step *= 2
		}
	}
	return append(ids, v.states[0].ID)
}

// add follows headers that an honest node has told, if they end in more work than the tip. It reports whether more may
// follow.
func (v *view) add(hs []chain.Header) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	var fork []chain.State
	for i := range hs {
		id := hs[i].ID()
		if _, ok := v.mined[id]; ok {
			break
		}
		if _, ok := v.height[id]; ok && len(fork) == 0 {
			continue // ours already
		}
		parent := v.parentOf(fork, hs[i].Parent)
		if parent == nil || parent.Header.Height+1 >= maxView {
			break
		}
		next, err := v.g.CheckHeader(parent, &hs[i])
		if err != nil {
			break
		}
		fork = append(fork, next)
	}
	if len(fork) == 0 || !fork[len(fork)-1].Work.Gt(&v.states[len(v.states)-1].Work) {
		return false
	}
	base := fork[0].Header.Height
	for _, s := range v.states[base:] {
		delete(v.height, s.ID)
	}
	if base <= v.counted { // a reorg: count again
		v.counted, v.nonces = 0, map[chain.Account]uint64{}
	}
	v.states = append(v.states[:base], fork...)
	for _, s := range fork {
		v.height[s.ID] = s.Header.Height
	}
	if v.bad != nil {
		if _, ok := v.height[v.bad.parent]; !ok {
			v.bad = nil // it links to nothing any more
		}
	}
	return true
}

func (v *view) parentOf(fork []chain.State, id chain.BlockID) *chain.State {
	if len(fork) > 0 {
		if last := &fork[len(fork)-1]; last.ID == id {
			return last
		}
		return nil
	}
	if h, ok := v.height[id]; ok {
		return &v.states[h]
	}
	return nil
}

// after answers a headers request along the chain that this peer claims: the bad block's, if there is one.
func (v *view) after(q *wire.HeadersRequest) []chain.Header {
	if len(q.Locator) == 0 {
		return nil // a range: honest nodes have those
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	end := uint64(len(v.states))
	if v.bad != nil {
		end = v.bad.state.Header.Height
	}
	from := uint64(1)
	for _, id := range q.Locator {
		if v.bad != nil && id == v.bad.state.ID {
			return nil
		}
		if h, ok := v.height[id]; ok && h < end {
			from = h + 1
			break
		}
	}
	var out []chain.Header
	for ; from < end && len(out) < int(q.Max); from++ {
		out = append(out, v.states[from].Header)
	}
	if v.bad != nil && len(out) < int(q.Max) {
		out = append(out, v.bad.state.Header)
	}
	return out
}

// uncounted lists up to a request's worth of blocks with transactions that nonces doesn't count yet, and the height
// that it counts up to once they are.
func (v *view) uncounted() (want []chain.State, upTo uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	upTo = v.counted
	for _, s := range v.states[v.counted+1:] {
		if s.Header.BodySize > 0 {
			if len(want) == wire.MaxBodies {
				break
			}
			want = append(want, s)
		}
		upTo = s.Header.Height
	}
	return want, upTo
}

// learn follows the chain that p claims, as far as its headers bear it out.
func (l *liar) learn(ctx context.Context, p peer.ID, s *wire.Status) {
	for range 1 + maxView/wire.MaxHeaders {
		tip := l.view.tip()
		if !s.TipWork.Gt(&tip.Work) {
			break
		}
		q := wire.HeadersRequest{Locator: l.view.locator(), Max: wire.MaxHeaders}
		b, err := l.ask(ctx, p, wire.NameHeaders, q.Append(nil), wire.MaxHeadersAnswer)
		if err != nil {
			return
		}
		hs, err := wire.DecodeHeaders(b, wire.MaxHeaders)
		if err != nil || !l.view.add(hs) {
			return
		}
	}
	if l.cfg.Kind == BadSignature {
		l.countNonces(ctx, p)
	}
}

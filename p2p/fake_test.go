package p2p

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"github.com/holiman/uint256"

	"quipu/chain"
	"quipu/chain/statetree"
	"quipu/p2p/wire"
)

// fake is a Backend over values in memory: headers checked by chain, bodies by CheckBody, and the tip moved to the
// heaviest branch whose bodies are all there. It checks no state: poison says which blocks turn out invalid.
type fake struct {
	g   *chain.Genesis
	log logged

	mu       sync.Mutex
	svc      *Service
	states   map[chain.BlockID]chain.State
	bodies   map[chain.BlockID][]byte
	complete map[chain.BlockID]bool
	poison   map[chain.BlockID]bool
	bad      map[chain.BlockID]bool
	best     chain.State
	tip      chain.State
	pool     map[chain.LeafHash][]byte
	admit    func(raw []byte) TxResult // nil: CheckTxs decides
	collide  func([]Found)             // edits what the pool finds by short id
	events   []Event
	gossiped int    // headers that came through AcceptHeader
	imported int    // bodies that came through AddBodies
	listed   int    // calls of Wanted
	read     int    // calls of Body
	floored  bool   // AddHeaders has a floor of work
	bare     bool   // no body is wanted
	early    uint64 // headers of this height or above are too early; 0: none
	lies     func(id chain.BlockID, body []byte) []byte
	snaps    map[uint64]*fakeState // snapshots served, by height
}

// logged keeps what the service logs, from warnings up.
type logged struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newFake(g *chain.Genesis) *fake {
	s := g.State()
	return &fake{
		g: g, states: map[chain.BlockID]chain.State{s.ID: s}, bodies: map[chain.BlockID][]byte{s.ID: nil},
		complete: map[chain.BlockID]bool{s.ID: true}, poison: map[chain.BlockID]bool{}, bad: map[chain.BlockID]bool{},
		best: s, tip: s, pool: map[chain.LeafHash][]byte{},
	}
}

func (f *fake) Genesis() *chain.Genesis { return f.g }

func (f *fake) Verified() bool { return true }

func (f *fake) Tip() chain.State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tip
}

func (f *fake) BestHeader() chain.State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.best
}

func (f *fake) AcceptTxs(raws [][]byte) []TxResult {
	f.mu.Lock()
	admit := f.admit
	f.mu.Unlock()
	out := make([]TxResult, len(raws))
	var errs []error
	if admit == nil {
		_, errs = f.g.CheckTxs(raws, nil)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, raw := range raws {
		leaf := chain.LeafOf(raw)
		switch {
		case admit != nil:
			out[i] = admit(raw)
		case errs[i] != nil:
			out[i].Err = errs[i]
		case f.pool[leaf] != nil:
			out[i] = TxResult{Err: ErrKnown, Checked: true}
		default:
			out[i] = TxResult{Admitted: true, Checked: true}
		}
		if out[i].Admitted {
			f.pool[leaf] = raw
		}
	}
	return out
}

func (f *fake) AcceptHeader(h chain.Header, body []byte) error {
	f.mu.Lock()
	f.gossiped++
	f.mu.Unlock()
	id := h.ID()
	if _, ok := f.Header(id); ok {
		return ErrKnown
	}
	if _, err := f.AddHeaders([]chain.Header{h}); err != nil {
		return err
	}
	if body != nil {
		if err := chain.CheckBody(&h, body); err != nil {
			return err
		}
		return f.add([]chain.Block{{Header: h, Body: body}})
	}
	return nil
}

func (f *fake) addHeaders(hs []chain.Header, floored bool) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range hs {
		if _, ok := f.states[hs[i].ID()]; ok {
			continue
		}
		if f.early > 0 && hs[i].Height >= f.early {
			return i, ErrTooEarly
		}
		parent, ok := f.states[hs[i].Parent]
		if !ok {
			return i, chain.ErrUnknownParent
		}
		if f.invalid(parent.ID) {
			return i, ErrInvalidAncestor
		}
		s, err := f.g.CheckHeader(&parent, &hs[i])
		if err != nil {
			return i, err
		}
		if floor := f.floor(); floored && !s.Work.Gt(&floor) {
			return i, ErrLowWork
		}
		f.states[s.ID] = s
		if s.Work.Gt(&f.best.Work) {
			f.best = s
		}
	}
	return len(hs), nil
}

func (f *fake) AddHeaders(hs []chain.Header) (int, error) { return f.addHeaders(hs, f.floored) }

func (f *fake) AddHeadersProven(hs []chain.Header) (int, error) { return f.addHeaders(hs, false) }

func (f *fake) AddBodies(blocks []chain.Block) error {
	f.mu.Lock()
	f.imported += len(blocks)
	f.mu.Unlock()
	return f.add(blocks)
}

func (f *fake) add(blocks []chain.Block) error {
	f.mu.Lock()
	for _, b := range blocks {
		if err := chain.CheckBody(&b.Header, b.Body); err != nil {
			panic(err) // the seam says that it was checked
		}
		id := b.Header.ID()
		f.bodies[id] = b.Body
		if f.poison[id] {
			f.bad[id] = true
		}
	}
	before := f.tip.ID
	f.move()
	svc, moved := f.svc, f.tip.ID != before
	f.mu.Unlock()
	if moved && svc != nil {
		svc.Announce()
	}
	return nil
}

// move makes the tip the heaviest complete valid branch, and best the heaviest not known invalid.
func (f *fake) move() {
	all := make([]chain.State, 0, len(f.states))
	for _, s := range f.states {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b chain.State) int { return int(a.Header.Height) - int(b.Header.Height) })
	if f.invalid(f.best.ID) {
		f.best = f.g.State()
	}
	for _, s := range all {
		if f.invalid(s.ID) {
			continue
		}
		if s.Work.Gt(&f.best.Work) {
			f.best = s
		}
		_, has := f.bodies[s.ID]
		f.complete[s.ID] = has && (s.Header.Height == 0 || f.complete[s.Header.Parent])
		if f.complete[s.ID] && s.Work.Gt(&f.tip.Work) {
			f.tip = s
		}
	}
}

func (f *fake) invalid(id chain.BlockID) bool {
	for len(f.bad) > 0 {
		if f.bad[id] {
			return true
		}
		s, ok := f.states[id]
		if !ok || s.Header.Height == 0 {
			return false
		}
		id = s.Header.Parent
	}
	return false
}

// path is the chain of id from height 1 on.
func (f *fake) path(id chain.BlockID) []chain.State {
	out := make([]chain.State, f.states[id].Header.Height)
	for s := f.states[id]; s.Header.Height > 0; s = f.states[s.Header.Parent] {
		out[s.Header.Height-1] = s
	}
	return out
}

func (f *fake) Locator() (out []chain.BlockID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	path := f.path(f.best.ID)
	for i, step := len(path)-1, 1; i >= 0; i -= step {
		if out = append(out, path[i].ID); len(out) >= 8 {
			step *= 2
		}
	}
	return append(out, f.g.State().ID)
}

func (f *fake) HeadersAfter(locator []chain.BlockID, max int) (out []chain.Header) {
	f.mu.Lock()
	defer f.mu.Unlock()
	path := f.path(f.best.ID)
	from := 0
	for _, id := range locator {
		if s, ok := f.states[id]; ok && (s.Header.Height == 0 || int(s.Header.Height) <= len(path) && path[s.Header.Height-1].ID == id) {
			from = int(s.Header.Height)
			break
		}
	}
	for i := from; i < len(path) && len(out) < max; i++ {
		out = append(out, path[i].Header)
	}
	return out
}

func (f *fake) HeadersTo(id chain.BlockID, from uint64, max int) (out []chain.Header) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.states[id]; !ok {
		return nil
	}
	path := f.path(id)
	for i := int(from) - 1; i < len(path) && len(out) < max; i++ {
		out = append(out, path[i].Header)
	}
	return out
}

// floor is a work that headers must exceed: that of the tip but for 144 blocks like it.
func (f *fake) floor() (floor chain.Work) {
	below := chain.BlockWork(f.tip.Header.Bits)
	below.Mul(&below, uint256.NewInt(144))
	if f.floored && below.Lt(&f.tip.Work) {
		floor.Sub(&f.tip.Work, &below)
	}
	return floor
}

func (f *fake) WorkFloor() chain.Work {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.floor()
}

func (f *fake) Header(id chain.BlockID) (chain.State, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.states[id]
	return s, ok
}

func (f *fake) Body(id chain.BlockID) ([]byte, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.read++
	b, ok := f.bodies[id]
	if ok && f.lies != nil {
		b = f.lies(id, b)
	}
	return b, ok
}

func (f *fake) HasBody(id chain.BlockID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.bodies[id]
	return ok
}

// FindShort looks through the pool alone.
func (f *fake) FindShort(key wire.ShortKey, ids []uint64) []Found {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, out := map[uint64]int{}, make([]Found, len(ids))
	for i, id := range ids {
		at[id] = i
	}
	for leaf, raw := range f.pool {
		if i, ok := at[key.ID(&leaf)]; ok {
			out[i] = Found{leaf, raw}
		}
	}
	if f.collide != nil {
		f.collide(out)
	}
	return out
}

func (f *fake) Invalid(id chain.BlockID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.invalid(id)
}

func (f *fake) Wanted(maxBytes int) (out []Want) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listed++
	if f.bare {
		return nil
	}
	heads := make([]chain.State, 0, len(f.states))
	for _, s := range f.states {
		if s.Work.Gt(&f.tip.Work) && !f.invalid(s.ID) {
			heads = append(heads, s)
		}
	}
	slices.SortFunc(heads, func(a, b chain.State) int { return b.Work.Cmp(&a.Work) })
	seen := map[chain.BlockID]bool{}
	for _, head := range heads {
		for _, s := range f.path(head.ID) {
			if _, ok := f.bodies[s.ID]; ok || seen[s.ID] {
				continue
			}
			seen[s.ID] = true
			if maxBytes -= int(s.Header.BodySize) + bodyCost; maxBytes < 0 {
				return out
			}
			out = append(out, Want{ID: s.ID, Header: s.Header})
		}
	}
	return out
}

func (f *fake) Held() (out []wire.Range) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.path(f.best.ID) {
		if _, ok := f.bodies[s.ID]; !ok {
			continue
		}
		h := s.Header.Height
		if n := len(out); n > 0 && out[n-1].To == h-1 {
			out[n-1].To = h
		} else {
			out = append(out, wire.Range{From: h, To: h})
		}
	}
	return out[:min(len(out), wire.MaxRanges)]
}

func (f *fake) PoolLeaves(max int) (out []chain.LeafHash) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for l := range f.pool {
		if len(out) < max {
			out = append(out, l)
		}
	}
	return out
}

func (f *fake) PoolPart(part wire.Prefix, _ bool) (out []chain.LeafHash) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for l, raw := range f.pool {
		if from := chain.Account(raw[1:33]); part.Has(&from) {
			out = append(out, l)
		}
	}
	return out
}

func (f *fake) PoolTxs(leaves []chain.LeafHash) (out [][]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range leaves {
		if raw, ok := f.pool[l]; ok {
			out = append(out, raw)
		}
	}
	return out
}

func (f *fake) HasTx(leaf chain.LeafHash) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pool[leaf] != nil
}

func (f *fake) TxStatus(ids []chain.TxID) []wire.TxStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]wire.TxStatus, len(ids))
	for i, id := range ids {
		for _, raw := range f.pool {
			if chain.TxIDOf(f.g.NetworkID(), raw) == id {
				out[i].State = wire.TxVerified
			}
		}
	}
	return out
}

// AccountProof: a fake has no accounts.
func (f *fake) AccountProof(chain.BlockID, chain.Account) (p chain.AccountProof, code wire.ProofCode) {
	return p, wire.ProofElsewhere
}

func (f *fake) TxProof(anchor chain.BlockID, id chain.TxID) (p chain.TxProof, code wire.ProofCode) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.states[anchor].Header.Height == 0 {
		return p, wire.ProofElsewhere
	}
	path := f.path(anchor)
	for _, s := range path {
		raws, _ := chain.SplitBody(f.bodies[s.ID])
		leaves := make([]chain.LeafHash, len(raws))
		for i, raw := range raws {
			leaves[i] = chain.LeafOf(raw)
		}
		for i, raw := range raws {
			if chain.TxIDOf(f.g.NetworkID(), raw) != id {
				continue
			}
			p = chain.TxProof{Block: chain.BlockProof{Header: s.Header}, Raw: raw, Index: uint32(i), Path: chain.TxPath(leaves, i)}
			if s.ID != anchor {
				p.Block.Work = s.Work
				p.Block.Path, _ = chain.HistoryPath(s.Header.Height, uint64(len(path)), func(h uint64) (chain.State, error) {
					if h == 0 {
						return f.g.State(), nil
					}
					return path[h-1], nil
				})
			}
			return p, wire.ProofFollows
		}
	}
	return p, wire.ProofMissing
}

func (f *fake) Observe(e Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, e)
}

// counts are how many headers came by gossip and how many bodies by pull.
func (f *fake) counts() (gossiped, imported int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gossiped, f.imported
}

func (f *fake) poolSize() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.pool)
}

// load gives the node headers and bodies as if it had verified them before.
func (f *fake) load(blocks []chain.Block) {
	if _, err := f.AddHeaders(headersOf(blocks)); err != nil {
		panic(err)
	}
	f.add(blocks)
}

// fakeState is a snapshot that a fake serves.
type fakeState struct {
	wire.Snapshot
	tree *statetree.Tree
	lie  func(q *wire.StateRequest, answer []byte) []byte // nil: it is honest
	asks int
}

func (f *fake) Snapshots() (out []wire.Snapshot) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.snaps {
		out = append(out, s.Snapshot)
	}
	slices.SortFunc(out, func(a, b wire.Snapshot) int { return cmp.Compare(a.Height, b.Height) })
	return out
}

func (f *fake) StateRange(q *wire.StateRequest, maxLeaves int) ([]byte, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.snaps[q.Height]
	if s == nil || s.Block != q.Block {
		return nil, false
	}
	s.asks++
	leaves, p := s.tree.Range(q.From, q.To, maxLeaves)
	b := statetree.AppendRange(nil, leaves, p)
	if s.lie != nil {
		b = s.lie(q, b)
	}
	return b, true
}

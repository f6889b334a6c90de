package p2p

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"

	"quipu/chain"
	"quipu/p2p/wire"
)

// Bounds of fetching a state.
const (
	statePart   = 12_000 // accounts in a part, about: more fit an answer, so few are cut
	stateParts  = 4096   // parts at first: what peers say of the number of accounts is a claim
	stateWindow = 32     // parts asked for or waiting for the one before, 1 MiB each at most
	stateJobs   = 2      // of one peer at once
	stateMaking = 2      // answers being made at once, for all peers: 20 ms of a core each
	stateList   = 16     // peers asked for lists
)

var (
	// ErrNoState: no peer gave a range for so long that there is none who has them.
	ErrNoState    = errors.New("no peer serves this state")
	errWrongState = errors.New("a range that isn't the state's")
)

// StateGoal is the state of one block. Accounts is how many there are about: parts are cut by it.
type StateGoal struct {
	Height   uint64
	Block    chain.BlockID
	Root     chain.Hash
	Accounts uint64
}

func (s *Service) serveState(ctx context.Context, r *remote, st network.Stream) error {
	b, err := s.request(r, st, wire.MaxStateRequest)
	if err != nil {
		return err
	}
	q, err := wire.DecodeStateRequest(b)
	if err != nil {
		return err
	}
	if q.List {
		return s.answer(ctx, r, st, wire.MaxStateList, func() []byte { return wire.AppendSnapshots(nil, s.b.Snapshots()) })
	}
	return s.answer(ctx, r, st, int(q.Max), func() []byte {
		s.making <- struct{}{}
		defer func() { <-s.making }()
		encoded, ok := s.b.StateRange(&q, q.Leaves())
		if !ok {
			return wire.StateMissing()
		}
		s.stats.add("state_bytes_served", uint64(len(encoded)))
		return wire.AppendStateRange(nil, encoded)
	})
}

// AskSnapshots asks up to 16 neighbours which snapshots they serve, and waits for their answers no longer than for a body.
func (s *Service) AskSnapshots(ctx context.Context) (lists [][]wire.Snapshot) {
	ctx, cancel := context.WithTimeout(ctx, s.t.stall)
	defer cancel()
	q := wire.StateRequest{List: true}
	all := s.everyone()
	all = all[:min(len(all), stateList)]
	answers := make(chan []wire.Snapshot, len(all))
	asked := 0
	for _, r := range all {
		if s.spawn(func() {
			var list []wire.Snapshot
			err := s.ask(ctx, r.id, wire.NameState, q.Append(nil), wire.MaxStateList, func(b []byte) (err error) {
				list, err = wire.DecodeSnapshots(b)
				return err
			})
			if err != nil && evidenceOf(aboutFrame, err) == Malformed {
				s.charge(r.id, Malformed, err)
			}
			answers <- list
		}) {
			asked++
		}
	}
	for range asked {
		lists = append(lists, <-answers)
	}
	return lists
}

// FetchState fetches all accounts of a state from all peers that have it, in parts, each held against the root as it
// comes, and gives them to use in ascending order of path. A false part costs its sender only: it is asked for elsewhere.
// It ends with use's error, with ctx's, or with ErrNoState.
func (s *Service) FetchState(ctx context.Context, goal StateGoal, use func([]wire.Leaf) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f := stateFetch{s: s, goal: goal, results: make(chan stateResult), parts: cutState(goal.Accounts),
		jobs: map[peer.ID]int{}, size: map[peer.ID]uint32{}, not: map[peer.ID]time.Time{}, moved: time.Now()}
	tick := time.NewTicker(refusedMin)
	defer tick.Stop()
	for {
		for len(f.parts) > 0 && f.parts[0].got {
			if err := use(f.parts[0].leaves); err != nil {
				return err
			}
			f.parts, f.moved = f.parts[1:], time.Now()
		}
		if len(f.parts) == 0 {
			return nil
		}
		if time.Since(f.moved) > 3*s.t.request {
			return ErrNoState
		}
		f.assign(ctx)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case res := <-f.results:
			f.take(res)
		case <-tick.C:
		}
	}
}

// stateFetch is the state of FetchState; only its goroutine touches it.
type stateFetch struct {
	s       *Service
	goal    StateGoal
	parts   []*part // what isn't given yet, ascending
	results chan stateResult
	jobs    map[peer.ID]int
	size    map[peer.ID]uint32    // bytes to ask for at once; 0 is the most
	not     map[peer.ID]time.Time // peers that don't have it, or don't speak of it, until when they aren't asked again
	moved   time.Time             // when a part last came
}

// part is a run of paths, both ends included.
type part struct {
	from, to chain.Hash
	asked    []peer.ID // who is asked for it now
	since    time.Time // when the last of them was
	got      bool
	leaves   []wire.Leaf
}

// cutState makes parts of about statePart accounts.
func cutState(accounts uint64) []*part {
	n := min(max(accounts/statePart, 1), stateParts)
	parts := make([]*part, n)
	for i := range parts {
		p := &part{to: wire.LastPath}
		binary.BigEndian.PutUint32(p.from[:], uint32(uint64(i)<<32/n))
		if i+1 < len(parts) {
			binary.BigEndian.PutUint32(p.to[:], uint32(uint64(i+1)<<32/n)-1)
		}
		parts[i] = p
	}
	return parts
}

type stateResult struct {
	r       *remote
	p       *part
	size    uint32
	got     *wire.StateRange // nil: not here, or an error
	covered chain.Hash
	err     error
}

// assign gives every peer with a free slot the next part, or, where there is none, one that another peer is slow with.
func (f *stateFetch) assign(ctx context.Context) {
	free := f.free()
	for slot := range stateJobs {
		for _, r := range free {
			if f.jobs[r.id] > slot {
				continue
			}
			if p := f.next(r.id); p != nil {
				f.launch(ctx, r, p)
			}
		}
	}
}

// free lists the peers that may be asked, those with the fewest jobs first.
func (f *stateFetch) free() (out []*remote) {
	now := time.Now()
	f.s.mu.Lock()
	for _, r := range f.s.remotes {
		if r.hasStatus && f.jobs[r.id] < stateJobs && !now.Before(r.restUntil) && !now.Before(f.not[r.id]) {
			out = append(out, r)
		}
	}
	f.s.mu.Unlock()
	slices.SortFunc(out, func(a, b *remote) int {
		return cmp.Or(cmp.Compare(f.jobs[a.id], f.jobs[b.id]), cmp.Compare(a.id, b.id))
	})
	return out
}

// next is the part to ask a peer for, nil if none.
func (f *stateFetch) next(id peer.ID) (late *part) {
	for _, p := range f.parts[:min(len(f.parts), stateWindow)] {
		switch {
		case p.got:
		case len(p.asked) == 0:
			return p
		case late == nil && len(p.asked) == 1 && p.asked[0] != id && time.Since(p.since) > f.s.t.stall/4:
			late = p
		}
	}
	return late
}

func (f *stateFetch) launch(ctx context.Context, r *remote, p *part) {
	from, to, size := p.from, p.to, f.size[r.id]
	if size == 0 {
		size = wire.MaxState
	}
	if !f.s.spawn(func() {
		res := f.s.fetchPart(ctx, r, &f.goal, from, to, size)
		res.p = p
		select {
		case f.results <- res:
		case <-ctx.Done():
		}
	}) {
		return
	}
	p.asked, p.since = append(p.asked, r.id), time.Now()
	f.jobs[r.id]++
}

// fetchPart is one request. The peer is charged here for what it does wrong.
func (s *Service) fetchPart(ctx context.Context, r *remote, goal *StateGoal, from, to chain.Hash, size uint32) stateResult {
	res := stateResult{r: r, size: size}
	q := wire.StateRequest{Height: goal.Height, Block: goal.Block, From: from, To: to, Max: size}
	res.err = s.ask(ctx, r.id, wire.NameState, q.Append(nil), wire.MaxState, func(b []byte) (err error) {
		s.stats.add("state_bytes_received", uint64(len(b)))
		if res.got, err = wire.DecodeState(b); err != nil || res.got == nil {
			return err
		}
		if res.covered, err = res.got.Verify(goal.Root, from, to); err != nil {
			return errors.Join(errWrongState, err)
		}
		return nil
	})
	if res.err == nil {
		s.rested(r)
		return res
	}
	res.got = nil
	switch {
	case ctx.Err() != nil || s.remote(r.id) != r: // we stop, or it just went away
	case errors.Is(res.err, multistream.ErrNotSupported[protocol.ID]{}): // made before snapshots were
	case errors.Is(res.err, errWrongState):
		s.charge(r.id, WrongState, res.err)
	default:
		s.fault(r.id, aboutFrame, res.err)
	}
	return res
}

func (f *stateFetch) take(res stateResult) {
	p := res.p
	f.jobs[res.r.id]--
	p.asked = slices.DeleteFunc(p.asked, func(id peer.ID) bool { return id == res.r.id })
	switch {
	case res.got != nil:
		f.size[res.r.id] = min(2*res.size, wire.MaxState)
	case res.err != nil: // it may be slow: less is there in time
		f.size[res.r.id] = max(res.size/4, wire.MinState)
	}
	switch {
	case res.got == nil && (res.err == nil || errors.Is(res.err, multistream.ErrNotSupported[protocol.ID]{})):
		f.not[res.r.id] = time.Now().Add(f.s.t.request)
	case res.got == nil || p.got: // failed, or another was quicker
	default:
		p.got, p.leaves, f.moved = true, res.got.Leaves, time.Now()
		if rest, ok := wire.NextPath(res.covered); ok && res.covered != p.to {
			at := slices.Index(f.parts, p) + 1
			f.parts = slices.Insert(f.parts, at, &part{from: rest, to: p.to})
			p.to = res.covered
		}
	}
}

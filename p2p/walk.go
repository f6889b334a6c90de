package p2p

import (
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"quipu/chain"
	"quipu/p2p/wire"
)

// Bounds of a walk.
const (
	walkTime    = 10 * time.Minute
	walkHeaders = 1 << 22
)

// headerWalk is a branch of one peer's that starts with too little work to be stored. Headers far below the tip cost
// next to nothing to make, so the branch is followed without storing it: every header is checked, but only the last
// state is kept, and an id every so often. Once its work is enough, the same headers are fetched again, from all peers
// that have them, and stored (the presync of Bitcoin Core 24, without its commitments: there is one branch a peer at a
// time, so an id in 2,000 headers can be kept). Only the goroutine that follows the peer touches it.
type headerWalk struct {
	began time.Time
	end   chain.State // the last header walked
	// marks are the stored header the walk starts from, then ends of answers, each at most wire.MaxHeaders after the one
	// before and each but the last two more than half of that on average.
	marks  []mark
	proven bool // its work is enough
}

type mark struct {
	height uint64
	id     chain.BlockID
}

func newWalk(fork *chain.State) *headerWalk {
	return &headerWalk{began: time.Now(), end: *fork, marks: []mark{{fork.Header.Height, fork.ID}}}
}

// walk checks headers that follow the end of the walk and moves the end. Errors are CheckHeader's.
func (k *headerWalk) walk(g *chain.Genesis, hs []chain.Header) error {
	for i := range hs {
		next, err := g.CheckHeader(&k.end, &hs[i])
		if err != nil {
			return err
		}
		k.end = next
	}
	to := mark{k.end.Header.Height, k.end.ID}
	if n := len(k.marks); n > 1 && to.height-k.marks[n-2].height <= wire.MaxHeaders {
		k.marks[n-1] = to
	} else {
		k.marks = append(k.marks, to)
	}
	return nil
}

// run is the second time: ranges that end in the marks. Each names the one before, and the last is the one that was
// walked to, so they are the headers whose work was counted.
func (k *headerWalk) run(claimer peer.ID) *headerRun {
	return &headerRun{target: mark{k.end.Header.Height, k.end.ID}, claimer: claimer, last: k.marks[0], marks: k.marks[1:]}
}

// startWalk begins to walk headers that AddHeaders refused for their work.
func (s *Service) startWalk(r *remote, st *wire.Status, hs []chain.Header) bool {
	fork, ok := s.b.Header(hs[0].Parent)
	if !ok {
		s.badHeaders(r, chain.ErrUnknownParent)
		return false
	}
	s.count("header_walks")
	r.walk = newWalk(&fork)
	return s.walked(r, st, hs)
}

// walkOn asks for the next headers of the peer's walk. It reports whether to go on: if not, the walk is over, unless the
// peer was silent.
func (s *Service) walkOn(ctx context.Context, r *remote, st *wire.Status) bool {
	hs, err := s.askHeaders(ctx, r, wire.HeadersRequest{Locator: []chain.BlockID{r.walk.end.ID}, Max: wire.MaxHeaders})
	switch {
	case err != nil:
		return false
	case len(hs) == 0:
		r.walk = nil
		s.headersEnd(r, *st)
		return false
	}
	return s.walked(r, st, hs)
}

// walked takes headers of a walk.
func (s *Service) walked(r *remote, st *wire.Status, hs []chain.Header) bool {
	k := r.walk
	if err := k.walk(s.b.Genesis(), hs); err != nil {
		r.walk = nil
		s.badHeaders(r, err)
		return false
	}
	s.stats.add("headers_walked", uint64(len(hs)))
	floor := s.b.WorkFloor()
	k.proven = k.end.Work.Gt(&floor)
	at := k.end.Header.Height
	switch {
	case k.proven:
		return true
	case at >= st.BestHeight:
		return s.endWalk(r, fmt.Errorf("claims work and has too little at height %d", at))
	case at-k.marks[0].height > walkHeaders || time.Since(k.began) > walkTime:
		return s.endWalk(r, fmt.Errorf("too little work at height %d after %v", at, time.Since(k.began)))
	default:
		return true
	}
}

func (s *Service) endWalk(r *remote, err error) bool {
	r.walk = nil
	s.charge(r.id, Unproven, err)
	return false
}

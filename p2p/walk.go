package p2p

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holiman/uint256"

	"quipu/chain"
	"quipu/p2p/wire"
)

// Bounds of a walk.
const (
	walkDepth   = 144              // blocks of the tip's difficulty that a branch may be behind and still be stored
	walkTime    = 10 * time.Minute // each time
	walkHeaders = 1 << 22
)

// headerWalk is a branch of one peer's that starts with too little work to be stored. Headers far below the tip cost
// next to nothing to make, so the branch is followed without storing it: every header is checked, but only the last
// state is kept, and an id every so often. Once its work is enough, the same headers are asked for again and stored.
// Only the goroutine that follows the peer touches it (the presync of Bitcoin Core 24, without its commitments: there is
// one branch a peer at a time, so an id in 2,000 headers can be kept).
type headerWalk struct {
	began time.Time
	end   chain.State // the last header walked
	// marks are the stored header the walk starts from, then ends of answers, each at most wire.MaxHeaders after the one
	// before and each but the last two more than half of that on average.
	marks  []mark
	proven bool           // its work is enough: this is the second time
	stored int            // marks[stored] is stored
	buf    []chain.Header // after marks[stored]: what came the second time, until the next mark
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

// next is the header after which to ask, and for how many.
func (k *headerWalk) next() (after chain.BlockID, most int) {
	if !k.proven {
		return k.end.ID, wire.MaxHeaders
	}
	from, to := k.marks[k.stored], k.marks[k.stored+1]
	if n := len(k.buf); n > 0 {
		return k.buf[n-1].ID(), int(to.height-from.height) - n
	}
	return from.id, int(to.height - from.height)
}

var errOther = errors.New("shows other headers the second time")

// again takes headers of the second time. It returns those up to the next mark once they are there: each names the one
// before, and the last is the one that was walked, so they are the ones whose work was counted.
func (k *headerWalk) again(hs []chain.Header) ([]chain.Header, error) {
	last, most := k.next()
	if len(hs) > most {
		return nil, errOther
	}
	for i := range hs {
		if hs[i].Parent != last {
			return nil, errOther
		}
		last = hs[i].ID()
	}
	if k.buf = append(k.buf, hs...); len(hs) < most {
		return nil, nil
	}
	if last != k.marks[k.stored+1].id {
		return nil, errOther
	}
	out := k.buf
	k.buf, k.stored = nil, k.stored+1
	return out, nil
}

func (k *headerWalk) done() bool { return k.proven && k.stored == len(k.marks)-1 }

// enough reports whether a work is above the floor: walkDepth blocks of the tip's difficulty below the tip.
func enough(work, tip *chain.State) bool {
	below := chain.BlockWork(tip.Header.Bits)
	below.Mul(&below, uint256.NewInt(walkDepth))
	below.Add(&below, &work.Work)
	return below.Gt(&tip.Work)
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
	after, most := r.walk.next()
	hs, err := s.askHeaders(ctx, r, []chain.BlockID{after}, most)
	switch {
	case err != nil:
		return false
	case len(hs) == 0:
		r.walk = nil
		s.headersEnd(r, *st)
		return false
	case !r.walk.proven:
		return s.walked(r, st, hs)
	}
	ready, err := r.walk.again(hs)
	if err != nil {
		return s.endWalk(r, err)
	}
	if time.Since(r.walk.began) > 2*walkTime {
		return s.endWalk(r, errors.New("too slow the second time"))
	}
	if len(ready) == 0 {
		return true
	}
	_, err = s.b.AddHeadersProven(ready)
	poke(s.wakeSync)
	if err != nil {
		r.walk = nil
		s.badHeaders(r, err)
		s.rest(r.id, blame[Unproven].Expiry) // or it is walked again at once
		return false
	}
	return true
}

// walked takes headers of the first time.
func (s *Service) walked(r *remote, st *wire.Status, hs []chain.Header) bool {
	k := r.walk
	if err := k.walk(s.b.Genesis(), hs); err != nil {
		r.walk = nil
		s.badHeaders(r, err)
		return false
	}
	s.stats.add("headers_walked", uint64(len(hs)))
	tip := s.b.Tip()
	k.proven = enough(&k.end, &tip)
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

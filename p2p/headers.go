package p2p

import (
	"context"
	"errors"
	"fmt"
	"time"

	"quipu/chain"
	"quipu/p2p/wire"
)

// headerSlots bounds header downloads at once: a peer that stalls holds one slot until its deadline.
const headerSlots = 3

// lacks reports whether a status claims a best header that we don't have and that has more work than ours.
func (s *Service) lacks(st *wire.Status) bool {
	best := s.b.BestHeader()
	if !st.BestWork.Gt(&best.Work) {
		return false
	}
	_, known := s.b.Header(st.BestID)
	return !known
}

// downloadHeaders asks a peer for the headers that lead to its best one, until we have it or it has no more. The
// last header received leads the next locator, so a branch longer than one answer is walked to its end.
func (s *Service) downloadHeaders(ctx context.Context, r *remote, st wire.Status) {
	select {
	case s.headers <- struct{}{}:
		defer func() { <-s.headers }()
	case <-ctx.Done():
		return
	}
	var last chain.BlockID
	for first := true; s.lacks(&st); first = false {
		locator := s.b.Locator()
		if !first {
			locator = append([]chain.BlockID{last}, locator[:min(len(locator), wire.MaxLocator-1)]...)
		}
		q := wire.HeadersRequest{Locator: locator, Max: wire.MaxHeaders}
		var hs []chain.Header
		err := s.ask(ctx, r.id, wire.NameHeaders, q.Append(nil), wire.MaxHeadersAnswer, func(b []byte) (err error) {
			hs, err = wire.DecodeHeaders(b, wire.MaxHeaders)
			return err
		})
		if err != nil {
			if ctx.Err() == nil {
				s.fault(r.id, aboutFrame, err)
			}
			return
		}
		if len(hs) == 0 {
			s.headersEnd(ctx, r, st)
			return
		}
		s.stats.add("headers_received", uint64(len(hs)))
		_, err = s.b.AddHeaders(hs)
		poke(s.wakeSync)
		if err != nil {
			s.badHeaders(r, err)
			return
		}
		s.rested(r)
		if id := hs[len(hs)-1].ID(); id == last {
			s.charge(r.id, Unproven, errors.New("sends the same headers again"))
			return
		} else {
			last = id
		}
	}
}

// headersEnd is a peer that has no more headers and whose claim is still open. It may have reorganised since: ask
// what it says now, and rest it if that is the same.
func (s *Service) headersEnd(ctx context.Context, r *remote, claimed wire.Status) {
	s.mu.Lock()
	now := r.status
	s.mu.Unlock()
	if now.BestID == claimed.BestID {
		s.charge(r.id, Unproven, fmt.Errorf("claims header %s at height %d", claimed.BestID, claimed.BestHeight))
	}
}

func (s *Service) badHeaders(r *remote, err error) {
	switch ev := evidenceOf(aboutHeader, err); ev {
	case UnknownParent: // its headers link to nothing we asked about
		s.charge(r.id, Unproven, err)
	case UpgradeNeeded, InvalidAncestor: // nobody's fault, but there is no use in asking again soon
		s.log.Debug("headers not followed", "peer", r.id, "err", err)
		s.rest(r.id, 10*time.Second)
	case NobodysFault:
		s.log.Error("storing headers", "err", err)
		s.rest(r.id, time.Second)
	default:
		s.charge(r.id, ev, err)
	}
}

// rested ends a run of failures.
func (s *Service) rested(r *remote) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.fails, r.restUntil = 0, time.Time{}
}

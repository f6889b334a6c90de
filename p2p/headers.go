package p2p

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"quipu/chain"
	"quipu/p2p/wire"
)

// Bounds of header downloads. A peer that stalls or dawdles holds one slot until one of these ends it.
const (
	headerSlots   = 3
	headerTime    = time.Minute // one holding of a slot, and one request more
	headerAnswers = 200         // of one holding
)

// takeSlot takes a slot for header downloads if one is free. A peer that gets none is poked when one is.
func (s *Service) takeSlot(r *remote) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.waiting = s.fetching >= headerSlots
	if !r.waiting {
		s.fetching++
	}
	return !r.waiting
}

// freeSlot gives a slot back and wakes whoever waits for one. again: r has more to show, and gets its turn after those.
func (s *Service) freeSlot(r *remote, again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fetching--
	woken := false
	for _, o := range s.remotes {
		if o.waiting {
			o.waiting, woken = false, true
			poke(o.heard)
		}
	}
	switch {
	case again && woken:
		r.waiting = true
	case again:
		poke(r.heard)
	}
}

// lacks reports whether a status claims a best header that we don't have and that has more work than ours, and enough
// to be stored.
func (s *Service) lacks(st *wire.Status) bool {
	best, floor := s.b.BestHeader(), s.b.WorkFloor()
	if !st.BestWork.Gt(&best.Work) || !st.BestWork.Gt(&floor) {
		return false
	}
	_, known := s.b.Header(st.BestID)
	return !known
}

// downloadHeaders asks a peer for the headers that lead to its best one, until we have it, it has no more, or its time
// is over. It returns at once if no slot is free.
//
// One answer after another, of one peer, is the way for what fits into one, for a branch that must be walked first, and
// for the start of everything else: that shows where the peer's chain leaves ours. From there on a longer stretch is
// left to headerLoop, which fetches ranges of it from all peers that have it.
func (s *Service) downloadHeaders(ctx context.Context, r *remote, st wire.Status) {
	if r.walk == nil && s.ranged(r.id, &st) || !s.takeSlot(r) {
		return
	}
	again := false
	defer func() { s.freeSlot(r, again) }()
	again = s.headersOf(ctx, r, st)
}

// headersOf is downloadHeaders in a slot. It reports whether the peer has more to show.
//
// Every answer must lead higher than the one before: the locator says where that ended, and a peer that goes back more
// than once, or whose time ends with nothing that we didn't know, only makes us busy. What is known already shows
// nothing by itself: another peer may have brought it since it was asked for.
func (s *Service) headersOf(ctx context.Context, r *remote, st wire.Status) (again bool) {
	start := time.Now()
	last, _ := s.b.Header(r.reached) // where its last turn has led
	back, fresh := 0, 0
	for answers := 0; s.lacks(&st); answers++ {
		if answers >= headerAnswers || time.Since(start) >= headerTime {
			if fresh == 0 {
				s.charge(r.id, Unproven, fmt.Errorf("%d answers without a new header", answers))
			}
			return fresh > 0
		}
		if r.walk != nil && r.walk.proven {
			if s.offerRun(r.walk.run(r.id)) {
				r.walk, r.reached = nil, r.walk.end.ID
			}
			return false // its turn comes when the other run has ended
		}
		if r.walk != nil {
			if !s.walkOn(ctx, r, &st) {
				return false
			}
			fresh++
			continue
		}
		hs, err := s.askHeaders(ctx, r, wire.HeadersRequest{Locator: s.locator(&last), Max: wire.MaxHeaders})
		if err != nil {
			return false
		}
		if len(hs) == 0 {
			s.headersEnd(r, st)
			return false
		}
		id := hs[len(hs)-1].ID()
		_, known := s.b.Header(id)
		n, err := s.b.AddHeaders(hs)
		poke(s.wakeSync)
		if errors.Is(err, ErrLowWork) && n < len(hs) {
			if !s.startWalk(r, &st, hs[n:]) {
				return false
			}
			fresh++
			continue
		}
		if err != nil {
			s.badHeaders(r, err)
			return false
		}
		if !known {
			fresh++
			s.rested(r)
		}
		now, ok := s.b.Header(id)
		if !ok { // we have dropped it
			return false
		}
		if now.Header.Height <= last.Header.Height {
			if back++; back > 1 {
				s.charge(r.id, Unproven, errors.New("sends the same headers again"))
				return false
			}
		}
		last, r.reached = now, id
		if len(hs) == wire.MaxHeaders && st.BestHeight > now.Header.Height+wire.MaxHeaders {
			run := &headerRun{target: mark{st.BestHeight, st.BestID}, claimer: r.id, last: mark{now.Header.Height, id}}
			if s.shows(ctx, r, &run.target) && s.offerRun(run) || s.ranged(r.id, &st) {
				return false
			}
		}
	}
	r.walk = nil // we have what it claims, or better
	return false
}

// shows reports whether a peer has the header it claims, at the height it claims. Only then is what another says of the
// chain to it evidence.
func (s *Service) shows(ctx context.Context, r *remote, m *mark) bool {
	if m.height > chain.MaxHeight {
		return false
	}
	hs, err := s.askHeaders(ctx, r, wire.HeadersRequest{Of: m.id, From: m.height, Max: 1})
	return err == nil && len(hs) == 1 && hs[0].ID() == m.id && hs[0].Height == m.height
}

// askHeaders asks for headers, at most q.Max, and charges the peer if it fails.
func (s *Service) askHeaders(ctx context.Context, r *remote, q wire.HeadersRequest) (hs []chain.Header, err error) {
	err = s.ask(ctx, r.id, wire.NameHeaders, q.Append(nil), wire.MaxHeadersAnswer, func(b []byte) (err error) {
		hs, err = wire.DecodeHeaders(b, int(q.Max))
		return err
	})
	if err != nil {
		if ctx.Err() == nil {
			s.fault(r.id, aboutFrame, err)
		}
		return nil, err
	}
	s.stats.add("headers_received", uint64(len(hs)))
	return hs, nil
}

// locator is ours with the last header that the peer sent in its place by height: a branch longer than one answer is
// walked to its end, and what another peer has brought meanwhile is not asked for again.
func (s *Service) locator(last *chain.State) []chain.BlockID {
	ours := s.b.Locator()
	if last.Header.Height == 0 {
		return ours
	}
	at := 0
	for at < len(ours) {
		if st, ok := s.b.Header(ours[at]); ok && st.Header.Height <= last.Header.Height {
			break
		}
		at++
	}
	out := slices.Insert(slices.Clone(ours), at, last.ID)
	if len(out) > wire.MaxLocator {
		out = slices.Delete(out, len(out)-2, len(out)-1) // block 0 stays
	}
	return out
}

// headersEnd is a peer that has no more headers and whose claim is still open. It may have reorganised since: ask
// what it says now, and rest it if that is the same.
func (s *Service) headersEnd(r *remote, claimed wire.Status) {
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
		if errors.Is(err, ErrTooEarly) { // its clock or ours: the headers come again with its next status
			s.log.Debug("headers too early", "peer", r.id, "err", err)
			return
		}
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

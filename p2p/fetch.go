package p2p

import (
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"quipu/chain"
	"quipu/p2p/wire"
)

// fetchBodies asks a peer for bodies and checks each against its header as it arrives, so that whoever sent a wrong one
// is known. It gives up when a body takes longer than the stall time or all longer than a job may.
func (s *Service) fetchBodies(ctx context.Context, r *remote, wants []Want) jobResult {
	res := jobResult{r: r, wants: wants}
	ctx, cancel := context.WithTimeout(ctx, s.t.job)
	defer cancel()
	err := s.readBodies(ctx, r, &res)
	n := uint64(0)
	for i := range res.got {
		n += uint64(len(res.got[i].Body))
	}
	s.mu.Lock()
	r.bodies += uint64(len(res.got))
	r.bodyBytes += n
	if r.failedJobs++; err == nil && len(res.got) > 0 {
		r.failedJobs = 0
	}
	s.mu.Unlock()
	s.stats.add("bodies_received", uint64(len(res.got)))
	s.stats.add("body_bytes_received", n)
	switch {
	case err != nil:
		s.count("jobs_failed")
		if s.remote(r.id) == r { // it didn't just go away
			ev := evidenceOf(aboutBody, err)
			if ev == NobodysFault || ev == InvalidBlock {
				ev = Silent
			}
			s.charge(r.id, ev, err)
		}
	case len(res.got) > 0:
		s.rested(r)
	case len(res.missing) == 0:
		s.charge(r.id, Silent, fmt.Errorf("none of %d bodies", len(wants)))
	}
	return res
}

// readBodies fills res. On an error what has arrived stands, and the rest is left.
func (s *Service) readBodies(ctx context.Context, r *remote, res *jobResult) error {
	q := wire.BodiesRequest{}
	for i := range res.wants {
		q.IDs = append(q.IDs, res.wants[i].ID)
	}
	next := 0
	defer func() { res.left = res.wants[next:] }()
	st, done, err := s.open(ctx, s.t.stall, r.id, wire.NameBodies, q.Append(nil))
	if err != nil {
		return err
	}
	defer done()
	for ; next < len(res.wants); next++ {
		w := &res.wants[next]
		st.SetReadDeadline(time.Now().Add(s.t.stall))
		code, body, err := wire.ReadBody(st, w.Header.BodySize)
		if err != nil {
			return err
		}
		switch code {
		case wire.BodyLater:
			return nil
		case wire.BodyMissing:
			res.missing = append(res.missing, *w)
		case wire.BodyFollows:
			if err := chain.CheckBody(&w.Header, body); err != nil {
				return err
			}
			if w.far {
				s.syncNow.arrive()
			}
			res.got = append(res.got, chain.Block{Header: w.Header, Body: body})
		}
		s.seen(r.id)
	}
	return nil
}

// AskTxStatus asks up to 16 neighbours what they know of these transactions, at most wire.MaxTxIDs. It waits for all
// answers, at most as long as one request may take, and returns one entry a neighbour asked.
func (s *Service) AskTxStatus(ctx context.Context, ids []chain.TxID) []PeerTxStatus {
	ids = ids[:min(len(ids), wire.MaxTxIDs)]
	all := s.everyone()
	all = all[:min(len(all), 16)]
	if len(ids) == 0 {
		return nil
	}
	out := make([]PeerTxStatus, len(all))
	answers := make(chan int, len(all))
	asked := 0
	request := wire.AppendTxStatusRequest(nil, ids)
	for i, r := range all {
		out[i].Peer = r.id.String()
		if !s.spawn(func() {
			out[i].Statuses, out[i].Err = s.askTxStatus(ctx, r.id, request, len(ids))
			answers <- i
		}) {
			out[i].Err = context.Canceled
			continue
		}
		asked++
	}
	for range asked {
		<-answers
	}
	return out
}

func (s *Service) askTxStatus(ctx context.Context, p peer.ID, request []byte, n int) (all []wire.TxStatus, err error) {
	err = s.ask(ctx, p, wire.NameTxStatus, request, wire.MaxTxStatusAnswer, func(b []byte) (err error) {
		all, err = wire.DecodeTxStatuses(b, n)
		return err
	})
	if err != nil && evidenceOf(aboutFrame, err) == Malformed {
		s.charge(p, Malformed, err)
	}
	return all, err
}

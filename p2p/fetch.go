package p2p

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"quipu/chain"
	"quipu/p2p/wire"
)

// arrival is what a job tells: a body, or that the peer doesn't have the next one, or that it has ended.
type arrival struct {
	job     *job
	remote  *remote
	block   chain.Block
	missing bool
	ended   bool
	err     error // of an ended one
}

// slowest is the rate in bytes a second below which a job is given up in the end, whatever it brings.
const slowest = 8 << 10

// fetchBodies asks a peer for a job's bodies and checks each against its header as it arrives, so that whoever sent a wrong
// one is known. That the peer stalls is for the schedule to see; a job that drips is given up when it takes longer than a
// whole job may and its bytes at the slowest rate.
func (s *Service) fetchBodies(ctx context.Context, r *remote, j *job, out chan<- arrival) error {
	limit := s.t.job + time.Duration(j.bytes)*time.Second/slowest
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	q := wire.BodiesRequest{}
	for _, p := range j.pieces {
		q.IDs = append(q.IDs, p.ID)
	}
	st, done, err := s.open(ctx, s.t.stall, r.id, wire.NameBodies, q.Append(nil))
	if err != nil {
		return err
	}
	defer done()
	st.SetReadDeadline(time.Now().Add(limit))
	in := counted{st, &j.got}
	for _, p := range j.pieces {
		code, body, err := wire.ReadBody(in, p.Header.BodySize)
		if err != nil {
			return err
		}
		a := arrival{job: j, remote: r}
		switch code {
		case wire.BodyLater:
			return nil
		case wire.BodyMissing:
			a.missing = true
		case wire.BodyFollows:
			if err := chain.CheckBody(&p.Header, body); err != nil {
				return err
			}
			s.stats.add("bodies_received", 1)
			s.stats.add("body_bytes_received", uint64(len(body)))
			s.mu.Lock()
			r.bodies++
			r.bodyBytes += uint64(len(body))
			r.lastSeen = time.Now()
			s.mu.Unlock()
			a.block = chain.Block{Header: p.Header, Body: body}
		}
		select {
		case out <- a:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// counted counts the bytes that are read, for the schedule to see.
type counted struct {
	io.Reader
	n *atomic.Int64
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n.Add(int64(n))
	return n, err
}

// jobEnded enters what a job says of its peer.
func (s *Service) jobEnded(a *arrival) {
	r, err := a.remote, a.err
	cause := context.Cause(a.job.ctx)
	switch {
	case errors.Is(cause, errElsewhere):
		return
	case errors.Is(cause, errStalled):
		err = errStalled
	}
	answered := len(a.job.pieces) - len(a.job.left)
	brought := a.job.brought
	s.mu.Lock()
	if r.failedJobs++; err == nil && brought > 0 {
		r.failedJobs = 0
	}
	s.mu.Unlock()
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
	case brought > 0:
		s.rested(r)
	case answered == 0:
		s.charge(r.id, Silent, fmt.Errorf("none of %d bodies", len(a.job.pieces)))
	}
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

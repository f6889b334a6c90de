package p2p

import (
	"context"
	"errors"
	"path"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"golang.org/x/sync/semaphore"

	"quipu/chain"
	"quipu/p2p/wire"
)

// handler answers one request: it has read nothing yet, and closes nothing.
type handler func(ctx context.Context, r *remote, st network.Stream) error

func (s *Service) handlers() map[string]handler {
	all := map[string]handler{
		wire.NameStatus:   s.serveStatus,
		wire.NameHeaders:  s.serveHeaders,
		wire.NameBodies:   s.serveBodies,
		wire.NameBlockTxs: s.serveBlockTxs,
		wire.NameTxStatus: s.serveTxStatus,
		wire.NameProof:    s.serveProof,
		wire.NameState:    s.serveState,
		wire.NamePool:     s.servePool,
		wire.NameCompact:  s.serveCompact,
	}
	if s.find != nil {
		all[wire.NamePeers] = s.servePeers
	}
	return all
}

// register is for good: a node that is starting or stopping resets streams, where one without handlers would look like
// a node of another network.
func (s *Service) register() {
	for name, h := range s.handlers() {
		s.host.SetStreamHandler(protocol.ID(wire.ProtocolID(s.network, name)), func(st network.Stream) { s.serve(st, h) })
	}
}

// serve runs a handler within deadline, slots and token bucket. Any breach resets the stream; one that no honest node
// commits is charged.
func (s *Service) serve(st network.Stream, h handler) {
	if !s.enter() {
		st.Reset()
		return
	}
	defer s.wg.Done()
	p := st.Conn().RemotePeer()
	r := s.remote(p)
	if r == nil {
		if r = s.addPeer(p); r == nil {
			st.Reset()
			return
		}
	}
	if !r.requests.Allow() {
		s.charge(p, TooMany, nil)
		st.Reset()
		return
	}
	select {
	case r.streams <- struct{}{}:
		defer func() { <-r.streams }()
	default:
		s.count("requests_refused")
		st.Reset()
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.answerTime())
	defer cancel()
	stop := context.AfterFunc(ctx, func() { st.Reset() })
	defer stop()
	st.SetDeadline(time.Now().Add(s.t.request))
	if err := h(ctx, r, st); err != nil {
		if evidenceOf(aboutFrame, err) == Malformed {
			s.charge(p, Malformed, err)
		}
		st.ResetWithError(network.StreamProtocolViolation)
		return
	}
	st.Close()
}

// request reads the one frame that a stream begins with.
func (s *Service) request(r *remote, st network.Stream, max int) ([]byte, error) {
	b, err := wire.ReadFrame(st, max)
	if err == nil {
		s.seen(r.id)
		s.stats.add("bytes_in_"+protocolName(st), uint64(wire.FrameHead+len(b)))
	}
	return b, err
}

// protocolName is the name in a stream's protocol id.
func protocolName(st network.Stream) string { return path.Base(path.Dir(string(st.Protocol()))) }

func (s *Service) serveStatus(ctx context.Context, r *remote, st network.Stream) error {
	b, err := s.request(r, st, wire.MaxStatus)
	if err != nil {
		return err
	}
	theirs, err := wire.DecodeStatus(b)
	if err != nil {
		return err
	}
	err = s.answer(ctx, r, st, wire.MaxStatus, func() []byte {
		ours := s.ourStatus(s.showPool(r))
		return ours.Append(nil)
	})
	if err != nil {
		return err
	}
	s.hear(r, theirs, 0)
	return nil
}

func (s *Service) serveHeaders(ctx context.Context, r *remote, st network.Stream) error {
	b, err := s.request(r, st, wire.MaxHeadersRequest)
	if err != nil {
		return err
	}
	q, err := wire.DecodeHeadersRequest(b)
	if err != nil {
		return err
	}
	return s.answer(ctx, r, st, int(q.Max)*chain.HeaderSize, func() []byte {
		var hs []chain.Header
		if len(q.Locator) > 0 {
			hs = s.b.HeadersAfter(q.Locator, int(q.Max))
		} else {
			hs = s.b.HeadersTo(q.Of, q.From, int(q.Max))
		}
		return wire.AppendHeaders(nil, hs[:min(len(hs), int(q.Max))])
	})
}

// answer makes an answer of at most so many bytes and writes it as one frame, within the peer's share of bandwidth and
// of the memory that answers take.
func (s *Service) answer(ctx context.Context, r *remote, st network.Stream, most int, make func() []byte) error {
	taken, err := s.hold(ctx, r, 2*most) // the answer and what it is made of
	if err != nil {
		return err
	}
	defer taken.release()
	b := make()
	taken.shrink(len(b)) // while it waits for its reader
	return s.written(r, len(b), wire.WriteFrame(&answerWriter{s, ctx, r, st, 0}, b))
}

// serveBodies sends what it has in the order asked, and ends the answer once it exceeds wire.MaxAnswer. One body is
// read at a time: what a request costs in memory doesn't depend on what it asks for.
func (s *Service) serveBodies(ctx context.Context, r *remote, st network.Stream) error {
	b, err := s.request(r, st, wire.MaxBodiesRequest)
	if err != nil {
		return err
	}
	q, err := wire.DecodeBodiesRequest(b)
	if err != nil {
		return err
	}
	sent := 0
	out := &answerWriter{s, ctx, r, st, s.answers.Add(1)}
	for _, id := range q.IDs {
		if sent >= wire.MaxAnswer {
			return wire.WriteBody(out, wire.BodyLater, nil)
		}
		n, err := s.serveBody(ctx, r, out, id)
		if err != nil {
			return err
		}
		sent += n
		s.stats.add("body_bytes_served", uint64(n))
	}
	return nil
}

// serveBody sends one body, or that it isn't here. It returns the body's length.
func (s *Service) serveBody(ctx context.Context, r *remote, out *answerWriter, id chain.BlockID) (int, error) {
	var body []byte
	code := wire.BodyMissing
	if state, ok := s.b.Header(id); ok {
		taken, err := s.hold(ctx, r, int(state.Header.BodySize))
		if err != nil {
			return 0, err
		}
		defer taken.release()
		if body, ok = s.b.Body(id); ok {
			code = wire.BodyFollows
		}
	}
	return len(body), s.written(r, len(body), wire.WriteBody(out, code, body))
}

// written notes whether the peer reads what it asks for. Memory for answers is everybody's: who takes several large ones in a
// row not to their end, whether it lets them run into their deadline or resets them before, is disconnected for a while.
func (s *Service) written(r *remote, n int, err error) error {
	if n <= smallAnswer {
		return err
	}
	s.mu.Lock()
	r.unread++
	if err == nil {
		r.unread = 0
	}
	enough := r.unread == maxUnread
	s.mu.Unlock()
	if err != nil {
		s.count("answers_unread")
	}
	if enough {
		s.charge(r.id, Unread, err)
	}
	return err
}

// hold takes n bytes of the memory for answers, the peer's share first, and waits for it as long as an asker would. A
// small answer takes of the peer's share alone, so that those who don't read keep nobody from the status exchange; the
// slots of requests bound these.
func (s *Service) hold(ctx context.Context, r *remote, n int) (*held, error) {
	h := &held{n: int64(n)}
	if n == 0 {
		return h, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.t.stall)
	defer cancel()
	memories := []*semaphore.Weighted{r.memory, s.memory}
	if n <= smallAnswer {
		memories = memories[:1]
	}
	for _, m := range memories {
		if err := m.Acquire(ctx, h.n); err != nil {
			h.release()
			s.count("answers_refused")
			return nil, errors.Join(errSlow, err)
		}
		h.of = append(h.of, m)
	}
	return h, nil
}

// held is memory taken for one answer.
type held struct {
	of []*semaphore.Weighted
	n  int64 // of each
}

func (h *held) release() { h.shrink(0) }

// shrink gives back all but n bytes.
func (h *held) shrink(n int) {
	if less := h.n - int64(n); less > 0 {
		for _, m := range h.of {
			m.Release(less)
		}
		h.n = int64(n)
	}
}

// paced waits until the peer may be sent n bytes more, and starts the time that writing them may take.
func (s *Service) paced(ctx context.Context, r *remote, st network.Stream, n int) error {
	if err := r.bytes.WaitN(ctx, n); err != nil {
		return errors.Join(errSlow, err)
	}
	return st.SetWriteDeadline(time.Now().Add(s.t.request))
}

var errSlow = errors.New("asked for more than the peer's share of bandwidth or memory")

func (s *Service) serveBlockTxs(ctx context.Context, r *remote, st network.Stream) error {
	b, err := s.request(r, st, max(wire.MaxBlockTxsRequest, wire.MaxIndexRequest))
	if err != nil {
		return err
	}
	switch {
	case wire.ByIndex(b):
		return s.serveIndexes(ctx, r, st, b)
	case wire.ByShortID(b):
		return s.serveShort(ctx, r, st, b)
	}
	q, err := wire.DecodeBlockTxsRequest(b)
	if err != nil {
		return err
	}
	most := min(len(q.Leaves)*chain.TxMaxSize, wire.MaxAnswer)
	return s.answer(ctx, r, st, most, func() []byte { return wire.AppendBlockTxs(nil, s.b.PoolTxs(q.Leaves)) })
}

func (s *Service) serveTxStatus(ctx context.Context, r *remote, st network.Stream) error {
	b, err := s.request(r, st, wire.MaxTxStatusRequest)
	if err != nil {
		return err
	}
	ids, err := wire.DecodeTxStatusRequest(b)
	if err != nil {
		return err
	}
	return s.answer(ctx, r, st, wire.MaxTxStatusAnswer, func() []byte { return wire.AppendTxStatuses(nil, s.b.TxStatus(ids)) })
}

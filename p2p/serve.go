package p2p

import (
	"context"
	"errors"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"

	"quipu/p2p/wire"
)

// handler answers one request: it has read nothing yet, and closes nothing.
type handler func(ctx context.Context, r *remote, st network.Stream) error

func (s *Service) handlers() map[string]handler {
	return map[string]handler{
		wire.NameStatus:   s.serveStatus,
		wire.NameHeaders:  s.serveHeaders,
		wire.NameBodies:   s.serveBodies,
		wire.NameBlockTxs: s.serveBlockTxs,
		wire.NameTxStatus: s.serveTxStatus,
	}
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
	ctx, cancel := context.WithTimeout(s.ctx, s.t.job)
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
	}
	return b, err
}

func (s *Service) serveStatus(_ context.Context, r *remote, st network.Stream) error {
	b, err := s.request(r, st, wire.MaxStatus)
	if err != nil {
		return err
	}
	theirs, err := wire.DecodeStatus(b)
	if err != nil {
		return err
	}
	ours := s.ourStatus(s.showPool(r))
	if err := wire.WriteFrame(st, ours.Append(nil)); err != nil {
		return err
	}
	s.hear(r, theirs, 0)
	return nil
}

func (s *Service) serveHeaders(_ context.Context, r *remote, st network.Stream) error {
	b, err := s.request(r, st, wire.MaxHeadersRequest)
	if err != nil {
		return err
	}
	q, err := wire.DecodeHeadersRequest(b)
	if err != nil {
		return err
	}
	hs := s.b.HeadersAfter(q.Locator, int(q.Max))
	return wire.WriteFrame(st, wire.AppendHeaders(nil, hs[:min(len(hs), int(q.Max))]))
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
	for _, id := range q.IDs {
		if sent >= wire.MaxAnswer {
			return wire.WriteBody(st, wire.BodyLater, nil)
		}
		body, ok := s.b.Body(id)
		code := wire.BodyMissing
		if ok {
			code = wire.BodyFollows
		}
		if err := r.bytes.WaitN(ctx, wire.FrameHead+1+len(body)); err != nil {
			return errors.Join(errSlow, err)
		}
		st.SetWriteDeadline(time.Now().Add(s.t.request))
		if err := wire.WriteBody(st, code, body); err != nil {
			return err
		}
		sent += len(body)
		s.stats.add("body_bytes_served", uint64(len(body)))
	}
	return nil
}

var errSlow = errors.New("asked for more than the peer's share of bandwidth")

func (s *Service) serveBlockTxs(_ context.Context, r *remote, st network.Stream) error {
	b, err := s.request(r, st, wire.MaxBlockTxsRequest)
	if err != nil {
		return err
	}
	q, err := wire.DecodeBlockTxsRequest(b)
	if err != nil {
		return err
	}
	return wire.WriteFrame(st, wire.AppendBlockTxs(nil, s.b.PoolTxs(q.Leaves)))
}

func (s *Service) serveTxStatus(_ context.Context, r *remote, st network.Stream) error {
	b, err := s.request(r, st, wire.MaxTxStatusRequest)
	if err != nil {
		return err
	}
	ids, err := wire.DecodeTxStatusRequest(b)
	if err != nil {
		return err
	}
	return wire.WriteFrame(st, wire.AppendTxStatuses(nil, s.b.TxStatus(ids)))
}

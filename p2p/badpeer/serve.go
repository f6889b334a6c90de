package badpeer

import (
	"context"
	"crypto/sha256"
	"time"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"quipu/p2p/wire"
)

func contentID(m *pb.Message) string {
	id := sha256.Sum256(m.GetData())
	return string(id[:20])
}

func (l *liar) protocol(name string) protocol.ID {
	return protocol.ID(wire.ProtocolID(l.g.NetworkID(), name))
}

// ask sends one request and returns the answer's first frame. It never dials.
func (l *liar) ask(ctx context.Context, p peer.ID, name string, request []byte, max int) ([]byte, error) {
	s, err := l.open(ctx, p, name, request)
	if err != nil {
		return nil, err
	}
	defer s.Reset()
	return wire.ReadFrame(s, max)
}

func (l *liar) open(ctx context.Context, p peer.ID, name string, request []byte) (network.Stream, error) {
	ctx, cancel := context.WithTimeout(network.WithNoDial(ctx, "bad peer"), patience)
	defer cancel()
	s, err := l.host.NewStream(ctx, p, l.protocol(name))
	if err != nil {
		return nil, err
	}
	s.SetDeadline(time.Now().Add(patience))
	if err = wire.WriteFrame(s, request); err == nil {
		err = s.CloseWrite()
	}
	if err != nil {
		s.Reset()
		return nil, err
	}
	return s, nil
}

// serve answers as an honest node would, but for what it claims.
func (l *liar) serve() {
	l.handle(wire.NameStatus, wire.MaxStatus, func(s network.Stream, b []byte) error {
		if _, err := wire.DecodeStatus(b); err != nil {
			return err
		}
		ours := l.status()
		return wire.WriteFrame(s, ours.Append(nil))
	})
	l.handle(wire.NameHeaders, wire.MaxHeadersRequest, func(s network.Stream, b []byte) error {
		q, err := wire.DecodeHeadersRequest(b)
		if err != nil {
			return err
		}
		return wire.WriteFrame(s, wire.AppendHeaders(nil, l.view.after(&q)))
	})
	l.handle(wire.NameBodies, wire.MaxBodiesRequest, func(s network.Stream, b []byte) error {
		q, err := wire.DecodeBodiesRequest(b)
		if err != nil {
			return err
		}
		for _, id := range q.IDs {
			code := wire.BodyMissing
			body, ok := l.view.badBody(id)
			if ok {
				code = wire.BodyFollows
			}
			if err := wire.WriteBody(s, code, body); err != nil {
				return err
			}
		}
		return nil
	})
	l.handle(wire.NameBlockTxs, wire.MaxBlockTxsRequest, func(s network.Stream, b []byte) error {
		return wire.WriteFrame(s, nil)
	})
	l.handle(wire.NameTxStatus, wire.MaxTxStatusRequest, func(s network.Stream, b []byte) error {
		ids, err := wire.DecodeTxStatusRequest(b)
		if err != nil {
			return err
		}
		return wire.WriteFrame(s, wire.AppendTxStatuses(nil, make([]wire.TxStatus, len(ids))))
	})
}

func (l *liar) handle(name string, max int, answer func(s network.Stream, request []byte) error) {
	l.host.SetStreamHandler(l.protocol(name), func(s network.Stream) {
		s.SetDeadline(time.Now().Add(patience))
		b, err := wire.ReadFrame(s, max)
		if err == nil {
			err = answer(s, b)
		}
		if err != nil {
			l.log.Debug("request not answered", "protocol", name, "peer", s.Conn().RemotePeer(), "err", err)
			s.Reset()
			return
		}
		s.Close()
	})
}

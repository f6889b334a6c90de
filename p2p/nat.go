package p2p

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/host/autorelay"
	circuit "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	ma "github.com/multiformats/go-multiaddr"
)

// What a relayed connection may carry. It is for two nodes to agree on punching a hole, a few kB; none of our protocols
// runs over it.
const (
	relayedFor    = 2 * time.Minute
	relayedBytes  = 128 << 10 // each way
	relaySlots    = 128       // nodes that may be reached through one relay
	relayCircuits = 16        // relayed connections at once of one node
	relayPerIP    = 8         // nodes of one address
	relaysWanted  = 2         // that a node behind a NAT asks for a slot
	relayBackoff  = time.Minute
)

// natState is what a host that is behind a NAT, or helps those that are, has to do with its Service.
type natState struct {
	counters
	host   atomic.Pointer[host.Host]
	speaks atomic.Pointer[protocol.ID] // what a node of this network speaks
}

// options are libp2p's for NATs. Without NAT and Relay, everything is off.
func (n *natState) options(cfg *Config) []libp2p.Option {
	if !cfg.NAT && !cfg.Relay {
		return []libp2p.Option{libp2p.DisableRelay(), libp2p.DisableIdentifyAddressDiscovery()}
	}
	var opts []libp2p.Option
	if cfg.AllowPeers == nil {
		// Who is asked dials back under another peer id, which a list of allowed peers would refuse.
		opts = append(opts, libp2p.EnableAutoNATv2())
	}
	if cfg.Relay {
		return append(opts,
			libp2p.DisableRelay(), // the transport; the service needs none
			libp2p.DisableIdentifyAddressDiscovery(),
			libp2p.ForceReachabilityPublic(), // the service waits for a word on that, and the operator has given it
			libp2p.EnableRelayService(relayv2.WithResources(relayResources(cfg)), relayv2.WithACL(n)),
		)
	}
	if cfg.PortMap {
		opts = append(opts, libp2p.NATPortMap())
	}
	opts = append(opts,
		libp2p.EnableRelay(),
		libp2p.ForceReachabilityPrivate(), // until AutoNAT v2 has found an address that can be reached
		libp2p.EnableHolePunching(holepunch.WithTracer(n)),
	)
	if len(cfg.External) == 0 {
		wait := 10 * time.Second
		if cfg.TestNet {
			wait = time.Second
		}
		opts = append(opts, libp2p.EnableAutoRelayWithPeerSource(n.relays, autorelay.WithNumRelays(relaysWanted),
			autorelay.WithMinCandidates(1), autorelay.WithMaxCandidates(4*relaysWanted), autorelay.WithBootDelay(0),
			autorelay.WithMinInterval(wait), autorelay.WithBackoff(relayBackoff)))
	}
	return opts
}

func relayResources(cfg *Config) relayv2.Resources {
	r := relayv2.DefaultResources()
	r.Limit = &relayv2.RelayLimit{Duration: relayedFor, Data: relayedBytes}
	r.MaxReservations, r.MaxCircuits, r.MaxReservationsPerIP = relaySlots, relayCircuits, relayPerIP
	if cfg.SharedAddress {
		r.MaxReservationsPerIP = relaySlots
	}
	return r
}

// relays offers the peers we are connected to that relay, unless we have an address that others can reach.
func (n *natState) relays(_ context.Context, max int) <-chan peer.AddrInfo {
	out := make(chan peer.AddrInfo, max)
	defer close(out)
	at := n.host.Load()
	if at == nil {
		return out
	}
	h := *at
	if c, ok := h.(interface {
		ConfirmedAddrs() (yes, no, unknown []ma.Multiaddr)
	}); ok {
		if yes, _, _ := c.ConfirmedAddrs(); len(yes) > 0 {
			return out
		}
	}
	for _, p := range h.Network().Peers() {
		if got, err := h.Peerstore().SupportsProtocols(p, circuit.ProtoIDv2Hop); err != nil || len(got) == 0 {
			continue
		}
		if len(out) == max {
			break
		}
		out <- h.Peerstore().PeerInfo(p)
	}
	return out
}

// AllowReserve keeps the relay for nodes of this network. One that hasn't said yet what it speaks gets the benefit of the doubt.
func (n *natState) AllowReserve(p peer.ID, _ ma.Multiaddr) bool { return n.ours(p) }

// AllowConnect does the same for who wants to be relayed.
func (n *natState) AllowConnect(src peer.ID, _ ma.Multiaddr, _ peer.ID) bool { return n.ours(src) }

func (n *natState) ours(p peer.ID) bool {
	at, speaks := n.host.Load(), n.speaks.Load()
	if at == nil || speaks == nil {
		return false
	}
	got, err := (*at).Peerstore().GetProtocols(p)
	return err == nil && (len(got) == 0 || slices.Contains(got, *speaks))
}

// Trace counts what became of hole punching.
func (n *natState) Trace(e *holepunch.Event) {
	switch ev := e.Evt.(type) {
	case *holepunch.EndHolePunchEvt:
		if ev.Success {
			n.add("holes_punched", 1)
		} else {
			n.add("hole_punches_failed", 1)
		}
	case *holepunch.DirectDialEvt:
		if ev.Success {
			n.add("holes_unneeded", 1) // the other side could be dialled
		}
	}
}

// natLoop tells the log how others can reach this node.
func (s *Service) natLoop(ctx context.Context) {
	if !s.cfg.NAT && !s.cfg.Relay {
		return
	}
	sub, err := s.host.EventBus().Subscribe([]any{new(event.EvtHostReachableAddrsChanged), new(event.EvtAutoRelayAddrsUpdated)})
	if err != nil {
		s.log.Error("events of reachability", "err", err)
		return
	}
	defer sub.Close()
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-sub.Out():
			switch ev := e.(type) {
			case event.EvtHostReachableAddrsChanged:
				if len(ev.Reachable) > 0 {
					s.log.Info("others can reach this node", "addrs", ev.Reachable)
				} else if len(ev.Unreachable) > 0 {
					s.log.Info("others can't reach this node", "addrs", ev.Unreachable)
				}
			case event.EvtAutoRelayAddrsUpdated:
				if len(ev.RelayAddrs) > 0 {
					s.log.Info("reached through relays", "addrs", ev.RelayAddrs)
				}
			default:
				if !ok {
					return
				}
			}
		}
	}
}

var errNATAndRelay = errors.New("a node is either behind a NAT or can be reached and relays for others, not both")

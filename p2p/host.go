package p2p

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	libp2pconnmgr "github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
)

// gatedHost is a host whose connection gater Service can steer.
type gatedHost struct {
	host.Host
	gate *gate
	nat  *natState
}

// NewHost builds the real host: the transports that cfg.Listen names (TCP if it names none), TLS and Noise, yamux, no
// relay and no NAT traversal unless cfg asks for them, no discovery, no metrics of its own. extra options come last; tests use them for a simulated
// network. The caller closes the host, after Service.Run has returned.
func NewHost(cfg Config, extra ...libp2p.Option) (host.Host, error) {
	cfg, err := cfg.filled()
	if err != nil {
		return nil, err
	}
	limits, err := resourceManager(&cfg)
	if err != nil {
		return nil, err
	}
	conns, err := libp2pconnmgr.NewConnManager(cfg.MaxPeers*3/4, cfg.MaxPeers, libp2pconnmgr.WithGracePeriod(20*time.Second))
	if err != nil {
		return nil, errors.Join(err, limits.Close())
	}
	allowed, err := peerIDs(cfg.AllowPeers)
	if err != nil {
		return nil, errors.Join(err, conns.Close(), limits.Close())
	}
	g, nat := newGate(), &natState{}
	g.allow(allowed)
	opts := []libp2p.Option{
		libp2p.Identity(cfg.Identity.key),
		libp2p.ListenAddrStrings(cfg.Listen...),
		libp2p.Security(libp2ptls.ID, libp2ptls.New),
		libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(yamux.ID, muxer(cfg.TestNet)),
		libp2p.ResourceManager(limits),
		libp2p.ConnectionManager(conns),
		libp2p.ConnectionGater(g),
		libp2p.UserAgent(cfg.UserAgent),
		libp2p.DisableMetrics(),
		libp2p.Ping(false),
	}
	opts = append(opts, nat.options(&cfg)...)
	if cfg.NetworkKey.Set() {
		opts = append(opts, libp2p.PrivateNetwork(cfg.NetworkKey.psk))
	}
	if len(cfg.External) > 0 {
		opts = append(opts, libp2p.AddrsFactory(announcing(cfg.External)))
	}
	if len(cfg.Listen) == 0 {
		opts = append(opts, libp2p.NoListenAddrs)
	}
	quic := strings.Contains(strings.Join(cfg.Listen, " "), "/quic")
	if len(cfg.Listen) == 0 || strings.Contains(strings.Join(cfg.Listen, " "), "/tcp/") || !quic {
		// With port reuse two nodes would share one listening port, and neither would notice.
		opts = append(opts, libp2p.Transport(tcp.NewTCPTransport, tcp.DisableReuseport()))
	}
	switch {
	case quic && cfg.quic != nil:
		opts = append(opts, libp2p.Transport(cfg.quic))
	case quic:
		opts = append(opts, libp2p.Transport(libp2pquic.NewTransport))
	}
	h, err := libp2p.New(append(opts, extra...)...)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("p2p host on %s: %w", strings.Join(cfg.Listen, ", "), err), conns.Close(), limits.Close())
	}
	nat.host.Store(&h)
	return &gatedHost{Host: h, gate: g, nat: nat}, nil
}

// announcing adds addresses to those that are told to others.
func announcing(external []string) func([]ma.Multiaddr) []ma.Multiaddr {
	var more []ma.Multiaddr
	for _, a := range external {
		more = append(more, ma.StringCast(a)) // checked by Validate
	}
	return func(addrs []ma.Multiaddr) []ma.Multiaddr { return append(slices.Clone(more), addrs...) }
}

// muxer is yamux with a window that fits: one stalled reader can hold a window of memory on our side. 1 MiB is a whole
// answer (wire.MaxAnswer) and plenty for the round trips of one machine.
func muxer(testNet bool) *yamux.Transport {
	c := *yamux.DefaultTransport.Config()
	c.MaxStreamWindowSize = 4 << 20
	if testNet {
		c.MaxStreamWindowSize = 1 << 20
	}
	return (*yamux.Transport)(&c)
}

var _ connmgr.ConnectionGater = (*gate)(nil)

func (g *gate) InterceptPeerDial(p peer.ID) bool                 { return !g.denied(p) }
func (g *gate) InterceptAddrDial(p peer.ID, _ ma.Multiaddr) bool { return !g.denied(p) }
func (g *gate) InterceptAccept(network.ConnMultiaddrs) bool      { return true }
func (g *gate) InterceptSecured(_ network.Direction, p peer.ID, _ network.ConnMultiaddrs) bool {
	return !g.denied(p)
}
func (g *gate) InterceptUpgraded(c network.Conn) (bool, control.DisconnectReason) {
	return !g.denied(c.RemotePeer()), 0
}

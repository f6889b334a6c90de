package p2p

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	libp2pconnmgr "github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/x/rate"
	ma "github.com/multiformats/go-multiaddr"
)

// gatedHost is a host whose connection gater Service can steer.
type gatedHost struct {
	host.Host
	gate *gate
}

// NewHost builds the real host: the transports that cfg.Listen names (TCP if it names none), TLS and Noise, yamux, no
// relay, no NAT traversal, no discovery, no metrics of its own. extra options come last; tests use them for a simulated
// network. The caller closes the host, after Service.Run has returned.
func NewHost(cfg Config, extra ...libp2p.Option) (host.Host, error) {
	cfg, err := cfg.filled()
	if err != nil {
		return nil, err
	}
	limits, err := resourceManager(cfg.TestNet)
	if err != nil {
		return nil, err
	}
	conns, err := libp2pconnmgr.NewConnManager(cfg.MaxPeers*3/4, cfg.MaxPeers, libp2pconnmgr.WithGracePeriod(20*time.Second))
	if err != nil {
		return nil, errors.Join(err, limits.Close())
	}
	g := newGate()
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
		libp2p.DisableRelay(),
		libp2p.DisableMetrics(),
		libp2p.DisableIdentifyAddressDiscovery(),
		libp2p.Ping(false),
	}
	if len(cfg.Listen) == 0 {
		opts = append(opts, libp2p.NoListenAddrs)
	}
	quic := strings.Contains(strings.Join(cfg.Listen, " "), "/quic")
	if len(cfg.Listen) == 0 || strings.Contains(strings.Join(cfg.Listen, " "), "/tcp/") || !quic {
		// With port reuse two nodes would share one listening port, and neither would notice.
		opts = append(opts, libp2p.Transport(tcp.NewTCPTransport, tcp.DisableReuseport()))
	}
	if quic {
		opts = append(opts, libp2p.Transport(libp2pquic.NewTransport))
	}
	h, err := libp2p.New(append(opts, extra...)...)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("p2p host on %s: %w", strings.Join(cfg.Listen, ", "), err), conns.Close(), limits.Close())
	}
	return &gatedHost{Host: h, gate: g}, nil
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

// resourceManager bounds what peers can make us hold: 1 GiB of memory accounted by libp2p at most, an eighth of it
// for a node of a test network. There, private addresses are free of the limits per network prefix, which allow eight
// connections an address: all nodes may share one.
func resourceManager(testNet bool) (network.ResourceManager, error) {
	scaling := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&scaling)
	memory, files := int64(1<<30), 1024
	opts := []rcmgr.Option{rcmgr.WithMetricsDisabled()}
	if testNet {
		memory, files = 128<<20, 512
		var v4, v6 []rcmgr.NetworkPrefixLimit
		var free []rate.PrefixLimit
		for _, p := range privateRanges {
			limit := rcmgr.NetworkPrefixLimit{Network: p, ConnCount: 1 << 20}
			if p.Addr().Is4() {
				v4 = append(v4, limit)
			} else {
				v6 = append(v6, limit)
			}
			free = append(free, rate.PrefixLimit{Prefix: p})
		}
		opts = append(opts, rcmgr.WithNetworkPrefixLimit(v4, v6),
			rcmgr.WithConnRateLimiters(&rate.Limiter{NetworkPrefixLimits: free}))
	}
	return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(scaling.Scale(memory, files)), opts...)
}

// privateRanges are loopback, RFC 1918, link-local and RFC 4193.
var privateRanges = []netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("::1/128"),
	netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10"),
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

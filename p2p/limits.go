package p2p

import (
	"net/netip"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/x/rate"
)

// resourceManager bounds what peers can make us hold: connections and streams by the number of peers that are wanted,
// memory accounted by libp2p to 1 GiB, an eighth of it for a node of a test network. libp2p's own limits for one
// peer, connection and stream stay. docs/operate.md has them as a table, which a test compares.
func resourceManager(cfg *Config) (network.ResourceManager, error) {
	opts := append([]rcmgr.Option{rcmgr.WithMetricsDisabled()}, addressLimits(cfg)...)
	return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limitsOf(cfg)), opts...)
}

func limitsOf(cfg *Config) rcmgr.ConcreteLimitConfig {
	scaling := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&scaling)
	memory := int64(1 << 30)
	if cfg.TestNet {
		memory = 128 << 20
	}
	conns, inbound := connLimits(cfg.MaxPeers)
	system := rcmgr.ResourceLimits{
		Conns: rcmgr.LimitVal(conns), ConnsInbound: rcmgr.LimitVal(inbound), ConnsOutbound: rcmgr.LimitVal(conns),
		Streams: rcmgr.LimitVal(16 * conns), StreamsInbound: rcmgr.LimitVal(16 * inbound), StreamsOutbound: rcmgr.LimitVal(16 * conns),
		FD: rcmgr.LimitVal(2 * conns), Memory: rcmgr.LimitVal64(memory),
	}
	return rcmgr.PartialLimitConfig{System: system}.Build(scaling.Scale(memory, 2*conns))
}

// connLimits are connections at once, all and inbound, of a node that wants so many peers. There is room for those
// that the connection manager has yet to trim, and for second connections to a peer.
func connLimits(maxPeers int) (all, inbound int) { return 2*maxPeers + 128, maxPeers + 64 }

// addressLimits bound connections by where they come from. libp2p allows 8 connections to an IPv4 address or IPv6 /56, and
// one new one each 5 seconds after a burst of 16: a stranger with one address can't take all slots. Nodes of one
// office, or of one carrier's NAT, share an address and are held up by that.
func addressLimits(cfg *Config) []rcmgr.Option {
	if !cfg.SharedAddress && !cfg.TestNet {
		return nil
	}
	free := loopback
	if cfg.TestNet { // all its nodes may share one private address
		free = privateRanges
	}
	var v4, v6 []rcmgr.NetworkPrefixLimit
	rates := rate.Limiter{}
	for _, p := range free {
		limit := rcmgr.NetworkPrefixLimit{Network: p, ConnCount: 1 << 20}
		if p.Addr().Is4() {
			v4 = append(v4, limit)
		} else {
			v6 = append(v6, limit)
		}
		rates.NetworkPrefixLimits = append(rates.NetworkPrefixLimits, rate.PrefixLimit{Prefix: p})
	}
	opts := []rcmgr.Option{rcmgr.WithNetworkPrefixLimit(v4, v6)}
	if cfg.SharedAddress {
		conns, _ := connLimits(cfg.MaxPeers)
		many := rate.Limit{RPS: 10, Burst: conns}
		rates.SubnetRateLimiter = rate.SubnetLimiter{
			IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: many}},
			IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 48, Limit: many}},
		}
		opts = append(opts, rcmgr.WithLimitPerSubnet([]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: conns}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 48, ConnCount: conns}}))
	}
	return append(opts, rcmgr.WithConnRateLimiters(&rates))
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// privateRanges are loopback, RFC 1918, link-local and RFC 4193.
var privateRanges = append([]netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10"),
}, loopback...)

package p2p

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/routing"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
	ma "github.com/multiformats/go-multiaddr"

	"quipu/p2p/wire"
)

// lookupTimeout bounds one Kademlia lookup.
const lookupTimeout = 20 * time.Second

// standing is a host for Kademlia that dials nobody: a lookup reaches the peers that are connected, and whom to connect
// to is decided in dial.go alone, by the book.
type standing struct{ host.Host }

var errStanding = errors.New("not connected, and Kademlia dials nobody")

func (h standing) Connect(_ context.Context, p peer.AddrInfo) error {
	if h.Network().Connectedness(p.ID) == network.Connected {
		return nil
	}
	return errStanding
}

func (h standing) NewStream(ctx context.Context, p peer.ID, ids ...protocol.ID) (network.Stream, error) {
	return h.Host.NewStream(network.WithNoDial(ctx, "standing connections only"), p, ids...)
}

// start begins to serve Kademlia, and mDNS if asked for. Values and providers are off: it finds peers and nothing else.
func (d *discovery) start(lan bool) (err error) {
	opts := []dht.Option{
		dht.ProtocolPrefix(protocol.ID("/quipu/" + d.network.Short())), dht.Mode(dht.ModeServer),
		dht.DisableValues(), dht.DisableProviders(), dht.DisableAutoRefresh(),
		dht.OnRequestHook(d.throttle), dht.LookupCheckConcurrency(32), dht.AddressFilter(d.meaningful),
		// Bootnodes stay out of the table: to whoever heard of one there it would look like a node.
		dht.RoutingTableFilter(func(_ any, p peer.ID) bool { return !d.denied(p) && d.speaks(p, wire.NameStatus) }),
	}
	if !d.testNet {
		opts = append(opts, dht.RoutingTablePeerDiversityFilter(dht.NewRTPeerDiversityFilter(d.host, 2, 4)))
	}
	if d.kad, err = dht.New(standing{d.host}, opts...); err != nil {
		return err
	}
	if lan {
		d.lan = mdns.NewMdnsService(d.host, "_quipu-"+d.network.Short()+"._udp", d)
		if err := d.lan.Start(); err != nil { // a machine may have no network that carries it
			d.log.Warn("mDNS can't start; other ways to find peers go on", "err", err)
			d.lan = nil
		}
	}
	return nil
}

// throttle makes a request over its sender's bucket one of a kind that there isn't, which ends its stream unanswered.
func (d *discovery) throttle(_ context.Context, st network.Stream, q *pb.Message) {
	if !d.allow(st.Conn().RemotePeer(), true) {
		d.stats.add("kad_refused", 1)
		q.Type = -1
	}
}

// HandlePeerFound takes what mDNS found. Only addresses of the local network count: it can't speak for others.
func (d *discovery) HandlePeerFound(info peer.AddrInfo) {
	for i, a := range info.Addrs {
		if ip, ok := dialable(a); ok && i < maxListens && closedRange(ip) >= 0 {
			d.stats.add("mdns_found", 1)
			d.learn(info.ID, a, onLAN, ip)
		}
	}
}

// stop ends what start began.
func (d *discovery) stop() {
	if d.lan != nil {
		d.lan.Close()
	}
	if d.kad != nil {
		if err := d.kad.Close(); err != nil {
			d.log.Debug("closing Kademlia", "err", err)
		}
	}
}

// meaningful are the addresses that Kademlia may keep of others.
func (d *discovery) meaningful(all []ma.Multiaddr) (out []ma.Multiaddr) {
	for _, a := range all {
		if ip, ok := dialable(a); ok && len(out) < maxListens && (d.testNet || closedRange(ip) < 0) {
			out = append(out, a)
		}
	}
	return out
}

// lookup asks connected peers for those closest to a random key, and learns what the ones that we dialled answer.
func (d *discovery) lookup(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	ctx, events := routing.RegisterForQueryEvents(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range events {
			if e.Type != routing.PeerResponse {
				continue
			}
			remote, outbound := d.remoteOf(e.ID)
			from, ok := ipOf(remote)
			if !ok || !outbound {
				continue
			}
			for i, info := range e.Responses {
				if i < maxClosest {
					d.told(info.ID, info.Addrs, from)
				}
			}
		}
	}()
	var key [32]byte
	rand.Read(key[:]) // never fails
	if _, err := d.kad.GetClosestPeers(ctx, string(key[:])); err == nil {
		d.stats.add("kad_lookups", 1)
	}
	cancel() // closes events
	<-done
}

// maxClosest is how many peers of one Kademlia answer count: k of the protocol.
const maxClosest = 20

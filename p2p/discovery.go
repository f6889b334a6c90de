package p2p

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/time/rate"

	"quipu/chain"
	"quipu/p2p/wire"
)

// discovery is how a node or a bootnode comes to know addresses: from peers that it dialled, by asking them (§4.6 of
// docs/protocol.md) and through Kademlia; from any peer where it listens itself; and over mDNS if asked for. What it
// learns goes into the book. It dials nobody.
type discovery struct {
	host    host.Host
	network chain.NetworkID
	testNet bool
	log     *slog.Logger
	stats   *counters
	denied  func(peer.ID) bool
	file    string // of the book; "" keeps it in memory

	kad *dht.IpfsDHT // nil until start
	lan mdns.Service // nil unless asked for

	mu   sync.Mutex
	book *addrBook
	rng  *rand.Rand
	asks map[asker]*rate.Limiter // at most maxAskers
}

// asker is a peer that asks us, over Kademlia or for peers.
type asker struct {
	id  peer.ID
	kad bool
}

// Limits of what one peer asks and tells.
const (
	askEvery   = 10 * time.Second // of one asker, askBurst at once
	askBurst   = 4
	kadEvery   = time.Second / 4 // of one asker, kadBurst at once
	kadBurst   = 40
	maxAskers  = 4096
	maxListens = 8 // addresses of one peer
	askTimeout = 10 * time.Second
)

func newDiscovery(h host.Host, id chain.NetworkID, testNet bool, log *slog.Logger, stats *counters, denied func(peer.ID) bool, file string) *discovery {
	book, err := loadBook(file, id)
	if err != nil {
		log.Warn("starting with an empty address book: --bootstrap, or peers that connect, will fill it", "err", err)
	}
	return &discovery{
		host: h, network: id, testNet: testNet, log: log, stats: stats, denied: denied, file: file, book: book,
		rng: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())), asks: map[asker]*rate.Limiter{},
	}
}

func (d *discovery) protocol(name string) protocol.ID {
	return protocol.ID(wire.ProtocolID(d.network, name))
}

// speaks reports whether a connected peer speaks one of this network's protocols, as far as it has said.
func (d *discovery) speaks(p peer.ID, name string) bool {
	got, err := d.host.Peerstore().SupportsProtocols(p, d.protocol(name))
	return err == nil && len(got) > 0
}

// remoteOf is the address of a connected peer and whether we dialled it. Of several connections ours counts.
func (d *discovery) remoteOf(p peer.ID) (a ma.Multiaddr, outbound bool) {
	for _, c := range d.host.Network().ConnsToPeer(p) {
		if a == nil || !outbound {
			a, outbound = c.RemoteMultiaddr(), c.Stat().Direction == network.DirOutbound
		}
	}
	return a, outbound
}

// identified learns where a peer says that it listens: only if it is a node of this network, and only at the IP address
// it comes from, or anybody could fill the book with addresses of others.
func (d *discovery) identified(p peer.ID, listen []ma.Multiaddr) {
	remote, _ := d.remoteOf(p)
	from, ok := ipOf(remote)
	if !ok || d.denied(p) || !d.speaks(p, wire.NameStatus) {
		return
	}
	for i, a := range listen {
		if ip, ok := dialable(a); ok && i < maxListens && ip == from {
			d.learn(p, a, groupOf(from), from)
		}
	}
}

// told learns what a peer that we dialled says of others. from is its address.
func (d *discovery) told(id peer.ID, addrs []ma.Multiaddr, from netip.Addr) {
	for i, a := range addrs {
		if i < wire.MaxPeerAddrs {
			d.learn(id, a, groupOf(from), from)
		}
	}
}

func (d *discovery) learn(id peer.ID, a ma.Multiaddr, source group, from netip.Addr) {
	ip, ok := dialable(a)
	if !ok || id == d.host.ID() || id.Validate() != nil || !d.testNet && from.IsValid() && !tellable(ip, from) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.book.add(id, a, source, time.Now()) {
		d.stats.add("addrs_learned", 1)
	}
}

// byHand enters a peer that was dialled by its address and has answered as one of this network.
func (d *discovery) byHand(id peer.ID) {
	a, outbound := d.remoteOf(id)
	if _, ok := dialable(a); !ok || !outbound {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	k := knownKey{id, string(a.Bytes())}
	d.book.add(id, a, byHand, time.Now())
	d.book.succeeded(k, time.Now())
}

// ask asks a connected peer whom it knows, and learns it.
func (d *discovery) ask(ctx context.Context, p peer.ID) error {
	remote, outbound := d.remoteOf(p)
	from, ok := ipOf(remote)
	if !ok || !outbound {
		return errors.New("peers are asked only of whom we dialled")
	}
	ctx, cancel := context.WithTimeout(network.WithNoDial(ctx, "standing connections only"), askTimeout)
	defer cancel()
	st, err := d.host.NewStream(ctx, p, d.protocol(wire.NamePeers))
	if err != nil {
		return err
	}
	defer st.Reset()
	defer context.AfterFunc(ctx, func() { st.Reset() })()
	st.SetDeadline(time.Now().Add(askTimeout))
	if err := wire.WriteFrame(st, wire.AppendPeersRequest(nil, wire.MaxPeers)); err != nil {
		return err
	}
	if err := st.CloseWrite(); err != nil {
		return err
	}
	b, err := wire.ReadFrame(st, wire.MaxPeersAnswer)
	if err != nil {
		return err
	}
	all, err := wire.DecodePeers(b, wire.MaxPeers)
	if err != nil {
		return err
	}
	d.stats.add("peers_asked", 1)
	for _, e := range all {
		var addrs []ma.Multiaddr
		for _, raw := range e.Addrs {
			if a, err := ma.NewMultiaddrBytes(raw); err == nil {
				addrs = append(addrs, a)
			}
		}
		d.told(peer.ID(e.ID), addrs, from)
	}
	return nil
}

var errAsked = errors.New("asked for peers too often")

// allow spends one request of a peer's bucket.
func (d *discovery) allow(p peer.ID, kad bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.asks[asker{p, kad}]
	if l == nil {
		if len(d.asks) >= maxAskers {
			clear(d.asks)
		}
		l = rate.NewLimiter(rate.Every(askEvery), askBurst)
		if kad {
			l = rate.NewLimiter(rate.Every(kadEvery), kadBurst)
		}
		d.asks[asker{p, kad}] = l
	}
	return l.Allow()
}

// answer is what a peer that asks for up to max is told: a sample of the book, of addresses that mean something where it
// is. Nothing says when they were last seen.
func (d *discovery) answer(p peer.ID, max int) []byte {
	remote, _ := d.remoteOf(p)
	from, _ := ipOf(remote)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stats.add("peers_answered", 1)
	now := time.Now()
	var out []wire.PeerAddrs
	for _, e := range d.book.sample(d.rng, min(max, wire.MaxPeers), now, func(e *known) bool {
		return e.id != p && (d.testNet || tellable(e.ip(), from))
	}) {
		out = append(out, wire.PeerAddrs{ID: []byte(e.id), Addrs: [][]byte{[]byte(e.addr)}})
	}
	return wire.AppendPeers(nil, out)
}

func (e *known) multiaddr() ma.Multiaddr {
	a, _ := ma.NewMultiaddrBytes([]byte(e.addr)) // it was one when it was entered
	return a
}

func (e *known) ip() netip.Addr {
	ip, _ := ipOf(e.multiaddr())
	return ip
}

// save writes the book if it has changed. A failure is a warning: the node does without.
func (d *discovery) save() {
	d.mu.Lock()
	if d.file == "" || !d.book.changed {
		d.mu.Unlock()
		return
	}
	d.book.changed = false
	raw := d.book.encode(d.network)
	d.mu.Unlock()
	if err := writeBook(d.file, raw); err != nil {
		d.log.Warn("the address book can't be written", "file", d.file, "err", err)
		d.mu.Lock()
		d.book.changed = true
		d.mu.Unlock()
	}
}

package p2p

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"

	"quipu/chain"
	"quipu/p2p/wire"
)

// Bootnode tells newcomers of others and does nothing else: no chain, no gossip. It knows the nodes that connected to
// it, tests their addresses, and asks the bootnodes that it is told of. The tracker of this network.
type Bootnode struct {
	*discovery
	cfg    Config
	stat   counters
	choose *chooser
	r      rhythm
	t      timing
	others []peer.AddrInfo
	slots  chan struct{} // requests being served

	askAt, saveAt time.Time // tend's
}

const bootnodeServing = 64

// NewBootnode makes a bootnode of a network over a host, which the caller keeps and closes.
func NewBootnode(cfg Config, h host.Host, id chain.NetworkID) (*Bootnode, error) {
	if cfg.Identity.key == nil { // a host of a simulated network brings its own
		cfg.Identity = Identity{key: h.Peerstore().PrivKey(h.ID()), id: h.ID()}
	}
	cfg, err := cfg.filled()
	if err != nil {
		return nil, err
	}
	b := &Bootnode{cfg: cfg, r: rhythmOf(cfg.TestNet), t: timingOf(cfg.TestNet), slots: make(chan struct{}, bootnodeServing)}
	g := newGate()
	if gh, ok := h.(*gatedHost); ok {
		h, g = gh.Host, gh.gate
	}
	for _, a := range cfg.Bootstrap {
		info, err := peer.AddrInfoFromString(a)
		if err != nil {
			return nil, err
		}
		if info.ID != h.ID() {
			b.others = append(b.others, *info)
		}
	}
	b.discovery = newDiscovery(h, id, cfg.TestNet, cfg.Log, &b.stat, g.denied, cfg.BookFile)
	b.choose = newChooser(b.book, b.rng, 0, cfg.TestNet) // feelers only
	return b, nil
}

// Run serves until ctx is done.
func (b *Bootnode) Run(ctx context.Context) error {
	sub, err := b.host.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted), eventbus.BufSize(1024))
	if err != nil {
		return err
	}
	defer sub.Close()
	if err := b.start(b.cfg.MDNS); err != nil {
		return err
	}
	defer b.stop()
	b.host.SetStreamHandler(b.protocol(wire.NamePeers), b.serve)
	defer b.host.RemoveStreamHandler(b.protocol(wire.NamePeers))
	defer b.save()
	var tending sync.WaitGroup
	defer tending.Wait()
	tick := time.NewTicker(b.r.tick)
	defer tick.Stop()
	busy := make(chan struct{}, 1)
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-sub.Out():
			if !ok {
				return errors.New("the host is closed")
			}
			ev := e.(event.EvtPeerIdentificationCompleted)
			b.identified(ev.Peer, ev.ListenAddrs)
			if !b.speaks(ev.Peer, wire.NameStatus) && !b.speaks(ev.Peer, wire.NamePeers) {
				b.stat.add("strangers", 1)
				b.drop(ev.Peer)
			}
		case <-tick.C:
			select {
			case busy <- struct{}{}:
				tending.Go(func() {
					defer func() { <-busy }()
					b.tend(ctx, time.Now())
				})
			default: // it still dials
			}
		}
	}
}

// tend asks other bootnodes, tests an address, or writes the book: one of these at a time.
func (b *Bootnode) tend(ctx context.Context, now time.Time) {
	switch {
	case !now.Before(b.askAt):
		b.askAt = now.Add(b.r.again)
		for _, info := range b.others {
			if err := b.dial(ctx, info); err != nil {
				b.log.Debug("another bootnode doesn't answer", "peer", info.ID, "err", err)
			} else if err := b.ask(ctx, info.ID); err != nil {
				b.log.Debug("another bootnode tells nothing", "peer", info.ID, "err", err)
			}
		}
	case !now.Before(b.saveAt):
		b.saveAt = now.Add(b.r.save)
		b.save()
	default:
		b.test(ctx, now)
	}
}

// test dials an address of the book, if it is time to, and says goodbye when its node has said what it speaks.
func (b *Bootnode) test(ctx context.Context, now time.Time) {
	b.mu.Lock()
	sl := b.choose.next(now, func(p peer.ID) bool {
		return p != b.host.ID() && b.host.Network().Connectedness(p) != network.Connected
	}, func(group) bool { return false })
	var info peer.AddrInfo
	if sl != nil {
		info = peer.AddrInfo{ID: sl.id, Addrs: []ma.Multiaddr{b.book.entries[sl.knownKey].multiaddr()}}
	}
	b.mu.Unlock()
	if sl == nil {
		return
	}
	err := b.dial(ctx, info)
	good := err == nil && b.speaks(sl.id, wire.NameStatus)
	if err == nil {
		b.drop(sl.id)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if good {
		b.stat.add("addrs_tested", 1)
		b.choose.answered(sl, now)
		return
	}
	b.stat.add("addrs_dead", 1)
	b.choose.release(sl)
	b.book.failed(sl.knownKey, now, ctx.Err() == nil)
}

// dial returns when the other side has said what it speaks.
func (b *Bootnode) dial(ctx context.Context, info peer.AddrInfo) error {
	ctx, cancel := context.WithTimeout(ctx, b.t.request)
	defer cancel()
	if sw, ok := b.host.Network().(*swarm.Swarm); ok {
		sw.Backoff().Clear(info.ID)
	}
	return b.host.Connect(ctx, info)
}

func (b *Bootnode) drop(p peer.ID) {
	if err := b.host.Network().ClosePeer(p); err != nil {
		b.log.Debug("closing connections", "peer", p, "err", err)
	}
}

// serve answers one request for peers. Whoever asks too often takes no slot, or one that opens streams and says nothing would
// have them all.
func (b *Bootnode) serve(st network.Stream) {
	defer st.Close()
	p := st.Conn().RemotePeer()
	if !b.allow(p, false) {
		b.stat.add("peers_refused", 1)
		st.Reset()
		return
	}
	select {
	case b.slots <- struct{}{}:
		defer func() { <-b.slots }()
	default:
		b.stat.add("requests_refused", 1)
		st.Reset()
		return
	}
	st.SetDeadline(time.Now().Add(b.t.request))
	q, err := wire.ReadFrame(st, wire.MaxPeersRequest)
	if err == nil {
		var max int
		if max, err = wire.DecodePeersRequest(q); err == nil {
			err = wire.WriteFrame(st, b.answer(p, max))
		}
	}
	if err != nil {
		st.Reset()
	}
}

// ID is the bootnode's peer id.
func (b *Bootnode) ID() string { return b.host.ID().String() }

// Addrs are what --bootstrap of others takes.
func (b *Bootnode) Addrs() []string { return addrsOf(b.host) }

// Info is how many addresses it knows, Peers how many are connected, Counters totals since the start.
func (b *Bootnode) Info() BookInfo {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.info()
}

func (b *Bootnode) Peers() int { return len(b.host.Network().Peers()) }

func (b *Bootnode) Counters() map[string]uint64 { return b.stat.all() }

package p2p

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	ma "github.com/multiformats/go-multiaddr"

	"quipu/p2p/wire"
)

// rhythm is how often discovery does what.
type rhythm struct {
	tick   time.Duration
	ask    time.Duration // while slots are empty; ten times as long when they are full
	save   time.Duration
	linger time.Duration // with a bootnode, once there are peers
	again  time.Duration // a bootnode is not redialled before, as long as there are peers
}

func rhythmOf(testNet bool) rhythm {
	if testNet {
		return rhythm{250 * time.Millisecond, 2 * time.Second, 10 * time.Second, 5 * time.Second, 15 * time.Second}
	}
	return rhythm{time.Second, time.Minute, 5 * time.Minute, 30 * time.Second, 5 * time.Minute}
}

const (
	defaultOutbound = 8 // slots
	maxSlotDials    = 4 // at once
)

// finder is a service's side of discovery: the slots, and when to do what next. The book, rng and slots are guarded by
// discovery.mu, which is taken before Service.mu; the rest belongs to discoverLoop.
type finder struct {
	*discovery
	choose *chooser
	r      rhythm

	askAt, lookAt, saveAt time.Time
	looking               chan struct{} // 1 slot: a lookup is under way
	answered              map[peer.ID]bool
	atBootnode            map[peer.ID]time.Time // connected since
}

func (s *Service) newFinder() *finder {
	d := newDiscovery(s.host, s.network, s.cfg.TestNet, s.log, &s.stats, s.gate.denied, s.cfg.BookFile)
	return &finder{
		discovery: d, choose: newChooser(d.book, d.rng, min(defaultOutbound, s.cfg.MaxPeers/2), s.cfg.TestNet), r: rhythmOf(s.cfg.TestNet),
		looking: make(chan struct{}, 1), answered: map[peer.ID]bool{}, atBootnode: map[peer.ID]time.Time{},
	}
}

// discoverLoop fills the slots, asks around and keeps the book, until ctx is done.
func (s *Service) discoverLoop(ctx context.Context) {
	f := s.find
	sub, err := s.host.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted), eventbus.BufSize(256))
	if err != nil {
		s.log.Error("no discovery", "err", err)
		return
	}
	defer sub.Close()
	tick := time.NewTicker(f.r.tick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			f.mu.Lock()
			f.choose.keepAnchors()
			f.mu.Unlock()
			f.save()
			return
		case e, ok := <-sub.Out():
			if !ok {
				return
			}
			ev := e.(event.EvtPeerIdentificationCompleted)
			f.identified(ev.Peer, ev.ListenAddrs)
		case <-tick.C:
			s.tend(ctx, time.Now())
		}
	}
}

// tend does what is due.
func (s *Service) tend(ctx context.Context, now time.Time) {
	f := s.find
	status, targets := s.whoAnswered()
	s.tendSlots(ctx, status, now)
	s.tendBootnodes(ctx, targets, len(status) > 0, now)
	for p := range f.answered {
		if !status[p] {
			delete(f.answered, p)
		}
	}
	for p := range targets {
		if status[p] && !f.answered[p] {
			f.answered[p] = true
			f.byHand(p)
		}
	}
	for range maxSlotDials {
		if !s.dialNext(ctx, now) {
			break
		}
	}
	f.mu.Lock()
	short := f.choose.filled() < f.choose.want
	f.mu.Unlock()
	wait := f.r.ask
	if !short {
		wait *= 10
	}
	if !now.Before(f.askAt) {
		f.askAt = now.Add(wait)
		s.askSomebody(ctx, status)
	}
	if !now.Before(f.lookAt) {
		f.lookAt = now.Add(2 * wait)
		s.lookUp(ctx)
	}
	if !now.Before(f.saveAt) {
		f.saveAt = now.Add(f.r.save)
		s.spawn(f.save)
	}
}

// whoAnswered is the peers that have told us a status, and the connected targets: true if static.
func (s *Service) whoAnswered() (status, targets map[peer.ID]bool) {
	status, targets = map[peer.ID]bool{}, map[peer.ID]bool{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, r := range s.remotes {
		if r.hasStatus {
			status[p] = true
		}
	}
	for _, t := range s.targets {
		if s.remotes[t.info.ID] != nil {
			targets[t.info.ID] = t.static
		}
	}
	return status, targets
}

// tendSlots follows what became of the peers in the slots.
func (s *Service) tendSlots(ctx context.Context, status map[peer.ID]bool, now time.Time) {
	f := s.find
	var leave, fresh []peer.ID
	f.mu.Lock()
	for p, sl := range f.choose.slots {
		switch connected := s.host.Network().Connectedness(p) == network.Connected; {
		case !sl.live: // being dialled
		case !connected && sl.good:
			f.choose.release(sl)
			leave = append(leave, p)
		case !connected, !sl.good && !status[p] && now.Sub(sl.since) > 2*s.t.request:
			f.choose.failed(sl, now)
			leave = append(leave, p)
		case !sl.good && status[p]:
			if f.choose.answered(sl, now) {
				fresh = append(fresh, p)
			} else {
				leave = append(leave, p)
			}
		}
	}
	if sl := f.choose.turnover(now); sl != nil {
		leave = append(leave, sl.id)
		s.count("slots_turned_over")
	}
	s.enough.Store(f.choose.filled() >= (f.choose.want+1)/2)
	f.mu.Unlock()
	for _, p := range leave {
		s.host.ConnManager().Unprotect(p, "slot")
		s.drop(p)
	}
	for _, p := range fresh {
		s.host.ConnManager().Protect(p, "slot")
		s.stays(p)
		s.askPeer(ctx, p)
	}
}

// tendBootnodes asks each bootnode when it is connected, and leaves it for others once there are peers.
func (s *Service) tendBootnodes(ctx context.Context, targets map[peer.ID]bool, peers bool, now time.Time) {
	f := s.find
	for p := range f.atBootnode {
		if _, ok := targets[p]; !ok {
			delete(f.atBootnode, p)
		}
	}
	for p, static := range targets {
		if !s.isBootnode(p) {
			continue
		}
		since, ok := f.atBootnode[p]
		if !ok {
			f.atBootnode[p] = now
			s.askPeer(ctx, p)
			continue
		}
		if !static && peers && now.Sub(since) > f.r.linger {
			s.mu.Lock()
			if t := s.targetOf(p); t != nil {
				t.next = now.Add(f.r.again)
			}
			s.mu.Unlock()
			s.drop(p)
		}
	}
}

// isBootnode reports whether a target finds peers and does nothing else. Who isn't a target is never taken for one.
func (s *Service) isBootnode(p peer.ID) bool {
	if s.find == nil || !s.find.speaks(p, wire.NamePeers) || s.find.speaks(p, wire.NameStatus) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.targetOf(p) != nil
}

// dialNext dials whom the chooser names, if it names anybody.
func (s *Service) dialNext(ctx context.Context, now time.Time) bool {
	f := s.find
	beside := map[group]bool{}
	f.mu.Lock()
	defer f.mu.Unlock()
	dialling := 0
	for _, sl := range f.choose.slots {
		if !sl.live {
			dialling++
		}
	}
	if dialling >= maxSlotDials {
		return false
	}
	for _, c := range s.host.Network().Conns() {
		if ip, ok := ipOf(c.RemoteMultiaddr()); ok && c.Stat().Direction == network.DirOutbound && f.choose.slots[c.RemotePeer()] == nil {
			beside[groupOf(ip)] = true
		}
	}
	sl := f.choose.next(now, func(p peer.ID) bool {
		return p != s.host.ID() && !s.gate.denied(p) && !s.isStatic(p) && s.host.Network().Connectedness(p) != network.Connected
	}, func(g group) bool { return beside[g] })
	if sl == nil {
		return false
	}
	info := peer.AddrInfo{ID: sl.id, Addrs: []ma.Multiaddr{f.book.entries[sl.knownKey].multiaddr()}}
	return s.spawn(func() { s.dialSlot(ctx, sl, info) })
}

func (s *Service) dialSlot(ctx context.Context, sl *slot, info peer.AddrInfo) {
	err := s.dial(ctx, info)
	f := s.find
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		s.log.Debug("dial failed", "peer", sl.id, "err", err)
		if ctx.Err() == nil {
			f.choose.failed(sl, time.Now())
		}
		s.count("slot_dials_failed")
		return
	}
	s.count("slot_dials")
	sl.live = true
	if a, _ := f.remoteOf(sl.id); a != nil { // libp2p may have taken another address that it knew
		if ip, ok := ipOf(a); ok {
			sl.group = groupOf(ip)
		}
	}
}

// stays tells of a peer that came as a feeler's and is kept.
func (s *Service) stays(p peer.ID) {
	s.mu.Lock()
	r := s.remotes[p]
	quiet := r != nil && r.tested
	if quiet {
		r.tested = false
	}
	s.mu.Unlock()
	if quiet {
		s.tellOf(p)
	}
}

// feels reports whether a peer is connected only to be tested.
func (s *Service) feels(p peer.ID) bool {
	if s.find == nil {
		return false
	}
	s.find.mu.Lock()
	defer s.find.mu.Unlock()
	sl := s.find.choose.slots[p]
	return sl != nil && sl.feeler
}

// askSomebody asks one of the peers that we dialled whom it knows.
func (s *Service) askSomebody(ctx context.Context, status map[peer.ID]bool) {
	var all []peer.ID
	for p := range status {
		if _, outbound := s.find.remoteOf(p); outbound && s.find.speaks(p, wire.NamePeers) {
			all = append(all, p)
		}
	}
	for p := range s.find.atBootnode {
		all = append(all, p)
	}
	if len(all) == 0 {
		return
	}
	slices.Sort(all)
	s.find.mu.Lock()
	p := all[s.find.rng.IntN(len(all))]
	s.find.mu.Unlock()
	s.askPeer(ctx, p)
}

func (s *Service) askPeer(ctx context.Context, p peer.ID) {
	s.spawn(func() {
		if err := s.find.ask(ctx, p); err != nil && ctx.Err() == nil {
			s.log.Debug("asking for peers", "peer", p, "err", err)
			if evidenceOf(aboutFrame, err) == Malformed {
				s.charge(p, Malformed, err)
			}
		}
	})
}

func (s *Service) lookUp(ctx context.Context) {
	select {
	case s.find.looking <- struct{}{}:
		s.spawn(func() {
			defer func() { <-s.find.looking }()
			s.find.lookup(ctx)
		})
	default: // one at a time
	}
}

func (s *Service) servePeers(ctx context.Context, r *remote, st network.Stream) error {
	b, err := s.request(r, st, wire.MaxPeersRequest)
	if err != nil {
		return err
	}
	max, err := wire.DecodePeersRequest(b)
	if err != nil {
		return err
	}
	if !s.find.allow(r.id, false) {
		s.count("peers_refused")
		return errAsked
	}
	return s.answer(ctx, r, st, wire.MaxPeersAnswer, func() []byte { return s.find.answer(r.id, max) })
}

// KnownPeer is an entry of the address book.
type KnownPeer struct {
	ID       string
	Addr     string
	Group    string
	Source   string // group of who told it first; "hand", "mdns"
	Tried    bool   // has answered us
	Seen     time.Time
	LastTry  time.Time
	LastGood time.Time
	Fails    int // in a row
}

// BookInfo is how much a node knows of others.
type BookInfo struct {
	New, Tried, Groups   int
	Slots, Want, Anchors int // outbound peers chosen from the book; how many there should be; kept from the last run
}

// BookInfo is zero without discovery.
func (s *Service) BookInfo() BookInfo {
	if s.find == nil {
		return BookInfo{}
	}
	f := s.find
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.info()
	out.Slots, out.Want = f.choose.filled(), f.choose.want
	return out
}

func (d *discovery) info() BookInfo {
	groups := len(d.book.fresh.byGroup)
	for g := range d.book.tried.byGroup {
		if d.book.fresh.byGroup[g] == nil {
			groups++
		}
	}
	return BookInfo{New: d.book.fresh.total, Tried: d.book.tried.total, Groups: groups, Anchors: len(d.book.anchors)}
}

// Book lists up to max entries of the address book: tried ones first, and then by who was heard of last.
func (s *Service) Book(max int) []KnownPeer {
	if s.find == nil {
		return nil
	}
	s.find.mu.Lock()
	defer s.find.mu.Unlock()
	return s.find.list(max)
}

func (d *discovery) list(max int) []KnownPeer {
	var out []KnownPeer
	for _, e := range d.book.entries {
		out = append(out, KnownPeer{
			ID: e.id.String(), Addr: e.multiaddr().String(), Group: string(e.group), Source: string(e.source), Tried: e.proven,
			Seen: e.seen, LastTry: e.tried, LastGood: e.good, Fails: e.fails,
		})
	}
	slices.SortFunc(out, func(a, b KnownPeer) int {
		if a.Tried != b.Tried {
			if a.Tried {
				return -1
			}
			return 1
		}
		if c := b.Seen.Compare(a.Seen); c != 0 {
			return c
		}
		return strings.Compare(a.ID+a.Addr, b.ID+b.Addr)
	})
	return out[:min(len(out), max)]
}

package p2p

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"quipu/chain"
	"quipu/p2p/wire"
)

// remote is a connected peer. Fields from status on are guarded by Service.mu.
type remote struct {
	id       peer.ID
	since    time.Time
	tested   bool // by a feeler: it comes and goes, and nobody is told
	cancel   context.CancelFunc
	announce chan struct{}       // 1 deep: exchange statuses now
	heard    chan struct{}       // 1 deep: it has told us its status
	requests *rate.Limiter       // of what it asks for
	bytes    *rate.Limiter       // of answers we send it
	streams  chan struct{}       // slots of its requests being served
	memory   *semaphore.Weighted // bytes of answers to it
	batches  chan struct{}       // slots of its batches being checked
	pools    *rate.Limiter       // of its questions about our pool
	ignored  *rate.Limiter       // bytes of its batches that were ignored
	shorts   *rate.Limiter       // of its questions by short id: each is a pass over our pool
	vain     *rate.Limiter       // its transactions that were checked and not newly admitted

	// Only the goroutine that follows it touches these.
	walk    *headerWalk
	reached chain.BlockID // the last header it has shown that we have

	status     wire.Status
	hasStatus  bool
	heardAt    time.Time        // when status came
	pool       []chain.LeafHash // the last window of its pool, until acted upon
	rtt, skew  time.Duration
	lastSeen   time.Time
	poolSent   time.Time // when we last showed it a window of our pool
	repairing  bool
	poolPart   uint8 // which part of the pools is compared next; only that comparison touches it
	waiting    bool  // for a slot of header downloads
	fails      int   // in a row
	restUntil  time.Time
	bodies     uint64
	bodyBytes  uint64
	unread     int // large answers in a row that it didn't read to their end
	failedJobs int // in a row; what else it answers well doesn't count
	charges    map[Evidence]uint64
}

// What one peer may ask of us. A node that syncs opens some tens of streams a second.
const (
	maxServing      = 16
	requestsASecond = 100
	requestsBurst   = 300
	bytesASecond    = 64 << 20 // of answers
	bytesBurst      = 16 << 20
	answerMemory    = 64 << 20 // bytes of answers that wait for their readers, all peers'
	smallAnswer     = 2 * wire.MaxStatus
	maxUnread       = 8       // two refills of a peer's share at the largest body
	peerMemory      = 8 << 20 // the same, one peer's; at least 2 × wire.MaxAnswer and chain.MaxBody
)

// What one peer's transactions may cost us for nothing. Honest neighbours bring some twice, in batches of their own.
const (
	ignoredASecond = 1 << 20 // bytes
	ignoredBurst   = 8 << 20
	vainASecond    = 2000 // transactions; a signature takes some tens of µs
	vainBurst      = 16384
)

// wasteful reports a peer that has used up what its transactions may cost for nothing.
func (r *remote) wasteful() bool { return r.ignored.Tokens() <= 0 || r.vain.Tokens() <= 0 }

// spend enters what transactions of the peer came to. Buckets may be overdrawn: they are looked at before.
func (r *remote) spend(raws [][]byte, results []TxResult, v Verdict) {
	size, vain := 0, 0
	for i := range results {
		size += len(raws[i])
		if results[i].Checked && !results[i].Admitted {
			vain++
		}
	}
	now := time.Now()
	if v == Ignore {
		r.ignored.ReserveN(now, min(size, ignoredBurst))
	}
	r.vain.ReserveN(now, min(vain, vainBurst))
}

// addPeer enters a connected peer and starts following it. It returns nil for a peer that the gate denies, whose
// connections it closes, and when the service isn't running.
func (s *Service) addPeer(p peer.ID) *remote {
	if s.gate.denied(p) {
		s.host.Network().ClosePeer(p)
		return nil
	}
	connected := s.host.Network().Connectedness(p) == network.Connected
	tested := s.feels(p)
	s.mu.Lock()
	if r := s.remotes[p]; r != nil || s.ctx == nil || s.ctx.Err() != nil || !connected {
		s.mu.Unlock()
		return r
	}
	ctx, cancel := context.WithCancel(s.ctx)
	r := &remote{
		id: p, since: time.Now(), tested: tested, cancel: cancel, announce: make(chan struct{}, 1), heard: make(chan struct{}, 1),
		requests: rate.NewLimiter(requestsASecond, requestsBurst), bytes: rate.NewLimiter(bytesASecond, bytesBurst),
		shorts:  rate.NewLimiter(shortsASecond, shortsBurst),
		ignored: rate.NewLimiter(ignoredASecond, ignoredBurst), vain: rate.NewLimiter(vainASecond, vainBurst),
		batches: make(chan struct{}, peerBatches), pools: rate.NewLimiter(poolsASecond, poolsBurst),
		streams: make(chan struct{}, maxServing), memory: semaphore.NewWeighted(peerMemory), lastSeen: time.Now(),
	}
	s.remotes[p] = r
	s.wg.Add(1)
	static := s.targetOf(p) != nil
	s.mu.Unlock()
	go func() {
		defer s.wg.Done()
		s.follow(ctx, r)
	}()
	if static {
		s.host.ConnManager().Protect(p, "target")
	}
	if !tested {
		s.tellOf(p)
	}
	return r
}

func (s *Service) tellOf(p peer.ID) {
	s.log.Info("peer connected", "peer", p, "addr", s.addrOf(p))
	s.b.Observe(Event{Kind: PeerUp, Peer: p.String(), Addr: s.addrOf(p)})
}

func (s *Service) removePeer(p peer.ID) {
	if s.host.Network().Connectedness(p) == network.Connected {
		return // it is back already, or had two connections
	}
	s.mu.Lock()
	r := s.remotes[p]
	delete(s.remotes, p)
	s.mu.Unlock()
	if r == nil {
		return
	}
	r.cancel()
	if !r.tested {
		s.log.Info("peer gone", "peer", p)
		s.b.Observe(Event{Kind: PeerDown, Peer: p.String()})
	}
	poke(s.wakeSync)
}

// reconcile makes the peer set what the host says it is.
func (s *Service) reconcile() {
	s.mu.Lock()
	known := make([]peer.ID, 0, len(s.remotes))
	for p := range s.remotes {
		known = append(known, p)
	}
	s.mu.Unlock()
	for _, p := range known {
		s.removePeer(p)
	}
	for _, p := range s.host.Network().Peers() {
		if s.host.Network().Connectedness(p) == network.Connected {
			s.addPeer(p)
		}
	}
}

// drop closes all connections to a peer. The peer set follows by event.
func (s *Service) drop(p peer.ID) {
	if err := s.host.Network().ClosePeer(p); err != nil {
		s.log.Debug("closing connections", "peer", p, "err", err)
	}
}

func (s *Service) remote(p peer.ID) *remote {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remotes[p]
}

// everyone is a snapshot of the connected peers.
func (s *Service) everyone() []*remote {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*remote, 0, len(s.remotes))
	for _, r := range s.remotes {
		out = append(out, r)
	}
	return out
}

// rest keeps a peer from being asked for anything: at least d, doubled for each failure in a row.
func (s *Service) rest(p peer.ID, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.remotes[p]; r != nil {
		d = min(d<<min(r.fails, 10), maxRest)
		r.fails++
		if until := time.Now().Add(d); until.After(r.restUntil) {
			r.restUntil = until
		}
	}
}

// seen notes that a peer has sent something.
func (s *Service) seen(p peer.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.remotes[p]; r != nil {
		r.lastSeen = time.Now()
	}
}

func (s *Service) addrOf(p peer.ID) string {
	if c := s.connTo(p); c != nil {
		return c.RemoteMultiaddr().String()
	}
	return ""
}

// connTo is a connection to p, nil if there is none. One past the relay that brought it about comes first.
func (s *Service) connTo(p peer.ID) network.Conn {
	cs := s.host.Network().ConnsToPeer(p)
	for _, c := range cs {
		if !c.Stat().Limited {
			return c
		}
	}
	if len(cs) == 0 {
		return nil
	}
	return cs[0]
}

// Peers lists the connected peers by id.
func (s *Service) Peers() []PeerInfo {
	s.mu.Lock()
	out := make([]PeerInfo, 0, len(s.remotes))
	for p, r := range s.remotes {
		t := s.targetOf(p)
		out = append(out, PeerInfo{
			ID: p.String(), Static: t != nil && t.static, Since: r.since, BestHeight: r.status.BestHeight,
			TipHeight: r.status.TipHeight, TipID: r.status.TipID, HasStatus: r.hasStatus, RTT: r.rtt, Skew: r.skew,
			LastSeen: r.lastSeen, Bodies: r.bodies, BodyBytes: r.bodyBytes,
			Charges: maps.Clone(r.charges), RestUntil: r.restUntil,
		})
	}
	s.mu.Unlock()
	rates := s.syncNow.ratesNow()
	for i := range out {
		p, _ := peer.Decode(out[i].ID)
		out[i].Rate = rates[p]
		out[i].Addr, out[i].Bootnode = s.addrOf(p), !out[i].HasStatus && s.isBootnode(p)
		if c := s.connTo(p); c != nil {
			out[i].Outbound = c.Stat().Direction == network.DirOutbound
		}
		if v, err := s.host.Peerstore().Get(p, "AgentVersion"); err == nil {
			if text, ok := v.(string); ok {
				out[i].Version = printable(text, 64)
			}
		}
	}
	slices.SortFunc(out, func(a, b PeerInfo) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// printable is outside text fit for a log or a page.
func printable(text string, max int) string {
	text = strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return -1
		}
		return r
	}, text[:min(len(text), max)])
	return text
}

// target is a peer we keep dialling. Guarded by Service.mu.
type target struct {
	info   peer.AddrInfo
	static bool // never banned
	fails  int
	next   time.Time
	busy   bool
}

func (s *Service) addTarget(info peer.AddrInfo, static bool) *target {
	if info.ID == s.host.ID() {
		return nil // a shared list may name ourselves
	}
	if t := s.targetOf(info.ID); t != nil {
		t.static = t.static || static
		t.info.Addrs = append(t.info.Addrs, info.Addrs...)
		t.info.Addrs = t.info.Addrs[max(0, len(t.info.Addrs)-8):]
		return t
	}
	if len(s.targets) >= maxTargets {
		return nil
	}
	t := &target{info: info, static: static}
	s.targets = append(s.targets, t)
	return t
}

func (s *Service) targetOf(p peer.ID) *target {
	for _, t := range s.targets {
		if t.info.ID == p {
			return t
		}
	}
	return nil
}

func (s *Service) isStatic(p peer.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.targetOf(p)
	return t != nil && t.static
}

// redial makes every target due at once.
func (s *Service) redial() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.targets {
		t.fails, t.next = 0, time.Time{}
	}
}

// dialLoop keeps the targets connected: each is redialled with a back-off of its own.
func (s *Service) dialLoop(ctx context.Context) {
	tick := time.NewTicker(min(s.t.redialMin, 500*time.Millisecond))
	defer tick.Stop()
	for {
		for _, t := range s.dueTargets() {
			s.spawn(func() { s.dialTarget(ctx, t) })
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// maxDials bounds the dials under way.
const maxDials = 16

// dueTargets marks those it returns busy.
func (s *Service) dueTargets() (due []*target) {
	now := time.Now()
	connected := map[peer.ID]bool{}
	for _, p := range s.host.Network().Peers() {
		connected[p] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	busy := 0
	for _, t := range s.targets {
		if t.busy {
			busy++
		}
	}
	for _, t := range s.targets {
		if connected[t.info.ID] {
			t.fails = 0
			continue
		}
		if s.enough.Load() && !t.static {
			continue
		}
		if t.busy || now.Before(t.next) || busy+len(due) >= maxDials || s.gate.denied(t.info.ID) {
			continue
		}
		t.busy = true
		due = append(due, t)
	}
	return due
}

func (s *Service) dialTarget(ctx context.Context, t *target) {
	err := s.dial(ctx, t.info)
	s.mu.Lock()
	defer s.mu.Unlock()
	t.busy = false
	wait := min(s.t.redialMin<<min(t.fails, 10), s.t.redialMax)
	t.next = time.Now().Add(wait/2 + rand.N(wait))
	if err != nil {
		t.fails++
		s.log.Debug("dial failed", "peer", t.info.ID, "err", err, "fails", t.fails)
	}
}

// dial connects, past libp2p's own back-off: ours is the one that counts.
func (s *Service) dial(ctx context.Context, info peer.AddrInfo) error {
	ctx, cancel := context.WithTimeout(ctx, s.t.request)
	defer cancel()
	if sw, ok := s.host.Network().(*swarm.Swarm); ok {
		sw.Backoff().Clear(info.ID)
	}
	return s.host.Connect(ctx, info)
}

// Connect dials addr, a multiaddr that ends in /p2p/ID, lifts a ban on it, and keeps it as a static peer.
func (s *Service) Connect(ctx context.Context, addr string) error {
	info, err := peer.AddrInfoFromString(addr)
	if err != nil {
		return fmt.Errorf("peer address %q: want a multiaddr that ends in /p2p/ID: %w", addr, err)
	}
	if info.ID == s.host.ID() {
		return fmt.Errorf("peer address %q is this node's own", addr)
	}
	if !s.gate.allows(info.ID) {
		return fmt.Errorf("peer %s isn't on this node's list of allowed peers", info.ID)
	}
	s.gate.pardon(info.ID)
	s.mu.Lock()
	t := s.addTarget(*info, true)
	s.mu.Unlock()
	if t == nil {
		return fmt.Errorf("%d static peers already", maxTargets)
	}
	return s.dial(ctx, *info)
}

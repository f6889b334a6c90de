package p2p

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/sync/semaphore"

	"quipu/chain"
	"quipu/p2p/wire"
)

// Config is what a node says about its network edge. The zero value of each field has a default that works, but
// for Identity.
type Config struct {
	Identity  Identity
	Listen    []string // multiaddrs without peer id, e.g. /ip4/0.0.0.0/tcp/4820; none: the node only dials
	Static    []string // multiaddrs with /p2p/ID: always redialled, never banned
	Bootstrap []string // multiaddrs with /p2p/ID: always redialled
	MaxPeers  int      // above it connections are trimmed; default 64
	MaxUpload int64    // bytes a second of all answers together; 0 doesn't limit
	TestNet   bool     // a network on one machine: small buffers, short back-offs, private addresses unlimited
	UserAgent string   // default "quipu"
	Log       *slog.Logger

	Discover bool   // find peers beyond Static and Bootstrap; bootstrap peers are then redialled only while peers are few
	BanFile  string // of bans; "" forgets them with the end
	BookFile string // of the address book; "" keeps it in memory
	MDNS     bool   // look for peers on the local network too

	AllowPeers    []string   // peer ids: the only ones that may connect, in or out; nil allows all
	NetworkKey    NetworkKey // who doesn't have it can't connect; TCP only
	External      []string   // multiaddrs without peer id, announced besides those listened on
	NAT           bool       // behind a NAT: find out whether others can reach us, be reached through relays, punch holes
	PortMap       bool       // with NAT: ask the router for a port, by UPnP or NAT-PMP
	Relay         bool       // others can reach this node: it relays for those behind a NAT, and tells them whether they are
	SharedAddress bool       // many peers come from one address: no tighter limit for them than for all

	quic any // tests: constructor of the QUIC transport, which AutoNAT's dialer uses too
}

// Limits of what a person or a config file may ask for.
const (
	maxTargets  = 256
	maxMaxPeers = 1024
	maxExternal = 8
)

// Validate reports the first field that makes no sense, naming the value.
func (c *Config) Validate() error {
	_, err := c.filled()
	return err
}

func (c *Config) filled() (Config, error) {
	if c.Identity.key == nil {
		return *c, errors.New("p2p: no identity")
	}
	return c.Checked()
}

// Checked fills in defaults, and reports the first field that makes no sense; a missing identity is none of them.
func (c *Config) Checked() (Config, error) {
	out := *c
	for _, a := range out.Listen {
		if _, err := ma.NewMultiaddr(a); err != nil {
			return out, fmt.Errorf("listen address %q: %w", a, err)
		}
	}
	if len(out.Static)+len(out.Bootstrap) > maxTargets {
		return out, fmt.Errorf("%d static and bootstrap peers, at most %d", len(out.Static)+len(out.Bootstrap), maxTargets)
	}
	allowed, err := peerIDs(out.AllowPeers)
	if err != nil {
		return out, err
	}
	for _, a := range append(append([]string{}, out.Static...), out.Bootstrap...) {
		info, err := peer.AddrInfoFromString(a)
		if err != nil {
			return out, fmt.Errorf("peer address %q: want a multiaddr that ends in /p2p/ID: %w", a, err)
		}
		if _, ok := allowed[info.ID]; !ok && allowed != nil && info.ID != out.Identity.id {
			return out, fmt.Errorf("peer address %q: the peer isn't on the list of allowed peers", a)
		}
	}
	if err := out.checkNetwork(); err != nil {
		return out, err
	}
	if out.MaxPeers == 0 {
		out.MaxPeers = 64
	}
	if out.MaxPeers < 4 || out.MaxPeers > maxMaxPeers {
		return out, fmt.Errorf("max peers %d: want 4 to %d", out.MaxPeers, maxMaxPeers)
	}
	if err := checkUpload(out.MaxUpload); err != nil {
		return out, err
	}
	if out.UserAgent == "" {
		out.UserAgent = "quipu"
	}
	if out.Log == nil {
		out.Log = slog.New(slog.DiscardHandler)
	}
	return out, nil
}

// timing is every interval of this package. Elapsed times decide about back-off only, never about blame.
type timing struct {
	statusEvery time.Duration // periodic exchange with each peer
	statusMin   time.Duration // least between two exchanges that we open with one peer
	request     time.Duration // a whole status, headers, blocktxs or txstatus exchange
	stall       time.Duration // between two bodies of one answer
	job         time.Duration // a whole job of bodies
	repairDelay time.Duration // a transaction named by a status gets so long to arrive by gossip
	repairAgain time.Duration // a transaction asked for is not asked for again before
	redialMin   time.Duration
	redialMax   time.Duration
	heartbeat   time.Duration // of gossipsub
	meshBackoff time.Duration // after a prune or unsubscribe
}

func timingOf(testNet bool) timing {
	t := timing{
		statusEvery: 5 * time.Second, statusMin: 100 * time.Millisecond, request: 10 * time.Second, stall: 5 * time.Second,
		job: 30 * time.Second, repairDelay: 500 * time.Millisecond, repairAgain: 30 * time.Second,
		redialMin: time.Second, redialMax: time.Minute, heartbeat: time.Second, meshBackoff: 10 * time.Second,
	}
	if testNet {
		t.statusEvery, t.request, t.stall, t.job = 2*time.Second, 5*time.Second, 2*time.Second, 20*time.Second
		t.repairDelay, t.repairAgain = 200*time.Millisecond, 10*time.Second
		t.redialMin, t.redialMax = 250*time.Millisecond, 3*time.Second
		t.heartbeat, t.meshBackoff = 500*time.Millisecond, 2*time.Second
	}
	return t
}

// Service is the network edge of one node. Its exported methods are safe for concurrent use.
type Service struct {
	cfg     Config
	host    host.Host
	gate    *gate
	nat     *natState
	b       Backend
	network chain.NetworkID
	log     *slog.Logger
	t       timing
	stats   counters
	gossip  gossip
	relay   relay
	find    *finder     // nil without discovery
	enough  atomic.Bool // outbound peers from the book: bootstrap peers are left alone

	wg       sync.WaitGroup
	wakeSync chan struct{}       // 1 deep
	pooling  chan struct{}       // 1 deep: the slot of comparing pools
	memory   *semaphore.Weighted // bytes of answers being served
	making   chan struct{}       // slots of ranges of state being made
	upload   *uploads
	answers  atomic.Uint64 // of bodies, so far
	syncNow  syncProgress  // what SyncState reports
	relaying claims        // blocks that the sync loop leaves to the relay
	ranging  ranging       // what others see of headerLoop

	mu        sync.Mutex
	ctx       context.Context // nil before Run; canceled after
	remotes   map[peer.ID]*remote
	targets   []*target
	announced announcers
	asked     map[chain.LeafHash]time.Time // transactions asked for lately
	fetching  int                          // header downloads, at most headerSlots
}

// New makes the service over a host, which the caller keeps and closes. The host should be one of NewHost's: on any
// other, the gate acts only after a connection stands. Nothing runs before Run.
func New(cfg Config, h host.Host, b Backend) (*Service, error) {
	if cfg.Identity.key == nil { // a host of a simulated network brings its own
		cfg.Identity = Identity{key: h.Peerstore().PrivKey(h.ID()), id: h.ID()}
	}
	cfg, err := cfg.filled()
	if err != nil {
		return nil, err
	}
	s := &Service{
		cfg: cfg, host: h, gate: newGate(), nat: &natState{}, b: b, network: b.Genesis().NetworkID(), log: cfg.Log, t: timingOf(cfg.TestNet),
		wakeSync: make(chan struct{}, 1), making: make(chan struct{}, stateMaking),
		pooling: make(chan struct{}, 1),
		upload:  newUploads(cfg.MaxUpload),
		memory:  semaphore.NewWeighted(answerMemory), remotes: map[peer.ID]*remote{}, asked: map[chain.LeafHash]time.Time{},
	}
	if gh, ok := h.(*gatedHost); ok {
		s.host, s.gate, s.nat = gh.Host, gh.gate, gh.nat
	}
	s.ranging.offers = make(chan *headerRun, 1)
	speaks := protocol.ID(wire.ProtocolID(s.network, wire.NameStatus))
	s.nat.speaks.Store(&speaks)
	allowed, err := peerIDs(cfg.AllowPeers)
	if err != nil {
		return nil, err
	}
	s.gate.allow(allowed)
	s.gossip.init()
	s.announced.init()
	for i, a := range append(append([]string{}, cfg.Static...), cfg.Bootstrap...) {
		info, err := peer.AddrInfoFromString(a)
		if err != nil {
			return nil, err
		}
		s.addTarget(*info, i < len(cfg.Static))
	}
	if cfg.Discover {
		s.find = s.newFinder()
	}
	s.loadBans()
	s.register()
	return s, nil
}

// Run joins the network and returns when ctx is done and everything it started has ended, libp2p's own goroutines
// aside: those end when the caller closes the host. An error means that the network could not be joined.
func (s *Service) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sub, err := s.host.EventBus().Subscribe(new(event.EvtPeerConnectednessChanged), eventbus.BufSize(256))
	if err != nil {
		return err
	}
	s.mu.Lock()
	if s.ctx != nil {
		s.mu.Unlock()
		return errors.Join(errors.New("p2p: Run called twice"), sub.Close())
	}
	s.ctx = ctx
	s.mu.Unlock()
	if err := s.startGossip(ctx); err != nil {
		cancel()
		s.wg.Wait()
		return errors.Join(err, sub.Close())
	}
	if s.find != nil {
		if err := s.find.start(s.cfg.MDNS); err != nil {
			cancel()
			s.wg.Wait()
			return errors.Join(err, sub.Close())
		}
		defer s.find.stop()
		s.spawn(func() { s.discoverLoop(ctx) })
	}
	for _, f := range []func(context.Context){s.dialLoop, s.banLoop, s.headerLoop, s.syncLoop, s.batchLoop, s.topicLoop, s.natLoop} {
		s.spawn(func() { f(ctx) })
	}
	s.reconcile()
	s.peerLoop(ctx, sub)
	s.mu.Lock() // after this nothing is spawned any more: ctx is done
	for _, r := range s.remotes {
		r.cancel()
	}
	s.mu.Unlock()
	s.wg.Wait()
	return sub.Close()
}

// spawn runs f in a goroutine that Run waits for, unless the service isn't running.
func (s *Service) spawn(f func()) bool {
	if !s.enter() {
		return false
	}
	go func() {
		defer s.wg.Done()
		f()
	}()
	return true
}

// enter counts the caller among what Run waits for; false if the service isn't running.
func (s *Service) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx == nil || s.ctx.Err() != nil {
		return false
	}
	s.wg.Add(1)
	return true
}

// peerLoop follows which peers are connected, and looks for itself once in a while.
func (s *Service) peerLoop(ctx context.Context, sub event.Subscription) {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.reconcile()
		case e, ok := <-sub.Out():
			if !ok {
				return
			}
			ev := e.(event.EvtPeerConnectednessChanged)
			if ev.Connectedness == network.Connected {
				s.addPeer(ev.Peer)
			} else {
				s.removePeer(ev.Peer)
			}
		}
	}
}

// ID is our peer id.
func (s *Service) ID() string { return s.host.ID().String() }

// Addrs are our listen addresses with /p2p/ID: what another node may dial.
func (s *Service) Addrs() []string { return addrsOf(s.host) }

func addrsOf(h host.Host) []string {
	var out []string
	for _, a := range h.Addrs() {
		out = append(out, a.String()+"/p2p/"+h.ID().String())
	}
	return out
}

// Bans lists the bans in force.
func (s *Service) Bans() []BanInfo { return s.gate.bans() }

// Counters are totals since the start, by name.
func (s *Service) Counters() map[string]uint64 {
	all := s.stats.all()
	maps.Copy(all, s.nat.all())
	return all
}

func (s *Service) count(name string) { s.stats.add(name, 1) }

// Gate blocks exactly these peer ids, closes connections to them, and redials the others at once. None heals.
func (s *Service) Gate(blocked []string) error {
	ids := make([]peer.ID, len(blocked))
	for i, b := range blocked {
		id, err := peer.Decode(b)
		if err != nil {
			return fmt.Errorf("peer id %q: %w", b, err)
		}
		ids[i] = id
	}
	s.gate.block(ids)
	for _, p := range ids {
		s.drop(p)
	}
	s.redial()
	return nil
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

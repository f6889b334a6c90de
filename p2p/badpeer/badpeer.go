// Package badpeer holds liars for tests and test networks: peers that do what the blame table bans for. They speak the
// protocol well enough to be listened to, and attack only the nodes they are pointed at.
package badpeer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"quipu/chain"
	"quipu/p2p"
	"quipu/p2p/wire"
)

// Kinds of liar.
const (
	BadSignature = "bad-signature" // gossips batches of transactions that are signed by the wrong key
	BadBlock     = "bad-block"     // mines a block that pays it all the money there is, and claims to have validated it
)

// Kinds lists them all.
func Kinds() []string { return []string{BadSignature, BadBlock} }

// ErrShunned: no node talks to this peer any more. It is what becomes of a liar among honest nodes.
var ErrShunned = errors.New("no node talks to this peer any more")

// Config says what lie to tell to whom.
type Config struct {
	Kind      string
	Genesis   *chain.Genesis
	Identity  p2p.Identity // zero: a new one
	Bootstrap []string     // multiaddrs with /p2p/ID of the nodes to attack, 1 to 256
	Listen    []string     // multiaddrs; none: it only dials
	Log       *slog.Logger // nil: silence
}

// Validate reports the first field that makes no sense.
func (c *Config) Validate() error {
	if !slices.Contains(Kinds(), c.Kind) {
		return fmt.Errorf("bad peer of kind %q: want one of %q", c.Kind, Kinds())
	}
	if c.Genesis == nil {
		return errors.New("bad peer without a genesis")
	}
	if len(c.Bootstrap) < 1 || len(c.Bootstrap) > 256 {
		return fmt.Errorf("bad peer with %d bootstrap addresses, want 1 to 256", len(c.Bootstrap))
	}
	for _, a := range c.Bootstrap {
		if _, err := peer.AddrInfoFromString(a); err != nil {
			return fmt.Errorf("peer address %q: want a multiaddr that ends in /p2p/ID: %w", a, err)
		}
	}
	return nil
}

const (
	round     = 400 * time.Millisecond // between two claims to the same peer
	patience  = 3 * time.Second        // for one stream or dial
	tryFirst  = 60                     // dials of a node never met
	tryAgain  = 4                      // dials of a node that has dropped us, the wait doubling from one round
	maxVisits = 256
)

// liar is one running bad peer.
type liar struct {
	cfg     Config
	g       *chain.Genesis
	host    host.Host
	log     *slog.Logger
	targets map[peer.ID]*target // only Run's goroutine
	view    *view
	txs     *pubsub.Topic
	blocks  *pubsub.Topic
}

// target is a node to attack.
type target struct {
	info  peer.AddrInfo
	met   bool // it has answered a status
	tries int
	next  time.Time
}

// Run lies until ctx is done (nil) or until nobody listens any more (ErrShunned): a node that never answered is dialled
// 60 times, one that dropped this peer 4 times. It waits for all it started.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Identity.ID() == "" {
		var err error
		if cfg.Identity, err = p2p.NewIdentity(); err != nil {
			return err
		}
	}
	h, err := p2p.NewHost(p2p.Config{
		Identity: cfg.Identity, Listen: cfg.Listen, TestNet: true, UserAgent: "quipu-bad", Log: cfg.Log,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer h.Close() // after cancel: gossip ends first
	defer cancel()
	l, err := start(ctx, cfg, h)
	if err != nil {
		return err
	}
	cfg.Log.Info("bad peer is up", "kind", cfg.Kind, "peer", h.ID(), "nodes", len(l.targets))
	return l.run(ctx)
}

func start(ctx context.Context, cfg Config, h host.Host) (*liar, error) {
	l := &liar{cfg: cfg, g: cfg.Genesis, host: h, log: cfg.Log, targets: map[peer.ID]*target{}, view: newView(cfg.Genesis)}
	for _, a := range cfg.Bootstrap {
		info, err := peer.AddrInfoFromString(a)
		if err != nil {
			return nil, err
		}
		if info.ID != h.ID() {
			l.targets[info.ID] = &target{info: *info}
		}
	}
	// Flood publishing reaches every node that is connected and subscribed; this peer subscribes to nothing.
	ps, err := pubsub.NewGossipSub(ctx, h, pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor(),
		pubsub.WithMessageIdFn(contentID), pubsub.WithFloodPublish(true))
	if err != nil {
		return nil, err
	}
	if l.txs, err = ps.Join(wire.Topic(l.g.NetworkID(), wire.TopicTxs)); err != nil {
		return nil, err
	}
	if l.blocks, err = ps.Join(wire.Topic(l.g.NetworkID(), wire.TopicBlocks)); err != nil {
		return nil, err
	}
	l.serve()
	return l, nil
}

func (l *liar) run(ctx context.Context) error {
	lie := l.forgeBatch
	if l.cfg.Kind == BadBlock {
		lie = l.claimBlock
	}
	tick := time.NewTicker(round)
	defer tick.Stop()
	for {
		l.dial(ctx)
		l.exchange(ctx)
		lie(ctx)
		if ctx.Err() == nil && l.shunned() {
			return ErrShunned
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// dial connects to the targets that are due.
func (l *liar) dial(ctx context.Context) {
	var due []*target
	for id, t := range l.targets {
		if l.connected(id) || t.spent() || time.Now().Before(t.next) {
			continue
		}
		wait := round
		if t.met {
			wait <<= t.tries
		}
		t.tries++
		t.next = time.Now().Add(wait)
		due = append(due, t)
	}
	each(due, func(t *target) {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		if err := l.host.Connect(ctx, t.info); err != nil {
			l.log.Debug("dial failed", "peer", t.info.ID, "err", err)
		}
	})
}

func (t *target) spent() bool { return t.tries >= tryFirst || t.met && t.tries >= tryAgain }

func (l *liar) shunned() bool {
	for _, t := range l.targets {
		if !t.spent() {
			return false
		}
	}
	return len(l.host.Network().Peers()) == 0
}

func (l *liar) connected(id peer.ID) bool {
	return l.host.Network().Connectedness(id) == network.Connected
}

// exchange tells every connected peer our status and learns the chain from what they answer.
func (l *liar) exchange(ctx context.Context) {
	peers := l.host.Network().Peers()
	peers = peers[:min(len(peers), maxVisits)]
	ours := l.status()
	var mu sync.Mutex
	answered := map[peer.ID]wire.Status{}
	each(peers, func(p peer.ID) {
		b, err := l.ask(ctx, p, wire.NameStatus, ours.Append(nil), wire.MaxStatus)
		if err != nil {
			l.log.Debug("status not answered", "peer", p, "err", err)
			return
		}
		if s, err := wire.DecodeStatus(b); err == nil {
			mu.Lock()
			answered[p] = s
			mu.Unlock()
		}
	})
	for p, s := range answered {
		if t := l.targets[p]; t != nil {
			t.met, t.tries = true, 0
		}
		l.learn(ctx, p, &s)
	}
}

// status is what this peer claims. A bad block, once mined, is claimed as validated for ever.
func (l *liar) status() wire.Status {
	top := l.view.claim()
	s := wire.Status{
		BestID: top.ID, BestHeight: top.Header.Height, BestWork: top.Work,
		TipID: top.ID, TipHeight: top.Header.Height, TipWork: top.Work,
		Version: chain.LatestVersion(), Clock: uint64(time.Now().UnixMilli()),
	}
	if _, ok := l.view.badBody(top.ID); ok {
		s.Ranges = []wire.Range{{From: top.Header.Height, To: top.Header.Height}}
	}
	return s
}

// each runs f for all at once and returns when all are done.
func each[T any](list []T, f func(T)) {
	var wg sync.WaitGroup
	for _, v := range list {
		wg.Go(func() { f(v) })
	}
	wg.Wait()
}

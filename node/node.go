// Package node wires ledger, pool, network and API together, and is the one place where they meet: accept.go is the
// path of everything that comes from outside, import.go the path of every block.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"quipu/chain"
	"quipu/chain/ledger"
	"quipu/mempool"
	"quipu/p2p"
	"quipu/rpc"
)

// Node is one full node. New opens everything in order, Run serves until its context ends and closes in reverse.
type Node struct {
	cfg    Config
	g      *chain.Genesis
	log    *slog.Logger
	ledger *ledger.Ledger
	pool   *mempool.Pool
	host   p2p.Host
	net    *p2p.Service
	api    *api // nil without HTTP

	// mu orders writers: whoever changes ledger or pool holds it, so that the pool always stands on the ledger's tip.
	mu       sync.Mutex
	together together
	yield    yield
	own      atomic.Pointer[chain.CheckedBlock] // the last block this node mined: served before it is stored
	verified *verified
	checker  *chain.Checker
	recent   recent    // the last blocks applied, for the relay of rival ones
	inBlocks *verified // leaves in recent blocks of the best chain: not worth fetching from a peer's pool
	timings  timings
	events   *events
	stages   stages
	parked   parked
	tip      tipSignal
	metrics  *metrics
	offered  chain.BlockID // the last header refused because of a checkpoint
	started  time.Time

	hashes, hashRate, blocksMined atomic.Uint64 // the miner's: tried, tried in the last second, found

	settled atomic.Uint64 // how many transactions had arrived in the pool a second ago

	deep       atomic.Pointer[ledger.DeepReorgError] // a heavier chain that undo doesn't reach, nil if none
	overdue    chan struct{}                         // keepUp has something to do
	awaiting   atomic.Bool                           // a snapshot is looked for: the chain stays empty
	snap       snapProgress
	rebuilding atomic.Bool // the chain is applied anew, see startover.go, or awaiting: no transaction is taken
	aside      [][]byte    // what the pool held before; mu guards it

	fault chan error    // one error that is ours and stops Run: a disk fault
	quit  chan struct{} // one request to stop cleanly
}

// New opens the data directory, the ledger, the pool, the network and the API's listener, in this order. On an
// error it closes what it opened.
func New(cfg Config) (n *Node, err error) {
	if n, err = Offline(cfg); err != nil {
		return nil, err
	}
	cfg = n.cfg
	defer func(n *Node) { // the result is nil by then
		if err != nil {
			n.Close()
		}
	}(n)
	identity, err := n.identity()
	if err != nil {
		return nil, err
	}
	n.host = cfg.Host
	netCfg := cfg.network()
	netCfg.Identity = identity
	if n.host == nil {
		if n.host, err = p2p.NewHost(netCfg); err != nil {
			return nil, err
		}
	}
	if n.net, err = p2p.New(netCfg, n.host, n); err != nil {
		return nil, err
	}
	if cfg.SyncSnapshot {
		if err := n.awaitSnapshot(); err != nil {
			return nil, err
		}
	}
	n.loadPool()
	if cfg.HTTP != "" {
		if n.api, err = newAPI(n); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// AllowPeers makes these peer ids the only ones that may connect, in or out; nil allows all again.
func (n *Node) AllowPeers(ids []string) error { return n.net.Allow(ids) }

// Offline is a node without network and API: what a file is imported with while no node runs. Of its methods
// ImportStream, IndexHistory, Tip and Close may be called.
func Offline(cfg Config) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, g: cfg.Genesis, log: cfg.Log, started: time.Now(),
		verified: newVerified(), inBlocks: newVerified(), events: newEvents(), fault: make(chan error, 1), quit: make(chan struct{}, 1),
		overdue: make(chan struct{}, 1),
	}
	n.checker = n.g.NewChecker(cfg.keysRemembered(), n.known)
	n.tip.init()
	if cfg.DataDir != "" {
		if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
			return nil, fmt.Errorf("data directory: %w", err)
		}
	}
	var err error
	n.ledger, err = ledger.Open(ledger.Config{
		Dir: cfg.path("chain"), Genesis: cfg.Genesis, MemTable: cfg.MemTable, FreeSpace: cfg.FreeSpace, Log: cfg.Log,
		UndoKeep: cfg.undoKeep, StateMemory: cfg.StateMemory, Prune: cfg.Prune, History: cfg.History, Checkpoints: cfg.Checkpoints,
		MinWork: cfg.MinWork,
	})
	if err != nil {
		return nil, err
	}
	n.pool = mempool.New(cfg.Genesis, mempool.Config{})
	n.metrics = newMetrics(n)
	if n.ledger.Rebuilding() != nil { // it was interrupted and goes on
		n.putPoolAside()
	}
	return n, nil
}

// identity is kept beside the ledger, or made for the occasion where nothing is on disk.
func (n *Node) identity() (p2p.Identity, error) {
	if n.cfg.DataDir == "" {
		return p2p.NewIdentity()
	}
	return p2p.LoadIdentity(n.cfg.path("node.key"))
}

// Run serves until ctx ends or something of ours fails, waits for all it started and closes everything. It returns
// nil after a clean stop.
func (n *Node) Run(ctx context.Context) error {
	n.events.add(rpc.Event{Kind: "node.up", Height: n.ledger.Tip().Header.Height})
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.net.Run(ctx) })
	g.Go(func() error { return n.housekeep(ctx) })
	g.Go(func() error { return n.keepHistory(ctx) })
	g.Go(func() error { return n.keepSnapshots(ctx) })
	if n.api != nil {
		g.Go(func() error { return n.api.run(ctx) })
	}
	g.Go(func() error { return n.keepUp(ctx) })
	g.Go(func() error { return n.keepBase(ctx) })
	n.overdueNow()
	if n.cfg.Mine {
		g.Go(func() error { return n.mine(ctx) })
	}
	err := g.Wait()
	if errors.Is(err, context.Canceled) || errors.Is(err, errHalted) {
		err = nil
	}
	n.savePool()
	return errors.Join(err, n.Close())
}

// Close closes a node that isn't running. Run does it itself.
func (n *Node) Close() error {
	var errs []error
	if n.host != nil {
		errs = append(errs, n.host.Close())
	}
	if n.ledger != nil {
		errs = append(errs, n.ledger.Close())
	}
	return errors.Join(errs...)
}

// ours handles an error that is no peer's fault: it is logged, and it stops the node, since going on after a disk
// fault could only make things worse.
func (n *Node) ours(err error) {
	n.log.Error("stopping", "err", err)
	n.events.add(rpc.Event{Kind: "node.alarm", Reason: err.Error()})
	select {
	case n.fault <- err:
	default: // one is enough to stop
	}
}

// halt asks Run to stop cleanly.
func (n *Node) halt() {
	select {
	case n.quit <- struct{}{}:
	default:
	}
}

// errHalted ends Run's group without being an error of Run.
var errHalted = errors.New("asked to stop")

// housekeep does what only the clock triggers, parked headers that became due, and stops Run on a fault of ours.
func (n *Node) housekeep(ctx context.Context) error {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	before, beat := uint64(0), 0
	var arrived [4]uint64 // in the pool, by quarter of a second
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-n.fault:
			return err
		case <-n.quit:
			return errHalted
		case <-tick.C:
			n.unpark()
			n.settled.Store(arrived[beat%len(arrived)])
			arrived[beat%len(arrived)] = n.pool.Seq()
			if beat++; beat%4 == 0 {
				tried := n.hashes.Load()
				n.hashRate.Store(tried - before)
				before = tried
			}
		}
	}
}

// tipSignal wakes whoever waits for the next tip: the miner and long polls.
type tipSignal struct {
	mu sync.Mutex
	ch chan struct{}
}

func (t *tipSignal) init() { t.ch = make(chan struct{}) }

// changed closes at the next tip.
func (t *tipSignal) changed() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ch
}

func (t *tipSignal) fire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.ch)
	t.ch = make(chan struct{})
}

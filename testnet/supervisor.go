package testnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"quipu/chain"
	"quipu/rpc"
	"quipu/wallet"
)

const (
	maxHappened = 200                    // entries of what was done
	verbTimeout = 60 * time.Second       // of one control call: a start may take 20 s
	freshFor    = 250 * time.Millisecond // a State this young is given out again
)

// Supervisor is one test network. New makes it, Run starts its nodes and stays with them.
type Supervisor struct {
	cfg     Config
	g       *chain.Genesis
	ln      net.Listener
	server  *rpc.Server
	starter *starter
	started time.Time
	ready   chan struct{} // closed when all nodes answered and were connected
	down    chan struct{} // closed by Down
	record  string        // control.json

	ops sync.Mutex // one verb at a time

	mu       sync.Mutex
	members  []*member
	accounts []Labelled
	sides    [][]string
	cut      *time.Time
	happened []Happened
	ports    []int // stepped over
	readyIn  time.Duration
	closing  bool
	keep     bool

	changed atomic.Bool // since last was made
	stateMu sync.Mutex
	last    State
	lastAt  time.Time
}

// New makes the network's directory, genesis and wallets, binds the control listener and records it where Discover
// looks. Nothing runs yet. *RunningError says that a network is in the way.
func New(cfg Config) (s *Supervisor, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	unlock, err := claim(&cfg)
	if err != nil {
		return nil, err
	}
	defer unlock()
	s = &Supervisor{cfg: cfg, ready: make(chan struct{}), down: make(chan struct{}), keep: cfg.Keep, started: time.Now()}
	fresh := false
	defer func() {
		if err != nil {
			s.release()
			if fresh {
				err = errors.Join(err, os.RemoveAll(cfg.Dir))
			}
		}
	}()
	s.g, err = loadNetwork(cfg.Dir)
	if errors.Is(err, os.ErrNotExist) {
		fresh = true
		if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
			return nil, err
		}
		s.g, err = makeNetwork(&cfg)
	}
	if err != nil {
		return nil, fmt.Errorf("test network %s: %w", cfg.Name, err)
	}
	if err := s.readWallets(); err != nil {
		return nil, fmt.Errorf("test network %s: %w", cfg.Name, err)
	}
	if s.starter, err = newStarter(); err != nil {
		return nil, err
	}
	if s.ln, err = listenControl(cfg.BasePort); err != nil {
		return nil, err
	}
	if s.server, err = s.newServer(); err != nil {
		return nil, err
	}
	s.record = recordPath(cfg.Name)
	return s, s.writeRecord()
}

// readWallets fills in the labelled accounts and the members with their miners' addresses.
func (s *Supervisor) readWallets() error {
	for _, b := range s.g.Balances {
		s.accounts = append(s.accounts, Labelled{Address: chain.EncodeAddress(s.g.Prefix, b.Account), Balance: rpc.Decimal(b.Balance)})
	}
	named := make([]Labelled, 0, len(Labels))
	for _, label := range Labels {
		info, err := wallet.Inspect(wallet.Path(s.Wallets(), label))
		if err != nil {
			return err
		}
		for _, a := range s.accounts {
			if a.Address == info.Address {
				named = append(named, Labelled{label, a.Address, a.Balance})
			}
		}
	}
	s.accounts = named
	for n := 1; n <= s.cfg.Nodes; n++ {
		if _, err := s.newMember(n, Honest); err != nil {
			return err
		}
	}
	return nil
}

// newMember adds a member without ports. An honest one gets its miner's wallet if it has none.
func (s *Supervisor) newMember(n int, kind string) (*member, error) {
	dir := filepath.Join(s.cfg.Dir, nodeName(n))
	m := &member{num: n, name: nodeName(n), kind: kind, dir: dir, log: filepath.Join(s.cfg.Dir, nodeName(n)+".log")}
	if kind == Honest {
		info, err := wallet.Inspect(wallet.Path(s.Wallets(), m.name))
		if errors.Is(err, wallet.ErrNotFound) {
			if err = makeMinerWallet(s.cfg.Dir, s.g, n); err == nil {
				info, err = wallet.Inspect(wallet.Path(s.Wallets(), m.name))
			}
		}
		if err != nil {
			return nil, err
		}
		m.miner = info.Address
	}
	s.members = append(s.members, m)
	return m, nil
}

// Run starts the nodes and stays until ctx ends, Down is called or a node can't be started. Then it stops every child,
// waits for all it started, and removes what the network was, unless it is to be kept.
func (s *Supervisor) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	var g errgroup.Group
	g.Go(func() error { s.starter.run(); return nil })
	g.Go(func() error { return s.server.Serve(serving) })

	startErr := s.bringUp(ctx)
	if startErr == nil {
		close(s.ready)
		select {
		case <-ctx.Done():
		case <-s.down:
		}
	}
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	cancel()
	s.ops.Lock() // a verb under way ends first: it may be starting a process
	err := s.endAll()
	s.ops.Unlock()
	stopServing()
	close(s.starter.jobs)
	err = errors.Join(startErr, err, g.Wait())
	if !s.keep {
		err = errors.Join(err, os.RemoveAll(s.cfg.Dir))
	}
	s.release() // last: whoever waits for the end looks at the record
	if errors.Is(startErr, context.Canceled) {
		return nil // told to stop while starting
	}
	return err
}

// bringUp chooses ports, starts all nodes at once and connects each with each.
func (s *Supervisor) bringUp(ctx context.Context) error {
	s.ops.Lock()
	defer s.ops.Unlock()
	if err := s.launchAll(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	var pairs [][2]*member
	for i, a := range s.members {
		for _, b := range s.members[:i] {
			pairs = append(pairs, [2]*member{a, b})
		}
	}
	s.mu.Unlock()
	if err := s.connect(ctx, pairs); err != nil {
		return err
	}
	if err := s.meshed(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	s.readyIn = time.Since(s.started)
	s.mu.Unlock()
	s.Note("info", "", fmt.Sprintf("%d nodes up, each connected with each", s.cfg.Nodes))
	return nil
}

func (s *Supervisor) launchAll(ctx context.Context) error {
	defer lockPorts()()
	ports := portPicker{next: s.cfg.BasePort}
	for _, m := range s.members {
		var err error
		s.mu.Lock()
		m.p2pPort, m.httpPort, err = ports.pair()
		s.mu.Unlock()
		if err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.ports = ports.taken
	s.mu.Unlock()
	for _, m := range s.members {
		if err := s.launch(m, nil); err != nil {
			return err
		}
	}
	return each(s.members, func(m *member) error { return s.await(ctx, m) })
}

// meshed returns when every node has all others as peers.
func (s *Supervisor) meshed(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout, errors.New("the nodes did not connect to each other in time"))
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := each(s.members, func(m *member) error {
			st, err := m.client().NodeStatus(ctx)
			if err == nil && st.Peers.In+st.Peers.Out < len(s.members)-1 {
				err = fmt.Errorf("%s has %d peers", m.name, st.Peers.In+st.Peers.Out)
			}
			return err
		})
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("%w: %w", context.Cause(ctx), err)
			}
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// endAll stops every child that runs, all at once. s.ops is held.
func (s *Supervisor) endAll() error {
	s.mu.Lock()
	var alive []*member
	for _, m := range s.members {
		if m.child != nil && !m.child.ended() {
			alive = append(alive, m)
		}
	}
	s.mu.Unlock()
	return each(alive, func(m *member) error { return s.end(m, Stopped, sigTerm) })
}

// release gives back what New took outside the data directory.
func (s *Supervisor) release() {
	if s.record != "" {
		os.RemoveAll(filepath.Dir(s.record))
	}
	if s.ln != nil {
		s.ln.Close()
	}
}

// open refuses verbs once the network is on its way down.
func (s *Supervisor) open() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return rpc.Errorf(rpc.NameNotReady, "", "test network %s is stopping", s.cfg.Name)
	}
	return nil
}

// Down makes Run stop everything and return. With keep the data stays.
func (s *Supervisor) Down(keep bool) Down {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep = s.keep || keep
	if !s.closing {
		s.closing = true
		close(s.down)
	}
	return Down{Dir: s.cfg.Dir, Removed: !s.keep}
}

// Ready is closed when all nodes answered and each was connected with each. It stays open if Run fails before.
func (s *Supervisor) Ready() <-chan struct{} { return s.ready }

// ReadyIn is how long that took from New on; 0 before.
func (s *Supervisor) ReadyIn() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.readyIn
}

// Name, Genesis, Dir, Wallets and URL say what and where the network is.
func (s *Supervisor) Name() string            { return s.cfg.Name }
func (s *Supervisor) Genesis() *chain.Genesis { return s.g }
func (s *Supervisor) Dir() string             { return s.cfg.Dir }
func (s *Supervisor) Wallets() string         { return walletsDir(s.cfg.Dir) }
func (s *Supervisor) URL() string             { return s.server.URL() }

// Client talks to a node by name; nil if there is none of that name.
func (s *Supervisor) Client(name string) *rpc.Client {
	m, err := s.find(name)
	if err != nil || m.kind != Honest {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return m.client()
}

// Note remembers something that was done or seen, for State and the page. Kinds are explorer.TestnetLog's.
func (s *Supervisor) Note(kind, node, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed.Store(true)
	s.happened = append(s.happened, Happened{time.Now().UTC(), kind, node, text})
	s.happened = s.happened[max(0, len(s.happened)-maxHappened):]
	s.cfg.Log.Info(text, "network", s.cfg.Name, "kind", kind)
}

// State asks every node that is up how it stands. Answers younger than 250 ms are given out again, unless something
// was done since.
func (s *Supervisor) State(ctx context.Context) State {
	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	if time.Since(s.lastAt) > freshFor || s.changed.Swap(false) {
		s.last, s.lastAt = s.fresh(context.WithoutCancel(ctx)), time.Now()
	}
	return s.last
}

// fresh is State asked anew.
func (s *Supervisor) fresh(ctx context.Context) State {
	s.mu.Lock()
	st := State{
		Schema: Schema, Name: s.cfg.Name, Network: rpc.NetworkOf(s.g), PID: os.Getpid(), URL: s.server.URL(),
		Started: s.started.UTC(), Ready: s.readyIn > 0, Dir: s.cfg.Dir, Wallets: s.Wallets(), Accounts: s.accounts,
		Sides: s.sides, CutSince: s.cut, Ports: s.ports, Happened: append([]Happened{}, s.happened...),
		StartedMS: s.readyIn.Milliseconds(),
	}
	for _, m := range s.members {
		st.Nodes = append(st.Nodes, s.describe(m))
	}
	s.mu.Unlock()
	var wg sync.WaitGroup
	for i := range st.Nodes {
		if n := &st.Nodes[i]; n.State == Up && n.Kind == Honest {
			wg.Go(func() { ask(ctx, n) })
		}
	}
	wg.Wait()
	tips := map[chain.BlockID]bool{}
	for _, n := range st.Nodes {
		if n.Tip != nil {
			tips[*n.Tip] = true
			st.Height = max(st.Height, n.Height)
		}
	}
	st.Tips = len(tips)
	return st
}

// ask fills in what only the node knows.
func ask(ctx context.Context, n *Node) {
	c := rpc.Client{URL: n.HTTP, Timeout: time.Second}
	st, err := c.NodeStatus(ctx)
	if err != nil {
		if ctx.Err() == nil {
			n.State = Silent
		}
		return
	}
	n.Peers, n.Height, n.Tip, n.StateRoot = st.Peers.In+st.Peers.Out, st.Tip.Height, &st.Tip.ID, &st.StateRoot
	n.Sync, n.Mempool, n.Bans = st.Sync.State, st.Mempool.Txs, st.Bans
}

// describe is what is known of a member without asking it. s.mu is held.
func (s *Supervisor) describe(m *member) Node {
	n := Node{Name: m.name, Kind: m.kind, State: m.state(), PeerID: m.peerID, Miner: m.miner, Dir: m.dir, Log: m.log}
	if m.p2pPort != 0 {
		n.P2P, n.HTTP = m.multiaddr(), m.url()
	}
	if m.side > 0 {
		n.Side = string(rune('A' + m.side - 1))
	}
	if m.child != nil && !m.child.ended() {
		n.PID, n.UpMS = m.child.cmd.Process.Pid, time.Since(m.started).Milliseconds()
	} else if m.child != nil && n.State == Exited {
		n.Exit = m.child.exit() + ": " + lastLine(m.log)
	}
	return n
}

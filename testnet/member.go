package testnet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"quipu/rpc"
)

// How long a node may take. Both are far above what is usual, for machines under load.
const (
	answerTimeout = 20 * time.Second // from start to the first answer
	stopTimeout   = 8 * time.Second  // from SIGTERM to the end
	pollEvery     = 15 * time.Millisecond
)

// member is one node or bad peer. Supervisor.mu guards what is below the first group; only a holder of Supervisor.ops
// changes it, but for a process that ends by itself.
type member struct {
	num      int
	name     string
	kind     string
	dir      string
	log      string
	httpPort int // 0 for a bad peer
	p2pPort  int
	miner    string

	peerID  string
	child   *child // nil before the first start
	intent  string // the state an ended process was brought to by us; "" if it ended by itself
	paused  bool
	answers bool // it has answered since its start
	started time.Time
	side    int // of the partition, from 1; 0 is none
}

// state is derived from the process and what was done to it. Supervisor.mu is held.
func (m *member) state() string {
	switch {
	case m.child == nil:
		return Stopped
	case m.child.ended() && m.intent != "":
		return m.intent
	case m.child.ended():
		return Exited
	case m.paused:
		return Paused
	case !m.answers:
		return Starting
	}
	return Up
}

func (m *member) url() string { return "http://" + loopback(m.httpPort) }

func (m *member) multiaddr() string { return fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", m.p2pPort) }

// address is what others dial; "" before the peer id is known. Supervisor.mu is held.
func (m *member) address() string {
	if m.peerID == "" || m.p2pPort == 0 {
		return ""
	}
	return m.multiaddr() + "/p2p/" + m.peerID
}

func (m *member) tokenFile() string { return filepath.Join(m.dir, "rpc.token") }

func (m *member) client() *rpc.Client {
	return &rpc.Client{URL: m.url(), Source: "test network's " + m.name, TokenFile: m.tokenFile(), Timeout: 5 * time.Second}
}

// launch starts a member's process. s.ops is held.
func (s *Supervisor) launch(m *member, bootstrap []string) error {
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return err
	}
	args := append([]string{}, s.cfg.Command...)
	genesis := s.genesisFile()
	if m.kind == Honest {
		args = append(args, "node", "run", "--profile", "testnet", "--data-dir", m.dir, "--genesis", genesis,
			"--listen", m.multiaddr(), "--http", loopback(m.httpPort))
		if m.num <= s.cfg.Miners || m.num > s.cfg.Nodes {
			args = append(args, "--mine", "--mine-rate", fmt.Sprintf("%g", s.cfg.MineRate), "--miner", m.miner)
		}
		args = append(args, s.cfg.NodeArgs...)
	} else {
		args = append(args, "node", "bad", "--kind", m.kind, "--data-dir", m.dir, "--genesis", genesis)
	}
	for _, b := range bootstrap {
		args = append(args, "--bootstrap", b)
	}
	c, err := s.starter.start(args, s.cfg.Env, m.dir, m.log)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m.child, m.intent, m.paused, m.answers, m.started = c, "", false, false, time.Now()
	return nil
}

// await returns when a member answers as itself: an honest node over RPC, with the process id that was started; a bad
// peer by writing its peer id.
func (s *Supervisor) await(ctx context.Context, m *member) error {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout, fmt.Errorf("%s gave no answer within %s", m.name, answerTimeout))
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		id, err := s.greet(ctx, m)
		if err == nil {
			s.mu.Lock()
			m.peerID, m.answers = id, true
			s.mu.Unlock()
			return nil
		}
		select {
		case <-m.child.done:
			return fmt.Errorf("%s ended at its start (%s): %s", m.name, m.child.exit(), lastLine(m.log))
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("%w; its log is %s", context.Cause(ctx), m.log)
			}
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// greet asks a member who it is.
func (s *Supervisor) greet(ctx context.Context, m *member) (peerID string, err error) {
	if m.kind != Honest {
		b, err := os.ReadFile(filepath.Join(m.dir, "peer.id"))
		if err == nil && !strings.HasSuffix(string(b), "\n") {
			err = errors.New("half written")
		}
		return strings.TrimSpace(string(b)), err
	}
	c := m.client()
	c.Timeout = time.Second
	st, err := c.NodeStatus(ctx)
	if err == nil && st.PID != m.child.cmd.Process.Pid {
		err = fmt.Errorf("process %d answers at %s, not %s", st.PID, m.url(), m.name)
	}
	return st.PeerID, err
}

// find is the member a person names. s.mu is not held.
func (s *Supervisor) find(name string) (*member, error) {
	k, err := ParseNode(name)
	if err != nil {
		return nil, rpc.Errorf(rpc.NameInvalidParams, "", "%v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if k > len(s.members) {
		return nil, rpc.Errorf(rpc.NameNotFound, "quipu testnet ps", "there is no node-%d in %s", k, s.cfg.Name)
	}
	return s.members[k-1], nil
}

// act finds a member in one of the states a verb applies to and does it, one verb at a time.
func (s *Supervisor) act(name, verb string, from []string, do func(m *member) error) (Node, error) {
	s.ops.Lock()
	defer s.ops.Unlock()
	defer s.changed.Store(true)
	if err := s.open(); err != nil {
		return Node{}, err
	}
	m, err := s.find(name)
	if err != nil {
		return Node{}, err
	}
	s.mu.Lock()
	state := m.state()
	s.mu.Unlock()
	ok := false
	for _, f := range from {
		ok = ok || f == state
	}
	if !ok {
		return Node{}, rpc.Errorf(rpc.NameRefused, "quipu testnet ps", "%s is %s: nothing to %s", m.name, state, verb)
	}
	if err := do(m); err != nil {
		return Node{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.describe(m), nil
}

// Kill ends a member with SIGKILL: it gets no chance to tidy up.
func (s *Supervisor) Kill(name string) (Node, error) {
	return s.act(name, "kill", []string{Up, Paused, Starting}, func(m *member) error {
		s.Note("kill", m.name, m.name+" killed (SIGKILL)")
		return s.end(m, Killed, os.Kill)
	})
}

// Stop ends a member cleanly, and by force if it takes longer than 8 s.
func (s *Supervisor) Stop(name string) (Node, error) {
	return s.act(name, "stop", []string{Up, Paused, Starting}, func(m *member) error {
		s.Note("stop", m.name, m.name+" stopped")
		return s.end(m, Stopped, sigTerm)
	})
}

// Start starts a member that has ended, on the data it left. It connects by itself.
func (s *Supervisor) Start(ctx context.Context, name string) (Node, error) {
	return s.act(name, "start", []string{Killed, Stopped, Exited}, func(m *member) error {
		s.Note("start", m.name, m.name+" started")
		defer lockPorts()()
		if err := s.freePorts(m); err != nil {
			return err
		}
		s.mu.Lock()
		bootstrap := s.bootstrap(m)
		cut := s.cut != nil
		s.mu.Unlock()
		if err := s.launch(m, bootstrap); err != nil {
			return err
		}
		if err := s.await(ctx, m); err != nil {
			return err
		}
		if cut && m.kind == Honest {
			return s.gate(ctx, m)
		}
		return nil
	})
}

// freePorts moves a member whose ports were taken while it was down: nobody kept them. The port lock is held.
func (s *Supervisor) freePorts(m *member) error {
	var probe portPicker
	if m.kind != Honest || probe.free(m.p2pPort) && probe.free(m.httpPort) {
		return nil
	}
	s.mu.Lock()
	ports := s.morePorts()
	p2p, http, err := ports.pair()
	if err == nil {
		s.ports = append(s.ports, probe.taken...)
		s.ports = append(s.ports, ports.taken...)
		m.p2pPort, m.httpPort = p2p, http
	}
	s.mu.Unlock()
	if err == nil {
		s.Note("info", m.name, fmt.Sprintf("port %d was taken meanwhile; %s moves to %d", probe.taken[0], m.name, p2p))
	}
	return err
}

// morePorts starts above all ports of members. s.mu is held.
func (s *Supervisor) morePorts() portPicker {
	ports := portPicker{next: s.cfg.BasePort}
	for _, o := range s.members {
		ports.next = max(ports.next, o.p2pPort+portStep)
	}
	return ports
}

// Pause stops a member's process without ending it (SIGSTOP): its connections stay open and silent.
func (s *Supervisor) Pause(name string) (Node, error) {
	return s.act(name, "pause", []string{Up}, func(m *member) error {
		if err := m.child.cmd.Process.Signal(sigStop); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		s.Note("pause", m.name, m.name+" paused (SIGSTOP)")
		s.mu.Lock()
		m.paused = true
		s.mu.Unlock()
		return nil
	})
}

// Resume lets a paused member go on.
func (s *Supervisor) Resume(ctx context.Context, name string) (Node, error) {
	return s.act(name, "resume", []string{Paused}, func(m *member) error {
		if err := m.child.cmd.Process.Signal(sigCont); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		s.Note("resume", m.name, m.name+" resumed")
		s.mu.Lock()
		m.paused = false
		s.mu.Unlock()
		if m.kind != Honest {
			return nil
		}
		return s.gate(ctx, m) // a partition may have come or gone meanwhile
	})
}

// bootstrap is whom a member dials: every honest node with a known address, of its own side if there are sides. s.mu is
// held.
func (s *Supervisor) bootstrap(m *member) []string {
	var out []string
	for _, o := range s.members {
		if o != m && o.kind == Honest && (o.side == m.side || m.kind != Honest) && o.address() != "" {
			out = append(out, o.address())
		}
	}
	return out
}

// end signals a running member and waits until it is gone; after stopTimeout it is killed.
func (s *Supervisor) end(m *member, intent string, sig os.Signal) error {
	s.mu.Lock()
	m.intent = intent
	paused := m.paused
	s.mu.Unlock()
	p := m.child.cmd.Process
	if err := p.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	if paused && sig != os.Kill {
		if err := p.Signal(sigCont); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	patience := time.NewTimer(stopTimeout)
	defer patience.Stop()
	select {
	case <-m.child.done:
		return nil
	case <-patience.C:
	}
	s.mu.Lock()
	m.intent = Killed
	s.mu.Unlock()
	if err := p.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	<-m.child.done
	s.Note("kill", m.name, m.name+" did not stop in time and was killed")
	return nil
}

// running is the honest nodes that are up.
func (s *Supervisor) running() []*member {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*member
	for _, m := range s.members {
		if m.kind == Honest && m.state() == Up {
			out = append(out, m)
		}
	}
	return out
}

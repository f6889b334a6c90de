//go:build unix

package testnet

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"quipu/rpc"
)

func (l *launched) state(t *testing.T, node string) Node {
	t.Helper()
	for _, n := range l.State(t.Context()).Nodes {
		if n.Name == node {
			return n
		}
	}
	t.Fatalf("there is no %s", node)
	return Node{}
}

func (l *launched) wantState(t *testing.T, node, state string) Node {
	t.Helper()
	n := l.state(t, node)
	if n.State != state {
		t.Errorf("%s is %s, want %s", node, n.State, state)
	}
	return n
}

// TestVerbs: up, kill, start, stop, pause, resume, down; and verbs that don't apply.
func TestVerbs(t *testing.T) {
	home(t)
	l := launch(t, Config{Nodes: 3})
	st := l.State(t.Context())
	if !st.Ready || len(st.Nodes) != 3 || len(st.Accounts) != 4 || st.Accounts[0].Label != "alice" {
		t.Fatalf("state after the start: %+v", st)
	}
	var pids []int
	for _, n := range st.Nodes {
		pids = append(pids, n.PID)
		if n.State != Up || n.PeerID != "peer-of-"+n.Name || n.PID == 0 || n.PID == os.Getpid() {
			t.Errorf("after the start: %+v", n)
		}
	}
	// Every pair was connected, by the higher number.
	if got := l.told(t, "node-3", "dialled"); !slices.Equal(got, []string{"node-1", "node-2"}) {
		t.Errorf("node-3 was told to dial %v", got)
	}
	if got := l.told(t, "node-1", "bootstrap"); len(got) != 0 {
		t.Errorf("node-1 started with bootstrap %v", got)
	}

	if _, err := l.Kill("node-3"); err != nil {
		t.Fatal(err)
	}
	l.wantState(t, "node-3", Killed)
	gone(t, pids[2])
	for _, again := range []func() (Node, error){
		func() (Node, error) { return l.Kill("3") },
		func() (Node, error) { return l.Stop("3") },
		func() (Node, error) { return l.Pause("3") },
		func() (Node, error) { return l.Resume(t.Context(), "1") },
		func() (Node, error) { return l.Start(t.Context(), "1") },
	} {
		if n, err := again(); !rpc.Is(err, rpc.NameRefused) {
			t.Errorf("a verb that does not apply gave %+v, %v", n, err)
		}
	}
	if _, err := l.Kill("4"); !rpc.Is(err, rpc.NameNotFound) {
		t.Errorf("killing node-4 of three gave %v", err)
	}
	if _, err := l.Kill("x"); !rpc.Is(err, rpc.NameInvalidParams) {
		t.Errorf("killing x gave %v", err)
	}

	// A start after a kill knows the others' addresses and needs nobody to tell it.
	n, err := l.Start(t.Context(), "3")
	if err != nil || n.State != Up || n.PID == pids[2] {
		t.Fatalf("start: %+v, %v", n, err)
	}
	pids[2] = n.PID
	if got := l.told(t, "node-3", "bootstrap"); !slices.Equal(got, []string{"node-1", "node-2"}) {
		t.Errorf("node-3 started again with bootstrap %v", got)
	}

	// While it is down its ports are anyone's.
	if _, err := l.Kill("3"); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", strings.TrimPrefix(n.HTTP, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	moved, err := l.Start(t.Context(), "3")
	if err != nil || moved.HTTP == n.HTTP || moved.P2P == n.P2P {
		t.Errorf("start with its port taken: %+v, %v", moved, err)
	}
	ln.Close()
	pids[2] = moved.PID

	if _, err := l.Pause("2"); err != nil {
		t.Fatal(err)
	}
	l.wantState(t, "node-2", Paused)
	if _, err := l.Resume(t.Context(), "2"); err != nil {
		t.Fatal(err)
	}
	l.wantState(t, "node-2", Up)
	if _, err := l.Stop("1"); err != nil {
		t.Fatal(err)
	}
	l.wantState(t, "node-1", Stopped)
	if _, err := l.Pause("2"); err != nil { // and stays so: down must end a paused one too
		t.Fatal(err)
	}

	dir := l.Dir()
	l.down(t)
	for _, pid := range pids {
		gone(t, pid)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", dir, err)
	}
	if _, _, err := Find(""); !errors.Is(err, ErrNone) {
		t.Errorf("after down a network is found: %v", err)
	}
}

// TestPartition: each node is told to refuse the other sides' peers, one that starts meanwhile too, and healing opens
// all gates and connects across.
func TestPartition(t *testing.T) {
	home(t)
	l := launch(t, Config{Nodes: 4})
	p, err := l.Partition(t.Context(), "1,2/3,node-4")
	if err != nil || p.Links != 4 {
		t.Fatalf("partition: %+v, %v", p, err)
	}
	for node, want := range map[string][]string{
		"node-1": {"node-3", "node-4"}, "node-2": {"node-3", "node-4"}, "node-3": {"node-1", "node-2"}, "node-4": {"node-1", "node-2"},
	} {
		if got := l.told(t, node, "gate"); !slices.Equal(got, want) {
			t.Errorf("%s refuses %v, want %v", node, got, want)
		}
	}
	st := l.State(t.Context())
	if st.CutSince == nil || st.Nodes[0].Side != "A" || st.Nodes[3].Side != "B" {
		t.Errorf("state while cut: %+v", st)
	}
	if _, err := l.Kill("4"); err != nil {
		t.Fatal(err)
	}
	os.Remove(filepath.Join(l.Dir(), "node-4", "gate"))
	if _, err := l.Start(t.Context(), "4"); err != nil {
		t.Fatal(err)
	}
	if got := l.told(t, "node-4", "bootstrap"); !slices.Equal(got, []string{"node-3"}) {
		t.Errorf("node-4 dials %v while cut", got)
	}
	if got := l.told(t, "node-4", "gate"); !slices.Equal(got, []string{"node-1", "node-2"}) {
		t.Errorf("node-4 refuses %v after its start", got)
	}
	for _, bad := range []string{"1,2", "1,2/3", "1,2/3,4,5", "1,1/2,3,4", "", "1,2/3,x"} {
		if _, err := l.Partition(t.Context(), bad); !rpc.Is(err, rpc.NameInvalidParams) {
			t.Errorf("partition %q gave %v", bad, err)
		}
	}
	if p, err = l.Heal(t.Context()); err != nil || p.Links != 4 {
		t.Fatalf("heal: %+v, %v", p, err)
	}
	for _, node := range []string{"node-1", "node-2", "node-3", "node-4"} {
		if got := l.told(t, node, "gate"); len(got) != 0 {
			t.Errorf("%s still refuses %v", node, got)
		}
	}
	if got := l.told(t, "node-4", "dialled"); !slices.Equal(got, []string{"node-1", "node-2"}) {
		t.Errorf("after healing node-4 dialled %v", got)
	}
	if st := l.State(t.Context()); st.CutSince != nil || st.Nodes[0].Side != "" {
		t.Errorf("state after healing: %+v", st)
	}
}

// TestAdd: bad peers are members on no side, without an API.
func TestAdd(t *testing.T) {
	home(t)
	l := launch(t, Config{Nodes: 2})
	if _, err := l.Add(t.Context(), "bad-manners"); !rpc.Is(err, rpc.NameInvalidParams) {
		t.Errorf("a liar of an unknown kind gave %v", err)
	}
	bad, err := l.Add(t.Context(), "bad-block")
	if err != nil || bad.Name != "node-3" || bad.Kind != "bad-block" || bad.PeerID != "liar" {
		t.Fatalf("add --bad: %+v, %v", bad, err)
	}
	if got := l.told(t, "node-3", "bootstrap"); !slices.Equal(got, []string{"node-1", "node-2"}) {
		t.Errorf("the liar dials %v", got)
	}
	if _, err := l.Env("3"); !rpc.Is(err, rpc.NameRefused) {
		t.Errorf("env of a liar gave %v", err)
	}
	good, err := l.Add(t.Context(), "")
	if err != nil || good.Name != "node-4" || good.Kind != Honest || good.Miner == "" {
		t.Fatalf("add: %+v, %v", good, err)
	}
	if _, err := l.Partition(t.Context(), "1/2,4"); err != nil {
		t.Errorf("a partition of the honest ones: %v", err)
	}
	if _, err := l.Partition(t.Context(), "1/2,3,4"); !rpc.Is(err, rpc.NameInvalidParams) {
		t.Errorf("a liar on a side gave %v", err)
	}
}

// TestNodeEndsByItself: what a node said last stands in the state.
func TestNodeEndsByItself(t *testing.T) {
	home(t)
	l := launch(t, Config{Nodes: 2})
	m, err := l.find("2")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.child.cmd.Process.Kill(); err != nil { // not by a verb
		t.Fatal(err)
	}
	<-m.child.done
	l.changed.Store(true)
	n := l.wantState(t, "node-2", Exited)
	if !strings.Contains(n.Exit, "killed") || !strings.Contains(n.Exit, "peer-of-node-2 is up") {
		t.Errorf("it ended with %q", n.Exit)
	}
	if e, err := l.Env(""); err != nil || e.Node != "node-1" {
		t.Errorf("the first that is up: %+v, %v", e, err)
	}
}

// TestNodeRefusesToStart: Run fails with the node's last words, and leaves no process and no data.
func TestNodeRefusesToStart(t *testing.T) {
	home(t)
	s, err := New(Config{Name: "sad", Nodes: 3, BasePort: 24830, Env: []string{actVar + "=" + actNode}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(s.Dir(), "node-2"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Dir(), "node-2", "refuse"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err = s.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "node-2 ended at its start") || !strings.Contains(err.Error(), "no wish to start") {
		t.Errorf("Run gave %v", err)
	}
	for _, m := range s.members {
		if m.child != nil && !m.child.ended() {
			t.Errorf("%s still runs", m.name)
		}
	}
	if _, err := os.Stat(s.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the data is still there: %v", err)
	}
}

// TestSecondTerminal: another process finds the network, gives it verbs with the token, and takes it down; a second up
// is refused with the running one's name; what is kept goes on under its name.
func TestSecondTerminal(t *testing.T) {
	home(t)
	l := launch(t, Config{Name: "first", Nodes: 2})
	_, err := New(Config{Alone: true})
	var running *RunningError
	if !errors.As(err, &running) || running.Name != "first" {
		t.Fatalf("a second network alone gave %v", err)
	}
	if _, err := New(Config{Name: "first"}); !errors.As(err, &running) {
		t.Fatalf("a second network of this name gave %v", err)
	}
	c, r, err := Find("")
	if err != nil || r.Name != "first" || r.PID != os.Getpid() {
		t.Fatalf("Find: %+v, %v", r, err)
	}
	if st, err := os.Stat(recordPath("first")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("control.json: %v, %v", st.Mode(), err)
	}
	if _, _, err := Find("other"); !errors.Is(err, ErrNone) {
		t.Errorf("Find of another name: %v", err)
	}
	env, ok := Discover()
	if !ok || env.Name != "first" || env.RPC != l.Client("1").URL || env.Wallets != l.Wallets() {
		t.Errorf("Discover: %+v, %v", env, ok)
	}
	if n, err := c.Node(t.Context(), "kill", "1"); err != nil || n.State != Killed {
		t.Errorf("kill over RPC: %+v, %v", n, err)
	}
	if env, ok = Discover(); !ok || env.Node != "node-2" {
		t.Errorf("with node-1 down Discover gives %+v", env)
	}
	c.rpc.TokenFile = ""
	if _, err := c.Node(t.Context(), "start", "1"); !rpc.Is(err, rpc.NameUnauthorized) {
		t.Errorf("a verb without the token gave %v", err)
	}
	c, _, _ = Find("first")
	d, err := c.Down(t.Context(), true)
	if err != nil || d.Removed {
		t.Fatalf("down --keep: %+v, %v", d, err)
	}
	if err := AwaitGone(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	g, err := loadNetwork(d.Dir)
	if err != nil || g.NetworkID() != l.Genesis().NetworkID() {
		t.Fatalf("the kept genesis: %v", err)
	}
	again := launch(t, Config{Name: "first", Nodes: 2})
	if again.Genesis().NetworkID() != g.NetworkID() {
		t.Error("up --name on kept data made another network")
	}
}

// TestSupervisorKilled: children don't outlive a supervisor that had no chance to stop them, and the next one cleans up.
func TestSupervisorKilled(t *testing.T) {
	home(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), actVar+"="+actSupervisor)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []int
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "ready" {
		pid, err := strconv.Atoi(lines.Text())
		if err != nil {
			t.Fatalf("the supervisor says %q", lines.Text())
		}
		pids = append(pids, pid)
	}
	if len(pids) != 2 {
		t.Fatalf("children: %v", pids)
	}
	if _, r, err := Find("doomed"); err != nil || r.PID != cmd.Process.Pid {
		t.Errorf("Find: %+v, %v", r, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for _, pid := range pids {
		gone(t, pid)
	}
	if _, _, err := Find("doomed"); !errors.Is(err, ErrNone) {
		t.Errorf("a killed network is found: %v", err)
	}
	left := Leftover()
	if len(left) != 1 || left[0].Name != "doomed" {
		t.Fatalf("leftovers: %+v", left)
	}
	if err := left[0].Clean(false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left[0].Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its data is still there: %v", err)
	}
}

// TestStopWhileStarting: a Ctrl-C during the start leaves nothing.
func TestStopWhileStarting(t *testing.T) {
	home(t)
	s, err := New(Config{Nodes: 2, BasePort: 24830, Env: []string{actVar + "=" + actNode}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("Run gave %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("Run does not end")
	}
	if _, err := os.Stat(s.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the data is still there: %v", err)
	}
}

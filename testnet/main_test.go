//go:build unix

package testnet

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"quipu/rpc"
)

// The test binary plays three parts: the tests; with actNode a stand-in for a node, which answers what a supervisor
// asks; with actSupervisor a supervisor of such stand-ins, to be killed.
const (
	actVar        = "TESTNET_TEST_ACT"
	actNode       = "node"
	actSupervisor = "supervisor"
)

func TestMain(m *testing.M) {
	WatchParent()
	switch os.Getenv(actVar) {
	case actNode:
		if err := standIn(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case actSupervisor:
		if err := superviseStandIns(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	default:
		os.Exit(m.Run())
	}
}

// standIn takes a node's command line, serves node_status, admin_gate and admin_connect, and writes what it was told
// into its data directory.
func standIn(args []string) error {
	var dir, addr string
	var bootstrap []string
	f := flag.NewFlagSet("node", flag.ContinueOnError)
	f.StringVar(&dir, "data-dir", "", "")
	f.StringVar(&addr, "http", "", "")
	for _, name := range []string{"genesis", "listen", "profile", "mine-rate", "miner", "kind"} {
		f.String(name, "", "")
	}
	f.Bool("mine", false, "")
	f.Func("bootstrap", "", func(s string) error { bootstrap = append(bootstrap, s); return nil })
	if err := f.Parse(args[2:]); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "refuse")); err == nil {
		return errors.New("first words\nquipu: this node has no wish to start")
	}
	var mu sync.Mutex // calls come in at once
	say := func(file string, v any) {
		text, _ := json.Marshal(v)
		_ = os.WriteFile(filepath.Join(dir, file), text, 0o600)
	}
	say("bootstrap", bootstrap)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if slices.Equal(args[:2], []string{"node", "bad"}) {
		if err := os.WriteFile(filepath.Join(dir, "peer.id"), []byte("liar\n"), 0o600); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}
	id := "peer-of-" + filepath.Base(dir)
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	var dialled []string
	s, err := rpc.New(rpc.Config{TokenFile: filepath.Join(dir, "rpc.token"), Methods: []rpc.Entry{
		rpc.Method("node_status", "", false, func(context.Context, rpc.NoParams) (rpc.NodeStatus, error) {
			return rpc.NodeStatus{PID: os.Getpid(), PeerID: id, Peers: rpc.PeerCount{In: MaxNodes}}, nil
		}),
		rpc.Method("admin_gate", "", true, func(_ context.Context, p rpc.AdminGateParams) (rpc.AdminGate, error) {
			say("gate", p.Block)
			return rpc.AdminGate{Blocked: p.Block}, nil
		}),
		rpc.Method("admin_connect", "", true, func(_ context.Context, p rpc.AdminConnectParams) (rpc.AdminConnect, error) {
			mu.Lock()
			defer mu.Unlock()
			dialled = append(dialled, p.Addr[strings.LastIndex(p.Addr, "/")+1:])
			say("dialled", dialled)
			return rpc.AdminConnect{}, nil
		}),
	}}, ln)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, id+" is up")
	return s.Serve(ctx)
}

// superviseStandIns runs a network until it is killed, and says on stdout which processes there are.
func superviseStandIns() error {
	s, err := New(Config{Name: "doomed", Nodes: 2, BasePort: 24830, Env: []string{actVar + "=" + actNode}})
	if err != nil {
		return err
	}
	go func() {
		<-s.Ready()
		for _, n := range s.State(context.Background()).Nodes {
			fmt.Println(n.PID)
		}
		fmt.Println("ready")
	}()
	return s.Run(context.Background())
}

// home gives a test directories of its own to keep state in.
func home(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("XDG_STATE_HOME", filepath.Join(dir, "state"))
	t.Setenv("XDG_RUNTIME_DIR", filepath.Join(dir, "run"))
}

// launched is a running network of stand-ins.
type launched struct {
	*Supervisor
	ended chan error
	stop  context.CancelFunc
}

// launch starts a network of n stand-ins and waits until it is ready. It is brought down with the test.
func launch(t *testing.T, cfg Config) *launched {
	t.Helper()
	cfg.Env = append(cfg.Env, actVar+"="+actNode)
	cfg.BasePort = 24830
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	l := &launched{s, make(chan error, 1), stop}
	go func() { l.ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-l.ended:
			if err != nil {
				t.Errorf("the network ended with %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Error("the network does not end")
		}
	})
	select {
	case <-s.Ready():
	case err := <-l.ended:
		l.ended <- nil
		t.Fatalf("the network did not start: %v", err)
	}
	return l
}

// down ends the network and waits for it.
func (l *launched) down(t *testing.T) {
	t.Helper()
	l.stop()
	if err := <-l.ended; err != nil {
		t.Errorf("the network ended with %v", err)
	}
	l.ended <- nil
}

// told is what a stand-in was told, sorted.
func (l *launched) told(t *testing.T, node, file string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(l.Dir(), node, file))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	for i := range out {
		out[i] = strings.TrimPrefix(out[i][strings.LastIndex(out[i], "/")+1:], "peer-of-")
	}
	slices.Sort(out)
	return out
}

// gone waits until no process has this id any more. Its parent must have waited for it.
func gone(t *testing.T, pid int) {
	t.Helper()
	for range 400 {
		if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
			return
		}
		if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && strings.Contains(string(text), ") Z ") {
			return // ended, and nobody has asked how: init of a container may never do
		}
		<-time.After(25 * time.Millisecond)
	}
	t.Errorf("process %d lives on", pid)
}

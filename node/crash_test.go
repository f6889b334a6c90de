package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"testing"
	"time"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/chain/ledger"
	"quipu/rpc"
)

// TestMain lets the test binary be a node of its own process: the one that gets killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("QUIPU_TEST_NODE_DIR"); dir != "" {
		run := func() error { return childNode(dir, os.Getenv("QUIPU_TEST_NODE_BOOTSTRAP")) }
		if how := os.Getenv("QUIPU_TEST_NODE_FEED"); how != "" {
			run = func() error { return feedNode(dir, how, os.Getenv("QUIPU_TEST_NODE_SCRIPT")) }
			if how == "snapshot" {
				run = func() error { return snapshotNode(dir, os.Getenv("QUIPU_TEST_NODE_SCRIPT")) }
			}
		}
		if err := run(); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// crashGenesis has quick blocks, so that a node killed at any moment is writing.
func crashGenesis() *chain.Genesis {
	return chaintest.Genesis(func(g *chain.Genesis) { g.Spacing, g.HalfLife = 100, 102_400 }, alice, bob)
}

func childNode(dir, bootstrap string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	n, err := New(Config{
		DataDir: dir, Genesis: crashGenesis(), Listen: []string{"/ip4/127.0.0.1/tcp/0"}, HTTP: "127.0.0.1:0",
		Bootstrap: []string{bootstrap}, Mine: true, MineRate: 20, Miner: carol.Account, TestNet: true,
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	fmt.Println(n.api.server.URL())                       // ready
	go func() { io.Copy(io.Discard, os.Stdin); stop() }() // never outlives the test
	return n.Run(ctx)
}

// A node that syncs from one that mines, and mines itself, is killed ten times in a row at random moments. Each time it
// opens again with all it had made durable, its state root is the one its tip commits to (Open compares them), and it
// goes on; at the end an independent replay of its chain agrees with all that is stored.
func TestKill9TenTimes(t *testing.T) {
	kills := 10
	if os.Getenv("QUIPU_LONG") != "" {
		kills = 100
	}
	g := crashGenesis()
	seed, err := New(Config{
		Genesis: g, Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Mine: true, MineRate: 40, Miner: alice.Account, TestNet: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	seedDone := make(chan error, 1)
	go func() { seedDone <- seed.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-seedDone; err != nil {
			t.Errorf("seed: %v", err)
		}
	}()

	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(1, 2))
	last := uint64(0) // the highest tip the child has told of
	for i := range kills {
		child := startChild(t, dir, seed.net.Addrs()[0])
		s := child.status(t)
		if s.Tip.Height < last {
			t.Fatalf("kill %d: opened at height %d, had told of %d", i, s.Tip.Height, last)
		}
		// It must make progress past what it opened with, then it dies a random moment later.
		for last = s.Tip.Height; last < s.Tip.Height+1+rng.Uint64N(3); {
			last = max(last, child.status(t).Tip.Height)
		}
		for range rng.IntN(8) { // a fraction of a ms each, so that the kill falls anywhere in the making of a block
			last = max(last, child.status(t).Tip.Height)
		}
		if err := child.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		child.cmd.Wait()
	}

	child := startChild(t, dir, seed.net.Addrs()[0])
	for s := child.status(t); s.Tip.Height <= last || s.Peers.In+s.Peers.Out == 0; {
		s = child.status(t)
	}
	if err := child.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := child.cmd.Wait(); err != nil {
		t.Fatalf("clean stop: %v\n%s", err, child.stderr.String())
	}
	report, err := ledger.Verify(t.Context(), ledger.Config{Dir: dir + "/chain", Genesis: g}, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if report.Height <= last {
		t.Errorf("replay ends at height %d, the node had told of %d", report.Height, last)
	}
	t.Logf("%d kills; replayed %d blocks to %s, state root %s", kills, report.Height, report.Tip, report.StateRoot)
}

type child struct {
	cmd    *exec.Cmd
	client *rpc.Client
	stderr *bytes.Buffer
}

func startChild(t *testing.T, dir, bootstrap string) *child {
	t.Helper()
	c := &child{cmd: exec.Command(os.Args[0]), stderr: &bytes.Buffer{}}
	c.cmd.Env = append(os.Environ(), "QUIPU_TEST_NODE_DIR="+dir, "QUIPU_TEST_NODE_BOOTSTRAP="+bootstrap)
	c.cmd.Stderr = c.stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); c.cmd.Process.Kill(); c.cmd.Wait() })
	line := make([]byte, 64)
	k, err := out.Read(line)
	if err != nil {
		c.cmd.Wait()
		t.Fatalf("the node did not open: %v\n%s", err, c.stderr.String())
	}
	c.client = &rpc.Client{URL: strings.TrimSpace(string(line[:k]))}
	return c
}

func (c *child) status(t *testing.T) rpc.NodeStatus {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	s, err := c.client.NodeStatus(ctx)
	if err != nil {
		t.Fatalf("status: %v\n%s", err, c.stderr.String())
	}
	return s
}

// Errors at start and while running: one sentence, a type to branch on, nothing lost.
func TestRefusalsAtStart(t *testing.T) {
	g := crashGenesis()
	dir := t.TempDir()
	start := func(edit func(*Config)) (*Node, error) {
		cfg := Config{DataDir: dir, Genesis: g, Listen: []string{"/ip4/127.0.0.1/tcp/0"}, TestNet: true}
		if edit != nil {
			edit(&cfg)
		}
		return New(cfg)
	}
	first, err := start(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := start(nil); !errors.Is(err, ledger.ErrLocked) {
		t.Errorf("second node on one data directory: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	other := chaintest.Genesis(nil, carol)
	if _, err := start(func(c *Config) { c.Genesis = other }); !errors.Is(err, ledger.ErrWrongGenesis) {
		t.Errorf("another network's data directory: %v", err)
	}
	var low *ledger.LowSpaceError
	if _, err := start(func(c *Config) { c.FreeSpace = func(string) (uint64, error) { return 1 << 20, nil } }); !errors.As(err, &low) {
		t.Errorf("a full disk: %v", err)
	}
	if _, err := start(func(c *Config) { c.Mine = true }); !errors.Is(err, ErrNoMiner) {
		t.Errorf("mining for nobody: %v", err)
	}
	if again, err := start(nil); err != nil {
		t.Errorf("after all refusals: %v", err)
	} else if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// The disk fills while a node mines: it stops by itself with the error that says so, and opens again when there is room.
func TestDiskFillsWhileRunning(t *testing.T) {
	g := crashGenesis()
	dir := t.TempDir()
	free := make(chan uint64, 1)
	free <- 1 << 40
	space := func(string) (uint64, error) { v := <-free; free <- v; return v, nil }
	n, err := New(Config{
		DataDir: dir, Genesis: g, Listen: []string{"/ip4/127.0.0.1/tcp/0"}, TestNet: true, FreeSpace: space,
		Mine: true, MineRate: 200, Miner: carol.Account,
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- n.Run(t.Context()) }()
	for n.Tip().Header.Height < 2 {
		<-n.tip.changed()
	}
	<-free
	free <- 1 << 20
	var low *ledger.LowSpaceError
	if err := <-done; !errors.As(err, &low) {
		t.Fatalf("Run: %v, want a LowSpaceError", err)
	}
	report, err := ledger.Verify(t.Context(), ledger.Config{Dir: dir + "/chain", Genesis: g}, 0, nil)
	if err != nil || report.Height < 2 {
		t.Errorf("after the stop: height %d, %v", report.Height, err)
	}
}

package node

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/chain/ledger"
	"quipu/rpc"
)

// crowdGenesis has so many accounts that a snapshot isn't written in no time.
func crowdGenesis() *chain.Genesis {
	return chaintest.Genesis(func(g *chain.Genesis) {
		g.Spacing, g.HalfLife = 100, 102_400
		for i := range uint64(80_000) {
			a := sha256.Sum256(binary.LittleEndian.AppendUint64([]byte("crowd"), i))
			g.Balances = append(g.Balances, chain.GenesisBalance{Account: a, Balance: 1 + i})
		}
	}, alice, bob)
}

// snapshotNode is the process that gets killed: it applies the next block of a file, says its height and writes a
// snapshot of it.
func snapshotNode(dir, file string) error {
	go func() { io.Copy(io.Discard, os.Stdin); os.Exit(0) }() // never outlives the test
	n, err := Offline(Config{DataDir: dir, Genesis: crowdGenesis(), TestNet: true, snapshots: 1})
	if err != nil {
		return err
	}
	blocks, err := readScript(file)
	if err != nil {
		return err
	}
	n.ledger.PinEvery(1)
	next := blocks[n.Tip().Header.Height]
	if _, err := n.AddHeaders([]chain.Header{next.Header}); err != nil {
		return err
	}
	if err := n.Import([]chain.Block{next}); err != nil {
		return err
	}
	fmt.Println(next.Header.Height)
	return n.keepSnapshots(context.Background())
}

// A process is killed at random moments while it writes a snapshot. Each time the next one opens, tidies up what was
// left, and what it lists is whole and served.
func TestKilledWhileWritingASnapshot(t *testing.T) {
	t.Parallel() // it waits for the disk
	want := 3
	if os.Getenv("QUIPU_LONG") != "" {
		want = 40
	}
	gen := chaintest.New(crowdGenesis())
	blocks := gen.Chain("m", 20*want, nil)
	file, dir := writeScript(t, blocks), t.TempDir()
	rng := rand.New(rand.NewPCG(4, 4))
	midway, whole := 0, 0
	for i := 0; midway < want || whole == 0; i++ {
		if i == len(blocks) {
			t.Fatalf("%d kills left half a file, %d a whole one", midway, whole)
		}
		begun, written := newFile(t, filepath.Join(dir, "snapshots"), "making-*"), newFile(t, filepath.Join(dir, "snapshots"), "state-*")
		moment := time.Duration(rng.IntN(60)) * time.Millisecond
		killSnapshotNode(t, dir, file, func() {
			if begun(); i%3 == 2 {
				written()
			} else {
				<-time.After(moment) // nothing is waited for: this draws the moment of the kill
			}
		})
		if halves, _ := filepath.Glob(filepath.Join(dir, "snapshots", "making-*")); len(halves) > 0 {
			midway++
		}
		whole = max(whole, snapshotsAreWhole(t, gen, dir))
	}
	t.Logf("%d kills left half a file", midway)
}

// killSnapshotNode kills the process once kill returns, which is called when it has begun.
func killSnapshotNode(t *testing.T, dir, file string, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	var stderr strings.Builder
	cmd.Env = append(os.Environ(), "QUIPU_TEST_NODE_DIR="+dir, "QUIPU_TEST_NODE_FEED=snapshot", "QUIPU_TEST_NODE_SCRIPT="+file)
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, lerr := bufio.NewReader(stdout).ReadString('\n')
	kill()
	cmd.Process.Kill()
	cmd.Wait()
	if lerr != nil || cmd.ProcessState.ExitCode() != -1 {
		t.Fatalf("it ended by itself: %s", stderr.String())
	}
}

// newFile returns a function that waits for a file that isn't there now, or was in the meantime: half a snapshot becomes
// a whole one.
func newFile(t *testing.T, dir, pattern string) func() {
	list := func() []string {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Error(err)
		}
		whole, _ := filepath.Glob(filepath.Join(dir, "state-*"))
		return append(files, whole...)
	}
	before := list()
	return func() {
		for start := time.Now(); time.Since(start) < time.Minute; time.Sleep(time.Millisecond) {
			if slices.ContainsFunc(list(), func(f string) bool { return !slices.Contains(before, f) }) {
				return
			}
		}
		t.Error("no snapshot in a minute")
	}
}

// snapshotsAreWhole opens the node as it was left, and returns how many files it lists.
func snapshotsAreWhole(t *testing.T, gen *chaintest.Gen, dir string) int {
	t.Helper()
	n, err := Offline(Config{DataDir: dir, Genesis: gen.G, TestNet: true, snapshots: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if err := n.keepSnapshots(stopped); err != nil { // it begins by tidying up
		t.Fatal(err)
	}
	dir = filepath.Join(dir, "snapshots")
	all, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	a := &api{n: n}
	list, err := a.stateSnapshots(t.Context(), rpc.NoParams{})
	if err != nil || len(list.Snapshots) != len(all) || len(all) > ledger.SnapshotsKept {
		t.Fatalf("%d files, %d listed (%v)", len(all), len(list.Snapshots), err)
	}
	for i, s := range list.Snapshots {
		f, err := ledger.OpenSnapshot(filepath.Join(dir, all[i].Name()))
		if err != nil {
			t.Fatal(err)
		}
		err = f.Verify()
		f.Close()
		block := gen.Get(fmt.Sprint("m", s.Height))
		if err != nil || s.Block != block.ID() {
			t.Fatalf("%+v: %v", s, err)
		}
		r, err := a.stateRange(t.Context(), rpc.StateRangeParams{Height: s.Height, Max: 100})
		if err == nil {
			_, _, _, err = r.Verify(block.Header.StateRoot, chain.Hash{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return len(all)
}

// crowdNode has accounts pinned, and what it logs from Warn on.
func crowdNode(t *testing.T, edit func(*Config)) (n *Node, p *ledger.Pinned, log *bytes.Buffer, gen *chaintest.Gen) {
	t.Helper()
	gen, log = chaintest.New(crowdGenesis()), &bytes.Buffer{}
	cfg := Config{Genesis: gen.G, DataDir: t.TempDir(), Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	edit(&cfg)
	n = withoutNet(t, cfg)
	n.ledger.PinEvery(1)
	feed(t, n, gen.Chain("m", 1, nil)...)
	if p = n.ledger.TakePinned(); p == nil {
		t.Fatal("nothing is pinned")
	}
	return n, p, log, gen
}

// refused wants one line in the log, nothing in the directory, the pin released and the node going on.
func refused(t *testing.T, n *Node, p *ledger.Pinned, gen *chaintest.Gen, log *bytes.Buffer, words ...string) {
	t.Helper()
	for _, w := range append(words, "no snapshot was written", "height=1") {
		if !strings.Contains(log.String(), w) || strings.Count(log.String(), "\n") != 1 {
			t.Fatalf("the log doesn't say %q in one line: %s", w, log)
		}
	}
	dir := n.cfg.path("snapshots")
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Fatalf("left: %v", left)
	}
	if err := p.Write(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "discarded") {
		t.Fatalf("the accounts are still pinned (%v)", err)
	}
	feed(t, n, gen.Next("n2", nil))
	if n.Tip().Header.Height != 2 || len(n.fault) > 0 {
		t.Fatal("the node doesn't go on")
	}
}

func TestSnapshotOnAFullDisk(t *testing.T) {
	var low atomic.Bool
	asked := 0
	n, p, log, gen := crowdNode(t, func(c *Config) {
		c.FreeSpace = func(dir string) (uint64, error) {
			if filepath.Base(dir) != "snapshots" {
				return 1 << 40, nil
			}
			if asked++; asked > 1 && low.Load() {
				return 512 << 20, nil
			}
			return 1 << 40, nil
		}
	})
	low.Store(true)
	n.writeSnapshot(t.Context(), p, n.cfg.path("snapshots"))
	refused(t, n, p, gen, log, "512 MiB free")
	if asked != 2 {
		t.Fatalf("free space was looked at %d times", asked)
	}
	low.Store(false)
	n.writeSnapshot(t.Context(), n.ledger.TakePinned(), n.cfg.path("snapshots"))
	if files, err := ledger.Snapshots(n.cfg.path("snapshots")); err != nil || len(files) != 1 {
		t.Fatalf("with room again: %v (%v)", files, err)
	}
}

func TestSnapshotTakesTooLong(t *testing.T) {
	n, p, log, gen := crowdNode(t, func(c *Config) { c.snapshotTime = time.Nanosecond })
	n.writeSnapshot(t.Context(), p, n.cfg.path("snapshots"))
	refused(t, n, p, gen, log, "it wasn't finished in 1ns")
}

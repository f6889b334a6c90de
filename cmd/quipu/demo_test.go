//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"quipu/rpc"
	"quipu/testnet"
)

// demoHome gives a test a temporary directory of its own, so that what a demo leaves is seen.
func demoHome(t *testing.T) (tmp string) {
	t.Helper()
	networkHome(t)
	tmp = t.TempDir()
	t.Setenv("TMPDIR", tmp)
	return tmp
}

// nothingLeft: no data, no record of a network.
func nothingLeft(t *testing.T, tmp string) {
	t.Helper()
	if left, _ := filepath.Glob(filepath.Join(tmp, "quipu-demo*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, _, err := testnet.Find(""); !errors.Is(err, testnet.ErrNone) {
		t.Errorf("a network still runs: %v", err)
	}
}

// TestDemoPayment is the first part of the tour, by real processes, as JSON.
func TestDemoPayment(t *testing.T) {
	tmp := demoHome(t)
	all := demoPhases
	t.Cleanup(func() { demoPhases = all })
	demoPhases = all[:1]
	r := cli(t, "demo", "--once", "--json").want(t, exitOK, "verified", "confirmed")
	var doc demoDoc
	if err := json.Unmarshal([]byte(r.out), &doc); err != nil {
		t.Fatalf("%v in %s", err, r.out)
	}
	if !doc.OK || doc.Schema != "quipu.demo/v1" || len(doc.Phases) != 1 || doc.Phases[0].Tip == nil || doc.Phases[0].Height < 2 {
		t.Errorf("summary: %s", r.out)
	}
	for _, c := range doc.Phases[0].Checks {
		if !c.OK || c.Detail == "" {
			t.Errorf("check: %+v", c)
		}
	}
	nothingLeft(t, tmp)
}

// TestDemoFails: a check that doesn't hold in time is named, the exit code is 10, and nothing is left but with --keep.
func TestDemoFails(t *testing.T) {
	tmp := demoHome(t)
	all := demoPhases
	t.Cleanup(func() { demoPhases = all })
	demoPhases = slices.Clone(all[:1])
	demoPhases[0].name, demoPhases[0].deadline = "Wish", 300*time.Millisecond
	demoPhases[0].run = func(d *demo, ctx context.Context) error {
		return d.holds(ctx, "flight", "pigs fly", func(context.Context) (string, bool) { return "they walk", false })
	}
	r := cli(t, "demo", "--once", "--json").want(t, exitCheck, "1 Wish", `"pigs fly" does not hold`, "they walk", "node-5 (up")
	var doc demoDoc
	if err := json.Unmarshal([]byte(r.out), &doc); err != nil || doc.OK || doc.Failed != "1 Wish: pigs fly" {
		t.Errorf("summary: %v, %s", err, r.out)
	}
	nothingLeft(t, tmp)

	// A call that isn't answered within the deadline fails the phase too, and keep leaves the logs.
	demoPhases[0].run = func(d *demo, ctx context.Context) error {
		<-ctx.Done()
		_, err := d.statuses(ctx, demoNodes)
		return err
	}
	r = cli(t, "demo", "--keep").want(t, exitCheck, "every call is answered in time")
	if logs, _ := filepath.Glob(filepath.Join(tmp, "quipu-demo-*", "node-1.log")); len(logs) != 1 {
		t.Errorf("kept logs: %v", logs)
	}
}

// TestDemoInterrupted: Ctrl-C in the middle leaves nothing; after the checks it is how a demo that stays up ends.
func TestDemoInterrupted(t *testing.T) {
	tmp := demoHome(t)
	all := demoPhases
	t.Cleanup(func() { demoPhases = all })
	demoPhases = slices.Clone(all[:1])
	ctx, interrupt := context.WithCancel(t.Context())
	demoPhases[0].run = func(_ *demo, limited context.Context) error {
		interrupt()
		<-limited.Done()
		return limited.Err()
	}
	cliCtx(t, ctx, "", "demo").want(t, exitInterrupted)
	nothingLeft(t, tmp)

	ctx, interrupt = context.WithCancel(t.Context())
	defer interrupt()
	demoPhases[0].run = func(d *demo, _ context.Context) error {
		go func() { // as soon as it stays up
			defer interrupt()
			for range 1000 {
				if st := d.net.State(context.Background()); slices.ContainsFunc(st.Happened, func(h testnet.Happened) bool { return h.Kind == "ok" }) {
					return
				}
				<-time.After(20 * time.Millisecond)
			}
		}()
		return nil
	}
	cliCtx(t, ctx, "", "demo", "--no-open").want(t, exitOK, "Live view: http://127.0.0.1:", "Try in another terminal")
	nothingLeft(t, tmp)
}

// TestLongDemo is the acceptance of the tour: QUIPU_LONG runs, 20 if it is 1. All exit 0; under 60 s each.
func TestLongDemo(t *testing.T) {
	runs := long(t)
	tmp := demoHome(t)
	var took []time.Duration
	for range runs {
		began := time.Now()
		code, out, errw := runProgram(t, "demo", "--once")
		took = append(took, time.Since(began))
		if code != exitOK || took[len(took)-1] > time.Minute {
			t.Errorf("run %d: exit %d after %s\n%s%s", len(took), code, took[len(took)-1], out, errw)
		}
		nothingLeft(t, tmp)
	}
	slices.Sort(took)
	t.Logf("%d runs: median %s, longest %s", runs, took[len(took)/2], took[len(took)-1])
}

// TestLongStarts measures starts: in the median of 20 ready within 2 s and the first block within 3 s, five nodes within
// 500 MB.
func TestLongStarts(t *testing.T) {
	runs := long(t)
	networkHome(t)
	var ready, block []time.Duration
	var memory []int
	for range runs {
		began := time.Now()
		st := up(t)
		ready = append(ready, time.Since(began))
		for first := false; !first; {
			for _, n := range st.Nodes {
				s, err := (&rpc.Client{URL: n.HTTP}).NodeStatus(t.Context())
				first = first || err == nil && s.Tip.Height > 0
			}
		}
		block = append(block, time.Since(began))
		sum := 0
		for _, n := range st.Nodes {
			sum += rss(t, n.PID)
		}
		memory = append(memory, sum)
		cli(t, "testnet", "down").want(t, exitOK)
	}
	slices.Sort(ready)
	slices.Sort(block)
	slices.Sort(memory)
	t.Logf("%d starts: ready median %s, longest %s; first block median %s, longest %s; five nodes median %d MB, most %d MB",
		runs, ready[runs/2], ready[runs-1], block[runs/2], block[runs-1], memory[runs/2]>>10, memory[runs-1]>>10)
	if ready[runs/2] > 2*time.Second || block[runs/2] > 3*time.Second || memory[runs-1] > 500<<10 {
		t.Error("that is over the budget of 2 s, 3 s, 500 MB")
	}
}

// long is how many runs the acceptance tests make; without QUIPU_LONG they are skipped: they take minutes.
func long(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv("QUIPU_LONG"))
	if err != nil || n < 1 {
		t.Skip("takes minutes: set QUIPU_LONG=1")
	}
	if n == 1 {
		n = 20
	}
	return n
}

// rss is the resident memory of a process in KiB.
func rss(t *testing.T, pid int) int {
	t.Helper()
	text, err := fs.ReadFile(os.DirFS("/proc"), strconv.Itoa(pid)+"/status")
	if err != nil {
		t.Skip("resident memory is read from /proc")
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(v), " kB"))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no VmRSS of process %d", pid)
	return 0
}

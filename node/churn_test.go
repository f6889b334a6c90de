package node

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"quipu/chain"
	"quipu/chain/chaintest"
)

// Peers that come, catch up and go leave no goroutine behind, in virtual time. TestSoak looks longer, at real sockets.
func TestChurnLeavesNothingBehind(t *testing.T) {
	inWorld(t, worldGenesis(2), func(w *world) {
		for _, edit := range []func(*Config){mining("m1"), mining("m2"), nil} {
			w.start(edit)
		}
		var counts []int
		for i := range 8 {
			guest := w.start(nil)
			w.within(time.Minute, "caught up", agree(w.nodes[0].Tip().Header.Height, guest, w.nodes[0]))
			last := len(w.stop) - 1
			w.stop[last]()
			w.stop[last], w.nodes = func() {}, w.nodes[:3]
			w.within(time.Minute, "gone", func() bool {
				return !slices.ContainsFunc(w.nodes, func(n *Node) bool { return len(n.net.Peers()) != 2 })
			})
			time.Sleep(time.Minute)                             // virtual: what lingers ends
			counts = append(counts, runtime.NumGoroutine()-2*i) // the simulated network keeps two for each address
		}
		t.Logf("goroutines %v", counts)
		if slices.Max(counts[4:]) > slices.Max(counts[:4])+4 {
			t.Errorf("goroutines after each peer: %v", counts)
		}
	})
}

// TestSoak runs five nodes over real sockets for ten minutes with load, one of them stopped and started again all the
// time. Goroutines and memory of the process must not grow.
func TestSoak(t *testing.T) {
	if os.Getenv("QUIPU_LONG") == "" {
		t.Skip("ten minutes: set QUIPU_LONG=1")
	}
	span := 10 * time.Minute
	if s := os.Getenv("QUIPU_SOAK"); s != "" {
		var err error
		if span, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	g := chaintest.Genesis(func(g *chain.Genesis) {
		g.Time = uint64(time.Now().UnixMilli())
		g.Bits = worldGenesis(2).Bits
	}, alice, bob)
	dir := t.TempDir()
	nodes := make([]*Node, 5)
	stop := make([]func(), 5)
	start := func(i int) {
		cfg := Config{Genesis: g, TestNet: true, DataDir: fmt.Sprintf("%s/%d", dir, i), Listen: []string{"/ip4/127.0.0.1/tcp/0"}, HTTP: "127.0.0.1:0"}
		if i < 2 {
			cfg.Mine, cfg.MineRate, cfg.Miner = true, mineRate, chaintest.NewKey(fmt.Sprint("m", i)).Account
		}
		for _, n := range nodes {
			if n != nil {
				cfg.Bootstrap = append(cfg.Bootstrap, n.net.Addrs()...)
			}
		}
		n, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- n.Run(ctx) }()
		nodes[i], stop[i] = n, func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("node %d: %v", i, err)
			}
			nodes[i] = nil
		}
	}
	for i := range nodes {
		start(i)
	}
	defer func() {
		for _, f := range stop {
			f()
		}
	}()
	wait := func(what string, cond func() bool) {
		for until := time.Now().Add(time.Minute); !cond(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(until) {
				t.Fatalf("not after a minute: %s", what)
			}
		}
	}
	began := time.Now()
	var nonce uint64
	var routines, memory []float64
	for i := 0; time.Since(began) < span; i++ {
		k := 2 + i%3
		stop[k]()
		for range 50 {
			raw := chaintest.Raw(alice.Pay(g, nonce, 0, chaintest.To(bob, 1)))
			if res := nodes[0].AcceptTxs([][]byte{raw}); res[0].Err == nil {
				nodes[0].net.PublishTxs([][]byte{raw})
				nonce++
			}
			time.Sleep(20 * time.Millisecond)
		}
		start(k)
		wait("all connected and agreed", func() bool {
			return !slices.ContainsFunc(nodes, func(n *Node) bool { return len(n.net.Peers()) < 4 }) && agree(nodes[0].Tip().Header.Height, nodes...)()
		})
		runtime.GC()
		routines, memory = append(routines, float64(runtime.NumGoroutine())), append(memory, resident(t))
		t.Logf("%v: height %d, %d payments, %.0f goroutines, %.1f MB resident", time.Since(began).Round(time.Second),
			nodes[0].Tip().Header.Height, nonce, routines[i], memory[i]/1e6)
	}
	// The first third warms up; then the middle of the second third is held against that of the last.
	steady := func(what string, v []float64, most float64) {
		n := len(v) / 3
		if n < 3 {
			t.Fatalf("only %d samples", len(v))
		}
		before, after := median(v[n:2*n]), median(v[2*n:])
		t.Logf("%s: %.0f, then %.0f", what, before, after)
		if after > most*before {
			t.Errorf("%s grew from %.0f to %.0f", what, before, after)
		}
	}
	steady("goroutines", routines, 1.05)
	steady("bytes resident", memory, 1.15)
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// resident is the resident memory of this process in bytes.
func resident(t *testing.T) float64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip("resident memory can be read on Linux only")
	}
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	if err != nil {
		t.Fatal(err)
	}
	return float64(pages * os.Getpagesize())
}

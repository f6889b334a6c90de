package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"quipu/bench"
)

func init() { benchVerbs = append(benchVerbs, (*app).benchLive) }

func (a *app) benchLive() *cobra.Command {
	m := bench.Live{Env: nodeEnv}
	runs := 1
	c := &cobra.Command{
		Use: "live", Short: "Transfers a second of a network of real nodes", Args: args(0, 0, ""),
		Example: "  quipu bench live --nodes 4 --for 30s --json\n" +
			"  quipu bench live --rate 3000\n" +
			"  quipu bench live --cpuprofile && go tool pprof -top DIR/node-1/cpu.out",
		Long: "Starts a network of this same binary on loopback, all nodes mining or --miners of them, blocks of up to 4 MiB once a second, and\n" +
			"hands transfers to all nodes in turn, signed beforehand, at a fixed rate. tx_per_s is transfers in blocks that all\n" +
			"nodes hold, those of the first such block left out, by the time from when all held the first to when all held\n" +
			"the last. latency_ms runs from when a transfer was due to be handed in to when all nodes held its block. lost\n" +
			"must be 0: accepted, and neither in a block nor in a pool. The run with the median rate is printed.",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := m.Validate(); err != nil {
				return usageError(c.CommandPath()+" --help", "%v", err)
			}
			if runs < 1 {
				return usageError("", "--runs %d: at least 1", runs)
			}
			r := bench.LiveResult{Header: bench.NewHeader("quipu.bench-live/v1"), Live: m}
			for range runs {
				once, err := a.benchLiveOnce(c, &m)
				if err != nil {
					return err
				}
				r.Runs = append(r.Runs, once)
			}
			r.Choose()
			if a.json {
				return a.writeJSON(r)
			}
			a.printBenchLive(&r)
			return nil
		},
	}
	f := c.Flags()
	f.IntVar(&m.Nodes, "nodes", 4, "how many, 1 to 32")
	f.IntVar(&m.Miners, "miners", 0, "nodes that mine; 0 is all")
	f.DurationVar(&m.For, "for", 30*time.Second, "how long transfers are offered")
	f.IntVar(&m.Rate, "rate", 6500, "transfers a second that are offered")
	f.IntVar(&m.List, "list", 500, "transfers handed in by one call, at most 500")
	f.IntVar(&m.Senders, "senders", 10_000, "accounts that send, each in its turn")
	f.Uint64Var(&m.Seed, "seed", 1, "of keys and recipients")
	f.IntVar(&runs, "runs", 1, "how often to measure; the median is printed")
	f.BoolVar(&m.Profiles, "cpuprofile", false, "each node writes a CPU profile; the network's directory is kept and named")
	return c
}

func (a *app) benchLiveOnce(c *cobra.Command, m *bench.Live) (bench.LiveRun, error) {
	var b *bar
	step := ""
	end := func() {
		if b != nil {
			b.done()
		}
	}
	defer func() { end() }()
	return m.Run(c.Context(), func(what string, done, total uint64) {
		if what != step {
			end()
			b, step = a.bar(what), what
		}
		b.update(done, total)
	})
}

func (a *app) printBenchLive(r *bench.LiveResult) {
	a.printBenchHeader(&r.Header)
	fmt.Fprintf(a.out, "%d nodes, %d transfers a second offered for %s in lists of %d\n", r.Live.Nodes, r.Live.Rate, r.Live.For, r.Live.List)
	fmt.Fprintf(a.out, "in blocks       %.0f transfers a second, over %.1f s and %d blocks\n", r.TxPerS, r.SpanS, r.Blocks)
	fmt.Fprintf(a.out, "confirmed after %.0f ms (p50), %.0f (p95), %.0f (p99)\n", r.Latency.P50, r.Latency.P95, r.Latency.P99)
	fmt.Fprintf(a.out, "offered %d, accepted %d, in blocks of all nodes %d, left over %d, lost %d\n", r.Offered, r.Accepted, r.InBlocks, r.LeftOver, r.Lost)
	for _, reason := range slices.Sorted(maps.Keys(r.Refused)) {
		fmt.Fprintf(a.out, "refused %d: %s\n", r.Refused[reason], reason)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Counts)) {
		if strings.Contains(name, "drop") && r.Counts[name] > 0 && !strings.Contains(name, `reason="mined"`) {
			fmt.Fprintf(a.out, "%s %.0f\n", name, r.Counts[name])
		}
	}
	if r.Dir != "" {
		fmt.Fprintf(a.out, "profiles are node-*/cpu.out in %s\n", r.Dir)
	}
}

package main

import (
	"fmt"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"quipu/bench"
)

func init() { benchVerbs = append(benchVerbs, (*app).benchReorg) }

func (a *app) benchReorg() *cobra.Command {
	var m bench.Reorg
	var dir, profile string
	var runs int
	c := &cobra.Command{
		Use: "reorg", Short: "Seconds a node takes to change to a heavier chain", Args: args(0, 0, ""),
		Example: "  quipu bench reorg --depth 100 --txs 1000 --json\n" +
			"  quipu bench reorg --depth 6\n" +
			"  quipu bench reorg --cpuprofile cpu.out && go tool pprof -top cpu.out",
		Long: "Makes two chains of different payments that leave the same block, the second one block longer, and gives them to\n" +
			"a node with default settings, in a new directory on disk for each run. reorg_s runs from 'all bodies but the\n" +
			"first stored and checked' to 'tip durable and pool updated', the way back of the first chain's transactions into\n" +
			"the pool included; with_signatures_s is the same with nothing of the second chain checked before but its headers.\n" +
			"The run with the median time is printed.",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := m.Validate(); err != nil {
				return usageError(c.CommandPath()+" --help", "%v", err)
			}
			if runs < 1 {
				return usageError("", "--runs %d: at least 1", runs)
			}
			if os.Getenv("GOGC") == "" {
				debug.SetGCPercent(defaultGC)
			}
			r := bench.ReorgResult{Header: bench.NewHeader("quipu.bench-reorg/v1"), Chains: m}
			bar := a.bar("making blocks")
			branches, err := m.Make(c.Context(), bar.update)
			bar.done()
			if err != nil {
				return err
			}
			bar = a.bar("reorganising")
			defer bar.done()
			for i := range runs {
				bar.update(uint64(i), uint64(runs))
				once, err := bench.RunReorg(branches, dir, profile)
				if err != nil {
					return err
				}
				r.Runs = append(r.Runs, once)
			}
			bar.done()
			r.Choose()
			if a.json {
				return a.writeJSON(r)
			}
			a.printBenchReorg(&r)
			return nil
		},
	}
	f := c.Flags()
	f.IntVar(&m.Depth, "depth", 100, "blocks to be reverted")
	f.IntVar(&m.Txs, "txs", 1000, "transactions in each block")
	f.IntVar(&m.Accounts, "accounts", 10_000, "accounts in genesis; half of them send on each chain")
	f.Uint64Var(&m.Seed, "seed", 1, "of keys and recipients: the same seed gives the same chains")
	f.StringVar(&dir, "dir", "", "`DIR` on the disk to measure (default: the system's temporary directory)")
	f.IntVar(&runs, "runs", 3, "how often to measure; the median is printed")
	f.StringVar(&profile, "cpuprofile", "", "write a CPU profile of the last run's reorg_s to `FILE`")
	return c
}

func (a *app) printBenchReorg(r *bench.ReorgResult) {
	a.printBenchHeader(&r.Header)
	fmt.Fprintf(a.out, "%d blocks reverted, %d applied, %d transactions in each, %d accounts\n", r.Chains.Depth, r.Chains.Depth+1, r.Chains.Txs, r.Chains.Accounts)
	fmt.Fprintf(a.out, "reorg            %.2f s", r.ReorgS)
	for i, once := range r.Runs {
		sep := ", "
		if i == 0 {
			sep = "; all runs "
		}
		fmt.Fprintf(a.out, "%s%.2f", sep, once.ReorgS)
	}
	fmt.Fprintf(a.out, "\nwith signatures  %.2f s\n", r.WithSignaturesS)
	fmt.Fprintf(a.out, "reverting %.2f s, applying %.2f s, pool %.2f s\n", r.RevertS, r.ApplyS, r.PoolS)
	order := "best fee rate first"
	if !r.BestFirst {
		order = "NOT in the order of fee rates"
	}
	fmt.Fprintf(a.out, "%d of %d reverted transactions are back in the pool (%.1f of %.1f MB), %s\n", r.Returned, r.Reverted, r.PoolMB, r.PoolCapMB, order)
	fmt.Fprintf(a.out, "memory %.0f MB at most, the chains in it\n", r.PeakRSSMB)
}

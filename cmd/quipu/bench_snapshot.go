package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"quipu/bench"
)

func init() { benchVerbs = append(benchVerbs, (*app).benchSnapshot) }

func (a *app) benchSnapshot() *cobra.Command {
	s, dir := bench.Snapshot{}, ""
	c := &cobra.Command{
		Use: "snapshot", Short: "Seconds to the tip of a node that begins with a snapshot", Args: args(0, 0, ""),
		Example: "  quipu bench snapshot --accounts 1000000 --blocks 2047 --json\n" +
			"  quipu bench snapshot --accounts 200000 --peers 4 --full",
		Long: "Makes a chain with so many accounts at block 1024 and so many blocks of one payment after it, gives it with the\n" +
			"snapshot to serving nodes, and starts an empty node with --sync snapshot: all of them processes of their own on\n" +
			"this machine, with default settings. The clock runs from the start of the process to the tip of the others; then\n" +
			"until every block before the snapshot has been fetched and applied too. The run with the median time is printed.",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := s.Validate(); err != nil {
				return usageError(c.CommandPath()+" --help", "%v", err)
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			tmp, err := os.MkdirTemp(dir, "quipu-bench-")
			if err != nil {
				return err
			}
			defer os.RemoveAll(tmp)
			r, err := bench.RunSnapshot(c.Context(), s, self, tmp, func(line string) { a.say("%s", line) })
			if err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(r)
			}
			a.printBenchSnapshot(r)
			return nil
		},
	}
	f := c.Flags()
	f.IntVar(&s.Accounts, "accounts", 1_000_000, "accounts at the snapshot")
	f.IntVar(&s.Blocks, "blocks", 2047, "blocks since, 1024 to 2047")
	f.IntVar(&s.Peers, "peers", 2, "serving nodes")
	f.IntVar(&s.Runs, "runs", 3, "how often to measure; the median is printed")
	f.BoolVar(&s.Full, "full", false, "measure a node with --sync full too")
	f.Uint64Var(&s.Seed, "seed", 1, "of keys and recipients")
	f.StringVar(&dir, "dir", "", "`DIR` on the disk to measure (default: the system's temporary directory)")
	return c
}

func (a *app) printBenchSnapshot(r *bench.SnapshotResult) {
	a.printBenchHeader(&r.Header)
	fmt.Fprintf(a.out, "%d accounts at block %d (%.0f MB), %d blocks since, %.0f MB of bodies in all, %d serving nodes\n",
		r.Accounts, r.Height, r.FileMB, r.Blocks, r.BodyMB, r.Peers)
	rows := []bench.SnapshotOnce{r.SnapshotOnce}
	names := []string{"snapshot"}
	if r.Full != nil {
		rows, names = append(rows, *r.Full), append(names, "all blocks")
	}
	a.table("SYNC\tACCOUNTS\tAT THE TIP\tVERIFIED\tCPU\tMEMORY", len(rows), func(i int) []any {
		o := rows[i]
		accounts := "-"
		if o.AccountsS > 0 {
			accounts = fmt.Sprintf("%.2f s", o.AccountsS)
		}
		return []any{names[i], accounts, fmt.Sprintf("%.2f s", o.Seconds), fmt.Sprintf("%.2f s", o.VerifiedS),
			fmt.Sprintf("%.2f s", o.UserS+o.SystemS), fmt.Sprintf("%.0f MB", o.PeakRSSMB)}
	})
}

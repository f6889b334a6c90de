package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"quipu/bench"
)

func init() { benchVerbs = append(benchVerbs, (*app).benchState) }

func (a *app) benchState() *cobra.Command {
	s, profile := bench.State{}, ""
	c := &cobra.Command{
		Use: "state", Short: "Account updates a second, and proofs, of the state tree", Args: args(0, 0, ""),
		Example: "  quipu bench state\n" +
			"  quipu bench state --accounts 10000000 --updates 100000 --json\n" +
			"  quipu bench state --cpuprofile cpu.out && go tool pprof -top cpu.out",
		Long: "Builds a tree of accounts in memory, changes some at random with one worker and with two (the roots must be the\n" +
			"same), makes and verifies proofs of membership, of absence and of ranges, and prints the median of some runs.",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := s.Validate(); err != nil {
				return usageError(c.CommandPath()+" --help", "%v", err)
			}
			a.say("making a tree of %d accounts …", s.Accounts)
			stop, err := cpuProfile(profile)
			if err != nil {
				return err
			}
			bar := a.bar("measuring")
			r, err := bench.RunState(c.Context(), s, bar.update)
			bar.done()
			if e := stop(); err == nil {
				err = e
			}
			if err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(r)
			}
			a.printBenchState(r)
			return nil
		},
	}
	f := c.Flags()
	f.IntVar(&s.Accounts, "accounts", 1_000_000, "accounts in the tree")
	f.IntVar(&s.Updates, "updates", 10_000, "accounts changed at once")
	f.IntVar(&s.Proofs, "proofs", 10_000, "proofs made and verified a run")
	f.IntVar(&s.Leaves, "leaves", 4096, "leaves in a range answer")
	f.IntVar(&s.Runs, "runs", 5, "how often to measure; the median is printed")
	f.StringVar(&profile, "cpuprofile", "", "write a CPU profile to `FILE`")
	return c
}

func (a *app) printBenchState(r *bench.StateResult) {
	a.printBenchHeader(&r.Header)
	fmt.Fprintf(a.out, "%d accounts, built in %.2f s, %.0f bytes an account\n", r.Accounts, r.Build, r.BytesAnAccount)
	fmt.Fprintf(a.out, "root %s, whatever the workers\n", r.Root)
	rows := [][3]string{
		{"updates, one worker", fmt.Sprintf("%.0f a second", r.UpdatesPerSOne), fmt.Sprintf("%d at once; %.2f us of CPU each", r.Updates, r.UpdateCPUOne)},
		{"updates, two workers", fmt.Sprintf("%.0f a second", r.UpdatesPerS), fmt.Sprintf("%d at once; %.2f us of CPU each", r.Updates, r.UpdateCPU)},
		{"root of leaves", fmt.Sprintf("%.0f a second", r.RootOfPerS), "without a tree"},
		{"proof of membership", fmt.Sprintf("%.0f bytes", r.ProofBytes), fmt.Sprintf("999 of 1,000 at most %.0f, longest met %d; made in %.2f us, verified in %.2f us", r.ProofBytes999, r.ProofBytesMax, r.Prove, r.VerifyProof)},
		{"proof of absence", fmt.Sprintf("%.0f bytes", r.AbsentBytes), fmt.Sprintf("longest met %d; verified in %.2f us", r.AbsentBytesMax, r.VerifyAbsent)},
		{"range answer", fmt.Sprintf("%.0f bytes", r.RangeBytes), fmt.Sprintf("%d leaves and %.0f bytes of proof; made in %.2f us a leaf, verified in %.2f us a leaf", r.RangeLeaves, r.RangeProofBytes, r.RangeMake, r.RangeVerify)},
	}
	a.table("WHAT\tFIGURE\tMORE", len(rows), func(i int) []any { return []any{rows[i][0], rows[i][1], rows[i][2]} })
}

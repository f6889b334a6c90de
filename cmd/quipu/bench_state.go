package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"quipu/bench"
	"quipu/chain/ledger"
)

func init() { benchVerbs = append(benchVerbs, (*app).benchState, (*app).benchStateOnce) }

func (a *app) benchState() *cobra.Command {
	s, profile, dir, memory := bench.State{}, "", "", 0
	c := &cobra.Command{
		Use: "state", Short: "Account updates a second, and proofs, of the state tree", Args: args(0, 0, ""),
		Example: "  quipu bench state\n" +
			"  quipu bench state --accounts 10000000 --updates 100000 --json\n" +
			"  quipu bench state --cpuprofile cpu.out && go tool pprof -top cpu.out",
		Long: "Builds a tree of accounts in memory, changes some at random with one worker and with two (the roots must be the\n" +
			"same), makes and verifies proofs of membership, of absence and of ranges, and prints the median of some runs. Then\n" +
			"does the like on disk in a process of its own, where each batch is durable before the next and pages of the tree\n" +
			"are written behind; kills it with the pages as far behind as they get; and opens the store again.",
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
			if err == nil {
				err = a.storedState(c.Context(), r, s, dir, memory)
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
	f.IntVar(&memory, "state-memory", ledger.StateMemory>>20, "`MIB` that accounts in memory may take, on disk")
	f.StringVar(&dir, "dir", "", "`DIR` on the disk to measure (default: the system's temporary directory)")
	f.StringVar(&profile, "cpuprofile", "", "write a CPU profile of the part in memory to `FILE`")
	return c
}

// storedState measures on disk, in processes of their own: one makes the store and is killed, one opens it.
func (a *app) storedState(ctx context.Context, r *bench.StateResult, s bench.State, dir string, memory int) error {
	dir, err := os.MkdirTemp(dir, "quipu-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	a.say("making a store of %d accounts …", s.Accounts)
	once := func(out any, more ...string) error {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, self, append([]string{"bench", "state-once", "--data-dir", dir, "--state-memory", fmt.Sprint(memory)}, more...)...)
		var said strings.Builder
		cmd.Stderr = &said
		pipe, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			return err
		}
		err = json.NewDecoder(pipe).Decode(out)
		cmd.Process.Kill() // it waits for nothing else
		cmd.Wait()
		if err != nil {
			return fmt.Errorf("measuring on disk: %w: %s", err, strings.TrimSpace(said.String()))
		}
		return nil
	}
	var stored bench.Stored
	var opened []bench.Reopened
	if err := once(&stored, "--accounts", fmt.Sprint(s.Accounts), "--updates", fmt.Sprint(s.Updates), "--runs", fmt.Sprint(s.Runs)); err != nil {
		return err
	}
	for range 3 { // each finds what the killed one left: opening writes nothing
		var o bench.Reopened
		if err := once(&o, "--reopen"); err != nil {
			return err
		}
		opened = append(opened, o)
	}
	slices.SortFunc(opened, func(x, y bench.Reopened) int { return cmp.Compare(x.OpenS, y.OpenS) })
	return r.Keep(stored, opened[1])
}

// benchStateOnce is a process of bench state: it prints its figures and waits to be killed.
func (a *app) benchStateOnce() *cobra.Command {
	s, memory, reopen := bench.State{Proofs: 1, Leaves: 1}, 0, false
	c := &cobra.Command{
		Use: "state-once", Hidden: true, Short: "One process of bench state", Args: args(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			if a.dataDir == "" {
				return usageError("", "--data-dir names a directory")
			}
			if os.Getenv("GOGC") == "" {
				debug.SetGCPercent(defaultGC)
			}
			a.json = true
			if reopen {
				r, err := bench.RunReopen(a.dataDir, int64(memory)<<20)
				if err != nil {
					return err
				}
				return a.writeJSON(r)
			}
			if err := s.Validate(); err != nil {
				return usageError("", "%v", err)
			}
			r, err := bench.RunStored(c.Context(), s, a.dataDir, int64(memory)<<20, func(uint64, uint64) {})
			if err != nil {
				return err
			}
			if err := a.writeJSON(r); err != nil {
				return err
			}
			<-c.Context().Done()
			return nil
		},
	}
	a.addDataDir(c)
	f := c.Flags()
	f.IntVar(&s.Accounts, "accounts", 1_000_000, "accounts")
	f.IntVar(&s.Updates, "updates", 10_000, "accounts changed at once")
	f.IntVar(&s.Runs, "runs", 3, "how often to measure")
	f.IntVar(&memory, "state-memory", ledger.StateMemory>>20, "`MIB` that accounts in memory may take")
	f.BoolVar(&reopen, "reopen", false, "open what was left")
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
		{"updates, durable", fmt.Sprintf("%.0f a second", r.PerSCommitted), fmt.Sprintf("%d a commit, pages behind included; longest %.0f ms; %.0f bytes an update in journal and pages, %.0f on disk", r.Updates, r.Stored.LongestMS, r.BytesAnUpdate, r.Stored.DiskBytes)},
		{"open after kill -9", fmt.Sprintf("%.2f s", r.OpenAfterKill), fmt.Sprintf("pages %d accounts behind; %.0f MB at most", r.Reopened.Behind, r.Reopened.PeakRSSMB)},
	}
	a.table("WHAT\tFIGURE\tMORE", len(rows), func(i int) []any { return []any{rows[i][0], rows[i][1], rows[i][2]} })
}

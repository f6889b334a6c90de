package main

import (
	"fmt"
	"os"
	"runtime/pprof"

	"github.com/spf13/cobra"

	"quipu/bench"
)

func init() { commands = append(commands, benchCommand) }

// benchVerbs are further subcommands of bench, added by the files that make them.
var benchVerbs []func(*app) *cobra.Command

func benchCommand(a *app) *cobra.Command {
	c := noun("network", "bench", "Measure this machine: signatures, import, sync, state", a.benchVerify())
	for _, add := range benchVerbs {
		c.AddCommand(add(a))
	}
	return c
}

func (a *app) benchVerify() *cobra.Command {
	v, profile := bench.Verify{}, ""
	c := &cobra.Command{
		Use: "verify", Short: "Microseconds a signature, on one core", Args: args(0, 0, ""),
		Example: "  quipu bench verify\n" +
			"  quipu bench verify --sigs 64 --json\n" +
			"  quipu bench verify --cpuprofile cpu.out && go tool pprof -top cpu.out",
		Long: "Verifies signatures that it makes itself, and prints the median of some runs: one by one, in a batch, with the\n" +
			"keys remembered from before (warm), with few keys for many signatures (folded), and with the y of each\n" +
			"signature's R given beside it (hinted; it is checked, and wrong ones only cost time).",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := v.Validate(); err != nil {
				return usageError(c.CommandPath()+" --help", "%v", err)
			}
			a.say("making %d signatures …", 2*v.Sigs)
			s, err := bench.NewSignatures(v)
			if err != nil {
				return err
			}
			stop, err := cpuProfile(profile)
			if err != nil {
				return err
			}
			bar := a.bar("verifying")
			r, err := s.Run(c.Context(), bar.update)
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
			a.printBenchVerify(r)
			return nil
		},
	}
	f := c.Flags()
	f.IntVar(&v.Sigs, "sigs", 16384, "signatures in a batch")
	f.IntVar(&v.Keys, "senders", 4000, "keys of the folded rows")
	f.IntVar(&v.Runs, "runs", 3, "how often to measure; the median is printed")
	f.StringVar(&profile, "cpuprofile", "", "write a CPU profile of the measurement to `FILE`")
	return c
}

func (a *app) printBenchVerify(r *bench.VerifyResult) {
	a.printBenchHeader(&r.Header)
	rows := []struct {
		name string
		us   float64
		what string
	}{
		{"single", r.Single, "one by one"},
		{"batch", r.Batch, "every signature under its own key"},
		{"warm", r.Warm, "the same, keys remembered"},
		{"folded", r.Folded, fmt.Sprintf("%d keys", r.FoldedKeys)},
		{"folded warm", r.FoldedWarm, "the same, keys remembered"},
		{"hinted", r.Hinted, "own keys, y of R given"},
		{"warm hinted", r.WarmHinted, "the same, keys remembered"},
		{"folded hinted", r.FoldedHinted, fmt.Sprintf("%d keys, remembered, y of R given", r.FoldedKeys)},
	}
	fmt.Fprintf(a.out, "%d signatures, one core\n", r.Sigs)
	a.table("ROW\tUS A SIGNATURE\tA SECOND\tWHAT", len(rows), func(i int) []any {
		return []any{rows[i].name, fmt.Sprintf("%.2f", rows[i].us), fmt.Sprintf("%.0f", 1e6/rows[i].us), rows[i].what}
	})
}

// printBenchHeader is the first line of every benchmark's screen.
func (a *app) printBenchHeader(h *bench.Header) {
	fmt.Fprintf(a.out, "quipu %s, %s, %s, %s, %d of %d cores, load %s\n", h.Quipu, h.Go, h.System, h.CPU, h.Using, h.Cores, orNone(h.LoadAvg))
}

// cpuProfile starts writing a profile to a file, and returns what ends it; without a name both do nothing.
func cpuProfile(name string) (stop func() error, err error) {
	if name == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		f.Close()
		return nil, err
	}
	return func() error { pprof.StopCPUProfile(); return f.Close() }, nil
}

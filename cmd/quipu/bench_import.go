package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"quipu/bench"
)

func init() { benchVerbs = append(benchVerbs, (*app).benchImport, (*app).benchImportOnce) }

func (a *app) benchImport() *cobra.Command {
	var m bench.Chain
	var file, dir, profile string
	var runs int
	c := &cobra.Command{
		Use: "import", Short: "Transactions a second of a node that imports a chain", Args: args(0, 0, ""),
		Example: "  quipu bench import --blocks 40 --txs 2500 --accounts 10000 --json\n" +
			"  quipu bench import --hostile --blocks 8\n" +
			"  quipu bench import --cpuprofile cpu.out && go tool pprof -top cpu.out",
		Long: "Makes a chain (once: it is kept in the user's cache directory), and imports it by the way every block takes, with\n" +
			"a node's default settings, in a new process and a new directory on disk for each run. Every rule and signature\n" +
			"is checked. The clock runs from the opened ledger to the last durable block; open_s is the time before it, in\n" +
			"which the ledger is made and genesis written. The run with the median rate is printed.",
		RunE: func(c *cobra.Command, _ []string) error {
			if runs < 1 {
				return usageError("", "--runs %d: at least 1", runs)
			}
			r := bench.ImportResult{Header: bench.NewHeader("quipu.bench-import/v1"), Chain: m}
			if file == "" {
				var err error
				if file, err = a.cachedChain(c.Context(), m); err != nil {
					return err
				}
			}
			bar := a.bar("importing")
			for i := range runs {
				bar.update(uint64(i), uint64(runs))
				once, err := a.importOnce(c.Context(), file, dir, profile)
				if err != nil {
					bar.done()
					return err
				}
				r.Runs = append(r.Runs, once)
			}
			bar.done()
			r.Choose()
			if a.json {
				return a.writeJSON(r)
			}
			a.printBenchImport(&r)
			return nil
		},
	}
	chainFlags(c, &m)
	f := c.Flags()
	f.StringVar(&file, "file", "", "`FILE` of a chain to import, instead of making one")
	f.StringVar(&dir, "dir", "", "`DIR` on the disk to measure (default: the system's temporary directory)")
	f.IntVar(&runs, "runs", 3, "how often to import; the median is printed")
	f.StringVar(&profile, "cpuprofile", "", "write a CPU profile of the last run to `FILE`")
	return c
}

// cachedChain is a file with this chain, made the first time.
func (a *app) cachedChain(ctx context.Context, m bench.Chain) (string, error) {
	if err := m.Validate(); err != nil {
		return "", usageError("quipu bench import --help", "%v", err)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	dir = filepath.Join(dir, "quipu", "bench")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	file := filepath.Join(dir, m.FileName())
	if !exists(file) {
		a.say("making %s …", file)
		if _, err := a.makeChain(ctx, m, file); err != nil {
			return "", err
		}
	}
	return file, nil
}

// importOnce runs this program again, so that nothing of an earlier run is in its memory.
func (a *app) importOnce(ctx context.Context, file, dir, profile string) (r bench.Import, err error) {
	data, err := os.MkdirTemp(dir, "quipu-bench-")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(data)
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	given := []string{"bench", "import-once", file, "--data-dir", data}
	if profile != "" {
		given = append(given, "--cpuprofile", profile)
	}
	cmd := exec.CommandContext(ctx, self, given...)
	var out, errw bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errw
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return r, ctx.Err()
		}
		return r, fmt.Errorf("importing %s: %w: %s", file, err, strings.TrimSpace(errw.String()))
	}
	return r, json.Unmarshal(out.Bytes(), &r)
}

// benchImportOnce is one run of bench import, in a process of its own.
func (a *app) benchImportOnce() *cobra.Command {
	var profile string
	c := &cobra.Command{
		Use: "import-once <file>", Hidden: true, Short: "One run of bench import", Args: args(1, 1, "a file"),
		RunE: func(c *cobra.Command, given []string) error {
			if a.dataDir == "" {
				return usageError("", "--data-dir names an empty directory")
			}
			if os.Getenv("GOGC") == "" {
				debug.SetGCPercent(defaultGC)
			}
			r, err := bench.RunImport(c.Context(), given[0], a.dataDir, profile)
			if err != nil {
				return err
			}
			return a.writeJSON(r)
		},
	}
	a.addDataDir(c)
	c.Flags().StringVar(&profile, "cpuprofile", "", "write a CPU profile to `FILE`")
	return c
}

func (a *app) printBenchImport(r *bench.ImportResult) {
	a.printBenchHeader(&r.Header)
	fmt.Fprintf(a.out, "%d blocks, %d transactions, %d outputs, %d accounts at the end\n", r.Blocks, r.Txs, r.Outputs, r.Accounts)
	fmt.Fprintf(a.out, "transactions  %.0f a second", r.TxPerS)
	for i, once := range r.Runs {
		sep := ", "
		if i == 0 {
			sep = "; all runs "
		}
		fmt.Fprintf(a.out, "%s%.0f", sep, once.TxPerS)
	}
	fmt.Fprintf(a.out, "\noutputs       %.0f a second\n", r.OutPerS)
	fmt.Fprintf(a.out, "took          %.2f s, after %.2f s of opening; CPU %.2f s user, %.2f s system\n", r.Seconds, r.OpenS, r.UserS, r.SystemS)
	fmt.Fprintf(a.out, "memory        %.0f MB at most; disk %.0f MB\n", r.PeakRSSMB, r.DiskMB)
	names := slices.Sorted(maps.Keys(r.Stages))
	slices.SortStableFunc(names, func(x, y string) int {
		switch dx, dy := r.Stages[x], r.Stages[y]; {
		case dx > dy:
			return -1
		case dx < dy:
			return 1
		}
		return 0
	})
	a.table("STAGE\tSECONDS\tUS A TRANSACTION", len(names), func(i int) []any {
		s := r.Stages[names[i]]
		return []any{names[i], fmt.Sprintf("%.3f", s), fmt.Sprintf("%.2f", 1e6*s/float64(max(1, r.Txs)))}
	})
}

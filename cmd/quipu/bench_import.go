package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"quipu/bench"
)

func init() { benchVerbs = append(benchVerbs, (*app).benchImport, (*app).benchImportOnce) }

func (a *app) benchImport() *cobra.Command {
	var m bench.Chain
	var once importOnce
	var runs int
	var hints bool
	c := &cobra.Command{
		Use: "import", Short: "Transactions a second of a node that imports a chain", Args: args(0, 0, ""),
		Example: "  quipu bench import --blocks 40 --txs 2500 --accounts 10000 --json\n" +
			"  quipu bench import --hostile --blocks 8\n" +
			"  quipu bench import --hints --cores 1\n" +
			"  quipu bench import --cpuprofile cpu.out && go tool pprof -top cpu.out",
		Long: "Makes a chain (once: it is kept in the user's cache directory), and imports it by the way every block takes, with\n" +
			"a node's default settings, in a new process and a new directory on disk for each run. Every rule and signature\n" +
			"is checked. The clock runs from opening the file, through making the ledger, to the last durable block. The run\n" +
			"with the median rate is printed.\n\n" +
			"Stages on the serial path follow one another; those beside it check other blocks meanwhile, and their seconds are\n" +
			"summed. CPU seconds a stage are by the process's profile. The bound is the least the stage could take: see WHAT.",
		RunE: func(c *cobra.Command, _ []string) error {
			if runs < 1 {
				return usageError("", "--runs %d: at least 1", runs)
			}
			if once.cores < 0 {
				return usageError("", "--cores %d: at least 1, or 0 for all", once.cores)
			}
			r := bench.ImportResult{Header: bench.NewHeader("quipu.bench-import/v2"), Chain: m, History: once.history}
			if once.cores > 0 {
				r.Using = once.cores
			}
			if once.file == "" {
				var err error
				if once.file, err = a.cachedChain(c.Context(), m); err != nil {
					return err
				}
			}
			if r.Hints = hints; hints {
				var err error
				if once.hints, err = a.cachedHints(c.Context(), once.file); err != nil {
					return err
				}
			}
			bar := a.bar("importing")
			for i := range runs {
				bar.update(uint64(i), uint64(runs))
				done, err := a.importOnce(c.Context(), once)
				if err != nil {
					bar.done()
					return err
				}
				r.Runs = append(r.Runs, done)
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
	f.StringVar(&once.file, "file", "", "`FILE` of a chain to import, instead of making one")
	f.StringVar(&once.dir, "dir", "", "`DIR` on the disk to measure (default: the system's temporary directory)")
	f.IntVar(&runs, "runs", 3, "how often to import; the median is printed")
	f.IntVar(&once.cores, "cores", 0, "cores the import may use; 0 is all")
	f.BoolVar(&hints, "hints", false, "put the y-coordinates of signatures beside the blocks; they are checked, never trusted")
	f.BoolVar(&once.history, "history", false, "keep the account history index")
	f.StringVar(&once.profile, "cpuprofile", "", "write a CPU profile of the last run to `FILE`, of its opening to FILE.open")
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

// cachedHints is a file of hints beside a chain, made the first time.
func (a *app) cachedHints(ctx context.Context, chain string) (string, error) {
	file := chain + ".hints"
	if exists(file) {
		return file, nil
	}
	in, err := os.Open(chain)
	if err != nil {
		return "", err
	}
	defer in.Close()
	a.say("making %s …", file)
	_, err = writeNewFile(file, 0o644, func(w io.Writer) error { return bench.WriteHints(ctx, in, w, nil) })
	return file, err
}

// importOnce is what one run is told.
type importOnce struct {
	file, hints, dir, profile string
	cores                     int
	history                   bool
}

// importOnce runs this program again, so that nothing of an earlier run is in its memory.
func (a *app) importOnce(ctx context.Context, o importOnce) (r bench.Import, err error) {
	data, err := os.MkdirTemp(o.dir, "quipu-bench-")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(data)
	return a.importInto(ctx, o, data)
}

// importInto is importOnce into a directory that stays.
func (a *app) importInto(ctx context.Context, o importOnce, data string) (r bench.Import, err error) {
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	given := []string{"bench", "import-once", o.file, "--data-dir", data, "--cpuprofile", o.profile, "--hints", o.hints}
	if o.history {
		given = append(given, "--history")
	}
	cmd := exec.CommandContext(ctx, self, given...)
	if o.cores > 0 {
		cmd.Env = append(os.Environ(), "GOMAXPROCS="+strconv.Itoa(o.cores))
	}
	var out, errw bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errw
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return r, ctx.Err()
		}
		return r, fmt.Errorf("importing %s: %w: %s", o.file, err, strings.TrimSpace(errw.String()))
	}
	return r, json.Unmarshal(out.Bytes(), &r)
}

// benchImportOnce is one run of bench import, in a process of its own.
func (a *app) benchImportOnce() *cobra.Command {
	var run bench.Run
	c := &cobra.Command{
		Use: "import-once <file>", Hidden: true, Short: "One run of bench import", Args: args(1, 1, "a file"),
		RunE: func(c *cobra.Command, given []string) error {
			if a.dataDir == "" {
				return usageError("", "--data-dir names an empty directory")
			}
			if os.Getenv("GOGC") == "" {
				debug.SetGCPercent(defaultGC)
			}
			run.File, run.Dir = given[0], a.dataDir
			r, err := bench.RunImport(c.Context(), run)
			if err != nil {
				return err
			}
			return a.writeJSON(r)
		},
	}
	a.addDataDir(c)
	f := c.Flags()
	f.StringVar(&run.Profile, "cpuprofile", "", "write a CPU profile to `FILE`")
	f.StringVar(&run.Hints, "hints", "", "`FILE` of hints")
	f.BoolVar(&run.History, "history", false, "keep the account history index")
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
	fmt.Fprintf(a.out, "took          %.2f s: genesis %.2f, opening %.2f, blocks %.2f; CPU %.2f s user, %.2f s system; closing %.2f s more\n",
		r.Seconds, r.GenesisS, r.OpenS, r.ImportS, r.UserS, r.SystemS, r.CloseS)
	fmt.Fprintf(a.out, "memory        %.0f MB at most; disk %.0f MB\n", r.PeakRSSMB, r.DiskMB)
	a.table("STAGE\tPATH\tSECONDS\tCPU S\tUS A TX\tBOUND\tWHAT", len(r.Stages), func(i int) []any {
		s := &r.Stages[i]
		seconds, bound := "", ""
		if s.Path != "background" {
			seconds = fmt.Sprintf("%.3f", s.Seconds)
		}
		if s.Bound != "" {
			bound = fmt.Sprintf("%.2f", s.BoundUS)
		}
		return []any{s.Name, s.Path, seconds, fmt.Sprintf("%.2f", s.CPU), fmt.Sprintf("%.2f", s.US), bound, s.Bound}
	})
	wall := 1e6 * r.ImportS / float64(max(1, r.Txs))
	fmt.Fprintf(a.out, "a transaction took %.2f us: %.2f on the serial path, %.2f starved of checked blocks; CPU %.2f us on %d cores, %.0f %%\n",
		wall, r.SerialUS(), 1e6*r.StarvedS/float64(max(1, r.Txs)), r.CPUUS(), r.Using, 100*(r.UserS+r.SystemS)/r.Seconds/float64(r.Using))
}

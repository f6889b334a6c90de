package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"quipu/bench"
)

func init() { benchVerbs = append(benchVerbs, (*app).benchSync, (*app).benchSyncNode) }

// syncing is one bench sync.
type syncing struct {
	a      *app
	m      bench.Chain
	file   string // of the chain
	data   string // a directory with the chain imported, copied for each server
	tmp    string // of all data
	upload string
	rate   int64
	peers  []int
	fault  string
	swarm  int
	runs   int
}

func (a *app) benchSync() *cobra.Command {
	s := &syncing{a: a}
	var dir string
	c := &cobra.Command{
		Use: "sync", Short: "How fast a new node fetches a chain from several others", Args: args(0, 0, ""),
		Example: "  quipu bench sync --peers 1,2,4 --upload 8mbit --json\n" +
			"  quipu bench sync --peers 4 --upload 0\n" +
			"  quipu bench sync --fault stall\n" +
			"  quipu bench sync --swarm 8",
		Long: "Makes a chain (once: it is kept in the user's cache directory), imports it in a new process, gives copies of that\n" +
			"node's directory to serving processes on this machine, each with a token bucket of its own, and lets a new node\n" +
			"with default settings fetch it from them over TCP. The clock runs from its first request to the last block\n" +
			"applied. The run with the median time is printed.\n\n" +
			"--fault adds to three good servers a fourth one that serves a few bodies and then stalls, sends garbage, or is slow\n" +
			"from the start (a twentieth). --swarm lets so many empty nodes fetch from one server and each other, all limited\n" +
			"alike, and compares with one that is alone, measured once.",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := s.check(); err != nil {
				return err
			}
			tmp, err := os.MkdirTemp(dir, "quipu-bench-")
			if err != nil {
				return err
			}
			defer os.RemoveAll(tmp)
			s.tmp = tmp
			r, err := s.run(c.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(r)
			}
			a.printBenchSync(r)
			return nil
		},
	}
	chainFlags(c, &s.m)
	f := c.Flags()
	f.Lookup("blocks").DefValue, s.m.Blocks = "80", 80
	f.IntSliceVar(&s.peers, "peers", []int{1, 2, 4, 8}, "how many servers, one row each")
	f.StringVar(&s.upload, "upload", "8mbit", "`RATE` of each server; 0 doesn't limit")
	f.StringVar(&s.fault, "fault", "", "one bad server beside three good ones: stall, slow or garbage")
	f.IntVar(&s.swarm, "swarm", 0, "so many empty nodes beside one server")
	f.IntVar(&s.runs, "runs", 3, "how often to measure; the median is printed")
	f.StringVar(&dir, "dir", "", "`DIR` on the disk to measure (default: the system's temporary directory)")
	return c
}

// maxProcesses bounds the nodes of one bench sync.
const maxProcesses = 32

func (s *syncing) check() (err error) {
	if s.rate, err = parseRate(s.upload); err != nil {
		return usageError("add --upload 8mbit", "--upload %v", err)
	}
	if s.runs < 1 {
		return usageError("", "--runs %d: at least 1", s.runs)
	}
	if s.fault != "" && !slices.Contains(bench.Faults, s.fault) {
		return usageError("", "--fault %q: one of %s", s.fault, strings.Join(bench.Faults, ", "))
	}
	if s.fault != "" && s.swarm != 0 {
		return usageError("", "--fault and --swarm are two measurements: give one")
	}
	if s.fault == "slow" && s.rate == 0 {
		return usageError("add --upload 8mbit", "--fault slow: slower than what? --upload is 0")
	}
	if s.swarm < 0 || s.swarm > maxProcesses {
		return usageError("", "--swarm %d: at most %d", s.swarm, maxProcesses)
	}
	for _, n := range s.peers {
		if n < 1 || n > maxProcesses {
			return usageError("", "--peers %d: 1 to %d", n, maxProcesses)
		}
	}
	if err := s.m.Validate(); err != nil {
		return usageError("quipu bench sync --help", "%v", err)
	}
	return nil
}

// rows are what is to be measured.
func (s *syncing) rows() (out []bench.SyncSet) {
	switch {
	case s.fault != "":
		return []bench.SyncSet{{Peers: 3}, {Peers: 4, Fault: s.fault}}
	case s.swarm > 0:
		return []bench.SyncSet{{Peers: 1}, {Peers: 1, Swarm: s.swarm}}
	}
	for _, n := range s.peers {
		out = append(out, bench.SyncSet{Peers: n})
	}
	return out
}

func (s *syncing) run(ctx context.Context) (*bench.SyncResult, error) {
	r := &bench.SyncResult{Header: bench.NewHeader("quipu.bench-sync/v1"), Chain: s.m, UploadMbit: 8e-6 * float64(s.rate)}
	var err error
	if s.file, err = s.a.cachedChain(ctx, s.m); err != nil {
		return nil, err
	}
	if err := s.importAll(ctx, r); err != nil {
		return nil, err
	}
	rows := s.rows()
	for i := range rows {
		row := &rows[i]
		runs := s.runs
		if s.swarm > 0 && row.Swarm == 0 {
			runs = 1 // only to compare with
		}
		for k := range runs {
			what := plural(row.Peers, "%d server", "%d servers")
			if row.Fault != "" {
				what += ", one of them bad: " + row.Fault
			}
			if row.Swarm > 0 {
				what = fmt.Sprintf("%d empty nodes and 1 server", row.Swarm)
			}
			s.a.say("%s, run %d of %d …", what, k+1, runs)
			once, err := s.once(ctx, row)
			if err != nil {
				return nil, err
			}
			s.a.say("  %.2f s, %.2f Mbit/s", once.Seconds, once.GoodputMbit)
			row.All = append(row.All, once)
		}
		row.Choose(float64(row.Peers) * r.UploadMbit)
	}
	r.Runs = rows
	last := rows[len(rows)-1].Seconds
	r.TimesImport = last / r.ImportS
	if len(rows) == 2 && (s.fault != "" || s.swarm > 0) {
		r.TimesFirst = last / rows[0].Seconds
	}
	return r, nil
}

// importAll measures the import of the file, and leaves a directory with it.
func (s *syncing) importAll(ctx context.Context, r *bench.SyncResult) error {
	var rates, times []float64
	for i := range s.runs {
		s.a.say("importing, run %d of %d …", i+1, s.runs)
		dir := filepath.Join(s.tmp, fmt.Sprintf("import-%d", i))
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		once, err := s.a.importInto(ctx, importOnce{file: s.file}, dir)
		if err != nil {
			return err
		}
		rates, times = append(rates, once.TxPerS), append(times, once.Seconds)
		if s.data != "" {
			os.RemoveAll(s.data)
		}
		s.data = dir
	}
	r.ImportTxPerS, r.ImportS = bench.Median(rates), bench.Median(times)
	return nil
}

// once runs one row once: servers on copies of the data, one node or a swarm of them that fetch, each a process.
func (s *syncing) once(ctx context.Context, row *bench.SyncSet) (r bench.SyncOnce, err error) {
	dir, err := os.MkdirTemp(s.tmp, "run-")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	var procs []*syncProcess
	defer func() {
		for _, p := range procs {
			p.end()
		}
	}()
	start := func(n bench.SyncNode, full bool) (*syncProcess, error) {
		n.Dir = filepath.Join(dir, strconv.Itoa(len(procs)))
		n.File = s.file
		if full {
			if err := os.CopyFS(n.Dir, os.DirFS(s.data)); err != nil {
				return nil, err
			}
		}
		p, err := startSyncProcess(ctx, &n)
		if err == nil {
			procs = append(procs, p)
		}
		return p, err
	}
	var addrs []string
	for i := range row.Peers {
		n := bench.SyncNode{Upload: s.rate}
		if i == row.Peers-1 {
			n.Fault = row.Fault
		}
		p, err := start(n, true)
		if err != nil {
			return r, err
		}
		addrs = append(addrs, p.addr)
	}
	var fetching []*syncProcess
	for range max(1, row.Swarm) {
		n := bench.SyncNode{Upload: s.rate, Peers: addrs, Height: uint64(s.m.Blocks)}
		p, err := start(n, false)
		if err != nil {
			return r, err
		}
		addrs = append(slices.Clone(addrs), p.addr)
		fetching = append(fetching, p)
	}
	return wait(ctx, fetching)
}

// wait waits until all have their chain. The result is the slowest one's, with the time from the first request of all.
func wait(ctx context.Context, all []*syncProcess) (r bench.SyncOnce, err error) {
	first := int64(0)
	for _, p := range all {
		var once bench.SyncOnce
		select {
		case <-ctx.Done():
			return r, ctx.Err()
		case done, ok := <-p.done:
			if !ok {
				return r, p.failed(errors.New("it ended early"))
			}
			once = done
		}
		if first == 0 || once.First < first {
			first = once.First
		}
		if once.Last > r.Last {
			r = once
		}
	}
	r.Seconds = float64(r.Last-first) / 1e6
	r.GoodputMbit = 8e-6 * float64(r.Bytes) / r.Seconds
	return r, nil
}

// syncProcess is one node in a process of its own.
type syncProcess struct {
	cmd   *exec.Cmd
	stdin io.Closer // its end ends the process
	addr  string
	done  chan bench.SyncOnce // closes when the process has ended
	said  strings.Builder
	once  sync.Once
}

func startSyncProcess(ctx context.Context, n *bench.SyncNode) (*syncProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	given := []string{"bench", "sync-node", n.File, "--data-dir", n.Dir, "--upload", strconv.FormatInt(n.Upload, 10), "--fault", n.Fault,
		"--height", strconv.FormatUint(n.Height, 10)}
	for _, addr := range n.Peers {
		given = append(given, "--bootstrap", addr)
	}
	p := &syncProcess{cmd: exec.CommandContext(ctx, self, given...), done: make(chan bench.SyncOnce, 1)}
	p.cmd.Stderr = &p.said
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		return nil, err
	}
	in := bufio.NewReader(out)
	line, err := in.ReadString('\n')
	if err != nil {
		p.end()
		return nil, p.failed(err)
	}
	p.addr = strings.TrimSpace(line)
	go func() {
		defer close(p.done)
		var r bench.SyncOnce
		if json.NewDecoder(in).Decode(&r) == nil {
			p.done <- r
		}
		io.Copy(io.Discard, in) // until it has ended
	}()
	return p, nil
}

func (p *syncProcess) failed(err error) error {
	p.end()
	return fmt.Errorf("a node of the benchmark: %w: %s", err, strings.TrimSpace(p.said.String()))
}

// end ends the process; one that doesn't stop by itself is killed.
func (p *syncProcess) end() {
	p.once.Do(func() {
		p.stdin.Close()
		stop := time.AfterFunc(5*time.Second, func() { p.cmd.Process.Kill() })
		defer stop.Stop()
		p.cmd.Wait()
	})
}

// benchSyncNode is one process of bench sync. It prints its address, then how its sync went, and ends with its input.
func (a *app) benchSyncNode() *cobra.Command {
	var n bench.SyncNode
	c := &cobra.Command{
		Use: "sync-node <file>", Hidden: true, Short: "One node of bench sync", Args: args(1, 1, "a file"),
		RunE: func(c *cobra.Command, given []string) error {
			if a.dataDir == "" {
				return usageError("", "--data-dir names a directory")
			}
			if os.Getenv("GOGC") == "" {
				debug.SetGCPercent(defaultGC)
			}
			n.File, n.Dir = given[0], a.dataDir
			ctx, cancel := context.WithCancel(c.Context())
			defer cancel()
			go func() { // a read can't be cancelled: the process ends with it
				io.Copy(io.Discard, a.in)
				cancel()
			}()
			err := n.Run(ctx, func(addr string) { fmt.Fprintln(a.out, addr) },
				func(r bench.SyncOnce) { json.NewEncoder(a.out).Encode(r) })
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		},
	}
	a.addDataDir(c)
	f := c.Flags()
	f.Int64Var(&n.Upload, "upload", 0, "bytes a second")
	f.StringVar(&n.Fault, "fault", "", "what is wrong with it")
	f.Uint64Var(&n.Height, "height", 0, "at which it is done")
	f.StringArrayVar(&n.Peers, "bootstrap", nil, "`MULTIADDR` of a node")
	return c
}

func (a *app) printBenchSync(r *bench.SyncResult) {
	a.printBenchHeader(&r.Header)
	limit := "no limit"
	if r.UploadMbit > 0 {
		limit = fmt.Sprintf("%g Mbit/s each", r.UploadMbit)
	}
	fmt.Fprintf(a.out, "%d blocks of %d transactions; upload: %s; import %.2f s, %.0f transactions a second\n", r.Chain.Blocks, r.Chain.Txs,
		limit, r.ImportS, r.ImportTxPerS)
	a.table("SERVERS\tSECONDS\tMBIT/S\tOF LIMIT\tIN VAIN\tWHAT", len(r.Runs), func(i int) []any {
		s := &r.Runs[i]
		part, what := "", ""
		if s.OfLimit > 0 {
			part = fmt.Sprintf("%.0f %%", 100*s.OfLimit)
		}
		if s.Fault != "" {
			what = "one is bad: " + s.Fault
		}
		if s.Swarm > 0 {
			what = fmt.Sprintf("%d empty nodes at once", s.Swarm)
		}
		return []any{s.Peers, fmt.Sprintf("%.2f", s.Seconds), fmt.Sprintf("%.2f", s.GoodputMbit), part,
			fmt.Sprintf("%.1f %%", 100*float64(s.Duplicate)/float64(max(1, s.Bytes))), what}
	})
	fmt.Fprintf(a.out, "the last row took %.2f times as long as an import", r.TimesImport)
	if r.TimesFirst > 0 {
		fmt.Fprintf(a.out, ", %.2f times as long as the first", r.TimesFirst)
	}
	fmt.Fprintln(a.out)
}

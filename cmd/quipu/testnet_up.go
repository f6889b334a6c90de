package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"quipu/rpc"
	"quipu/testnet"
	"quipu/wallet"
)

// nodeEnv is added to the environment of nodes and of a detached supervisor; tests make their own binary be the program.
var nodeEnv []string

func decimal(n uint64) rpc.Decimal { return rpc.Decimal(n) }

// upFlags are those of `testnet up`.
type upFlags struct {
	nodes     int
	detach    bool
	keep      bool
	rate      float64
	port      int
	supervise bool // hidden: this is the process that --detach started
	alone     bool // hidden: no name was given, so nothing may run beside it
}

func (t *testnetCmd) up() *cobra.Command {
	var f upFlags
	c := &cobra.Command{
		Use: "up", Short: "Start a network of real nodes, with four funded accounts", Args: args(0, 0, ""),
		Example: "  quipu testnet up -n 7\n  quipu testnet up --detach --json",
		Long: "Each node is a process of this same binary, on loopback ports of its own, mining at a capped rate. The wallets\n" +
			"alice, bob, carol and dave are funded and have no passphrase: this network only. It stays until Ctrl-C, or with\n" +
			"--detach until `testnet down`; then everything it made is removed, unless --keep. A kept network goes on with\n" +
			"up --name NAME.",
		RunE: func(c *cobra.Command, _ []string) error {
			f.alone = f.alone || t.name == ""
			if t.name == "" {
				t.name = testnet.RandomName("testnet")
			}
			cfg := testnet.Config{
				Name: t.name, Nodes: f.nodes, MineRate: f.rate, BasePort: f.port, Keep: f.keep, Alone: f.alone, Env: nodeEnv,
			}
			if err := cfg.Validate(); err != nil {
				return usageError("", "%w", err)
			}
			if f.detach {
				return t.detach(c.Context(), cfg)
			}
			if f.supervise {
				cfg.Log = slog.New(slog.NewTextHandler(t.err, nil))
			}
			return t.supervise(c.Context(), cfg, !f.supervise)
		},
	}
	c.Flags().IntVarP(&f.nodes, "nodes", "n", 0, "how many, 1 to 32 (default 5)")
	c.Flags().BoolVar(&f.detach, "detach", false, "return when it is ready; it runs on in the background")
	c.Flags().BoolVar(&f.keep, "keep", false, "don't remove its data at the end")
	c.Flags().Float64Var(&f.rate, "mine-rate", testnet.DefaultRate, "`H/s` of each node; the difficulty fits it")
	c.Flags().IntVar(&f.port, "base-port", testnet.BasePort, "first `PORT` to try")
	c.Flags().BoolVar(&f.supervise, "supervise", false, "")
	c.Flags().BoolVar(&f.alone, "alone", false, "")
	for _, hidden := range []string{"supervise", "alone"} {
		_ = c.Flags().MarkHidden(hidden)
	}
	return c
}

// newSupervisor is testnet.New with the exit code of a network in the way.
func newSupervisor(cfg testnet.Config) (*testnet.Supervisor, error) {
	s, err := testnet.New(cfg)
	var running *testnet.RunningError
	if errors.As(err, &running) {
		return nil, fail(exitRunning, program()+" testnet ps --name "+running.Name+"\n"+program()+" testnet down --name "+running.Name, "%w", err)
	}
	return s, err
}

// supervise runs the network in this process until ctx ends or it is told to go down.
func (t *testnetCmd) supervise(ctx context.Context, cfg testnet.Config, show bool) error {
	s, err := newSupervisor(cfg)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	select {
	case err := <-done:
		return err
	case <-s.Ready():
	}
	if show {
		st := s.State(ctx)
		if err := t.printUp(&st); err != nil {
			return err
		}
		t.say("Ctrl-C stops it and removes what it made.")
	}
	err = <-done
	if show && err == nil {
		what := "and removed " + s.Dir()
		if _, err := os.Stat(s.Dir()); err == nil {
			what = "its data is kept in " + s.Dir()
		}
		t.say("%s stopped, %s", s.Name(), what)
	}
	return err
}

// detach starts this binary again as the supervisor, in a session of its own, and returns when the network is ready.
func (t *testnetCmd) detach(ctx context.Context, cfg testnet.Config) error {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(cfg.Dir, "supervisor.log"), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	list := []string{"testnet", "up", "--supervise", "--name", cfg.Name, "-n", fmt.Sprint(cfg.Nodes),
		"--mine-rate", fmt.Sprintf("%g", cfg.MineRate), "--base-port", fmt.Sprint(cfg.BasePort)}
	if cfg.Keep {
		list = append(list, "--keep")
	}
	if cfg.Alone {
		list = append(list, "--alone")
	}
	cmd := exec.Command(cfg.Command[0], list...)
	cmd.Env = append(os.Environ(), nodeEnv...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = testnet.Detached()
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if st, ok := t.readyState(ctx, cfg.Name); ok {
			return t.printUp(&st)
		}
		select {
		case err := <-done:
			return supervisorFailed(log, cfg.Dir, err)
		case <-ctx.Done():
			_ = cmd.Process.Signal(terminate)
			<-done
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (t *testnetCmd) readyState(ctx context.Context, name string) (testnet.State, bool) {
	if !testnet.Recorded(name) {
		return testnet.State{}, false
	}
	c, _, err := testnet.Find(name)
	if err != nil {
		return testnet.State{}, false
	}
	st, err := c.State(ctx)
	return st, err == nil && st.Ready
}

// supervisorFailed hands on what the detached process printed, with its exit code.
func supervisorFailed(log *os.File, dir string, err error) error {
	code := exitOther
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		code = exit.ExitCode()
	}
	_, _ = log.Seek(0, io.SeekStart)
	text, _ := io.ReadAll(io.LimitReader(log, 1<<20))
	_ = os.Remove(log.Name())
	_ = os.Remove(dir) // if nothing else came to be in it
	said, hint := "the supervisor ended without a word", ""
	for line := range strings.Lines(string(text)) {
		if s, ok := strings.CutPrefix(line, "quipu: "); ok {
			said, hint = strings.TrimSpace(s), ""
		} else if h, ok := strings.CutPrefix(line, "  try: "); ok {
			hint += h
		}
	}
	return fail(code, hint, "%s", said)
}

// printUp says what there is now and what to type next.
func (t *testnetCmd) printUp(s *testnet.State) error {
	for _, p := range s.Ports {
		t.say("port %d is taken by another program; stepped over it", p)
	}
	if t.json {
		return t.writeJSON(s)
	}
	fmt.Fprintf(t.out, "test network %s (genesis %s), ready in %s; data: %s\n\n%s\n%s\nall nodes on one page: %s/\n",
		s.Name, s.Network.ID.Short(), ago(time.Duration(s.StartedMS)*time.Millisecond), s.Dir, upTable(s), accountTable(s), s.URL)
	t.say("%s", tryNext(s.Name, len(s.Nodes)))
	return nil
}

// upTable lists the nodes with their endpoints.
func upTable(s *testnet.State) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  NODE\tSTATE\tPEERS\tHEIGHT\tP2P\tHTTP")
	for _, n := range s.Nodes {
		fmt.Fprintf(w, "  %s\t%s\t%d\t%d\t%s\t%s\n", n.Name, n.State, n.Peers, n.Height, n.P2P, n.HTTP)
	}
	w.Flush()
	return b.String()
}

// accountTable lists the funded accounts.
func accountTable(s *testnet.State) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  WALLET\tQPU\tADDRESS (random throw-away keys, this network only)")
	for _, a := range s.Accounts {
		fmt.Fprintf(w, "  %s\t%s\t%s\n", a.Label, wallet.FormatAmount(uint64(a.Balance)), a.Address)
	}
	w.Flush()
	return b.String()
}

// tryNext is for a network of n nodes.
func tryNext(name string, n int) string {
	p := program()
	sides := "1/2"
	for k := 3; k <= n; k++ {
		sep := ","
		if k == 3 {
			sides, sep = "1,2", "/"
		}
		sides += sep + strconv.Itoa(k)
	}
	rows := [][2]string{
		{"send bob 1.5 -y", "pay from alice, and wait until it confirms"},
		{"testnet ps", "every node's height and tip"},
		{"testnet kill 3", "then: testnet start 3"},
		{"testnet partition " + sides, "then: testnet heal"},
		{"testnet add --bad bad-signature", "a liar, and what becomes of it"},
		{"testnet down", "end " + name + " and remove what it made"},
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "\nTry in another terminal:")
	for _, r := range rows {
		fmt.Fprintf(w, "  %s %s\t%s\n", p, r[0], r[1])
	}
	w.Flush()
	return strings.TrimRight(b.String(), "\n")
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"quipu/chain"
	"quipu/rpc"
	"quipu/testnet"
)

func init() { commands = append(commands, demoCommand) }

// demoNodes are the five of the tour. demoPhases (demo_phases.go) gives what is done with them.
var demoNodes = []string{"node-1", "node-2", "node-3", "node-4", "node-5"}

const demoStart = 20 * time.Second // for five processes to answer and connect

// demo is one run of the tour.
type demo struct {
	*app
	net      *testnet.Supervisor
	g        *chain.Genesis
	accounts map[string]chain.Account // by label
	doc      demoDoc
	now      *demoPhase // under way
	since    time.Time  // its start
}

// demoDoc is the --json summary.
type demoDoc struct {
	Schema  string       `json:"schema"`
	Name    string       `json:"name"`
	Network rpc.Network  `json:"network"`
	OK      bool         `json:"ok"`
	Failed  string       `json:"failed,omitempty"` // phase: check
	ReadyMS int64        `json:"ready_ms"`
	TotalMS int64        `json:"total_ms"`
	Phases  []*demoPhase `json:"phases"`
}

// demoPhase ends with all nodes on one tip.
type demoPhase struct {
	Name      string         `json:"name"`
	OK        bool           `json:"ok"`
	TookMS    int64          `json:"took_ms"`
	Checks    []demoCheck    `json:"checks"`
	Height    uint64         `json:"height"`
	Tip       *chain.BlockID `json:"tip"`
	StateRoot *chain.Hash    `json:"state_root"`
}

type demoCheck struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
	AtMS   int64  `json:"at_ms"` // from the phase's start
}

type demoFlags struct{ once, noOpen, keep bool }

func demoCommand(a *app) *cobra.Command {
	var f demoFlags
	c := &cobra.Command{
		Use: "demo", Short: "Five real nodes, a payment, a crash, an attacker, a partition", GroupID: "start",
		Args:    args(0, 0, ""),
		Example: "  quipu demo\n  quipu demo --once --json     for CI: exits 0, or 10 with the check that failed",
		Long: "Starts five processes of this same binary that form a network on loopback sockets, and checks that they do\n" +
			"what they should: each verifies a payment by itself, one is killed and catches up, liars are refused and\n" +
			"banned, a network cut in two becomes one again. It stays up until Ctrl-C and then deletes what it made.",
		RunE: func(c *cobra.Command, _ []string) error { return (&demo{app: a}).run(c.Context(), f) },
	}
	c.Flags().BoolVar(&f.once, "once", false, "end after the checks: exit 0, or 10 if one failed")
	c.Flags().BoolVar(&f.noOpen, "no-open", false, "don't open the live view in a browser")
	c.Flags().BoolVar(&f.keep, "keep", false, "leave data and logs where they are")
	return c
}

func (d *demo) run(ctx context.Context, f demoFlags) error {
	began := time.Now()
	name := testnet.RandomName("demo")
	cfg := testnet.Config{Name: name, Dir: filepath.Join(os.TempDir(), "quipu-"+name), Nodes: len(demoNodes), Keep: f.keep, Env: nodeEnv}
	var err error
	if d.net, err = newSupervisor(cfg); err != nil {
		return err
	}
	d.g = d.net.Genesis()
	d.doc = demoDoc{Schema: "quipu.demo/v1", Name: name, Network: rpc.NetworkOf(d.g)}

	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- d.net.Run(running) }()
	defer func() { stop() }()

	err = d.tour(ctx, done, f)
	d.doc.TotalMS = time.Since(began).Milliseconds()
	d.doc.OK = err == nil
	var failed *checkError
	if errors.As(err, &failed) {
		d.doc.Failed = failed.phase + ": " + failed.check
		d.showLogs()
	}
	if f.once || err != nil || ctx.Err() != nil {
		stop()
		runErr := <-done
		if d.json && ctx.Err() == nil {
			if jsonErr := d.writeJSON(d.doc); err == nil {
				err = jsonErr
			}
		}
		if err == nil {
			d.summary()
		}
		if failed != nil {
			return checkFailed(program()+" demo --once --keep", "demo: %w", failed)
		}
		return errors.Join(err, runErr)
	}
	d.summary()
	if d.json {
		if err := d.writeJSON(d.doc); err != nil {
			return err
		}
	}
	d.say("\nLive view: %s/     Ctrl-C stops everything and deletes what it made.", d.net.URL())
	d.say("%s", tryNext(name, 5))
	err = <-done
	d.say("%s stopped, and removed %s", name, d.net.Dir())
	return err
}

// tour waits for the network and goes through the phases. done is the supervisor's end, which nobody asked for yet.
func (d *demo) tour(ctx context.Context, done chan error, f demoFlags) error {
	select {
	case err := <-done:
		done <- nil // for the caller, who waits for it again
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return d.notStarted(err)
	case <-time.After(demoStart):
		return &checkError{"0 start", "five nodes answer and connect", fmt.Sprintf("not within %s", demoStart)}
	case <-d.net.Ready():
	}
	st := d.net.State(ctx)
	d.doc.ReadyMS = st.StartedMS
	d.accounts = map[string]chain.Account{}
	for _, a := range st.Accounts {
		account, err := chain.DecodeAddress(d.g.Prefix, a.Address)
		if err != nil {
			return err
		}
		d.accounts[a.Label] = account
	}
	d.line("quipu %s  demo network %s (genesis %s)  data: %s, deleted on exit\n\n", version(), d.doc.Name, d.doc.Network.ID.Short(), d.net.Dir())
	for _, p := range st.Ports {
		d.say("port %d is taken by another program; stepped over it", p)
	}
	d.line("%s\n%s\nLive view: %s/     ready in %s\n\n", upTable(&st), accountTable(&st), st.URL, ago(time.Duration(st.StartedMS)*time.Millisecond))
	if !f.noOpen && !f.once && d.live() {
		openBrowser(st.URL + "/")
	}
	for i, p := range demoPhases {
		if err := d.phase(ctx, fmt.Sprintf("%d %s", i+1, p.name), p.deadline, p.run); err != nil {
			return err
		}
	}
	return nil
}

// notStarted says which node could not be started and why.
func (d *demo) notStarted(err error) error {
	if err == nil {
		err = errors.New("the network was told to stop")
	}
	return &checkError{"0 start", "five nodes answer and connect", err.Error()}
}

// phase runs one part of the tour within its deadline. It ends with all nodes on the same tip and state root.
func (d *demo) phase(ctx context.Context, name string, deadline time.Duration, do func(*demo, context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	d.now, d.since = &demoPhase{Name: name}, time.Now()
	d.doc.Phases = append(d.doc.Phases, d.now)
	d.net.Note("phase", "", name)
	err := do(d, limited)
	if err == nil {
		err = d.agree(limited)
	}
	d.now.TookMS = time.Since(d.since).Milliseconds()
	d.now.OK = err == nil
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var failed *checkError
	if err != nil && !errors.As(err, &failed) { // a call failed or the time was over between checks
		err = &checkError{name, "every call is answered in time", err.Error()}
	}
	if err != nil {
		d.net.Note("failed", "", err.Error())
		d.line("   FAILED      %v\n", err)
		return err
	}
	d.net.Note("ok", "", name+" held")
	return nil
}

// checkError is a check that didn't hold in time.
type checkError struct{ phase, check, detail string }

func (e *checkError) Error() string {
	return fmt.Sprintf("%s: %q does not hold: %s", e.phase, e.check, e.detail)
}

const demoPoll = 40 * time.Millisecond

// holds asks again and again until cond holds, and prints one line; it fails when the phase's time is over. cond gives
// what there is to see either way. The label is at most 11 characters.
func (d *demo) holds(ctx context.Context, label, check string, cond func(context.Context) (detail string, ok bool)) error {
	tick := time.NewTicker(demoPoll)
	defer tick.Stop()
	last := "nothing was seen"
	for {
		detail, ok := cond(ctx)
		if ok {
			d.passed(label, check, detail)
			return nil
		}
		if ctx.Err() == nil {
			last = detail // afterwards every call fails
		}
		select {
		case <-ctx.Done():
			d.now.Checks = append(d.now.Checks, demoCheck{check, false, last, d.ms()})
			return &checkError{d.now.Name, check, last}
		case <-tick.C:
		}
	}
}

func (d *demo) passed(label, check, detail string) {
	d.now.Checks = append(d.now.Checks, demoCheck{check, true, detail, d.ms()})
	d.row(label, detail, true)
}

func (d *demo) ms() int64 { return time.Since(d.since).Milliseconds() }

// row prints one line of a phase, with the time since its start; ok marks what was checked.
func (d *demo) row(label, text string, ok bool) {
	mark := ""
	if ok {
		mark = "  ok"
	}
	d.line("   %-11s %-66s %8s%s\n", label, text, fmt.Sprintf("+%.2f s", time.Since(d.since).Seconds()), mark)
}

// line goes to standard output, unless that carries the JSON document.
func (d *demo) line(format string, args ...any) {
	if d.json {
		if !d.quiet {
			fmt.Fprintf(d.err, format, args...)
		}
		return
	}
	fmt.Fprintf(d.out, format, args...)
}

func (d *demo) summary() {
	held := 0
	for _, p := range d.doc.Phases {
		if p.OK {
			held++
		}
	}
	d.line("\n%d of %d parts held, in %s.\n", held, len(demoPhases), ago(time.Duration(d.doc.TotalMS)*time.Millisecond))
}

// showLogs prints the end of every node's log, since the data is about to go.
func (d *demo) showLogs() {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	for _, n := range d.net.State(ctx).Nodes {
		d.say("--- %s (%s, height %d, %d peers), end of its log:\n%s", n.Name, n.State, n.Height, n.Peers,
			strings.TrimRight(clean2(string(testnet.Tail(n.Log, 1500))), "\n"))
	}
}

// clean2 is clean that leaves line ends.
func clean2(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = clean(lines[i])
	}
	return strings.Join(lines, "\n")
}

// openBrowser shows a page if there is a desktop to show it on.
func openBrowser(url string) {
	var cmd *exec.Cmd
	switch {
	case runtime.GOOS == "darwin":
		cmd = exec.Command("open", url)
	case runtime.GOOS == "windows":
		cmd = exec.Command("rundll32", "url.dll,FileProtocolHandler", url)
	case os.Getenv("DISPLAY") != "" || os.Getenv("WAYLAND_DISPLAY") != "":
		cmd = exec.Command("xdg-open", url)
	default:
		return
	}
	if cmd.Start() == nil {
		go func() { _ = cmd.Wait() }()
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"quipu/testnet"
	"quipu/wallet"
)

func init() {
	commands = append(commands, testnetCommand)
	discoverTestnet = func() (runningNet, bool) {
		env, ok := testnet.Discover()
		return runningNet{Name: env.Name, URL: env.RPC, Wallets: env.Wallets}, ok
	}
}

// testnetCmd is what the verbs share: which of the running networks is meant.
type testnetCmd struct {
	*app
	name string
}

func testnetCommand(a *app) *cobra.Command {
	t := &testnetCmd{app: a}
	c := noun("network", "testnet", "Real nodes on this machine, to kill, cut and attack",
		t.up(), t.ps(),
		t.nodeVerb("kill", "SIGKILL a node: it gets no chance to tidy up"),
		t.nodeVerb("stop", "Stop a node cleanly"),
		t.nodeVerb("start", "Start a node again, on the data it left"),
		t.nodeVerb("pause", "Halt a node's process (SIGSTOP)"),
		t.nodeVerb("resume", "Let a paused node go on"),
		t.partition(), t.heal(), t.add(), t.faucet(), t.logs(), t.env(), t.down())
	c.Example = "  quipu testnet up                       five nodes, until Ctrl-C; --detach for the background\n" +
		"  quipu testnet ps                       every node's height and tip\n" +
		"  quipu testnet kill 3                   and start 3, pause 3, resume 3\n" +
		"  quipu testnet partition 1,2/3,4,5      two sides, two tips; heal joins them\n" +
		"  quipu testnet add --bad bad-signature  a liar, and what becomes of it\n" +
		"  quipu testnet down                     ends it and removes what it made"
	c.PersistentFlags().StringVar(&t.name, "name", "", "`NAME` of the test network, where several run")
	return c
}

// find is the network that the verbs are for.
func (t *testnetCmd) find() (*testnet.Client, testnet.Record, error) {
	t.testnet = t.name
	c, r, err := testnet.Find(t.name)
	switch {
	case errors.Is(err, testnet.ErrNone):
		return nil, r, fail(exitNotFound, "quipu testnet up --detach", "%w", err)
	case err != nil:
		return nil, r, usageError("", "%w", err)
	}
	return c, r, nil
}

func (t *testnetCmd) nodeVerb(what, short string) *cobra.Command {
	return &cobra.Command{
		Use: what + " <node>", Short: short, Args: args(1, 1, "a node, as 3 or node-3"),
		RunE: func(c *cobra.Command, given []string) error {
			if _, err := testnet.ParseNode(given[0]); err != nil {
				return usageError("", "%w", err)
			}
			net, _, err := t.find()
			if err != nil {
				return err
			}
			n, err := net.Node(c.Context(), what, given[0])
			if err != nil {
				return err
			}
			if t.json {
				return t.writeJSON(nodeDoc{"quipu.testnet.node/v1", n})
			}
			fmt.Fprintf(t.out, "%s is %s\n", n.Name, n.State)
			switch what {
			case "kill", "stop":
				t.say("  next: %s", t.typed("quipu testnet start "+strings.TrimPrefix(n.Name, "node-")))
			case "pause":
				t.say("  next: %s", t.typed("quipu testnet resume "+strings.TrimPrefix(n.Name, "node-")))
			}
			return nil
		},
	}
}

type nodeDoc struct {
	Schema string `json:"schema"`
	testnet.Node
}

func (t *testnetCmd) ps() *cobra.Command {
	return &cobra.Command{
		Use: "ps", Short: "Every node: state, peers, height, tip", Args: args(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			net, _, err := t.find()
			if err != nil {
				return err
			}
			s, err := net.State(c.Context())
			if err != nil {
				return err
			}
			if t.json {
				return t.writeJSON(s)
			}
			fmt.Fprint(t.out, psTable(&s))
			return nil
		},
	}
}

// psTable is what a person reads of a State.
func psTable(s *testnet.State) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tSTATE\tPEERS\tHEIGHT\tTIP\tSIDE\tBANS\tPOOL\tUP")
	for _, n := range s.Nodes {
		peers, height, tip, bans, pool, up := "-", "-", "-", "-", "-", "-"
		if n.Tip != nil {
			peers, height, tip = fmt.Sprint(n.Peers), fmt.Sprint(n.Height), n.Tip.String()[:8]
			bans, pool = fmt.Sprint(n.Bans), fmt.Sprint(n.Mempool)
		}
		if n.PID != 0 {
			up = ago(time.Duration(n.UpMS) * time.Millisecond)
		}
		state := n.State
		if n.Kind != testnet.Honest {
			state += " (" + n.Kind + ")"
		}
		side := n.Side
		if side == "" {
			side = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", n.Name, state, peers, height, tip, side, bans, pool, up)
	}
	w.Flush()
	for _, n := range s.Nodes {
		if n.Exit != "" {
			fmt.Fprintf(&b, "%s ended by itself: %s\n", n.Name, clean(n.Exit))
		}
	}
	switch {
	case s.CutSince != nil:
		fmt.Fprintf(&b, "%s; partitioned for %s\n", plural(s.Tips, "%d tip", "%d tips"), ago(time.Since(*s.CutSince)))
	case s.Tips > 1:
		fmt.Fprintf(&b, "%d tips: the nodes disagree on the last block; usually that is over with the next one\n", s.Tips)
	case s.Tips == 1:
		fmt.Fprintf(&b, "1 tip: all nodes that are up agree, at height %d\n", s.Height)
	}
	return b.String()
}

func (t *testnetCmd) partition() *cobra.Command {
	return &cobra.Command{
		Use: "partition <sides>", Short: "Cut the network: 1,2/3,4,5", Args: args(1, 1, "the sides, as 1,2/3,4,5"),
		RunE: func(c *cobra.Command, given []string) error {
			net, _, err := t.find()
			if err != nil {
				return err
			}
			p, err := net.Partition(c.Context(), given[0])
			if err != nil {
				return err
			}
			if t.json {
				return t.writeJSON(sidesDoc{"quipu.testnet.partition/v1", p})
			}
			fmt.Fprintf(t.out, "cut %s: %s\n", plural(p.Links, "%d link", "%d links"), sidesText(p.Sides))
			t.say("each side goes on with a branch of its own; the one with more work wins when they meet\n  next: %s", t.typed("quipu testnet heal"))
			return nil
		},
	}
}

type sidesDoc struct {
	Schema string `json:"schema"`
	testnet.Partitioned
}

func sidesText(sides [][]string) string {
	out := make([]string, len(sides))
	for i, s := range sides {
		out[i] = "{" + strings.Join(s, " ") + "}"
	}
	return strings.Join(out, " | ")
}

func (t *testnetCmd) heal() *cobra.Command {
	return &cobra.Command{
		Use: "heal", Short: "Join the sides of a partition again", Args: args(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			net, _, err := t.find()
			if err != nil {
				return err
			}
			p, err := net.Heal(c.Context())
			if err != nil {
				return err
			}
			if t.json {
				return t.writeJSON(sidesDoc{"quipu.testnet.heal/v1", p})
			}
			if len(p.Sides) == 0 {
				fmt.Fprintln(t.out, "nothing was cut")
			} else {
				fmt.Fprintf(t.out, "joined %s\n", plural(p.Links, "%d link", "%d links"))
			}
			return nil
		},
	}
}

func (t *testnetCmd) add() *cobra.Command {
	var bad string
	c := &cobra.Command{
		Use: "add", Short: "One more node, or with --bad a liar", Args: args(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			net, _, err := t.find()
			if err != nil {
				return err
			}
			n, err := net.Add(c.Context(), bad)
			if err != nil {
				return err
			}
			if t.json {
				return t.writeJSON(nodeDoc{"quipu.testnet.node/v1", n})
			}
			fmt.Fprintf(t.out, "%s is %s (%s), peer %s\n", n.Name, n.State, n.Kind, n.PeerID)
			if bad != "" {
				t.say("  next: %s     the BANS column", t.typed("quipu testnet ps"))
			}
			return nil
		},
	}
	c.Flags().StringVar(&bad, "bad", "", fmt.Sprintf("`KIND` of liar: %s", strings.Join(testnet.BadKinds, " or ")))
	return c
}

type paidDoc struct {
	Schema string `json:"schema"`
	testnet.Paid
}

func (t *testnetCmd) faucet() *cobra.Command {
	return &cobra.Command{
		Use: "faucet <to> <amount>", Short: "Pay from dave to an address or a label; prints the txid",
		Args: args(2, 2, "an address or label, and an amount in QPU"),
		RunE: func(c *cobra.Command, given []string) error {
			amount, err := wallet.ParseAmount(given[1])
			if err != nil {
				return usageError("", "%w", err)
			}
			net, _, err := t.find()
			if err != nil {
				return err
			}
			p, err := net.Faucet(c.Context(), testnet.FaucetParams{To: given[0], Amount: decimal(amount)})
			if err != nil {
				return err
			}
			if t.json {
				return t.writeJSON(paidDoc{"quipu.testnet.faucet/v1", p})
			}
			t.say("%s QPU from %s to %s, handed to %s", wallet.FormatAmount(amount), p.From, p.To, p.Node)
			fmt.Fprintln(t.out, p.TxID)
			if t.name != "" && t.rpc == "" { // another network may be the one that is asked without
				if e, err := net.Env(c.Context(), p.Node); err == nil {
					t.rpc = e.RPC
				}
			}
			t.say("  next: %s", t.typed("quipu tx watch "+p.TxID.String()))
			return nil
		},
	}
}

func (t *testnetCmd) env() *cobra.Command {
	return &cobra.Command{
		Use: "env [node]", Short: "Shell lines that point other commands at a node", Args: args(0, 1, "a node, as 3 or node-3"),
		Example: "  eval \"$(quipu testnet env 2)\"; quipu status",
		RunE: func(c *cobra.Command, given []string) error {
			net, _, err := t.find()
			if err != nil {
				return err
			}
			e, err := net.Env(c.Context(), strings.Join(given, ""))
			if err != nil {
				return err
			}
			if t.json {
				return t.writeJSON(struct {
					Schema string `json:"schema"`
					testnet.Env
				}{"quipu.testnet.env/v1", e})
			}
			fmt.Fprintf(t.out, "export QUIPU_RPC=%s\nexport QUIPU_RPC_TOKEN_FILE=%s\n", shellQuote(e.RPC), shellQuote(e.TokenFile))
			t.say("# %s of %s; data %s, genesis %s", e.Node, e.Name, e.DataDir, e.Genesis)
			return nil
		},
	}
}

func (t *testnetCmd) logs() *cobra.Command {
	var follow bool
	var most int64
	c := &cobra.Command{
		Use: "logs <node>", Short: "The end of a node's log", Args: args(1, 1, "a node, as 3 or node-3"),
		RunE: func(c *cobra.Command, given []string) error {
			k, err := testnet.ParseNode(given[0])
			if err != nil {
				return usageError("", "%w", err)
			}
			net, _, err := t.find()
			if err != nil {
				return err
			}
			s, err := net.State(c.Context())
			if err != nil {
				return err
			}
			if k > len(s.Nodes) {
				return fail(exitNotFound, "quipu testnet ps", "there is no node-%d in %s", k, s.Name)
			}
			return followLog(c.Context(), t.out, s.Nodes[k-1].Log, most<<10, follow)
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on printing what is added, until Ctrl-C")
	c.Flags().Int64Var(&most, "last", 64, "`KIB` from the end")
	return c
}

// followLog prints the end of a log, and what is added to it until ctx ends.
func followLog(ctx context.Context, out io.Writer, path string, most int64, follow bool) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { f.Close() }()
	if _, err := out.Write(testnet.TailOf(f, most)); err != nil || !follow {
		return err
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := io.Copy(out, f); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		held, err1 := f.Stat()
		now, err2 := os.Stat(path)
		if err1 == nil && err2 == nil && !os.SameFile(held, now) { // the log was full and begun anew
			if _, err := io.Copy(out, f); err != nil {
				return err
			}
			next, err := os.Open(path)
			if err != nil {
				return err
			}
			f.Close()
			f = next
		}
	}
}

func (t *testnetCmd) down() *cobra.Command {
	var keep bool
	c := &cobra.Command{
		Use: "down", Short: "Stop every node and remove what the network made", Args: args(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			net, r, err := t.find()
			if err != nil {
				if cleaned := t.cleanLeftovers(keep); cleaned {
					return nil
				}
				return err
			}
			d, err := net.Down(c.Context(), keep)
			if err != nil {
				return err
			}
			if err := testnet.AwaitGone(c.Context(), r); err != nil {
				return err
			}
			if t.json {
				return t.writeJSON(struct {
					Schema string `json:"schema"`
					Name   string `json:"name"`
					testnet.Down
				}{"quipu.testnet.down/v1", r.Name, d})
			}
			what := "and removed"
			if !d.Removed {
				what = "its data is kept in " + d.Dir
			}
			fmt.Fprintf(t.out, "%s stopped, %s\n", r.Name, what)
			return nil
		},
	}
	c.Flags().BoolVar(&keep, "keep", false, "leave the data where it is")
	return c
}

// cleanLeftovers removes what supervisors that were killed have left behind.
func (t *testnetCmd) cleanLeftovers(keep bool) bool {
	cleaned := false
	for _, r := range testnet.Leftover() {
		if t.name != "" && t.name != r.Name {
			continue
		}
		if err := r.Clean(keep); err != nil {
			t.say("%s: %v", r.Name, err)
			continue
		}
		fmt.Fprintf(t.out, "%s was not running any more; cleaned up %s\n", r.Name, filepath.Base(r.Dir))
		cleaned = true
	}
	return cleaned
}

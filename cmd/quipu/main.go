// Command quipu is the node, the wallet, the test network and the tour, in one binary.
//
//	main.go      the command tree, global flags; exit.go: exit codes; helptext.go: quipu help <topic>
//	paths.go     data directories (XDG); endpoint.go: which node to ask, which token; term.go: prompts, passphrases
//	util.go      JSON and words on the screen
//	node.go      node run          status.go  status            peer.go   peer list|bans
//	chain.go     chain head|block|blocks    chaindata.go  chain verify|export    chainimport.go  chain import|info
//	proof.go     account proof, tx proof, proof verify          light.go  account balance
//	tx.go        tx status|watch   wallet.go  wallet …          send.go   send; wait.go: what it waits for
//	testnet.go   testnet …         demo.go    demo              bench.go  bench verify|…
package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"quipu/testnet"
)

func main() {
	testnet.WatchParent() // a node of a test network ends with its supervisor
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, terminate)
	context.AfterFunc(ctx, stop) // the second Ctrl-C forces
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// app is what all commands share. Results go to out, everything else to err.
type app struct {
	in       io.Reader
	out, err io.Writer

	json    bool   // one JSON document on out
	quiet   bool   // no progress and no hints on err
	noInput bool   // never ask
	noColor bool   // no colours
	rpc     string // --rpc: URL of a node's API; see endpoint.go
	token   string // --rpc-token-file
	dataDir string // --data-dir of the command that has it; see paths.go
	testnet string // --name of testnet's commands

	lines *bufio.Reader             // over in, for questions
	found func() (runningNet, bool) // the running test network, looked for once
}

// commands, and nodeVerbs in node.go, are added by the files that make them, in an init each. A command may set GroupID to one of groups.
var commands []func(*app) *cobra.Command

var groups = []cobra.Group{
	{ID: "start", Title: "Start here"},
	{ID: "money", Title: "Money"},
	{ID: "node", Title: "Your node and the chain"},
	{ID: "network", Title: "Networks to play with"},
}

// run is the whole program: it returns the exit code. It can be called many times in one process.
func run(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	a := &app{in: in, out: out, err: errw, found: sync.OnceValues(discoverTestnet)}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errw)
	return a.report(root.ExecuteContext(ctx))
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "quipu",
		Short: "A peer-to-peer ledger you can watch verify itself",
		Example: "  quipu demo                  five nodes, a payment, a crash, an attacker, in a minute\n" +
			"  quipu testnet up            a network of your own on this machine\n" +
			"  quipu send bob 1.5          pay, and wait until it confirms\n" +
			"  quipu node run              a node of the open network",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version(),
		Args:          unknownCommand,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetVersionTemplate("quipu {{.Version}}\n")
	root.SuggestionsMinimumDistance = 2
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError(c.CommandPath()+" --help", "%v", err)
	})
	f := root.PersistentFlags()
	f.BoolVar(&a.json, "json", false, "print the result as one JSON document")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "no progress and no hints")
	f.BoolVar(&a.noInput, "no-input", false, "never ask; fail instead")
	f.BoolVar(&a.noColor, "no-color", false, "no colours")
	f.StringVar(&a.rpc, "rpc", "", "`URL` of a node's API (default: $QUIPU_RPC, a running test network, "+defaultRPC+")")
	f.StringVar(&a.token, "rpc-token-file", "", "`FILE` with the node's token, for commands that change a node")
	for i := range groups {
		root.AddGroup(&groups[i])
	}
	for _, add := range commands {
		root.AddCommand(add(a))
	}
	root.AddCommand(a.helpTopics()...)
	return root
}

// noun makes a command that only has subcommands.
func noun(group, use, short string, verbs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, GroupID: group, Args: unknownCommand,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(verbs...)
	return c
}

// unknownCommand is the Args of commands that take none: what stands there was meant to be a subcommand.
func unknownCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := c.CommandPath() + " --help"
	if c.SuggestionsMinimumDistance <= 0 {
		c.SuggestionsMinimumDistance = 2
	}
	if s := c.SuggestionsFor(args[0]); len(s) > 0 {
		hint = c.CommandPath() + " " + strings.Join(s, "\n"+c.CommandPath()+" ")
	}
	return usageError(hint, "%q is not a command of %q", args[0], c.CommandPath())
}

// args makes the Args of a command that takes from least to most values, named in words for the error.
func args(least, most int, words string) cobra.PositionalArgs {
	return func(c *cobra.Command, given []string) error {
		if len(given) >= least && len(given) <= most {
			return nil
		}
		what := "wants " + words
		if words == "" {
			what = "takes no values"
		}
		return usageError(c.CommandPath()+" --help", "%q %s, and was given %d", c.CommandPath(), what, len(given))
	}
}

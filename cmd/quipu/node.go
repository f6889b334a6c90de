package main

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"

	ma "github.com/multiformats/go-multiaddr"
	"github.com/spf13/cobra"

	"quipu/chain"
	"quipu/chain/ledger"
	"quipu/node"
)

func init() { commands = append(commands, nodeCommand) }

// version is the node's: one binary, one version.
func version() string { return node.Version }

// nodeVerbs are further subcommands of node, added by the files that make them.
var nodeVerbs []func(*app) *cobra.Command

func nodeCommand(a *app) *cobra.Command {
	c := noun("node", "node", "Run a full node", (&running{a: a}).command())
	for _, add := range nodeVerbs {
		c.AddCommand(add(a))
	}
	return c
}

// defaultGC is the garbage collector's target in percent. Badger's memtables are Go heap that its pacing counts:
// at 100 a node would hold four times as much.
const defaultGC = 15

// freeSpace replaces the question to the file system in tests; nil asks it.
var freeSpace func(dir string) (uint64, error)

// running is one run of node run.
type running struct {
	a *app

	genesis, http, profile, miner, logFormat string
	cpuProfile                               string
	listen, bootstrap, allowHost             []string
	checkpoints                              []string
	prune, stateMemory                       int
	mine, history, discover, mdns            bool
	mineRate                                 float64
	maxUpload                                string
	sync                                     string
	edge                                     edge
	watch                                    *watchSync
}

func (r *running) command() *cobra.Command {
	c := &cobra.Command{
		Use: "run", Short: "Run a full node until Ctrl-C", Args: args(0, 0, ""),
		Example: "  quipu node run\n" +
			"  quipu node run --bootstrap /dns4/node.example/tcp/4820/p2p/12D3…\n" +
			"  quipu node run --mine --miner $(quipu wallet address miner)",
		Long: "Verifies everything itself and serves what it has verified. It can be killed at any moment and goes on\n" +
			"from there. Its API listens on this machine only.",
		RunE: func(c *cobra.Command, _ []string) error {
			// A test network's supervisor tells its nodes of one another.
			r.discover = r.discover && (r.profile != "testnet" || c.Flags().Changed("discover"))
			return r.run(c.Context())
		},
	}
	f := c.Flags()
	r.a.addDataDir(c)
	f.StringVar(&r.genesis, "genesis", "", "genesis `FILE` of the network (default: the open network, built in)")
	f.StringArrayVar(&r.listen, "listen", nil, "`MULTIADDR` to accept peers on (default TCP and QUIC on port 4820); may be given often")
	f.StringVar(&r.http, "http", "127.0.0.1:4821", "`ADDRESS` of the API; \"\" starts none")
	f.StringArrayVar(&r.bootstrap, "bootstrap", nil, "`MULTIADDR` with /p2p/ id of a node or bootnode to begin with; may be given often")
	f.BoolVar(&r.discover, "discover", true, "find further peers by asking those it knows; off with --profile testnet unless given")
	f.BoolVar(&r.mdns, "mdns", false, "look for peers on the local network too, by multicast")
	r.edge.flags(f)
	f.StringArrayVar(&r.allowHost, "allow-host", nil, "further `HOST` name the API answers to; may be given often")
	f.StringVar(&r.maxUpload, "max-upload", "0", "`RATE` at which peers are answered, all together: 8mbit, 1MiB; 0 doesn't limit")
	f.IntVar(&r.prune, "prune", 0, "keep the bodies of the last `N` blocks only, at least 4096; 0 keeps all")
	f.IntVar(&r.stateMemory, "state-memory", ledger.StateMemory>>20, "`MIB` that accounts in memory may take; those of more are read from disk")
	f.StringVar(&r.sync, "sync", "full", "full applies every block; snapshot begins an empty node with the accounts of a recent block and applies what\nlies before in the background")
	f.BoolVar(&r.history, "history", false, "keep each account's transactions findable: quipu account history")
	f.StringArrayVar(&r.checkpoints, "checkpoint", nil, "`HEIGHT:ID`: follow no other block at that height; may be given often")
	f.BoolVar(&r.mine, "mine", false, "make blocks")
	f.Float64Var(&r.mineRate, "mine-rate", 0, "hashes a second at most; 0 is as fast as one core goes")
	f.StringVar(&r.miner, "miner", "", "`ADDRESS` or wallet that is paid for blocks")
	f.StringVar(&r.logFormat, "log-format", "text", "text or json")
	f.StringVar(&r.cpuProfile, "cpuprofile", "", "write a CPU profile to `FILE` until the node stops")
	f.StringVar(&r.profile, "profile", "", "testnet: many nodes on one machine")
	for _, hidden := range []string{"profile", "cpuprofile"} {
		_ = f.MarkHidden(hidden) // fails for an unknown flag only
	}
	return c
}

func (r *running) run(ctx context.Context) (err error) {
	cfg, err := r.config()
	if err != nil {
		return err
	}
	stop, err := cpuProfile(r.cpuProfile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(defaultGC)
	}
	n, err := node.New(cfg)
	if err != nil {
		return startError(err, cfg.DataDir)
	}
	r.banner(&cfg, n.About())
	watching, unwatch := context.WithCancel(ctx)
	var watched sync.WaitGroup
	watched.Go(func() { r.watch.run(watching, n, cfg.Log) })
	defer watched.Wait()
	defer unwatch()
	defer context.AfterFunc(ctx, func() {
		r.a.say("stopping cleanly; Ctrl-C again forces it")
	})()
	var reading sync.WaitGroup
	following, end := context.WithCancel(ctx)
	reading.Go(func() { r.edge.follow(following, r.a, n) })
	err = n.Run(ctx)
	end()
	reading.Wait()
	if err != nil {
		return startError(err, cfg.DataDir)
	}
	if ctx.Err() != nil {
		r.a.say("stopped")
	}
	return nil
}

// config turns flags into a node's configuration. All it refuses is exit 2.
func (r *running) config() (cfg node.Config, err error) {
	if cfg.Genesis, err = genesisFile(r.genesis); err != nil {
		return cfg, err
	}
	switch r.profile {
	case "", "testnet":
		cfg.TestNet = r.profile == "testnet"
	default:
		return cfg, usageError("", "--profile %q: only testnet is known", r.profile)
	}
	if r.mineRate < 0 {
		return cfg, usageError("", "--mine-rate %g: it can't be negative", r.mineRate)
	}
	if r.mine && r.miner == "" {
		return cfg, usageError(r.minerHint(), "--mine needs --miner, the address that is paid for the blocks")
	}
	if r.miner != "" {
		if cfg.Miner, _, err = r.a.recipient(r.miner, cfg.Genesis); err != nil {
			return cfg, err
		}
	}
	if cfg.DataDir, err = r.a.nodeDir(cfg.Genesis.Name); err != nil {
		return cfg, err
	}
	if err := r.checkAddresses(); err != nil {
		return cfg, err
	}
	if r.mdns && !r.discover {
		return cfg, usageError("leave --discover=false out", "--mdns finds peers, and --discover is off")
	}
	cfg.Discover, cfg.MDNS = r.discover, r.mdns
	cfg.Listen, cfg.HTTP, cfg.AllowHost, cfg.Bootstrap = r.listen, r.http, r.allowHost, r.bootstrap
	if cfg.MaxUpload, err = parseRate(cmp.Or(r.maxUpload, "0")); err != nil {
		return cfg, usageError("add --max-upload 8mbit", "--max-upload %v", err)
	}
	if cfg.Prune = r.prune; r.prune != 0 && r.prune < minPrune {
		return cfg, usageError("add --prune 4096", "--prune %d: at least %d bodies have to be kept, as many as a reorg may take back; 0 keeps all", r.prune, minPrune)
	}
	if r.stateMemory < 1 || r.stateMemory > 1<<20 {
		return cfg, usageError("leave it out for the default", "--state-memory %d: 1 to %d MiB", r.stateMemory, 1<<20)
	}
	if r.stateMemory != ledger.StateMemory>>20 {
		cfg.StateMemory = int64(r.stateMemory) << 20
	}
	if cfg.Checkpoints, err = parseCheckpoints(r.checkpoints, cfg.Genesis); err != nil {
		return cfg, err
	}
	switch r.sync {
	case "full", "":
	case "snapshot":
		if cfg.SyncSnapshot = true; r.history {
			return cfg, usageError("leave --history out until quipu status says that the node is verified", "--sync snapshot and --history: the index needs every block, in order")
		}
	default:
		return cfg, usageError("", "--sync %q: full or snapshot", r.sync)
	}
	cfg.Mine, cfg.MineRate, cfg.FreeSpace, cfg.History = r.mine, r.mineRate, freeSpace, r.history
	r.watch = &watchSync{a: r.a, live: r.a.live()}
	switch r.logFormat {
	case "text":
		cfg.Log = slog.New(slog.NewTextHandler(r.watch, nil))
	case "json":
		cfg.Log = slog.New(slog.NewJSONHandler(r.watch, nil))
	default:
		return cfg, usageError("", "--log-format %q: text or json", r.logFormat)
	}
	if cfg.Network, err = r.edge.config(); err != nil {
		return cfg, err
	}
	if err := cfg.Validate(); err != nil {
		return cfg, usageError("", "%v", err)
	}
	return cfg, nil
}

// checkAddresses refuses what can't be an address, before anything is opened.
func (r *running) checkAddresses() error {
	for _, s := range r.listen {
		if _, err := ma.NewMultiaddr(s); err != nil {
			return usageError("add --listen /ip4/0.0.0.0/tcp/4820", "--listen %.200q is no multiaddress: %v", s, err)
		}
	}
	for _, s := range r.bootstrap {
		m, err := ma.NewMultiaddr(s)
		if err == nil {
			_, err = m.ValueForProtocol(ma.P_P2P)
		}
		if err != nil {
			return usageError("add --bootstrap /ip4/192.0.2.1/tcp/4820/p2p/12D3…, as the other node prints it", "--bootstrap %.200q is no multiaddress that ends in /p2p/<peer id>: %v", s, err)
		}
	}
	if r.http == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(r.http)
	if _, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil {
		return usageError("add --http 127.0.0.1:4821", "--http %.200q is no HOST:PORT", r.http)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return usageError("add --http 127.0.0.1:"+port, "--http %s: the API listens on this machine only; put a reverse proxy in front of it", r.http)
	}
	return nil
}

// minerHint is the two commands that make --mine work, on the same network.
func (r *running) minerHint() string {
	genesis := ""
	if r.genesis != "" {
		genesis = " --genesis " + shellQuote(r.genesis)
	}
	return "quipu wallet new miner" + genesis +
		"\nquipu node run" + genesis + " --mine --miner $(" + typed("quipu wallet address miner") + ")"
}

func (r *running) banner(cfg *node.Config, about node.About) {
	say := r.a.say
	say("quipu %s  network %s  data %s", version(), cfg.Genesis, cfg.DataDir)
	say("  peer id  %s", about.PeerID)
	for i, addr := range about.Listen {
		if i == 3 {
			say("           and %d more", len(about.Listen)-i)
			break
		}
		say("  listen   %s", addr)
	}
	if about.URL == "" {
		say("  API      none")
		return
	}
	say("  API      %s", about.URL)
	if cfg.Mine {
		say("  mining   to %s", chain.EncodeAddress(cfg.Genesis.Prefix, cfg.Miner))
	}
	other := ""
	if about.URL != defaultRPC {
		other = " --rpc " + about.URL
	}
	say("In another terminal: %s     Ctrl-C stops.", typed("quipu status"+other))
}

// startError gives what can keep a node from running its exit code.
func startError(err error, dir string) error {
	e := classify(err)
	switch {
	case e.code != exitOther && e.code != exitNotFound:
		return e
	case strings.Contains(err.Error(), "address already in use"): // libp2p gives text only
		return &exitError{exitRunning, err, "add --listen /ip4/0.0.0.0/tcp/0 for any free port"}
	case errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrNotExist), strings.Contains(err.Error(), "not a directory"):
		return &exitError{exitData, err, "add --data-dir DIR, a directory of yours"}
	}
	return e
}

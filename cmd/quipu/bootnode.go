package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"quipu/p2p"
	"quipu/rpc"
)

func init() { commands = append(commands, bootnodeCommand) }

// bootnodeDoc is what bootnode --json prints when it listens.
type bootnodeDoc struct {
	Schema    string   `json:"schema"`
	Network   string   `json:"network"`
	PeerID    string   `json:"peer_id"`
	Addresses []string `json:"addresses"`
	HTTP      string   `json:"http,omitempty"`
}

// bootnode is one run of it.
type bootnode struct {
	a                 *app
	genesis, http     string
	listen, bootstrap []string
	private           edge // allowed peers, key and external addresses alone
	maxPeers          int
	testNet           bool
}

func bootnodeCommand(a *app) *cobra.Command {
	b := &bootnode{a: a}
	c := &cobra.Command{
		Use: "bootnode", Short: "Tell newcomers of others, and nothing else", GroupID: "node", Args: args(0, 0, ""),
		Example: "  quipu bootnode\n  quipu bootnode --genesis our.json --listen /ip4/0.0.0.0/tcp/4819",
		Long: "Keeps addresses of nodes that connect to it and hands them to others: no chain, no wallet, no mining. Prints its\n" +
			"addresses on stdout; what others need is one of them after --bootstrap. A network lives on without it.",
		RunE: func(c *cobra.Command, _ []string) error {
			if b.private.networkKey != "" && !c.Flags().Changed("listen") {
				b.listen = b.listen[:1] // a key is for TCP only
			}
			return b.run(c.Context())
		},
	}
	f := c.Flags()
	a.addDataDir(c)
	f.StringVar(&b.genesis, "genesis", "", "genesis `FILE` of the network (default: the open network, built in)")
	f.StringArrayVar(&b.listen, "listen", []string{"/ip4/0.0.0.0/tcp/4819", "/ip4/0.0.0.0/udp/4819/quic-v1"}, "`MULTIADDR` to accept nodes on; may be given often")
	f.StringArrayVar(&b.bootstrap, "bootstrap", nil, "`MULTIADDR` with /p2p/ id of another bootnode or node to ask; may be given often")
	f.IntVar(&b.maxPeers, "max-peers", 256, "connections at once, `N` at most")
	f.StringVar(&b.private.allowPeers, "allow-peers", "", "`FILE` of the only peer ids that may connect, one a line; read at start")
	f.StringVar(&b.private.networkKey, "network-key", "", "`FILE` of the nodes' pre-shared key (libp2p swarm key); TCP only")
	f.StringArrayVar(&b.private.external, "external-addr", nil, "`MULTIADDR` that others reach it at, printed and announced too; may be given often")
	f.StringVar(&b.http, "http", "", "`ADDRESS` on this machine for /health/livez and /metrics (default: none)")
	f.BoolVar(&b.testNet, "testnet", false, "many nodes on one machine")
	_ = f.MarkHidden("testnet") // fails for an unknown flag only
	return c
}

func (b *bootnode) run(ctx context.Context) error {
	g, err := genesisFile(b.genesis)
	if err != nil {
		return err
	}
	if err := (&running{listen: b.listen, bootstrap: b.bootstrap, http: b.http}).checkAddresses(); err != nil {
		return err
	}
	b.private.maxPeers = b.maxPeers
	network, err := b.private.config()
	if err != nil {
		return err
	}
	dir, err := b.a.nodeDir(g.Name)
	if err != nil {
		return err
	}
	dir = filepath.Join(dir, "bootnode") // beside a node's: two programs, two identities
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return startError(fmt.Errorf("data directory: %w", err), dir)
	}
	identity, err := p2p.LoadIdentity(filepath.Join(dir, "node.key"))
	if err != nil {
		return startError(err, dir)
	}
	cfg := p2p.Config{
		Identity: identity, Listen: b.listen, Bootstrap: b.bootstrap, MaxPeers: b.maxPeers, TestNet: b.testNet,
		UserAgent: "quipu-bootnode", Log: slog.New(slog.NewTextHandler(b.a.err, nil)), BookFile: filepath.Join(dir, "peers.book"),
		AllowPeers: network.AllowPeers, NetworkKey: network.Key, External: network.External,
	}
	if err := cfg.Validate(); err != nil {
		return usageError("", "%w", err)
	}
	h, err := p2p.NewHost(cfg)
	if err != nil {
		return startError(err, dir)
	}
	defer h.Close()
	node, err := p2p.NewBootnode(cfg, h, g.NetworkID())
	if err != nil {
		return err
	}
	doc := bootnodeDoc{Schema: "quipu.bootnode/v1", Network: g.NetworkID().String(), PeerID: node.ID(), Addresses: node.Addrs()}
	if b.http != "" {
		ln, err := rpc.Listen(b.http, false)
		if err != nil {
			return startError(err, dir)
		}
		doc.HTTP = "http://" + ln.Addr().String()
		srv := bootnodeHTTP(node)
		go srv.Serve(ln)
		defer srv.Close()
	}
	b.a.say("quipu %s  bootnode of network %s  data %s", version(), g, dir)
	if err := b.print(doc); err != nil {
		return err
	}
	return node.Run(ctx)
}

func (b *bootnode) print(doc bootnodeDoc) error {
	if b.a.json {
		return b.a.writeJSON(doc)
	}
	for _, addr := range doc.Addresses {
		fmt.Fprintln(b.a.out, addr)
	}
	return nil
}

// bootnodeHTTP answers two pages in text.
func bootnodeHTTP(node *p2p.Bootnode) *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health/livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		info, counts := node.Info(), node.Counters()
		fmt.Fprintf(w, "quipu_peers %d\nquipu_addresses_new %d\nquipu_addresses_tried %d\n", node.Peers(), info.New, info.Tried)
		for _, name := range slices.Sorted(maps.Keys(counts)) {
			fmt.Fprintf(w, "quipu_p2p_events_total{what=%q} %d\n", name, counts[name])
		}
	})
	return &http.Server{Handler: mux, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, MaxHeaderBytes: 8 << 10}
}

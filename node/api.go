package node

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"quipu/chain"
	"quipu/explorer"
	"quipu/rpc"
)

// Version of the program, set at build time.
var Version = "0.1.0"

// api answers over HTTP what people and programs ask of one node. It only reads, except for submit and the admin
// methods.
type api struct {
	n      *Node
	server *rpc.Server
	atOnce int // tests: bytes of bodies that one answer of account_history reads; 0 is maxHistoryBytes
}

func newAPI(n *Node) (*api, error) {
	ln, err := rpc.Listen(n.cfg.HTTP, false)
	if err != nil {
		return nil, err
	}
	a := &api{n: n}
	methods, err := rpc.API{
		NodeStatus: a.nodeStatus, ChainHead: a.chainHead, ChainBlock: a.chainBlock, ChainBlocks: a.chainBlocks,
		ChainGenesis: a.chainGenesis, TxSubmit: a.txSubmit, TxStatus: a.txStatus, AccountGet: a.accountGet, AccountHistory: a.accountHistory,
		AccountProof: a.accountProof, TxProof: a.txProof,
		StateSnapshots: a.stateSnapshots, StateRange: a.stateRange,
		MempoolStats: a.mempoolStats, MempoolList: a.mempoolList, PeerList: a.peerList, PeerBans: a.peerBans, PeerBook: a.peerBook,
		Events: n.events.since, AdminGate: a.adminGate, AdminConnect: a.adminConnect, AdminUnban: a.adminUnban, AdminStop: a.adminStop,
	}.Table()
	if err == nil {
		a.server, err = rpc.New(rpc.Config{
			Methods: methods, TokenFile: n.cfg.path("rpc.token"), AllowHosts: n.cfg.AllowHost, Events: n.events.since,
			Health: a.health, Metrics: n.metrics.registry, Page: explorer.Node(),
			Extra: map[string]http.Handler{"/status.txt": http.HandlerFunc(a.statusText)}, Log: n.log,
		}, ln)
	}
	if err != nil {
		ln.Close()
		return nil, err
	}
	return a, nil
}

// run serves until ctx ends; admin_stop ends the whole node.
func (a *api) run(ctx context.Context) error { return a.server.Serve(ctx) }

func (a *api) nodeStatus(context.Context, rpc.NoParams) (rpc.NodeStatus, error) {
	n := a.n
	tip, best := n.ledger.Tip(), n.ledger.BestHeader()
	issued, burned := n.ledger.Supply()
	s := rpc.NodeStatus{
		Version: Version, PID: os.Getpid(), Started: n.started.UTC(), UptimeMS: time.Since(n.started).Milliseconds(),
		Network: rpc.NetworkOf(n.g), PeerID: n.net.ID(), Listen: n.net.Addrs(), HTTP: a.server.URL(),
		Tip: rpc.RefOf(&tip), TipAgeMS: n.tipAge().Milliseconds(), StateRoot: tip.Header.StateRoot, Work: tip.Work.Dec(),
		BestHeader: rpc.RefOf(&best), Bans: len(n.net.Bans()), Mempool: a.poolStats(), EventSeq: n.events.seq(),
		Supply: rpc.Supply{
			Genesis: rpc.Decimal(n.g.Supply()), Issued: rpc.Decimal(issued), Burned: rpc.Decimal(burned), Max: rpc.Decimal(n.g.MaxSupply()),
		},
	}
	s.History = n.historyStatus()
	s.Pruned = n.ledger.Pruned()
	s.Verified, s.Snapshot = n.Verified(), n.snapshotStatus()
	if n.cfg.Discover {
		d := n.discovery()
		s.Discovery = &d
	}
	for _, p := range n.net.Peers() {
		if p.Outbound {
			s.Peers.Out++
		} else {
			s.Peers.In++
		}
	}
	s.Sync = n.syncStatus(s.Peers.In + s.Peers.Out)
	s.Mining = rpc.Mining{On: n.cfg.Mine, RateCap: uint64(n.cfg.MineRate), HashRate: n.hashRate.Load(), BlocksMined: n.blocksMined.Load()}
	if n.cfg.Mine {
		s.Mining.Miner = chain.EncodeAddress(n.g.Prefix, n.cfg.Miner)
	}
	s.Health = a.health().Ready
	s.Hint = a.hint(&s)
	return s, nil
}

func (a *api) hint(s *rpc.NodeStatus) string {
	switch {
	case a.n.rebuilding.Load() && !a.n.awaiting.Load():
		return "a heavier chain is applied anew from block 0, which goes on by itself: watch it with quipu status"
	case a.n.deep.Load() != nil:
		return "this node prepares to follow a heavier chain from block 0: watch it with quipu status"
	case s.Peers.In+s.Peers.Out == 0 && len(a.n.cfg.Bootstrap) == 0:
		return "no peers: start with --bootstrap MULTIADDR, or give others this node's address: " + reachable(s.Listen)
	case s.Peers.In+s.Peers.Out == 0:
		return "no peer answers: check the --bootstrap addresses and that their nodes run"
	case s.Sync.State == "snapshot":
		return "beginning with a snapshot: watch it with quipu status"
	case s.Sync.State == "bodies" || s.Sync.State == "headers":
		return "catching up: watch it with quipu status"
	}
	if age := a.n.tipAge(); age >= a.n.stale() {
		return fmt.Sprintf("no block for %v: is anybody mining? quipu node run --mine --miner WALLET", age.Round(time.Second))
	}
	return "pay with: quipu send ADDRESS AMOUNT"
}

// reachable is the first address that other machines may reach.
func reachable(list []string) string {
	for _, addr := range list {
		if !strings.HasPrefix(addr, "/ip4/127.") && !strings.HasPrefix(addr, "/ip6/::1/") {
			return addr
		}
	}
	return "it listens on this machine only"
}

// stale is the age from which a tip is no longer recent: 30 spacings.
func (n *Node) stale() time.Duration { return 30 * time.Duration(n.g.Spacing) * time.Millisecond }

// health: live is that the process turns, which answering shows; ready is what a caller relies on.
func (a *api) health() rpc.Health {
	n := a.n
	tip, best := n.ledger.Tip(), n.ledger.BestHeader()
	peers := n.nodes()
	behind := uint64(0)
	if best.Header.Height > tip.Header.Height {
		behind = best.Header.Height - tip.Header.Height
	}
	skew := n.medianSkew()
	following := rpc.Check{Name: "heaviest chain", OK: true, Detail: "followed"}
	if deep := n.deep.Load(); deep != nil {
		following = rpc.Check{Name: "heaviest chain", Detail: deep.Error()}
	}
	if r := n.ledger.Rebuilding(); r != nil {
		following = rpc.Check{Name: "heaviest chain", Detail: fmt.Sprintf("applied anew from block 0: %d of %d", r.Height, r.Goal)}
	}
	verified := rpc.Check{Name: "verified", OK: true, Detail: "every block applied here"}
	if snap := n.snapshotStatus(); snap != nil {
		verified.OK, verified.Detail = false, snap.String()
	}
	return rpc.Health{
		Live: []rpc.Check{{Name: "process", OK: true}},
		Ready: []rpc.Check{
			{Name: "peers", OK: peers > 0, Detail: fmt.Sprintf("%d connected", peers)},
			{Name: "synced", OK: behind <= 2, Detail: fmt.Sprintf("%d blocks behind", behind)},
			{Name: "tip age", OK: n.tipAge() < n.stale(), Detail: n.tipAge().Round(time.Second).String()},
			following,
			{Name: "clock", OK: skew.Abs() < 5*time.Second, Detail: fmt.Sprintf("%v from the peers' median", skew.Round(time.Millisecond))},
			verified,
		},
	}
}

func (a *api) statusText(w http.ResponseWriter, r *http.Request) {
	s, _ := a.nodeStatus(r.Context(), rpc.NoParams{})
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(w, "network  %s (%s)\nheight   %d\ntip      %s\nstate    %s\npeers    %d\nsync     %s, %d behind\npool     %d transactions\n%s\n",
		s.Network.Name, s.Network.ID.Short(), s.Tip.Height, s.Tip.ID, s.StateRoot, s.Peers.In+s.Peers.Out, s.Sync.State,
		s.Sync.Behind, s.Mempool.Txs, s.Hint)
}

// tipAge is how old the tip is by its own time; a tip from a clock ahead of ours has age 0.
func (n *Node) tipAge() time.Duration {
	return max(0, time.Since(time.UnixMilli(int64(n.ledger.Tip().Header.Time))))
}

func (a *api) adminGate(_ context.Context, p rpc.AdminGateParams) (rpc.AdminGate, error) {
	if err := a.n.net.Gate(p.Block); err != nil {
		return rpc.AdminGate{}, rpc.Errorf(rpc.NameInvalidParams, "", "block: %v", err)
	}
	return rpc.AdminGate{Blocked: p.Block}, nil
}

func (a *api) adminConnect(ctx context.Context, p rpc.AdminConnectParams) (rpc.AdminConnect, error) {
	if err := a.n.net.Connect(ctx, p.Addr); err != nil {
		return rpc.AdminConnect{}, rpc.Errorf(rpc.NameRefused, "check that the address ends in /p2p/ID and its node runs", "connect: %v", err)
	}
	return rpc.AdminConnect{ID: p.Addr[strings.LastIndex(p.Addr, "/")+1:]}, nil
}

func (a *api) adminUnban(_ context.Context, p rpc.AdminUnbanParams) (rpc.AdminUnban, error) {
	was, err := a.n.net.Pardon(p.ID)
	if err != nil {
		return rpc.AdminUnban{}, rpc.Errorf(rpc.NameInvalidParams, "quipu peer bans", "%v", err)
	}
	return rpc.AdminUnban{ID: p.ID, Banned: was}, nil
}

func (a *api) adminStop(context.Context, rpc.NoParams) (rpc.AdminStop, error) {
	a.n.log.Info("stopping: asked by admin_stop")
	a.n.halt()
	return rpc.AdminStop{Stopping: true}, nil
}

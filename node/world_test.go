package node

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holiman/uint256"
	"github.com/libp2p/go-libp2p/x/simlibp2p"
	"github.com/marcopolo/simnet"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/p2p"
)

var alice, bob, carol = chaintest.NewKey("alice"), chaintest.NewKey("bob"), chaintest.NewKey("carol")

// world runs whole nodes, in memory, over real libp2p on a simulated network in virtual time: QUIC, 100 Mbit/s,
// 20 ms round trip.
type world struct {
	*testing.T
	g     *chain.Genesis
	net   *simnet.Simnet
	nodes []*Node
	stop  []func()
}

const (
	worldStart = 946_684_800_000 // synctest's clock starts on 2000-01-01
	mineRate   = 100             // hashes a second of one miner
)

// worldGenesis has blocks each second when so many miners work.
func worldGenesis(miners int) *chain.Genesis {
	return chaintest.Genesis(func(g *chain.Genesis) {
		g.Time = worldStart
		var target uint256.Int
		target.Div(target.SetAllOne(), uint256.NewInt(uint64(mineRate*miners)))
		g.Bits = chain.ToBits(&target)
	}, alice, bob)
}

func inWorld(t *testing.T, g *chain.Genesis, f func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, g: g, net: &simnet.Simnet{LatencyFunc: simnet.StaticLatency(10 * time.Millisecond)}}
		w.net.Start()
		defer func() {
			for i := len(w.stop) - 1; i >= 0; i-- {
				w.stop[i]()
			}
			w.net.Close()
		}()
		f(w)
	})
}

func (w *world) host() p2p.Host {
	w.Helper()
	identity, err := p2p.NewIdentity()
	if err != nil {
		w.Fatal(err)
	}
	link := simnet.LinkSettings{BitsPerSecond: 100 * simlibp2p.OneMbps}
	h, err := p2p.NewHost(p2p.Config{
		Identity: identity, TestNet: true,
		Listen: []string{fmt.Sprintf("/ip4/%s/udp/8000/quic-v1", simnet.IntToPublicIPv4(len(w.stop)+1))},
	}, simlibp2p.QUICSimnet(w.net, simnet.NodeBiDiLinkSettings{Downlink: link, Uplink: link}))
	if err != nil {
		w.Fatal(err)
	}
	return h
}

// start runs a node that dials all nodes started before it. edit may be nil.
func (w *world) start(edit func(*Config)) *Node {
	w.Helper()
	cfg := Config{Genesis: w.g, Host: w.host(), TestNet: true}
	for _, n := range w.nodes {
		cfg.Bootstrap = append(cfg.Bootstrap, n.net.Addrs()...)
	}
	if os.Getenv("QUIPU_LOG") != "" {
		cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", len(w.nodes)+1)
	}
	if edit != nil {
		edit(&cfg)
	}
	return w.run(cfg)
}

// run runs a node until the world ends.
func (w *world) run(cfg Config) *Node {
	w.Helper()
	n, err := New(cfg)
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	w.stop = append(w.stop, func() {
		cancel()
		if err := <-done; err != nil {
			w.Errorf("Run: %v", err)
		}
	})
	w.nodes = append(w.nodes, n)
	return n
}

// mining is an edit that makes a node mine for its own account.
func mining(name string) func(*Config) {
	return func(c *Config) {
		c.Mine, c.MineRate, c.Miner = true, mineRate, chaintest.NewKey(name).Account
	}
}

// within waits, in virtual time, until cond holds.
func (w *world) within(d time.Duration, what string, cond func() bool) {
	w.Helper()
	for start := time.Now(); !cond(); time.Sleep(20 * time.Millisecond) { // virtual
		if time.Since(start) > d {
			for i, n := range w.nodes {
				tip, best := n.Tip(), n.BestHeader()
				w.Logf("node %d: tip %d %s, best header %d, peers %d, pool %d, bans %v", i+1, tip.Header.Height, tip.ID.String()[:8],
					best.Header.Height, len(n.net.Peers()), n.pool.Stats().Txs, n.net.Bans())
			}
			w.Fatalf("after %v of virtual time: not %s", d, what)
		}
	}
}

// agree holds when all given nodes have one tip at or above a height.
func agree(height uint64, nodes ...*Node) func() bool {
	return func() bool {
		for _, n := range nodes {
			if tip := n.Tip(); tip.Header.Height < height || tip.ID != nodes[0].Tip().ID {
				return false
			}
		}
		return true
	}
}

// submit hands a transaction to one node as the API does.
func submit(w *world, n *Node, t chain.Tx) chain.TxID {
	w.Helper()
	raw := chaintest.Raw(t)
	if res := n.AcceptTxs([][]byte{raw}); res[0].Err != nil {
		w.Fatalf("submit: %v", res[0].Err)
	}
	n.net.PublishTxs([][]byte{raw})
	return t.ID(w.g.NetworkID())
}

// confirmed holds when a transaction has so many confirmations on each node.
func confirmed(id chain.TxID, depth uint64, nodes ...*Node) func() bool {
	return func() bool {
		for _, n := range nodes {
			loc, _, ok, err := n.ledger.FindTx(id)
			if err != nil || !ok || n.Tip().Header.Height-loc.Height+1 < depth {
				return false
			}
		}
		return true
	}
}

func balance(w *world, n *Node, k chaintest.Key) uint64 {
	w.Helper()
	_, accs, err := n.ledger.Accounts([]chain.Account{k.Account})
	if err != nil {
		w.Fatal(err)
	}
	return accs[k.Account].Balance
}

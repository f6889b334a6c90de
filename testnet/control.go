package testnet

import (
	"context"
	"net/http"
	"path/filepath"
	"time"

	"quipu/explorer"
	"quipu/rpc"
)

func (s *Supervisor) genesisFile() string { return filepath.Join(s.cfg.Dir, "genesis.json") }

func (s *Supervisor) controlToken() string { return filepath.Join(s.cfg.Dir, "control.token") }

// newServer makes the control listener: the verbs, and a page with every node's height and tip.
func (s *Supervisor) newServer() (*rpc.Server, error) {
	node := func(name, doc string, do func(context.Context, string) (Node, error)) rpc.Entry {
		return rpc.Method(name, doc, true, func(ctx context.Context, p NodeParams) (Node, error) { return do(ctx, p.Node) })
	}
	plain := func(do func(string) (Node, error)) func(context.Context, string) (Node, error) {
		return func(_ context.Context, name string) (Node, error) { return do(name) }
	}
	return rpc.New(rpc.Config{
		Methods: []rpc.Entry{
			rpc.Method("testnet_ps", "Every node: state, peers, height, tip.", false,
				func(ctx context.Context, _ rpc.NoParams) (State, error) { return s.State(ctx), nil }),
			rpc.Method("testnet_env", "How to talk to one node; without a name the first that is up.", false,
				func(_ context.Context, p EnvParams) (Env, error) { return s.Env(p.Node) }),
			node("testnet_kill", "End a node with SIGKILL.", plain(s.Kill)),
			node("testnet_stop", "End a node cleanly.", plain(s.Stop)),
			node("testnet_start", "Start a node that has ended, on the data it left.", s.Start),
			node("testnet_pause", "Halt a node's process (SIGSTOP).", plain(s.Pause)),
			node("testnet_resume", "Let a paused node go on.", s.Resume),
			rpc.Method("testnet_partition", "Cut the network: sides as in 1,2/3,4,5.", true,
				func(ctx context.Context, p PartitionParams) (Partitioned, error) { return s.Partition(ctx, p.Sides) }),
			rpc.Method("testnet_heal", "Join the sides again.", true,
				func(ctx context.Context, _ rpc.NoParams) (Partitioned, error) { return s.Heal(ctx) }),
			rpc.Method("testnet_add", "Add an honest node, or a bad peer of a kind.", true,
				func(ctx context.Context, p AddParams) (Node, error) { return s.Add(ctx, p.Bad) }),
			rpc.Method("testnet_faucet", "Pay knots from dave to an address or label.", true, s.Faucet),
			rpc.Method("testnet_down", "Stop everything and, unless it is kept, remove it.", true,
				func(_ context.Context, p DownParams) (Down, error) { return s.Down(p.Keep), nil }),
		},
		TokenFile:   s.controlToken(),
		CallTimeout: verbTimeout,
		Page:        explorer.Testnet(),
		Extra:       map[string]http.Handler{"/api/state": explorer.State(s.page)},
		Log:         s.cfg.Log,
	}, s.ln)
}

// page is what the page of all nodes shows.
func (s *Supervisor) page() explorer.TestnetState {
	st := s.State(context.Background())
	out := explorer.TestnetState{Network: st.Name, Genesis: st.Network.ID.String(), Time: time.Now().UTC()}
	for i, n := range st.Nodes {
		row := explorer.TestnetNode{
			N: i + 1, Name: n.Name, State: n.State, Peers: n.Peers, Height: n.Height, Side: n.Side, Bans: n.Bans,
			UpMS: n.UpMS, HTTP: n.HTTP, P2P: n.P2P, PID: n.PID,
		}
		if n.Tip != nil {
			row.Tip = n.Tip.String()
		}
		if n.Kind != Honest {
			row.State = "bad"
		}
		out.Nodes = append(out.Nodes, row)
	}
	for _, h := range st.Happened {
		out.Log = append(out.Log, explorer.TestnetLog{Time: h.Time, Kind: h.Kind, Node: h.Node, Text: h.Text})
	}
	return out
}

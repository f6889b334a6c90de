package testnet

import (
	"time"

	"quipu/chain"
	"quipu/rpc"
)

// Schema is in every State.
const Schema = "quipu.testnet.ps/v1"

// What a member can be doing.
const (
	Starting = "starting" // process runs, doesn't answer yet
	Up       = "up"
	Paused   = "paused"  // SIGSTOP
	Killed   = "killed"  // SIGKILL
	Stopped  = "stopped" // ended cleanly, as asked
	Exited   = "exited"  // ended by itself; see exit
	Silent   = "silent"  // process runs, gives no answer
)

// Honest is the kind of a real node; other kinds are the bad peers'.
const Honest = "node"

// State is the result of testnet_ps and of /api/state: everything on one screen.
type State struct {
	Schema    string             `json:"schema"`
	Name      string             `json:"name"`
	Network   rpc.Network        `json:"network"`
	PID       int                `json:"pid"` // the supervisor's
	URL       string             `json:"url"` // the supervisor's
	Started   time.Time          `json:"started"`
	Ready     bool               `json:"ready"` // all nodes of the start answered and were connected
	Dir       string             `json:"dir"`
	Wallets   string             `json:"wallets"`
	Accounts  rpc.List[Labelled] `json:"accounts"`
	Nodes     rpc.List[Node]     `json:"nodes"`
	Sides     rpc.List[[]string] `json:"sides"`     // of a partition: names of nodes; empty when healed
	CutSince  *time.Time         `json:"cut_since"` // null when healed
	Tips      int                `json:"tips"`      // different tips among nodes that are up
	Height    uint64             `json:"height"`    // the highest among them
	Ports     rpc.List[int]      `json:"ports_taken"`
	Happened  rpc.List[Happened] `json:"happened"` // newest last, bounded
	StartedMS int64              `json:"started_ms"`
}

// Labelled is a funded account.
type Labelled struct {
	Label   string      `json:"label"`
	Address string      `json:"address"`
	Balance rpc.Decimal `json:"balance"` // knots, in genesis
}

// Node is one member. What needs an answer of the node (peers, height, tip …) is absent or 0 while it isn't up.
type Node struct {
	Name      string         `json:"name"`
	Kind      string         `json:"kind"` // "node", "bad-signature", "bad-block"
	State     string         `json:"state"`
	Exit      string         `json:"exit,omitempty"` // how it ended, and its last words
	PID       int            `json:"pid,omitempty"`
	PeerID    string         `json:"peer_id,omitempty"`
	P2P       string         `json:"p2p,omitempty"`  // multiaddress without the peer id
	HTTP      string         `json:"http,omitempty"` // URL
	Miner     string         `json:"miner,omitempty"`
	Dir       string         `json:"dir"`
	Log       string         `json:"log"`
	Side      string         `json:"side,omitempty"` // A, B, … while the network is partitioned
	Peers     int            `json:"peers"`
	Height    uint64         `json:"height"`
	Tip       *chain.BlockID `json:"tip,omitempty"`
	StateRoot *chain.Hash    `json:"state_root,omitempty"`
	Sync      string         `json:"sync,omitempty"`
	Mempool   int            `json:"mempool"`
	Bans      int            `json:"bans"`
	UpMS      int64          `json:"up_ms"`
}

// Happened is one thing that was done to the network or seen of it.
type Happened struct {
	Time time.Time `json:"time"`
	Kind string    `json:"kind"` // as explorer.TestnetLog's
	Node string    `json:"node,omitempty"`
	Text string    `json:"text"`
}

// NodeParams names a member: "3" or "node-3".
type NodeParams struct {
	Node string `json:"node"`
}

// PartitionParams is who can talk to whom, as in 1,2/3,4,5.
type PartitionParams struct {
	Sides string `json:"sides"`
}

// Partitioned is the result of testnet_partition and testnet_heal.
type Partitioned struct {
	Sides rpc.List[[]string] `json:"sides"`
	Links int                `json:"links"` // cut, or joined again
}

// AddParams asks for a further member: an honest node, or a bad peer of a kind.
type AddParams struct {
	Bad string `json:"bad,omitempty"`
}

// FaucetParams pays amount, in knots, to an address or a label.
type FaucetParams struct {
	To     string      `json:"to"`
	Amount rpc.Decimal `json:"amount"`
}

// Paid is the result of testnet_faucet: handed in, not yet confirmed.
type Paid struct {
	TxID   chain.TxID  `json:"txid"`
	From   string      `json:"from"` // label
	To     string      `json:"to"`   // address
	Amount rpc.Decimal `json:"amount"`
	Node   string      `json:"node"` // that it was handed to
}

// EnvParams names the node meant; without one it is the first that is up.
type EnvParams struct {
	Node string `json:"node,omitempty"`
}

// Env is what other programs need to talk to one node.
type Env struct {
	Name      string `json:"name"` // of the test network
	Node      string `json:"node"`
	RPC       string `json:"rpc"`
	TokenFile string `json:"token_file"`
	DataDir   string `json:"data_dir"`
	Wallets   string `json:"wallets"`
	Genesis   string `json:"genesis"` // file
}

// DownParams: keep leaves the data where it is.
type DownParams struct {
	Keep bool `json:"keep,omitempty"`
}

// Down is the result of testnet_down: the network stops after it has answered.
type Down struct {
	Dir     string `json:"dir"`
	Removed bool   `json:"removed"`
}

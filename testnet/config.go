package testnet

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"quipu/chain"
)

// Limits and defaults of a test network.
const (
	MaxNodes    = 32
	BasePort    = 4830 // of node-1: p2p, and HTTP one above; further nodes in steps of 10; the supervisor one below
	portStep    = 10
	DefaultRate = 500 // hashes a second a node mines with
	spacing     = time.Second
)

// Labels are the funded accounts of every test network. The faucet pays from the last.
var Labels = []string{"alice", "bob", "carol", "dave"}

const faucetLabel = "dave"

// Config is what a test network is made of. The zero value is five nodes with a random name.
type Config struct {
	Name     string   // 1 to 24 of a-z, 0-9 and '-'; "" is "testnet-" and 4 random hex digits
	Nodes    int      // 1 to 32; 0 is 5
	Dir      string   // holds everything; made, and removed at the end unless Keep; "" is Dir(Name)
	BasePort int      // 0 is 4830
	Miners   int      // how many of the nodes mine, the first ones; 0 is all
	MineRate float64  // hashes a second of each node that mines; 0 is 500
	Alone    bool     // refuse to run beside another test network
	Keep     bool     // leave Dir behind
	Command  []string // program, and arguments before "node run"; nil is this executable
	Env      []string // added to the nodes' environment
	NodeArgs []string // added to "node run"; a node's working directory is its own in Dir
	// Balances stand in a new genesis beside those of Labels; BodyLimit is its body_limit, 0 is 1 MiB.
	Balances  []chain.GenesisBalance
	BodyLimit uint32
	Log       *slog.Logger
}

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,23}$`)

// Validate fills in defaults and reports the first field that can't work.
func (c *Config) Validate() error {
	if c.Name == "" {
		c.Name = RandomName("testnet")
	}
	if !nameForm.MatchString(c.Name) {
		return fmt.Errorf("test network name %.40q: want 1 to 24 of a-z, 0-9 and '-'", c.Name)
	}
	if c.Nodes == 0 {
		c.Nodes = 5
	}
	if c.Nodes < 1 || c.Nodes > MaxNodes {
		return fmt.Errorf("%d nodes: want 1 to %d", c.Nodes, MaxNodes)
	}
	if c.Miners == 0 {
		c.Miners = c.Nodes
	}
	if c.Miners < 1 || c.Miners > c.Nodes {
		return fmt.Errorf("%d miners: want 1 to %d, or 0 for all nodes", c.Miners, c.Nodes)
	}
	if c.BasePort == 0 {
		c.BasePort = BasePort
	}
	if c.BasePort < 1025 || c.BasePort > 60_000 {
		return fmt.Errorf("base port %d: want 1025 to 60000", c.BasePort)
	}
	if c.MineRate == 0 {
		c.MineRate = DefaultRate
	}
	if c.MineRate < 50 || c.MineRate > 1e6 {
		return fmt.Errorf("mine rate %g: want 50 to 1000000 hashes a second", c.MineRate)
	}
	if c.BodyLimit == 0 {
		c.BodyLimit = bodyLimit
	}
	if c.Dir == "" {
		c.Dir = filepath.Join(stateDir(), "testnets", c.Name)
	}
	if c.Command == nil {
		exe, err := os.Executable()
		if err != nil {
			return fmt.Errorf("the path of this program: %w", err)
		}
		c.Command = []string{exe}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// RandomName is prefix, '-' and 4 random hex digits.
func RandomName(prefix string) string {
	var b [2]byte
	rand.Read(b[:])
	return prefix + "-" + hex.EncodeToString(b[:])
}

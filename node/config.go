package node

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"quipu/chain"
	"quipu/chain/ledger"
	"quipu/p2p"
)

// Config is all a node needs to know. The zero value of every field but Genesis works.
type Config struct {
	DataDir   string         // "" keeps everything in memory, for tests
	Genesis   *chain.Genesis // the network
	Listen    []string       // multiaddrs; nil is TCP and QUIC on port 4820 of all interfaces
	HTTP      string         // address of the API; "" starts none
	AllowHost []string       // further Host headers the API answers to
	Bootstrap []string       // multiaddrs with /p2p/ id, dialled at start and kept
	MaxUpload int64          // bytes a second of all answers to peers together; 0 doesn't limit
	Network   Network        // how the node meets its peers, beyond that
	Mine      bool
	MineRate  float64       // hashes a second; 0 is as fast as one core goes
	Miner     chain.Account // who is paid
	TestNet   bool          // small caches, quick gossip timers, private addresses trusted: many nodes on one machine
	Discover  bool          // find peers beyond Bootstrap
	MDNS      bool          // on the local network too
	Prune     int           // bodies kept, counted from the tip, at least 4,096; 0 keeps all
	History   bool          // keep the account history index
	// SyncSnapshot lets an empty node begin with a snapshot of the accounts from its peers: see snapsync.go.
	SyncSnapshot bool
	// Checkpoints name the only block that is followed at a height.
	Checkpoints map[uint64]chain.BlockID
	MinWork     chain.Work   // no chain with less is followed; 0 is what minWork says of the network
	MemTable    int64        // bytes of Badger's memtable; 0 is the profile's
	StateMemory int64        // bytes that accounts in memory may take; 0 is the profile's
	Log         *slog.Logger // nil is silent

	Host      p2p.Host                         // nil makes a real one from Listen
	FreeSpace func(dir string) (uint64, error) // nil asks the file system
	undoKeep  int                              // tests: see ledger.Config

	snapshots             int           // tests: blocks between snapshots; 0 is snapshotEvery
	snapshotTime          time.Duration // tests: most time that one takes; 0 is the constant of that name
	importCost, relayCost func(txs int) // tests in virtual time: sleep as long as checking, or finding, so many takes
}

// Network is what few operators need to say about the network edge. See p2p.Config.
type Network struct {
	MaxPeers      int            // 0 is 64
	AllowPeers    []string       // peer ids: the only ones that may connect, in or out; nil allows all
	Key           p2p.NetworkKey // who doesn't have it can't connect; TCP only
	External      []string       // multiaddrs announced besides those listened on
	NAT           bool           // behind a NAT: port mapping, AutoNAT, relays, hole punching
	Relay         bool           // others can reach this node: it relays for those behind a NAT
	SharedAddress bool           // many peers come from one address
}

// ErrNoMiner refuses to mine for nobody.
var ErrNoMiner = errors.New("mining needs an account to pay")

// Validate fills in defaults and reports the first field that can't work.
func (c *Config) Validate() error {
	if c.Genesis == nil {
		return errors.New("node: no genesis")
	}
	if c.Mine && c.Miner == (chain.Account{}) {
		return ErrNoMiner
	}
	if c.SyncSnapshot && c.History {
		return errors.New("node: the account history index needs every block: begin with a snapshot without it, and add it once the node is verified")
	}
	if c.MineRate < 0 {
		return fmt.Errorf("node: mine rate %g is negative", c.MineRate)
	}
	if c.Listen == nil {
		c.Listen = []string{"/ip4/0.0.0.0/tcp/4820"}
		if !c.Network.Key.Set() {
			c.Listen = append(c.Listen, "/ip4/0.0.0.0/udp/4820/quic-v1")
		}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.MinWork.IsZero() {
		c.MinWork = minWork[c.Genesis.NetworkID()]
	}
	if c.StateMemory == 0 && c.TestNet {
		c.StateMemory = 32 << 20
	}
	if c.MemTable == 0 && !c.TestNet {
		c.MemTable = max(ledger.NodeMemTable, ledger.MinMemTable(c.Genesis)) // a test network takes the least the ledger works with
	}
	net := c.network()
	_, err := net.Checked()
	return err
}

// network is all that p2p is told, but for the identity.
func (c *Config) network() p2p.Config {
	n := c.Network
	return p2p.Config{
		Listen: c.Listen, Bootstrap: c.Bootstrap, TestNet: c.TestNet, Log: c.Log, MaxUpload: c.MaxUpload,
		Discover: c.Discover, MDNS: c.MDNS, BookFile: c.path("peers.book"), BanFile: c.path("bans.json"),
		MaxPeers: n.MaxPeers, AllowPeers: n.AllowPeers, NetworkKey: n.Key, External: n.External,
		NAT: n.NAT, PortMap: n.NAT, Relay: n.Relay, SharedAddress: n.SharedAddress,
	}
}

// minWork is work that a network is known to have, by its id: a node that starts from nothing stores no header of a chain
// with less, so headers that are cheap to make take no room. A release may set it to the work of a block some weeks old.
var minWork = map[chain.NetworkID]chain.Work{}

func (c *Config) path(name string) string {
	if c.DataDir == "" {
		return ""
	}
	return filepath.Join(c.DataDir, name)
}

// tooFar is how far ahead of the own clock a header's time may be: beyond it is "not yet" (docs/spec.md §10).
func tooFar(g *chain.Genesis) time.Duration {
	return max(2*time.Duration(g.Spacing)*time.Millisecond, 10*time.Second)
}

// keysRemembered is how many senders' keys need no second square root: 8 MiB, on a test network 1 MiB.
func (c *Config) keysRemembered() int {
	if c.TestNet {
		return 1 << 14
	}
	return 1 << 17
}

package main

import (
	"context"
	"os"
	"path/filepath"

	"quipu"
	"quipu/chain"
	"quipu/rpc"
)

// defaultRPC is where a node started without flags serves its API.
const defaultRPC = "http://127.0.0.1:4821"

// runningNet is a test network that runs on this machine now.
type runningNet struct {
	Name    string
	URL     string // of its first node that is up
	Wallets string // directory of its labelled wallets
}

// discoverTestnet finds the running test network; false if there is none. testnet.go sets it, tests replace it.
var discoverTestnet = func() (runningNet, bool) { return runningNet{}, false }

// client is the node to ask: --rpc, then QUIPU_RPC, then the running test network, then defaultRPC.
func (a *app) client() *rpc.Client {
	c := &rpc.Client{TokenFile: a.token}
	if c.TokenFile == "" {
		c.TokenFile = os.Getenv("QUIPU_RPC_TOKEN_FILE")
	}
	switch {
	case a.rpc != "":
		c.URL, c.Source = a.rpc, "--rpc"
	case os.Getenv("QUIPU_RPC") != "":
		c.URL, c.Source = os.Getenv("QUIPU_RPC"), "QUIPU_RPC"
	default:
		if t, ok := a.found(); ok {
			c.URL, c.Source = t.URL, "running test network "+t.Name
			return c
		}
		c.URL, c.Source = defaultRPC, "default"
		if c.TokenFile == "" {
			if dir, err := a.nodeDir(openNetwork().Name); err == nil {
				c.TokenFile = existing(filepath.Join(dir, "rpc.token"))
			}
		}
	}
	return c
}

// existing is path, or "" if nothing is there.
func existing(path string) string {
	if exists(path) {
		return path
	}
	return ""
}

// askedNetwork is the network of the node that c asks, checked against the id the node claims.
func askedNetwork(ctx context.Context, c *rpc.Client) (*chain.Genesis, error) {
	r, err := c.ChainGenesis(ctx)
	if err != nil {
		return nil, err
	}
	return r.Parse()
}

// openNetwork is the network built into this program.
func openNetwork() *chain.Genesis {
	g, err := chain.ParseGenesis(quipu.GenesisJSON)
	if err != nil {
		panic(err) // a test parses it
	}
	return g
}

// genesisFile reads a genesis.json; "" is the open network's.
func genesisFile(path string) (*chain.Genesis, error) {
	if path == "" {
		return openNetwork(), nil
	}
	text, err := readBounded(path, maxGenesisFile)
	if err != nil {
		return nil, fail(exitNotFound, "", "genesis: %w", err)
	}
	g, err := chain.ParseGenesis(text)
	if err != nil {
		return nil, usageError("", "%s is no genesis of a network: %w", path, err)
	}
	return g, nil
}

const maxGenesisFile = 128 << 20

// walletNetwork is the network a new wallet is made for: --genesis, then that of a node named by --rpc, QUIPU_RPC or
// a running test network, then the open one. A wallet of the open network can be made with no node at all.
func (a *app) walletNetwork(ctx context.Context, genesis string) (*chain.Genesis, error) {
	if genesis != "" {
		return genesisFile(genesis)
	}
	if c := a.client(); c.Source != "default" {
		return askedNetwork(ctx, c)
	}
	return openNetwork(), nil
}

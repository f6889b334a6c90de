package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/signal"

	"github.com/spf13/pflag"

	"quipu/node"
	"quipu/p2p"
)

// edge is the flags of node run about how the node meets its peers.
type edge struct {
	allowPeers, networkKey, limits string
	external                       []string
	maxPeers                       int
	nat, relay                     bool
}

func (e *edge) flags(f *pflag.FlagSet) {
	f.IntVar(&e.maxPeers, "max-peers", 64, "`N` peers at most; above that, connections are closed")
	f.StringVar(&e.allowPeers, "allow-peers", "", "`FILE` of the only peer ids that may connect, one a line; read again on SIGHUP")
	f.StringVar(&e.networkKey, "network-key", "", "`FILE` of a pre-shared key (libp2p swarm key); who lacks it can't connect. TCP only")
	f.StringArrayVar(&e.external, "external-addr", nil, "`MULTIADDR` that others reach this node at, announced; may be given often")
	f.BoolVar(&e.nat, "nat", false, "behind a NAT: ask the router for a port, be reached through relays, punch holes")
	f.BoolVar(&e.relay, "relay-service", false, "others can reach this node: it helps those behind a NAT")
	f.StringVar(&e.limits, "limits", "", "`PROFILE` shared-address: many peers may come from one address")
}

// config refuses with exit 2 what can't be meant, and reads the files.
func (e *edge) config() (n node.Network, err error) {
	n = node.Network{MaxPeers: e.maxPeers, External: e.external, NAT: e.nat, Relay: e.relay, SharedAddress: e.limits == "shared-address"}
	if e.maxPeers == 0 {
		return n, usageError("", "--max-peers 0: a node without peers is of no use; at least 4")
	}
	if e.limits != "" && !n.SharedAddress {
		return n, usageError("add --limits shared-address", "--limits %q: only shared-address is known", e.limits)
	}
	if e.allowPeers != "" {
		if n.AllowPeers, err = p2p.ReadPeerList(e.allowPeers); err != nil {
			return n, usageError("write one peer id a line, as quipu node run prints it", "--allow-peers: %v", err)
		}
	}
	if e.networkKey != "" {
		n.Key, err = p2p.LoadNetworkKey(e.networkKey)
		hint := ""
		if errors.Is(err, fs.ErrNotExist) {
			hint = "umask 077; (echo /key/swarm/psk/1.0.0/; echo /base16/; openssl rand -hex 32) > " + shellQuote(e.networkKey)
		}
		if err != nil {
			return n, usageError(hint, "--network-key: %v", err)
		}
	}
	return n, nil
}

// follow reads the list of allowed peers again whenever the process is told to, until ctx ends. A list that can't be
// read leaves the old one in force.
func (e *edge) follow(ctx context.Context, a *app, n *node.Node) {
	if e.allowPeers == "" || len(reload) == 0 {
		return
	}
	told := make(chan os.Signal, 1)
	signal.Notify(told, reload...)
	defer signal.Stop(told)
	for {
		select {
		case <-ctx.Done():
			return
		case <-told:
		}
		ids, err := p2p.ReadPeerList(e.allowPeers)
		if err == nil {
			err = n.AllowPeers(ids)
		}
		if err != nil {
			a.say("--allow-peers: %v; the list read before stays in force", err)
			continue
		}
		a.say("--allow-peers: %d peers may connect", len(ids))
	}
}

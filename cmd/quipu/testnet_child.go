package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"quipu/p2p"
	"quipu/p2p/badpeer"
)

func init() { nodeVerbs = append(nodeVerbs, badPeerCommand) }

// badPeerCommand is what a supervisor runs for `testnet add --bad`. Hidden: it attacks the nodes it is pointed at.
func badPeerCommand(*app) *cobra.Command {
	var kind, dir, genesis string
	var bootstrap []string
	c := &cobra.Command{
		Use: "bad", Short: "A liar for test networks", Hidden: true, Args: args(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			return runBadPeer(c.Context(), kind, dir, genesis, bootstrap)
		},
	}
	c.Flags().StringVar(&kind, "kind", "", fmt.Sprintf("one of %v", badpeer.Kinds()))
	c.Flags().StringVar(&dir, "data-dir", "", "`DIR` for its identity")
	c.Flags().StringVar(&genesis, "genesis", "", "`FILE` of the network")
	c.Flags().StringArrayVar(&bootstrap, "bootstrap", nil, "`MULTIADDR` of a node to lie to")
	return c
}

// runBadPeer lies until it is stopped or nobody listens any more. It writes its peer id to DIR/peer.id first.
func runBadPeer(ctx context.Context, kind, dir, genesis string, bootstrap []string) error {
	g, err := genesisFile(genesis)
	if err != nil {
		return err
	}
	id, err := p2p.LoadIdentity(filepath.Join(dir, "node.key"))
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	cfg := badpeer.Config{Kind: kind, Genesis: g, Identity: id, Bootstrap: bootstrap, Log: log}
	if err := cfg.Validate(); err != nil {
		return usageError("", "%w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "peer.id"), []byte(id.ID()+"\n"), 0o600); err != nil {
		return err
	}
	err = badpeer.Run(ctx, cfg)
	if errors.Is(err, badpeer.ErrShunned) {
		log.Info("shunned: " + err.Error())
		return nil
	}
	return err
}

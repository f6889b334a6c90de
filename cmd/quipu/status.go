package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"quipu/rpc"
	"quipu/wallet"
)

func init() { commands = append(commands, statusCommand) }

type statusDoc struct {
	Schema string `json:"schema"`
	rpc.NodeStatus
}

func statusCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "One screen about a node: height, peers, sync, health, what to do next", GroupID: "node",
		Example: "  quipu status\n  quipu status --rpc http://127.0.0.1:4831 --json",
		Args:    args(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			node := a.client()
			s, err := node.NodeStatus(c.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(statusDoc{"quipu.status/v1", s})
			}
			fmt.Fprint(a.out, statusScreen(&s, node.Source))
			if s.Hint != "" {
				a.say("  next: %s", s.Hint)
			}
			return nil
		},
	}
}

// statusScreen is what a person reads: at most 20 short lines.
func statusScreen(s *rpc.NodeStatus, source string) string {
	var b strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-9s %s\n", name, fmt.Sprintf(format, args...))
	}
	name := s.Name
	if name == "" {
		name = "node"
	}
	row("network", "%s (%s)", s.Network.Name, s.Network.ID.Short())
	row(name, "%s  up %s  pid %d  quipu %s  [%s]", s.HTTP, ago(time.Duration(s.UptimeMS)*time.Millisecond), s.PID, s.Version, source)
	row("height", "%d  %s  %s old", s.Tip.Height, s.Tip.ID, ago(time.Duration(s.TipAgeMS)*time.Millisecond))
	row("sync", "%s", syncLine(s))
	row("peers", "%d in, %d out%s", s.Peers.In, s.Peers.Out, plural(s.Bans, ", %d banned", ", %d banned"))
	if d := s.Discovery; d != nil {
		row("known", "%d addresses in %d groups, %d of them have answered; %d of %d outbound peers chosen from them", d.New+d.Tried, d.Groups, d.Tried, d.Slots, d.Want)
	}
	row("pool", "%d ready, %d waiting for earlier ones, %d of %d kB", s.Mempool.Txs, s.Mempool.Queued, s.Mempool.Bytes/1000, s.Mempool.MaxBytes/1000)
	row("mining", "%s", miningLine(&s.Mining))
	row("supply", "%s of at most %s QPU, %s burned", wallet.FormatAmount(uint64(s.Supply.Genesis+s.Supply.Issued-s.Supply.Burned)),
		wallet.FormatAmount(uint64(s.Supply.Max)), wallet.FormatAmount(uint64(s.Supply.Burned)))
	if h := s.History; h != nil {
		row("history", "accounts' histories up to block %d%s", h.Height, plural(h.Behind, ", %d block behind", ", %d blocks behind"))
	}
	if s.Snapshot != nil {
		row("verified", "no: %s", s.Snapshot)
	} else if s.Pruned > 0 {
		row("pruned", "no bodies of blocks up to %d, all headers", s.Pruned)
	}
	row("peer id", "%s", s.PeerID)
	for _, addr := range firstN(s.Listen, 3) {
		row("", "%s", clean(addr))
	}
	health, bad := "good", 0
	for _, c := range s.Health {
		if !c.OK {
			bad++
		}
	}
	if bad > 0 {
		health = fmt.Sprintf("%d of %d checks fail", bad, len(s.Health))
	}
	row("health", "%s", health)
	for _, c := range s.Health {
		if !c.OK {
			row("", "%s: %s", c.Name, clean(c.Detail))
		}
	}
	return b.String()
}

// syncLine says how far the node is, with progress while it catches up.
func syncLine(s *rpc.NodeStatus) string {
	switch s.Sync.State {
	case "synced":
		return "synced"
	case "snapshot":
		return "beginning with a snapshot"
	case "no_peers":
		return "no peers: this is the chain as this node last saw it"
	}
	best := max(s.BestHeader.Height, s.Tip.Height)
	percent := 100.0
	if best > 0 {
		percent = 100 * float64(s.Tip.Height) / float64(best)
	}
	if s.Sync.State == "rebuilding" {
		return fmt.Sprintf("applying a heavier chain from block 0  %d of %d blocks (%.1f %%)", s.Tip.Height, best, percent)
	}
	line := fmt.Sprintf("%s  %d of %d blocks (%.1f %%), %d to go, from %d peers", s.Sync.State, s.Tip.Height, best, percent, s.Sync.Behind, s.Sync.Peers)
	if s.Sync.Rate > 0 {
		line += ", " + pace(s.Sync.Rate, s.Sync.TxRate)
	}
	if s.Sync.ETAMS > 0 {
		line += ", " + ago((time.Duration(s.Sync.ETAMS) * time.Millisecond).Round(time.Second)) + " left"
	}
	return line
}

// pace is how fast a sync goes.
func pace(bytes, txs float64) string { return fmt.Sprintf("%.2f MB/s, %.0f tx/s", bytes/1e6, txs) }

func miningLine(m *rpc.Mining) string {
	if !m.On {
		return "off"
	}
	limit := ""
	if m.RateCap > 0 {
		limit = fmt.Sprintf(" of at most %d", m.RateCap)
	}
	return fmt.Sprintf("on, %d%s H/s, %s since start, to %s", m.HashRate, limit, plural(m.BlocksMined, "%d block", "%d blocks"), m.Miner)
}

// plural picks a form by n; a form for none is "".
func plural[N int | uint64](n N, one, many string) string {
	switch {
	case n == 1:
		return fmt.Sprintf(one, n)
	case n == 0 && strings.HasPrefix(many, ","): // an addition that may be left out
		return ""
	}
	return fmt.Sprintf(many, n)
}

func firstN[T any](s []T, n int) []T { return s[:min(n, len(s))] }

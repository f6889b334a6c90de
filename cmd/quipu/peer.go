package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"quipu/rpc"
)

func init() { commands = append(commands, peerCommand) }

type peersDoc struct {
	Schema string `json:"schema"`
	rpc.PeerList
}

type bansDoc struct {
	Schema string `json:"schema"`
	rpc.PeerBans
}

type unbanDoc struct {
	Schema string `json:"schema"`
	rpc.AdminUnban
}

func peerCommand(a *app) *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "Connected peers", Args: args(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := a.client().PeerList(c.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(peersDoc{"quipu.peers/v1", r})
			}
			a.table("PEER\tDIR\tSCORE\tPING\tHEIGHT\tSINCE\tSEEN\tADDRESS\tCHARGES", len(r.Peers), func(i int) []any {
				p := r.Peers[i]
				ping := "-"
				if p.PingUS > 0 {
					ping = ago(time.Duration(p.PingUS) * time.Microsecond)
				}
				return []any{shortID(clean(p.ID)), p.Direction, fmt.Sprintf("%+.1f", p.Score), ping, p.Height, since(p.Connected), since(p.LastSeen), clean(p.Addr), charges(&p)}
			})
			if len(r.Peers) == 0 {
				a.say("no peers: start the node with --bootstrap MULTIADDR")
			}
			return nil
		},
	}
	bans := &cobra.Command{
		Use: "bans", Short: "Peers the node refuses, why and until when", Args: args(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := a.client().PeerBans(c.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(bansDoc{"quipu.bans/v1", r})
			}
			a.table("PEER\tUNTIL\tREASON\tDETAIL", len(r.Bans), func(i int) []any {
				b := r.Bans[i]
				return []any{clean(b.ID), b.Until.Local().Format(time.DateTime), clean(b.Reason), clean(b.Detail)}
			})
			if len(r.Bans) == 0 {
				a.say("nobody is banned")
			}
			return nil
		},
	}
	unban := &cobra.Command{
		Use: "unban <peer id>", Short: "Let a banned peer in again", Args: args(1, 1, "a peer id that peer bans lists"),
		RunE: func(c *cobra.Command, ids []string) error {
			r, err := a.client().AdminUnban(c.Context(), ids[0])
			if err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(unbanDoc{"quipu.unban/v1", r})
			}
			if !r.Banned {
				a.say("%s was not banned", clean(r.ID))
			}
			return nil
		},
	}
	return noun("node", "peer", "Who the node talks to", list, bans, unban, bookCommand(a))
}

type bookDoc struct {
	Schema string `json:"schema"`
	rpc.PeerBook
}

func bookCommand(a *app) *cobra.Command {
	max := 50
	c := &cobra.Command{
		Use: "book", Short: "Addresses the node knows, those that have answered it first", Args: args(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := a.client().PeerBook(c.Context(), max)
			if err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(bookDoc{"quipu.peerbook/v1", r})
			}
			a.table("PEER\tANSWERED\tSEEN\tFAILS\tGROUP\tTOLD BY\tADDRESS", len(r.Known), func(i int) []any {
				k := r.Known[i]
				answered := "never"
				if k.LastGood != nil {
					answered = since(*k.LastGood)
				}
				return []any{shortID(clean(k.ID)), answered, since(k.Seen), k.Fails, clean(k.Group), clean(k.Source), clean(k.Addr)}
			})
			a.say("%d addresses in %d groups, %d of them have answered; %d of %d outbound peers chosen from them",
				r.New+r.Tried, r.Groups, r.Tried, r.Slots, r.Want)
			return nil
		},
	}
	c.Flags().IntVar(&max, "max", max, "`N` entries at most, up to 1000")
	return c
}

// charges is what a peer has been charged with since it connected, and how long it rests for that.
func charges(p *rpc.Peer) string {
	var out []string
	for _, kind := range slices.Sorted(maps.Keys(p.Charges)) {
		out = append(out, fmt.Sprintf("%s %d", clean(kind), p.Charges[kind]))
	}
	if p.RestsUntil != nil {
		out = append(out, "rests "+ago(max(0, time.Until(*p.RestsUntil))))
	}
	if out == nil {
		return "-"
	}
	return strings.Join(out, ", ")
}

// table prints aligned columns on out: a heading and n rows; nothing if there is none.
func (a *app) table(heading string, n int, row func(i int) []any) {
	if n == 0 {
		return
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, heading)
	for i := range n {
		for k, cell := range row(i) {
			if k > 0 {
				fmt.Fprint(w, "\t")
			}
			fmt.Fprint(w, cell)
		}
		fmt.Fprintln(w)
	}
	w.Flush()
}

func since(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return ago(time.Since(t))
}

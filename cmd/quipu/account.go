package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"quipu/rpc"
	"quipu/wallet"
)

func init() { commands = append(commands, accountCommand) }

type historyDoc struct {
	Schema string `json:"schema"`
	rpc.AccountHistory
}

func accountCommand(a *app) *cobra.Command {
	return noun("money", "account", "Look at any account", a.accountHistory(), a.accountBalance(), a.accountProof())
}

func (a *app) accountHistory() *cobra.Command {
	var limit int
	var before string
	c := &cobra.Command{
		Use: "history <address|wallet>", Short: "What an account sent, received and mined, newest first", Args: args(1, 1, "an address or a wallet's name"),
		Example: "  quipu account history alice\n" +
			"  quipu account history tqp1p… --limit 100 --json",
		Long: "Lists the transactions of the best chain that an account sends or is paid by, and the blocks it mined. The node has to\n" +
			"run with --history. Nothing that still waits in the pool is listed; see quipu wallet balance and quipu tx status.\n\n" +
			"--before goes on where an earlier list ended: the place is printed with it, and is next in the JSON document. A list may\n" +
			"be shorter than the limit although older entries follow; only a missing next means the end.",
		RunE: func(c *cobra.Command, given []string) error {
			if limit < 1 || limit > rpc.MaxList {
				return usageError("", "--limit %d: 1 to %d are possible", limit, rpc.MaxList)
			}
			if _, _, err := rpc.ParsePlace(before); before != "" && err != nil {
				return usageError("", "--before: %v", err)
			}
			node := a.client()
			g, err := askedNetwork(c.Context(), node)
			if err != nil {
				return err
			}
			account, _, err := a.recipient(given[0], g)
			if err != nil {
				return err
			}
			r, err := node.AccountHistory(c.Context(), account, before, limit)
			if err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(historyDoc{"quipu.account-history/v1", r})
			}
			a.table("BLOCK\tTIME\tIN\tOUT\tCONFIRMED\tWHAT", len(r.Entries), func(i int) []any {
				e := r.Entries[i]
				return []any{e.Height, headerTime(e.TimeMS), amountIn(&e), amountOut(&e), e.Confirmations, entryWords(&e)}
			})
			switch {
			case len(r.Entries) == 0 && r.Next == "":
				a.say("nothing up to block %d", r.Indexed)
			case r.Next != "":
				older := []string{"quipu account history", shellQuote(given[0]), "--before", r.Next}
				if limit != defaultHistory {
					older = append(older, "--limit", fmt.Sprint(limit))
				}
				a.say("older ones: %s", a.typed(strings.Join(older, " ")))
			}
			if r.Indexed < r.Tip.Height {
				a.say("the node is still indexing: blocks %d to %d aren't listed yet", r.Indexed+1, r.Tip.Height)
			}
			return nil
		},
	}
	c.Flags().IntVar(&limit, "limit", defaultHistory, "how many at most, 1 to 1000")
	c.Flags().StringVar(&before, "before", "", "older than this `PLACE`, as an earlier list printed it")
	return c
}

// defaultHistory is how many entries are listed unless more are asked for.
const defaultHistory = 20

// amountIn and amountOut are in QPU, "-" where there is none and "?" where the node doesn't know it any more.
func amountIn(e *rpc.HistoryEntry) string {
	return amountOr(e.Received, e.Pruned || e.Kind == rpc.HistoryMined)
}

func amountOut(e *rpc.HistoryEntry) string {
	return amountOr(e.Spent, e.Pruned && e.Kind != rpc.HistoryMined)
}

func amountOr(v *rpc.Decimal, forgotten bool) string {
	switch {
	case v != nil:
		return wallet.FormatAmount(uint64(*v))
	case forgotten:
		return "?"
	}
	return "-"
}

func entryWords(e *rpc.HistoryEntry) string {
	switch {
	case e.Kind == rpc.HistoryMined:
		return "mined " + e.Block.String()
	case e.TxID != nil:
		return e.TxID.String()
	case e.Index != nil:
		return fmt.Sprintf("transaction %d, whose contents this node doesn't keep", *e.Index)
	}
	return clean(string(e.Kind))
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"quipu/chain"
	"quipu/rpc"
)

func init() { commands = append(commands, txCommand) }

type txDoc struct {
	Schema string `json:"schema"`
	rpc.TxStatus
}

func txCommand(a *app) *cobra.Command {
	return noun("money", "tx", "Follow a transaction", a.txStatus(), a.txWatch(), a.txProof())
}

func parseTxID(s string) (id chain.TxID, err error) {
	if err := id.UnmarshalText([]byte(s)); err != nil {
		return id, usageError("", "%.80q is no txid: %v", s, err)
	}
	return id, nil
}

func (a *app) txStatus() *cobra.Command {
	var confirmations uint64
	c := &cobra.Command{
		Use: "status <txid>", Short: "Where a transaction stands, and who verified it", Args: args(1, 1, "a txid"),
		Example: "  quipu tx status 3fa9d0…c21e --json",
		RunE: func(c *cobra.Command, given []string) error {
			id, err := parseTxID(given[0])
			if err != nil {
				return err
			}
			s, err := a.client().TxStatus(c.Context(), rpc.TxStatusParams{TxID: id, AskPeers: true, Confirmations: confirmations})
			if err != nil {
				return err
			}
			if a.json {
				err = a.writeJSON(txDoc{"quipu.tx-status/v1", s})
			} else {
				a.printTxStatus(&s)
			}
			if err == nil && s.State == rpc.TxUnknown {
				return fail(exitNotFound, "quipu tx watch "+id.String(), "this node doesn't know transaction %s; others may", id)
			}
			return err
		},
	}
	c.Flags().Uint64Var(&confirmations, "confirmations", rpc.DefaultConfirmations, "depth at which \"never\" may be said")
	return c
}

// printTxStatus keeps the two kinds of evidence apart: this node's own, and what its peers say.
func (a *app) printTxStatus(s *rpc.TxStatus) {
	row := func(name, format string, args ...any) {
		fmt.Fprintf(a.out, "%-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	row("transaction", "%s", s.TxID)
	row("state", "%s", stateWords(s))
	if s.Block != nil {
		row("block", "%d  %s  place %d", s.Height, s.Block, s.Index)
		row("confirmed", "%s", plural(s.Confirmations, "%d confirmation", "%d confirmations"))
	}
	if s.Rival != nil {
		row("rival", "%s holds the same nonce of the same sender", s.Rival)
	}
	if s.Never {
		row("never", "it can't be included any more: sending again is safe")
	}
	row("this node", "%s", thisNodeWords(s.ThisNode))
	if p := s.Peers; p != nil {
		row("peers say", "%d of %d verified, %d rejected, %d don't know it or didn't answer", p.Verified, p.Asked, p.Rejected, p.Unknown)
	}
	if s.Tx != nil {
		a.printTx(s.Tx)
	} else if s.State == rpc.TxIncluded {
		row("contents", "not here: this node keeps recent blocks only")
	}
}

func thisNodeWords(n rpc.ThisNode) string {
	switch {
	case !n.Verified:
		return "has not verified it"
	case n.TookUS == 0:
		return "verified it itself"
	}
	return fmt.Sprintf("verified it itself, in %d µs", n.TookUS)
}

func stateWords(s *rpc.TxStatus) string {
	words := map[rpc.TxState]string{
		rpc.TxUnknown:  "unknown to this node",
		rpc.TxQueued:   "in the pool, waiting for earlier transactions or funds of its sender",
		rpc.TxPending:  "in the pool, ready for the next block",
		rpc.TxIncluded: "in a block of the best chain",
		rpc.TxReplaced: "replaced by another transaction with the same nonce",
		rpc.TxExpired:  "expired: the chain is past its last block",
		rpc.TxDropped:  "dropped from the pool; it may come back",
		rpc.TxRejected: "rejected",
	}[s.State]
	if words == "" {
		words = clean(string(s.State))
	}
	if s.Reason != "" {
		words += ": " + clean(s.Reason)
	}
	return words
}

func (a *app) txWatch() *cobra.Command {
	var depth uint64
	var timeout time.Duration
	c := &cobra.Command{
		Use: "watch <txid>", Short: "Follow a transaction until it is confirmed", Args: args(1, 1, "a txid"),
		Long: "Follows a transaction until it has --confirmations, or never can have. With --json it prints one line each\n" +
			"time something changes. It exits 7 when the time is over: that says nothing of the transaction.",
		RunE: func(c *cobra.Command, given []string) error {
			id, err := parseTxID(given[0])
			if err != nil {
				return err
			}
			w := &waiter{a: a, node: a.client(), id: id, goal: waitConfirmed, depth: depth, start: time.Now()}
			if a.json {
				lines := json.NewEncoder(a.out)
				w.changed = func(s *rpc.TxStatus) error { return lines.Encode(txDoc{"quipu.tx-status/v1", *s}) }
			}
			ctx, cancel := withTimeout(c.Context(), timeout)
			defer cancel()
			if err := w.run(ctx); err != nil {
				return err
			}
			if !a.json {
				fmt.Fprintln(a.out, id)
			}
			return nil
		},
	}
	c.Flags().Uint64Var(&depth, "confirmations", rpc.DefaultConfirmations, "how deep its block must lie")
	c.Flags().DurationVar(&timeout, "timeout", 10*time.Minute, "how long to wait at most; 0 waits for ever")
	return c
}

// withTimeout is context.WithTimeout; 0 is no limit.
func withTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d)
}

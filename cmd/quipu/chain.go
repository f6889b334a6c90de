package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"quipu/chain"
	"quipu/rpc"
	"quipu/wallet"
)

func init() { commands = append(commands, chainCommand) }

type headDoc struct {
	Schema string `json:"schema"`
	rpc.ChainHead
}

type blockDoc struct {
	Schema string `json:"schema"`
	rpc.ChainBlock
}

type blocksDoc struct {
	Schema string `json:"schema"`
	rpc.ChainBlocks
}

// chainVerbs are further subcommands of chain, added by the files that make them.
var chainVerbs []func(*app) *cobra.Command

func chainCommand(a *app) *cobra.Command {
	c := noun("node", "chain", "Look at the chain, check it, export and import it",
		a.chainHead(), a.chainBlock(), a.chainBlocks(), a.chainVerify(), a.chainExport())
	for _, add := range chainVerbs {
		c.AddCommand(add(a))
	}
	return c
}

func (a *app) chainHead() *cobra.Command {
	return &cobra.Command{
		Use: "head", Short: "The newest block the node has verified", Args: args(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := a.client().ChainHead(c.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(headDoc{"quipu.chain-head/v1", r})
			}
			a.printHeader(&r.Header)
			fmt.Fprintf(a.out, "work          %s\n", r.Work)
			if r.BestHeader.Height > r.Header.Height {
				a.say("the best header known is %d: the node is still verifying", r.BestHeader.Height)
			}
			return nil
		},
	}
}

func (a *app) chainBlock() *cobra.Command {
	var txs bool
	c := &cobra.Command{
		Use: "block <height|id>", Short: "One block, by height on the best chain or by id", Args: args(1, 1, "a height or a block id"),
		Example: "  quipu chain block 19 --txs",
		RunE: func(c *cobra.Command, given []string) error {
			p, err := blockParams(given[0])
			if err != nil {
				return err
			}
			p.Txs = txs || a.json
			r, err := a.client().ChainBlock(c.Context(), p)
			if err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(blockDoc{"quipu.chain-block/v1", r})
			}
			a.printHeader(&r.Header)
			fmt.Fprintf(a.out, "state         %s\n", blockState(&r))
			if p.Txs && r.Pruned {
				a.say("its transactions aren't here: this node keeps recent blocks only")
			}
			for _, t := range r.Txs {
				a.printTx(&t)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&txs, "txs", false, "with its transactions")
	return c
}

// blockParams reads a height or a block id.
func blockParams(s string) (rpc.ChainBlockParams, error) {
	if height, err := strconv.ParseUint(s, 10, 33); err == nil && len(s) < 20 {
		return rpc.ChainBlockParams{Height: &height}, nil
	}
	var id chain.BlockID
	if err := id.UnmarshalText([]byte(s)); err != nil {
		return rpc.ChainBlockParams{}, usageError("quipu chain block 1", "%.80q is neither a height nor a block id of 64 hex digits", s)
	}
	return rpc.ChainBlockParams{ID: &id}, nil
}

func blockState(r *rpc.ChainBlock) string {
	switch {
	case r.Invalid != "":
		return "invalid: " + clean(r.Invalid)
	case !r.Validated:
		return "not verified yet by this node"
	case !r.OnBest:
		return "valid, off the best chain"
	}
	return fmt.Sprintf("on the best chain, verified by this node, %s", plural(r.Confirmations, "%d confirmation", "%d confirmations"))
}

func (a *app) chainBlocks() *cobra.Command {
	var count int
	var from int64
	c := &cobra.Command{
		Use: "blocks", Short: "The newest blocks of the best chain, a line each", Args: args(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			if count < 1 || count > rpc.MaxBlocks {
				return usageError("", "--count %d: 1 to %d are possible", count, rpc.MaxBlocks)
			}
			p := rpc.ChainBlocksParams{Count: count}
			if from >= 0 {
				h := uint64(from)
				p.From = &h
			}
			r, err := a.client().ChainBlocks(c.Context(), p)
			if err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(blocksDoc{"quipu.chain-blocks/v1", r})
			}
			a.table("HEIGHT\tTIME\tTXS\tBYTES\tMINER\tBLOCK", len(r.Headers), func(i int) []any {
				h := r.Headers[i]
				return []any{h.Height, headerTime(h.TimeMS), h.TxCount, h.BodySize, shortID(h.MinerAddress), h.ID}
			})
			return nil
		},
	}
	c.Flags().IntVarP(&count, "count", "c", 20, "how many, 1 to 100")
	c.Flags().Int64Var(&from, "from", -1, "first height (default: so that the newest are shown)")
	return c
}

func (a *app) printHeader(h *rpc.Header) {
	fmt.Fprintf(a.out, "block         %s\n", h.ID)
	fmt.Fprintf(a.out, "height        %d\n", h.Height)
	fmt.Fprintf(a.out, "time          %s\n", headerTime(h.TimeMS))
	fmt.Fprintf(a.out, "parent        %s\n", h.Parent)
	fmt.Fprintf(a.out, "history root  %s\n", h.HistoryRoot)
	fmt.Fprintf(a.out, "tx root       %s\n", h.TxRoot)
	fmt.Fprintf(a.out, "state root    %s\n", h.StateRoot)
	fmt.Fprintf(a.out, "miner         %s\n", h.MinerAddress)
	fmt.Fprintf(a.out, "transactions  %d in %d bytes\n", h.TxCount, h.BodySize)
	fmt.Fprintf(a.out, "bits          %s\n", h.Bits)
}

// printTx prints one transaction. A memo is a stranger's text: it is quoted.
func (a *app) printTx(t *rpc.Tx) {
	fmt.Fprintf(a.out, "\ntransaction   %s\n", t.TxID)
	fmt.Fprintf(a.out, "  from        %s  nonce %d  fee %s QPU\n", t.FromAddress, uint64(t.Nonce), wallet.FormatAmount(uint64(t.Fee)))
	for _, o := range t.Outputs {
		fmt.Fprintf(a.out, "  to          %s  %s QPU\n", o.ToAddress, wallet.FormatAmount(uint64(o.Amount)))
	}
	if t.ValidUntil != 0 {
		fmt.Fprintf(a.out, "  valid until block %d\n", t.ValidUntil)
	}
	if t.Memo != "" {
		fmt.Fprintf(a.out, "  memo        %s\n", quoteHex(t.Memo))
	}
}

func headerTime(ms uint64) string {
	if ms >= chain.TimeLimit {
		return "?"
	}
	return time.UnixMilli(int64(ms)).UTC().Format("2006-01-02T15:04:05.000Z")
}

package main

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"quipu/bench"
)

func init() { benchVerbs = append(benchVerbs, (*app).benchChain) }

type benchChainDoc struct {
	Schema   string `json:"schema"`
	File     string `json:"file"`
	Bytes    int64  `json:"bytes"`
	Blocks   int    `json:"blocks"`
	Txs      int    `json:"txs_a_block"`
	Accounts int    `json:"accounts"`
}

// chainFlags are the shape of a benchmark's chain.
func chainFlags(c *cobra.Command, m *bench.Chain) {
	f := c.Flags()
	f.IntVar(&m.Blocks, "blocks", 40, "blocks")
	f.IntVar(&m.Txs, "txs", 2500, "transactions in each")
	f.IntVar(&m.Accounts, "accounts", 10_000, "accounts in genesis: they send in turn, and recipients are drawn from all")
	f.Uint64Var(&m.Seed, "seed", 1, "of keys and recipients: the same seed gives the same file")
	f.BoolVar(&m.Hostile, "hostile", false, "full blocks of transactions with 255 outputs to new accounts; --txs is not used")
}

func (a *app) benchChain() *cobra.Command {
	var m bench.Chain
	var out string
	c := &cobra.Command{
		Use: "chain", Short: "Make a chain of payments and write it as an export", Args: args(0, 0, ""),
		Example: "  quipu bench chain --blocks 40 --txs 2500 --accounts 10000 --out chain.quipu",
		Long: "Makes a network with so many funded accounts and so many valid, signed and solved blocks, and writes both in\n" +
			"the format of quipu chain export. quipu chain import reads it. A file that exists is never overwritten.",
		RunE: func(c *cobra.Command, _ []string) error {
			if out == "" {
				return usageError("add --out chain.quipu", "--out names the file to write")
			}
			size, err := a.makeChain(c.Context(), m, out)
			if err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(benchChainDoc{"quipu.bench-chain/v1", out, size, m.Blocks, m.Txs, m.Accounts})
			}
			a.say("%s: %d blocks, %d bytes", out, m.Blocks, size)
			return nil
		},
	}
	chainFlags(c, &m)
	c.Flags().StringVar(&out, "out", "", "`FILE` to write")
	return c
}

// makeChain writes a benchmark's chain to a new file.
func (a *app) makeChain(ctx context.Context, m bench.Chain, file string) (int64, error) {
	if err := m.Validate(); err != nil {
		return 0, usageError("quipu bench chain --help", "%v", err)
	}
	bar := a.bar("making blocks")
	defer bar.done()
	size, err := writeNewFile(file, 0o644, func(w io.Writer) error { return m.Write(ctx, w, bar.update) })
	if errors.Is(err, context.Canceled) {
		return 0, context.Canceled
	}
	return size, err
}

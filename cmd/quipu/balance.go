package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"quipu/chain"
	"quipu/rpc"
	"quipu/wallet"
)

// balanceDoc is one wallet's account as a node sees it. Amounts are in knots.
type balanceDoc struct {
	Name string `json:"name"`
	rpc.Account
}

func (a *app) walletBalance() *cobra.Command {
	return &cobra.Command{
		Use: "balance [name]", Short: "What a wallet has, as the node sees it; without a name, all of its network", Args: args(0, 1, "at most a wallet's name"),
		RunE: func(c *cobra.Command, given []string) error {
			node := a.client()
			g, err := askedNetwork(c.Context(), node)
			if err != nil {
				return err
			}
			var infos []wallet.Info
			if len(given) > 0 {
				_, info, err := a.findWallet(given[0], g)
				if err != nil {
					return err
				}
				infos = []wallet.Info{info}
			} else {
				list, err := a.allWallets(g)
				if err != nil {
					return err
				}
				for _, e := range list {
					infos = append(infos, e.Info)
				}
			}
			doc := struct {
				Schema   string               `json:"schema"`
				Network  rpc.Network          `json:"network"`
				Accounts rpc.List[balanceDoc] `json:"accounts"`
			}{Schema: "quipu.balance/v1", Network: rpc.NetworkOf(g)}
			for _, info := range infos {
				account, err := chain.DecodeAddress(g.Prefix, info.Address)
				if err != nil {
					return err
				}
				r, err := node.AccountGet(c.Context(), account)
				if err != nil {
					return err
				}
				doc.Accounts = append(doc.Accounts, balanceDoc{info.Name, r})
			}
			if a.json {
				return a.writeJSON(doc)
			}
			if len(given) > 0 {
				b := doc.Accounts[0]
				fmt.Fprintln(a.out, wallet.FormatAmount(uint64(b.Balance)))
				if b.PendingIn+b.PendingOut > 0 {
					a.say("QPU at block %d; pending: %s in, %s out", b.Tip.Height, wallet.FormatAmount(uint64(b.PendingIn)), wallet.FormatAmount(uint64(b.PendingOut)))
				}
				return nil
			}
			a.table("NAME\tQPU\tPENDING IN\tPENDING OUT\tADDRESS", len(doc.Accounts), func(i int) []any {
				b := doc.Accounts[i]
				return []any{b.Name, wallet.FormatAmount(uint64(b.Balance)), wallet.FormatAmount(uint64(b.PendingIn)), wallet.FormatAmount(uint64(b.PendingOut)), b.Address}
			})
			if len(infos) == 0 {
				a.say("no wallets for %s yet: %s", g, a.typed("quipu wallet new NAME"))
			}
			return nil
		},
	}
}

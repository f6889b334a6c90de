package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"quipu/chain"
	"quipu/rpc"
	"quipu/wallet"
)

func init() { commands = append(commands, proofCommand) }

const (
	accountProofSchema = "quipu.account-proof/v1"
	txProofSchema      = "quipu.tx-proof/v1"
)

type accountProofDoc struct {
	Schema string `json:"schema"`
	rpc.AccountProof
}

type txProofDoc struct {
	Schema string `json:"schema"`
	rpc.TxProof
}

// provedDoc is what a proof shows.
type provedDoc struct {
	Schema  string          `json:"schema"`
	Proves  string          `json:"proves"` // "account" or "tx"
	Network chain.NetworkID `json:"network"`
	Header  chain.BlockID   `json:"header"` // the one that was named: all hangs on it
	Block   rpc.BlockRef    `json:"block"`
	Anchor  rpc.BlockRef    `json:"anchor"`
	Address string          `json:"address,omitempty"`
	Exists  *bool           `json:"exists,omitempty"`
	Balance *rpc.Decimal    `json:"balance,omitempty"`
	Nonce   *rpc.Decimal    `json:"nonce,omitempty"`
	Tx      *rpc.Tx         `json:"tx,omitempty"`
}

func (a *app) accountProof() *cobra.Command {
	return &cobra.Command{
		Use: "proof <address|wallet>", Short: "What an account has, with a proof for others", Args: args(1, 1, "an address or a wallet's name"),
		Example: "  quipu account proof alice > alice.json\n  quipu proof verify alice.json --header BLOCKID",
		Long: "Prints a JSON document that proves what an account has after the node's newest block, or that it doesn't exist. Whoever\n" +
			"knows that block to be on the best chain checks it with quipu proof verify, and needs neither a node nor trust in this one.",
		RunE: func(c *cobra.Command, given []string) error {
			node := a.client()
			g, err := askedNetwork(c.Context(), node)
			if err != nil {
				return err
			}
			account, _, err := a.recipient(given[0], g)
			if err != nil {
				return err
			}
			r, err := node.AccountProof(c.Context(), account)
			if err != nil {
				return err
			}
			if _, _, err := r.Verify(g); err != nil {
				return checkFailed("", "the node's own proof: %w", err)
			}
			return a.writeProof(accountProofDoc{accountProofSchema, r}, r.Anchor.ID)
		},
	}
}

func (a *app) txProof() *cobra.Command {
	var under string
	c := &cobra.Command{
		Use: "proof <txid>", Short: "That a transaction is in the chain, with a proof for others", Args: args(1, 1, "a txid"),
		Example: "  quipu tx proof 3fa9d0…c21e > paid.json\n  quipu proof verify paid.json --header BLOCKID",
		Long: "Prints a JSON document that proves that a transaction stands in a block under the node's newest one, or under the block\n" +
			"that --under names. Whoever knows that block to be on the best chain checks it with quipu proof verify.",
		RunE: func(c *cobra.Command, given []string) error {
			id, err := parseTxID(given[0])
			if err != nil {
				return err
			}
			p := rpc.TxProofParams{TxID: id}
			if under != "" {
				p.Anchor = new(chain.BlockID)
				if err := p.Anchor.UnmarshalText([]byte(under)); err != nil {
					return usageError("", "--under: %w", err)
				}
			}
			node := a.client()
			g, err := askedNetwork(c.Context(), node)
			if err != nil {
				return err
			}
			r, err := node.TxProof(c.Context(), p)
			if err != nil {
				return err
			}
			if _, _, _, err := r.Verify(g); err != nil {
				return checkFailed("", "the node's own proof: %w", err)
			}
			return a.writeProof(txProofDoc{txProofSchema, r}, r.Anchor.ID)
		},
	}
	c.Flags().StringVar(&under, "under", "", "prove it under this block `ID` instead of the newest")
	return c
}

func (a *app) writeProof(doc any, anchor chain.BlockID) error {
	a.say("holds for whoever knows block %s; check it with: %s", anchor, typed("quipu proof verify FILE --header "+anchor.String()))
	return a.writeJSON(doc)
}

func proofCommand(a *app) *cobra.Command {
	return noun("money", "proof", "Check proofs without a node", a.proofVerify())
}

const maxProofFile = 1 << 20

func (a *app) proofVerify() *cobra.Command {
	var genesis, header string
	c := &cobra.Command{
		Use: "verify <file>", Short: "Check a proof of an account or a transaction", Args: args(1, 1, "a file that quipu account proof or quipu tx proof wrote"),
		Example: "  quipu proof verify alice.json --header 00000b1f…\n  quipu proof verify paid.json --genesis our.json --header 00000b1f…",
		Long: "Asks no node. --header names a block that you know to be on the best chain, from a source other than the proof's: your own\n" +
			"node, several others, a person. A proof says nothing about that, and everything else in it is checked against that block:\n" +
			"hashes, the account or the transaction with its signature, and the network, which is --genesis or the open one.",
		RunE: func(c *cobra.Command, given []string) error {
			g, err := genesisFile(genesis)
			if err != nil {
				return err
			}
			text, err := readBounded(given[0], maxProofFile)
			if err != nil {
				return err
			}
			doc, err := verifyProof(g, text)
			if err != nil {
				return err
			}
			if header == "" {
				return usageError("quipu proof verify "+shellQuote(given[0])+" --header "+doc.Anchor.ID.String(),
					"--header has to name a block that you know to be on the best chain; this proof leads to block %d, %s", doc.Anchor.Height, doc.Anchor.ID)
			}
			if err := doc.Header.UnmarshalText([]byte(header)); err != nil {
				return usageError("", "--header: %w", err)
			}
			if doc.Header != doc.Anchor.ID && doc.Header != doc.Block.ID {
				return checkFailed("", "this proof is about block %s at height %d and leads to block %s at height %d, neither of which is %s",
					doc.Block.ID, doc.Block.Height, doc.Anchor.ID, doc.Anchor.Height, doc.Header)
			}
			if a.json {
				return a.writeJSON(doc)
			}
			a.printVerified(&doc)
			return nil
		},
	}
	c.Flags().StringVar(&genesis, "genesis", "", "genesis `FILE` of the network (default: the open network, built in)")
	c.Flags().StringVar(&header, "header", "", "`ID` of a block that you know to be on the best chain")
	return c
}

// verifyProof checks all but the header that is to be named.
func verifyProof(g *chain.Genesis, text []byte) (out provedDoc, err error) {
	var head struct {
		Schema  string          `json:"schema"`
		Network chain.NetworkID `json:"network"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return out, usageError("", "this is no proof: %w", err)
	}
	out = provedDoc{Schema: "quipu.proof-verify/v1", Network: g.NetworkID()}
	if head.Schema != accountProofSchema && head.Schema != txProofSchema {
		return out, usageError("", "this is no proof: its schema is %.60q", head.Schema)
	}
	if head.Network != g.NetworkID() {
		return out, usageError("add --genesis FILE of its network", "this proof is of network %s, not of %s", head.Network.Short(), g)
	}
	var anchor, block chain.Header
	if head.Schema == accountProofSchema {
		var doc accountProofDoc
		if err = json.Unmarshal(text, &doc); err == nil {
			anchor, block, err = doc.Verify(g)
		}
		out.Proves, out.Address, out.Exists, out.Balance, out.Nonce = "account", doc.Address, &doc.Exists, &doc.Balance, &doc.Nonce
	} else {
		var doc txProofDoc
		var checked chain.CheckedTx
		if err = json.Unmarshal(text, &doc); err == nil {
			anchor, block, checked, err = doc.Verify(g)
		}
		if err == nil {
			var tx rpc.Tx
			tx, err = rpc.TxOf(g, checked.Raw())
			out.Tx = &tx
		}
		out.Proves = "tx"
	}
	if err != nil {
		return out, checkFailed("", "%w", err)
	}
	out.Block = rpc.BlockRef{Height: block.Height, ID: block.ID(), TimeMS: block.Time}
	out.Anchor = rpc.BlockRef{Height: anchor.Height, ID: anchor.ID(), TimeMS: anchor.Time}
	return out, nil
}

func (a *app) printVerified(d *provedDoc) {
	row := func(name, format string, args ...any) {
		fmt.Fprintf(a.out, "%-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	if d.Proves == "account" {
		row("account", "%s", d.Address)
		if *d.Exists {
			row("balance", "%s QPU", wallet.FormatAmount(uint64(*d.Balance)))
			row("nonce", "%d", uint64(*d.Nonce))
		} else {
			row("exists", "no: it was never paid")
		}
	}
	row("block", "%d  %s  %s", d.Block.Height, d.Block.ID, headerTime(d.Block.TimeMS))
	if d.Header == d.Anchor.ID && d.Block != d.Anchor {
		row("under", "%d  %s", d.Anchor.Height, d.Anchor.ID)
	}
	if d.Tx != nil {
		a.printTx(d.Tx)
	}
	a.say("proved, if block %s is on the best chain", d.Header)
}

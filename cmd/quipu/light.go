package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"quipu/chain"
	"quipu/p2p"
	"quipu/p2p/light"
	"quipu/rpc"
	"quipu/wallet"
)

// lightDoc is a balance that rests on headers and proofs alone.
type lightDoc struct {
	Schema  string              `json:"schema"`
	Network rpc.Network         `json:"network"`
	Address string              `json:"address"`
	Exists  bool                `json:"exists"`
	Balance rpc.Decimal         `json:"balance"`
	Nonce   rpc.Decimal         `json:"nonce"`
	Block   rpc.BlockRef        `json:"block"`   // after which
	Best    rpc.BlockRef        `json:"best"`    // last of the headers checked
	Headers uint64              `json:"headers"` // checked, from block 0 on
	Work    string              `json:"work"`    // of these, decimal
	Agreed  int                 `json:"agreed"`  // peers that proved it of that block
	Asked   int                 `json:"asked"`
	Refused rpc.List[lightPeer] `json:"refused"` // peers that don't count
}

type lightPeer struct {
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

// lightRun is account balance --light.
type lightRun struct {
	on      bool
	peers   []string
	genesis string
	timeout time.Duration
}

func (a *app) accountBalance() *cobra.Command {
	var l lightRun
	c := &cobra.Command{
		Use: "balance <address|wallet>", Short: "What an account has, as a node says or as peers prove", Args: args(1, 1, "an address or a wallet's name"),
		Example: "  quipu account balance alice\n" +
			"  quipu account balance qp1p… --light --peer /ip4/HOST/tcp/4820/p2p/PEERID --peer …",
		Long: "Asks the node, and believes it. With --light no node is trusted: all headers are fetched from the peers and their work is\n" +
			"checked, the heaviest chain counts, and the balance is proved against its newest header. Headers are kept for the next\n" +
			"time. Name several peers of different people: whoever alone answers could hide newer blocks.",
		RunE: func(c *cobra.Command, given []string) error {
			if l.on {
				return l.run(c.Context(), a, given[0])
			}
			if len(l.peers) > 0 || l.genesis != "" {
				return usageError("", "--peer and --genesis go with --light")
			}
			node := a.client()
			g, err := askedNetwork(c.Context(), node)
			if err != nil {
				return err
			}
			account, label, err := a.recipient(given[0], g)
			if err != nil {
				return err
			}
			r, err := node.AccountGet(c.Context(), account)
			if err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(struct {
					Schema string `json:"schema"`
					balanceDoc
				}{"quipu.account-balance/v1", balanceDoc{label, r}})
			}
			fmt.Fprintln(a.out, wallet.FormatAmount(uint64(r.Balance)))
			a.say("QPU at block %d, as the node says", r.Tip.Height)
			return nil
		},
	}
	f := c.Flags()
	f.BoolVar(&l.on, "light", false, "trust no node: check headers and proofs of the peers")
	f.StringArrayVar(&l.peers, "peer", nil, "`MULTIADDR` with /p2p/ id of a node to ask, over TCP; may be given often")
	f.StringVar(&l.genesis, "genesis", "", "genesis `FILE` of the network (default: the open network, built in)")
	f.DurationVar(&l.timeout, "timeout", 10*time.Minute, "how long --light may take; 0 is no limit")
	return c
}

func (l *lightRun) run(ctx context.Context, a *app, who string) error {
	if len(l.peers) == 0 {
		return usageError("quipu account balance "+shellQuote(who)+" --light --peer /ip4/HOST/tcp/4820/p2p/PEERID", "--light needs --peer, nodes to ask")
	}
	g, err := genesisFile(l.genesis)
	if err != nil {
		return err
	}
	account, _, err := a.recipient(who, g)
	if err != nil {
		return err
	}
	home, err := dataHome()
	if err != nil {
		return err
	}
	dir := filepath.Join(home, "light")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("directory for headers: %w", err)
	}
	identity, err := p2p.NewIdentity()
	if err != nil {
		return err
	}
	h, err := p2p.NewHost(p2p.Config{Identity: identity, TestNet: true, UserAgent: "quipu-light"}) // small, and any number of peers at one address
	if err != nil {
		return err
	}
	defer h.Close()
	client, err := light.New(light.Config{Genesis: g, Peers: l.peers, File: filepath.Join(dir, g.NetworkID().Short()+".headers")}, h)
	if errors.Is(err, light.ErrFile) {
		return fail(exitData, "", "%w", err)
	}
	if err != nil {
		return usageError("", "%w", err)
	}
	ctx, cancel := withTimeout(ctx, l.timeout)
	defer cancel()
	r, err := client.Account(ctx, account)
	if err != nil {
		if errors.Is(err, light.ErrNoPeers) || errors.Is(err, context.DeadlineExceeded) {
			return fail(exitUnreachable, "", "%w", err)
		}
		return err
	}
	doc := lightDoc{
		Schema: "quipu.light-balance/v1", Network: rpc.NetworkOf(g), Address: chain.EncodeAddress(g.Prefix, account), Exists: r.Exists,
		Balance: rpc.Decimal(r.State.Balance), Nonce: rpc.Decimal(r.State.Nonce), Best: rpc.RefOf(&r.Best), Headers: r.Best.Header.Height,
		Block: rpc.BlockRef{Height: r.Block.Height, ID: r.Block.ID(), TimeMS: r.Block.Time}, Work: r.Best.Work.Dec(), Agreed: r.Agreed, Asked: r.Asked,
	}
	for _, p := range r.Peers {
		if p.Err != nil {
			doc.Refused = append(doc.Refused, lightPeer{p.ID, p.Err.Error()})
			a.say("%s doesn't count: %s", p.ID, clean(p.Err.Error()))
		}
	}
	if a.json {
		return a.writeJSON(doc)
	}
	fmt.Fprintln(a.out, wallet.FormatAmount(uint64(r.State.Balance)))
	a.say("QPU at block %d, %s old; verified against %d headers, work %s, agreed by %d of %d peers", doc.Block.Height,
		ago(time.Since(time.UnixMilli(int64(doc.Block.TimeMS)))), doc.Headers, doc.Work, doc.Agreed, doc.Asked)
	return nil
}

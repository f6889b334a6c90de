package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"quipu/chain"
	"quipu/rpc"
	"quipu/wallet"
)

func init() { commands = append(commands, sendCommand) }

// sending is one run of send.
type sending struct {
	a    *app
	node *rpc.Client
	g    *chain.Genesis

	// as typed
	to, amount, wallet, fee, memo, nonce string
	validFor                             uint32
	wait                                 string
	goal                                 goal
	depth                                uint64
	timeout                              time.Duration
	dry, yes                             bool
	pass                                 passphraseFlags

	// found out
	path    string
	price   uint64 // of a new account, in knots; 0 if the recipient has one. It is part of the fee
	from    wallet.Info
	toLabel string
	tx      chain.Tx
	id      chain.TxID
	start   time.Time
}

func sendCommand(a *app) *cobra.Command {
	s := &sending{a: a}
	c := &cobra.Command{
		Use: "send <to> <amount>", Short: "Pay, and wait until it is confirmed; prints the txid", GroupID: "money",
		Args: args(2, 2, "a recipient and an amount in QPU"),
		Example: "  quipu send bob 1.5\n" +
			"  quipu send tqp1p… 0.25 --wallet alice --memo lunch --wait verified\n" +
			"  quipu send bob 1 -y --json --timeout 5s",
		Long: "Signs here and hands the signed transaction to a node; the key never leaves this process. The txid stands\n" +
			"alone on standard output, before the node is told. --wait says how sure to be:\n\n" +
			"  none       the node took it\n" +
			"  verified   the node and more than half of its peers say they verified it\n" +
			"  included   a block of the best chain has it\n" +
			"  confirmed  that block is --confirmations deep\n\n" +
			"A later step stands for the earlier ones. When the time is over it exits 7: the payment may still happen, and\n" +
			"sending again is safe only with the same nonce.",
		RunE: func(c *cobra.Command, given []string) error {
			s.to, s.amount = given[0], given[1]
			return s.run(c.Context())
		},
	}
	f := c.Flags()
	f.StringVar(&s.wallet, "wallet", "", "`WALLET` that pays (default: $QUIPU_WALLET, alice of a test network, the only one)")
	f.StringVar(&s.fee, "fee", "auto", "`QPU`; auto is the least the network takes, with the price of a new account for a recipient that has none")
	f.StringVar(&s.memo, "memo", "", "`TEXT` of up to 80 bytes that everybody can read")
	f.Uint32Var(&s.validFor, "valid-for", 1000, "`BLOCKS` in which it may be included, from now; 0 is for ever")
	f.StringVar(&s.nonce, "nonce", "", "`N`: take this place in the account's order, such as that of a payment to replace")
	f.StringVar(&s.wait, "wait", "confirmed", "until `STEP`: none, verified, included or confirmed")
	f.Uint64Var(&s.depth, "confirmations", rpc.DefaultConfirmations, "how deep its block must lie for confirmed")
	f.DurationVar(&s.timeout, "timeout", time.Minute, "how long to wait at most")
	f.BoolVarP(&s.dry, "dry-run", "n", false, "check everything, sign and send nothing")
	f.BoolVarP(&s.yes, "yes", "y", false, "don't ask")
	s.pass.add(c)
	return c
}

func (s *sending) run(ctx context.Context) error {
	if err := s.parse(); err != nil {
		return err
	}
	if err := s.prepare(ctx); err != nil {
		return err
	}
	s.a.say("network %s via %s [%s]", s.g, s.node.URL, s.node.Source)
	s.a.say("%s", s.summary())
	if s.dry {
		s.a.say("dry run: nothing was signed, nothing was sent")
		if s.a.json {
			return s.a.writeJSON(s.doc(&waiter{}, "dry_run"))
		}
		return nil
	}
	if err := s.consent(ctx); err != nil {
		return err
	}
	w, err := s.a.unlock(ctx, s.pass, s.path, s.from)
	if err != nil {
		return err
	}
	err = w.Sign(0, &s.tx)
	w.Close()
	if err != nil {
		return err
	}
	return s.deliver(ctx)
}

// parse checks what needs no node.
func (s *sending) parse() (err error) {
	if s.goal, err = parseGoal(s.wait); err != nil {
		return err
	}
	amount, err := wallet.ParseAmount(s.amount)
	if err != nil {
		return usageError("quipu send "+shellQuote(s.to)+" 1.5", "%v", err)
	}
	if amount == 0 {
		return usageError("", "an amount of 0 can't be sent")
	}
	s.tx.Outputs = []chain.Output{{Amount: amount}}
	if s.fee != "auto" {
		if s.tx.Fee, err = wallet.ParseAmount(s.fee); err != nil {
			return usageError("add --fee auto", "--fee: %v", err)
		}
		if s.tx.Fee == 0 {
			return usageError("add --fee auto", "--fee 0: every transaction pays a fee")
		}
	}
	if s.nonce != "" {
		if s.tx.Nonce, err = strconv.ParseUint(s.nonce, 10, 64); err != nil {
			return usageError("", "--nonce %.40q is no whole number", s.nonce)
		}
	}
	switch {
	case s.depth < 1:
		return usageError("", "--confirmations 0: at least 1")
	case s.timeout <= 0:
		return usageError("", "--timeout %s: it must be above 0", s.timeout)
	case len(s.memo) > chain.MaxMemo:
		return usageError("", "--memo has %d bytes, at most %d are possible", len(s.memo), chain.MaxMemo)
	}
	s.tx.Memo = []byte(s.memo)
	return nil
}

// prepare resolves names and the account's state, and builds the transaction.
func (s *sending) prepare(ctx context.Context) (err error) {
	s.node = s.a.client()
	if s.g, err = askedNetwork(ctx, s.node); err != nil {
		return err
	}
	if s.tx.Outputs[0].To, s.toLabel, err = s.a.recipient(s.to, s.g); err != nil {
		return err
	}
	if s.path, s.from, err = s.a.payer(s.wallet, s.g); err != nil {
		return err
	}
	if s.tx.From, err = chain.DecodeAddress(s.g.Prefix, s.from.Address); err != nil {
		return err
	}
	payer, err := s.node.AccountGet(ctx, s.tx.From)
	if err != nil {
		return err
	}
	payee, err := s.node.AccountGet(ctx, s.tx.Outputs[0].To)
	if err != nil {
		return err
	}
	p := wallet.Payment{From: s.tx.From, Nonce: uint64(payer.NextNonce), Fee: s.tx.Fee, Outputs: s.tx.Outputs, Memo: s.tx.Memo}
	if s.nonce != "" {
		p.Nonce = s.tx.Nonce
	}
	if s.validFor > 0 {
		p.ValidUntil = uint32(min(payer.Tip.Height+uint64(s.validFor), chain.MaxHeight))
	}
	if !payee.Exists {
		p.NewAccounts = 1
		s.price = s.g.AccountPrice
	}
	if s.tx, err = wallet.Build(s.g, p); err != nil {
		return err
	}
	s.id = s.tx.ID(s.g.NetworkID())
	return s.affordable(&payer)
}

// affordable compares with the balance less what is on its way out. A payment that replaces one on its way is
// compared with the whole balance: the node knows exactly.
func (s *sending) affordable(payer *rpc.Account) error {
	free := uint64(payer.Balance)
	if s.tx.Nonce >= uint64(payer.NextNonce) {
		free -= min(free, uint64(payer.PendingOut))
	}
	spent, _ := s.tx.Spent(s.g.MaxSupply())
	if spent <= free {
		return nil
	}
	on := ""
	if payer.PendingOut > 0 {
		on = fmt.Sprintf(" (%s more is on its way out)", wallet.FormatAmount(uint64(payer.PendingOut)))
	}
	return fail(exitFunds, "quipu wallet balance "+s.from.Name, "wallet %s has %s QPU%s, and this needs %s: %s and a fee of %s%s",
		s.from.Name, wallet.FormatAmount(free), on, wallet.FormatAmount(spent), wallet.FormatAmount(s.tx.Outputs[0].Amount), wallet.FormatAmount(s.tx.Fee), s.priceWords())
}

// priceWords says why a fee is higher than another.
func (s *sending) priceWords() string {
	if s.price == 0 {
		return ""
	}
	return fmt.Sprintf(" (%s of it because this recipient has no account yet: it is burned)", wallet.FormatAmount(s.price))
}

// summary is what a person checks before saying yes: the full address, never a shortened one.
func (s *sending) summary() string {
	to := chain.EncodeAddress(s.g.Prefix, s.tx.Outputs[0].To)
	if s.toLabel != "" {
		to = s.toLabel + "  " + to
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s → %s\n  %s QPU + fee %s QPU%s, nonce %d", s.from.Name, to, wallet.FormatAmount(s.tx.Outputs[0].Amount), wallet.FormatAmount(s.tx.Fee), s.priceWords(), s.tx.Nonce)
	if s.tx.ValidUntil != 0 {
		fmt.Fprintf(&b, ", valid until block %d", s.tx.ValidUntil)
	}
	if len(s.tx.Memo) > 0 {
		fmt.Fprintf(&b, ", memo %s", strconv.QuoteToASCII(s.memo))
	}
	return b.String()
}

func (s *sending) consent(ctx context.Context) error {
	if s.yes {
		return nil
	}
	if !s.a.canAsk() {
		return usageError("add -y to send without being asked, or -n to look only", "nobody can be asked whether to send this")
	}
	answer, err := s.a.ask(ctx, "Send? [y/N] ")
	if err != nil {
		return err
	}
	if answer = strings.ToLower(answer); answer != "y" && answer != "yes" {
		return errors.New("not sent")
	}
	return nil
}

package wallet

import (
	"errors"
	"fmt"
	"math/bits"

	"quipu/chain"
	"quipu/chain/bip340"
)

// ErrPayment says that a payment can't become a valid transaction. The text
// says why; it is the caller's fault.
var ErrPayment = errors.New("this payment can't be made")

// Payment is what a transaction is built from.
type Payment struct {
	From       chain.Account
	Nonce      uint64         // the account's next nonce, pending transactions counted
	Fee        uint64         // knots; 0 takes the least fee the network accepts
	ValidUntil uint32         // last block height it may stand in; 0 is for ever
	Outputs    []chain.Output // 1 to 255 recipients, each amount at least 1 knot
	Memo       []byte         // up to 80 bytes
	// NewAccounts is how many different recipients don't exist in the ledger yet:
	// each costs account_price. One that comes to exist before the block makes
	// the fee higher than needed, never too low.
	NewAccounts int
}

// Build makes the unsigned transaction of a payment and checks all that can be
// checked without the ledger: counts, amounts, memo, fee, MAX_SUPPLY, and that
// every recipient is a point of the curve (else the coins would be burned).
// Every error is an ErrPayment.
func Build(g *chain.Genesis, p Payment) (chain.Tx, error) {
	bad := func(format string, args ...any) (chain.Tx, error) {
		return chain.Tx{}, &Error{Kind: ErrPayment, Detail: fmt.Sprintf(format, args...)}
	}
	if n := len(p.Outputs); n < 1 || n > chain.MaxOutputs {
		return bad("%d recipients, 1 to %d are possible", n, chain.MaxOutputs)
	}
	if len(p.Memo) > chain.MaxMemo {
		return bad("a memo of %d bytes, at most %d are possible", len(p.Memo), chain.MaxMemo)
	}
	distinct := make(map[chain.Account]bool, len(p.Outputs))
	for i := range p.Outputs {
		o := &p.Outputs[i]
		if o.Amount < 1 {
			return bad("recipient %d would get nothing", i+1)
		}
		if !distinct[o.To] && !bip340.ValidKey((*[32]byte)(&o.To)) {
			return bad("recipient %d is no account anyone can spend from", i+1)
		}
		distinct[o.To] = true
	}
	if p.NewAccounts < 0 || p.NewAccounts > len(distinct) {
		return bad("%d new accounts with %d recipients", p.NewAccounts, len(distinct))
	}
	tx := chain.Tx{From: p.From, Nonce: p.Nonce, Fee: p.Fee, ValidUntil: p.ValidUntil,
		Outputs: append([]chain.Output(nil), p.Outputs...), Memo: append([]byte(nil), p.Memo...)}
	least, ok := LeastFee(g, tx.Size(), p.NewAccounts)
	if !ok {
		return bad("opening %d accounts costs more than there are coins", p.NewAccounts)
	}
	if p.Fee == 0 {
		tx.Fee = least
	}
	if tx.Fee < least {
		return bad("a fee of %s QPU, at least %s is needed", FormatAmount(tx.Fee), FormatAmount(least))
	}
	if _, ok := tx.Spent(g.MaxSupply()); !ok {
		return bad("amounts and fee are more than there are coins")
	}
	return tx, nil
}

// LeastFee is min_fee_rate × size + account_price × created in knots, for a
// transaction of size encoded bytes that creates so many accounts (docs/spec.md
// rules T2 and A3); false if it is more than 2^63-1.
func LeastFee(g *chain.Genesis, size, created int) (uint64, bool) {
	hi, price := bits.Mul64(g.AccountPrice, uint64(created))
	sum, carry := bits.Add64(price, g.MinFee(size), 0)
	return sum, hi == 0 && carry == 0 && sum <= chain.AnySupply
}

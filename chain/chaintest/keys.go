// Package chaintest makes keys, transactions and named blocks for everybody's tests. What it makes is valid unless
// an option says otherwise; nothing here is used outside tests and benchmarks.
package chaintest

import (
	"crypto/sha256"

	"quipu/chain"
	"quipu/chain/bip340"
)

// EasyBits is the easiest canonical difficulty: about two hashes a block.
const EasyBits = 0x207fffff

// Key is a named, deterministic key pair.
type Key struct {
	Name    string
	Secret  [32]byte
	Account chain.Account
}

// NewKey derives the key of a name.
func NewKey(name string) Key {
	k := Key{Name: name, Secret: sha256.Sum256([]byte("quipu/chaintest/" + name))}
	pub, err := bip340.PublicKey(&k.Secret)
	if err != nil {
		panic(err)
	}
	k.Account = pub
	return k
}

// Genesis is an easy network with a second's spacing that funds each key with 1,000 QPU. edit may be nil.
func Genesis(edit func(*chain.Genesis), funded ...Key) *chain.Genesis {
	g := chain.Genesis{
		Name: "chaintest", Prefix: "tqp", Time: 1_700_000_000_000, Spacing: 1000, HalfLife: 144_000,
		Bits: EasyBits, LimitBits: EasyBits, BodyLimit: 1 << 20, Subsidy: 50 * chain.Knots, Halving: 1000, Tail: 1,
		MinFeeRate: 1, AccountPrice: 0,
	}
	for _, k := range funded {
		g.Balances = append(g.Balances, chain.GenesisBalance{Account: k.Account, Balance: 1000 * chain.Knots})
	}
	if edit != nil {
		edit(&g)
	}
	sealed, err := chain.NewGenesis(g)
	if err != nil {
		panic(err)
	}
	return sealed
}

// To is an output of so many knots.
func To(k Key, knots uint64) chain.Output { return chain.Output{To: k.Account, Amount: knots} }

// Pay is a signed transaction with the least fee plus tip knots.
func (k Key) Pay(g *chain.Genesis, nonce, tip uint64, outputs ...chain.Output) chain.Tx {
	return k.Sign(g, chain.Tx{Nonce: nonce, Outputs: outputs}, tip)
}

// Sign fills in sender, fee (if it is 0: the least plus tip) and signature.
func (k Key) Sign(g *chain.Genesis, t chain.Tx, tip uint64) chain.Tx {
	t.From = k.Account
	if t.Fee == 0 {
		t.Fee = g.MinFee(t.Size()) + g.AccountPrice*uint64(len(t.Outputs)) + tip
	}
	id := t.ID(g.NetworkID())
	sig, err := bip340.Sign(&k.Secret, id[:], &[32]byte{})
	if err != nil {
		panic(err)
	}
	t.Signature = sig
	return t
}

// Raw encodes a transaction.
func Raw(t chain.Tx) []byte { return t.Append(nil) }

// Check turns transactions into checked ones; it panics on an invalid one.
func Check(g *chain.Genesis, txs ...chain.Tx) []chain.CheckedTx {
	raws := make([][]byte, len(txs))
	for i, t := range txs {
		raws[i] = Raw(t)
	}
	checked, errs := g.CheckTxs(raws, nil)
	for _, err := range errs {
		if err != nil {
			panic(err)
		}
	}
	return checked
}

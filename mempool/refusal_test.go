package mempool

import (
	"errors"
	"testing"

	"quipu/chain"
	"quipu/chain/chaintest"
)

// TestRefusals admits one transaction, signed and checked in full, and refuses each of its corruptions for its reason.
func TestRefusals(t *testing.T) {
	alice, bob, dave := chaintest.NewKey("alice"), chaintest.NewKey("bob"), chaintest.NewKey("dave")
	w := newWorld(t, 10_000, func(g *chain.Genesis) { g.AccountPrice = 500 }, alice.Account, bob.Account)
	w.mine() // height 1
	cfg := Config{AccountTxs: 8, GappedAccountTxs: 2}
	good := chain.Tx{Nonce: 1, Fee: 500, ValidUntil: 5, Outputs: []chain.Output{{To: bob.Account, Amount: 1000}}}
	for _, c := range []struct {
		name string
		edit func(*chain.Tx)
		want Refusal
		gap  bool // admitted, but gapped
	}{
		{name: "valid", edit: func(*chain.Tx) {}},
		{name: "valid for ever", edit: func(tx *chain.Tx) { tx.ValidUntil = 0 }},
		{name: "three blocks left", edit: func(tx *chain.Tx) { tx.ValidUntil = 4 }, want: ErrExpiring},
		{name: "expired long ago", edit: func(tx *chain.Tx) { tx.ValidUntil = 1 }, want: ErrExpiring},
		{name: "spends the rest to the last knot", edit: func(tx *chain.Tx) { tx.Outputs[0].Amount = 10_000 - 1159 - 500 }},
		{name: "spends one knot more than pending leaves", edit: func(tx *chain.Tx) { tx.Outputs[0].Amount = 10_000 - 1159 - 499 }, want: ErrFunds},
		{name: "spends more than the balance", edit: func(tx *chain.Tx) { tx.Outputs[0].Amount = 10_000 }, want: ErrFunds},
		{name: "next but one", edit: func(tx *chain.Tx) { tx.Nonce = 2 }, gap: true},
		{name: "gapped without funds", edit: func(tx *chain.Tx) { tx.Nonce = 2; tx.Outputs[0].Amount = 10_000 - 1159 - 499 }, want: ErrFunds},
		{name: "farthest nonce", edit: func(tx *chain.Tx) { tx.Nonce = 7 }, gap: true},
		{name: "nonce too far ahead", edit: func(tx *chain.Tx) { tx.Nonce = 8 }, want: ErrGap},
		{name: "largest nonce", edit: func(tx *chain.Tx) { tx.Nonce = ^uint64(0) }, want: ErrGap},
		{name: "replaces for too little", edit: func(tx *chain.Tx) { tx.Nonce = 0; tx.Fee = 159 + 158 }, want: ErrUnderpriced},
		{name: "replaces for enough", edit: func(tx *chain.Tx) { tx.Nonce = 0; tx.Fee = 159 + 159 }},
		{name: "creates an account unpaid", edit: func(tx *chain.Tx) { tx.Outputs[0].To = dave.Account; tx.Fee = 658 }, want: ErrCreateFee},
		{name: "creates an account", edit: func(tx *chain.Tx) { tx.Outputs[0].To = dave.Account; tx.Fee = 659 }},
		{name: "pays twice into one new account", edit: func(tx *chain.Tx) {
			tx.Outputs = []chain.Output{{To: dave.Account, Amount: 1}, {To: dave.Account, Amount: 1}}
			tx.Fee = 500 + 199
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := New(w.g, cfg)
			first := chaintest.Check(w.g, alice.Sign(w.g, chain.Tx{Fee: 159, Outputs: []chain.Output{{To: bob.Account, Amount: 1000}}}, 0))
			if r := p.Add(1, w.accs, first); r[0].Err != nil {
				t.Fatal(r[0].Err)
			}
			tx := good
			tx.Outputs = append([]chain.Output(nil), good.Outputs...)
			c.edit(&tx)
			txs := chaintest.Check(w.g, alice.Sign(w.g, tx, 0))
			worth := p.Worth(txs[0].Tx(), txs[0].Raw(), 1, w.accs)
			r := p.Add(1, w.accs, txs)[0]
			if c.want != "" && !errors.Is(r.Err, c.want) || c.want == "" && r.Err != nil {
				t.Fatalf("got %v, want %q", r.Err, c.want)
			}
			if worth != nil && kind(worth) != c.want {
				t.Fatalf("Worth says %v, Add %v", worth, r.Err)
			}
			var rule *chain.RuleError
			if errors.As(r.Err, &rule) {
				t.Fatalf("policy must blame nobody: %v", r.Err)
			}
			if r.Err == nil && r.Pending == c.gap {
				t.Fatalf("pending %v, want gapped %v", r.Pending, c.gap)
			}
			if s := p.Stats(); c.want != "" && (s.Refused[c.want] != 1 || s.Txs != 1) {
				t.Fatalf("stats %+v", s)
			}
			verify(t, p)
		})
	}
}

func TestKnownAndStale(t *testing.T) {
	a, b := acct(1), acct(2)
	w := newWorld(t, 10_000, nil, a, b)
	p := New(w.g, Config{})
	tx := w.pay(a, b, 0, 159, 1)
	resigned := *tx.Tx()
	resigned.Signature[5] = 1
	if r := p.Add(0, w.accs, []chain.CheckedTx{tx, tx, check(t, w.g, resigned)}); r[0].Err != nil || r[1].Err != ErrKnown || kind(r[2].Err) != ErrKnown {
		t.Fatalf("got %v", r)
	}
	p.Update(w.mine(tx), nil, 1)
	if r := p.Add(1, w.accs, []chain.CheckedTx{tx}); kind(r[0].Err) != ErrStale {
		t.Fatalf("mined one added again: %v", r[0].Err)
	}
	if err := p.Worth(tx.Tx(), tx.Raw(), 1, w.accs); kind(err) != ErrStale {
		t.Fatalf("Worth says %v", err)
	}
	if err := p.Worth(tx.Tx(), tx.Raw(), 1, nil); kind(err) != ErrFunds {
		t.Fatalf("an account that doesn't exist: Worth says %v", err)
	}
	// Accounts read before the last Update are refused as such, whatever they say.
	if r := p.Add(0, w.accs, []chain.CheckedTx{w.pay(a, b, 1, 159, 1)}); kind(r[0].Err) != ErrBehind {
		t.Fatalf("got %v", r[0].Err)
	}
}

func TestConfigValidate(t *testing.T) {
	for name, c := range map[string]struct {
		cfg Config
		ok  bool
	}{
		"zero is the default":           {Config{}, true},
		"default":                       {DefaultConfig(), true},
		"negative":                      {Config{GappedBlocks: -1}, false},
		"no room for a transaction":     {Config{AccountBytes: chain.TxMaxSize - 1}, false},
		"account above pool":            {Config{MaxBytes: 20_000, AccountBytes: 20_001}, false},
		"small pool, account by itself": {Config{MaxBytes: 20_000}, true},
	} {
		if err := c.cfg.Validate(); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

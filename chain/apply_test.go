package chain_test

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"quipu/chain"
	"quipu/chain/chaintest"
)

func applyGenesis(price, subsidy uint64) *chain.Genesis {
	return chaintest.Genesis(func(g *chain.Genesis) {
		g.AccountPrice, g.Subsidy, g.Halving, g.Tail = price, subsidy, 1, 0
	}, alice, bob, carol)
}

// TestApplyTx: one transaction of alice, who has 10,000 knots and nonce 5, on a ledger with bob (1 knot) and carol
// (emptied, nonce 3). dave and erin are absent. account_price is 1,000 and a fee of 159 pays for the bytes of one output.
func TestApplyTx(t *testing.T) {
	g := applyGenesis(1000, 0)
	base := chain.Accounts{
		alice.Account: {Balance: 10_000, Nonce: 5}, bob.Account: {Balance: 1}, carol.Account: {Nonce: 3},
	}
	state := func(balance, nonce uint64) chain.AccountState {
		return chain.AccountState{Balance: balance, Nonce: nonce}
	}
	mk := func(nonce, fee uint64, outputs ...chain.Output) chain.Tx {
		return chain.Tx{Nonce: nonce, Fee: fee, Outputs: outputs}
	}
	to := chaintest.To
	for _, c := range []struct {
		name   string
		tx     chain.Tx
		kind   chain.ErrorKind // "" applies
		want   chain.Accounts  // of the accounts it changes
		burned uint64
	}{
		{"to an account that exists", mk(5, 159, to(bob, 100)), "", chain.Accounts{alice.Account: state(9741, 6), bob.Account: state(101, 0)}, 0},
		{"to an emptied account: it exists, no price", mk(5, 159, to(carol, 100)), "", chain.Accounts{alice.Account: state(9741, 6), carol.Account: state(100, 3)}, 0},
		{"to oneself", mk(5, 159, to(alice, 100)), "", chain.Accounts{alice.Account: state(9841, 6)}, 0},
		{"to oneself, the whole balance", mk(5, 159, to(alice, 9841)), "", chain.Accounts{alice.Account: state(9841, 6)}, 0},
		{"to oneself more than there is, though it comes back", mk(5, 159, to(alice, 9842)), chain.ErrBalance, nil, 0},
		{"exactly the balance", mk(5, 159, to(bob, 9841)), "", chain.Accounts{alice.Account: state(0, 6), bob.Account: state(9842, 0)}, 0},
		{"one knot more", mk(5, 159, to(bob, 9842)), chain.ErrBalance, nil, 0},
		{"the balance as fee", mk(5, 9999, to(bob, 1)), "", chain.Accounts{alice.Account: state(0, 6), bob.Account: state(2, 0)}, 0},
		{"nonce behind", mk(4, 159, to(bob, 1)), chain.ErrNonce, nil, 0},
		{"nonce ahead", mk(6, 159, to(bob, 1)), chain.ErrNonce, nil, 0},
		{"nonce is looked at before balance", mk(6, 159, to(bob, 9842)), chain.ErrNonce, nil, 0},
		{"balance is looked at before the price", mk(5, 159, to(dave, 9842)), chain.ErrBalance, nil, 0},
		{"creates one", mk(5, 1159, to(dave, 100)), "", chain.Accounts{alice.Account: state(8741, 6), dave.Account: state(100, 0)}, 1000},
		{"creates one, a knot short", mk(5, 1158, to(dave, 100)), chain.ErrCreateFee, nil, 0},
		{"creates two", mk(5, 2199, to(dave, 1), to(erin, 2)), "", chain.Accounts{alice.Account: state(7798, 6), dave.Account: state(1, 0), erin.Account: state(2, 0)}, 2000},
		{"creates two, paid for one", mk(5, 2198, to(dave, 1), to(erin, 2)), chain.ErrCreateFee, nil, 0},
		{"the same new account twice is one", mk(5, 1199, to(dave, 1), to(dave, 2)), "", chain.Accounts{alice.Account: state(8798, 6), dave.Account: state(3, 0)}, 1000},
		{"the same account twice", mk(5, 199, to(bob, 1), to(bob, 2)), "", chain.Accounts{alice.Account: state(9798, 6), bob.Account: state(4, 0)}, 0},
		{"oneself between new ones", mk(5, 2239, to(dave, 1), to(alice, 5), to(erin, 2)), "", chain.Accounts{alice.Account: state(7758, 6), dave.Account: state(1, 0), erin.Account: state(2, 0)}, 2000},
		{"to an x off the curve", mk(5, 1159, out(offCurve(), 7)), "", chain.Accounts{alice.Account: state(8834, 6), offCurve(): state(7, 0)}, 1000},
	} {
		t.Run(c.name, func(t *testing.T) {
			checked := chaintest.Check(g, alice.Sign(g, c.tx, 0))
			o := g.NewOverlay(1, base)
			err := o.ApplyTx(&checked[0])
			if c.kind != "" {
				if !errors.Is(err, c.kind) {
					t.Fatalf("%v, want %s", err, c.kind)
				}
				if len(o.Changes()) != 0 {
					t.Fatalf("refused, yet changed %v", o.Changes())
				}
				if issued, burned := o.Reward(bob.Account); issued != 0 || burned != 0 || len(o.Changes()) != 0 {
					t.Fatal("refused, yet its fee counts")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := chain.Accounts{}
			for _, ch := range o.Changes() {
				got[ch.Account] = ch.After
				before, existed := base[ch.Account]
				if ch.Before != before || ch.Existed != existed {
					t.Errorf("%s was %v %v, the change says %v %v", ch.Account, before, existed, ch.Before, ch.Existed)
				}
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("changed to %v, want %v", got, c.want)
			}
			miner := chaintest.NewKey("miner").Account
			if issued, burned := o.Reward(miner); issued != 0 || burned != c.burned {
				t.Errorf("issued %d, burned %d, want 0, %d", issued, burned, c.burned)
			}
			if s, _ := o.Get(miner); s.Balance != c.tx.Fee-c.burned {
				t.Errorf("the miner got %d, want %d", s.Balance, c.tx.Fee-c.burned)
			}
		})
	}
}

// TestReward: who mines, what there is to earn, and when nothing is written.
func TestReward(t *testing.T) {
	base := chain.Accounts{alice.Account: {Balance: 10_000}, bob.Account: {Balance: 1, Nonce: 2}}
	for _, c := range []struct {
		name   string
		g      *chain.Genesis
		height uint64
		miner  chain.Account
		fee    uint64 // of a payment of 1 knot by alice to bob; 0: no payment
		want   chain.AccountState
		exists bool
	}{
		{"new miner, subsidy alone", applyGenesis(1000, 8), 1, dave.Account, 0, chain.AccountState{Balance: 8}, true},
		{"new miner, subsidy of a later epoch", applyGenesis(1000, 8), 4, dave.Account, 0, chain.AccountState{Balance: 1}, true},
		{"new miner, nothing to earn: not written", applyGenesis(1000, 8), 5, dave.Account, 0, chain.AccountState{}, false},
		{"new miner, fees alone: no account_price", applyGenesis(1000, 0), 1, dave.Account, 200, chain.AccountState{Balance: 200}, true},
		{"an account that exists", applyGenesis(1000, 8), 1, bob.Account, 200, chain.AccountState{Balance: 210, Nonce: 2}, true},
		{"the sender itself", applyGenesis(1000, 8), 1, alice.Account, 200, chain.AccountState{Balance: 10_007, Nonce: 1}, true},
		{"an existing miner and nothing to earn", applyGenesis(1000, 0), 1, bob.Account, 0, chain.AccountState{Balance: 1, Nonce: 2}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := c.g.NewOverlay(c.height, base)
			if c.fee > 0 {
				checked := chaintest.Check(c.g, alice.Sign(c.g, chain.Tx{Fee: c.fee, Outputs: []chain.Output{chaintest.To(bob, 1)}}, 0))
				if err := o.ApplyTx(&checked[0]); err != nil {
					t.Fatal(err)
				}
			}
			o.Reward(c.miner)
			if s, ok := o.Get(c.miner); s != c.want || ok != c.exists {
				t.Errorf("the miner has %v, exists %v, want %v, %v", s, ok, c.want, c.exists)
			}
			if !c.exists && len(o.Changes()) != 0 {
				t.Errorf("changes %v", o.Changes())
			}
		})
	}
}

// TestRewardIsNotSpendable: a new miner's first payment can't stand in the block that pays it.
func TestRewardIsNotSpendable(t *testing.T) {
	g := applyGenesis(0, 1_000_000)
	gen := chaintest.New(g)
	spend := dave.Pay(g, 0, 0, chaintest.To(bob, 1))
	if b := gen.Next("too early", []chain.Tx{spend}, chaintest.MinedBy(dave)); b.Valid {
		t.Error("a reward is spent in its own block")
	}
	gen.SetTip("genesis").Next("mined", nil, chaintest.MinedBy(dave))
	if b := gen.Next("spent", []chain.Tx{spend}); !b.Valid {
		t.Error("a reward isn't spendable in the next block")
	}
}

// TestPriceThatOverflows: account_price × created above 2^64 is simply more than any fee.
func TestPriceThatOverflows(t *testing.T) {
	g := applyGenesis(1<<63, 0)
	base := chain.Accounts{alice.Account: {Balance: 1 << 40}}
	for _, n := range []int{1, 2, 3, 4, 255} { // 2·2^63 wraps to 0
		var tx chain.Tx
		for i := range n {
			tx.Outputs = append(tx.Outputs, out(stranger(i), 1))
		}
		tx.Fee = 1 << 30
		checked := chaintest.Check(g, alice.Sign(g, tx, 0))
		if err := g.NewOverlay(1, base).ApplyTx(&checked[0]); !errors.Is(err, chain.ErrCreateFee) {
			t.Errorf("%d accounts at 2^63 knots each: %v", n, err)
		}
	}
}

// TestApplyUndoIdentity: over the scene's blocks, Changes read backwards restore exactly what was there, and Touched
// lists every account that a block reads or writes.
func TestApplyUndoIdentity(t *testing.T) {
	gen := scene()
	blocks := path(gen)
	for i, b := range blocks[1:] {
		before := gen.SetTip(blocks[i].Name).Accounts()
		narrow := chain.Accounts{}
		for _, a := range chain.Touched(b.Header.Miner, b.Checked.Txs()) {
			if s, ok := before[a]; ok {
				narrow[a] = s
			}
		}
		u, err := gen.G.Apply(&b.Checked, narrow)
		if err != nil {
			t.Fatalf("%s on the accounts it touches alone: %v", b.Name, err)
		}
		wide, err := gen.G.Apply(&b.Checked, before)
		if err != nil || !reflect.DeepEqual(u, wide) {
			t.Errorf("%s: on all accounts it gives another update (%v)", b.Name, err)
		}
		now := after(before, u.Changes)
		for j, c := range u.Changes {
			if j > 0 && u.Changes[j-1].Account.String() >= c.Account.String() {
				t.Errorf("%s: changes are not ascending", b.Name)
			}
			if c.Before == c.After {
				t.Errorf("%s: %s is listed and unchanged", b.Name, c.Account)
			}
			if c.Existed {
				now[c.Account] = c.Before
			} else {
				delete(now, c.Account)
			}
		}
		if !reflect.DeepEqual(now, before) {
			t.Errorf("%s: undone, it leaves other accounts", b.Name)
		}
	}
}

// TestApplyAgainstModel: random transactions among few accounts, most of them refused, against a naive model that
// copies all accounts before each; what is refused must leave no trace.
func TestApplyAgainstModel(t *testing.T) {
	g := applyGenesis(50, 1000)
	keys := []chaintest.Key{alice, bob, carol, dave, erin, frank}
	r := rand.New(rand.NewPCG(5, 6))
	model := chain.Accounts{alice.Account: {Balance: 5000}, bob.Account: {Balance: 700}, carol.Account: {Balance: 1}}
	kinds := map[chain.ErrorKind]int{}
	for height := uint64(1); height <= 40; height++ {
		base := after(model, nil)
		o := g.NewOverlay(height, base)
		var fees, burned uint64
		for range 20 {
			k := keys[r.IntN(len(keys))]
			tx := chain.Tx{Nonce: model[k.Account].Nonce, Outputs: []chain.Output{}}
			if r.IntN(10) == 0 {
				tx.Nonce += r.Uint64N(3) - 1
			}
			for range 1 + r.IntN(3) {
				to := keys[r.IntN(len(keys))].Account
				if r.IntN(4) == 0 {
					to = stranger(r.IntN(1000))
				}
				tx.Outputs = append(tx.Outputs, out(to, 1+r.Uint64N(200)))
			}
			tx.Fee = g.MinFee(tx.Size()) + r.Uint64N(120)
			checked := chaintest.Check(g, k.Sign(g, tx, 0))
			next, burn, kind := applyModel(g, model, k.Account, &tx, len(checked[0].Raw()))
			err := o.ApplyTx(&checked[0])
			if kinds[kind]++; kind != "" {
				if !errors.Is(err, kind) {
					t.Fatalf("%v, the model says %s", err, kind)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			model, fees, burned = next, fees+tx.Fee, burned+burn
		}
		miner := keys[r.IntN(len(keys))].Account
		issued, gotBurned := o.Reward(miner)
		if reward := g.SubsidyAt(height) + fees - burned; reward > 0 {
			s := model[miner]
			s.Balance += reward
			model[miner] = s
		}
		if gotBurned != burned || issued != g.SubsidyAt(height) {
			t.Fatalf("issued %d, burned %d, want %d, %d", issued, gotBurned, g.SubsidyAt(height), burned)
		}
		if got := after(base, o.Changes()); !reflect.DeepEqual(got, model) {
			t.Fatalf("height %d: %v, the model has %v", height, got, model)
		}
	}
	for _, k := range []chain.ErrorKind{"", chain.ErrNonce, chain.ErrBalance, chain.ErrCreateFee} {
		if kinds[k] < 15 {
			t.Errorf("only %d outcomes of %q", kinds[k], k)
		}
	}
}

func applyModel(g *chain.Genesis, before chain.Accounts, sender chain.Account, tx *chain.Tx, size int) (chain.Accounts, uint64, chain.ErrorKind) {
	now := after(before, nil)
	from := now[sender]
	spent := tx.Fee
	for _, o := range tx.Outputs {
		spent += o.Amount
	}
	switch {
	case tx.Nonce != from.Nonce:
		return nil, 0, chain.ErrNonce
	case spent > from.Balance:
		return nil, 0, chain.ErrBalance
	}
	now[sender] = chain.AccountState{Balance: from.Balance - spent, Nonce: from.Nonce + 1}
	burn := uint64(0)
	for _, o := range tx.Outputs {
		s, exists := now[o.To]
		if !exists {
			burn += g.AccountPrice
		}
		s.Balance += o.Amount
		now[o.To] = s
	}
	if tx.Fee < uint64(g.MinFeeRate)*uint64(size)+burn {
		return nil, 0, chain.ErrCreateFee
	}
	return now, burn, ""
}

package chain_test

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"

	"quipu/chain"
	"quipu/chain/bip340"
	"quipu/chain/chaintest"
	"quipu/chain/statetree"
)

var (
	alice, bob, carol = chaintest.NewKey("alice"), chaintest.NewKey("bob"), chaintest.NewKey("carol")
	dave, erin, frank = chaintest.NewKey("dave"), chaintest.NewKey("erin"), chaintest.NewKey("frank")
)

// sceneGenesis has every constant that a rule reads set to something that bites within a few blocks.
func sceneGenesis() *chain.Genesis {
	return chaintest.Genesis(func(g *chain.Genesis) {
		g.Name, g.HalfLife, g.Bits, g.BodyLimit = "quipu vectors", 32_000, 0x2000ffff, 20_000
		g.Subsidy, g.Halving, g.Tail, g.AccountPrice = 7, 4, 0, 1000
	}, alice, bob, carol)
}

// offCurve is the first SHA-256("quipu/off-curve/i") that is the x of no point.
func offCurve() chain.Account {
	for i := 0; ; i++ {
		a := sha256.Sum256(fmt.Appendf(nil, "quipu/off-curve/%d", i))
		if !bip340.ValidKey(&a) {
			return a
		}
	}
}

func stranger(i int) chain.Account { return sha256.Sum256(fmt.Appendf(nil, "quipu/stranger/%d", i)) }

// pay is the least fee, with account_price only for so many new accounts.
func pay(g *chain.Genesis, k chaintest.Key, nonce uint64, created int, t chain.Tx) chain.Tx {
	t.Nonce = nonce
	t.Fee = g.MinFee(t.Size()) + g.AccountPrice*uint64(created)
	return k.Sign(g, t, 0)
}

func out(a chain.Account, knots uint64) chain.Output { return chain.Output{To: a, Amount: knots} }

func tx(outputs ...chain.Output) chain.Tx { return chain.Tx{Outputs: outputs} }

// sceneHeight is the tip of scene's chain, block "b16".
const sceneHeight = 16

// scene is a chain of 16 blocks named b1 … b16 that does everything once: it is the chain of docs/vectors/chain.json.
func scene() *chaintest.Gen {
	gen := chaintest.New(sceneGenesis())
	g := gen.G
	next := func(txs []chain.Tx, opts ...chaintest.Option) {
		name := fmt.Sprintf("b%d", gen.Tip().State.Header.Height+1)
		if b := gen.Next(name, txs, opts...); !b.Valid {
			panic("the scene's block " + name + " is invalid")
		}
	}
	memo80 := slices.Repeat([]byte{0xff, 0}, 40)

	next(nil)
	next([]chain.Tx{pay(g, alice, 0, 0, tx(out(bob.Account, 500_000)))})
	rent := tx(out(dave.Account, 700_000), out(erin.Account, 1))
	rent.Memo = []byte("rent, November")
	next([]chain.Tx{pay(g, alice, 1, 2, rent), pay(g, bob, 0, 0, tx(out(alice.Account, 250_000)))}, chaintest.At(900))
	last := tx(out(bob.Account, 2))
	last.ValidUntil, last.Memo = 4, memo80 // may stand here for the last time
	next([]chain.Tx{pay(g, carol, 0, 0, tx(out(bob.Account, 1))), pay(g, carol, 1, 0, last), pay(g, carol, 2, 0, tx(out(bob.Account, 3)))})
	next([]chain.Tx{pay(g, bob, 1, 1, tx(out(offCurve(), 12_345)))}, chaintest.At(1500)) // nobody can spend it
	next([]chain.Tx{                                                                     // the same new account twice is created once; a payment to oneself
		pay(g, alice, 2, 1, tx(out(frank.Account, 5_000), out(frank.Account, 6_000))),
		pay(g, alice, 3, 0, tx(out(alice.Account, 77))),
	})
	most := chain.Tx{Memo: memo80}
	for i := range chain.MaxOutputs {
		most.Outputs = append(most.Outputs, out(stranger(i%250), uint64(i+1)))
	}
	next([]chain.Tx{pay(g, carol, 3, 250, most)})
	next(nil, chaintest.At(36_000_000)) // ten hours asleep: the interval is capped
	next(nil, chaintest.At(1))
	all := tx(out(alice.Account, 700_000-159)) // dave is left with 0 and stays in the ledger
	next([]chain.Tx{pay(g, dave, 0, 0, all)}, chaintest.At(1))
	next([]chain.Tx{pay(g, bob, 2, 0, tx(out(dave.Account, 1)))}, chaintest.At(1))
	fresh := chaintest.NewKey("grace")
	next([]chain.Tx{ // an account is created and spends within one block; the miner is paid as well
		pay(g, bob, 3, 1, tx(out(fresh.Account, 50_000), out(erin.Account, 9))),
		pay(g, fresh, 0, 0, tx(out(erin.Account, 10))),
	}, chaintest.MinedBy(erin))
	next(nil, chaintest.MinedBy(chaintest.NewKey("nothing to earn"))) // subsidy 0, no fees: nothing is written
	next([]chain.Tx{pay(g, alice, 4, 0, tx(out(bob.Account, 1)))}, chaintest.MinedBy(chaintest.NewKey("heidi")))
	burner := chaintest.Key{Account: offCurve()}
	next([]chain.Tx{pay(g, alice, 5, 0, tx(out(bob.Account, 1)))}, chaintest.MinedBy(burner))
	next(nil, chaintest.At(2000))
	return gen
}

// blockCase is a block that breaks one rule. implied lists rules that can't be kept once that one is broken.
type blockCase struct {
	name, rule string
	kind       chain.ErrorKind
	implied    []string
	block      chain.Block
}

// blockCases makes one block on the scene's tip for every rule that a block can break.
func blockCases(gen *chaintest.Gen) []blockCase {
	g := gen.G
	var cases []blockCase
	add := func(name, rule string, kind chain.ErrorKind, txs []chain.Tx, opts ...chaintest.Option) *blockCase {
		b := gen.SetTip(fmt.Sprintf("b%d", sceneHeight)).Next("bad/"+name, txs, opts...)
		cases = append(cases, blockCase{name: name, rule: rule, kind: kind, block: b.Block})
		return &cases[len(cases)-1]
	}
	good := func() []chain.Tx { return []chain.Tx{pay(g, alice, 6, 0, tx(out(bob.Account, 1)))} }
	edit := func(f func(*chain.Header)) chaintest.Option { return chaintest.Header(f) }
	tip := gen.Get(fmt.Sprintf("b%d", sceneHeight)).State.Header

	add("height skips one", "H2", chain.ErrHeight, good(), edit(func(h *chain.Header) { h.Height++ }))
	add("version 0", "H3", chain.ErrVersion, good(), edit(func(h *chain.Header) { h.Version = 0 }))
	add("time equals the parent's", "H4", chain.ErrTimeOrder, good(), edit(func(h *chain.Header) { h.Time = tip.Time }))
	add("time is 2^53", "H4", chain.ErrTimeLimit, good(), edit(func(h *chain.Header) { h.Time = chain.TimeLimit }))
	add("bits one too low", "H5", chain.ErrBits, good(), edit(func(h *chain.Header) { h.Bits-- }))
	add("bits above the limit", "H5", chain.ErrBits, good(), edit(func(h *chain.Header) { h.Bits = 0x2100ffff }))
	add("id above the target", "H6", chain.ErrWork, good(), chaintest.Sealed(func(b *chain.Block) {
		for chain.MeetsTarget(b.Header.ID(), b.Header.Bits) {
			b.Header.Nonce++
		}
	}))
	add("another history", "H7", chain.ErrHistoryRoot, good(), edit(func(h *chain.Header) { h.HistoryRoot[31] ^= 1 }))
	add("body above the limit", "H8", chain.ErrBodySize, nil, edit(func(h *chain.Header) { h.TxCount, h.BodySize = 2, g.BodyLimit+1 }))
	add("too few bytes a transaction", "H9", chain.ErrTxCount, good(), edit(func(h *chain.Header) { h.TxCount = 2 }))
	add("too many bytes a transaction", "H9", chain.ErrTxCount, nil, edit(func(h *chain.Header) { h.BodySize = 1 }))

	cut := add("body cut short", "B1", chain.ErrBodyDecode, good())
	cut.block.Body = cut.block.Body[:len(cut.block.Body)-1]
	other := add("another signature than committed", "B2", chain.ErrTxRoot, good())
	other.block.Body = slices.Clone(other.block.Body)
	other.block.Body[len(other.block.Body)-1] ^= 1
	two := append(good(), pay(g, carol, 4, 0, tx(out(bob.Account, 1))))
	add("tx_count too low", "B3", chain.ErrBodyCount, two, edit(func(h *chain.Header) { h.TxCount = 1 }))
	add("body_size too high", "B4", chain.ErrBodyLength, good(), edit(func(h *chain.Header) { h.BodySize++ }))
	late := tx(out(bob.Account, 1))
	late.ValidUntil = sceneHeight
	add("valid_until is the parent's height", "B5", chain.ErrExpired, []chain.Tx{pay(g, alice, 6, 0, late)})

	add("amount 0", "T1", chain.ErrZeroAmount, []chain.Tx{pay(g, alice, 6, 0, tx(out(bob.Account, 0)))})
	cheap := tx(out(bob.Account, 1))
	cheap.Nonce, cheap.Fee = 6, 158
	add("fee one knot too low", "T2", chain.ErrFeeTooLow, []chain.Tx{alice.Sign(g, cheap, 0)}).implied = []string{"A3"}
	// fee + Σ amounts wraps to a small number in 64 bits.
	rich := pay(g, alice, 6, 0, tx(out(bob.Account, 1<<63), out(bob.Account, 1<<63)))
	add("amounts above MAX_SUPPLY", "T3", chain.ErrOverSupply, []chain.Tx{rich}).implied = []string{"A2"}
	forged := good()
	forged[0].Signature[63] ^= 1
	add("signature changed", "T4", chain.ErrSignature, forged)

	add("nonce one ahead", "A1", chain.ErrNonce, []chain.Tx{pay(g, alice, 7, 0, tx(out(bob.Account, 1)))})
	have := gen.SetTip("b16").Account(dave.Account)
	add("one knot more than the balance", "A2", chain.ErrBalance,
		[]chain.Tx{pay(g, alice, 6, 0, tx(out(dave.Account, 159))), pay(g, dave, have.Nonce, 0, tx(out(alice.Account, have.Balance+1)))})
	add("a sender that is absent", "A2", chain.ErrBalance, []chain.Tx{pay(g, chaintest.NewKey("absent"), 0, 0, tx(out(bob.Account, 1)))})
	poor := tx(out(stranger(1000), 1))
	poor.Nonce, poor.Fee = 6, 159+999
	add("creation paid one knot short", "A3", chain.ErrCreateFee, []chain.Tx{alice.Sign(g, poor, 0)})
	add("another state", "A4", chain.ErrStateRoot, good(), edit(func(h *chain.Header) { h.StateRoot[0] ^= 1 }))
	gen.SetTip(fmt.Sprintf("b%d", sceneHeight))
	return cases
}

// validate is the whole way of a block through the package: header, body, signatures, apply, state root. accounts
// are all accounts after the parent.
func validate(g *chain.Genesis, parent *chain.State, accounts chain.Accounts, b chain.Block) (chain.Update, error) {
	if _, err := g.CheckHeader(parent, &b.Header); err != nil {
		return chain.Update{}, err
	}
	checked, errs := g.CheckBlocks([]chain.Block{b}, nil)
	if errs[0] != nil {
		return chain.Update{}, errs[0]
	}
	u, err := g.Apply(&checked[0], accounts)
	if err != nil {
		return u, err
	}
	return u, chain.CheckStateRoot(&b.Header, rootOf(after(accounts, u.Changes)))
}

func after(accounts chain.Accounts, changes []chain.AccountChange) chain.Accounts {
	out := make(chain.Accounts, len(accounts))
	for a, s := range accounts {
		out[a] = s
	}
	for _, c := range changes {
		out[c.Account] = c.After
	}
	return out
}

func rootOf(accounts chain.Accounts) chain.Hash {
	leaves := make([]statetree.Leaf, 0, len(accounts))
	for a, s := range accounts {
		leaves = append(leaves, statetree.Leaf{Account: a, Balance: s.Balance, Nonce: s.Nonce})
	}
	return statetree.RootOf(leaves)
}

// path is the blocks from height 0 to the tip of gen.
func path(gen *chaintest.Gen) []*chaintest.Block {
	blocks := []*chaintest.Block{gen.Get("genesis")}
	for h := 1; h <= sceneHeight; h++ {
		blocks = append(blocks, gen.Get(fmt.Sprintf("b%d", h)))
	}
	return blocks
}

func TestSceneIsValid(t *testing.T) {
	gen := scene()
	blocks := path(gen)
	for i, b := range blocks[1:] {
		parent := blocks[i]
		base := gen.SetTip(parent.Name).Accounts()
		u, err := validate(gen.G, &parent.State, base, b.Block)
		if err != nil {
			t.Fatalf("%s: %v", b.Name, err)
		}
		sum, want := uint64(0), uint64(0)
		for _, s := range after(base, u.Changes) {
			sum += s.Balance
		}
		for _, s := range base {
			want += s.Balance
		}
		if want += u.Issued - u.Burned; sum != want {
			t.Errorf("%s: balances sum to %d, want %d", b.Name, sum, want)
		}
	}
	accounts := gen.SetTip("b16").Accounts()
	if s, ok := accounts[dave.Account]; !ok || s != (chain.AccountState{Balance: 1, Nonce: 1}) {
		t.Errorf("dave, emptied and paid 1 again: %v %v", s, ok)
	}
	if _, ok := accounts[chaintest.NewKey("nothing to earn").Account]; ok {
		t.Error("a reward of 0 created its miner's account")
	}
	if s := accounts[chaintest.NewKey("heidi").Account]; s.Balance != 159 {
		t.Errorf("a new miner got %d, want the fee of 159", s.Balance)
	}
}

package chain_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"quipu/chain"
	"quipu/chain/chaintest"
)

// busyChain is n blocks with several payments each: enough signatures that batches cross block borders.
func busyChain(n, each int) (*chaintest.Gen, []chain.Block) {
	gen := chaintest.New(chaintest.Genesis(nil, alice, bob, carol))
	var blocks []chain.Block
	nonce := uint64(0)
	for i := range n {
		var txs []chain.Tx
		for range each {
			txs = append(txs, alice.Pay(gen.G, nonce, 0, chaintest.To(bob, nonce+1)))
			nonce++
		}
		blocks = append(blocks, gen.Next(fmt.Sprintf("c%d", i), txs).Block)
	}
	return gen, blocks
}

// spoil flips a signature bit of the block's tx-th transaction and makes header and body agree again.
func spoil(t *testing.T, b chain.Block, tx int) chain.Block {
	raws, err := chain.SplitBody(b.Body)
	if err != nil {
		t.Fatal(err)
	}
	b.Body = nil
	var leaves []chain.LeafHash
	for i, raw := range raws {
		raw = slices.Clone(raw)
		if i == tx {
			raw[len(raw)-1] ^= 1
		}
		b.Body, leaves = append(b.Body, raw...), append(leaves, chain.LeafOf(raw))
	}
	b.Header.TxRoot = chain.MTH(leaves)
	return b
}

// TestCheckBlocksFindsTheGuilty: of many blocks checked together exactly those with a planted bad signature, a wrong
// body or a broken rule are refused, each for its own reason.
func TestCheckBlocksFindsTheGuilty(t *testing.T) {
	const n, each = 40, 6
	gen, good := busyChain(n, each)
	r := rand.New(rand.NewPCG(9, 9))
	for round := range 12 {
		blocks, want := slices.Clone(good), make([]chain.ErrorKind, n)
		for range round {
			i := r.IntN(n)
			if want[i] != "" {
				continue
			}
			switch r.IntN(4) {
			case 0:
				blocks[i].Body, want[i] = blocks[i].Body[:len(blocks[i].Body)-1], chain.ErrBodyDecode
			case 1:
				blocks[i].Body, want[i] = good[(i+1)%n].Body, chain.ErrTxRoot
			default:
				blocks[i], want[i] = spoil(t, blocks[i], r.IntN(each)), chain.ErrSignature
			}
		}
		checked, errs := gen.G.CheckBlocks(blocks, nil)
		for i := range blocks {
			if want[i] == "" {
				if errs[i] != nil {
					t.Fatalf("round %d: good block %d: %v", round, i, errs[i])
				}
				if checked[i].ID() != blocks[i].Header.ID() || len(checked[i].Txs()) != each {
					t.Fatalf("round %d: block %d isn't what was checked", round, i)
				}
				continue
			}
			var re *chain.RuleError
			if !errors.As(errs[i], &re) || re.Kind != want[i] {
				t.Fatalf("round %d: block %d: %v, want %s", round, i, errs[i], want[i])
			}
			if chain.WrongBody(errs[i]) == (want[i] == chain.ErrSignature) {
				t.Fatalf("round %d: block %d: %v blames the wrong one", round, i, errs[i])
			}
		}
	}
	// A block of which every signature is bad, next to a good one.
	bad := good[3]
	for i := range each {
		bad = spoil(t, bad, i)
	}
	_, errs := gen.G.CheckBlocks([]chain.Block{good[2], bad, good[4]}, nil)
	if errs[0] != nil || !errors.Is(errs[1], chain.ErrSignature) || errs[2] != nil {
		t.Errorf("%v", errs)
	}
}

// TestCheckTxsFindsTheGuilty does the same for loose transactions, and holds what known means: a leaf that is known
// isn't verified again, and a variant with another signature is another leaf.
func TestCheckTxsFindsTheGuilty(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	var raws [][]byte
	for i := range 300 {
		raws = append(raws, chaintest.Raw(alice.Pay(g, uint64(i), 0, chaintest.To(bob, 1))))
	}
	bad := map[int]bool{0: true, 63: true, 64: true, 65: true, 150: true, 299: true}
	for i := range bad {
		raws[i][len(raws[i])-40] ^= 4
	}
	raws = append(raws, []byte{2}, nil)
	txs, errs := g.CheckTxs(raws, nil)
	for i := range 300 {
		if bad[i] != errors.Is(errs[i], chain.ErrSignature) || bad[i] != (errs[i] != nil) {
			t.Errorf("transaction %d: %v, bad %v", i, errs[i], bad[i])
		}
		if !bad[i] && (txs[i].Tx().Nonce != uint64(i) || txs[i].ID() != chain.TxIDOf(g.NetworkID(), raws[i])) {
			t.Errorf("transaction %d isn't what was checked", i)
		}
	}
	if !errors.Is(errs[300], chain.ErrTxVersion) || !errors.Is(errs[301], chain.ErrTruncated) {
		t.Errorf("%v, %v", errs[300], errs[301])
	}

	asked := map[chain.LeafHash]int{}
	known := chain.LeafOf(raws[63])
	_, errs = g.CheckTxs(raws[:300], func(l chain.LeafHash) bool { asked[l]++; return l == known })
	if errs[63] != nil || errs[64] == nil {
		t.Errorf("known: %v, unknown: %v", errs[63], errs[64])
	}
	if len(asked) != 300 {
		t.Errorf("%d leaves were asked about", len(asked))
	}
	if txs, errs := g.CheckTxs(nil, nil); len(txs) != 0 || len(errs) != 0 {
		t.Error("nothing gives something")
	}
}

// TestBodyAgainstHeader: CheckBody is rules B1 and B2 and nothing else, and Seal gives back a checked block.
func TestBodyAgainstHeader(t *testing.T) {
	gen := scene()
	for _, c := range blockCases(gen) {
		err := chain.CheckBody(&c.block.Header, c.block.Body)
		switch {
		case c.rule == "B1" || c.rule == "B2":
			if !errors.Is(err, c.kind) {
				t.Errorf("%s: %v, want %s", c.name, err, c.kind)
			}
		case err != nil:
			t.Errorf("%s: %v, but the body is the header's", c.name, err)
		}
	}
	for _, b := range path(gen)[1:] {
		sealed := chain.Seal(b.Header, b.Checked.Txs())
		if sealed.ID() != b.ID() || string(sealed.Body()) != string(b.Body) {
			t.Errorf("%s: sealed, it is another block", b.Name)
		}
	}
}

// TestBodiesThatDontDecode: what refuses a transaction refuses a body with it (B1), in front or behind a good one.
func TestBodiesThatDontDecode(t *testing.T) {
	g := sceneGenesis()
	good := chaintest.Raw(anyTx(g))
	for _, c := range decodeCases(g) {
		for _, body := range [][]byte{c.raw, slices.Concat(good, c.raw)} {
			if len(c.raw) == 0 || c.name == "twice" {
				if _, err := chain.SplitBody(body); err != nil {
					t.Errorf("%s: %v, but it is a body", c.name, err)
				}
				continue
			}
			_, err := chain.SplitBody(body)
			if !errors.Is(err, chain.ErrBodyDecode) || !chain.WrongBody(err) {
				t.Errorf("%s: %v, want %s", c.name, err, chain.ErrBodyDecode)
			}
		}
	}
}

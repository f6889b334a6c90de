package chain_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"quipu/chain"
	"quipu/chain/statetree"
)

// TestPathAgainstOracle: every path of every tree up to 70 leaves is the one of RFC 6962's definition, and transparency-dev
// verifies it.
func TestPathAgainstOracle(t *testing.T) {
	var items [][]byte
	var leaves []chain.LeafHash
	for n := 1; n <= 70; n++ {
		items = append(items, fmt.Appendf(nil, "leaf %d", n))
		leaves = append(leaves, chain.LeafOf(items[n-1]))
		root := mth(items)
		for i := range n {
			var got, want [][]byte
			for _, h := range chain.TxPath(leaves, i) {
				got = append(got, h[:])
			}
			if want = inclusion(i, items); !slices.EqualFunc(got, want, slices.Equal) {
				t.Fatalf("leaf %d of %d: %x, want %x", i, n, got, want)
			}
			if err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(i), uint64(n), leaves[i][:], got, root[:]); err != nil {
				t.Fatalf("leaf %d of %d: %v", i, n, err)
			}
		}
	}
}

// proofScene is the scene's chain with what a node would answer.
type proofScene struct {
	g      *chain.Genesis
	states []chain.State
	bodies [][]byte
}

func newProofScene() *proofScene {
	gen := scene()
	s := &proofScene{g: gen.G}
	for _, b := range path(gen) {
		s.states, s.bodies = append(s.states, b.State), append(s.bodies, b.Body)
	}
	return s
}

func (s *proofScene) block(height, anchor int) chain.BlockProof {
	p := chain.BlockProof{Header: s.states[height].Header}
	if height < anchor {
		p.Work = s.states[height].Work
		p.Path, _ = chain.HistoryPath(uint64(height), uint64(anchor), func(h uint64) (chain.State, error) { return s.states[h], nil })
	}
	return p
}

func (s *proofScene) tx(height, index, anchor int) (chain.TxProof, chain.TxID) {
	raws, _ := chain.SplitBody(s.bodies[height])
	leaves := make([]chain.LeafHash, len(raws))
	for i, raw := range raws {
		leaves[i] = chain.LeafOf(raw)
	}
	p := chain.TxProof{Block: s.block(height, anchor), Raw: raws[index], Index: uint32(index), Path: chain.TxPath(leaves, index)}
	return p, chain.TxIDOf(s.g.NetworkID(), raws[index])
}

// TestBlockProofs: each block of the scene is shown to each that follows, and to no other.
func TestBlockProofs(t *testing.T) {
	s := newProofScene()
	for anchor := range s.states {
		for height := range anchor + 1 {
			p := s.block(height, anchor)
			if len(p.Path) > chain.MaxBlockPath {
				t.Errorf("path of %d", len(p.Path))
			}
			for other := range s.states {
				err := p.Verify(&s.states[other].Header)
				same := other == anchor || height == 0 && other+anchor == 1 // nothing is needed to show block 0 to either
				if same != (err == nil) {
					t.Fatalf("block %d under %d, verified under %d: %v", height, anchor, other, err)
				}
			}
		}
	}
}

// TestTxProofs: each transaction of the scene.
func TestTxProofs(t *testing.T) {
	s := newProofScene()
	tip, n := len(s.states)-1, 0
	for height := range s.states {
		for i := range int(s.states[height].Header.TxCount) {
			p, id := s.tx(height, i, tip)
			checked, err := s.g.VerifyTx(&p, &s.states[tip].Header, id)
			if err != nil || checked.ID() != id {
				t.Fatalf("transaction %d of block %d: %v", i, height, err)
			}
			n++
		}
	}
	if n == 0 {
		t.Fatal("the scene has no transactions")
	}
}

// TestProofCorruptions: one true proof of each kind, and everything that differs from it in one place is refused.
func TestProofCorruptions(t *testing.T) {
	s := newProofScene()
	const height, tip = 3, sceneHeight
	anchor := s.states[tip].Header

	members := statetree.New()
	root := members.Update([]statetree.Change{
		{Leaf: statetree.Leaf{Account: alice.Account, Balance: 5, Nonce: 1}}, {Leaf: statetree.Leaf{Account: bob.Account, Balance: 7}},
		{Leaf: statetree.Leaf{Account: carol.Account, Balance: 9, Nonce: 2}},
	})
	// A block of its own makes the state's root an anchor: nothing but the proof is looked at.
	at := s.states[tip].Header
	at.StateRoot = root
	account := func(a chain.Account) chain.AccountProof {
		p := chain.AccountProof{Block: chain.BlockProof{Header: at}, Proof: members.Prove(a)}
		leaf, ok := members.Get(a)
		p.Exists, p.State = ok, chain.AccountState{Balance: leaf.Balance, Nonce: leaf.Nonce}
		return p
	}

	block := func(edit func(*chain.BlockProof)) error {
		p := s.block(height, tip)
		edit(&p)
		return p.Verify(&anchor)
	}
	self := func(edit func(*chain.BlockProof)) error {
		p := s.block(tip, tip)
		edit(&p)
		return p.Verify(&anchor)
	}
	tx := func(edit func(*chain.TxProof, *chain.TxID)) error {
		p, id := s.tx(4, 1, tip)
		p.Raw = slices.Clone(p.Raw)
		edit(&p, &id)
		_, err := s.g.VerifyTx(&p, &anchor, id)
		return err
	}
	member := func(edit func(*chain.AccountProof, *chain.Account)) error {
		p, a := account(alice.Account), alice.Account
		edit(&p, &a)
		return p.Verify(&at, a)
	}
	absent := func(edit func(*chain.AccountProof, *chain.Account)) error {
		p, a := account(dave.Account), dave.Account
		edit(&p, &a)
		return p.Verify(&at, a)
	}
	for what, err := range map[string]error{
		"block": block(func(*chain.BlockProof) {}), "anchor itself": self(func(*chain.BlockProof) {}),
		"tx":     tx(func(*chain.TxProof, *chain.TxID) {}),
		"member": member(func(*chain.AccountProof, *chain.Account) {}), "absent": absent(func(*chain.AccountProof, *chain.Account) {}),
	} {
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	bad := map[string]error{
		"block: work":             block(func(p *chain.BlockProof) { p.Work[0]++ }),
		"block: none of the path": block(func(p *chain.BlockProof) { p.Path = nil }),
		"block: path too short":   block(func(p *chain.BlockProof) { p.Path = p.Path[1:] }),
		"block: path too long":    block(func(p *chain.BlockProof) { p.Path = append(p.Path, chain.Hash{}) }),
		"block: above the anchor": block(func(p *chain.BlockProof) { p.Header.Height = tip + 1 }),
		"block: at the anchor":    block(func(p *chain.BlockProof) { p.Header.Height = tip }),
		"block: 2^64 − 1":         block(func(p *chain.BlockProof) { p.Header.Height = 1<<64 - 1 }),
		"anchor itself: a path":   self(func(p *chain.BlockProof) { p.Path = []chain.Hash{{1}} }),
		"anchor itself: work":     self(func(p *chain.BlockProof) { p.Work[0] = 1 }),

		"tx: another id":         tx(func(_ *chain.TxProof, id *chain.TxID) { id[0] ^= 1 }),
		"tx: another place":      tx(func(p *chain.TxProof, _ *chain.TxID) { p.Index++ }),
		"tx: beyond the block":   tx(func(p *chain.TxProof, _ *chain.TxID) { p.Index = p.Block.Header.TxCount }),
		"tx: no path":            tx(func(p *chain.TxProof, _ *chain.TxID) { p.Path = nil }),
		"tx: path too long":      tx(func(p *chain.TxProof, _ *chain.TxID) { p.Path = append(p.Path, chain.Hash{}) }),
		"tx: no bytes":           tx(func(p *chain.TxProof, _ *chain.TxID) { p.Raw = nil }),
		"tx: one byte more":      tx(func(p *chain.TxProof, _ *chain.TxID) { p.Raw = append(p.Raw, 0) }),
		"tx: its block's work":   tx(func(p *chain.TxProof, _ *chain.TxID) { p.Block.Work[0]++ }),
		"tx: of another block":   tx(func(p *chain.TxProof, _ *chain.TxID) { p.Block = s.block(5, tip) }),
		"tx: a node as its leaf": tx(func(p *chain.TxProof, _ *chain.TxID) { p.Raw = append(p.Path[0][:], p.Path[0][:]...) }),

		"member: balance":         member(func(p *chain.AccountProof, _ *chain.Account) { p.State.Balance++ }),
		"member: nonce":           member(func(p *chain.AccountProof, _ *chain.Account) { p.State.Nonce++ }),
		"member: said absent":     member(func(p *chain.AccountProof, _ *chain.Account) { p.Exists, p.State = false, chain.AccountState{} }),
		"member: another account": member(func(_ *chain.AccountProof, a *chain.Account) { *a = bob.Account }),
		"member: another block":   member(func(p *chain.AccountProof, _ *chain.Account) { p.Block = s.block(height, tip) }),
		"member: state root":      member(func(p *chain.AccountProof, _ *chain.Account) { p.Block.Header.StateRoot[5] ^= 1 }),
		"absent: said a member":   absent(func(p *chain.AccountProof, _ *chain.Account) { p.Exists, p.State.Balance = true, 1 }),
		"absent: with a balance":  absent(func(p *chain.AccountProof, _ *chain.Account) { p.State.Balance = 1 }),
		"absent: with a nonce":    absent(func(p *chain.AccountProof, _ *chain.Account) { p.State.Nonce = 1 }),
		"absent: a member":        absent(func(_ *chain.AccountProof, a *chain.Account) { *a = alice.Account }),
	}
	true3 := s.block(height, tip)
	for i := range true3.Path {
		bad[fmt.Sprintf("block: hash %d", i)] = block(func(p *chain.BlockProof) {
			p.Path = slices.Clone(p.Path)
			p.Path[i][31] ^= 0x80
		})
	}
	head := true3.Header.Append(nil)
	for i := range head { // each bit of the header's fields is in its id
		bad[fmt.Sprintf("block: header byte %d", i)] = block(func(p *chain.BlockProof) {
			b := slices.Clone(head)
			b[i] ^= 1
			p.Header, _ = chain.DecodeHeader(b)
		})
	}
	whole, _ := s.tx(4, 1, tip)
	for i := range whole.Raw {
		bad[fmt.Sprintf("tx: byte %d", i)] = tx(func(p *chain.TxProof, _ *chain.TxID) { p.Raw[i] ^= 1 })
	}
	for i := range whole.Path {
		bad[fmt.Sprintf("tx: hash %d", i)] = tx(func(p *chain.TxProof, _ *chain.TxID) {
			p.Path = slices.Clone(p.Path)
			p.Path[i][0] ^= 1
		})
	}
	for i := range members.Prove(alice.Account).Siblings {
		bad[fmt.Sprintf("member: sibling %d", i)] = member(func(p *chain.AccountProof, _ *chain.Account) { p.Proof.Siblings[i][0] ^= 1 })
	}
	for what, err := range bad {
		if !errors.Is(err, chain.ErrProof) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if s.states[4].Header.TxCount < 3 {
		t.Error("the scene's block 4 should have a path")
	}
}

// TestForgedTx: a transaction under a true tx_root that its sender didn't sign is refused all the same.
func TestForgedTx(t *testing.T) {
	s := newProofScene()
	raw := slices.Clone(s.bodies[2])
	raw[len(raw)-1] ^= 1
	h := s.states[2].Header
	h.TxRoot, h.TxCount = chain.MTH([]chain.LeafHash{chain.LeafOf(raw)}), 1
	p := chain.TxProof{Block: chain.BlockProof{Header: h}, Raw: raw}
	if _, err := s.g.VerifyTx(&p, &h, chain.TxIDOf(s.g.NetworkID(), raw)); !errors.Is(err, chain.ErrSignature) || !errors.Is(err, chain.ErrProof) {
		t.Errorf("got %v", err)
	}
}

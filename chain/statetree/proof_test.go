package statetree

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

func treeOf(leaves ...Leaf) *Tree {
	t := New()
	for _, l := range leaves {
		t.Update([]Change{{Leaf: l}})
	}
	return t
}

func (p Proof) clone() Proof {
	p.Siblings = slices.Clone(p.Siblings)
	if p.Other != nil {
		other := *p.Other
		p.Other = &other
	}
	return p
}

// TestProofsOfRandomTrees: every member and every absent account of trees of
// many sizes has a proof that verifies, survives its encoding, and proves
// nothing else.
func TestProofsOfRandomTrees(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	near := neighbours()
	for _, size := range []int{0, 1, 2, 3, 4, 5, 8, 13, 40, 200, 1000} {
		m := model{}
		for len(m) < size {
			l := Leaf{Account: account(r.Uint64()), Balance: r.Uint64(), Nonce: r.Uint64N(9) + 1}
			if r.IntN(3) == 0 {
				l.Account = near[r.IntN(len(near))]
			}
			m[l.Account] = l
		}
		tree := treeOf(m.leaves()...)
		root := tree.Root()
		ask := append([][32]byte{}, near...)
		for a := range m {
			ask = append(ask, a)
		}
		for range 100 {
			ask = append(ask, account(r.Uint64()))
		}
		for _, a := range ask {
			leaf, member := m[a]
			p, err := DecodeProof(tree.Prove(a).Append(nil))
			if err != nil {
				t.Fatalf("size %d: own proof does not decode: %v", size, err)
			}
			if !member {
				leaf = Leaf{a, 1, 0}
			}
			inErr, outErr := VerifyMember(root, leaf, p), VerifyAbsent(root, a, p)
			if member && (inErr != nil || outErr == nil) {
				t.Fatalf("size %d, member: VerifyMember %v, VerifyAbsent %v", size, inErr, outErr)
			}
			if !member && (inErr == nil || outErr != nil) {
				t.Fatalf("size %d, absent: VerifyMember %v, VerifyAbsent %v", size, inErr, outErr)
			}
			for name, q := range corruptions(p) {
				if VerifyMember(root, leaf, q) == nil || VerifyAbsent(root, a, q) == nil {
					t.Fatalf("size %d: accepted with %s", size, name)
				}
			}
		}
	}
}

// corruptions returns every proof that differs from p in one way.
func corruptions(p Proof) map[string]Proof {
	out := map[string]Proof{}
	edit := func(name string, f func(*Proof)) {
		q := p.clone()
		f(&q)
		if !bytes.Equal(q.Append(nil), p.Append(nil)) {
			out[name] = q
		}
	}
	d := len(p.Siblings)
	for i := range d {
		edit("a bit of a sibling flipped", func(q *Proof) { q.Siblings[i][i%32] ^= 1 << (i % 8) })
		edit("a sibling emptied", func(q *Proof) { q.Siblings[i] = Hash{} })
		edit("a sibling left out", func(q *Proof) { q.Siblings = slices.Delete(q.Siblings, i, i+1) })
		edit("a sibling doubled", func(q *Proof) { q.Siblings = slices.Insert(q.Siblings, i, q.Siblings[i]) })
		edit("two siblings swapped", func(q *Proof) {
			q.Siblings[i], q.Siblings[(i+1)%d] = q.Siblings[(i+1)%d], q.Siblings[i]
		})
	}
	edit("an empty sibling on top", func(q *Proof) { q.Siblings = slices.Insert(q.Siblings, 0, Hash{}) })
	edit("an empty sibling below", func(q *Proof) { q.Siblings = append(q.Siblings, Hash{}) })
	edit("a made-up sibling below", func(q *Proof) { q.Siblings = append(q.Siblings, Hash{1}) })
	edit("no siblings", func(q *Proof) { q.Siblings = nil })
	edit("257 siblings", func(q *Proof) { q.Siblings = make([]Hash, 257); q.Siblings[256] = Hash{1} })
	if p.Other == nil {
		edit("another leaf added", func(q *Proof) { q.Other = &Leaf{Account: account(77), Balance: 1} })
	} else {
		edit("the other leaf left out", func(q *Proof) { q.Other = nil })
		edit("the other account changed", func(q *Proof) { q.Other.Account[31] ^= 1 })
		edit("the other balance changed", func(q *Proof) { q.Other.Balance++ })
		edit("the other nonce changed", func(q *Proof) { q.Other.Nonce++ })
		edit("the other leaf (0, 0)", func(q *Proof) { q.Other.Balance, q.Other.Nonce = 0, 0 })
	}
	return out
}

// TestWrongQuestion: a true proof answers no other question.
func TestWrongQuestion(t *testing.T) {
	a, b := neighbours()[0], neighbours()[1]
	leaf := Leaf{a, 5, 1}
	tree := treeOf(leaf, Leaf{account(1 << 50), 7, 0})
	root, in, out := tree.Root(), tree.Prove(a), tree.Prove(b)
	if out.Other == nil || out.Other.Account != a {
		t.Fatalf("absence of a near account should end in its neighbour: %+v", out)
	}
	if VerifyMember(root, leaf, in) != nil || VerifyAbsent(root, b, out) != nil {
		t.Fatal("true proofs refused")
	}
	elsewhere, pa := uint64(0), pathOf(&a)
	for p := pa; p.bit(0) == pa.bit(0); {
		elsewhere++
		x := account(elsewhere)
		p = pathOf(&x)
	}
	if len(out.Siblings) == 0 {
		t.Fatal("the scene needs two leaves on different sides somewhere")
	}
	for _, c := range []struct {
		name string
		err  error
		kind error
	}{
		{"another balance", VerifyMember(root, Leaf{a, 6, 1}, in), ErrProofRoot},
		{"another nonce", VerifyMember(root, Leaf{a, 5, 2}, in), ErrProofRoot},
		{"balance and nonce swapped", VerifyMember(root, Leaf{a, 1, 5}, in), ErrProofRoot},
		{"another account", VerifyMember(root, Leaf{b, 5, 1}, in), ErrProofRoot},
		{"a (0, 0) leaf", VerifyMember(root, Leaf{Account: a}, in), ErrProofForm},
		{"another root", VerifyMember(Hash{1}, leaf, in), ErrProofRoot},
		{"the empty root", VerifyMember(Hash{}, leaf, Proof{}), ErrProofRoot},
		{"absence of a member", VerifyAbsent(root, a, in), ErrProofRoot},
		{"absence of a member by its own leaf", VerifyAbsent(root, a, Proof{in.Siblings, &leaf}), ErrProofForm},
		{"absence under another root", VerifyAbsent(Hash{}, b, out), ErrProofRoot},
		{"membership by an absence", VerifyMember(root, leaf, out), ErrProofForm},
		{"absence of an account on another path", VerifyAbsent(root, account(elsewhere), out), ErrProofForm},
	} {
		if !errors.Is(c.err, c.kind) {
			t.Errorf("%s: %v, want %v", c.name, c.err, c.kind)
		}
	}
}

// TestNonCanonical: shapes whose hashes do lead to the root given, which a
// canonical tree never has, are refused for their form.
func TestNonCanonical(t *testing.T) {
	a, b := neighbours()[0], neighbours()[1]
	leaf := Leaf{a, 5, 1}
	shared := 0 // bits a and b share
	for pa, pb := pathOf(&a), pathOf(&b); pa.shares(&pb, shared+1); {
		shared++
	}
	rootFor := func(account [32]byte, end Hash, siblings []Hash) Hash {
		p := pathOf(&account)
		for d := len(siblings) - 1; d >= 0; d-- {
			// Not bit(d): past the end of the path any side will do.
			if d < MaxDepth && p.bit(d) == 1 {
				end = branchHash(&siblings[d], &end)
			} else {
				end = branchHash(&end, &siblings[d])
			}
		}
		return end
	}
	full := func(n int, last Hash) []Hash {
		s := make([]Hash, n)
		s[n-1] = last
		return s
	}
	other := &Leaf{b, 1, 1}
	for _, c := range []struct {
		name   string
		absent bool
		leaf   Leaf
		proof  Proof
	}{
		{"a member not collapsed", false, leaf, Proof{Siblings: []Hash{{}}}},
		{"a member not collapsed, two levels", false, leaf, Proof{Siblings: []Hash{{1}, {}}}},
		{"a member at depth 257", false, leaf, Proof{Siblings: full(257, Hash{1})}},
		{"a (0, 0) member", false, Leaf{Account: a}, Proof{Siblings: []Hash{{1}}}},
		{"a (0, 0) member alone", false, Leaf{Account: a}, Proof{}},
		{"an empty branch", true, leaf, Proof{Siblings: []Hash{{}}}},
		{"an empty branch below a full one", true, leaf, Proof{Siblings: []Hash{{1}, {}}}},
		{"absence in an empty subtree at depth 256", true, leaf, Proof{Siblings: full(256, Hash{1})}},
		{"absence at depth 257", true, leaf, Proof{Siblings: full(257, Hash{1})}},
		{"another leaf not collapsed", true, leaf, Proof{[]Hash{{}}, other}},
		{"a (0, 0) other leaf", true, leaf, Proof{[]Hash{{1}}, &Leaf{Account: b}}},
		{"another leaf below the bits it shares", true, leaf, Proof{full(shared+1, Hash{1}), other}},
		{"another leaf at depth 256", true, leaf, Proof{full(256, Hash{1}), other}},
		{"the own leaf as another", true, leaf, Proof{[]Hash{{1}}, &leaf}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var end Hash
			switch {
			case !c.absent:
				end = c.leaf.Hash()
			case c.proof.Other != nil:
				end = c.proof.Other.Hash()
			}
			root := rootFor(a, end, c.proof.Siblings)
			err := VerifyMember(root, c.leaf, c.proof)
			if c.absent {
				err = VerifyAbsent(root, a, c.proof)
			}
			if !errors.Is(err, ErrProofForm) {
				t.Errorf("got %v, want ErrProofForm", err)
			}
		})
	}
	// The nearest canonical neighbours of those shapes pass.
	for name, p := range map[string]Proof{
		"a member at depth 256":                  {Siblings: full(256, Hash{1})},
		"empty siblings above a full one":        {Siblings: []Hash{{}, {}, {1}}},
		"a member alone":                         {},
		"another leaf as deep as it shares bits": {full(shared, Hash{1}), other},
		"absence in an empty subtree":            {Siblings: full(255, Hash{1})},
	} {
		if p.Other == nil && VerifyMember(rootFor(a, leaf.Hash(), p.Siblings), leaf, p) != nil {
			t.Errorf("member, %s: refused", name)
		}
		end := Hash{}
		if p.Other != nil {
			end = p.Other.Hash()
		}
		if len(p.Siblings) < 256 && VerifyAbsent(rootFor(a, end, p.Siblings), a, p) != nil {
			t.Errorf("absent, %s: refused", name)
		}
	}
}

// TestDecodeProof: one encoding and its corruptions.
func TestDecodeProof(t *testing.T) {
	good := Proof{[]Hash{{}, {2}}, &Leaf{account(3), 4, 5}}.Append(nil)
	plain := Proof{Siblings: []Hash{{}, {2}}}.Append(nil)
	if len(good) != 3+64+48 || len(plain) != 3+64 {
		t.Fatalf("lengths %d and %d", len(good), len(plain))
	}
	edit := func(b []byte, f func([]byte) []byte) []byte { return f(slices.Clone(b)) }
	for _, c := range []struct {
		name string
		in   []byte
		ok   bool
	}{
		{"with another leaf", good, true},
		{"without", plain, true},
		{"the empty tree", []byte{0, 0, 0}, true},
		{"nothing", nil, false},
		{"half a header", []byte{0, 0}, false},
		{"a byte short", good[:len(good)-1], false},
		{"a byte long", append(slices.Clone(good), 0), false},
		{"kind 2", edit(good, func(b []byte) []byte { b[2] = 2; return b }), false},
		{"kind 0 with a leaf", edit(good, func(b []byte) []byte { b[2] = 0; return b }), false},
		{"kind 1 without a leaf", edit(plain, func(b []byte) []byte { b[2] = 1; return b }), false},
		{"one sibling fewer than said", edit(plain, func(b []byte) []byte { b[0] = 3; return b }), false},
		{"257 siblings", Proof{Siblings: slices.Repeat([]Hash{{1}}, 257)}.Append(nil), false},
		{"256 siblings", Proof{Siblings: slices.Repeat([]Hash{{1}}, 256)}.Append(nil), true},
		{"256 siblings and another leaf", Proof{slices.Repeat([]Hash{{1}}, 256), &Leaf{account(3), 4, 5}}.Append(nil), false},
		{"255 siblings and another leaf", Proof{slices.Repeat([]Hash{{1}}, 255), &Leaf{account(3), 4, 5}}.Append(nil), true},
		{"65,535 siblings said", []byte{255, 255, 0}, false},
		{"lowest sibling empty", Proof{Siblings: []Hash{{2}, {}}}.Append(nil), false},
		{"other leaf (0, 0)", Proof{[]Hash{{2}}, &Leaf{Account: account(3)}}.Append(nil), false},
	} {
		p, err := DecodeProof(c.in)
		if (err == nil) != c.ok || (err != nil && !errors.Is(err, ErrProofForm)) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err == nil && !bytes.Equal(p.Append(nil), c.in) {
			t.Errorf("%s: encodes to other bytes", c.name)
		}
		if len(c.in) > MaxProofSize && c.ok {
			t.Errorf("%s: longer than MaxProofSize", c.name)
		}
	}
	if p := (Proof{Siblings: []Hash{{1}}}).Append([]byte("x")); p[0] != 'x' || len(p) != 1+3+32 {
		t.Errorf("Append does not append: %x", p)
	}
}

func FuzzDecodeProof(f *testing.F) {
	tree := fuzzTree()
	f.Add([]byte{})
	for i := range uint64(40) {
		f.Add(tree.Prove(account(i)).Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := DecodeProof(b)
		if err != nil {
			if !errors.Is(err, ErrProofForm) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if !bytes.Equal(p.Append(nil), b) {
			t.Fatalf("decodes but encodes to other bytes: %x", b)
		}
	})
}

// FuzzVerify: whatever the bytes, the only proof accepted for a question is
// the one Prove gives, and only for the true answer.
func FuzzVerify(f *testing.F) {
	tree := fuzzTree()
	root := tree.Root()
	for i := range uint64(40) {
		f.Add(i, i+1, uint64(0), tree.Prove(account(i)).Append(nil))
	}
	f.Fuzz(func(t *testing.T, who, balance, nonce uint64, b []byte) {
		p, err := DecodeProof(b)
		if err != nil {
			return
		}
		a := account(who % 64)
		want, member := tree.Get(a)
		same := bytes.Equal(b, tree.Prove(a).Append(nil))
		leaf := Leaf{a, balance, nonce}
		if ok, truth := VerifyMember(root, leaf, p) == nil, same && member && leaf == want; ok != truth {
			t.Fatalf("VerifyMember(%+v) accepted %v, truth %v", leaf, ok, truth)
		}
		if ok, truth := VerifyAbsent(root, a, p) == nil, same && !member; ok != truth {
			t.Fatalf("VerifyAbsent(%d) accepted %v, truth %v", who%64, ok, truth)
		}
	})
}

// fuzzTree holds accounts 0, 2, …, 62 with balance i+1; odd ones are absent.
func fuzzTree() *Tree {
	t := New()
	for i := uint64(0); i < 64; i += 2 {
		t.Update([]Change{{Leaf: Leaf{Account: account(i), Balance: i + 1}}})
	}
	return t
}

package statetree

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// MaxDepth is the length of a path in bits, so the largest number of
// siblings in a proof.
const MaxDepth = 256

// MaxProofSize is the length in bytes of the longest encoded proof.
const MaxProofSize = proofHeader + MaxDepth*32 + LeafSize

const proofHeader = 3

var (
	// ErrProofForm is wrapped by errors about a proof that is malformed or
	// not canonical whatever the root: its sender is at fault.
	ErrProofForm = errors.New("statetree: malformed account proof")
	// ErrProofRoot is wrapped by errors about a well-formed proof that does
	// not lead to the given root: it is false, or is about another root.
	ErrProofRoot = errors.New("statetree: account proof does not lead to the root")
)

// Proof shows what one account's place in a tree holds. Which account, and
// for membership which leaf, is the verifier's question and no part of it.
//
// Siblings are the hashes beside the account's path from the root down, empty
// ones included; the sides come from the path. The path ends where fewer than
// two accounts are left: in the account's own leaf (membership, Other is
// nil), in an empty subtree (absence, Other is nil) or in the leaf of another
// account with the same first len(Siblings) path bits (absence, Other).
//
// Every question about a root has exactly one accepted proof. Rules beside
// the hashes:
//
//   - at most 256 siblings; for absence at most 255, since a subtree at depth
//     256 can't hold another account and one at depth 255 holds two accounts
//     only with one on each side;
//   - the lowest sibling is not empty: the parent of the end holds two or
//     more accounts and the end at most one, so its other side holds one
//     (under an empty end: two). Higher siblings may be empty;
//   - no leaf is (0, 0); Other is another account and shares the path bits.
//
// That the lowest sibling beside an empty end is a branch and not a leaf
// can't be seen from its hash. No root made by the definition has it
// otherwise, so a proof that claims it never meets such a root.
type Proof struct {
	Siblings []Hash
	Other    *Leaf
}

// Prove returns the proof for an account: of membership if the tree has it
// (see Get), of absence otherwise.
func (t *Tree) Prove(account [32]byte) Proof {
	var none error // nothing is read
	return t.prove(account, &none)
}

func (t *Tree) prove(account [32]byte, failed *error) Proof {
	path := pathOf(&account)
	siblings := make([]Hash, 0, 32)
	c := t.cursor(failed)
	for depth := 0; c.held() == many; depth++ {
		c = c.enter()
		side := path.bit(depth)
		siblings = append(siblings, c.child(1-side).hash())
		c = c.child(side)
	}
	p := Proof{Siblings: siblings}
	if c.held() == one && c.leaf().Account != account {
		other := *c.leaf()
		p.Other = &other
	}
	return p
}

// VerifyMember returns nil if p proves that the tree with this root holds
// exactly this leaf. Errors wrap ErrProofForm or ErrProofRoot.
func VerifyMember(root Hash, leaf Leaf, p Proof) error {
	if err := p.check(); err != nil {
		return err
	}
	if p.Other != nil {
		return fmt.Errorf("%w: membership with another account's leaf", ErrProofForm)
	}
	if leaf.Void() {
		return fmt.Errorf("%w: membership of an account with balance 0 and nonce 0", ErrProofForm)
	}
	path := pathOf(&leaf.Account)
	return p.leadsTo(&root, &path, leaf.Hash())
}

// VerifyAbsent returns nil if p proves that the tree with this root does not
// hold the account. Errors wrap ErrProofForm or ErrProofRoot.
func VerifyAbsent(root Hash, account [32]byte, p Proof) error {
	if err := p.check(); err != nil {
		return err
	}
	if len(p.Siblings) == MaxDepth {
		return fmt.Errorf("%w: absence with %d siblings, the most is %d", ErrProofForm, MaxDepth, MaxDepth-1)
	}
	path := pathOf(&account)
	var end Hash
	if p.Other != nil {
		if p.Other.Account == account {
			return fmt.Errorf("%w: absence with the account's own leaf", ErrProofForm)
		}
		other := pathOf(&p.Other.Account)
		if !path.shares(&other, len(p.Siblings)) {
			return fmt.Errorf("%w: the other account's path leaves this one's above depth %d", ErrProofForm, len(p.Siblings))
		}
		end = p.Other.Hash()
	}
	return p.leadsTo(&root, &path, end)
}

// check holds the rules that need neither root nor account.
func (p *Proof) check() error {
	d := len(p.Siblings)
	if d > MaxDepth {
		return fmt.Errorf("%w: %d siblings, the most is %d", ErrProofForm, d, MaxDepth)
	}
	if d > 0 && p.Siblings[d-1] == (Hash{}) {
		return fmt.Errorf("%w: the lowest sibling is empty", ErrProofForm)
	}
	if p.Other != nil && d == MaxDepth {
		return fmt.Errorf("%w: another account's leaf at depth %d", ErrProofForm, d)
	}
	if p.Other != nil && p.Other.Void() {
		return fmt.Errorf("%w: another account's leaf with balance 0 and nonce 0", ErrProofForm)
	}
	return nil
}

func (p *Proof) leadsTo(root *Hash, path *path, end Hash) error {
	h := end
	for d := len(p.Siblings) - 1; d >= 0; d-- {
		if path.bit(d) == 0 {
			h = branchHash(&h, &p.Siblings[d])
		} else {
			h = branchHash(&p.Siblings[d], &h)
		}
	}
	if h != *root {
		return fmt.Errorf("%w: it gives %x, the root is %x", ErrProofRoot, h, *root)
	}
	return nil
}

// Append appends the encoding of the proof to dst:
//
//	count u16 LE | kind u8 | count × sibling 32 | leaf 48, if kind is 1
//
// kind is 1 if Other is set, else 0; the leaf is account 32, balance u64 LE,
// nonce u64 LE. The proof must come from Prove or DecodeProof, or have at
// most 256 siblings.
func (p Proof) Append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(p.Siblings)))
	if p.Other == nil {
		dst = append(dst, 0)
	} else {
		dst = append(dst, 1)
	}
	for i := range p.Siblings {
		dst = append(dst, p.Siblings[i][:]...)
	}
	if p.Other != nil {
		dst = p.Other.append(dst)
	}
	return dst
}

// DecodeProof reads one proof that fills b exactly (see Append). It refuses
// every other length and kind, and every proof that Verify would refuse
// whatever the root and account. Errors wrap ErrProofForm.
func DecodeProof(b []byte) (Proof, error) {
	if len(b) < proofHeader {
		return Proof{}, fmt.Errorf("%w: %d bytes, the least is %d", ErrProofForm, len(b), proofHeader)
	}
	count, kind := int(binary.LittleEndian.Uint16(b)), b[2]
	if count > MaxDepth {
		return Proof{}, fmt.Errorf("%w: %d siblings, the most is %d", ErrProofForm, count, MaxDepth)
	}
	if kind > 1 {
		return Proof{}, fmt.Errorf("%w: unknown kind %d", ErrProofForm, kind)
	}
	if want := proofHeader + 32*count + LeafSize*int(kind); len(b) != want {
		return Proof{}, fmt.Errorf("%w: %d bytes, %d siblings and kind %d take %d", ErrProofForm, len(b), count, kind, want)
	}
	p := Proof{Siblings: make([]Hash, count)}
	b = b[proofHeader:]
	for i := range p.Siblings {
		p.Siblings[i] = Hash(b[32*i:])
	}
	if kind == 1 {
		other := readLeaf(b[32*count:])
		p.Other = &other
	}
	if err := p.check(); err != nil {
		return Proof{}, err
	}
	return p, nil
}

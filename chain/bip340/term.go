package bip340

import (
	"crypto/rand"

	"github.com/consensys/gnark-crypto/ecc"
	curve "github.com/consensys/gnark-crypto/ecc/secp256k1"
	"github.com/consensys/gnark-crypto/ecc/secp256k1/fp"
	"github.com/consensys/gnark-crypto/ecc/secp256k1/fr"
)

// term is an item decoded for the equation s·G − R − e·P = 0, which holds exactly when Verify accepts: P and R are the
// points with an even y and the item's x, and R, having an x, is not infinity.
type term struct {
	index   int       // of the item
	pub     *[32]byte // the item's, to find terms of one key
	p, r    curve.G1Affine
	s, e, a fr.Element // a is the random coefficient
}

// decode lifts and parses the items. One with r ≥ p, s ≥ n, or a P or R not on the curve has no term, and its index
// stands in broken.
func decode(items []Item) (terms []term, broken []int) {
	terms = make([]term, 0, len(items))
	keys := make(map[[32]byte]curve.G1Affine) // one square root a key
	for i := range items {
		if t, ok := decodeOne(&items[i], keys); ok {
			t.index = i
			terms = append(terms, t)
		} else {
			broken = append(broken, i)
		}
	}
	return terms, broken
}

func decodeOne(it *Item, keys map[[32]byte]curve.G1Affine) (t term, ok bool) {
	var err error
	if t.s, err = fr.BigEndian.Element((*[32]byte)(it.Sig[32:])); err != nil { // s ≥ n
		return t, false
	}
	t.pub = it.Pub
	if t.p, ok = keys[*it.Pub]; !ok {
		if t.p, ok = liftAffine(it.Pub); !ok {
			return t, false
		}
		keys[*it.Pub] = t.p
	}
	r := (*[32]byte)(it.Sig[:32])
	if t.r, ok = liftAffine(r); !ok {
		return t, false
	}
	h := tagChallenge.Sum(r[:], it.Pub[:], it.Msg)
	t.e.SetBytes(h[:]) // reduces mod n
	return t, true
}

// randomize draws a fresh 128-bit coefficient for each term from the system's generator.
func randomize(terms []term) {
	random := make([]byte, 16*len(terms))
	rand.Read(random) // never fails: crypto/rand ends the program rather than return an error
	for i := range terms {
		var wide [32]byte
		copy(wide[16:], random[16*i:16*i+16])
		terms[i].a, _ = fr.BigEndian.Element(&wide) // never fails: 2^128 < n
	}
}

// sum returns Σ a·(R + e·P − s·G) in Jacobian coordinates; Z = 0 is the point at infinity, the zero of the
// group. If any term is not zero without its coefficient, at most one value of that a makes the sum zero, because the
// order of the group is a prime above 2^128: probability 2^-128 at most. This is BIP-340's batch verification, with the
// first coefficient random too and the terms of one key added up before they are multiplied.
func sum(terms []term) curve.G1Jac {
	points := make([]curve.G1Affine, 1, 2*len(terms)+1)
	scalars := make([]fr.Element, 1, 2*len(terms)+1)
	points[0] = generator                      // its scalar is −Σ a·s
	keys := make(map[[32]byte]int, len(terms)) // key → its place in points
	for i := range terms {
		t := &terms[i]
		points = append(points, t.r)
		scalars = append(scalars, t.a)

		var x fr.Element
		x.Mul(&t.a, &t.s)
		scalars[0].Sub(&scalars[0], &x)

		x.Mul(&t.a, &t.e)
		if k, ok := keys[*t.pub]; ok {
			scalars[k].Add(&scalars[k], &x)
			continue
		}
		keys[*t.pub] = len(points)
		points = append(points, t.p)
		scalars = append(scalars, x)
	}
	var total curve.G1Jac
	if _, err := total.MultiExp(points, scalars, ecc.MultiExpConfig{NbTasks: 1}); err != nil {
		return jacobianG // unequal lengths or a bad config, so never; not zero accepts nothing
	}
	return total
}

var jacobianG, generator = curve.Generators()

// liftAffine is BIP-340's lift_x for the batch: the point with this x and an even y, or false.
func liftAffine(x *[32]byte) (p curve.G1Affine, ok bool) {
	var err error
	if p.X, err = fp.BigEndian.Element(x); err != nil { // x ≥ p
		return p, false
	}
	var y2 fp.Element
	y2.Square(&p.X).Mul(&y2, &p.X).Add(&y2, &seven)
	if p.Y.Sqrt(&y2) == nil {
		return p, false
	}
	if p.Y.Bits()[0]&1 == 1 {
		p.Y.Neg(&p.Y)
	}
	return p, true
}

var seven = fp.NewElement(7)

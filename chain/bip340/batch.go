package bip340

import (
	"crypto/rand"
	"slices"

	"github.com/consensys/gnark-crypto/ecc"
	curve "github.com/consensys/gnark-crypto/ecc/secp256k1"
	"github.com/consensys/gnark-crypto/ecc/secp256k1/fp"
	"github.com/consensys/gnark-crypto/ecc/secp256k1/fr"
)

// Item is one signature to check: does Sig sign Msg under Pub? None of the two pointers may be nil.
type Item struct {
	Pub *[32]byte
	Msg []byte
	Sig *[64]byte
}

const (
	// chunkItems bounds how many signatures stand in one multi-exponentiation, and with it the memory of a call
	// (about 1 kB an item).
	chunkItems = 4096

	// singleItems is the count below which signatures are verified one by one, in the beginning and in a bisection.
	singleItems = 16
)

// VerifyBatch reports whether all items are valid. A true is wrong with probability 2^-128 at most, over the call's own
// randomness and whatever the items are. A false is not a verdict on any item: ask [Invalid]. No items are all valid.
func VerifyBatch(items []Item) bool {
	for chunk := range slices.Chunk(items, chunkItems) {
		if len(chunk) < singleItems {
			for i := range chunk {
				if !chunk[i].verify() {
					return false
				}
			}
			continue
		}
		terms, broken := decode(chunk)
		if len(broken) > 0 || !sumIsZero(terms) {
			return false
		}
	}
	return true
}

// Invalid returns the indexes of the items that are not valid, ascending, or nil when all are. Valid items are accepted
// by batches, wrongly with probability 2^-128 at most a batch; every index returned was refused by [Verify] itself.
// When a batch fails it is halved until the guilty are alone, so k invalid items among n cost about k·log2(n/16)
// further, smaller multi-exponentiations; all invalid costs less than 3 times what Verify alone would.
func Invalid(items []Item) []int {
	return invalid(items, chunkItems, singleItems)
}

// invalid is Invalid with its two sizes as parameters; tests set single to 1 so that every item meets the batch.
func invalid(items []Item, chunk, single int) []int {
	b := bisection{items: items, single: single}
	for start := 0; start < len(items); start += chunk {
		end := min(start+chunk, len(items))
		if end-start < single {
			for i := start; i < end; i++ {
				b.decide(i)
			}
			continue
		}
		terms, broken := decode(items[start:end])
		for _, i := range broken {
			b.decide(start + i)
		}
		for i := range terms {
			terms[i].index += start
		}
		b.check(terms, false)
	}
	slices.Sort(b.bad)
	return b.bad
}

func (it *Item) verify() bool { return Verify(it.Pub, it.Msg, it.Sig) }

// bisection finds the invalid items of a batch that failed.
type bisection struct {
	items  []Item
	single int   // fewer terms than this are verified one by one
	bad    []int // indexes refused by Verify, in the order found
}

// decide asks the rule about one item.
func (b *bisection) decide(i int) {
	if !b.items[i].verify() {
		b.bad = append(b.bad, i)
	}
}

// check finds the invalid ones among terms. guilty says that one is known to be among them: its batch would fail.
func (b *bisection) check(terms []term, guilty bool) {
	if len(terms) < b.single || (guilty && len(terms) == 1) {
		for i := range terms {
			b.decide(terms[i].index)
		}
		return
	}
	if !guilty && sumIsZero(terms) {
		return
	}
	if len(terms) == 1 {
		b.decide(terms[0].index)
		return
	}
	left, right := terms[:len(terms)/2], terms[len(terms)/2:]
	before := len(b.bad)
	b.check(left, false)
	b.check(right, len(b.bad) == before) // nothing on the left: then it is on the right
}

// term is an item decoded for the equation s·G − R − e·P = 0, which holds exactly when Verify accepts: R and P are the
// points with an even y, and R, having an x, is not infinity.
type term struct {
	index int // of the item
	pub   *[32]byte
	p, r  curve.G1Affine
	s, e  fr.Element
}

// decode lifts and parses the items. Those with r ≥ p, s ≥ n, or a P or R not on the curve have no term: their indexes
// are in broken.
func decode(items []Item) (terms []term, broken []int) {
	terms = make([]term, 0, len(items))
	keys := make(map[[32]byte]curve.G1Affine) // one square root a key
	for i := range items {
		it := &items[i]
		t := term{index: i, pub: it.Pub}
		var known, ok bool
		if t.p, known = keys[*it.Pub]; !known {
			if t.p, ok = liftAffine(it.Pub); !ok {
				broken = append(broken, i)
				continue
			}
			keys[*it.Pub] = t.p
		}
		var err error
		if t.s, err = fr.BigEndian.Element((*[32]byte)(it.Sig[32:])); err != nil { // s ≥ n
			broken = append(broken, i)
			continue
		}
		r := (*[32]byte)(it.Sig[:32])
		if t.r, ok = liftAffine(r); !ok {
			broken = append(broken, i)
			continue
		}
		h := tagChallenge.Sum(r[:], it.Pub[:], it.Msg)
		t.e.SetBytes(h[:]) // reduces mod n
		terms = append(terms, t)
	}
	return terms, broken
}

// sumIsZero reports whether Σ aᵢ·(sᵢ·G − Rᵢ − eᵢ·Pᵢ) = 0 for fresh random 128-bit aᵢ. If any term is not 0 by itself,
// at most one value of its aᵢ makes the sum 0 (the group's order is a prime above 2^128): probability 2^-128. This is
// BIP-340's batch verification, with a₁ random too and the terms of one key added up before they are multiplied.
func sumIsZero(terms []term) bool {
	coefficients := make([]byte, 16*len(terms))
	rand.Read(coefficients) // never fails: crypto/rand ends the program rather than return an error

	points := make([]curve.G1Affine, 0, 2*len(terms)+1)
	scalars := make([]fr.Element, 0, 2*len(terms)+1)
	keys := make(map[[32]byte]int, len(terms)) // key → its place in points
	var sum fr.Element                         // −Σ aᵢ·sᵢ
	for i := range terms {
		t := &terms[i]
		a := coefficient(coefficients[16*i:])
		points = append(points, t.r)
		scalars = append(scalars, a)

		var x fr.Element
		sum.Sub(&sum, x.Mul(&a, &t.s))
		x.Mul(&a, &t.e)
		if k, ok := keys[*t.pub]; ok {
			scalars[k].Add(&scalars[k], &x)
			continue
		}
		keys[*t.pub] = len(points)
		points = append(points, t.p)
		scalars = append(scalars, x)
	}
	points = append(points, generator)
	scalars = append(scalars, sum)

	var total curve.G1Jac
	if _, err := total.MultiExp(points, scalars, ecc.MultiExpConfig{NbTasks: 1}); err != nil {
		return false // lengths differ or NbTasks > 1024: neither can be
	}
	return total.Z.IsZero()
}

var _, generator = curve.Generators()

// coefficient reads 16 bytes as a scalar below 2^128.
func coefficient(b []byte) fr.Element {
	var wide [32]byte
	copy(wide[16:], b[:16])
	a, _ := fr.BigEndian.Element(&wide) // never fails: 2^128 < n
	return a
}

// liftAffine is lift_x for the batch: the point with this x and an even y, or false.
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

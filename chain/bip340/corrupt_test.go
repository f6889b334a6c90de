package bip340

import (
	"slices"
	"testing"

	secp "github.com/decred/dcrd/dcrec/secp256k1/v4"
)

// TestCorruptions takes one valid signature and breaks it in one way a row. Verify, the naive twin, a batch of one and a
// batch of twenty must agree.
func TestCorruptions(t *testing.T) {
	p, n := bytes32(hexP), bytes32(hexN)
	neighbours := signed(t, 1, 19, 5)
	valid := signed(t, 2, 1, 1)[0]
	r := func(it Item, v [32]byte) { copy(it.Sig[:32], v[:]) }
	s := func(it Item, v [32]byte) { copy(it.Sig[32:], v[:]) }
	onCurve, offCurve := smallX(true), smallX(false)

	d, k := oddKeys(t)
	evenD, evenK := d, k
	evenD.Negate()
	evenK.Negate()
	forged := func(d, k secp.ModNScalar, offset uint32) func(Item) Item {
		return func(Item) Item { it, _, _ := forge(&d, &k, []byte("message"), offset); return it }
	}
	change := func(f func(it Item)) func(Item) Item {
		return func(it Item) Item { f(it); return it }
	}
	noR := func(rx [32]byte) func(Item) Item { // s = e·d, so s·G − e·P is infinity
		return func(Item) Item {
			it, _, _ := forge(&evenD, &evenK, []byte("message"), 0)
			r(it, rx)
			e := challenge(&rx, it.Pub, it.Msg)
			s(it, e.Mul(&evenD).Bytes())
			return it
		}
	}

	for _, c := range []struct {
		name  string
		make  func(Item) Item
		valid bool
	}{
		{"as signed", change(func(Item) {}), true},
		{"forged with even R and even P", forged(evenD, evenK, 0), true},
		{"odd R", forged(evenD, k, 0), false},
		{"odd P", forged(d, evenK, 0), false},
		{"odd R and odd P", forged(d, k, 0), false},
		{"s one more", forged(evenD, evenK, 1), false},
		{"s negated", change(func(it Item) {
			v := modN([32]byte(it.Sig[32:]))
			s(it, v.Negate().Bytes())
		}), false},
		{"r = 0", change(func(it Item) { r(it, [32]byte{}) }), false},
		{"r off the curve", change(func(it Item) { r(it, offCurve) }), false},
		{"r another x on the curve", change(func(it Item) { r(it, onCurve) }), false},
		{"r = p - 1", change(func(it Item) { r(it, plus(p, -1)) }), false},
		{"r = p", change(func(it Item) { r(it, p) }), false},
		{"r = p + an x on the curve", change(func(it Item) { r(it, plus(p, int(onCurve[31]))) }), false},
		{"r = 2^256 - 1", change(func(it Item) { r(it, plus([32]byte{}, -1)) }), false},
		{"s = 0", change(func(it Item) { s(it, [32]byte{}) }), false},
		{"s = n - 1", change(func(it Item) { s(it, plus(n, -1)) }), false},
		{"s = n", change(func(it Item) { s(it, n) }), false},
		{"s = n + 1", change(func(it Item) { s(it, plus(n, 1)) }), false},
		{"s = 2^256 - 1", change(func(it Item) { s(it, plus([32]byte{}, -1)) }), false},
		{"signature all zero", change(func(it Item) { *it.Sig = [64]byte{} }), false},
		{"R infinite, r = 0", noR([32]byte{}), false},
		{"R infinite, r = 1", noR(plus([32]byte{}, 1)), false},
		{"R infinite, r on the curve", noR(onCurve), false},
		{"pub = 0", change(func(it Item) { *it.Pub = [32]byte{} }), false},
		{"pub off the curve", change(func(it Item) { *it.Pub = offCurve }), false},
		{"pub another key", change(func(it Item) { *it.Pub = *neighbours[0].Pub }), false},
		{"pub = p", change(func(it Item) { *it.Pub = p }), false},
		{"pub = p + an x on the curve", change(func(it Item) { *it.Pub = plus(p, int(onCurve[31])) }), false},
		{"pub = 2^256 - 1", change(func(it Item) { *it.Pub = plus([32]byte{}, -1) }), false},
		{"message one byte longer", func(it Item) Item { it.Msg = append(it.Msg, 0); return it }, false},
		{"message one byte shorter", func(it Item) Item { it.Msg = it.Msg[:len(it.Msg)-1]; return it }, false},
		{"message nil", func(it Item) Item { it.Msg = nil; return it }, false},
		{"message's first bit", change(func(it Item) { it.Msg[0] ^= 0x80 }), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			agree(t, c.make(clone(valid)), c.valid, neighbours)
		})
	}
}

// TestRanges looks at the parsers alone. Nobody can make a signature that would be valid if r were taken modulo p or s
// modulo n, so Verify's answer can't show that they are not.
func TestRanges(t *testing.T) {
	p, n := bytes32(hexP), bytes32(hexN)
	valid := signed(t, 4, 1, 1)[0]
	for _, c := range []struct {
		name string
		at   int
		v    [32]byte
		ok   bool // for an s; an r below p may still be off the curve
	}{
		{"r = p - 1", 0, plus(p, -1), true},
		{"r = p", 0, p, false},
		{"r = p + 1", 0, plus(p, 1), false},
		{"r = 2^256 - 1", 0, plus([32]byte{}, -1), false},
		{"s = 0", 32, [32]byte{}, true},
		{"s = n - 1", 32, plus(n, -1), true},
		{"s = n", 32, n, false},
		{"s = n + 1", 32, plus(n, 1), false},
		{"s = p", 32, p, false},
		{"s = 2^256 - 1", 32, plus([32]byte{}, -1), false},
	} {
		it := clone(valid)
		copy(it.Sig[c.at:], c.v[:])
		if _, _, ok := parse(it.Sig); ok != c.ok {
			t.Errorf("%s: parse says %v", c.name, ok)
		}
		if ts, _ := decode([]Item{it}, nil); !c.ok && len(ts.list) != 0 || c.at == 32 && c.ok && len(ts.list) != 1 {
			t.Errorf("%s: the batch decodes it to %d terms", c.name, len(ts.list))
		}
	}
}

// TestFlippedBits flips every bit of the key and of the signature, one at a time.
func TestFlippedBits(t *testing.T) {
	valid := signed(t, 3, 1, 1)[0]
	var items []Item
	for bit := range (32 + 64) * 8 {
		it := clone(valid)
		if bit < 32*8 {
			it.Pub[bit/8] ^= 1 << (bit % 8)
		} else {
			it.Sig[bit/8-32] ^= 1 << (bit % 8)
		}
		if Verify(it.Pub, it.Msg, it.Sig) {
			t.Errorf("valid with bit %d flipped", bit)
		}
		items = append(items, it)
	}
	if got := invalid(items, bare, nil); len(got) != len(items) {
		t.Errorf("the batch refuses %d of %d", len(got), len(items))
	}
}

func agree(t *testing.T, it Item, want bool, neighbours []Item) {
	t.Helper()
	if got := Verify(it.Pub, it.Msg, it.Sig); got != want {
		t.Errorf("Verify says %v, want %v", got, want)
	}
	if got := refVerify(it.Pub[:], it.Msg, it.Sig[:]); got != want {
		t.Errorf("the naive twin says %v, want %v", got, want)
	}
	alone := []Item{it}
	if ts, _ := decode(alone, nil); (len(ts.list) == 1 && sumIsZero(ts)) != want {
		t.Errorf("the batch equation alone says %v, want %v", !want, want)
	}
	many := slices.Insert(slices.Clone(neighbours), len(neighbours)/2, it)
	if got := VerifyBatch(many); got != want {
		t.Errorf("VerifyBatch says %v, want %v", got, want)
	}
	var bad []int
	if !want {
		bad = []int{len(neighbours) / 2}
	}
	if got := Invalid(many); !slices.Equal(got, bad) {
		t.Errorf("Invalid = %v, want %v", got, bad)
	}
	if got := invalid(many, bare, nil); !slices.Equal(got, bad) {
		t.Errorf("the bare batch = %v, want %v", got, bad)
	}
}

// smallX returns the smallest positive integer that is, or is not, the x of a point.
func smallX(on bool) [32]byte {
	for i := 1; ; i++ {
		if x := plus([32]byte{}, i); ValidKey(&x) == on {
			return x
		}
	}
}

// oddKeys returns a key and a nonce whose points both have an odd y.
func oddKeys(t *testing.T) (d, k secp.ModNScalar) {
	t.Helper()
	for i := 1; i < 100; i++ {
		d, k = modN(plus([32]byte{1}, i)), modN(plus([32]byte{2}, i))
		if _, oddR, oddP := forge(&d, &k, nil, 0); oddR && oddP {
			return d, k
		}
	}
	t.Fatal("no odd pair found")
	return
}

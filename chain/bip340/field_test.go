package bip340

import (
	"encoding/binary"
	"math/big"
	"testing"

	"github.com/consensys/gnark-crypto/ecc/secp256k1/fp"
)

func (z *fe) big() *big.Int { return limbsToBig(z[:]) }

func limbsToBig(limbs []uint64) *big.Int {
	v := new(big.Int)
	for i := len(limbs) - 1; i >= 0; i-- {
		v.Lsh(v, 64).Or(v, new(big.Int).SetUint64(limbs[i]))
	}
	return v
}

func bigToLimbs(v *big.Int) (z [4]uint64) {
	var b [32]byte
	v.FillBytes(b[:])
	for i := range z {
		z[i] = binary.BigEndian.Uint64(b[24-8*i:])
	}
	return z
}

// edgeFields are values at which a carry or a borrow runs far: around 0, 2^64, 2^128, 2^192, p, 2^256 and their halves.
func edgeFields() (out []fe) {
	around := []*big.Int{new(big.Int), refP, new(big.Int).Lsh(big.NewInt(1), 256), new(big.Int).Rsh(refP, 1), big.NewInt(fold)}
	for _, n := range []uint{32, 64, 128, 192, 255} {
		p := new(big.Int).Lsh(big.NewInt(1), n)
		around = append(around, p, new(big.Int).Sub(refP, p))
	}
	for _, v := range around {
		for _, d := range []int64{-fold - 1, -fold, -fold + 1, -7, -2, -1, 0, 1, 2, 7, fold - 1, fold, fold + 1} {
			w := new(big.Int).Add(v, big.NewInt(d))
			if w.Sign() >= 0 && w.BitLen() <= 256 {
				out = append(out, bigToLimbs(w))
			}
		}
	}
	for mask := range uint64(16) { // limbs of ones and of zeros
		out = append(out, fe{-(mask & 1), -(mask >> 1 & 1), -(mask >> 2 & 1), -(mask >> 3)})
	}
	return out
}

// checkField holds the two-operand arithmetic against math/big, for any two 256-bit values.
func checkField(t testing.TB, x, y fe) {
	t.Helper()
	mod := func(v *big.Int) *big.Int { return v.Mod(v, refP) }
	check := func(name string, got fe, want *big.Int) {
		t.Helper()
		if mod(got.big()).Cmp(mod(want)) != 0 {
			t.Fatalf("%s of %x and %x is %x, want %x", name, x, y, got, want)
		}
		if n := got.normed(); n.big().Cmp(want) != 0 || got.isNorm() != (n == got) {
			t.Fatalf("%s of %x and %x: normed %x, want %x", name, x, y, n, want)
		}
		if b := got.bytes(); new(big.Int).SetBytes(b[:]).Cmp(want) != 0 {
			t.Fatalf("%s of %x and %x: bytes %x, want %x", name, x, y, b, want)
		}
		if got.isZero() != (want.Sign() == 0) || want.Sign() == 0 && !got.mayBeZero() || got.isOdd() != (want.Bit(0) == 1) {
			t.Fatalf("%s of %x and %x: isZero %v, isOdd %v", name, x, y, got.isZero(), got.isOdd())
		}
	}
	bx, by := x.big(), y.big()
	var z fe
	z.add(&x, &y)
	check("add", z, mod(new(big.Int).Add(bx, by)))
	z.sub(&x, &y)
	check("sub", z, mod(new(big.Int).Sub(bx, by)))
	z.mul(&x, &y)
	check("mul", z, mod(new(big.Int).Mul(bx, by)))
	z.sqr(&x)
	check("sqr", z, mod(new(big.Int).Mul(bx, bx)))
	z.sub2(&x, &y, &y)
	check("sub2", z, mod(new(big.Int).Sub(bx, new(big.Int).Lsh(by, 1))))
	z.sub2(&x, &y, &x)
	check("sub2 of itself", z, mod(new(big.Int).Neg(by)))
	z = x
	z.sub2(&z, &z, &y)
	check("sub2 in place", z, mod(new(big.Int).Neg(by)))
	z.neg(&x)
	check("neg", z, mod(new(big.Int).Neg(bx)))
	z.negIf(&x, 1)
	check("negIf 1", z, mod(new(big.Int).Neg(bx)))
	z.negIf(&x, 0)
	check("negIf 0", z, mod(new(big.Int).Set(bx)))

	same := mod(new(big.Int).Sub(bx, by)).Sign() == 0
	if x.equal(&y) != same {
		t.Fatalf("%x equal %x: %v", x, y, !same)
	}

	// The result may stand where an operand stood.
	z = x
	z.mul(&z, &z)
	check("mul in place", z, mod(new(big.Int).Mul(bx, bx)))
	z = x
	z.sqr(&z)
	check("sqr in place", z, mod(new(big.Int).Mul(bx, bx)))
	z = x
	z.add(&z, &z)
	check("add in place", z, mod(new(big.Int).Lsh(bx, 1)))
	z = y
	z.sub(&x, &z)
	check("sub in place", z, mod(new(big.Int).Sub(bx, by)))
	z = x
	z.negIf(&z, 1)
	check("negIf in place", z, mod(new(big.Int).Neg(bx)))

	// gnark's field, written by others in another form.
	var gx, gy, gz fp.Element
	gx.SetBigInt(bx)
	gy.SetBigInt(by)
	gz.Mul(&gx, &gy)
	z.mul(&x, &y)
	if z.bytes() != gz.Bytes() {
		t.Fatalf("%x·%x = %x, gnark says %x", x, y, z.bytes(), gz.Bytes())
	}
}

// checkRoots holds inversion and square root against math/big, two values at a time.
func checkRoots(t testing.TB, x, y fe) {
	t.Helper()
	for _, v := range []fe{x, y} {
		want := new(big.Int).ModInverse(new(big.Int).Mod(v.big(), refP), refP)
		if want == nil {
			want = new(big.Int) // of 0
		}
		var inv fe
		inv.inv(&v)
		if n := inv.normed(); n.big().Cmp(want) != 0 {
			t.Fatalf("1/%x = %x, want %x", v, n, want)
		}
		v.inv(&v)
		if !v.equal(&inv) {
			t.Fatalf("1/x in place: %x, want %x", v, inv)
		}
	}
	in := feLanes{x, y}
	var roots feLanes
	roots.sqrt(&in)
	for i, v := range in {
		var square fe
		square.sqr(&roots[i])
		is := new(big.Int).Mod(v.big(), refP)
		if want := big.Jacobi(is, refP) >= 0; square.equal(&v) != want {
			t.Fatalf("√%x = %x: a root %v, want %v", v, roots[i], !want, want)
		}
	}
	in.sqrt(&in)
	if in != roots {
		t.Fatalf("√ in place: %x, want %x", in, roots)
	}
}

func TestFieldEdges(t *testing.T) {
	edges := edgeFields()
	for _, x := range edges {
		for _, y := range edges {
			checkField(t, x, y)
		}
	}
	for i := 0; i+1 < len(edges); i++ {
		checkRoots(t, edges[i], edges[i+1])
	}
}

func TestFieldRandom(t *testing.T) {
	r := newRand(80)
	draw := func() fe { return fe{r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64()} }
	for i := range 20_000 {
		x, y := draw(), draw()
		checkField(t, x, y)
		if i%100 == 0 {
			checkRoots(t, x, y)
			x.sqr(&x)
			checkRoots(t, y, x)
		}
	}
}

func TestFieldBytes(t *testing.T) {
	p := bytes32(hexP)
	for _, c := range []struct {
		b  [32]byte
		ok bool
	}{{[32]byte{}, true}, {plus(p, -1), true}, {p, false}, {plus(p, 1), false}, {plus([32]byte{}, -1), false}, {plus(p, -256), true}} {
		var z fe
		if z.setBytes(&c.b) != c.ok || z.big().Cmp(new(big.Int).SetBytes(c.b[:])) != 0 {
			t.Errorf("%x: %x, %v", c.b, z, !c.ok)
		}
	}
}

// FuzzField reads two values. Limbs whose byte is repeated come often, so that carries run far.
func FuzzField(f *testing.F) {
	for _, e := range edgeFields() {
		b := make([]byte, 64)
		for i, l := range e {
			binary.LittleEndian.PutUint64(b[8*i:], l)
			binary.LittleEndian.PutUint64(b[32+8*i:], ^l)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 64 {
			return
		}
		var x, y fe
		for i := range x {
			x[i], y[i] = binary.LittleEndian.Uint64(b[8*i:]), binary.LittleEndian.Uint64(b[32+8*i:])
		}
		checkField(t, x, y)
		checkRoots(t, x, y)
	})
}

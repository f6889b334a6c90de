package bip340

import (
	"math/big"
	"testing"
)

func (z *scalar) big() *big.Int { return limbsToBig(z[:]) }

var (
	refLambda, _ = new(big.Int).SetString("5363ad4cc05c30e0a5261c028812645a122e22ea20816678df02967c1b23bd72", 16)
	refBeta, _   = new(big.Int).SetString("7ae96a2b657c07106e64479eac3434e99cf0497512f58995c1396c28719501ee", 16)
)

// edgeScalars are values below n at which a carry or the reduction runs far.
func edgeScalars() (out []scalar) {
	around := []*big.Int{new(big.Int), refN, refLambda, new(big.Int).Rsh(refN, 1)}
	for _, n := range []uint{64, 127, 128, 129, 192, 255, 256} {
		around = append(around, new(big.Int).Lsh(big.NewInt(1), n))
	}
	for i := range int64(4) { // where the rounding in split tips
		for _, v := range []*big.Int{limbsToBig(splitG1[:]), limbsToBig(splitG2[:])} {
			x := new(big.Int).Lsh(big.NewInt(2*i+1), 383)
			around = append(around, x.Div(x, v))
		}
	}
	for _, v := range around {
		for _, d := range []int64{-2, -1, 0, 1, 2} {
			w := new(big.Int).Add(v, big.NewInt(d))
			if w.Sign() >= 0 && w.Cmp(refN) < 0 {
				out = append(out, bigToLimbs(w))
			}
		}
	}
	return out
}

func checkScalar(t testing.TB, x, y scalar) {
	t.Helper()
	check := func(name string, got scalar, want *big.Int) {
		t.Helper()
		if want.Mod(want, refN); got.big().Cmp(want) != 0 {
			t.Fatalf("%s of %x and %x is %x, want %x", name, x, y, got, want)
		}
	}
	var z scalar
	z.add(&x, &y)
	check("add", z, new(big.Int).Add(x.big(), y.big()))
	z.neg(&x)
	check("neg", z, new(big.Int).Neg(x.big()))
	for _, a := range []half{{y[0], y[1]}, {y[2], y[3]}, {^uint64(0), ^uint64(0)}} {
		z.mulHalf(a, &x)
		check("mulHalf", z, new(big.Int).Mul(limbsToBig(a[:]), x.big()))
	}

	k1, k2, neg1, neg2 := x.split()
	b1, b2 := limbsToBig(k1[:]), limbsToBig(k2[:])
	if neg1 == 1 {
		b1.Neg(b1)
	}
	if neg2 == 1 {
		b2.Neg(b2)
	}
	check("split", x, new(big.Int).Add(b1, new(big.Int).Mul(b2, refLambda)))
	limit := new(big.Int).Lsh(big.NewInt(64), 128) // 0.64·2^128, times 100
	for _, b := range []*big.Int{b1, b2} {
		if b := new(big.Int).Mul(b, big.NewInt(100)); b.CmpAbs(limit) > 0 {
			t.Fatalf("split of %x: %x and %x", x, b1, b2)
		}
	}
}

func TestScalar(t *testing.T) {
	edges := edgeScalars()
	for _, x := range edges {
		for _, y := range edges {
			checkScalar(t, x, y)
		}
	}
	r := newRand(81)
	for range 20_000 {
		b, c := random32(r), random32(r)
		var x, y scalar
		x.setBytes(&b)
		y.setBytes(&c)
		checkScalar(t, x, y)
	}
}

func TestScalarBytes(t *testing.T) {
	n := bytes32(hexN)
	for _, b := range [][32]byte{{}, plus(n, -1), n, plus(n, 1), plus([32]byte{}, -1)} {
		v := new(big.Int).SetBytes(b[:])
		var z scalar
		if ok := z.setBytes(&b); ok != (v.Cmp(refN) < 0) || z.big().Cmp(v.Mod(v, refN)) != 0 {
			t.Errorf("%x: %x, %v", b, z, ok)
		}
	}
}

// TestSplit holds the constants of the endomorphism to their definitions.
func TestSplit(t *testing.T) {
	one := big.NewInt(1)
	if new(big.Int).Exp(refLambda, big.NewInt(3), refN).Cmp(one) != 0 || new(big.Int).Exp(refBeta, big.NewInt(3), refP).Cmp(one) != 0 {
		t.Error("λ or β is no cube root of 1")
	}
	if feBeta.big().Cmp(refBeta) != 0 || order.big().Cmp(refN) != 0 || feP.big().Cmp(refP) != 0 {
		t.Error("β, n or p is wrong")
	}
	if v := limbsToBig(notOrder[:]); v.Add(v, refN).Cmp(new(big.Int).Lsh(one, 256)) != 0 {
		t.Error("2^256 − n is wrong")
	}
	a1, b1, b2 := limbsToBig(splitA1[:]), new(big.Int).Neg(limbsToBig(splitB1[:])), limbsToBig(splitA1[:])
	a2 := new(big.Int).Add(limbsToBig(splitA2[:]), new(big.Int).Lsh(one, 128))
	for _, v := range [][2]*big.Int{{a1, b1}, {a2, b2}} {
		s := new(big.Int).Mul(v[1], refLambda)
		if s.Add(s, v[0]).Mod(s, refN).Sign() != 0 {
			t.Errorf("%x + %x·λ is not 0", v[0], v[1])
		}
	}
	rounded := func(v *big.Int) *big.Int {
		v = new(big.Int).Lsh(v, 384)
		return v.Add(v, new(big.Int).Rsh(refN, 1)).Div(v, refN)
	}
	if rounded(b2).Cmp(splitG1.big()) != 0 || rounded(new(big.Int).Neg(b1)).Cmp(splitG2.big()) != 0 {
		t.Error("g1 or g2 is wrong")
	}
	q := generator.times(0)
	want := refMul(refG, refLambda)
	if q.x.big().Cmp(want.x) != 0 || q.y.big().Cmp(want.y) != 0 {
		t.Error("(βx, y) is not λ times the base point")
	}
}

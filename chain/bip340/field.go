package bip340

import (
	"encoding/binary"
	"math/bits"
)

// fe is an element of the field of integers modulo p = 2^256 − 2^32 − 977 (SEC 2, version 2.0, section 2.4.1): four limbs,
// the least significant first. It is weakly reduced: any value below 2^256 stands for itself modulo p, so most elements
// have one form and those below 2^32 + 977 have two. norm gives the one below p; what compares or encodes calls it.
//
// Since 2^256 = fold modulo p, whatever rises above 256 bits comes back multiplied by fold. Nothing here is constant in
// time: signatures and public keys are public. Signing doesn't use this type.
type fe [4]uint64

const fold = 1<<32 + 977

var (
	feOne   = fe{1}
	feSeven = fe{7}
	feP     = fe{^uint64(fold) + 1, ^uint64(0), ^uint64(0), ^uint64(0)}
)

// setBytes reads 32 big-endian bytes and reports whether they are below p.
func (z *fe) setBytes(b *[32]byte) bool {
	z[3] = binary.BigEndian.Uint64(b[0:])
	z[2] = binary.BigEndian.Uint64(b[8:])
	z[1] = binary.BigEndian.Uint64(b[16:])
	z[0] = binary.BigEndian.Uint64(b[24:])
	return z.isNorm()
}

// bytes is the big-endian encoding of the value below p.
func (z *fe) bytes() (b [32]byte) {
	n := z.normed()
	binary.BigEndian.PutUint64(b[0:], n[3])
	binary.BigEndian.PutUint64(b[8:], n[2])
	binary.BigEndian.PutUint64(b[16:], n[1])
	binary.BigEndian.PutUint64(b[24:], n[0])
	return b
}

func (z *fe) isNorm() bool { return z[3]&z[2]&z[1] != ^uint64(0) || z[0] < feP[0] }

func (z *fe) norm() {
	if !z.isNorm() {
		z[0], z[1], z[2], z[3] = z[0]-feP[0], 0, 0, 0
	}
}

func (z *fe) normed() fe { n := *z; n.norm(); return n }

func (z *fe) isZero() bool { return z[0]|z[1]|z[2]|z[3] == 0 || *z == feP }

// mayBeZero is a quick filter in front of isZero: false is sure.
func (z *fe) mayBeZero() bool { return z[3]+1 <= 1 }

func (z *fe) isOdd() bool { n := z.normed(); return n[0]&1 == 1 }

func (z *fe) equal(x *fe) bool { return *z == *x || z.normed() == x.normed() }

func (z *fe) add(x, y *fe) {
	t0, c := bits.Add64(x[0], y[0], 0)
	t1, c := bits.Add64(x[1], y[1], c)
	t2, c := bits.Add64(x[2], y[2], c)
	t3, c := bits.Add64(x[3], y[3], c)
	u := t0 + -c&fold
	z[0], z[1], z[2], z[3] = u, t1, t2, t3
	if u < t0 {
		z.carry()
	}
}

// carry adds 2^64, which is rare.
func (z *fe) carry() {
	var c uint64
	z[1], c = bits.Add64(z[1], 1, 0)
	z[2], c = bits.Add64(z[2], 0, c)
	z[3], c = bits.Add64(z[3], 0, c)
	z[0] += -c & fold // z was below fold·2^33 then: no carry
}

func (z *fe) sub(x, y *fe) {
	t0, c := bits.Sub64(x[0], y[0], 0)
	t1, c := bits.Sub64(x[1], y[1], c)
	t2, c := bits.Sub64(x[2], y[2], c)
	t3, c := bits.Sub64(x[3], y[3], c)
	u := t0 - -c&fold
	z[0], z[1], z[2], z[3] = u, t1, t2, t3
	if u > t0 {
		z.borrow()
	}
}

// borrow subtracts 2^64, which is rare.
func (z *fe) borrow() {
	var c uint64
	z[1], c = bits.Sub64(z[1], 1, 0)
	z[2], c = bits.Sub64(z[2], 0, c)
	z[3], c = bits.Sub64(z[3], 0, c)
	z[0] -= -c & fold // z[0] was at least 2^64 − 2·fold then: no borrow
}

// sub2 sets z = x − a − b.
func (z *fe) sub2(x, a, b *fe) {
	t0, c := bits.Sub64(x[0], a[0], 0)
	t1, c := bits.Sub64(x[1], a[1], c)
	t2, c := bits.Sub64(x[2], a[2], c)
	t3, k := bits.Sub64(x[3], a[3], c)
	t0, c = bits.Sub64(t0, b[0], 0)
	t1, c = bits.Sub64(t1, b[1], c)
	t2, c = bits.Sub64(t2, b[2], c)
	t3, c = bits.Sub64(t3, b[3], c)
	u := t0 - (k+c)*fold
	z[0], z[1], z[2], z[3] = u, t1, t2, t3
	if u > t0 {
		z.borrow()
	}
}

func (z *fe) neg(x *fe) { z.sub(&feP, x) }

// negIf sets z = −x if sign is 1 and x if it is 0, without a branch on sign: ^x = 2^256 − 1 − x = −x + fold − 1.
func (z *fe) negIf(x *fe, sign uint64) {
	m := -sign
	t0 := x[0] ^ m
	u := t0 - m&(fold-1)
	z[0], z[1], z[2], z[3] = u, x[1]^m, x[2]^m, x[3]^m
	if u > t0 {
		z.borrow()
	}
}

// mul sets z = x·y: sixteen products, row by row, then the upper half times fold. The rows are written so that the
// compiler keeps every carry in the processor's flag.
func (z *fe) mul(x, y *fe) {
	var t0, t1, t2, t3, t4, t5, t6, t7, c, h0, h1, h2, h3, l0, l1, l2, l3 uint64
	y0, y1, y2, y3 := y[0], y[1], y[2], y[3]

	x0 := x[0]
	h0, t0 = bits.Mul64(x0, y0)
	h1, t1 = bits.Mul64(x0, y1)
	h2, t2 = bits.Mul64(x0, y2)
	h3, t3 = bits.Mul64(x0, y3)
	t1, c = bits.Add64(t1, h0, 0)
	t2, c = bits.Add64(t2, h1, c)
	t3, c = bits.Add64(t3, h2, c)
	t4, _ = bits.Add64(h3, 0, c)

	x1 := x[1]
	h0, l0 = bits.Mul64(x1, y0)
	h1, l1 = bits.Mul64(x1, y1)
	h2, l2 = bits.Mul64(x1, y2)
	h3, l3 = bits.Mul64(x1, y3)
	t1, c = bits.Add64(t1, l0, 0)
	t2, c = bits.Add64(t2, l1, c)
	t3, c = bits.Add64(t3, l2, c)
	t4, c = bits.Add64(t4, l3, c)
	t5, _ = bits.Add64(h3, 0, c)
	t2, c = bits.Add64(t2, h0, 0)
	t3, c = bits.Add64(t3, h1, c)
	t4, c = bits.Add64(t4, h2, c)
	t5, _ = bits.Add64(t5, 0, c)

	x2 := x[2]
	h0, l0 = bits.Mul64(x2, y0)
	h1, l1 = bits.Mul64(x2, y1)
	h2, l2 = bits.Mul64(x2, y2)
	h3, l3 = bits.Mul64(x2, y3)
	t2, c = bits.Add64(t2, l0, 0)
	t3, c = bits.Add64(t3, l1, c)
	t4, c = bits.Add64(t4, l2, c)
	t5, c = bits.Add64(t5, l3, c)
	t6, _ = bits.Add64(h3, 0, c)
	t3, c = bits.Add64(t3, h0, 0)
	t4, c = bits.Add64(t4, h1, c)
	t5, c = bits.Add64(t5, h2, c)
	t6, _ = bits.Add64(t6, 0, c)

	x3 := x[3]
	h0, l0 = bits.Mul64(x3, y0)
	h1, l1 = bits.Mul64(x3, y1)
	h2, l2 = bits.Mul64(x3, y2)
	h3, l3 = bits.Mul64(x3, y3)
	t3, c = bits.Add64(t3, l0, 0)
	t4, c = bits.Add64(t4, l1, c)
	t5, c = bits.Add64(t5, l2, c)
	t6, c = bits.Add64(t6, l3, c)
	t7, _ = bits.Add64(h3, 0, c)
	t4, c = bits.Add64(t4, h0, 0)
	t5, c = bits.Add64(t5, h1, c)
	t6, c = bits.Add64(t6, h2, c)
	t7, _ = bits.Add64(t7, 0, c)

	// The upper half times fold, onto the lower: what rises above 256 bits is below 2^34, h3.
	h0, l0 = bits.Mul64(t4, fold)
	h1, l1 = bits.Mul64(t5, fold)
	h2, l2 = bits.Mul64(t6, fold)
	h3, l3 = bits.Mul64(t7, fold)
	t0, c = bits.Add64(t0, l0, 0)
	t1, c = bits.Add64(t1, l1, c)
	t2, c = bits.Add64(t2, l2, c)
	t3, c = bits.Add64(t3, l3, c)
	h3, _ = bits.Add64(h3, 0, c)
	t1, c = bits.Add64(t1, h0, 0)
	t2, c = bits.Add64(t2, h1, c)
	t3, c = bits.Add64(t3, h2, c)
	h3, _ = bits.Add64(h3, 0, c)

	h0, l0 = bits.Mul64(h3, fold)
	t0, c = bits.Add64(t0, l0, 0)
	h0, _ = bits.Add64(t1, h0, c)
	z[0], z[1], z[2], z[3] = t0, h0, t2, t3
	if h0 < t1 { // a carry, asked for in the way that takes fewest instructions
		z.carry2()
	}
}

// carry2 adds 2^128, which is rare.
func (z *fe) carry2() {
	var c uint64
	z[2], c = bits.Add64(z[2], 1, 0)
	z[3], c = bits.Add64(z[3], 0, c)
	if c != 0 { // z is now below 2^67
		z[0], c = bits.Add64(z[0], fold, 0)
		z[1] += c
	}
}

// sqr sets z = x²: ten products, six of them doubled.
func (z *fe) sqr(x *fe) {
	var t0, t1, t2, t3, t4, t5, t6, t7, c, h0, h1, h2, h3, l0, l1, l2, l3 uint64
	x0, x1, x2, x3 := x[0], x[1], x[2], x[3]

	h0, t1 = bits.Mul64(x0, x1)
	h1, t2 = bits.Mul64(x0, x2)
	h2, t3 = bits.Mul64(x0, x3)
	h3, t4 = bits.Mul64(x1, x3)
	t2, c = bits.Add64(t2, h0, 0)
	t3, c = bits.Add64(t3, h1, c)
	t4, c = bits.Add64(t4, h2, c)
	t5, _ = bits.Add64(h3, 0, c)
	h0, l0 = bits.Mul64(x1, x2)
	h1, l1 = bits.Mul64(x2, x3)
	t3, c = bits.Add64(t3, l0, 0)
	t4, c = bits.Add64(t4, h0, c)
	t5, c = bits.Add64(t5, l1, c)
	t6, _ = bits.Add64(h1, 0, c)

	t1, c = bits.Add64(t1, t1, 0)
	t2, c = bits.Add64(t2, t2, c)
	t3, c = bits.Add64(t3, t3, c)
	t4, c = bits.Add64(t4, t4, c)
	t5, c = bits.Add64(t5, t5, c)
	t6, c = bits.Add64(t6, t6, c)
	t7, _ = bits.Add64(0, 0, c)

	h0, t0 = bits.Mul64(x0, x0)
	h1, l1 = bits.Mul64(x1, x1)
	h2, l2 = bits.Mul64(x2, x2)
	h3, l3 = bits.Mul64(x3, x3)
	t1, c = bits.Add64(t1, h0, 0)
	t2, c = bits.Add64(t2, l1, c)
	t3, c = bits.Add64(t3, h1, c)
	t4, c = bits.Add64(t4, l2, c)
	t5, c = bits.Add64(t5, h2, c)
	t6, c = bits.Add64(t6, l3, c)
	t7, _ = bits.Add64(t7, h3, c)

	h0, l0 = bits.Mul64(t4, fold) // from here on as in mul
	h1, l1 = bits.Mul64(t5, fold)
	h2, l2 = bits.Mul64(t6, fold)
	h3, l3 = bits.Mul64(t7, fold)
	t0, c = bits.Add64(t0, l0, 0)
	t1, c = bits.Add64(t1, l1, c)
	t2, c = bits.Add64(t2, l2, c)
	t3, c = bits.Add64(t3, l3, c)
	h3, _ = bits.Add64(h3, 0, c)
	t1, c = bits.Add64(t1, h0, 0)
	t2, c = bits.Add64(t2, h1, c)
	t3, c = bits.Add64(t3, h2, c)
	h3, _ = bits.Add64(h3, 0, c)

	h0, l0 = bits.Mul64(h3, fold)
	t0, c = bits.Add64(t0, l0, 0)
	h0, _ = bits.Add64(t1, h0, c)
	z[0], z[1], z[2], z[3] = t0, h0, t2, t3
	if h0 < t1 { // a carry, asked for in the way that takes fewest instructions
		z.carry2()
	}
}

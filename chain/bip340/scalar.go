package bip340

import (
	"encoding/binary"
	"math/bits"
)

// scalar is an integer modulo the order n of the group (SEC 2, version 2.0, section 2.4.1), always below n: four limbs, the
// least significant first. It is for public values; signing uses dcrd's ModNScalar.
type scalar [4]uint64

// half is an integer below 2^128, the least significant limb first.
type half [2]uint64

var (
	order    = scalar{0xbfd25e8cd0364141, 0xbaaedce6af48a03b, 0xfffffffffffffffe, 0xffffffffffffffff}
	notOrder = [3]uint64{0x402da1732fc9bebf, 0x4551231950b75fc4, 1} // 2^256 − n
)

// setBytes reads 32 big-endian bytes modulo n, and reports whether they were below n.
func (z *scalar) setBytes(b *[32]byte) bool {
	z[3] = binary.BigEndian.Uint64(b[0:])
	z[2] = binary.BigEndian.Uint64(b[8:])
	z[1] = binary.BigEndian.Uint64(b[16:])
	z[0] = binary.BigEndian.Uint64(b[24:])
	return !z.reduce()
}

// reduce subtracts n once if z is not below it, and reports whether it did. 2^256 < 2n, so once is enough.
func (z *scalar) reduce() bool {
	t0, c := bits.Sub64(z[0], order[0], 0)
	t1, c := bits.Sub64(z[1], order[1], c)
	t2, c := bits.Sub64(z[2], order[2], c)
	t3, c := bits.Sub64(z[3], order[3], c)
	if c != 0 {
		return false
	}
	z[0], z[1], z[2], z[3] = t0, t1, t2, t3
	return true
}

func (z *scalar) add(x, y *scalar) {
	var c uint64
	z[0], c = bits.Add64(x[0], y[0], 0)
	z[1], c = bits.Add64(x[1], y[1], c)
	z[2], c = bits.Add64(x[2], y[2], c)
	z[3], c = bits.Add64(x[3], y[3], c)
	z.wrap(c)
}

// wrap adds k·2^256, as k·(2^256 − n), for a small k, and reduces.
func (z *scalar) wrap(k uint64) {
	for ; k > 0; k-- {
		var c uint64
		z[0], c = bits.Add64(z[0], notOrder[0], 0)
		z[1], c = bits.Add64(z[1], notOrder[1], c)
		z[2], c = bits.Add64(z[2], notOrder[2], c)
		z[3], c = bits.Add64(z[3], 0, c)
		k += c
	}
	z.reduce()
}

func (z *scalar) neg(x *scalar) {
	if *x == (scalar{}) {
		*z = scalar{}
		return
	}
	var c uint64
	z[0], c = bits.Sub64(order[0], x[0], 0)
	z[1], c = bits.Sub64(order[1], x[1], c)
	z[2], c = bits.Sub64(order[2], x[2], c)
	z[3], _ = bits.Sub64(order[3], x[3], c)
}

// mulHalf sets z = a·x.
func (z *scalar) mulHalf(a half, x *scalar) {
	var t0, t1, t2, t3, t4, t5, c uint64
	lo := mulHalves(a, half{x[0], x[1]})
	hi := mulHalves(a, half{x[2], x[3]})
	t0, t1 = lo[0], lo[1]
	t2, c = bits.Add64(lo[2], hi[0], 0)
	t3, c = bits.Add64(lo[3], hi[1], c)
	t4, c = bits.Add64(hi[2], 0, c)
	t5 = hi[3] + c

	// t4 and t5 stand for 2^256 times a number h below 2^128: h·(2^256 − n), below 2^257, takes their place.
	p := mulHalves(half{t4, t5}, half{notOrder[0], notOrder[1]})
	var k uint64
	t0, c = bits.Add64(t0, p[0], 0)
	t1, c = bits.Add64(t1, p[1], c)
	t2, c = bits.Add64(t2, p[2], c)
	t3, k = bits.Add64(t3, p[3], c)
	t2, c = bits.Add64(t2, t4, 0)
	t3, c = bits.Add64(t3, t5, c)
	*z = scalar{t0, t1, t2, t3}
	z.wrap(k + c)
}

func mulHalves(a, b half) (p [4]uint64) {
	h0, p0 := bits.Mul64(a[0], b[0])
	h1, l1 := bits.Mul64(a[0], b[1])
	h2, l2 := bits.Mul64(a[1], b[0])
	h3, l3 := bits.Mul64(a[1], b[1])
	p1, c := bits.Add64(h0, l1, 0)
	p2, c := bits.Add64(h1, l3, c)
	p3 := h3 + c
	p1, c = bits.Add64(p1, l2, 0)
	p2, c = bits.Add64(p2, h2, c)
	p3 += c
	return [4]uint64{p0, p1, p2, p3}
}

// The endomorphism of secp256k1: (x, y) → (βx, y) is multiplication by λ, where β³ = 1 modulo p and λ³ = 1 modulo n. The
// vectors (a1, b1) and (a2, b2) are a short basis of the pairs with a + bλ = 0 modulo n, and g1, g2 are 2^384·b2/n and
// −2^384·b1/n, rounded. From R. Gallant, R. Lambert, S. Vanstone, "Faster point multiplication on elliptic curves with
// efficient endomorphisms", CRYPTO 2001, and libsecp256k1's scalar_impl.h; TestSplit holds them to their definitions.
var (
	feBeta = fe{0xc1396c28719501ee, 0x9cf0497512f58995, 0x6e64479eac3434e9, 0x7ae96a2b657c0710}

	splitG1 = scalar{0xe893209a45dbb031, 0x3daa8a1471e8ca7f, 0xe86c90e49284eb15, 0x3086d221a7d46bcd}
	splitG2 = scalar{0x1571b4ae8ac47f71, 0x221208ac9df506c6, 0x6f547fa90abfe4c4, 0xe4437ed6010e8828}
	splitA1 = half{0xe86c90e49284eb15, 0x3086d221a7d46bcd} // = b2
	splitB1 = half{0x6f547fa90abfe4c3, 0xe4437ed6010e8828} // = −b1
	splitA2 = half{0x57c1108d9d44cfd8, 0x14ca50f7a8e2f3f6} // = a2 − 2^128
)

// split gives k1 and k2 with k = ±k1 ± k2·λ modulo n; neg is 1 for a minus. Both are below 0.64·2^128.
func (z *scalar) split() (k1, k2 half, neg1, neg2 uint64) {
	c1, c2 := z.mulShift384(&splitG1), z.mulShift384(&splitG2)

	// k1 = k − c1·a1 − c2·a2, k2 = c1·(−b1) − c2·b2, modulo 2^192: they are much smaller.
	p, q := mulHalves(c1, splitA1), mulHalves(c2, splitA2)
	u := sub192([3]uint64(z[:3]), [3]uint64(p[:3]))
	u = sub192(u, [3]uint64(q[:3]))
	u[2] -= c2[0] // c2·2^128
	k1, neg1 = abs192(u)

	p, q = mulHalves(c1, splitB1), mulHalves(c2, splitA1)
	k2, neg2 = abs192(sub192([3]uint64(p[:3]), [3]uint64(q[:3])))
	return k1, k2, neg1, neg2
}

// mulShift384 is z·g / 2^384, rounded.
func (z *scalar) mulShift384(g *scalar) half {
	zl, zh, gl, gh := half{z[0], z[1]}, half{z[2], z[3]}, half{g[0], g[1]}, half{g[2], g[3]}
	ll, lh, hl, hh := mulHalves(zl, gl), mulHalves(zl, gh), mulHalves(zh, gl), mulHalves(zh, gh)
	_, c := bits.Add64(ll[2], lh[0], 0)
	t3, c := bits.Add64(ll[3], lh[1], c)
	t4, c := bits.Add64(hh[0], lh[2], c)
	t5, c := bits.Add64(hh[1], lh[3], c)
	t6, c := bits.Add64(hh[2], 0, c)
	t7 := hh[3] + c
	m2, _ := bits.Add64(ll[2], lh[0], 0)
	_, c = bits.Add64(m2, hl[0], 0)
	_, c = bits.Add64(t3, hl[1], c)
	_, c = bits.Add64(t4, hl[2], c)
	t5, c = bits.Add64(t5, hl[3], c)
	t6, c = bits.Add64(t6, 0, c)
	t7 += c
	t6, c = bits.Add64(t6, t5>>63, 0)
	return half{t6, t7 + c}
}

func sub192(x, y [3]uint64) (z [3]uint64) {
	var c uint64
	z[0], c = bits.Sub64(x[0], y[0], 0)
	z[1], c = bits.Sub64(x[1], y[1], c)
	z[2], _ = bits.Sub64(x[2], y[2], c)
	return z
}

// abs192 is the absolute value, below 2^128, of a number in two's complement, and its sign.
func abs192(x [3]uint64) (half, uint64) {
	sign := x[2] >> 63
	m := -sign
	lo, c := bits.Add64(x[0]^m, sign, 0)
	return half{lo, x[1] ^ m + c}, sign
}

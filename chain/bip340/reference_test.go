package bip340

import (
	"crypto/sha256"
	"math/big"
)

// The naive twin: BIP-340's reference code (bip-0340/reference.py) over math/big, sharing nothing with the package.

var (
	refP = new(big.Int).SetBytes(b32(hexP))
	refN = new(big.Int).SetBytes(b32(hexN))
	refG = &refPoint{
		new(big.Int).SetBytes(b32("79BE667E F9DCBBAC 55A06295 CE870B07 029BFCDB 2DCE28D9 59F2815B 16F81798")),
		new(big.Int).SetBytes(b32("483ADA77 26A3C465 5DA4FBFC 0E1108A8 FD17B448 A6855419 9C47D08F FB10D4B8")),
	}
)

func b32(s string) []byte { b := bytes32(s); return b[:] }

type refPoint struct{ x, y *big.Int } // nil is infinity

func refAdd(a, b *refPoint) *refPoint {
	if a == nil {
		return b
	}
	if b == nil {
		return a
	}
	var lam *big.Int
	if a.x.Cmp(b.x) == 0 {
		if a.y.Cmp(b.y) != 0 {
			return nil
		}
		lam = new(big.Int).Mul(big.NewInt(3), new(big.Int).Mul(a.x, a.x))
		lam.Mul(lam, new(big.Int).ModInverse(new(big.Int).Lsh(a.y, 1), refP))
	} else {
		dx := new(big.Int).Sub(b.x, a.x)
		lam = new(big.Int).Sub(b.y, a.y)
		lam.Mul(lam, new(big.Int).ModInverse(dx.Mod(dx, refP), refP))
	}
	lam.Mod(lam, refP)
	x := new(big.Int).Mul(lam, lam)
	x.Sub(x, a.x).Sub(x, b.x).Mod(x, refP)
	y := new(big.Int).Sub(a.x, x)
	y.Mul(y, lam).Sub(y, a.y).Mod(y, refP)
	return &refPoint{x, y}
}

func refMul(a *refPoint, k *big.Int) *refPoint {
	var out *refPoint
	for i := k.BitLen() - 1; i >= 0; i-- {
		out = refAdd(out, out)
		if k.Bit(i) == 1 {
			out = refAdd(out, a)
		}
	}
	return out
}

func refLift(x *big.Int) *refPoint {
	if x.Cmp(refP) >= 0 {
		return nil
	}
	c := new(big.Int).Exp(x, big.NewInt(3), refP)
	c.Add(c, big.NewInt(7)).Mod(c, refP)
	e := new(big.Int).Add(refP, big.NewInt(1))
	y := new(big.Int).Exp(c, e.Rsh(e, 2), refP)
	if new(big.Int).Exp(y, big.NewInt(2), refP).Cmp(c) != 0 {
		return nil
	}
	if y.Bit(0) == 1 {
		y.Sub(refP, y)
	}
	return &refPoint{x, y}
}

func refTagged(tag string, msg []byte) []byte {
	t := sha256.Sum256([]byte(tag))
	h := sha256.New()
	h.Write(t[:])
	h.Write(t[:])
	h.Write(msg)
	return h.Sum(nil)
}

func refVerify(pub, msg, sig []byte) bool {
	p := refLift(new(big.Int).SetBytes(pub))
	r, s := new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])
	if p == nil || r.Cmp(refP) >= 0 || s.Cmp(refN) >= 0 {
		return false
	}
	in := append(append(append([]byte(nil), sig[:32]...), pub...), msg...)
	e := new(big.Int).SetBytes(refTagged("BIP0340/challenge", in))
	e.Mod(e, refN)
	sum := refAdd(refMul(refG, s), refMul(p, e.Sub(refN, e)))
	return sum != nil && sum.y.Bit(0) == 0 && sum.x.Cmp(r) == 0
}

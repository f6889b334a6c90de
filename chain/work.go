package chain

import (
	"math/big"

	"github.com/holiman/uint256"
)

// ToTarget is m·256^(e−3), floored for e < 3, with e = bits >> 24 and m = bits & 0x7fffff. ok is false unless bits
// is canonical: sign clear, 1 ≤ target < 2^256 and ToBits(target) = bits.
func ToTarget(bits uint32) (target uint256.Int, ok bool) {
	e, m := uint(bits>>24), uint64(bits&0x7fffff)
	if bits&0x800000 != 0 || m == 0 || e > 34 {
		return target, false
	}
	target.SetUint64(m)
	if e < 3 {
		target.Rsh(&target, 8*(3-e))
	} else {
		if uint(target.BitLen())+8*(e-3) > 256 {
			return uint256.Int{}, false
		}
		target.Lsh(&target, 8*(e-3))
	}
	return target, !target.IsZero() && ToBits(&target) == bits
}

// ToBits is the compact form of a target: its three top bytes and its byte length, floored.
func ToBits(target *uint256.Int) uint32 {
	e := uint(target.ByteLen())
	var t uint256.Int
	if e <= 3 {
		t.Lsh(target, 8*(3-e))
	} else {
		t.Rsh(target, 8*(e-3))
	}
	m := uint32(t.Uint64())
	if m >= 0x800000 {
		m >>= 8
		e++
	}
	return uint32(e)<<24 | m
}

// BlockWork is floor(2^256/(target+1)): the expected number of hashes for a block of these canonical bits.
func BlockWork(bits uint32) Work {
	target, ok := ToTarget(bits)
	if !ok {
		return Work{}
	}
	// 2^256/(t+1) = (2^256−(t+1))/(t+1) + 1 = ^t/(t+1) + 1; t = 2^256−1 would wrap, and has work 1.
	var w, d uint256.Int
	if d.AddUint64(&target, 1); d.IsZero() {
		return *uint256.NewInt(1)
	}
	w.Not(&target)
	w.Div(&w, &d)
	return *w.AddUint64(&w, 1)
}

// MeetsTarget reports whether id, read as a big-endian integer, is at most target(bits).
func MeetsTarget(id BlockID, bits uint32) bool {
	target, ok := ToTarget(bits)
	var v uint256.Int
	return ok && !v.SetBytes32(id[:]).Gt(&target)
}

// ASERT is the aserti3-2d difficulty of Bitcoin Cash (its specification of November 2020), with times in any one
// unit: target = anchor · 2^((timeDiff − spacing·(heightDiff+1)) / halfLife), the fraction by a cubic with error
// below 0.013 %, clamped to [1, target(limitBits)]. timeDiff is counted from the anchor's parent. Integers are
// unbounded, division truncates, the shift of a negative exponent is arithmetic. spacing and halfLife are positive.
func ASERT(anchorBits, limitBits uint32, timeDiff, heightDiff, spacing, halfLife int64) uint32 {
	limit, _ := ToTarget(limitBits)
	anchor, _ := ToTarget(anchorBits)
	exp := new(big.Int).Add(big.NewInt(heightDiff), big.NewInt(1))
	exp.Sub(big.NewInt(timeDiff), exp.Mul(exp, big.NewInt(spacing)))
	exp.Quo(exp.Lsh(exp, 16), big.NewInt(halfLife))

	shift := new(big.Int).Rsh(exp, 16) // big.Int.Rsh is arithmetic: it rounds down for negative numbers
	frac := new(big.Int).Sub(exp, new(big.Int).Lsh(shift, 16)).Uint64()
	// Beyond ±512 the clamp decides whatever the anchor is; the bound keeps the shift below small.
	if shift.Cmp(big.NewInt(512)) > 0 {
		return limitBits
	}
	if shift.Cmp(big.NewInt(-512)) < 0 {
		return ToBits(uint256.NewInt(1))
	}
	// The sum is below 2^64: 195766423245049·65535 + 971821376·65535² + 5127·65535³ + 2^47 < 2^64.
	factor := 65536 + (195766423245049*frac+971821376*frac*frac+5127*frac*frac*frac+1<<47)>>48
	next := anchor.ToBig()
	next.Mul(next, new(big.Int).SetUint64(factor))
	if s := int(shift.Int64()) - 16; s < 0 {
		next.Rsh(next, uint(-s))
	} else {
		next.Lsh(next, uint(s))
	}
	if next.Sign() == 0 {
		return ToBits(uint256.NewInt(1))
	}
	if next.Cmp(limit.ToBig()) > 0 {
		return limitBits
	}
	t, _ := uint256.FromBig(next)
	return ToBits(t)
}

package bip340

import secp "github.com/decred/dcrd/dcrec/secp256k1/v4"

// Verify reports whether sig (r ‖ s, 32 bytes each, big-endian) is a valid BIP-340 signature of msg under the x-only
// public key pub. It is the rule, in full: pub < p and on the curve, r < p, s < n, and R = s·G − e·P is not the point at
// infinity, has an even y and x(R) = r. The message may have any length.
func Verify(pub *[32]byte, msg []byte, sig *[64]byte) bool {
	var p secp.JacobianPoint
	if !liftX(pub, &p) {
		return false
	}
	rx, s, ok := parse(sig)
	if !ok {
		return false
	}
	e := challenge((*[32]byte)(sig[:32]), pub, msg)

	var sg, ep, sum secp.JacobianPoint
	secp.ScalarBaseMultNonConst(&s, &sg)
	secp.ScalarMultNonConst(e.Negate(), &p, &ep)
	secp.AddNonConst(&sg, &ep, &sum)
	if sum.Z.IsZero() || (sum.X.IsZero() && sum.Y.IsZero()) { // both are how the library writes infinity
		return false
	}
	sum.ToAffine()
	return !sum.Y.IsOdd() && sum.X.Equals(&rx)
}

// ValidKey reports whether pub is the x of a point on the curve (pub < p and pub³ + 7 is a square), so that signatures
// can verify under it. Of all 32-byte strings about half are.
func ValidKey(pub *[32]byte) bool {
	var p secp.JacobianPoint
	return liftX(pub, &p)
}

// parse splits a signature into r < p and s < n, or returns false.
func parse(sig *[64]byte) (r secp.FieldVal, s secp.ModNScalar, ok bool) {
	rOver := r.SetBytes((*[32]byte)(sig[:32]))
	sOver := s.SetBytes((*[32]byte)(sig[32:]))
	return r, s, rOver == 0 && sOver == 0
}

// liftX is BIP-340's lift_x: the point with this x and an even y, normalized, or false.
func liftX(x *[32]byte, p *secp.JacobianPoint) bool {
	if overflow := p.X.SetBytes(x); overflow != 0 {
		return false
	}
	p.Z.SetInt(1)
	return secp.DecompressY(&p.X, false, &p.Y)
}

// challenge is e = int(hash_challenge(bytes(R) ‖ bytes(P) ‖ m)) mod n.
func challenge(r, pub *[32]byte, msg []byte) secp.ModNScalar {
	h := tagChallenge.Sum(r[:], pub[:], msg)
	var e secp.ModNScalar
	e.SetBytes(&h)
	return e
}

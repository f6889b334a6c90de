package bip340

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"

	secp "github.com/decred/dcrd/dcrec/secp256k1/v4"
)

// ErrSecret says that a secret key is not in 1..n-1, where n is the order of the group. It carries no part of the key.
var ErrSecret = errors.New("bip340: secret key is not in 1..n-1")

// errSign says that signing failed on its own check. Only a fault of this machine or this program leads here.
var errSign = errors.New("bip340: the signature made does not verify")

// PublicKey returns the x-only public key of a secret key, or [ErrSecret].
//
// What is said of timing at [Sign] holds here too.
func PublicKey(secret *[32]byte) ([32]byte, error) {
	d, x, err := keyPair(secret)
	d.Zero()
	return x, err
}

// Sign makes the signature BIP-340 calls default signing: the nonce comes from the secret key, the message and 32 bytes
// of fresh randomness aux. The same three inputs give the same signature; with aux all zero it is still safe, only less
// protected against fault attacks. The message may have any length. The result is verified before it is returned.
// It fails with [ErrSecret] on a key out of range.
//
// Timing: scalars are added, multiplied and negated in constant time, and a point is brought to affine form in constant
// time. Multiplication of the base point is not: secp256k1/v4 has only ScalarBaseMultNonConst, which looks tables up by
// the bytes of the scalar. So no secret scalar is given to it directly: a fresh random b is added first and b·G is taken
// off afterwards, and each of its two inputs is uniformly random on its own. This hinders timing and cache measurement;
// it doesn't make the operation constant-time, and who can trace a single call on the same machine is not kept out.
// Copies of the scalars are zeroed as far as Go lets a program do so.
func Sign(secret *[32]byte, msg []byte, aux *[32]byte) ([64]byte, error) {
	d, pub, err := keyPair(secret)
	if err != nil {
		return [64]byte{}, err
	}
	defer d.Zero()

	// t = bytes(d) xor hash_aux(a); k' = int(hash_nonce(t ‖ bytes(P) ‖ m)) mod n.
	t := d.Bytes()
	mask := tagAux.Sum(aux[:])
	subtle.XORBytes(t[:], t[:], mask[:])
	seed := tagNonce.Sum(t[:], pub[:], msg)
	var k secp.ModNScalar
	k.SetBytes(&seed)
	clear(t[:])
	clear(seed[:])
	defer k.Zero()
	if k.IsZero() {
		return [64]byte{}, errSign // BIP-340: "fail if k' = 0"; never seen, 2^-256.
	}

	r := evenBaseMult(&k)
	e := challenge(&r, &pub, msg)
	e.Mul(&d).Add(&k) // s = k + e·d

	var sig [64]byte
	copy(sig[:32], r[:])
	e.PutBytesUnchecked(sig[32:])
	if !Verify(&pub, msg, &sig) {
		return [64]byte{}, errSign
	}
	return sig, nil
}

// keyPair gives the secret scalar whose point has an even y, and that point's x.
func keyPair(secret *[32]byte) (d secp.ModNScalar, x [32]byte, err error) {
	if overflow := d.SetBytes(secret); overflow != 0 || d.IsZero() {
		d.Zero()
		return d, x, ErrSecret
	}
	x = evenBaseMult(&d)
	return d, x, nil
}

// evenBaseMult returns the x of k·G, and negates k where that point's y is odd, so that x lifts to k·G. k must not be 0.
// Which of k and −k it was is all that its one branch shows.
func evenBaseMult(k *secp.ModNScalar) [32]byte {
	var b, sum secp.ModNScalar
	var blind [32]byte
	rand.Read(blind[:]) // never fails: crypto/rand ends the program rather than return an error
	b.SetBytes(&blind)
	sum.Add2(k, &b)

	var p, off secp.JacobianPoint
	secp.ScalarBaseMultNonConst(&sum, &p)
	secp.ScalarBaseMultNonConst(b.Negate(), &off)
	secp.AddNonConst(&p, &off, &p)
	p.ToAffine()
	clear(blind[:])
	b.Zero()
	sum.Zero()

	if p.Y.IsOdd() {
		k.Negate()
	}
	return *p.X.Bytes()
}

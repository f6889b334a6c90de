package bip340

import (
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"

	secp "github.com/decred/dcrd/dcrec/secp256k1/v4"
)

// Constants of secp256k1 (SEC 2, version 2.0, section 2.4.1), as a test writes them.
const (
	hexP = "FFFFFFFF FFFFFFFF FFFFFFFF FFFFFFFF FFFFFFFF FFFFFFFF FFFFFFFE FFFFFC2F"
	hexN = "FFFFFFFF FFFFFFFF FFFFFFFF FFFFFFFE BAAEDCE6 AF48A03B BFD25E8C D0364141"
)

func bytes32(s string) (out [32]byte) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil || len(b) != 32 {
		panic("bytes32: " + s)
	}
	copy(out[:], b)
	return out
}

// plus adds a small number to a big-endian integer, modulo 2^256.
func plus(x [32]byte, d int) [32]byte {
	for i := 31; i >= 0 && d != 0; i-- {
		d += int(x[i])
		x[i] = byte(d)
		d >>= 8
	}
	return x
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 340)) }

func random32(r *rand.Rand) (b [32]byte) {
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// signed makes n valid items under so many keys, each with its own message.
func signed(t testing.TB, seed uint64, n, keys int) []Item {
	t.Helper()
	r := newRand(seed)
	secrets := make([][32]byte, keys)
	pubs := make([][32]byte, keys)
	for i := range secrets {
		secrets[i] = random32(r)
		var err error
		if pubs[i], err = PublicKey(&secrets[i]); err != nil {
			t.Fatal(err)
		}
	}
	items := make([]Item, n)
	for i := range items {
		msg, aux := random32(r), random32(r)
		sig, err := Sign(&secrets[i%keys], msg[:], &aux)
		if err != nil {
			t.Fatal(err)
		}
		items[i] = Item{Pub: &pubs[i%keys], Msg: msg[:], Sig: &sig}
	}
	return items
}

// clone copies all that an item points to.
func clone(it Item) Item {
	pub, sig := *it.Pub, *it.Sig
	return Item{Pub: &pub, Msg: append([]byte(nil), it.Msg...), Sig: &sig, RY: it.RY}
}

// forge signs without BIP-340's two choices of sign: with the nonce k and the key d as they are, so that R or P may have
// an odd y. offset is added to s.
func forge(d, k *secp.ModNScalar, msg []byte, offset uint32) (it Item, oddR, oddP bool) {
	var r, p secp.JacobianPoint
	secp.ScalarBaseMultNonConst(k, &r)
	secp.ScalarBaseMultNonConst(d, &p)
	r.ToAffine()
	p.ToAffine()
	rx, px := *r.X.Bytes(), *p.X.Bytes()
	s := challenge(&rx, &px, msg)
	var off secp.ModNScalar
	s.Mul(d).Add(k).Add(off.SetInt(offset))
	var sig [64]byte
	copy(sig[:32], rx[:])
	s.PutBytesUnchecked(sig[32:])
	return Item{Pub: &px, Msg: msg, Sig: &sig}, r.Y.IsOdd(), p.Y.IsOdd()
}

func modN(b [32]byte) (s secp.ModNScalar) {
	s.SetBytes(&b)
	return s
}

// bare halves to the last item, in other chunks than tuned.
var bare = sizes{chunk: 4096, halve: 1}

// sumIsZero is the batch equation and nothing else.
func sumIsZero(ts terms) bool {
	randomize(ts)
	s := sum(ts)
	return s.isInfinity()
}

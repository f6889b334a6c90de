package wire

import (
	"crypto/sha256"
	"math/bits"

	"quipu/chain"
)

// ShortIDSize is what a short id takes, in bytes.
const ShortIDSize = 6

// ShortKey is the key of one list of short ids. As in BIP 152 it is made of the header and a number that one side draws,
// here the asker: whoever makes transactions can't know it, and so can't make two that collide.
type ShortKey struct{ k0, k1 uint64 }

// NewShortKey is the first 16 bytes of SHA-256(header ‖ nonce), two little-endian numbers.
func NewShortKey(h *chain.Header, nonce uint64) ShortKey {
	var buf [chain.HeaderSize + 8]byte
	d := sha256.Sum256(le.AppendUint64(h.Append(buf[:0]), nonce))
	return ShortKey{le.Uint64(d[:]), le.Uint64(d[8:])}
}

// ID is SipHash-2-4 (Aumasson and Bernstein) of a leaf, without its two most significant bytes.
func (k ShortKey) ID(leaf *chain.LeafHash) uint64 {
	v0, v1, v2, v3 := k.k0^0x736f6d6570736575, k.k1^0x646f72616e646f6d, k.k0^0x6c7967656e657261, k.k1^0x7465646279746573
	for i := 0; i < len(leaf); i += 8 {
		m := le.Uint64(leaf[i:])
		v3 ^= m
		v0, v1, v2, v3 = sipRound(sipRound(v0, v1, v2, v3))
		v0 ^= m
	}
	const last = uint64(len(leaf)) << 56
	v3 ^= last
	v0, v1, v2, v3 = sipRound(sipRound(v0, v1, v2, v3))
	v0 ^= last
	v2 ^= 0xff
	v0, v1, v2, v3 = sipRound(sipRound(v0, v1, v2, v3))
	v0, v1, v2, v3 = sipRound(sipRound(v0, v1, v2, v3))
	return (v0 ^ v1 ^ v2 ^ v3) & (1<<(8*ShortIDSize) - 1)
}

func sipRound(v0, v1, v2, v3 uint64) (uint64, uint64, uint64, uint64) {
	v0 += v1
	v2 += v3
	v1 = bits.RotateLeft64(v1, 13) ^ v0
	v3 = bits.RotateLeft64(v3, 16) ^ v2
	v0 = bits.RotateLeft64(v0, 32)
	v2 += v1
	v0 += v3
	v1 = bits.RotateLeft64(v1, 17) ^ v2
	v3 = bits.RotateLeft64(v3, 21) ^ v0
	v2 = bits.RotateLeft64(v2, 32)
	return v0, v1, v2, v3
}

package bip340

import "crypto/sha256"

// Tag is the fixed prefix of a BIP-340 tagged hash, SHA-256(tag) ‖ SHA-256(tag): one SHA-256 block, computed once a tag.
// The zero Tag is no tag; make one with [NewTag].
type Tag struct {
	prefix [2 * sha256.Size]byte
}

// NewTag prepares the tagged hash of the given name.
func NewTag(tag string) Tag {
	h := sha256.Sum256([]byte(tag))
	var t Tag
	copy(t.prefix[:32], h[:])
	copy(t.prefix[32:], h[:])
	return t
}

// stackHash is how many bytes are hashed from a buffer on the stack, prefix included. A payment with two recipients fits.
const stackHash = 512

// Sum returns SHA-256(SHA-256(tag) ‖ SHA-256(tag) ‖ parts…), the parts joined without lengths between them. It allocates
// nothing when the parts have at most 448 bytes together.
func (t Tag) Sum(parts ...[]byte) [32]byte {
	var buf [stackHash]byte
	n := copy(buf[:], t.prefix[:])
	for _, p := range parts {
		if len(p) > len(buf)-n {
			return t.sumLong(parts)
		}
		n += copy(buf[n:], p)
	}
	return sha256.Sum256(buf[:n])
}

func (t Tag) sumLong(parts [][]byte) [32]byte {
	h := sha256.New()
	h.Write(t.prefix[:])
	for _, p := range parts {
		h.Write(p)
	}
	var out [32]byte
	h.Sum(out[:0])
	return out
}

// TaggedHash is BIP-340's hash_tag over the joined parts. Where one tag is used often, keep a [Tag].
func TaggedHash(tag string, parts ...[]byte) [32]byte {
	return NewTag(tag).Sum(parts...)
}

// The three tags of BIP-340.
var (
	tagAux       = NewTag("BIP0340/aux")
	tagNonce     = NewTag("BIP0340/nonce")
	tagChallenge = NewTag("BIP0340/challenge")
)

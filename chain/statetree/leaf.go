// Package statetree is the compact sparse Merkle tree of accounts whose root
// is the header's state_root. It holds leaves and hashes, knows nothing of
// blocks or rules, and imports nothing of this module.
//
// Definition. The path of an account is SHA-256(account), read from the most
// significant bit. The hash of a subtree is
//
//	no account           32 zero bytes
//	exactly one account  SHA-256(0x00 ‖ account 32 ‖ balance u64 LE ‖ nonce u64 LE)
//	two or more          SHA-256(0x01 ‖ left ‖ right), bit 0 is left
//
// A subtree of two or more accounts that all lie on one side is hashed too,
// with 32 zero bytes as its empty side. The root is therefore a function of
// the set of leaves alone: no order of updates and no number of workers
// changes it. The two prefixes keep a leaf from passing as a branch (the same
// reason as in RFC 6962 §2.1).
//
// A leaf with balance 0 and nonce 0 does not exist: an account is created by
// a credit of at least 1 and keeps a nonce of at least 1 once it has spent.
// Setting such a leaf removes the account, and proofs that hold one are
// refused.
package statetree

import (
	"crypto/sha256"
	"encoding/binary"
)

// Hash is a SHA-256 digest, or 32 zero bytes for an empty subtree.
type Hash = [32]byte

// LeafSize is the length in bytes of an encoded leaf:
// account 32 | balance u64 LE | nonce u64 LE.
const LeafSize = 48

// Leaf is one account and its state. Balance is in knots.
type Leaf struct {
	Account        [32]byte
	Balance, Nonce uint64
}

// Change sets one account to Leaf, or removes Leaf.Account if Delete is set
// (undo only; Balance and Nonce are then ignored).
type Change struct {
	Leaf   Leaf
	Delete bool
}

// Hash returns the hash of a subtree that holds only this leaf.
func (l *Leaf) Hash() Hash {
	var b [1 + LeafSize]byte
	copy(b[1:], l.Account[:])
	binary.LittleEndian.PutUint64(b[33:], l.Balance)
	binary.LittleEndian.PutUint64(b[41:], l.Nonce)
	return sha256.Sum256(b[:])
}

// append appends the encoding of the leaf, LeafSize bytes.
func (l *Leaf) append(dst []byte) []byte {
	dst = append(dst, l.Account[:]...)
	dst = binary.LittleEndian.AppendUint64(dst, l.Balance)
	return binary.LittleEndian.AppendUint64(dst, l.Nonce)
}

// readLeaf reads the leaf at the front of b, which has LeafSize bytes or more.
func readLeaf(b []byte) Leaf {
	return Leaf{
		Account: Hash(b),
		Balance: binary.LittleEndian.Uint64(b[32:]),
		Nonce:   binary.LittleEndian.Uint64(b[40:]),
	}
}

// Void reports whether the leaf is (0, 0), which no tree holds.
func (l *Leaf) Void() bool { return l.Balance == 0 && l.Nonce == 0 }

func (c *Change) gone() bool { return c.Delete || c.Leaf.Void() }

func branchHash(left, right *Hash) Hash {
	var b [65]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[33:], right[:])
	return sha256.Sum256(b[:])
}

package statetree

import (
	"encoding/binary"
	"fmt"
)

// A page is the stored form of a subtree at a depth that is a multiple of
// pageBits. It holds either all leaves below, if they are few, or what lies
// pageBits further down: accounts, and hashes of subtrees that have pages of
// their own. Hashes in between are computed when a page is read. How the tree
// is cut into pages is no part of the format of roots and proofs.
const (
	pageBits  = 4
	pageSlots = 1 << pageBits
	// pageLeaves is the most leaves of a page, above which it is cut. Between 4
	// and 64 leaves a page are to be expected (a cut divides by 16): a page of a
	// random account has about 1 kB to rewrite.
	pageLeaves = 64
	// pageDeepest is the depth below which nothing is cut: 65 paths that share 60
	// bits take some 2^59 hashes to find.
	pageDeepest = 60
)

// Kinds of page, its first byte.
const (
	pageOfLeaves byte = 1 // leaves, ascending by path, two at least
	pageOfSlots  byte = 2 // pageSlots × (slot kind u8, then a leaf, a hash or nothing)
)

// Kinds of slot.
const (
	slotEmpty byte = iota
	slotLeaf       // the one account there
	slotPage       // hash of the page there
)

// PageKeySize is the length of a PageKey.
const PageKeySize = 9

// PageKey is where a page stands: the path bits above it as 8 bytes big-endian,
// the others 0, then its depth. Keys ascend as paths do, a page before those
// below it.
type PageKey [PageKeySize]byte

func pageKey(prefix *path, depth int) (k PageKey) {
	binary.BigEndian.PutUint64(k[:], prefix[0]&^(^uint64(0)>>depth))
	k[8] = byte(depth)
	return k
}

func (k PageKey) String() string { return fmt.Sprintf("%x/%d", k[:8], k[8]) }

// appendSlot appends the slot for the subtree r at the depth of a page.
func (s *shard) appendSlot(b []byte, r ref) []byte {
	switch {
	case r == 0:
		return append(b, slotEmpty)
	case r.isLeaf():
		return s.leaf(r).append(append(b, slotLeaf))
	}
	return append(append(b, slotPage), s.branches[r-1].hash[:]...)
}

// readSlot reads the slot at the front of b into a ref of s, and returns what
// follows. The leaf must lie where the slot does.
func (s *shard) readSlot(b []byte, prefix *path, depth int) (r ref, rest []byte, err error) {
	if len(b) == 0 {
		return 0, nil, errPage
	}
	kind, b := b[0], b[1:]
	switch {
	case kind == slotEmpty:
		return 0, b, nil
	case kind == slotLeaf && len(b) >= LeafSize:
		leaf := readLeaf(b)
		if p := pathOf(&leaf.Account); leaf.Void() || !p.shares(prefix, depth) {
			return 0, nil, errPage
		}
		return s.newLeaf(&leaf), b[LeafSize:], nil
	case kind == slotPage && len(b) >= 32 && Hash(b) != Hash{}:
		return s.newBranch(&branch{hash: Hash(b)}, paged), b[32:], nil
	}
	return 0, nil, errPage
}

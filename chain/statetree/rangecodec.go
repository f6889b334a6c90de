package statetree

import (
	"encoding/binary"
	"fmt"
)

const (
	rangeHeader = 5
	// maxRangeNodes: one branch at depth 0, two at each of the depths 1 … 255,
	// and an end more than branches.
	maxRangeNodes = 511 + 512
)

// MaxRangeProofSize is the length in bytes that no range answer exceeds by more
// than its leaves: 511 branches, each with one side outside at most, and two
// ends on the range's bounds.
const MaxRangeProofSize = rangeHeader + 511 + 511*(1+32) + 2*(1+LeafSize)

// MaxRangeSize is the length in bytes that no encoded range answer exceeds.
const MaxRangeSize = MaxRangeProofSize + MaxRangeLeaves*LeafSize

// AppendRange appends the encoding of a range answer to dst:
//
//	more u8 | n u32 LE | n × leaf 48 | nodes in preorder
//
// A node is its kind u8, then the hash 32 if it is NodeHash and the leaf 48 if
// it is NodeOther. A leaf is account 32 | balance u64 LE | nonce u64 LE.
func AppendRange(dst []byte, leaves []Leaf, p RangeProof) []byte {
	more := byte(0)
	if p.More {
		more = 1
	}
	dst = append(dst, more)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(leaves)))
	for i := range leaves {
		dst = leaves[i].append(dst)
	}
	for i := range p.Nodes {
		n := &p.Nodes[i]
		dst = append(dst, byte(n.Kind))
		switch n.Kind {
		case NodeHash:
			dst = append(dst, n.Hash[:]...)
		case NodeOther:
			dst = n.Other.append(dst)
		}
	}
	return dst
}

// DecodeRange reads one range answer that fills b exactly (see AppendRange).
// It allocates no more than a few times len(b). It refuses every other length,
// and what can be seen to be refused by VerifyRange without hashing and without
// the question. Errors wrap ErrRangeForm.
func DecodeRange(b []byte) ([]Leaf, RangeProof, error) {
	fail := func(format string, args ...any) ([]Leaf, RangeProof, error) {
		return nil, RangeProof{}, fmt.Errorf("%w: "+format, append([]any{ErrRangeForm}, args...)...)
	}
	if len(b) < rangeHeader {
		return fail("%d bytes, the least is %d", len(b), rangeHeader)
	}
	more, n := b[0], binary.LittleEndian.Uint32(b[1:])
	b = b[rangeHeader:]
	switch {
	case more > 1:
		return fail("%d where 0 or 1 says whether it is cut short", more)
	case n > MaxRangeLeaves:
		return fail("%d leaves, the most is %d", n, MaxRangeLeaves)
	case more == 1 && n == 0:
		return fail("cut short without a leaf")
	case uint64(len(b)) < uint64(n)*LeafSize:
		return fail("%d bytes for %d leaves", len(b), n)
	}
	leaves := make([]Leaf, n)
	for i := range leaves {
		if leaves[i] = readLeaf(b); leaves[i].Void() {
			return fail("a leaf with balance 0 and nonce 0")
		}
		b = b[LeafSize:]
	}
	p := RangeProof{More: more == 1}
	for open := 1; open > 0; open-- {
		if len(p.Nodes) == maxRangeNodes {
			return fail("more than %d nodes", maxRangeNodes)
		}
		node, size, ok := readNode(b)
		if !ok {
			return fail("node %d: unknown, cut off, an empty hash or a leaf with balance 0 and nonce 0", len(p.Nodes))
		}
		if node.Kind == NodeBranch {
			open += 2
		}
		p.Nodes, b = append(p.Nodes, node), b[size:]
	}
	if len(b) != 0 {
		return fail("%d bytes after the last node", len(b))
	}
	return leaves, p, nil
}

// readNode reads one node from the front of b and says how long it is.
func readNode(b []byte) (n RangeNode, size int, ok bool) {
	if len(b) == 0 {
		return n, 0, false
	}
	n.Kind = NodeKind(b[0])
	switch n.Kind {
	case NodeGiven, NodeBranch:
		return n, 1, true
	case NodeHash:
		if len(b) < 1+len(n.Hash) {
			return n, 0, false
		}
		n.Hash = Hash(b[1:])
		return n, 1 + len(n.Hash), n.Hash != Hash{}
	case NodeOther:
		if len(b) < 1+LeafSize {
			return n, 0, false
		}
		n.Other = readLeaf(b[1:])
		return n, 1 + LeafSize, !n.Other.Void()
	}
	return n, 0, false
}

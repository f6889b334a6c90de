package statetree

import (
	"errors"
	"fmt"
)

// MaxRangeLeaves is the largest number of leaves in one range answer: 3 MiB of
// leaves.
const MaxRangeLeaves = 1 << 16

var (
	// ErrRangeForm is wrapped by errors about a range answer that is malformed
	// or not canonical whatever the root: its sender is at fault.
	ErrRangeForm = errors.New("statetree: malformed range proof")
	// ErrRangeRoot is wrapped by errors about a well-formed range answer that
	// does not lead to the given root: it is false, or is about another root.
	ErrRangeRoot = errors.New("statetree: range proof does not lead to the root")
	// ErrRangeAsked: the question has no answer, since from is above to. The
	// caller is at fault.
	ErrRangeAsked = errors.New("statetree: a range from a path to a lower one")
)

// RangeProof shows, with a list of leaves, that a tree has those and no others
// in a range of paths. Which range is the verifier's question and no part of
// it, the leaves stand beside it.
//
// It covers the whole range asked about, or, with More set, the range up to
// the path of the last leaf given (so at least one is given, and not at the
// range's end). More says nothing about what follows: whoever answers may stop
// after any leaf.
//
// Nodes is the tree without what the verifier knows or need not know, in
// preorder. By where the paths of a subtree lie,
//
//   - inside the covered range: NodeGiven, the leaves given make it up;
//   - outside: NodeGiven if it is empty, else NodeHash;
//   - partly inside: NodeGiven if it has no accounts beside those given and at
//     most one of these; NodeOther if its one account lies outside the range;
//     else NodeBranch, then its left and its right side.
//
// As in Proof a branch never has two empty sides, nor an empty one beside one
// account as far as that can be seen, so for each root and covered range one
// proof is accepted.
type RangeProof struct {
	More  bool
	Nodes []RangeNode
}

// RangeNode is one node of a RangeProof.
type RangeNode struct {
	Kind  NodeKind
	Hash  Hash // of the subtree, if Kind is NodeHash
	Other Leaf // if Kind is NodeOther
}

// NodeKind is how a subtree stands in a RangeProof; the number is its first
// byte in the encoding.
type NodeKind uint8

const (
	NodeGiven  NodeKind = iota // exactly the given leaves whose paths lie in it
	NodeOther                  // one account, which lies outside the range
	NodeBranch                 // two accounts or more; left and right follow
	NodeHash                   // one account or more, all outside the range
)

// PathOf returns SHA-256(account), where an account stands in the tree.
func PathOf(account [32]byte) Hash {
	p := pathOf(&account)
	return p.hash()
}

// NextPath returns the path after p, from which a range goes on that was
// covered to p; false if p is the last path.
func NextPath(p Hash) (Hash, bool) {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i]++; p[i] != 0 {
			return p, true
		}
	}
	return p, false
}

// Range returns the accounts whose paths lie in from … to (both included) in
// ascending order of path, and the proof that there are no others. It gives at
// most maxLeaves leaves (at least 1, at most MaxRangeLeaves); if there are more, the
// proof has More set and covers the range up to the last one given. A range
// with from > to has no leaves, and no proof that Verify accepts.
func (t *Tree) Range(from, to Hash, maxLeaves int) ([]Leaf, RangeProof) {
	var none error // nothing is read
	return t.ranged(from, to, maxLeaves, &none)
}

func (t *Tree) ranged(from, to Hash, maxLeaves int, failed *error) ([]Leaf, RangeProof) {
	n := min(MaxRangeLeaves, max(maxLeaves, 1))
	r := ranger{from: pathFrom(&from), to: pathFrom(&to), most: n}
	if r.from.compare(&r.to) > 0 {
		return nil, RangeProof{}
	}
	root := t.cursor(failed)
	r.collect(root)
	var p RangeProof
	if len(r.leaves) > n {
		r.leaves = r.leaves[:n]
		r.to, p.More = pathOf(&r.leaves[n-1].Account), true
	}
	p.Nodes = r.prove(root, nil)
	return r.leaves, p
}

// ranger is one answer in the making.
type ranger struct {
	from, to path
	most     int
	leaves   []Leaf
}

// collect appends the leaves of a subtree that lie in the range, until there
// is one more than most.
func (r *ranger) collect(c cursor) {
	if len(r.leaves) > r.most || c.held() == none {
		return
	}
	where := place(&c.prefix, c.depth, &r.from, &r.to)
	switch {
	case where == outside:
	case c.held() == many:
		left, right := c.sides()
		r.collect(left)
		r.collect(right)
	default:
		leaf := c.leaf()
		if where == partly {
			if p := pathOf(&leaf.Account); !p.within(&r.from, &r.to) {
				return
			}
		}
		r.leaves = append(r.leaves, *leaf)
	}
}

func (r *ranger) prove(c cursor, nodes []RangeNode) []RangeNode {
	where := place(&c.prefix, c.depth, &r.from, &r.to)
	switch {
	case where == inside || c.held() == none:
		return append(nodes, RangeNode{})
	case where == outside:
		return append(nodes, RangeNode{Kind: NodeHash, Hash: c.hash()})
	case c.held() == one:
		leaf := c.leaf()
		if p := pathOf(&leaf.Account); p.within(&r.from, &r.to) {
			return append(nodes, RangeNode{})
		}
		return append(nodes, RangeNode{Kind: NodeOther, Other: *leaf})
	}
	nodes = append(nodes, RangeNode{Kind: NodeBranch})
	left, right := c.sides()
	return r.prove(right, r.prove(left, nodes))
}

// VerifyRange returns nil if leaves and p prove what the tree with this root
// has in the range of paths from … to, both included. covered is where the
// proven range ends: to, or less if p.More is set; then the rest is asked for
// from NextPath(covered) on. Errors wrap ErrRangeForm, ErrRangeRoot or
// ErrRangeAsked.
func VerifyRange(root, from, to Hash, leaves []Leaf, p RangeProof) (covered Hash, err error) {
	v := rangeVerifier{from: pathFrom(&from), to: pathFrom(&to), leaves: leaves, nodes: p.Nodes}
	if v.from.compare(&v.to) > 0 {
		return Hash{}, ErrRangeAsked
	}
	if err := v.order(p.More); err != nil {
		return Hash{}, err
	}
	got, err := v.subtree(0, path{}, 0, len(leaves))
	if err != nil {
		return Hash{}, err
	}
	if v.at != len(v.nodes) {
		return Hash{}, fmt.Errorf("%w: %d nodes after the last", ErrRangeForm, len(v.nodes)-v.at)
	}
	if got.hash != root {
		return Hash{}, fmt.Errorf("%w: it gives %x, the root is %x", ErrRangeRoot, got.hash, root)
	}
	return v.to.hash(), nil
}

// rangeVerifier rebuilds the root. Depth and work are bounded by the range:
// a subtree is opened only if it lies partly in it, and of these there are
// two a level at most.
type rangeVerifier struct {
	from, to path // covered
	leaves   []Leaf
	items    []item // their paths
	nodes    []RangeNode
	at       int // of nodes
}

// order hashes the paths, checks that they ascend within the range, and sets
// where the covered range ends.
func (v *rangeVerifier) order(more bool) error {
	n := len(v.leaves)
	if n > MaxRangeLeaves {
		return fmt.Errorf("%w: %d leaves, the most is %d", ErrRangeForm, n, MaxRangeLeaves)
	}
	v.items = make([]item, n)
	for i := range v.leaves {
		l, it := &v.leaves[i], &v.items[i]
		it.index, it.path = i, pathOf(&l.Account)
		switch {
		case l.Void():
			return fmt.Errorf("%w: a leaf with balance 0 and nonce 0", ErrRangeForm)
		case !it.path.within(&v.from, &v.to):
			return fmt.Errorf("%w: leaf %d lies outside the range", ErrRangeForm, i)
		case i > 0 && v.items[i-1].path.compare(&it.path) >= 0:
			return fmt.Errorf("%w: leaf %d is not above the one before", ErrRangeForm, i)
		}
	}
	if !more {
		return nil
	}
	if n == 0 || v.items[n-1].path == v.to {
		return fmt.Errorf("%w: cut short without a leaf, or at the range's end", ErrRangeForm)
	}
	v.to = v.items[n-1].path
	return nil
}

// subtree reads the nodes of one subtree, which has the leaves lo … hi-1.
func (v *rangeVerifier) subtree(depth int, prefix path, lo, hi int) (subtree, error) {
	if v.at == len(v.nodes) {
		return subtree{}, fmt.Errorf("%w: too few nodes", ErrRangeForm)
	}
	node, where := &v.nodes[v.at], place(&prefix, depth, &v.from, &v.to)
	v.at++
	switch {
	case node.Kind == NodeGiven && (where != partly || hi-lo <= 1):
		return hashItems(v.items[lo:hi], depth, v.leaves), nil
	case node.Kind == NodeHash && where == outside:
		if node.Hash == (Hash{}) {
			return subtree{}, fmt.Errorf("%w: an empty subtree as a hash", ErrRangeForm)
		}
		return subtree{hash: node.Hash, held: many}, nil // or one, which can't be seen
	case node.Kind == NodeOther && where == partly && lo == hi:
		p := pathOf(&node.Other.Account)
		if node.Other.Void() || !p.shares(&prefix, depth) || p.within(&v.from, &v.to) {
			return subtree{}, fmt.Errorf("%w: another leaf that is void, not in its subtree or in the range", ErrRangeForm)
		}
		return subtree{hash: node.Other.Hash(), held: one}, nil
	case node.Kind == NodeBranch && where == partly:
		return v.branch(depth, prefix, lo, hi)
	}
	return subtree{}, fmt.Errorf("%w: node %d of kind %d at depth %d above %d leaves", ErrRangeForm, v.at-1, node.Kind, depth, hi-lo)
}

func (v *rangeVerifier) branch(depth int, prefix path, lo, hi int) (subtree, error) {
	k := lo + split(v.items[lo:hi], depth)
	left, err := v.subtree(depth+1, prefix.with(depth, 0), lo, k)
	if err != nil {
		return subtree{}, err
	}
	right, err := v.subtree(depth+1, prefix.with(depth, 1), k, hi)
	if err != nil {
		return subtree{}, err
	}
	both := join(&left, &right)
	if both.held != many {
		return subtree{}, fmt.Errorf("%w: a branch above fewer than two accounts", ErrRangeForm)
	}
	return both, nil
}

// position is how a subtree's paths lie to a range.
type position uint8

const (
	outside position = iota
	partly
	inside
)

// place compares the paths that begin with the first depth bits of prefix,
// whose other bits are 0, with the range from … to.
func place(prefix *path, depth int, from, to *path) position {
	last := prefix.fill(depth)
	switch {
	case last.compare(from) < 0 || prefix.compare(to) > 0:
		return outside
	case prefix.compare(from) >= 0 && last.compare(to) <= 0:
		return inside
	}
	return partly
}

func (p *path) within(from, to *path) bool { return p.compare(from) >= 0 && p.compare(to) <= 0 }

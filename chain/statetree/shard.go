package statetree

// ref points into one shard's storage: 0 is the empty subtree, leafBit|i is
// leaves[i], anything else i+1 is branches[i]. 2^31 of each are enough for
// any memory this runs in.
type ref uint32

const leafBit ref = 1 << 31

func (r ref) isLeaf() bool   { return r&leafBit != 0 }
func (r ref) isBranch() bool { return r != 0 && r&leafBit == 0 }

// branch is a node above two or more accounts. child[1] may be empty or
// child[0]; if both are, what lies below is away: in a stored page (see load).
type branch struct {
	hash  Hash
	child [2]ref
}

// shard is the subtree of all paths with the same first shardBits bits. A
// leaf's hash is not stored: it costs one SHA-256 block, 32 bytes a leaf
// would cost more. Freed slots form lists, through child[0] of a branch and
// Balance of a leaf.
type shard struct {
	root                     ref
	live                     int // accounts in memory
	branching                int // branches in use
	branches                 []branch
	marks                    []mark // of branches
	leaves                   []Leaf
	freeBranches, freeLeaves ref
	touched                  uint64 // see touch
	*paging                         // nil: nothing is ever away
}

// mark is what a Paged tree notes beside a branch.
type mark uint8

const (
	dirty mark = 1 << iota // its hash, or what lies below, isn't what is stored
	paged                  // it has a stored page of its own
	used                   // of late
)

func (s *shard) leaf(r ref) *Leaf { return &s.leaves[r&^leafBit] }

func (s *shard) hash(r ref) Hash {
	switch {
	case r == 0:
		return Hash{}
	case r.isLeaf():
		return s.leaf(r).Hash()
	}
	return s.branches[r-1].hash
}

func (s *shard) subtree(r ref) subtree {
	t := subtree{hash: s.hash(r), held: none}
	switch {
	case r.isLeaf():
		t.held = one
	case r != 0:
		t.held = many
	}
	return t
}

// update applies the changes named by items, which are sorted by path and
// distinct, to the subtree r. It returns the subtree and whether it changed.
// near says that the items have been touched.
func (s *shard) update(r ref, depth int, items []item, changes []Change, near bool) (ref, bool) {
	if len(items) == 0 {
		return r, false
	}
	if !near && len(items) <= touchMost {
		s.touched += s.touch(r, depth, items)
		near = true
	}
	moved := false
	if s.paging != nil && r.isBranch() && depth%pageBits == 0 {
		done := false
		if s.lax && s.away(r) {
			done, moved = s.replay(r, depth, items, changes)
		} else {
			moved = s.enter(r, depth, &items[0].path)
		}
		if s.failed != nil || done {
			return r, moved
		}
	}
	if !r.isBranch() {
		var p path
		if r != 0 {
			p = pathOf(&s.leaf(r).Account)
		}
		return s.merge(r, &p, depth, items, changes)
	}
	k := split(items, depth)
	child := s.branches[r-1].child // a copy: the recursion may move branches
	left, changedLeft := s.update(child[0], depth+1, items[:k], changes, near)
	right, changedRight := s.update(child[1], depth+1, items[k:], changes, near)
	if !changedLeft && !changedRight {
		return r, moved
	}
	return s.join(r, left, right), true
}

// merge is update for a subtree of at most one account: old is 0 or a leaf,
// oldPath its path.
func (s *shard) merge(old ref, oldPath *path, depth int, items []item, changes []Change) (ref, bool) {
	switch len(items) {
	case 0:
		return old, false
	case 1:
		c := &changes[items[0].index]
		switch {
		case old == 0 && c.gone():
			return 0, false
		case old == 0:
			return s.newLeaf(&c.Leaf), true
		case s.leaf(old).Account == c.Leaf.Account:
			return s.setLeaf(old, c)
		case c.gone():
			return old, false
		}
	}
	k := split(items, depth)
	var child [2]ref
	if old != 0 {
		child[oldPath.bit(depth)] = old
	}
	left, changedLeft := s.merge(child[0], oldPath, depth+1, items[:k], changes)
	right, changedRight := s.merge(child[1], oldPath, depth+1, items[k:], changes)
	if !changedLeft && !changedRight {
		return old, false
	}
	return s.join(0, left, right), true
}

// join makes left and right the children of branch r (a new one if r is 0)
// and hashes it, or frees r if at most one account is left.
func (s *shard) join(r, left, right ref) ref {
	if (left == 0 && !right.isBranch()) || (right == 0 && !left.isBranch()) {
		if r != 0 {
			s.freeBranch(r)
		}
		return left | right
	}
	lh, rh := s.hash(left), s.hash(right)
	b := branch{hash: branchHash(&lh, &rh), child: [2]ref{left, right}}
	if r == 0 {
		return s.newBranch(&b, dirty)
	}
	s.branches[r-1] = b
	s.marks[r-1] |= dirty
	return r
}

func (s *shard) newBranch(b *branch, m mark) ref {
	s.branching++
	if r := s.freeBranches; r != 0 {
		s.freeBranches = s.branches[r-1].child[0]
		s.branches[r-1], s.marks[r-1] = *b, m
		return r
	}
	s.branches, s.marks = append(s.branches, *b), append(s.marks, m)
	return ref(len(s.branches))
}

func (s *shard) freeBranch(r ref) {
	s.branches[r-1], s.marks[r-1] = branch{child: [2]ref{s.freeBranches}}, 0
	s.freeBranches = r
	s.branching--
}

func (s *shard) freeLeaf(r ref) {
	*s.leaf(r) = Leaf{Balance: uint64(s.freeLeaves)}
	s.freeLeaves = r
	s.live--
}

func (s *shard) setLeaf(r ref, c *Change) (ref, bool) {
	l := s.leaf(r)
	if c.gone() {
		s.freeLeaf(r)
		return 0, true
	}
	if *l == c.Leaf {
		return r, false
	}
	*l = c.Leaf
	return r, true
}

func (s *shard) newLeaf(l *Leaf) ref {
	s.live++
	if r := s.freeLeaves; r != 0 {
		s.freeLeaves = ref(s.leaf(r).Balance)
		*s.leaf(r) = *l
		return r
	}
	s.leaves = append(s.leaves, *l)
	return leafBit | ref(len(s.leaves)-1)
}

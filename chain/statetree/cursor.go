package statetree

// cursor is a subtree of a Tree: entry top of Tree.top, or, where s is set,
// the subtree r of that shard. Reading a page may fail: then the subtree counts
// as empty and *failed says why.
type cursor struct {
	t      *Tree
	top    int
	s      *shard
	r      ref
	depth  int
	prefix path
	failed *error
}

func (t *Tree) cursor(failed *error) cursor { return cursor{t: t, top: 1, failed: failed} }

func (c cursor) held() held {
	switch {
	case c.s == nil:
		return c.t.top[c.top].held
	case c.r.isLeaf():
		return one
	case c.r != 0:
		return many
	}
	return none
}

func (c cursor) hash() Hash {
	if c.s == nil {
		return c.t.top[c.top].hash
	}
	return c.s.hash(c.r)
}

// child returns a side of a subtree of two accounts or more.
func (c cursor) child(side int) cursor {
	c = c.enter()
	if c.s != nil {
		c.r = c.s.branches[c.r-1].child[side]
	} else {
		c.top = 2*c.top + side
	}
	c.prefix = c.prefix.with(c.depth, side)
	c.depth++
	return c
}

// sides returns both sides of a subtree of two accounts or more, reading its
// page once.
func (c cursor) sides() (left, right cursor) {
	c = c.enter()
	return c.child(0), c.child(1)
}

// leaf returns the account of a subtree of one; it is the tree's own.
func (c cursor) leaf() *Leaf {
	for c = c.enter(); c.s == nil; c = c.enter() {
		c.top *= 2
		if c.t.top[c.top].held == none {
			c.top++
		}
	}
	return c.s.leaf(c.r)
}

// enter goes from the top into the shard where that is the same subtree, and
// into a page that is away.
func (c cursor) enter() cursor {
	if c.s == nil && c.top >= shardCount {
		c.s = &c.t.shards[c.top-shardCount]
		c.r = c.s.root
	}
	if c.s != nil && c.r.isBranch() && c.s.away(c.r) && *c.failed == nil {
		s, r, err := c.s.look(c.r, c.depth, &c.prefix)
		if err != nil { // it stays away, and both sides count as empty
			*c.failed = err
			return c
		}
		c.s, c.r = s, r
	}
	return c
}

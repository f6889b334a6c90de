package statetree

// cursor is a subtree of a Tree: entry top of Tree.top, or, where s is set,
// the subtree r of that shard.
type cursor struct {
	t   *Tree
	top int
	s   *shard
	r   ref
}

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
	if c.s == nil {
		c.top = 2*c.top + side
		return c
	}
	c.r = c.s.branches[c.r-1].child[side]
	return c
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

// enter goes from the top into the shard where that is the same subtree.
func (c cursor) enter() cursor {
	if c.s == nil && c.top >= shardCount {
		c.s = &c.t.shards[c.top-shardCount]
		c.r = c.s.root
	}
	return c
}

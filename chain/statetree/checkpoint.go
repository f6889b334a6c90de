package statetree

// Checkpoint writes the pages changed before it was made, and some changed
// since, in slices, between which the tree may change. It stands for the tree
// as it was when it was made, in this sense: once the page at the top is
// written, Replay of all changes made since then gives the tree. Until that
// page is written, Replay of all changes since the last Checkpoint does.
//
// A page is written after those below it that were never written, so whoever
// stores pages in the order given always has a whole tree.
type Checkpoint struct {
	p    *Paged
	next int // the next unit: a subtree at depth unitBits
	put  func(PageKey, []byte) error
	err  error
	left int
}

const (
	unitBits  = shardBits + pageBits
	unitCount = 1 << unitBits
)

// Checkpoint begins one. The one before must have come to its end, or is void.
func (p *Paged) Checkpoint() *Checkpoint { return &Checkpoint{p: p} }

// Write gives about so many pages to put, which may keep them, and reports
// whether the last of them, the page at the top, was among them. most ≤ 0 gives
// all. After an error of put the tree is of no more use.
func (c *Checkpoint) Write(most int, put func(key PageKey, page []byte) error) (done bool, err error) {
	c.put, c.left = put, most
	for ; c.next < unitCount; c.next++ {
		if most > 0 && c.left <= 0 {
			return false, c.err
		}
		c.unit(c.next)
	}
	page := []byte{pageOfSlots}
	for i := range c.p.t.shards {
		s := &c.p.t.shards[i]
		if s.root.isBranch() && (s.marks[s.root-1]&(dirty|paged) != paged) {
			c.top(s, s.root, path{uint64(i) << (64 - shardBits)})
		}
		page = s.appendSlot(page, s.root)
	}
	c.emit(pageKey(&path{}, 0), page)
	return c.err == nil, c.err
}

func (c *Checkpoint) emit(k PageKey, page []byte) {
	c.left--
	if c.err == nil {
		c.err = c.put(k, page)
	}
}

// unit writes what changed in one subtree at depth unitBits. Nothing, if the
// page above takes it in.
func (c *Checkpoint) unit(u int) {
	s := &c.p.t.shards[u>>pageBits]
	prefix := path{uint64(u) << (64 - unitBits)}
	r := s.root
	if !r.isBranch() || s.away(r) && !s.dirty(r) {
		return
	}
	if c.wake(s, r, shardBits, prefix); s.few(r, shardBits) {
		return
	}
	for d := shardBits; d < unitBits; d++ {
		if !r.isBranch() {
			return
		}
		r = s.branches[r-1].child[prefix.bit(d)]
	}
	c.below(s, r, unitBits, prefix)
}

// below writes the page at r, and first those below it, if anything changed.
func (c *Checkpoint) below(s *shard, r ref, depth int, prefix path) {
	if !r.isBranch() || s.marks[r-1]&(dirty|paged) == paged {
		return
	}
	late := c.wake(s, r, depth, prefix)
	if s.few(r, depth) {
		page := append(make([]byte, 0, 1+8*LeafSize), pageOfLeaves)
		c.emit(pageKey(&prefix, depth), s.appendLeaves(page, r))
	} else {
		page := append(make([]byte, 0, 1+pageSlots*33), pageOfSlots)
		page = c.slots(s, r, depth, depth+pageBits, prefix, page, true)
		c.emit(pageKey(&prefix, depth), page)
	}
	s.marks[r-1] = s.marks[r-1]&^dirty | paged
	if late {
		s.letGo(r)
	}
}

// wake brings a late page into memory; it reports whether the page was one.
func (c *Checkpoint) wake(s *shard, r ref, depth int, prefix path) bool {
	if !s.away(r) {
		return false
	}
	if s.enter(r, depth, &prefix); c.err == nil {
		c.err = s.failed
	}
	return true
}

// slots writes the pages below the branch r of a page that ends at depth end,
// and appends the page's slots. With all, those that changed since they were
// last written, else those that never were: then r stays dirty if one below is.
func (c *Checkpoint) slots(s *shard, r ref, depth, end int, prefix path, page []byte, all bool) []byte {
	if depth == end {
		if r.isBranch() && (all || s.marks[r-1]&paged == 0) {
			c.below(s, r, depth, prefix)
		}
		return s.appendSlot(page, r)
	}
	if !r.isBranch() { // empty, or one account: it stands in the slot its path leads to
		var p path
		if r != 0 {
			p = pathOf(&s.leaf(r).Account)
		}
		for i := range 1 << (end - depth) {
			at := path{prefix[0] | uint64(i)<<(64-end)}
			if r != 0 && p.shares(&at, end) {
				page = s.appendSlot(page, r)
			} else {
				page = s.appendSlot(page, 0)
			}
		}
		return page
	}
	child := s.branches[r-1].child
	page = c.slots(s, child[0], depth+1, end, prefix, page, all)
	page = c.slots(s, child[1], depth+1, end, prefix.with(depth, 1), page, all)
	if s.dirty(child[0]) || s.dirty(child[1]) {
		s.marks[r-1] |= dirty
	} else {
		s.marks[r-1] &^= dirty
	}
	return page
}

func (s *shard) dirty(r ref) bool { return r.isBranch() && s.marks[r-1]&dirty != 0 }

// top writes the page of a whole shard, with pages below it only where the tree
// would not be whole without: others may have changed since their turn.
func (c *Checkpoint) top(s *shard, r ref, prefix path) {
	key := pageKey(&prefix, shardBits)
	if s.few(r, shardBits) {
		c.emit(key, s.appendLeaves([]byte{pageOfLeaves}, r))
		s.marks[r-1] = s.marks[r-1]&^dirty | paged
		return
	}
	page := append(make([]byte, 0, 1+pageSlots*33), pageOfSlots)
	c.emit(key, c.slots(s, r, shardBits, unitBits, prefix, page, false))
	s.marks[r-1] |= paged // dirty is as slots left it
}

// few reports whether all below branch r, which is at the depth of a page, goes
// into one page of leaves: they are few, and none of it has a page of its own
// (a page that was once cut stays so).
func (s *shard) few(r ref, depth int) bool {
	most := s.cut
	if depth >= pageDeepest {
		most = 1 << 30
	}
	return s.count(r, depth, depth, most) <= most
}

// count counts leaves, to a number above most if there are more or a page is
// met below the top one.
func (s *shard) count(r ref, depth, top, most int) int {
	switch {
	case r == 0:
		return 0
	case r.isLeaf():
		return 1
	case s.away(r), depth > top && depth%pageBits == 0 && s.marks[r-1]&paged != 0:
		return most + 1
	}
	child := s.branches[r-1].child
	n := s.count(child[0], depth+1, top, most)
	if n > most {
		return n
	}
	return n + s.count(child[1], depth+1, top, most-n)
}

// appendLeaves appends the leaves below r in the order of paths.
func (s *shard) appendLeaves(b []byte, r ref) []byte {
	switch {
	case r == 0:
		return b
	case r.isLeaf():
		return s.leaf(r).append(b)
	}
	child := s.branches[r-1].child
	return s.appendLeaves(s.appendLeaves(b, child[0]), child[1])
}

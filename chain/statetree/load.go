package statetree

import (
	"errors"
	"fmt"
)

// ErrPage is wrapped by errors about a stored page that is missing, doesn't
// decode, or doesn't have the hash that the page above it says.
var ErrPage = errors.New("statetree: a stored page of the tree is damaged")

var errPage = fmt.Errorf("%w: it does not decode", ErrPage)

// ReadPage calls use with the stored page of a key, and not at all if there is
// none. The bytes are valid during the call only. It may be called by several
// goroutines at once.
type ReadPage func(key PageKey, use func(page []byte) error) error

// paging is what a shard needs to read pages.
type paging struct {
	read   ReadPage
	lax    bool  // pages may be newer than what is above them says: see Paged.Replay
	cut    int   // most leaves of a page
	failed error // the first error of a read: nothing after it counts
	hand   path  // where Trim goes on

	late map[ref][]Change // changes of late pages, ascending: see replay

	// Space for the leaves of a page being read.
	leaves []Leaf
	items  []item
	kept   []item
	slab   []Change
}

func (s *shard) away(r ref) bool { return s.branches[r-1].child == [2]ref{} }

// enter makes the page at branch r, which lies on path p, one that is in memory
// and used. It reports whether that changed the hash at r.
func (s *shard) enter(r ref, depth int, p *path) (moved bool) {
	if s.away(r) {
		before := s.branches[r-1].hash
		if s.failed == nil {
			s.failed = s.load(r, depth, p)
		}
		if s.failed == nil {
			s.catchUp(r, depth, before)
		}
		moved = s.failed == nil && s.branches[r-1].hash != before
	}
	s.marks[r-1] |= used
	return moved
}

// look reads the page at branch r, which is away, beside the tree: the shard
// and ref to go on with.
func (s *shard) look(r ref, depth int, p *path) (*shard, ref, error) {
	beside := &shard{
		branches: append(make([]branch, 0, 32), s.branches[r-1]), marks: make([]mark, 1, 32),
		paging: &paging{read: s.read, lax: s.lax},
	}
	if late := s.late[r]; late != nil {
		beside.late = map[ref][]Change{1: late}
	}
	beside.enter(1, depth, p)
	return beside, 1, beside.failed
}

// load reads the page at branch r. Where pages may be newer than the ones above
// them, r takes the hash of what was found.
func (s *shard) load(r ref, depth int, p *path) error {
	return s.stored(depth, p, func(page []byte) error { return s.fill(r, depth, p, page) })
}

// stored calls use with the stored page at depth on path p, which isn't empty.
func (s *shard) stored(depth int, p *path, use func(page []byte) error) error {
	key := pageKey(p, depth)
	missing := true
	err := s.read(key, func(page []byte) error {
		missing = false
		if len(page) == 0 {
			return errPage
		}
		return use(page)
	})
	if err == nil && missing {
		err = fmt.Errorf("%w: it is missing", ErrPage)
	}
	if err != nil {
		return fmt.Errorf("page %v: %w", key, err)
	}
	return nil
}

// fill hangs what a page holds below branch r.
func (s *shard) fill(r ref, depth int, p *path, page []byte) error {
	var child [2]ref
	var err error
	switch page[0] {
	case pageOfLeaves:
		child, err = s.fillLeaves(depth, p, page[1:])
	case pageOfSlots:
		if depth >= pageDeepest {
			return fmt.Errorf("%w: pages end above it", ErrPage)
		}
		child, err = s.fillSlots(depth, p, page[1:])
	default:
		err = errPage
	}
	if err != nil {
		return err
	}
	if (child[0] == 0 && !child[1].isBranch()) || (child[1] == 0 && !child[0].isBranch()) {
		return fmt.Errorf("%w: it has fewer than two accounts", ErrPage)
	}
	lh, rh := s.hash(child[0]), s.hash(child[1])
	hash := branchHash(&lh, &rh)
	if b := &s.branches[r-1]; b.hash != hash && !s.lax && s.late[r] == nil {
		return fmt.Errorf("%w: its hash is %x, the page above says %x", ErrPage, hash, b.hash)
	}
	s.branches[r-1] = branch{hash: hash, child: child}
	return nil
}

func (s *shard) fillLeaves(depth int, p *path, b []byte) (child [2]ref, err error) {
	items, err := s.readLeaves(depth, p, b)
	if err != nil {
		return child, err
	}
	k := split(items, depth)
	return [2]ref{s.grow(items[:k], depth+1, s.paging.leaves), s.grow(items[k:], depth+1, s.paging.leaves)}, nil
}

// readLeaves reads a page's leaves into the shard's space for them, and returns
// them as items of it.
func (s *shard) readLeaves(depth int, p *path, b []byte) ([]item, error) {
	if len(b)%LeafSize != 0 {
		return nil, errPage
	}
	leaves, items := s.paging.leaves[:0], s.items[:0]
	for ; len(b) > 0; b = b[LeafSize:] {
		leaf := readLeaf(b)
		it := item{path: pathOf(&leaf.Account), index: len(items)}
		if leaf.Void() || !it.path.shares(p, depth) || len(items) > 0 && items[len(items)-1].path.compare(&it.path) >= 0 {
			return nil, errPage
		}
		leaves, items = append(leaves, leaf), append(items, it)
	}
	s.paging.leaves, s.items = leaves, items
	return items, nil
}

// grow makes the subtree of some leaves.
func (s *shard) grow(items []item, depth int, leaves []Leaf) ref {
	switch len(items) {
	case 0:
		return 0
	case 1:
		return s.newLeaf(&leaves[items[0].index])
	}
	k := split(items, depth)
	left := s.grow(items[:k], depth+1, leaves)
	right := s.grow(items[k:], depth+1, leaves)
	return s.clean(left, right)
}

func (s *shard) fillSlots(depth int, p *path, b []byte) (child [2]ref, err error) {
	prefix := path{p[0] &^ (^uint64(0) >> depth)}
	var slots [pageSlots]ref
	for i := range slots {
		at := path{prefix[0] | uint64(i)<<(64-pageBits-depth)}
		if slots[i], b, err = s.readSlot(b, &at, depth+pageBits); err != nil {
			return child, err
		}
	}
	if len(b) != 0 {
		return child, errPage
	}
	return [2]ref{s.gather(slots[:pageSlots/2]), s.gather(slots[pageSlots/2:])}, nil
}

// gather makes the subtree above slots.
func (s *shard) gather(slots []ref) ref {
	if len(slots) == 1 {
		return slots[0]
	}
	half := len(slots) / 2
	return s.clean(s.gather(slots[:half]), s.gather(slots[half:]))
}

// clean is join of what was just read from a page.
func (s *shard) clean(left, right ref) ref {
	r := s.join(0, left, right)
	if r.isBranch() && r != left && r != right {
		s.marks[r-1] = 0
	}
	return r
}

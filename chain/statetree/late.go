package statetree

import "fmt"

// A page of leaves that Replay changes stays away: its hash with the changes is
// computed from the stored leaves, and the changes are kept until something
// leads there again. Opening a large tree is bound by first touching memory, and
// such pages would take most of it.

// replay makes the page at branch r, which is away, one with the changes named
// by items: a late one if it holds leaves, else in memory and still to be
// changed. It reports whether that is done, and whether what the page above says
// is no longer so.
func (s *shard) replay(r ref, depth int, items []item, changes []Change) (done, moved bool) {
	before := s.branches[r-1].hash
	s.failed = s.stored(depth, &items[0].path, func(page []byte) (err error) {
		if page[0] == pageOfLeaves {
			done, moved, err = s.hashLate(r, depth, items, changes, page[1:])
		}
		if err == nil && !done {
			err = s.fill(r, depth, &items[0].path, page)
		}
		return err
	})
	s.marks[r-1] |= used
	return done, moved || s.branches[r-1].hash != before
}

// hashLate is replay of a page of leaves. Nothing is done if fewer than two are
// left: then the page above takes in what it holds.
func (s *shard) hashLate(r ref, depth int, items []item, changes []Change, b []byte) (done, differs bool, err error) {
	stored, err := s.readLeaves(depth, &items[0].path, b)
	if err != nil {
		return false, false, err
	}
	leaves, kept := s.paging.leaves, s.kept[:0]
	for len(stored) > 0 || len(items) > 0 {
		switch order := compareFirst(stored, items); {
		case order < 0:
			kept, stored = append(kept, stored[0]), stored[1:]
			continue
		case order == 0:
			c := &changes[items[0].index]
			differs = differs || c.gone() || leaves[stored[0].index] != c.Leaf
			stored = stored[1:]
		default:
			differs = differs || !changes[items[0].index].gone()
		}
		c := &changes[items[0].index]
		if !c.gone() {
			kept = append(kept, item{path: items[0].path, index: len(leaves)})
			leaves = append(leaves, c.Leaf)
		}
		s.slab = append(s.slab, *c)
		items = items[1:]
	}
	s.paging.leaves, s.kept = leaves, kept
	if len(kept) < 2 {
		s.slab = s.slab[:0]
		return false, false, nil
	}
	s.branches[r-1].hash = hashItems(kept, depth, leaves).hash
	if differs {
		s.late[r] = append([]Change(nil), s.slab...)
		s.marks[r-1] |= dirty
	}
	s.slab = s.slab[:0]
	return true, differs, nil
}

// compareFirst compares the paths of the first of two lists, an empty one last.
func compareFirst(a, b []item) int {
	switch {
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	}
	return a[0].path.compare(&b[0].path)
}

// catchUp changes a late page that has just been read as Replay did.
func (s *shard) catchUp(r ref, depth int, want Hash) {
	changes := s.late[r]
	if changes == nil {
		return
	}
	delete(s.late, r)
	items := make([]item, len(changes))
	for i := range changes {
		items[i] = item{path: pathOf(&changes[i].Leaf.Account), index: i}
	}
	s.update(r, depth, items, changes, true)
	if got := s.branches[r-1].hash; got != want && s.failed == nil {
		s.failed = fmt.Errorf("page %v: %w: its hash is %x, it was %x when the tree was opened", pageKey(&items[0].path, depth), ErrPage, got, want)
	}
}

package statetree

const (
	// lanes is how many walks touch takes at the same time: about as many
	// cache lines as a core fetches at once.
	lanes = 16
	// touchMost is how many items are touched before they are updated. In a
	// large tree each reads about 16 lines of 64 bytes that others don't, so
	// they stay within a level 2 cache of 1 MiB.
	touchMost = 1024
)

// touch reads, without doing anything with it, all that update will read below
// r for these items. A walk down the tree waits for memory at each of the lower
// levels; update takes one walk after the other with hashing between, so it
// waits for all of them. Here walks go down side by side and their waits
// overlap; update then finds the lines in the cache (measured: 2.7 µs an update
// instead of 3.6, of 10,000 in a tree of a million). It returns a sum of what it
// read, so that no compiler leaves the reads out.
func (s *shard) touch(r ref, depth int, items []item) (sum uint64) {
	for len(items) > 0 {
		group := items[:min(lanes, len(items))]
		items = items[len(group):]
		var at [lanes]ref
		for i := range group {
			at[i] = r
		}
		for d, going := depth, r.isBranch(); going; d++ {
			going = false
			for i := range group {
				if !at[i].isBranch() {
					continue
				}
				child := &s.branches[at[i]-1].child
				side := group[i].path.bit(d)
				sum += s.peek(child[1-side])
				if at[i] = child[side]; at[i].isBranch() {
					going = true
				} else {
					sum += s.peek(at[i])
				}
			}
		}
	}
	return sum
}

// peek reads both ends of what update reads of a sibling or a leaf, which may
// lie in two lines.
func (s *shard) peek(r ref) uint64 {
	switch {
	case r == 0:
		return 0
	case r.isLeaf():
		l := s.leaf(r)
		return l.Balance + uint64(l.Account[0])
	}
	h := &s.branches[r-1].hash
	return uint64(h[0]) + uint64(h[31])
}

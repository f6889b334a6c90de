package statetree

import (
	"slices"
	"sync"
	"sync/atomic"
)

// item is one entry of a batch: the path of its account and its place in the
// caller's slice.
type item struct {
	path  path
	index int
}

func (p *path) shard() int { return int(p[0] >> (64 - shardBits)) }

// batch is a list of items grouped by shard: those of shard i are
// items[start[i]:start[i+1]].
type batch struct {
	items []item
	start [shardCount + 1]int
}

// sortIntoShards hashes n accounts and groups them by shard, keeping their
// order.
func sortIntoShards(n, workers int, account func(int) *[32]byte) *batch {
	hashed := make([]item, n)
	fan(workers, shardCount, func(part int) {
		for i := n * part / shardCount; i < n*(part+1)/shardCount; i++ {
			hashed[i] = item{path: pathOf(account(i)), index: i}
		}
	})
	b := &batch{items: make([]item, n)}
	for i := range hashed {
		b.start[hashed[i].path.shard()+1]++
	}
	for i := range shardCount {
		b.start[i+1] += b.start[i]
	}
	next := b.start
	for i := range hashed {
		at := &next[hashed[i].path.shard()]
		b.items[*at] = hashed[i]
		*at++
	}
	return b
}

// ordered sorts the items of one shard by path in place and returns them, the
// last of each repeated account only.
func (b *batch) ordered(shard int) []item {
	items := b.items[b.start[shard]:b.start[shard+1]]
	slices.SortFunc(items, func(x, y item) int {
		if x.path[0] != y.path[0] { // nearly always, and cheap
			if x.path[0] < y.path[0] {
				return -1
			}
			return 1
		}
		if c := x.path.compare(&y.path); c != 0 {
			return c
		}
		return x.index - y.index
	})
	kept := items[:0]
	for i := range items {
		if i+1 < len(items) && items[i].path == items[i+1].path {
			continue
		}
		kept = append(kept, items[i])
	}
	return kept
}

// split returns how many of the items, which share their first depth bits and
// are sorted, lie on the left below a node at this depth.
func split(items []item, depth int) int {
	lo, hi := 0, len(items)
	for lo < hi {
		if mid := (lo + hi) / 2; items[mid].path.bit(depth) == 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// fan calls do(0), …, do(n-1), each once, on up to workers goroutines, and
// returns when all calls have.
func fan(workers, n int, do func(int)) {
	if workers <= 1 {
		for i := range n {
			do(i)
		}
		return
	}
	var next atomic.Int64
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	all.Wait()
}

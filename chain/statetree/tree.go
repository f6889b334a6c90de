package statetree

import "runtime"

// The tree is cut at depth shardBits into independent shards, each with
// storage of its own, so that workers never share memory. The cut is not part
// of the format.
const (
	shardBits  = 4
	shardCount = 1 << shardBits
)

// parallelFrom is the number of changes from which fanning out pays.
const parallelFrom = 2000

// Tree holds every account in memory: about 48 bytes a leaf and 41 a branch,
// 1.44 branches a leaf for random paths. Memory freed by deletes is used
// again by later sets, not returned. The zero value is an empty tree.
//
// A Tree is not safe for use while Update runs; its other methods may run at
// the same time as each other.
type Tree struct {
	shards [shardCount]shard
	// top[1] is the root, top[2i] and top[2i+1] are the children of top[i],
	// top[shardCount+i] is the root of shards[i]; top[0] is unused.
	top [2 * shardCount]subtree
}

// New returns an empty tree, whose root is 32 zero bytes.
func New() *Tree { return &Tree{} }

// Root returns the hash of the whole tree.
func (t *Tree) Root() Hash { return t.top[1].hash }

// Len returns the number of accounts.
func (t *Tree) Len() int {
	n := 0
	for i := range t.shards {
		n += t.shards[i].live
	}
	return n
}

// Get returns the leaf of an account, or false if the tree has none.
func (t *Tree) Get(account [32]byte) (Leaf, bool) {
	p := pathOf(&account)
	leaf, ok, _ := t.get(&account, &p) // it fails only where pages are read
	return leaf, ok
}

func (t *Tree) get(account *[32]byte, p *path) (_ Leaf, ok bool, err error) {
	s := &t.shards[p.shard()]
	r := s.root
	for d := shardBits; r.isBranch(); d++ {
		if s.away(r) {
			if s, r, err = s.look(r, d, p); err != nil {
				return Leaf{}, false, err
			}
		}
		r = s.branches[r-1].child[p.bit(d)]
	}
	if r == 0 || s.leaf(r).Account != *account {
		return Leaf{}, false, nil
	}
	return *s.leaf(r), true, nil
}

// Update applies the changes in one pass and returns the new root. Their
// order does not matter, except that the last change of a repeated account
// wins. Deleting an absent account, or setting a leaf to what it is, costs no
// hashing. Every branch on the way to a change is hashed once. Large batches
// run on several goroutines, all of which have ended when Update returns.
func (t *Tree) Update(changes []Change) Hash {
	return t.update(changes, workersFor(len(changes)))
}

// RootOf returns the root of the tree that holds exactly these leaves, which
// should be of distinct accounts (of a repeated one the last counts), without
// building the tree.
func RootOf(leaves []Leaf) Hash {
	return rootOf(leaves, workersFor(len(leaves)))
}

func workersFor(n int) int {
	if n < parallelFrom {
		return 1
	}
	return min(runtime.GOMAXPROCS(0), shardCount)
}

func (t *Tree) update(changes []Change, workers int) Hash {
	b := sortIntoShards(len(changes), workers, func(i int) *[32]byte { return &changes[i].Leaf.Account })
	var fresh [2 * shardCount]bool
	fan(workers, shardCount, func(i int) {
		s, items := &t.shards[i], b.ordered(i)
		if s.root == 0 && s.leaves == nil && len(items) > 64 { // as much as random paths take: nothing moves
			n := len(items) * 3 / 2
			s.leaves, s.branches, s.marks = make([]Leaf, 0, len(items)), make([]branch, 0, n), make([]mark, 0, n)
		}
		root, changed := s.update(s.root, shardBits, items, changes, false)
		if changed {
			s.root = root
			t.top[shardCount+i] = s.subtree(root)
			fresh[shardCount+i] = true
		}
	})
	for i := shardCount - 1; i > 0; i-- {
		if fresh[2*i] || fresh[2*i+1] {
			t.top[i] = join(&t.top[2*i], &t.top[2*i+1])
			fresh[i] = true
		}
	}
	return t.Root()
}

func rootOf(leaves []Leaf, workers int) Hash {
	b := sortIntoShards(len(leaves), workers, func(i int) *[32]byte { return &leaves[i].Account })
	var top [2 * shardCount]subtree
	fan(workers, shardCount, func(i int) {
		top[shardCount+i] = hashItems(b.ordered(i), shardBits, leaves)
	})
	for i := shardCount - 1; i > 0; i-- {
		top[i] = join(&top[2*i], &top[2*i+1])
	}
	return top[1].hash
}

func hashItems(items []item, depth int, leaves []Leaf) subtree {
	switch len(items) {
	case 0:
		return subtree{}
	case 1:
		l := &leaves[items[0].index]
		if l.Void() {
			return subtree{}
		}
		return subtree{hash: l.Hash(), held: one}
	}
	k := split(items, depth)
	left := hashItems(items[:k], depth+1, leaves)
	right := hashItems(items[k:], depth+1, leaves)
	return join(&left, &right)
}

// subtree is what a parent needs to know about a child.
type subtree struct {
	hash Hash
	held held
}

// held is how many accounts a subtree holds, as far as its hash depends on it.
type held uint8

const (
	none held = iota
	one
	many
)

// join makes the parent of two subtrees: a single account moves up unhashed,
// everything above two or more is hashed.
func join(left, right *subtree) subtree {
	switch {
	case right.held == none && left.held != many:
		return *left
	case left.held == none && right.held == one:
		return *right
	}
	return subtree{hash: branchHash(&left.hash, &right.hash), held: many}
}

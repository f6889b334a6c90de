package statetree

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// checkTree compares a tree with its model and looks at every stored slot:
// each is reachable or in a free list, once, and every hash is right.
func checkTree(t interface {
	Helper()
	Fatalf(string, ...any)
}, tree *Tree, m model) {
	t.Helper()
	if got, want := tree.Root(), naive(m.leaves(), 0); got != want {
		t.Fatalf("root %x, the definition gives %x", got, want)
	}
	if tree.Len() != len(m) {
		t.Fatalf("Len %d, want %d", tree.Len(), len(m))
	}
	for i := range tree.shards {
		s := &tree.shards[i]
		seen := map[ref]bool{}
		var walk func(r ref, depth int) int
		walk = func(r ref, depth int) int {
			if seen[r] && r != 0 {
				t.Fatalf("shard %d: slot %x reached twice", i, r)
			}
			seen[r] = true
			switch {
			case r == 0:
				return 0
			case r.isLeaf():
				if l := *s.leaf(r); m[l.Account] != l {
					t.Fatalf("stored leaf %+v, want %+v", l, m[l.Account])
				}
				return 1
			}
			b := s.branches[r-1]
			n := walk(b.child[0], depth+1) + walk(b.child[1], depth+1)
			if n < 2 {
				t.Fatalf("shard %d: a branch at depth %d above %d accounts", i, depth, n)
			}
			return n
		}
		if n := walk(s.root, shardBits); n != s.live {
			t.Fatalf("shard %d holds %d accounts, counts %d", i, n, s.live)
		}
		for r := s.freeBranches; r != 0; r = s.branches[r-1].child[0] {
			if seen[r] {
				t.Fatalf("shard %d: free branch %x is in use", i, r)
			}
			seen[r] = true
		}
		for r := s.freeLeaves; r != 0; r = ref(s.leaf(r).Balance) {
			if seen[r] {
				t.Fatalf("shard %d: free leaf %x is in use", i, r)
			}
			seen[r] = true
		}
		delete(seen, 0)
		if len(seen) != len(s.branches)+len(s.leaves) {
			t.Fatalf("shard %d: %d slots in use or free of %d: a leak", i, len(seen), len(s.branches)+len(s.leaves))
		}
	}
}

// TestHistories runs random histories of batches over few accounts, some with
// near paths: after every batch the tree equals the definition, RootOf
// agrees, and the inverse batch restores the root exactly.
func TestHistories(t *testing.T) {
	pool := slices.Clone(neighbours())
	for i := range uint64(24) {
		pool = append(pool, account(1<<40+i))
	}
	rapid.Check(t, func(t *rapid.T) {
		change := rapid.Custom(func(t *rapid.T) Change {
			return Change{
				Leaf: Leaf{
					Account: rapid.SampledFrom(pool).Draw(t, "account"),
					Balance: rapid.Uint64Range(0, 2).Draw(t, "balance"),
					Nonce:   rapid.Uint64Range(0, 1).Draw(t, "nonce"),
				},
				Delete: rapid.Bool().Draw(t, "delete"),
			}
		})
		tree, m := New(), model{}
		for _, changes := range rapid.SliceOfN(rapid.SliceOfN(change, 0, 40), 1, 8).Draw(t, "batches") {
			before, back := tree.Root(), m.inverse(changes)
			tree.Update(changes)
			if got := tree.Update(back); got != before {
				t.Fatalf("the inverse gives %x, before it was %x", got, before)
			}
			checkTree(t, tree, m)
			workers := rapid.IntRange(1, 4).Draw(t, "workers")
			m.apply(changes)
			if got := tree.update(changes, workers); got != tree.Root() {
				t.Fatalf("Update returned %x, Root %x", got, tree.Root())
			}
			checkTree(t, tree, m)
			if got := rootOf(m.leaves(), workers); got != tree.Root() {
				t.Fatalf("RootOf %x, the tree has %x", got, tree.Root())
			}
			for _, a := range pool {
				want, ok := m[a]
				if got, has := tree.Get(a); has != ok || got != want {
					t.Fatalf("Get %+v %v, want %+v %v", got, has, want, ok)
				}
			}
		}
	})
}

// TestOrderAndWorkers: the root is one whatever the order of changes, their
// cut into batches and the number of goroutines, also above parallelFrom.
func TestOrderAndWorkers(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	m := model{}
	for i := range uint64(3 * parallelFrom) {
		m[account(i)] = Leaf{Account: account(i), Balance: i + 1, Nonce: r.Uint64()}
	}
	leaves := m.leaves()
	want := naive(leaves, 0)
	if got := RootOf(leaves); got != want {
		t.Fatalf("RootOf %x, the definition gives %x", got, want)
	}
	for _, workers := range []int{1, 2, 3, shardCount, 40} {
		for _, size := range []int{97, len(leaves)} {
			t.Run(fmt.Sprintf("workers=%d,batch=%d", workers, size), func(t *testing.T) {
				tree := New()
				order := slices.Clone(leaves)
				r.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
				for part := range slices.Chunk(order, size) {
					var changes []Change
					for _, l := range part {
						changes = append(changes, Change{Leaf: l})
					}
					tree.update(changes, workers)
				}
				if tree.Root() != want {
					t.Fatalf("root %x, want %x", tree.Root(), want)
				}
			})
		}
	}
}

// TestLongRun: sets and deletes without end do not grow the storage beyond
// the largest tree there was, and an emptied tree is empty.
func TestLongRun(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	tree, m := New(), model{}
	// More than 1,500 accounts never live at once, so the slots are bounded
	// by 1,500 leaves and, at 1.44 a leaf and some luck, 3,000 branches.
	const accounts, maxSlots = 1500, 4500
	for i := range 3000 {
		var changes []Change
		for range 1 + r.IntN(64) {
			changes = append(changes, Change{Leaf: randomLeaf(r, accounts), Delete: r.IntN(3) == 0})
		}
		tree.Update(changes)
		m.apply(changes)
		if i%500 == 0 {
			checkTree(t, tree, m)
		}
	}
	checkTree(t, tree, m)
	slots := 0
	for i := range tree.shards {
		slots += len(tree.shards[i].branches) + len(tree.shards[i].leaves)
	}
	if slots > maxSlots {
		t.Errorf("%d slots for at most %d accounts", slots, accounts)
	}
	var all []Change
	for a := range m {
		all = append(all, Change{Leaf: Leaf{Account: a}, Delete: true})
	}
	if root := tree.Update(all); root != (Hash{}) || tree.Len() != 0 {
		t.Errorf("emptied tree: root %x, Len %d", root, tree.Len())
	}
	checkTree(t, tree, model{})
}

func TestUpdateScenes(t *testing.T) {
	a, b := neighbours()[0], neighbours()[1]
	set := func(a [32]byte, balance, nonce uint64) Change {
		return Change{Leaf: Leaf{Account: a, Balance: balance, Nonce: nonce}}
	}
	del := func(a [32]byte) Change { return Change{Leaf: Leaf{Account: a, Balance: 9, Nonce: 9}, Delete: true} }
	for _, c := range []struct {
		name    string
		batches [][]Change
		want    []Leaf
	}{
		{"nothing", [][]Change{nil, {}}, nil},
		{"delete from the empty tree", [][]Change{{del(a)}}, nil},
		{"two near accounts", [][]Change{{set(a, 1, 0), set(b, 2, 0)}}, []Leaf{{a, 1, 0}, {b, 2, 0}}},
		{"the near one deleted: its sibling rises to the root", [][]Change{{set(a, 1, 0), set(b, 2, 0)}, {del(b)}}, []Leaf{{a, 1, 0}}},
		{"replaced in one batch", [][]Change{{set(a, 1, 0)}, {del(a), set(b, 2, 0)}}, []Leaf{{b, 2, 0}}},
		{"last of a repeated account wins: set", [][]Change{{set(a, 1, 0), del(a), set(a, 7, 1)}}, []Leaf{{a, 7, 1}}},
		{"last of a repeated account wins: delete", [][]Change{{set(a, 1, 0), set(a, 7, 1), del(a)}}, nil},
		{"set to (0, 0) removes", [][]Change{{set(a, 1, 0), set(b, 2, 0)}, {set(b, 0, 0)}}, []Leaf{{a, 1, 0}}},
		{"balance 0 with a nonce stays", [][]Change{{set(a, 0, 1)}}, []Leaf{{a, 0, 1}}},
		{"largest values", [][]Change{{set(a, 1<<64-1, 1<<64-1)}}, []Leaf{{a, 1<<64 - 1, 1<<64 - 1}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree, m := New(), model{}
			for _, batch := range c.batches {
				tree.Update(batch)
			}
			for _, l := range c.want {
				m[l.Account] = l
			}
			checkTree(t, tree, m)
		})
	}
	if got := RootOf([]Leaf{{a, 1, 0}, {a, 2, 0}, {b, 0, 0}}); got != naive([]Leaf{{a, 2, 0}}, 0) {
		t.Errorf("RootOf with a repeated and a (0, 0) leaf: %x", got)
	}
}

// TestUnchangedCostsNothing: a batch that changes nothing touches no branch.
func TestUnchangedCostsNothing(t *testing.T) {
	tree := New()
	var set, same []Change
	for i := range uint64(100) {
		set = append(set, Change{Leaf: Leaf{Account: account(i), Balance: i + 1}})
		same = append(same, set[i], Change{Leaf: Leaf{Account: account(1000 + i)}, Delete: true})
	}
	root := tree.Update(set)
	for i := range tree.shards { // any rehash would meet these and change the root
		for j := range tree.shards[i].branches {
			tree.shards[i].branches[j].hash[0] ^= 1
		}
	}
	if got := tree.Update(same); got != root {
		t.Errorf("root %x, want %x", got, root)
	}
}

const benchAccounts = 1_000_000

// benchTree returns a tree of benchAccounts and the heap bytes it takes an
// account.
func benchTree() (*Tree, float64) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	tree := New()
	changes := make([]Change, 0, 100_000)
	for i := range uint64(benchAccounts) {
		changes = append(changes, Change{Leaf: Leaf{Account: account(i), Balance: i + 1}})
		if len(changes) == cap(changes) {
			tree.Update(changes)
			changes = changes[:0]
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	return tree, float64(after.HeapAlloc-before.HeapAlloc) / benchAccounts
}

// BenchmarkUpdate10kOf1M changes 10,000 random accounts of a million per
// operation.
func BenchmarkUpdate10kOf1M(b *testing.B) {
	tree, bytesEach := benchTree()
	r := rand.New(rand.NewPCG(5, 6))
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			changes := make([]Change, 10_000)
			for b.Loop() {
				b.StopTimer()
				for i := range changes {
					changes[i].Leaf = Leaf{Account: account(r.Uint64N(benchAccounts)), Balance: r.Uint64() | 1}
				}
				b.StartTimer()
				tree.update(changes, workers)
			}
			b.ReportMetric(float64(b.N)*10_000/b.Elapsed().Seconds(), "changes/s")
			b.ReportMetric(bytesEach, "B/account")
		})
	}
}

// BenchmarkRootOf100k: the root of a genesis-like list.
func BenchmarkRootOf100k(b *testing.B) {
	leaves := make([]Leaf, 100_000)
	for i := range leaves {
		leaves[i] = Leaf{Account: account(uint64(i)), Balance: 1}
	}
	for b.Loop() {
		RootOf(leaves)
	}
}

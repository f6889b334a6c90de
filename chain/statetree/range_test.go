package statetree

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// sorted returns the leaves of a model in ascending order of path.
func (m model) sorted() []Leaf {
	leaves := m.leaves()
	slices.SortFunc(leaves, func(a, b Leaf) int {
		x, y := PathOf(a.Account), PathOf(b.Account)
		return bytes.Compare(x[:], y[:])
	})
	return leaves
}

// between is the naive answer: the leaves with from ≤ path ≤ to.
func between(sorted []Leaf, from, to Hash) (out []Leaf) {
	for _, l := range sorted {
		if p := PathOf(l.Account); bytes.Compare(p[:], from[:]) >= 0 && bytes.Compare(p[:], to[:]) <= 0 {
			out = append(out, l)
		}
	}
	return out
}

func randomModel(r *rand.Rand, size int) model {
	near, m := neighbours(), model{}
	for len(m) < size {
		l := Leaf{Account: account(r.Uint64()), Balance: r.Uint64(), Nonce: r.Uint64N(9) + 1}
		if r.IntN(3) == 0 {
			l.Account = near[r.IntN(len(near))]
		}
		m[l.Account] = l
	}
	return m
}

var firstPath, lastPath = Hash{}, Hash(bytes.Repeat([]byte{255}, 32))

func before(p Hash) Hash {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i]--; p[i] != 255 {
			break
		}
	}
	return p
}

func after(p Hash) Hash { q, _ := NextPath(p); return q }

// bounds returns ranges that matter for a tree: all of it, single paths of
// members, of absent ones and of near ones, gaps between members without and
// with one or both of them, and random ones.
func bounds(r *rand.Rand, sorted []Leaf) [][2]Hash {
	out := [][2]Hash{{firstPath, lastPath}, {firstPath, firstPath}, {lastPath, lastPath}}
	add := func(a, b Hash) {
		if bytes.Compare(a[:], b[:]) <= 0 {
			out = append(out, [2]Hash{a, b})
		}
	}
	for range 2 {
		a, b := PathOf(account(r.Uint64())), PathOf(account(r.Uint64()))
		add(a, b)
		add(b, a)
		add(a, a)
	}
	for _, a := range neighbours()[:2] {
		add(PathOf(a), PathOf(a))
	}
	for range min(len(sorted), 4) {
		i := r.IntN(len(sorted))
		p := PathOf(sorted[i].Account)
		add(p, p)
		add(firstPath, before(p))
		add(after(p), lastPath)
		if i+1 < len(sorted) {
			q := PathOf(sorted[min(len(sorted)-1, i+1+r.IntN(3))].Account)
			add(p, q)
			add(after(p), before(q))
			add(after(p), q)
			add(p, before(q))
		}
	}
	return out
}

// TestRangesOfRandomTrees: for trees of many sizes, near paths among them, and
// every kind of range the answer is the naive one, survives its encoding,
// verifies, and no altered answer does.
func TestRangesOfRandomTrees(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for _, size := range []int{0, 1, 2, 3, 4, 7, 30, 90} {
		m := randomModel(r, size)
		tree, sorted := treeOf(m.leaves()...), m.sorted()
		for _, b := range bounds(r, sorted) {
			from, to := b[0], b[1]
			want := between(sorted, from, to)
			for _, most := range []int{size + 1, 1, 3} {
				enc := AppendRange(nil, first(tree.Range(from, to, most)), second(tree.Range(from, to, most)))
				leaves, p, err := DecodeRange(enc)
				if err != nil {
					t.Fatalf("size %d: own answer does not decode: %v", size, err)
				}
				if len(enc) > MaxRangeProofSize+len(leaves)*LeafSize {
					t.Fatalf("size %d: %d bytes", size, len(enc))
				}
				if !slices.Equal(leaves, want[:min(len(want), most)]) || p.More != (len(want) > most) {
					t.Fatalf("size %d, most %d: %d leaves, more %v; in the range are %d", size, most, len(leaves), p.More, len(want))
				}
				covered, err := VerifyRange(tree.Root(), from, to, leaves, p)
				end := to
				if p.More {
					end = PathOf(leaves[most-1].Account)
				}
				if err != nil || covered != end {
					t.Fatalf("size %d, %x to %x, most %d: covered to %x: %v", size, from, to, most, covered, err)
				}
				for name, a := range rangeCorruptions(r, from, to, leaves, p) {
					if _, err := VerifyRange(tree.Root(), a.from, a.to, a.leaves, a.p); (err == nil) != a.true(tree) {
						t.Fatalf("size %d, %x to %x, most %d, %s: %v, true %v", size, from, to, most, name, err, a.true(tree))
					}
				}
			}
		}
	}
}

func first(l []Leaf, _ RangeProof) []Leaf      { return l }
func second(_ []Leaf, p RangeProof) RangeProof { return p }

// answer is a question and an answer to it.
type answer struct {
	from, to Hash
	leaves   []Leaf
	p        RangeProof
}

// true reports whether it is the one answer that a tree gives to the question
// for what the answer covers: VerifyRange must accept this and nothing else.
func (a *answer) true(t *Tree) bool {
	to := a.to
	if a.p.More {
		if len(a.leaves) == 0 {
			return false
		}
		if to = PathOf(a.leaves[len(a.leaves)-1].Account); bytes.Compare(to[:], a.to[:]) >= 0 {
			return false
		}
	}
	if bytes.Compare(a.from[:], to[:]) > 0 {
		return false
	}
	leaves, p := t.Range(a.from, to, MaxRangeLeaves)
	return slices.Equal(leaves, a.leaves) && slices.Equal(p.Nodes, a.p.Nodes)
}

// rangeCorruptions returns answers that differ from the one given in one way.
// With bounds shifted some are still true.
func rangeCorruptions(r *rand.Rand, from, to Hash, leaves []Leaf, p RangeProof) map[string]answer {
	out := map[string]answer{}
	edit := func(name string, f func(*answer)) {
		a := answer{from, to, slices.Clone(leaves), RangeProof{p.More, slices.Clone(p.Nodes)}}
		f(&a)
		out[fmt.Sprintf("%s (%d)", name, len(out))] = a
	}
	some := func(n int) []int { // all of few, else both ends and a few between
		if n <= 4 {
			return slices.Collect(func(yield func(int) bool) {
				for i := 0; i < n && yield(i); i++ {
				}
			})
		}
		return []int{0, r.IntN(n), r.IntN(n), n - 1}
	}
	for _, i := range some(len(leaves)) {
		edit("a leaf left out", func(a *answer) { a.leaves = slices.Delete(a.leaves, i, i+1) })
		edit("a leaf doubled", func(a *answer) { a.leaves = slices.Insert(a.leaves, i, a.leaves[i]) })
		edit("a balance changed", func(a *answer) { a.leaves[i].Balance++ })
		edit("a nonce changed", func(a *answer) { a.leaves[i].Nonce-- })
		edit("an account changed", func(a *answer) { a.leaves[i].Account[31] ^= 1 })
		edit("a leaf (0, 0)", func(a *answer) { a.leaves[i].Balance, a.leaves[i].Nonce = 0, 0 })
		edit("two leaves swapped", func(a *answer) {
			j := (i + 1) % len(a.leaves)
			if a.leaves[i], a.leaves[j] = a.leaves[j], a.leaves[i]; i == j {
				a.leaves = nil
			}
		})
		edit("leaves after one left out", func(a *answer) { a.leaves = a.leaves[:i] })
		edit("leaves after one left out, as if cut short", func(a *answer) { a.leaves, a.p.More = a.leaves[:i], true })
		edit("a range that ends below a leaf", func(a *answer) { a.to = before(PathOf(a.leaves[i].Account)) })
		edit("a range that begins above a leaf", func(a *answer) { a.from = after(PathOf(a.leaves[i].Account)) })
	}
	for range 3 {
		edit("a made-up leaf", func(a *answer) {
			l := Leaf{Account: account(r.Uint64()), Balance: 1}
			p := PathOf(l.Account)
			i, _ := slices.BinarySearchFunc(a.leaves, p, func(l Leaf, p Hash) int { q := PathOf(l.Account); return bytes.Compare(q[:], p[:]) })
			a.leaves = slices.Insert(a.leaves, i, l)
		})
		edit("random bounds", func(a *answer) { a.from, a.to = PathOf(account(r.Uint64())), PathOf(account(r.Uint64())) })
	}
	edit("more turned", func(a *answer) { a.p.More = !a.p.More })
	edit("from one lower", func(a *answer) { a.from = before(a.from) })
	edit("from one higher", func(a *answer) { a.from = after(a.from) })
	edit("to one lower", func(a *answer) { a.to = before(a.to) })
	edit("to one higher", func(a *answer) { a.to = after(a.to) })
	edit("from the first path", func(a *answer) { a.from = firstPath })
	edit("to the last path", func(a *answer) { a.to = lastPath })
	edit("no nodes", func(a *answer) { a.p.Nodes = nil })
	edit("a node more", func(a *answer) { a.p.Nodes = append(a.p.Nodes, RangeNode{}) })
	for _, i := range some(len(p.Nodes)) {
		edit("a node left out", func(a *answer) { a.p.Nodes = slices.Delete(a.p.Nodes, i, i+1) })
		edit("a node doubled", func(a *answer) { a.p.Nodes = slices.Insert(a.p.Nodes, i, a.p.Nodes[i]) })
		edit("a node of the next kind", func(a *answer) { a.p.Nodes[i].Kind = (a.p.Nodes[i].Kind + 1) % 4 })
		edit("a node of another kind", func(a *answer) { a.p.Nodes[i].Kind = (a.p.Nodes[i].Kind + 2) % 4 })
		edit("a node of an unknown kind", func(a *answer) { a.p.Nodes[i].Kind = 4 })
		edit("a node opened", func(a *answer) {
			a.p.Nodes = slices.Insert(a.p.Nodes, i, RangeNode{Kind: NodeBranch})
			a.p.Nodes = slices.Insert(a.p.Nodes, i+2, RangeNode{})
		})
		switch p.Nodes[i].Kind {
		case NodeHash:
			edit("a hash changed", func(a *answer) { a.p.Nodes[i].Hash[7] ^= 1 })
			edit("a hash emptied", func(a *answer) { a.p.Nodes[i].Hash = Hash{} })
		case NodeOther:
			edit("the other leaf changed", func(a *answer) { a.p.Nodes[i].Other.Balance ^= 1 })
			edit("the other leaf of another account", func(a *answer) { a.p.Nodes[i].Other.Account = account(r.Uint64()) })
			edit("the other leaf left out", func(a *answer) { a.p.Nodes[i] = RangeNode{} })
			edit("the other leaf given", func(a *answer) { a.leaves = append(a.leaves, a.p.Nodes[i].Other); a.p.Nodes[i] = RangeNode{} })
		}
	}
	return out
}

// TestRangePages: answers cut short, each from where the one before ended, are
// together all the leaves, whatever the size of a page.
func TestRangePages(t *testing.T) {
	m := randomModel(rand.New(rand.NewPCG(11, 12)), 500)
	tree, want := treeOf(m.leaves()...), m.sorted()
	for _, most := range []int{-1, 0, 1, 2, 7, 499, 500, MaxRangeLeaves + 1} {
		var got []Leaf
		pages := 0
		for from, going := firstPath, true; going; pages++ {
			leaves, p := tree.Range(from, lastPath, most)
			covered, err := VerifyRange(tree.Root(), from, lastPath, leaves, p)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, leaves...)
			from, going = NextPath(covered)
		}
		if !slices.Equal(got, want) || pages != (len(want)+max(most, 1)-1)/max(most, 1) {
			t.Fatalf("pages of %d: %d leaves in %d pages, want %d", most, len(got), pages, len(want))
		}
	}
}

// TestRangeScenes: questions and answers that the random ones may not meet.
func TestRangeScenes(t *testing.T) {
	a, b := neighbours()[0], neighbours()[1]
	if pa, pb := PathOf(a), PathOf(b); bytes.Compare(pa[:], pb[:]) > 0 {
		a, b = b, a
	}
	la, lb := Leaf{a, 5, 1}, Leaf{b, 6, 0}
	two, one, none := treeOf(la, lb), treeOf(la), New()
	all := RangeProof{Nodes: []RangeNode{{}}}
	pa := PathOf(a)
	tooMany := make([]Leaf, MaxRangeLeaves+1)
	alone := []RangeNode{{Kind: NodeOther, Other: la}}
	for _, c := range []struct {
		name     string
		tree     *Tree
		from, to Hash
		leaves   []Leaf
		p        RangeProof
		want     error
	}{
		{"all of the empty tree", none, firstPath, lastPath, nil, all, nil},
		{"a part of the empty tree", none, pa, pa, nil, all, nil},
		{"the empty tree, opened", none, pa, pa, nil, RangeProof{Nodes: []RangeNode{{Kind: NodeBranch}, {}, {}}}, ErrRangeForm},
		{"all of one", one, firstPath, lastPath, []Leaf{la}, all, nil},
		{"the path of one", one, pa, pa, []Leaf{la}, all, nil},
		{"beside one", one, after(pa), lastPath, nil, RangeProof{Nodes: alone}, nil},
		{"beside one, hidden", one, after(pa), lastPath, nil, all, ErrRangeRoot},
		{"beside one, as a hash", one, after(pa), lastPath, nil, RangeProof{Nodes: []RangeNode{{Kind: NodeHash, Hash: la.Hash()}}}, ErrRangeForm},
		{"one as another though it is in the range", one, firstPath, lastPath, nil, RangeProof{Nodes: alone}, ErrRangeForm},
		{"one as another though it is in a part", one, pa, lastPath, nil, RangeProof{Nodes: alone}, ErrRangeForm},
		{"one opened", one, pa, pa, []Leaf{la}, RangeProof{Nodes: []RangeNode{{Kind: NodeBranch}, {}, {}}}, ErrRangeForm},
		{"all of two", two, firstPath, lastPath, []Leaf{la, lb}, all, nil},
		{"all of two, opened", two, firstPath, lastPath, []Leaf{la, lb}, RangeProof{Nodes: []RangeNode{{Kind: NodeBranch}, {}, {}}}, ErrRangeForm},
		{"two in a part, not opened", two, pa, lastPath, []Leaf{la, lb}, all, ErrRangeForm},
		{"two in the wrong order", two, firstPath, lastPath, []Leaf{lb, la}, all, ErrRangeForm},
		{"cut short at the end", two, firstPath, PathOf(b), []Leaf{la, lb}, RangeProof{More: true, Nodes: all.Nodes}, ErrRangeForm},
		{"cut short without a leaf", two, firstPath, lastPath, nil, RangeProof{More: true, Nodes: all.Nodes}, ErrRangeForm},
		{"a leaf outside", two, firstPath, before(pa), []Leaf{la}, all, ErrRangeForm},
		{"a (0, 0) leaf", two, firstPath, lastPath, []Leaf{{Account: a}}, all, ErrRangeForm},
		{"from above to", two, lastPath, firstPath, nil, all, ErrRangeAsked},
		{"too many leaves", two, firstPath, lastPath, tooMany, all, ErrRangeForm},
		{"another root", one, firstPath, lastPath, []Leaf{la, lb}, all, ErrRangeRoot},
	} {
		if _, err := VerifyRange(c.tree.Root(), c.from, c.to, c.leaves, c.p); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if leaves, p := two.Range(lastPath, firstPath, 1); leaves != nil || p.Nodes != nil {
		t.Errorf("from above to: %v %v", leaves, p)
	}
	if _, ok := NextPath(lastPath); ok {
		t.Error("there is a path after the last")
	}
}

// TestRangeNonCanonical: shapes whose hashes lead to the root given, which no
// tree has, are refused for their form.
func TestRangeNonCanonical(t *testing.T) {
	la := Leaf{neighbours()[0], 5, 1}
	pa, path := PathOf(la.Account), pathOf(&la.Account)
	side := func(depth int, below, beside Hash) Hash {
		if path.bit(depth) == 1 {
			below, beside = beside, below
		}
		return branchHash(&below, &beside)
	}
	nodes := func(below, beside RangeNode) []RangeNode {
		if path.bit(0) == 1 {
			below, beside = beside, below
		}
		return []RangeNode{{Kind: NodeBranch}, below, beside}
	}
	hash := RangeNode{Kind: NodeHash, Hash: Hash{1}}
	for _, c := range []struct {
		name     string
		root     Hash
		from, to Hash
		leaves   []Leaf
		nodes    []RangeNode
		ok       bool
	}{
		{"a member beside a hash", side(0, la.Hash(), Hash{1}), pa, pa, []Leaf{la}, nodes(RangeNode{}, hash), true},
		{"a member not collapsed", side(0, la.Hash(), Hash{}), pa, pa, []Leaf{la}, nodes(RangeNode{}, RangeNode{}), false},
		{"another beside a hash", side(0, la.Hash(), Hash{1}), after(pa), after(pa), nil, nodes(RangeNode{Kind: NodeOther, Other: la}, hash), true},
		{"another not collapsed", side(0, la.Hash(), Hash{}), after(pa), after(pa), nil, nodes(RangeNode{Kind: NodeOther, Other: la}, RangeNode{}), false},
		{"an empty branch", branchHash(&Hash{}, &Hash{}), pa, pa, nil, nodes(RangeNode{}, RangeNode{}), false},
		{"an empty hash", side(0, la.Hash(), Hash{}), pa, pa, []Leaf{la}, nodes(RangeNode{}, RangeNode{Kind: NodeHash}), false},
		{"nothing beside a hash", side(0, Hash{}, Hash{1}), pa, pa, nil, nodes(RangeNode{}, hash), true},
	} {
		if _, err := VerifyRange(c.root, c.from, c.to, c.leaves, RangeProof{Nodes: c.nodes}); (err == nil) != c.ok || !c.ok && !errors.Is(err, ErrRangeForm) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestDeepRange: a proof of the greatest depth, made by hand, is accepted up to
// 256 levels and no further, and fits the sizes promised.
func TestDeepRange(t *testing.T) {
	la := Leaf{account(1), 5, 1}
	pa := pathOf(&la.Account)
	for _, depth := range []int{255, 256, 257} {
		end, before, behind := la.Hash(), []RangeNode{}, []RangeNode{}
		for d := depth - 1; d >= 0; d-- {
			beside := Hash{1, byte(d)}
			if d < MaxDepth && pa.bit(d) == 1 {
				end = branchHash(&beside, &end)
			} else {
				end = branchHash(&end, &beside)
			}
		}
		for d := range depth {
			before = append(before, RangeNode{Kind: NodeBranch})
			beside := RangeNode{Kind: NodeHash, Hash: Hash{1, byte(d)}}
			if d < MaxDepth && pa.bit(d) == 1 {
				before = append(before, beside)
			} else {
				behind = append([]RangeNode{beside}, behind...)
			}
		}
		p := RangeProof{Nodes: slices.Concat(before, []RangeNode{{}}, behind)}
		_, err := VerifyRange(end, pa.hash(), pa.hash(), []Leaf{la}, p)
		if (err == nil) != (depth <= MaxDepth) {
			t.Errorf("depth %d: %v", depth, err)
		}
		if size := len(AppendRange(nil, nil, p)); size > MaxRangeProofSize {
			t.Errorf("depth %d: %d bytes", depth, size)
		}
	}
}

// TestDecodeRange: one encoding and its corruptions.
func TestDecodeRange(t *testing.T) {
	l := Leaf{account(3), 4, 5}
	good := AppendRange(nil, []Leaf{l, l}, RangeProof{More: true, Nodes: []RangeNode{{Kind: NodeBranch}, {Kind: NodeOther, Other: l}, {Kind: NodeHash, Hash: Hash{9}}}})
	if len(good) != 5+2*48+1+49+33 {
		t.Fatalf("%d bytes", len(good))
	}
	edit := func(f func([]byte) []byte) []byte { return f(slices.Clone(good)) }
	set := func(at int, v ...byte) []byte { return edit(func(b []byte) []byte { copy(b[at:], v); return b }) }
	zero := make([]byte, 32)
	for _, c := range []struct {
		name string
		in   []byte
		ok   bool
	}{
		{"good", good, true},
		{"the empty tree", []byte{0, 0, 0, 0, 0, 0}, true},
		{"nothing", nil, false},
		{"half a header", good[:4], false},
		{"no node", []byte{0, 0, 0, 0, 0}, false},
		{"a byte short", good[:len(good)-1], false},
		{"a byte long", append(slices.Clone(good), 0), false},
		{"more is 2", set(0, 2), false},
		{"cut short without a leaf", []byte{1, 0, 0, 0, 0, 0}, false},
		{"more leaves than bytes", set(1, 100), false},
		{"65,537 leaves said", set(1, 1, 0, 1), false},
		{"2^32-1 leaves said", set(1, 255, 255, 255, 255), false},
		{"a leaf (0, 0)", set(5+32, zero[:16]...), false},
		{"the other leaf (0, 0)", set(5+96+2+32, zero[:16]...), false},
		{"an empty hash", set(len(good)-32, zero...), false},
		{"an unknown node", set(5+96, 4), false},
		{"branches without end", append([]byte{0, 0, 0, 0, 0}, bytes.Repeat([]byte{2}, 5000)...), false},
		{"1,025 nodes", slices.Concat([]byte{0, 0, 0, 0, 0}, bytes.Repeat([]byte{2}, 512), make([]byte, 513)), false},
		{"1,023 nodes", slices.Concat([]byte{0, 0, 0, 0, 0}, bytes.Repeat([]byte{2}, 511), make([]byte, 512)), true},
	} {
		leaves, p, err := DecodeRange(c.in)
		if (err == nil) != c.ok || (err != nil && !errors.Is(err, ErrRangeForm)) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err == nil && !bytes.Equal(AppendRange(nil, leaves, p), c.in) {
			t.Errorf("%s: encodes to other bytes", c.name)
		}
	}
	if b := AppendRange([]byte("x"), nil, RangeProof{Nodes: []RangeNode{{}}}); string(b) != "x\x00\x00\x00\x00\x00\x00" {
		t.Errorf("AppendRange does not append: %x", b)
	}
}

func FuzzDecodeRange(f *testing.F) {
	tree := fuzzTree()
	f.Add([]byte{})
	for i := range uint64(20) {
		f.Add(AppendRange(nil, first(tree.Range(PathOf(account(i)), lastPath, 5)), second(tree.Range(PathOf(account(i)), lastPath, 5))))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		leaves, p, err := DecodeRange(b)
		if err != nil {
			if !errors.Is(err, ErrRangeForm) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if !bytes.Equal(AppendRange(nil, leaves, p), b) {
			t.Fatalf("decodes but encodes to other bytes: %x", b)
		}
	})
}

// FuzzVerifyRange: whatever the bytes and the bounds, the only answer accepted
// is the one Range gives for what it covers.
func FuzzVerifyRange(f *testing.F) {
	tree := fuzzTree()
	for i := range uint64(20) {
		from, to := PathOf(account(i)), lastPath
		f.Add(from[:], to[:], AppendRange(nil, first(tree.Range(from, to, 5)), second(tree.Range(from, to, 5))))
	}
	f.Fuzz(func(t *testing.T, from, to, b []byte) {
		leaves, p, err := DecodeRange(b)
		if err != nil {
			return
		}
		a := answer{leaves: leaves, p: p}
		copy(a.from[:], from)
		copy(a.to[:], to)
		if _, err := VerifyRange(tree.Root(), a.from, a.to, a.leaves, a.p); (err == nil) != a.true(tree) {
			t.Fatalf("accepted %v (%v), true %v", err == nil, err, a.true(tree))
		}
	})
}

package statetree

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"slices"
	"strconv"
	"testing"
)

var update = flag.Bool("update", false, "rewrite docs/vectors/ranges.json")

const rangeVectors = "../../docs/vectors/ranges.json"

type obj = map[string]any // keys are written in alphabetical order

// TestRangeVectors compares docs/vectors/ranges.json byte for byte with what
// the package makes; go test ./chain/statetree -run RangeVectors -update writes it.
func TestRangeVectors(t *testing.T) {
	a, b := neighbours()[0], neighbours()[1]
	var many []Leaf
	for i := range uint64(12) {
		many = append(many, Leaf{account(i), i << 40, i + 1})
	}
	hx := hex.EncodeToString
	var trees, refused []obj
	for _, c := range []struct {
		name   string
		leaves []Leaf
	}{
		{"no account", nil},
		{"one account", []Leaf{{a, 1, 0}}},
		{"two with near paths", []Leaf{{a, 1<<63 - 1, 1<<64 - 1}, {b, 0, 1}}},
		{"twelve, and two with near paths", append(slices.Clone(many), Leaf{a, 5, 1}, Leaf{b, 6, 0})},
	} {
		m := model{}
		for _, l := range c.leaves {
			m[l.Account] = l
		}
		tree, sorted := treeOf(c.leaves...), m.sorted()
		root := tree.Root()
		var ranges []obj
		ask := func(from, to Hash, most int) {
			leaves, p := tree.Range(from, to, most)
			covered, err := VerifyRange(root, from, to, leaves, p)
			if err != nil {
				t.Fatal(err)
			}
			ranges = append(ranges, obj{"from": hx(from[:]), "to": hx(to[:]), "covered": hx(covered[:]), "answer": hx(AppendRange(nil, leaves, p))})
		}
		ask(firstPath, lastPath, 100)
		ask(firstPath, lastPath, 3)
		ask(firstPath, firstPath, 1)
		ask(PathOf(a), PathOf(a), 1)
		ask(after(PathOf(a)), after(PathOf(a)), 1)
		ask(Hash{0x40}, Hash{0xa0}, 100)
		if len(sorted) > 9 {
			p, q := PathOf(sorted[3].Account), PathOf(sorted[8].Account)
			ask(p, q, 100)
			ask(p, q, 4)
			ask(after(p), before(PathOf(sorted[4].Account)), 4)
			refused = refusedRanges(t, tree, p, q)
		}
		list := []obj{}
		for _, l := range c.leaves {
			list = append(list, obj{"account": hx(l.Account[:]), "balance": strconv.FormatUint(l.Balance, 10), "nonce": strconv.FormatUint(l.Nonce, 10)})
		}
		trees = append(trees, obj{"name": c.name, "leaves": list, "root": hx(root[:]), "ranges": ranges})
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetIndent("", " ")
	if err := enc.Encode(obj{
		"about": "Answers about ranges of paths, and where what they cover ends; then answers that must be refused.",
		"trees": trees, "refused": refused,
	}); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(rangeVectors, buf.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(rangeVectors)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, buf.Bytes()) {
		t.Errorf("%s differs from what the package makes", rangeVectors)
	}
}

// refusedRanges alters the answer about from … to, which has six leaves; both
// bounds are paths of leaves. Where roots are given they are made to fit the altered answer, so that
// only its form is wrong.
func refusedRanges(t *testing.T, tree *Tree, from, to Hash) (out []obj) {
	hx := hex.EncodeToString
	leaves, p := tree.Range(from, to, 100)
	put := func(name string, root, from, to Hash, answer []byte) {
		leaves, p, err := DecodeRange(answer)
		if err == nil {
			_, err = VerifyRange(root, from, to, leaves, p)
		}
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		out = append(out, obj{"name": name, "root": hx(root[:]), "from": hx(from[:]), "to": hx(to[:]), "answer": hx(answer)})
	}
	edit := func(name string, f func(*answer)) {
		a := answer{from, to, slices.Clone(leaves), RangeProof{p.More, slices.Clone(p.Nodes)}}
		f(&a)
		put(name, tree.Root(), a.from, a.to, AppendRange(nil, a.leaves, a.p))
	}
	edit("a leaf left out", func(a *answer) { a.leaves = slices.Delete(a.leaves, 2, 3) })
	edit("the last leaf left out", func(a *answer) { a.leaves = a.leaves[:5] })
	edit("the last leaf left out, as if cut short", func(a *answer) { a.leaves, a.p.More = a.leaves[:5], true })
	edit("a leaf added", func(a *answer) {
		l := Leaf{Account: account(1 << 20), Balance: 1}
		for i := uint64(1 << 20); len(between([]Leaf{l}, from, to)) == 0; i++ {
			l.Account = account(i)
		}
		m := model{l.Account: l}
		for _, l := range leaves {
			m[l.Account] = l
		}
		a.leaves = m.sorted()
	})
	edit("two leaves swapped", func(a *answer) { a.leaves[1], a.leaves[2] = a.leaves[2], a.leaves[1] })
	edit("a leaf twice", func(a *answer) { a.leaves = slices.Insert(a.leaves, 1, a.leaves[1]) })
	edit("another balance", func(a *answer) { a.leaves[0].Balance++ })
	edit("another nonce", func(a *answer) { a.leaves[5].Nonce++ })
	edit("a leaf (0, 0)", func(a *answer) { a.leaves[5].Balance, a.leaves[5].Nonce = 0, 0 })
	edit("the range begins above the first leaf", func(a *answer) { a.from = after(from) })
	edit("the range ends below the last leaf", func(a *answer) { a.to = before(to) })
	edit("a wider range", func(a *answer) { a.from, a.to = firstPath, lastPath })
	edit("cut short at the range's end", func(a *answer) { a.p.More = true })
	edit("a node left out", func(a *answer) { a.p.Nodes = a.p.Nodes[1:] })
	edit("a node too many", func(a *answer) { a.p.Nodes = append(a.p.Nodes, RangeNode{}) })
	edit("an unknown node", func(a *answer) { a.p.Nodes[0].Kind = 4 })
	edit("a subtree inside the range as a hash", func(a *answer) {
		// The last node is the subtree right of the range; before it stands one inside or on its bound.
		i := slices.IndexFunc(a.p.Nodes, func(n RangeNode) bool { return n.Kind == NodeGiven })
		a.p.Nodes[i] = RangeNode{Kind: NodeHash, Hash: Hash{1}}
	})
	enc := AppendRange(nil, leaves, p)
	put("a byte short", tree.Root(), from, to, enc[:len(enc)-1])
	put("more is 2", tree.Root(), from, to, append([]byte{2}, enc[1:]...))
	put("65,537 leaves said", tree.Root(), from, to, slices.Concat([]byte{0, 1, 0, 1, 0}, enc[5:]))
	put("cut short without a leaf", Hash{}, from, to, []byte{1, 0, 0, 0, 0, 0})

	one := Leaf{account(1), 5, 1}
	pa, path := PathOf(one.Account), pathOf(&one.Account)
	opened := func(given, beside RangeNode, hash, other Hash) ([]RangeNode, Hash) {
		if path.bit(0) == 1 {
			return []RangeNode{{Kind: NodeBranch}, beside, given}, branchHash(&other, &hash)
		}
		return []RangeNode{{Kind: NodeBranch}, given, beside}, branchHash(&hash, &other)
	}
	nodes, root := opened(RangeNode{}, RangeNode{}, one.Hash(), Hash{})
	put("a branch above one account", root, pa, pa, AppendRange(nil, []Leaf{one}, RangeProof{Nodes: nodes}))
	nodes, root = opened(RangeNode{}, RangeNode{Kind: NodeHash}, one.Hash(), Hash{})
	put("an empty subtree as a hash", root, pa, pa, AppendRange(nil, []Leaf{one}, RangeProof{Nodes: nodes}))
	nodes, root = opened(RangeNode{Kind: NodeOther, Other: one}, RangeNode{}, one.Hash(), Hash{})
	put("a branch above one other account", root, after(pa), after(pa), AppendRange(nil, nil, RangeProof{Nodes: nodes}))
	put("one account of the range as another", one.Hash(), pa, pa, AppendRange(nil, nil, RangeProof{Nodes: []RangeNode{{Kind: NodeOther, Other: one}}}))
	put("another account as a hash", one.Hash(), after(pa), after(pa), AppendRange(nil, nil, RangeProof{Nodes: []RangeNode{{Kind: NodeHash, Hash: one.Hash()}}}))
	put("the whole range opened", tree.Root(), firstPath, lastPath, AppendRange(nil, first(tree.Range(firstPath, lastPath, 100)), RangeProof{Nodes: []RangeNode{{Kind: NodeBranch}, {}, {}}}))
	return out
}

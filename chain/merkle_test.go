package chain_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"testing"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/chain/statetree"
)

// rfc6962Inputs and roots are Certificate Transparency's reference tree: the root over the first i+1 inputs is roots[i]
// (certificate-transparency reference implementation, merkle_tree_test; the same in transparency-dev/merkle testonly).
var rfc6962Inputs = []string{
	"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
}

var rfc6962Roots = []string{
	"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
	"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
	"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
	"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
	"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
	"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
	"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
	"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestMTHReference(t *testing.T) {
	var leaves []chain.LeafHash
	if got, want := chain.MTH(nil), chain.Hash(sha256.Sum256(nil)); got != want {
		t.Errorf("MTH({}) = %s, want %s", got, want)
	}
	for i, in := range rfc6962Inputs {
		leaves = append(leaves, chain.LeafOf(unhex(t, in)))
		if got := chain.MTH(leaves).String(); got != rfc6962Roots[i] {
			t.Errorf("%d leaves: %s, want %s", i+1, got, rfc6962Roots[i])
		}
	}
}

// TestMTHAgainstCompactRange: MTH and the peaks of a chain's history against transparency-dev's compact ranges and the
// recursive definition, for every size to 300.
func TestMTHAgainstCompactRange(t *testing.T) {
	factory := compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	r := factory.NewEmptyRange(0)
	var items [][]byte
	var leaves []chain.LeafHash
	for n := 1; n <= 300; n++ {
		item := fmt.Appendf(nil, "leaf %d", n)
		items, leaves = append(items, item), append(leaves, chain.LeafOf(item))
		if err := r.Append(rfc6962.DefaultHasher.HashLeaf(item), nil); err != nil {
			t.Fatal(err)
		}
		want, err := r.GetRootHash(nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := chain.MTH(leaves); got != chain.Hash(want) || got != mth(items) {
			t.Fatalf("%d leaves: %s, compact range %x, definition %s", n, got, want, mth(items))
		}
	}
}

func historyEntry(s *chain.State) []byte {
	w := chain.WorkBytes(&s.Work)
	return append(slices.Clone(s.ID[:]), w[:]...)
}

// TestHistory: peaks and history roots of a chain against compact ranges, whose hashes are the same in the same order.
func TestHistory(t *testing.T) {
	factory := compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	r := factory.NewEmptyRange(0)
	gen := chaintest.New(chaintest.Genesis(nil))
	gen.Chain("b", 70, nil)
	var entries [][]byte
	for h := range 71 {
		b := gen.Get("genesis")
		if h > 0 {
			b = gen.Get(fmt.Sprintf("b%d", h))
			if b.Header.HistoryRoot != mth(entries) {
				t.Fatalf("height %d: history root %s, want %s", h, b.Header.HistoryRoot, mth(entries))
			}
		}
		entries = append(entries, historyEntry(&b.State))
		if err := r.Append(rfc6962.DefaultHasher.HashLeaf(entries[h]), nil); err != nil {
			t.Fatal(err)
		}
		want := r.Hashes()
		if len(b.State.Peaks) != len(want) {
			t.Fatalf("height %d: %d peaks, want %d", h, len(b.State.Peaks), len(want))
		}
		for i := range want {
			if b.State.Peaks[i] != chain.Hash(want[i]) {
				t.Fatalf("height %d: peak %d is %s, want %x", h, i, b.State.Peaks[i], want[i])
			}
		}
	}
}

// TestStateKeepsItsPeaks: making two children of one state doesn't write into the state's own peaks.
func TestStateKeepsItsPeaks(t *testing.T) {
	gen := chaintest.New(chaintest.Genesis(nil))
	gen.Chain("b", 30, nil)
	for h := 1; h <= 30; h++ {
		parent := gen.Get(fmt.Sprintf("b%d", h)).State
		before := slices.Clone(parent.Peaks)
		for i := range 2 {
			child := gen.G.NewHeader(&parent, alice.Account, uint64(i))
			s := chain.AssumeState(&parent, &child)
			grandchild := gen.G.NewHeader(&s, alice.Account, 0)
			chain.AssumeState(&s, &grandchild)
		}
		if !slices.Equal(parent.Peaks, before) {
			t.Fatalf("height %d: peaks changed", h)
		}
	}
}

// inclusion and consistency are RFC 6962 §2.1.1 and §2.1.2 by their recursive definitions.
func inclusion(i int, items [][]byte) [][]byte {
	if len(items) <= 1 {
		return nil
	}
	k := split(len(items))
	if i < k {
		other := mth(items[k:])
		return append(inclusion(i, items[:k]), other[:])
	}
	other := mth(items[:k])
	return append(inclusion(i-k, items[k:]), other[:])
}

func consistency(m int, items [][]byte, whole bool) [][]byte {
	if m == len(items) {
		if whole {
			return nil
		}
		root := mth(items)
		return [][]byte{root[:]}
	}
	k := split(len(items))
	if m <= k {
		other := mth(items[k:])
		return append(consistency(m, items[:k], whole), other[:])
	}
	other := mth(items[:k])
	return append(consistency(m-k, items[k:], false), other[:])
}

func TestVectorsMerkle(t *testing.T) {
	hasher := rfc6962.DefaultHasher
	var txRoots []any
	var reference [][]byte
	txRoots = append(txRoots, obj{"name": "nothing", "encodings": []any{}, "root": chain.MTH(nil)})
	for i, in := range rfc6962Inputs {
		reference = append(reference, unhex(t, in))
		txRoots = append(txRoots, obj{"name": fmt.Sprintf("RFC 6962 reference tree of %d", i+1), "encodings": hexes(reference), "root": rfc6962Roots[i]})
	}
	gen := scene()
	for _, name := range []string{"b2", "b3", "b4"} {
		b := gen.Get(name)
		raws, err := chain.SplitBody(b.Body)
		if err != nil {
			t.Fatal(err)
		}
		txRoots = append(txRoots, obj{"name": "block " + name[1:] + " of chain.json", "encodings": hexes(raws), "root": b.Header.TxRoot})
	}

	var items [][]byte
	var entries, inclusions, consistencies []any
	roots := []any{chain.EmptyRoot}
	for _, b := range path(gen) {
		items = append(items, historyEntry(&b.State))
		entries = append(entries, obj{"id": b.ID(), "work": b.State.Work.Dec(), "entry": hx(items[len(items)-1])})
		roots = append(roots, b.State.NextHistoryRoot())
	}
	for _, c := range [][2]int{{0, 1}, {0, 2}, {1, 2}, {0, 3}, {2, 3}, {3, 7}, {6, 7}, {0, 8}, {7, 8}, {5, 11}, {0, 17}, {15, 17}, {16, 17}} {
		p := inclusion(c[0], items[:c[1]])
		root := mth(items[:c[1]])
		if err := proof.VerifyInclusion(hasher, uint64(c[0]), uint64(c[1]), hasher.HashLeaf(items[c[0]]), p, root[:]); err != nil {
			t.Fatal(err)
		}
		inclusions = append(inclusions, obj{"index": c[0], "size": c[1], "path": hexes(p)})
	}
	for _, c := range [][2]int{{1, 1}, {1, 2}, {1, 3}, {2, 3}, {3, 7}, {4, 7}, {6, 8}, {7, 8}, {8, 8}, {8, 17}, {11, 17}, {16, 17}} {
		p := consistency(c[0], items[:c[1]], true)
		old, now := mth(items[:c[0]]), mth(items[:c[1]])
		if err := proof.VerifyConsistency(hasher, uint64(c[0]), uint64(c[1]), p, old[:], now[:]); err != nil {
			t.Fatal(err)
		}
		consistencies = append(consistencies, obj{"old": c[0], "new": c[1], "path": hexes(p)})
	}
	vectorFile(t, "merkle", obj{
		"about":    "tx_root over transaction encodings (of the reference tree: its inputs). history: entries of the chain of chain.json, roots[n] over the first n of them, inclusion and consistency proofs.",
		"source":   "reference tree: Certificate Transparency's reference implementation, as in transparency-dev/merkle",
		"tx_roots": txRoots,
		"history":  obj{"entries": entries, "roots": roots, "inclusion": inclusions, "consistency": consistencies},
	})
}

// pathBits is how many path bits two accounts share.
func pathBits(a, b chain.Account) int {
	x, y := sha256.Sum256(a[:]), sha256.Sum256(b[:])
	for i := range 256 {
		if (x[i/8]^y[i/8])>>(7-i%8)&1 != 0 {
			return i
		}
	}
	return 256
}

// neighbour is the first stranger whose path shares at least so many bits with a's.
func neighbour(a chain.Account, bits int) chain.Account {
	for i := 0; ; i++ {
		if b := stranger(i); b != a && pathBits(a, b) >= bits {
			return b
		}
	}
}

func TestVectorsState(t *testing.T) {
	a := stranger(0)
	near := neighbour(a, 14)
	leaf := func(a chain.Account, i int) statetree.Leaf {
		return statetree.Leaf{Account: a, Balance: uint64(i) << 40, Nonce: uint64(i)}
	}
	many := []statetree.Leaf{{Account: a, Balance: 1}, {Account: near, Nonce: 1}}
	for i := 1; i < 30; i++ {
		many = append(many, leaf(stranger(i), i))
	}
	sets := []struct {
		name   string
		leaves []statetree.Leaf
	}{
		{"no account", nil},
		{"one account", []statetree.Leaf{{Account: a, Balance: 1}}},
		{"an emptied account", []statetree.Leaf{{Account: a, Nonce: 1}}},
		{"two accounts", []statetree.Leaf{{Account: a, Balance: 1<<63 - 1, Nonce: 1<<64 - 1}, leaf(stranger(1), 1)}},
		{"two accounts that share 14 path bits or more", many[:2]},
		{"31 accounts", many},
	}
	var trees, refused []any
	for _, s := range sets {
		tree := statetree.New()
		var changes []statetree.Change
		for _, l := range s.leaves {
			changes = append(changes, statetree.Change{Leaf: l})
		}
		root := tree.Update(changes)
		var proofs []any
		for _, q := range []chain.Account{a, near, stranger(1), stranger(29), stranger(500), stranger(501), neighbour(stranger(29), 8)} {
			_, member := tree.Get(q)
			proofs = append(proofs, obj{"account": q, "member": member, "proof": hx(tree.Prove(q).Append(nil))})
		}
		trees = append(trees, obj{"name": s.name, "root": chain.Hash(root), "proofs": proofs, "leaves": each(s.leaves, func(l statetree.Leaf) any {
			return obj{"account": chain.Account(l.Account), "balance": dec(l.Balance), "nonce": dec(l.Nonce)}
		})})
	}

	tree := statetree.New()
	for _, l := range many {
		tree.Update([]statetree.Change{{Leaf: l}})
	}
	root := tree.Root()
	add := func(name string, account chain.Account, leaf *statetree.Leaf, encoding []byte) {
		p, err := statetree.DecodeProof(encoding)
		if err == nil {
			if leaf != nil {
				err = statetree.VerifyMember(root, *leaf, p)
			} else {
				err = statetree.VerifyAbsent(root, account, p)
			}
		}
		if err == nil {
			t.Errorf("%s: the proof is accepted", name)
		}
		c := obj{"name": name, "root": chain.Hash(root), "account": account, "proof": hx(encoding)}
		if leaf != nil {
			c["balance"], c["nonce"] = dec(leaf.Balance), dec(leaf.Nonce)
		}
		refused = append(refused, c)
	}
	mine := leaf(stranger(5), 5)
	good := tree.Prove(mine.Account).Append(nil)
	edit := func(b []byte, f func([]byte)) []byte { b = slices.Clone(b); f(b); return b }
	wrong := mine
	wrong.Balance++
	add("another balance", mine.Account, &wrong, good)
	wrong = mine
	wrong.Nonce++
	add("another nonce", mine.Account, &wrong, good)
	add("absence of a member, with its siblings", mine.Account, nil, good)
	add("a sibling changed", mine.Account, &mine, edit(good, func(b []byte) { b[10] ^= 1 }))
	add("one byte more", mine.Account, &mine, append(slices.Clone(good), 0))
	add("one byte less", mine.Account, &mine, good[:len(good)-1])
	add("empty", mine.Account, &mine, nil)
	add("kind 2", mine.Account, &mine, edit(good, func(b []byte) { b[2] = 2 }))
	add("an empty sibling at the end", mine.Account, &mine, append(edit(good, func(b []byte) { b[0]++ }), make([]byte, 32)...))
	add("the account's own leaf as another's", mine.Account, nil, append(edit(good, func(b []byte) { b[2] = 1 }), leafBytes(mine)...))
	void := statetree.Leaf{Account: stranger(600)}
	add("membership of (0, 0)", void.Account, &void, tree.Prove(void.Account).Append(nil))
	add("257 siblings", mine.Account, &mine, append([]byte{1, 1, 0}, slices.Repeat([]byte{7}, 257*32)...))
	add("absence at depth 256", stranger(600), nil, append([]byte{0, 1, 0}, slices.Repeat([]byte{7}, 256*32)...))
	withOther := tree.Prove(stranger(600))
	for i := 601; withOther.Other == nil; i++ {
		withOther = tree.Prove(stranger(i))
	}
	end := *withOther.Other
	from := withOther.Append(nil)
	add("another's leaf that leaves the path", flipTop(end.Account), nil, from)
	voidOther := withOther
	voidOther.Other = &statetree.Leaf{Account: end.Account}
	add("another's leaf with (0, 0)", stranger(600), nil, voidOther.Append(nil))
	vectorFile(t, "state", obj{
		"about": "state_root of sets of accounts, with a proof for each account asked about (member tells which kind); then proofs that must be refused, of membership where balance and nonce stand, else of absence.",
		"trees": trees, "refused": refused,
	})
}

// flipTop is a stranger whose path differs from a's in the first bit.
func flipTop(a chain.Account) chain.Account {
	for i := 0; ; i++ {
		if b := stranger(i); pathBits(a, b) == 0 {
			return b
		}
	}
}

func leafBytes(l statetree.Leaf) []byte {
	return slices.Concat(l.Account[:], le64(l.Balance), le64(l.Nonce))
}

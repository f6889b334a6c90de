package statetree

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
)

// TestVectors checks the fixed roots and proofs in testdata against the
// package, and the roots against the naive definition too.
func TestVectors(t *testing.T) {
	raw, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Trees []struct {
			Name   string
			Leaves []struct {
				Account        string
				Balance, Nonce uint64 `json:",string"`
			}
			Root   string
			Proofs []struct {
				Account string
				Member  bool
				Proof   string
			}
		}
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if len(file.Trees) != 5 {
		t.Fatalf("%d trees, want 5", len(file.Trees))
	}
	for _, v := range file.Trees {
		t.Run(v.Name, func(t *testing.T) {
			var leaves []Leaf
			for _, l := range v.Leaves {
				leaves = append(leaves, Leaf{Hash(unhex(l.Account)), l.Balance, l.Nonce})
			}
			want := Hash(unhex(v.Root))
			tree := treeOf(leaves...)
			if n, r, u := naive(leaves, 0), RootOf(leaves), tree.Root(); n != want || r != want || u != want {
				t.Fatalf("naive %x, RootOf %x, Update %x, want %x", n, r, u, want)
			}
			for _, q := range v.Proofs {
				a := Hash(unhex(q.Account))
				if got := hex.EncodeToString(tree.Prove(a).Append(nil)); got != q.Proof {
					t.Fatalf("proof of %x:\n got %s\nwant %s", a, got, q.Proof)
				}
				p, err := DecodeProof(unhex(q.Proof))
				if err != nil {
					t.Fatal(err)
				}
				leaf, member := tree.Get(a)
				if member != q.Member {
					t.Fatalf("Get(%x): member %v, want %v", a, member, q.Member)
				}
				if member {
					err = VerifyMember(want, leaf, p)
				} else {
					err = VerifyAbsent(want, a, p)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

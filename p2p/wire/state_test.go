package wire

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"quipu/chain"
	"quipu/chain/statetree"
)

// One valid answer and its corruptions: whoever sends them is refused on the bytes alone, or by the root.
func TestStateCorruptions(t *testing.T) {
	c := codecOf(t, "state answer")
	var tree, other statetree.Tree
	var changes []statetree.Change
	for i := range uint64(300) {
		var a chain.Account
		binary.LittleEndian.PutUint64(a[:], i)
		changes = append(changes, statetree.Change{Leaf: Leaf{Account: a, Balance: i + 1, Nonce: i}})
	}
	root := chain.Hash(tree.Update(changes))
	other.Update(changes[1:])
	from, to := chain.Hash{0x30}, chain.Hash{0xc0}
	answer := func(tree *statetree.Tree, from, to chain.Hash, most int) []byte {
		leaves, p := tree.Range(from, to, most)
		return AppendStateRange(nil, statetree.AppendRange(nil, leaves, p))
	}
	valid := answer(&tree, from, to, 100)
	verified := func(b []byte) (covered chain.Hash, err error) {
		r, err := DecodeState(b)
		if err == nil {
			covered, err = r.Verify(root, from, to)
		}
		return covered, err
	}
	kept(t, c, "valid", valid)
	covered, err := verified(valid)
	if err != nil || covered == to {
		t.Fatal(covered, err)
	}
	next, _ := NextPath(covered)
	rest := answer(&tree, next, to, 1000)
	for what, b := range map[string][]byte{
		"of another state":  answer(&other, from, to, 100),
		"of a lower range":  answer(&tree, chain.Hash{}, to, 100),
		"of a higher range": rest,
		"of a wider range":  answer(&tree, from, LastPath, 300),
		"of a narrower one": answer(&tree, from, chain.Hash{0xb0}, 300),
	} {
		kept(t, c, what, b)
		if _, err := verified(b); err == nil {
			t.Errorf("a range %s is taken", what)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		b := slices.Clone(valid)
		switch r.IntN(4) {
		case 0:
			b = b[:r.IntN(len(b))]
		case 1:
			b = append(b, byte(r.IntN(256)))
		default:
			b[r.IntN(len(b))] ^= byte(1 << r.IntN(8))
		}
		if r, err := DecodeState(b); err == nil && r != nil {
			if _, err := r.Verify(root, from, to); err == nil {
				t.Fatalf("a changed answer is taken: %x", b)
			}
		}
	}
	refused(t, c, "no code", nil)
	refused(t, c, "unknown code", []byte{3})
	refused(t, c, "bytes after code 0", []byte{0, 0})
	list := []Snapshot{{Height: 1}, {Height: 2}}
	for i := range uint64(MaxSnapshots - 2) {
		list = append(list, Snapshot{Height: 3 + i})
	}
	full := AppendSnapshots(nil, list)
	kept(t, c, "the longest list", full)
	if len(full) != MaxStateList {
		t.Errorf("the longest list is %d bytes, MaxStateList is %d", len(full), MaxStateList)
	}
	if got, err := DecodeSnapshots(AppendSnapshots(nil, append(list, Snapshot{Height: 99}))); err != nil || len(got) != MaxSnapshots || got[MaxSnapshots-1].Height != 99 {
		t.Errorf("of too many the last are listed: %v, %v", got, err)
	}
	refused(t, c, "nine snapshots", append([]byte{stateList, MaxSnapshots + 1}, make([]byte, 9*snapshotInfo)...))
	refused(t, c, "a snapshot twice", AppendSnapshots(nil, []Snapshot{{Height: 5}, {Height: 5}}))
	refused(t, c, "a height over 2^32−1", AppendSnapshots(nil, []Snapshot{{Height: chain.MaxHeight + 1}}))
}

func TestStateRequestLimits(t *testing.T) {
	c := codecOf(t, "state request")
	for _, v := range []struct {
		q  StateRequest
		ok bool
	}{
		{StateRequest{List: true}, true},
		{StateRequest{Height: chain.MaxHeight, To: LastPath, Max: MinState}, true},
		{StateRequest{From: LastPath, To: LastPath, Max: MaxState}, true},
		{StateRequest{From: LastPath, To: chain.Hash{0xff}, Max: MaxState}, false},
		{StateRequest{Max: MinState - 1}, false},
		{StateRequest{Max: MaxState + 1}, false},
		{StateRequest{Height: chain.MaxHeight + 1, Max: MaxState}, false},
	} {
		check(t, v.ok, c, v.q.Append(nil))
	}
	q := StateRequest{Max: MinState}
	refused(t, c, "kind 2", append([]byte{2}, q.Append(nil)[1:]...))
	if n := q.Leaves(); n < 1 || 1+statetree.MaxRangeProofSize+n*statetree.LeafSize > MinState {
		t.Errorf("%d accounts in the smallest answer", n)
	}
}

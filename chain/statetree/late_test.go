package statetree

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestLatePages replays changes over stored pages: those of leaves stay away, what is read is right all the same, and a
// page that is damaged after the replay is an error and never a wrong answer.
func TestLatePages(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	s, m := newStore(), model{}
	var changes []Change
	for i := range uint64(3000) {
		changes = append(changes, Change{Leaf: Leaf{Account: account(i), Balance: i + 1}})
	}
	p := openPaged(t, s, 0, pageLeaves)
	if _, err := p.Update(changes); err != nil {
		t.Fatal(err)
	}
	m.apply(changes)
	if done, err := p.Checkpoint().Write(0, s.put); err != nil || !done {
		t.Fatal(done, err)
	}
	changes = changes[:600]
	for i := range changes {
		changes[i].Leaf.Balance += 1 << 40
	}
	m.apply(changes)

	replayed := func() *Paged {
		p := openPaged(t, s, 0, pageLeaves)
		if _, err := p.Replay(changes, nil); err != nil {
			t.Fatal(err)
		}
		return p
	}
	p = replayed()
	late := 0
	for i := range p.t.shards {
		late += len(p.t.shards[i].late)
		if live := p.t.shards[i].live; live > 0 {
			t.Fatalf("shard %d has %d accounts in memory", i, live)
		}
	}
	if late < 100 {
		t.Fatalf("%d late pages", late)
	}
	checkPaged(t, p, m, r)

	whole, keys := s.pages, slices.SortedFunc(maps.Keys(s.pages), func(a, b PageKey) int { return slices.Compare(a[:], b[:]) })
	want := RootOf(m.leaves())
	for range 300 {
		k := keys[r.IntN(len(keys))]
		if whole[k][0] != pageOfLeaves {
			continue
		}
		p := replayed()
		s.pages = maps.Clone(whole)
		page := slices.Clone(whole[k])
		page[1+r.IntN(len(page)-1)] ^= 1 << r.IntN(8)
		s.pages[k] = page
		err := p.Walk(func(*Leaf) error { return nil })
		if !errors.Is(err, ErrPage) && m.leavesDiffer(page, changes) {
			t.Fatalf("page %v is damaged: walking gives %v", k, err)
		}
		_, err = p.Checkpoint().Write(0, func(PageKey, []byte) error { return nil })
		if p.Root() != want || err != nil && !errors.Is(err, ErrPage) {
			t.Fatalf("page %v is damaged: a checkpoint gives root %x, %v", k, p.Root(), err)
		}
		s.pages = whole
	}
}

// leavesDiffer reports whether a page's leaves with the changes aren't the model's: damage to what a change overwrites
// is none.
func (m model) leavesDiffer(page []byte, changes []Change) bool {
	changed := map[[32]byte]bool{}
	for i := range changes {
		changed[changes[i].Leaf.Account] = true
	}
	for b := page[1:]; len(b) > 0; b = b[LeafSize:] {
		leaf := readLeaf(b)
		if want, ok := m[leaf.Account]; !ok || !changed[leaf.Account] && (want.Balance != leaf.Balance || want.Nonce != leaf.Nonce) {
			return true
		}
	}
	return false
}

package statetree

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// store is a map of pages, which remembers the order in which they came.
type store struct {
	pages map[PageKey][]byte
	reads int
	log   []func(map[PageKey][]byte)
}

func newStore() *store { return &store{pages: map[PageKey][]byte{}} }

func (s *store) read(k PageKey, use func([]byte) error) error {
	s.reads++
	page, ok := s.pages[k]
	if !ok {
		return nil
	}
	return use(page)
}

func (s *store) put(k PageKey, page []byte) error {
	s.pages[k] = page
	s.log = append(s.log, func(m map[PageKey][]byte) { m[k] = page })
	return nil
}

func openPaged(t testing.TB, s *store, memory int64, cut int) *Paged {
	p, err := OpenPaged(s.read, memory)
	if err != nil {
		t.Fatal(err)
	}
	for i := range p.t.shards {
		p.t.shards[i].cut = cut
	}
	p.memory = memory // below the least, so that small trees are trimmed too
	return p
}

// checkPaged holds a paged tree against the model, by every way of reading.
func checkPaged(t *testing.T, p *Paged, m model, r *rand.Rand) {
	t.Helper()
	want := RootOf(m.leaves())
	if p.Root() != want {
		t.Fatalf("root %x, want %x", p.Root(), want)
	}
	var got []Leaf
	last := path{}
	if err := p.Walk(func(l *Leaf) error {
		at := pathOf(&l.Account)
		if len(got) > 0 && last.compare(&at) >= 0 {
			return errors.New("paths don't ascend")
		}
		last, got = at, append(got, *l)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(m) {
		t.Fatalf("%d leaves, want %d", len(got), len(m))
	}
	for _, l := range got {
		if m[l.Account] != l {
			t.Fatalf("leaf %+v, want %+v", l, m[l.Account])
		}
	}
	for range 5 {
		a := account(r.Uint64N(1000))
		leaf, ok, err := p.Get(a)
		if want, had := m[a]; err != nil || ok != had || leaf != want {
			t.Fatalf("Get %x: %v %v %v, want %v", a[:2], leaf, ok, err, want)
		}
		proof, err := p.Prove(a)
		if err == nil && ok {
			err = VerifyMember(want, leaf, proof)
		} else if err == nil {
			err = VerifyAbsent(want, a, proof)
		}
		if err != nil {
			t.Fatal(err)
		}
		from, to := PathOf(a), PathOf(account(r.Uint64N(1000)))
		if slices.Compare(from[:], to[:]) > 0 {
			from, to = to, from
		}
		leaves, rp, err := p.Range(from, to, 20)
		if err == nil {
			_, err = VerifyRange(want, from, to, leaves, rp)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// checkStored holds what pages and changes give, read without a tree, against
// the model.
func checkStored(t *testing.T, s *store, changes []Change, m model) {
	t.Helper()
	n := 0
	root, _, err := BuildFrom(func(use func(*Leaf) error) error {
		return WalkStored(s.read, changes, func(l *Leaf) error {
			n++
			if m[l.Account] != *l {
				return fmt.Errorf("leaf %+v, want %+v", l, m[l.Account])
			}
			return use(l)
		})
	}, func(PageKey, []byte) error { return nil })
	if err != nil || n != len(m) || root != RootOf(m.leaves()) {
		t.Fatalf("%d leaves with root %x, want %d (%v)", n, root, len(m), err)
	}
}

// TestPagedHistories runs random changes against the model: with pages of few
// leaves (so that small trees are cut often) and little memory, checkpoints in
// slices between the changes, and a crash now and then, after which the pages
// are those of any moment of the checkpoint's writing and the changes since the
// one before are replayed.
func TestPagedHistories(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 5))
			cut, memory := 2+r.IntN(6), int64(r.IntN(200_000))
			accounts := uint64(20 + r.IntN(2000))
			s, m := newStore(), model{}
			p := openPaged(t, s, memory, cut)
			var c *Checkpoint
			var since, sinceLast []Change // changes since the running checkpoint was made, and since the last complete one
			base := maps.Clone(s.pages)   // pages when that one was complete
			complete := func() {
				c, base, s.log = nil, maps.Clone(s.pages), nil
				sinceLast = slices.Clone(since)
			}
			near := neighbours()
			for range 60 {
				var changes []Change
				for range r.IntN(80) {
					l := randomLeaf(r, accounts)
					if r.IntN(10) == 0 {
						l.Account = near[r.IntN(len(near))]
					}
					changes = append(changes, Change{Leaf: l, Delete: r.IntN(8) == 0})
				}
				if r.IntN(3) == 0 {
					keys := make([][32]byte, len(changes))
					for i := range keys {
						keys[i] = changes[i].Leaf.Account
					}
					leaves, err := p.Fetch(keys)
					if err != nil {
						t.Fatal(err)
					}
					for i, l := range leaves {
						if want := m[keys[i]]; l.Balance != want.Balance || l.Nonce != want.Nonce {
							t.Fatalf("Fetch %x: %v, want %v", keys[i][:2], l, want)
						}
					}
				}
				if _, err := p.Update(changes); err != nil {
					t.Fatal(err)
				}
				m.apply(changes)
				since, sinceLast = append(since, changes...), append(sinceLast, changes...)
				switch r.IntN(4) {
				case 0:
					if c == nil {
						c, since = p.Checkpoint(), nil
					}
					most := 1 + r.IntN(40)
					if r.IntN(3) == 0 {
						most = 0
					}
					done, err := c.Write(most, s.put)
					if err != nil {
						t.Fatal(err)
					}
					if done {
						complete()
					}
				case 1:
					if !p.Trim() && r.IntN(2) == 0 {
						c, since = p.Checkpoint(), nil
						if done, err := c.Write(0, s.put); err != nil || !done {
							t.Fatal(done, err)
						}
						complete()
						if p.Trim(); p.InMemory() > max(memory, shardCount*(branchBytes+leafBytes)) {
							t.Fatalf("%d bytes in memory with nothing changed, %d allowed", p.InMemory(), memory)
						}
					}
				case 2:
					if r.IntN(6) > 0 {
						break
					}
					s.pages = base // the pages of some moment since the last complete checkpoint
					for _, put := range s.log[:r.IntN(len(s.log)+1)] {
						put(s.pages)
					}
					if len(s.pages) > 0 && s.pages[pageKey(&path{}, 0)] == nil {
						s.pages = map[PageKey][]byte{} // no checkpoint ever ended: what is there is not looked at
					}
					base, s.log, c = maps.Clone(s.pages), nil, nil
					p = openPaged(t, s, memory, cut)
					if _, err := p.Replay(sinceLast, nil); err != nil {
						t.Fatal(err)
					}
					since = slices.Clone(sinceLast)
				}
				checkStored(t, s, sinceLast, m)
			}
			checkPaged(t, p, m, r)
			c = p.Checkpoint() // a change in the middle of one is written by the next
			if _, err := c.Write(1+r.IntN(100), s.put); err != nil {
				t.Fatal(err)
			}
			last := []Change{{Leaf: Leaf{Account: account(r.Uint64N(accounts)), Balance: 9}}}
			m.apply(last)
			if _, err := p.Update(last); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write(0, s.put); err != nil {
				t.Fatal(err)
			}
			p.Trim()
			checkPaged(t, p, m, r)
			if done, err := p.Checkpoint().Write(0, s.put); err != nil || !done {
				t.Fatal(done, err)
			}
			checkPaged(t, p, m, r)
			again := openPaged(t, s, memory, cut)
			checkPaged(t, again, m, r)
			if used := again.InMemory(); used > (shardCount)*(branchBytes+leafBytes) {
				t.Fatalf("reading beside the tree brought %d bytes into it", used)
			}
		})
	}
}

// TestDamagedPages changes, cuts, drops and swaps stored pages: whatever is
// read then is right or an error that says so.
func TestDamagedPages(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	s, m := newStore(), model{}
	var changes []Change
	for i := range uint64(1500) {
		changes = append(changes, Change{Leaf: Leaf{Account: account(i), Balance: i + 1}})
	}
	p := openPaged(t, s, 0, 4)
	if _, err := p.Update(changes); err != nil {
		t.Fatal(err)
	}
	m.apply(changes)
	if _, err := p.Checkpoint().Write(0, s.put); err != nil {
		t.Fatal(err)
	}
	whole, keys := s.pages, slices.SortedFunc(maps.Keys(s.pages), func(a, b PageKey) int { return slices.Compare(a[:], b[:]) })
	want, refused := RootOf(m.leaves()), 0
	for range 2000 {
		s.pages = maps.Clone(whole)
		k := keys[r.IntN(len(keys))]
		page := slices.Clone(whole[k])
		switch r.IntN(5) {
		case 0:
			page[r.IntN(len(page))] ^= 1 << r.IntN(8)
		case 1:
			page = page[:r.IntN(len(page))]
		case 2:
			page = append(page, byte(r.Uint32()))
		case 3:
			page = nil
		case 4:
			page = whole[keys[r.IntN(len(keys))]]
		}
		if slices.Equal(page, whole[k]) {
			continue
		}
		if s.pages[k] = page; page == nil {
			delete(s.pages, k)
		}
		p, err := OpenPaged(s.read, 0)
		if err == nil && p.Root() != want {
			refused++ // the ledger compares it with the tip's header
			continue
		}
		if err == nil {
			n := 0
			err = p.Walk(func(l *Leaf) error { n++; return nil })
			if err == nil {
				t.Fatalf("page %v as %x: %d leaves and no error", k, page, n)
			}
		}
		if !errors.Is(err, ErrPage) {
			t.Fatal(err)
		}
		refused++
		for _, c := range changes[:100] {
			if p == nil {
				break
			}
			if l, ok, err := p.Get(c.Leaf.Account); err == nil && (!ok || l != c.Leaf) {
				t.Fatalf("Get gives %v %v", l, ok)
			}
		}
	}
	if refused < 1500 {
		t.Fatalf("%d refused", refused)
	}
}

// FuzzPage reads any bytes as the page of a subtree: no panic, and what is
// taken is written as it was read.
func FuzzPage(f *testing.F) {
	s := newStore()
	p := openPaged(f, s, 0, 3)
	var changes []Change
	for i := range uint64(300) {
		changes = append(changes, Change{Leaf: Leaf{Account: account(i), Balance: i + 1}})
	}
	p.Update(changes)
	p.Checkpoint().Write(0, s.put)
	for k, page := range s.pages {
		f.Add(k[:], page)
	}
	f.Fuzz(func(t *testing.T, key, page []byte) {
		if len(key) != PageKeySize || key[8] > pageDeepest || key[8]%pageBits != 0 || key[8] == 0 {
			return
		}
		sh := shard{paging: &paging{lax: true, cut: pageLeaves}, branches: make([]branch, 1), marks: make([]mark, 1)}
		at := Hash{}
		copy(at[:], key[:8])
		prefix := pathFrom(&at)
		depth := int(key[8])
		if sh.fill(1, depth, &prefix, page) != nil {
			return
		}
		prefix = path{prefix[0] &^ (^uint64(0) >> depth)}
		var again []byte
		if page[0] == pageOfLeaves {
			again = sh.appendLeaves([]byte{pageOfLeaves}, 1)
		} else {
			var c Checkpoint
			again = c.slots(&sh, 1, depth, depth+pageBits, prefix, []byte{pageOfSlots}, false)
		}
		if !slices.Equal(again, page) {
			t.Fatalf("read %x, written %x", page, again)
		}
	})
}

// Pages end at pageDeepest: one of slots there, which would lead below the bits that a key has, is refused like any
// other damage, by every way of reading.
func TestPagesEnd(t *testing.T) {
	deep := func(d int) *Paged {
		s := newStore()
		h := Hash{1} // of whatever lies below
		for ; d >= 0; d -= pageBits {
			page := append([]byte{pageOfSlots, slotPage}, h[:]...)
			s.put(pageKey(&path{}, d), append(page, make([]byte, pageSlots-1)...))
			for range pageBits {
				h = branchHash(&h, &Hash{})
			}
		}
		return openPaged(t, s, 0, pageLeaves)
	}
	for d := pageDeepest - pageBits; d <= 64+pageBits; d += pageBits {
		if err := deep(d).Walk(func(*Leaf) error { return nil }); !errors.Is(err, ErrPage) {
			t.Errorf("Walk down to pages of slots at %d: %v", d, err)
		}
		last := Hash{}
		for i := range last {
			last[i] = 255
		}
		if _, _, err := deep(d).Range(Hash{}, last, 1); !errors.Is(err, ErrPage) {
			t.Errorf("Range down to pages of slots at %d: %v", d, err)
		}
	}
}

package bip340

import (
	"slices"
	"sync"
	"testing"
)

// known reports whether k holds a key.
func (k *Keys) known(pub *[32]byte) bool {
	var p point
	return p.x.setBytes(pub) && k.find(&p)
}

// count is how many keys k holds.
func (k *Keys) count() (n int) {
	for i := range k.shards {
		for _, p := range k.shards[i].slots {
			if p.y != (fe{}) {
				n++
			}
		}
	}
	return n
}

// TestKeysChangeNoVerdict: whatever is remembered, Invalid says the same.
func TestKeysChangeNoVerdict(t *testing.T) {
	items := signed(t, 100, 120, 40)
	items[7] = clone(items[7])
	items[7].Sig[50] ^= 1
	items[80] = clone(items[80])
	*items[80].Pub = smallX(false)
	items[81] = clone(items[81])
	*items[81].Pub = bytes32(hexP)
	items[90] = clone(items[90])
	items[90].Sig[3] ^= 1
	want := []int{7, 80, 81, 90}
	for _, entries := range []int{0, 1, 10, 10_000} {
		k := NewKeys(entries)
		for round := range 3 {
			if got := k.Invalid(items); !slices.Equal(got, want) {
				t.Fatalf("room for %d, round %d: %v, want %v", entries, round, got, want)
			}
			if got := invalid(items, bare, k); !slices.Equal(got, want) {
				t.Fatalf("room for %d, round %d: the bare batch says %v, want %v", entries, round, got, want)
			}
		}
		for i := range k.shards {
			for _, p := range k.shards[i].slots {
				if y2 := p.ySquared(); p.y != (fe{}) {
					var t2 fe
					if t2.sqr(&p.y); !t2.equal(&y2) || p.y.isOdd() || !p.y.isNorm() {
						t.Fatalf("%x is not a point with an even y", p)
					}
				}
			}
		}
	}
	var none *Keys
	if got := none.Invalid(items); !slices.Equal(got, want) {
		t.Errorf("nil: %v", got)
	}
}

// TestKeysLearnOnlyFromValid: a key under which nothing was valid takes no room.
func TestKeysLearnOnlyFromValid(t *testing.T) {
	items := signed(t, 101, 60, 20)
	bad := clone(items[5]) // key 5 signs 5, 25 and 45; all of them are broken
	bad.Msg[0] ^= 1
	items[5], items[25], items[45] = bad, bad, bad
	items[6] = clone(items[6]) // key 6 has two valid ones left
	items[6].Msg[0] ^= 1
	k := NewKeys(1000)
	k.Invalid(items)
	if k.known(items[5].Pub) || !k.known(items[6].Pub) || !k.known(items[7].Pub) || k.count() != 19 {
		t.Errorf("%d keys: 5 %v, 6 %v, 7 %v", k.count(), k.known(items[5].Pub), k.known(items[6].Pub), k.known(items[7].Pub))
	}
}

// TestKeysBounded: the number of keys never passes the room, and the latest is known.
func TestKeysBounded(t *testing.T) {
	k := NewKeys(1)
	size := keyShards * keyWays
	for i, x := 0, uint64(1); i < 3*size; x++ {
		p := point{x: fe{x}}
		var ok bool
		var l lifter
		l.add(&p, &ok)
		if l.flush(); !ok {
			continue
		}
		i++
		k.put(&p)
		k.put(&p)
		q := point{x: p.x}
		if !k.find(&q) || q != p {
			t.Fatalf("key %d: %x, want %x", i, q, p)
		}
		if n := k.count(); n > size || n > i {
			t.Fatalf("%d keys after %d puts into room for %d", n, i, size)
		}
	}
	if n := k.count(); n < size*9/10 {
		t.Errorf("%d of %d slots are used", n, size)
	}
}

// TestKeysConcurrent is for the race detector.
func TestKeysConcurrent(t *testing.T) {
	items := signed(t, 102, 64, 32)
	k := NewKeys(100)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5 {
				if k.Invalid(items) != nil {
					t.Error("valid items are refused")
				}
			}
		})
	}
	wg.Wait()
}

// TestHints: a right y for R is taken, and any other changes nothing but the time.
func TestHints(t *testing.T) {
	valid := signed(t, 103, 30, 10)
	p := bytes32(hexP)
	right := func(it Item) [32]byte {
		ts, _ := decode([]Item{it}, nil)
		return ts.list[0].r.y.bytes()
	}
	hint := func(it Item, y [32]byte) Item { it.RY = &y; return it }
	minus := func(y [32]byte) [32]byte {
		var z fe
		z.setBytes(&y)
		z.neg(&z)
		return z.bytes()
	}
	y0 := right(valid[0])
	for _, c := range []struct {
		name  string
		y     [32]byte
		taken bool
	}{
		{"right", y0, true},
		{"odd", minus(y0), false},
		{"one more", plus(y0, 1), false},
		{"two more", plus(y0, 2), false},
		{"0", [32]byte{}, false},
		{"p", p, false},
		{"2^256 - 1", plus([32]byte{}, -1), false},
		{"2^256 - 2", plus([32]byte{}, -2), false},
		{"another's", right(valid[1]), false},
	} {
		it := hint(valid[0], c.y)
		var r point
		r.x.setBytes((*[32]byte)(it.Sig[:32]))
		if got := r.hinted(it.RY); got != c.taken {
			t.Errorf("%s: taken %v", c.name, got)
		}
		if !VerifyBatch([]Item{it}) || invalid([]Item{it}, bare, nil) != nil {
			t.Errorf("%s: a valid item is refused", c.name)
		}
		bad := clone(it)
		bad.Sig[60] ^= 1
		if got := invalid([]Item{valid[2], bad, it}, bare, nil); !slices.Equal(got, []int{1}) {
			t.Errorf("%s: an invalid item beside it: %v", c.name, got)
		}
		off := clone(it) // an R off the curve, with a y for another
		x := smallX(false)
		copy(off.Sig[:], x[:])
		if got := invalid([]Item{off}, bare, nil); !slices.Equal(got, []int{0}) {
			t.Errorf("%s: R off the curve: %v", c.name, got)
		}
	}
	var hinted []Item
	for i, it := range valid {
		y := right(it)
		if i%3 == 0 {
			y[i] ^= 4
		}
		hinted = append(hinted, hint(it, y))
	}
	if !VerifyBatch(hinted) || Invalid(hinted) != nil {
		t.Error("valid items with hints are refused")
	}
}

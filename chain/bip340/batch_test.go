package bip340

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
)

// TestInvalidFindsThePlanted breaks k of n items in random ways; exactly those must come back, whatever the sizes of
// chunk and leaf.
func TestInvalidFindsThePlanted(t *testing.T) {
	pool := signed(t, 10, 300, 40)
	r := newRand(11)
	breaks := []func(it Item){
		func(it Item) { it.Msg[r.IntN(len(it.Msg))] ^= 1 << r.IntN(8) },
		func(it Item) { it.Sig[r.IntN(64)] ^= 1 << r.IntN(8) },
		func(it Item) { it.Pub[r.IntN(32)] ^= 1 << r.IntN(8) },
		func(it Item) { *it.Sig = [64]byte{} },
		func(it Item) { v := bytes32(hexN); copy(it.Sig[32:], v[:]) },
	}
	for _, n := range []int{0, 1, 2, 5, 6, 7, 15, 16, 17, 64, 300} {
		for _, k := range []int{0, 1, 2, 5, n / 2, n} {
			if k > n {
				continue
			}
			t.Run(fmt.Sprintf("%d of %d", k, n), func(t *testing.T) {
				items := slices.Clone(pool[:n])
				r.Shuffle(n, func(i, j int) { items[i], items[j] = items[j], items[i] })
				planted := r.Perm(n)[:k]
				slices.Sort(planted)
				for _, i := range planted {
					items[i] = clone(items[i])
					breaks[r.IntN(len(breaks))](items[i])
				}
				if got := Invalid(items); !slices.Equal(got, planted) {
					t.Errorf("Invalid = %v, want %v", got, planted)
				}
				if got := VerifyBatch(items); got != (k == 0) {
					t.Errorf("VerifyBatch says %v", got)
				}
				for _, size := range []sizes{bare, {7, 1}, {64, 5}, {1, 1}, {100, 1}, {100, 16}} {
					if n > 64 && size.chunk < 64 {
						continue
					}
					if got := invalid(items, size, nil); !slices.Equal(got, planted) {
						t.Errorf("%+v: %v, want %v", size, got, planted)
					}
				}
			})
		}
	}
}

func TestAllValidIsNil(t *testing.T) {
	if Invalid(nil) != nil || !VerifyBatch(nil) {
		t.Error("no items are not all valid")
	}
	if got := Invalid(signed(t, 12, 20, 3)); got != nil {
		t.Errorf("Invalid = %#v, want nil", got)
	}
}

// TestChunkBorder has more items than one multi-exponentiation takes.
func TestChunkBorder(t *testing.T) {
	pool := signed(t, 13, 64, 8)
	items := make([]Item, tuned.chunk+5)
	for i := range items {
		items[i] = pool[i%len(pool)]
	}
	if !VerifyBatch(items) {
		t.Error("VerifyBatch refuses valid items")
	}
	planted := []int{0, tuned.chunk - 1, tuned.chunk, len(items) - 1}
	for _, i := range planted {
		items[i] = clone(items[i])
		items[i].Sig[40] ^= 1
	}
	if got := Invalid(items); !slices.Equal(got, planted) {
		t.Errorf("Invalid = %v, want %v", got, planted)
	}
	for _, i := range planted[:2] {
		items[i] = pool[i%len(pool)]
	}
	if VerifyBatch(items) {
		t.Error("VerifyBatch misses a broken item in the second chunk")
	}
}

// TestDuplicates: the same item many times, valid and invalid, and one key for all.
func TestDuplicates(t *testing.T) {
	one := signed(t, 14, 1, 1)[0]
	bad := clone(one)
	bad.Msg[3] ^= 4
	items := slices.Repeat([]Item{one}, 40)
	if !VerifyBatch(items) || invalid(items, bare, nil) != nil {
		t.Error("a valid item repeated is refused")
	}
	items[7], items[8], items[31] = bad, bad, bad
	if got, want := invalid(items, bare, nil), []int{7, 8, 31}; !slices.Equal(got, want) {
		t.Errorf("Invalid = %v, want %v", got, want)
	}
	all := slices.Repeat([]Item{bad}, 40)
	if VerifyBatch(all) || len(Invalid(all)) != 40 || len(invalid(all, bare, nil)) != 40 {
		t.Error("an invalid item repeated is accepted")
	}
	if sameKey := signed(t, 15, 40, 1); !VerifyBatch(sameKey) {
		t.Error("valid items of one key are refused")
	}
}

// TestErrorsThatCancel has pairs of invalid items whose errors add up to nothing: without random coefficients the sum
// over all would be 0.
func TestErrorsThatCancel(t *testing.T) {
	items := signed(t, 16, 32, 4)
	shift := func(it Item, by uint32, negative bool) Item {
		it = clone(it)
		d := modN(plus([32]byte{}, int(by)))
		if negative {
			d.Negate()
		}
		s := modN([32]byte(it.Sig[32:]))
		s.Add(&d).PutBytesUnchecked(it.Sig[32:])
		return it
	}
	items[4], items[5] = shift(items[4], 9, false), shift(items[5], 9, true)
	items[20], items[21] = shift(items[20], 9, false), shift(items[20], 9, true) // same R, P and message
	want := []int{4, 5, 20, 21}
	if VerifyBatch(items) {
		t.Error("VerifyBatch accepts errors that cancel")
	}
	if got := invalid(items, bare, nil); !slices.Equal(got, want) {
		t.Errorf("Invalid = %v, want %v", got, want)
	}
}

// TestBisectionIsNarrow: what the sums accept is not verified again, so few invalid items cost few calls of Verify, and
// no choice of them costs more than one call an item.
func TestBisectionIsNarrow(t *testing.T) {
	pool := signed(t, 19, 512, 30)
	for _, c := range []struct {
		bad     []int
		atMost  int
		comment string
	}{
		{nil, 0, "all valid"},
		{[]int{0}, 16, "the first"},
		{[]int{511}, 16, "the last"},
		{[]int{100, 300}, 32, "one in each half"},
		{[]int{8, 9, 10, 11}, 16, "four together"},
	} {
		items := slices.Clone(pool)
		for _, i := range c.bad {
			items[i] = clone(items[i])
			items[i].Msg[0] ^= 1
		}
		b := bisection{items: items, sizes: tuned}
		ts, _ := decode(items, nil)
		b.find(ts)
		if slices.Sort(b.bad); !slices.Equal(b.bad, c.bad) || b.asked > c.atMost {
			t.Errorf("%s: found %v with %d calls of Verify, want %v with at most %d", c.comment, b.bad, b.asked, c.bad, c.atMost)
		}
	}
	b := bisection{items: pool, sizes: tuned}
	for i := range pool {
		pool[i] = clone(pool[i])
		pool[i].Msg[0] ^= 1
	}
	ts, _ := decode(pool, nil)
	if b.find(ts); b.asked != len(pool) || len(b.bad) != len(pool) {
		t.Errorf("all invalid: %d found with %d calls of Verify", len(b.bad), b.asked)
	}
}

// TestInputsUntouched: items are only read.
func TestInputsUntouched(t *testing.T) {
	items := signed(t, 17, 20, 2)
	items[3] = clone(items[3])
	items[3].Sig[0] ^= 1
	var before []Item
	for _, it := range items {
		before = append(before, clone(it))
	}
	Invalid(items)
	VerifyBatch(items)
	for i := range items {
		if *items[i].Pub != *before[i].Pub || *items[i].Sig != *before[i].Sig || string(items[i].Msg) != string(before[i].Msg) {
			t.Errorf("item %d changed", i)
		}
	}
}

// TestBatchInVirtualTime: a batch leaves nothing running and waits for nothing, so it can run in a synctest bubble, as the
// simulated network needs.
func TestBatchInVirtualTime(t *testing.T) {
	items := signed(t, 18, 200, 200)
	items[150] = clone(items[150])
	items[150].Sig[63] ^= 1
	VerifyBatch(items[:100]) // outside first, in case anything were kept for later
	synctest.Test(t, func(t *testing.T) {
		if got := Invalid(items); !slices.Equal(got, []int{150}) {
			t.Errorf("Invalid = %v", got)
		}
	})
}

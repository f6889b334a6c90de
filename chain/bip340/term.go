package bip340

import (
	"crypto/rand"
	"encoding/binary"
	"slices"
	"sync"
)

// term is an item decoded for the equation s·G − R − e·P = 0, which holds exactly when Verify accepts: P and R are the
// points with an even y and the item's x, and R, having an x, is not infinity.
type term struct {
	index int   // of the item
	key   int32 // P, by its place in terms.keys
	ok    bool  // for decode: R has been lifted
	a     half  // the random coefficient
	r     point
	s, e  scalar
}

// terms are decoded items, and the distinct keys they name.
type terms struct {
	list  []term
	keys  []point
	fresh []bool // by key: lifted by decode, not known before
}

func (ts terms) slice(from, to int) terms { return terms{list: ts.list[from:to], keys: ts.keys} }

// decode lifts and parses the items. One with r ≥ p, s ≥ n, or a P or R not on the curve has no term, and its index
// stands in broken. known may be nil.
func decode(items []Item, known *Keys) (ts terms, broken []int) {
	ts.list = make([]term, len(items))
	ts.keys = make([]point, 0, len(items))
	ts.fresh = make([]bool, len(items))
	onCurve := make([]bool, len(items)) // by key
	places := make(map[[32]byte]int32, len(items))

	for i := range items {
		t := &ts.list[i]
		t.index, t.key = i, -1
		pub := items[i].Pub
		place, seen := places[*pub]
		if !seen {
			var p point
			place = -1
			if p.x.setBytes(pub) {
				place = int32(len(ts.keys))
				onCurve[place] = known.find(&p)
				ts.keys = append(ts.keys, p)
			}
			places[*pub] = place
		}
		t.key = place
	}
	var l lifter
	for i := range ts.keys {
		if !onCurve[i] {
			ts.fresh[i] = true
			l.add(&ts.keys[i], &onCurve[i])
		}
	}
	l.flush()
	for i := range items {
		it, t := &items[i], &ts.list[i]
		r, s := (*[32]byte)(it.Sig[:32]), (*[32]byte)(it.Sig[32:])
		if t.key < 0 || !onCurve[t.key] || !t.s.setBytes(s) || !t.r.x.setBytes(r) {
			continue
		}
		if t.ok = it.RY != nil && t.r.hinted(it.RY); !t.ok {
			l.add(&t.r, &t.ok)
		}
		h := tagChallenge.Sum(r[:], it.Pub[:], it.Msg)
		t.e.setBytes(&h) // modulo n
	}
	l.flush()

	for i := range ts.list {
		if !ts.list[i].ok {
			broken = append(broken, i)
		}
	}
	if broken != nil {
		ts.list = slices.DeleteFunc(ts.list, func(t term) bool { return !t.ok })
	}
	return ts, broken
}

// randomize draws a fresh 128-bit coefficient for each term from the system's generator.
func randomize(ts terms) {
	random := make([]byte, 16*len(ts.list))
	rand.Read(random) // never fails: crypto/rand ends the program rather than return an error
	for i := range ts.list {
		ts.list[i].a = half{binary.LittleEndian.Uint64(random[16*i:]), binary.LittleEndian.Uint64(random[16*i+8:])}
	}
}

// sum returns Σ a·(R + e·P − s·G) in Jacobian coordinates; Z = 0 is the point at infinity, the zero of the
// group. If any term is not zero without its coefficient, at most one value of that a makes the sum zero, because the
// order of the group is a prime above 2^128: probability 2^-128 at most. This is BIP-340's batch verification, with the
// first coefficient random too and the terms of one key added up before they are multiplied.
func sum(ts terms) jacobian {
	m := spare.Get().(*msm)
	defer spare.Put(m)
	m.reset(len(ts.list) + 2*min(len(ts.keys), len(ts.list)) + 2)
	byKey := make([]scalar, len(ts.keys))
	var g, x scalar
	for i := range ts.list {
		t := &ts.list[i]
		m.add(&t.r, t.a)
		x.mulHalf(t.a, &t.s)
		g.add(&g, &x)
		x.mulHalf(t.a, &t.e)
		k := &byKey[t.key]
		k.add(k, &x)
	}
	for i := range byKey {
		if byKey[i] != (scalar{}) { // those of keys that don't stand in the list are 0 too
			m.addWide(&ts.keys[i], &byKey[i])
		}
	}
	g.neg(&g)
	m.addWide(&generator, &g)
	return m.sum()
}

// spare keeps the memory of sums, some 8 MB for a full chunk, until the next garbage collection or two.
var spare = sync.Pool{New: func() any { return new(msm) }}

package bip340

import (
	"slices"
	"testing"
)

// FuzzSingleAndBatchAgree reads a list of items out of bytes and asks Verify about each, and the batch, with no minimum,
// about all. Random bytes are never a valid signature, so an item starts as a valid one and the bytes say how it is
// changed:
//
//	item = base u8 | op u8 | arguments of the op
//
// and the list ends with the bytes, or at 24 items.
func FuzzSingleAndBatchAgree(f *testing.F) {
	base := signed(f, 40, 8, 3)
	for _, r := range vectors(f) {
		if len(r.Msg) == 32 {
			base = append(base, r.Item)
		}
	}
	p, n := bytes32(hexP), bytes32(hexN)
	special := [][32]byte{
		{}, plus([32]byte{}, 1), plus([32]byte{}, 5), plus(p, -1), p, plus(p, 1), plus(n, -1), n, plus(n, 1),
		plus([32]byte{}, -1), [32]byte(base[0].Sig[:32]), *base[1].Pub,
	}
	f.Add([]byte{})
	f.Add([]byte{0, 0, 1, 0, 2, 0, 0, 0})
	for op := byte(1); op < fuzzOps; op++ {
		f.Add([]byte{0, 0, 1, op, 2, 6, 1, 3, 0})
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		items := fuzzItems(data, base, special)
		var want []int
		for i, it := range items {
			if it.refused() {
				want = append(want, i)
			}
		}
		if got := invalid(items, bare, nil); !slices.Equal(got, want) {
			t.Fatalf("batch %v, one by one %v", got, want)
		}
		if got := Invalid(items); !slices.Equal(got, want) {
			t.Fatalf("Invalid %v, one by one %v", got, want)
		}
		known := NewKeys(16)
		for range 2 {
			if got := invalid(items, bare, known); !slices.Equal(got, want) {
				t.Fatalf("with keys %v, one by one %v", got, want)
			}
		}
		ts, broken := decode(items, nil) // what the batch accepts without a word from Verify
		if ok := len(broken) == 0 && (len(ts.list) == 0 || sumIsZero(ts)); ok != (want == nil) {
			t.Fatalf("the bare equation says %v, one by one %v", ok, want)
		}
	})
}

const fuzzOps = 12

func fuzzItems(data []byte, base []Item, special [][32]byte) (items []Item) {
	next := func() byte {
		if len(data) == 0 {
			return 0
		}
		b := data[0]
		data = data[1:]
		return b
	}
	take := func(dst []byte) { data = data[copy(dst, data):] }
	for len(data) >= 2 && len(items) < 24 {
		it := clone(base[int(next())%len(base)])
		switch next() % fuzzOps {
		case 1:
			it.Pub[next()%32] ^= next()
		case 2:
			it.Sig[next()%64] ^= next()
		case 3:
			it.Msg[int(next())%len(it.Msg)] ^= next()
		case 4:
			*it.Pub = special[int(next())%len(special)]
		case 5:
			copy(it.Sig[:32], special[int(next())%len(special)][:])
		case 6:
			copy(it.Sig[32:], special[int(next())%len(special)][:])
		case 7: // the other s with the same x of R
			s := modN([32]byte(it.Sig[32:]))
			s.Negate().PutBytesUnchecked(it.Sig[32:])
		case 8: // a part of another item
			other := base[int(next())%len(base)]
			switch next() % 3 {
			case 0:
				*it.Pub = *other.Pub
			case 1:
				copy(it.Sig[:32], other.Sig[:32])
			case 2:
				it.Msg = other.Msg
			}
		case 10: // a hint, right but for what is changed
			ts, _ := decode([]Item{it}, nil)
			y := [32]byte{}
			if len(ts.list) == 1 {
				y = ts.list[0].r.y.bytes()
			}
			y[next()%32] ^= next()
			it.RY = &y
		case 11:
			it.RY = &special[int(next())%len(special)]
		case 9: // raw
			take(it.Pub[:])
			take(it.Sig[:])
			it.Msg = it.Msg[:int(next())%(len(it.Msg)+1)]
		}
		items = append(items, it)
	}
	return items
}

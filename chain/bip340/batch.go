package bip340

import "slices"

// Item is one signature to check: does Sig sign Msg under Pub? Neither of these two pointers may be nil.
type Item struct {
	Pub *[32]byte
	Msg []byte
	Sig *[64]byte

	// RY may be nil, or a guess at the even y of the point R whose x the signature's first half is, big-endian. A right
	// one saves a batch the square root for R; a wrong one is found out and changes no verdict.
	RY *[32]byte
}

// sizes are what the batch is tuned by; they change no verdict.
type sizes struct {
	chunk int // at most so many items stand in one sum
	halve int // fewer, in a batch that failed, are verified one by one
}

// tuned: a larger chunk gains from keys that repeat, and 16,384 items bound a call's memory at about 25 MB. A batch of one
// costs less than half of what Verify does, so nothing is too small for a sum. See bench_test.go.
var tuned = sizes{chunk: 16384, halve: 2}

// VerifyBatch reports whether all items are valid. A true is wrong with probability 2^-128 at most, over the call's own
// randomness and whatever the items are. A false is not a verdict on any item: ask [Invalid]. No items are all valid.
func VerifyBatch(items []Item) bool {
	for part := range slices.Chunk(items, tuned.chunk) {
		ts, broken := decode(part, nil)
		if len(broken) > 0 {
			return false
		}
		randomize(ts)
		if s := sum(ts); !s.isInfinity() {
			return false
		}
	}
	return true
}

// Invalid returns the indexes of the items that are not valid, ascending, or nil when all are. Valid items are accepted
// by batches (an invalid one with probability below 2^-124); every index returned was refused by [Verify] itself.
//
// Items that don't decode cost one Verify each. Otherwise a batch that fails is halved until the guilty are nearly alone;
// where they turn out to be many, the rest is verified one by one. The dearest mixtures measured cost 1.2 times what Verify
// on each item costs (BenchmarkInvalid4096).
func Invalid(items []Item) []int { return invalid(items, tuned, nil) }

// invalid is Invalid with its sizes as a parameter; tests set them to 1 so that every item meets the batch.
func invalid(items []Item, size sizes, known *Keys) []int {
	b := bisection{items: items, sizes: size}
	for start := 0; start < len(items); start += size.chunk {
		end := min(start+size.chunk, len(items))
		ts, broken := decode(items[start:end], known)
		before := len(b.bad)
		for _, i := range broken {
			b.decide(start + i)
		}
		for i := range ts.list {
			ts.list[i].index += start
		}
		b.find(ts)
		known.learn(ts, b.bad[before:])
	}
	slices.Sort(b.bad)
	return b.bad
}

func (it Item) refused() bool { return !Verify(it.Pub, it.Msg, it.Sig) }

// bisection finds the invalid items of a batch.
type bisection struct {
	sizes
	items []Item
	bad   []int // indexes refused by Verify, in the order found

	// Of the batch at hand: how many terms have been decided, by the rule or by a sum, and how many of them refused.
	decided, refused int

	asked int // how many times Verify was called
}

// find decides all terms of one batch.
func (b *bisection) find(ts terms) {
	b.decided, b.refused = 0, 0
	if len(ts.list) == 0 {
		return
	}
	randomize(ts)
	if s := sum(ts); !s.isInfinity() {
		b.split(ts, &s)
	}
}

// split decides terms whose sum is known not to be zero. Only one half is multiplied out: the other half's sum is the
// difference.
func (b *bisection) split(ts terms, total *jacobian) {
	n := len(ts.list)
	if n < max(2, b.halve) || b.dense() {
		b.single(ts)
		return
	}
	left, right := ts.slice(0, n/2), ts.slice(n/2, n)
	l := sum(left)
	r := *total
	r.sub(&l)
	b.half(left, &l)
	b.half(right, &r)
}

// dense reports whether so many of the terms decided so far were refused (one in three) that halving doesn't pay.
func (b *bisection) dense() bool { return b.decided > 0 && 3*b.refused >= b.decided }

func (b *bisection) half(ts terms, total *jacobian) {
	if total.isInfinity() {
		b.decided += len(ts.list)
		return
	}
	b.split(ts, total)
}

func (b *bisection) single(ts terms) {
	before := len(b.bad)
	for i := range ts.list {
		b.decide(ts.list[i].index)
	}
	b.decided += len(ts.list)
	b.refused += len(b.bad) - before
}

// decide asks the rule about one item.
func (b *bisection) decide(i int) {
	b.asked++
	if b.items[i].refused() {
		b.bad = append(b.bad, i)
	}
}

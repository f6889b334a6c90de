package bip340

import (
	"math"
	"math/bits"
	"slices"
)

// msm computes Σ k·P over many points (multi-scalar multiplication) by Pippenger's bucket method. A scalar is cut into
// windows of signed digits; in each window the points of one digit are added up into a bucket, and Σ d·bucket(d) follows.
//
// Nearly all work is in sums of many small lists of points, and all lists of a window are summed at once, in pairs, in
// rounds: an affine addition needs one inversion, and hundreds of them share one (P. Montgomery's trick), so that it costs
// five products and a squaring. Σ d·bucket(d) is made of such lists too: with d = 2^b·u + v, the buckets are summed by
// u and by v, and those sums by the bits of u and v, which leaves one point a bit of the scalar.
//
// The zero msm is ready; one that is used again keeps its memory. It is for one goroutine.
type msm struct {
	points  []point
	scalars [][3]uint64

	pairs []pair
	ends  []uint32 // while lists are sorted: where each begins, then where it ends
	lists []active // those with points, in order
	refs  []uint32 // their points, one list after the other
	has   []bool   // by list: its sum is not infinity
	mem   [2][]point
	turn  int
	blockOfJobs
}

// pair says that a point stands in a list. A ref is 2i, or 2i + 1 for the negative of points[i].
type pair struct{ list, ref uint32 }

// scalarBits is the length of a scalar, 128 bits, and of the carry of its signed digits.
const scalarBits = 129

// window is one digit's place: bits off to off + width − 1. Digits are −2^(width−1) to 2^(width−1).
type window struct{ off, width int }

func (w window) buckets() int { return 1 << (w.width - 1) }

// maxWidth bounds the lists of a window: 2^14 buckets.
const maxWidth = 15

// windows cuts a scalar into windows of nearly one width: as many as take the least work for n points.
func windows(n int) []window {
	var cost [maxWidth + 1]float64
	for width := 1; width <= maxWidth; width++ {
		cost[width] = windowCost(n, width)
	}
	best, least := 0, 0.0
	for number := (scalarBits + maxWidth - 1) / maxWidth; number <= scalarBits; number++ {
		wider := scalarBits % number // so many are one bit wider
		c := float64(wider)*cost[min(scalarBits/number+1, maxWidth)] + float64(number-wider)*cost[scalarBits/number]
		if best == 0 || c < least {
			best, least = number, c
		}
	}
	ws, off := make([]window, best), 0
	for i := range ws {
		ws[i] = window{off, (scalarBits + i) / best}
		off += ws[i].width
	}
	return ws
}

// windowCost is about how many additions a window takes; see msm.window for the three levels.
func windowCost(n, width int) float64 {
	filled := func(lists, points float64) float64 { // lists that get one of so many points, each thrown into any
		return lists * -math.Expm1(-points/lists)
	}
	half := width / 2
	points := float64(n)
	buckets := filled(float64(uint(1)<<(width-1)), points)
	us, vs := filled(float64(uint(1)<<(width-1)>>half+1), buckets), filled(float64(uint(1)<<half), buckets)
	parts := us*float64(width-1-half) + vs*float64(half)
	return 1.15*points - buckets + 2.15*buckets - us - vs + 0.6*parts
}

// reset begins a new sum, of about n points.
func (m *msm) reset(n int) {
	m.points, m.scalars = slices.Grow(m.points[:0], n), slices.Grow(m.scalars[:0], n)
}

// add puts k·p into the sum.
func (m *msm) add(p *point, k half) {
	m.points = append(m.points, *p)
	m.scalars = append(m.scalars, [3]uint64{k[0], k[1]})
}

// addWide puts k·p into the sum, as two points with scalars of half the length.
func (m *msm) addWide(p *point, k *scalar) {
	k1, k2, neg1, neg2 := k.split()
	q := *p
	q.y.negIf(&p.y, neg1)
	m.add(&q, k1)
	q = p.times(neg2)
	m.add(&q, k2)
}

// sum is the sum of all that was added.
func (m *msm) sum() (total jacobian) {
	if len(m.points) == 0 {
		return total
	}
	ws := windows(len(m.points))
	m.shift(ws)
	var at [scalarBits + 1]point // at[i] is to be multiplied by 2^i
	var has [scalarBits + 1]bool
	for len(ws) > 0 { // as many windows at once as make up about 2^14 points: a round is dear when it is short
		n := min(len(ws), max(1, 1<<14/(len(m.points)+1)))
		m.window(ws[:n], &at, &has)
		ws = ws[n:]
	}
	for i := scalarBits; i >= 0; i-- {
		total.double()
		if has[i] {
			total.addPoint(&at[i])
		}
	}
	return total
}

// shift adds half a window to every digit, so that a digit is the difference of that half and the bits of its window, and
// no digit depends on another.
func (m *msm) shift(ws []window) {
	var by [3]uint64
	for _, w := range ws {
		i := w.off + w.width - 1
		by[i/64] |= 1 << (i % 64)
	}
	for i := range m.scalars {
		k := &m.scalars[i]
		var c uint64
		k[0], c = bits.Add64(k[0], by[0], 0)
		k[1], c = bits.Add64(k[1], by[1], c)
		k[2], _ = bits.Add64(k[2], by[2], c)
	}
}

// window adds up what some windows contribute, by bits.
func (m *msm) window(ws []window, at *[scalarBits + 1]point, has *[scalarBits + 1]bool) {
	// Buckets: list = digit − 1, from first on for each window.
	first := uint32(0)
	for _, w := range ws {
		m.digits(w, first)
		first += uint32(w.buckets())
	}
	buckets := m.sums(m.points, int(first))

	// Each bucket's digit is 2^half·u + v: first a list for each u from 0 to the largest, then one for each v.
	lists, bucket := uint32(0), uint32(0)
	for _, w := range ws {
		half := w.width / 2
		vs := lists + uint32(w.buckets()>>half) + 1
		for d := uint32(1); d <= uint32(w.buckets()); d++ {
			if m.has[bucket] {
				if u := d >> half; u != 0 {
					m.pairs = append(m.pairs, pair{lists + u, bucket << 1})
				}
				if v := d & (1<<half - 1); v != 0 {
					m.pairs = append(m.pairs, pair{vs + v, bucket << 1})
				}
			}
			bucket++
		}
		lists = vs + 1<<half
	}
	parts := m.sums(buckets, int(lists))

	// Each u and v is a sum of powers of two.
	list := uint32(0)
	spread := func(n, off int) {
		for d := range n {
			for b := uint32(d); b != 0 && m.has[list]; b &= b - 1 {
				m.pairs = append(m.pairs, pair{uint32(off + bits.TrailingZeros32(b)), list << 1})
			}
			list++
		}
	}
	for _, w := range ws {
		half := w.width / 2
		spread(w.buckets()>>half+1, w.off+half)
		spread(1<<half, w.off)
	}
	for i, p := range m.sums(parts, scalarBits+1) {
		if m.has[i] {
			at[i], has[i] = p, true
		}
	}
}

// digits puts every point with a digit other than 0 into that digit's list.
func (m *msm) digits(w window, first uint32) {
	limb, shift := w.off/64, w.off%64
	mask := uint64(1)<<w.width - 1
	if w.off+w.width == scalarBits {
		mask = ^uint64(0) // the last digit takes the carry
	}
	middle := 1 << (w.width - 1)
	for i := range m.scalars {
		k := &m.scalars[i]
		b := k[limb] >> shift
		if limb < 2 {
			b |= k[limb+1] << 1 << (63 - shift)
		}
		d := int(b&mask) - middle
		if d == 0 {
			continue
		}
		neg := uint32(0)
		if d < 0 {
			d, neg = -d, 1
		}
		m.pairs = append(m.pairs, pair{first + uint32(d) - 1, uint32(i)<<1 | neg})
	}
}

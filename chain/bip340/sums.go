package bip340

// active is a list with points left: so many refs, after those of the active lists before it.
type active struct{ list, count uint32 }

// job is one addition of a block: of two refs, to where the sum goes.
type job struct {
	a, b, to uint32
	double   bool // a and b are one point
}

// block is how many additions share an inversion at most. An inversion costs as much as 35 additions; den and pre of 512
// stay in the first-level cache.
const block = 512

type blockOfJobs struct {
	n   int
	job [block]job
	den [block]fe // by job: what to divide by
	pre [block]fe // by job: the product of all den before it
}

// portion is about how many points are summed before the next lists begin: so many stay in the second-level cache.
const portion = 8192

// sums adds up each of n lists given by m.pairs over src, and empties m.pairs. It returns the sums by list, and m.has says
// which of them are points; the others are infinity. Their memory is good until the call after the next.
//
// In a round, neighbours in a list are added, which halves it; after the last round every list is one point.
func (m *msm) sums(src []point, n int) []point {
	m.sort(n)
	m.has = grow(m.has, n)
	clear(m.has)
	m.turn ^= 1
	mem := &m.mem[m.turn]
	*mem = enlarge(*mem, n)
	lists, refs := m.lists, m.refs
	for len(lists) > 0 {
		end, count, half := 0, 0, 0
		for end < len(lists) && (count < portion || end == 0) {
			count += int(lists[end].count)
			half += int(lists[end].count+1) / 2
			end++
		}
		*mem = enlarge(*mem, n+2*half) // the sums, and the lists of two rounds, in turn
		out := *mem
		a, r, from := lists[:end], refs[:count], src
		for at := n; len(a) > 0; at = 2*n + half - at {
			a, r = m.round(a, r, from, out, at)
			from = out
		}
		lists, refs = lists[end:], refs[count:]
	}
	return (*mem)[:n]
}

// enlarge returns s with at least n elements, keeping what it holds.
func enlarge(s []point, n int) []point {
	if len(s) < n {
		s = append(s, make([]point, n-len(s))...)
		s = s[:cap(s)]
	}
	return s
}

// grow returns n elements in the memory of s or in new memory; what they hold is not said.
func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, n+n/8)
	}
	return s[:n]
}

// sort makes m.lists and m.refs of m.pairs, by counting.
func (m *msm) sort(n int) {
	m.ends = grow(m.ends, n)
	clear(m.ends)
	for _, p := range m.pairs {
		m.ends[p.list]++
	}
	m.lists = m.lists[:0]
	end := uint32(0)
	for i, c := range m.ends {
		m.ends[i] = end // for now: where the list begins
		end += c
		if c > 0 {
			m.lists = append(m.lists, active{uint32(i), c})
		}
	}
	m.refs = grow(m.refs[:0], len(m.pairs))
	for _, p := range m.pairs {
		m.refs[m.ends[p.list]] = p.ref
		m.ends[p.list]++
	}
	m.pairs = m.pairs[:0]
}

// round adds up neighbours in each list. A list's last point goes to out[list]; where more are left, they go to out[at] and
// on, and round returns those lists and refs. It writes them in place of the old ones. Two points that add up to infinity
// leave nothing.
func (m *msm) round(lists []active, refs []uint32, src, out []point, at int) ([]active, []uint32) {
	old, to := refs, uint32(at)
	still := lists[:0]
	for _, l := range lists {
		if l.count <= 2 {
			if l.count == 1 {
				out[l.list].set(src, old[0])
				m.has[l.list] = true
			} else {
				m.has[l.list] = m.enqueue(src, out, job{a: old[0], b: old[1], to: l.list})
			}
			old = old[l.count:]
			continue
		}
		before := to
		for ; l.count >= 2; l.count -= 2 {
			if m.enqueue(src, out, job{a: old[0], b: old[1], to: to}) {
				to++
			}
			old = old[2:]
		}
		if l.count == 1 {
			out[to].set(src, old[0])
			old = old[1:]
			to++
		}
		if to > before {
			still = append(still, active{l.list, to - before})
		}
	}
	m.flush(src, out)
	refs = refs[:int(to)-at]
	for i := range refs {
		refs[i] = uint32(at+i) << 1
	}
	return still, refs
}

// set copies a point, or its negative.
func (p *point) set(src []point, ref uint32) {
	q := &src[ref>>1]
	p.x = q.x
	p.y.negIf(&q.y, uint64(ref&1))
}

// enqueue puts an addition into the block, or returns false if the sum is infinity.
func (m *msm) enqueue(src, out []point, j job) bool {
	a, b := &src[j.a>>1], &src[j.b>>1]
	d := &m.den[m.n]
	d.sub(&b.x, &a.x)
	if d.mayBeZero() && d.isZero() { // one point twice, or a point and its negative
		d.negIf(&b.y, uint64((j.a^j.b)&1))
		if !d.equal(&a.y) {
			return false
		}
		d.negIf(&a.y, uint64(j.a&1))
		d.add(d, d)
		j.double = true
	}
	m.job[m.n] = j
	if m.n++; m.n == block {
		m.flush(src, out)
	}
	return true
}

// flush does the additions of the block.
func (m *msm) flush(src, out []point) {
	n := m.n
	m.n = 0
	if n == 0 {
		return
	}
	job, den, pre := m.job[:n], m.den[:n], m.pre[:n]
	pre[0] = feOne
	for i := range n - 1 {
		pre[i+1].mul(&pre[i], &den[i])
	}
	var inv, l, t, ya fe
	inv.mul(&pre[n-1], &den[n-1])
	inv.inv(&inv)
	for i := n - 1; i >= 0; i-- {
		j := &job[i]
		a, b, to := &src[j.a>>1], &src[j.b>>1], &out[j.to]
		l.mul(&inv, &pre[i]) // 1/den[i]
		inv.mul(&inv, &den[i])
		ya.negIf(&a.y, uint64(j.a&1))
		if j.double { // the slope is 3x²/2y
			t.sqr(&a.x)
			l.mul(&l, &t)
			t.add(&l, &l)
			l.add(&l, &t)
		} else { // the slope is (yb − ya)/(xb − xa)
			t.negIf(&b.y, uint64(j.b&1))
			t.sub(&t, &ya)
			l.mul(&l, &t)
		}
		t.sqr(&l)
		t.sub2(&t, &a.x, &b.x)
		to.x = t
		t.sub(&a.x, &t)
		t.mul(&t, &l)
		to.y.sub(&t, &ya)
	}
}

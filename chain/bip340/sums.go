package bip340

// sums adds up each of n lists given by m.pairs over src, and empties m.pairs. m.counts then says which lists have a sum
// other than infinity, 1 or 0, and those sums are returned in order. Their memory is good until the second call from here.
func (m *msm) sums(src []point, n int) []point {
	m.sort(n)
	for {
		most := 0
		for _, c := range m.counts {
			most += int(c+1) / 2
		}
		out := m.buffer(most)
		again := false
		src, again = m.round(src, out)
		if !again {
			return src
		}
		for i := range src {
			m.refs[i] = uint32(i) << 1
		}
	}
}

// buffer returns the memory of the round before last.
func (m *msm) buffer(n int) []point {
	m.turn ^= 1
	b := &m.bufs[m.turn]
	if cap(*b) < n {
		*b = make([]point, n)
	}
	return (*b)[:n]
}

// sort makes m.counts and m.refs of m.pairs, by counting.
func (m *msm) sort(n int) {
	if cap(m.counts) < n {
		m.counts = make([]uint32, n)
	}
	m.counts = m.counts[:n]
	clear(m.counts)
	for _, p := range m.pairs {
		m.counts[p.list]++
	}
	end := uint32(0)
	for i, c := range m.counts {
		m.counts[i] = end // for now: where the list begins
		end += c
	}
	if cap(m.refs) < len(m.pairs) {
		m.refs = make([]uint32, len(m.pairs))
	}
	m.refs = m.refs[:len(m.pairs)]
	for _, p := range m.pairs {
		m.refs[m.counts[p.list]] = p.ref
		m.counts[p.list]++
	}
	begin := uint32(0)
	for i, end := range m.counts {
		m.counts[i] = end - begin
		begin = end
	}
	m.pairs = m.pairs[:0]
}

// round adds up neighbours in each list, writes the shorter lists to out, and reports whether one has more than one point.
// Two points that add up to infinity leave nothing.
func (m *msm) round(src, out []point) (sums []point, again bool) {
	refs, to := m.refs, uint32(0)
	for i, c := range m.counts {
		before := to
		for ; c >= 2; c -= 2 {
			if m.enqueue(src, job{a: refs[0], b: refs[1], to: to}) {
				to++
				if m.jobs == block {
					m.flush(src, out)
				}
			}
			refs = refs[2:]
		}
		if c == 1 {
			p := &src[refs[0]>>1]
			out[to].x = p.x
			out[to].y.negIf(&p.y, uint64(refs[0]&1))
			refs = refs[1:]
			to++
		}
		m.counts[i] = to - before
		again = again || to-before > 1
	}
	m.flush(src, out)
	return out[:to], again
}

// enqueue puts an addition into the block, or returns false if the sum is infinity.
func (m *msm) enqueue(src []point, j job) bool {
	a, b := &src[j.a>>1], &src[j.b>>1]
	d := &m.den[m.jobs]
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
	m.job[m.jobs] = j
	m.jobs++
	return true
}

// flush does the additions of the block.
func (m *msm) flush(src, out []point) {
	n := m.jobs
	m.jobs = 0
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
		t.sub(&t, &a.x)
		t.sub(&t, &b.x)
		to.x = t
		t.sub(&a.x, &t)
		t.mul(&t, &l)
		to.y.sub(&t, &ya)
	}
}

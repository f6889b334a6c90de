package bip340

// lifter finds the y of many points, lanes of them at a time.
type lifter struct {
	p  [lanes]*point
	ok [lanes]*bool
	n  int
}

// add asks for the even y of the point with p.x. When lifter.flush has been called *ok says whether there is one, as
// BIP-340's lift_x; p.x must be below p.
func (l *lifter) add(p *point, ok *bool) {
	l.p[l.n], l.ok[l.n] = p, ok
	if l.n++; l.n == lanes {
		l.flush()
	}
}

func (l *lifter) flush() {
	if l.n == 0 {
		return
	}
	var y2, y feLanes
	for i, p := range l.p[:l.n] {
		y2[i] = p.ySquared()
	}
	y.sqrt(&y2)
	for i, p := range l.p[:l.n] {
		var t fe
		t.sqr(&y[i])
		*l.ok[i] = t.equal(&y2[i])
		p.y = y[i].normed()
		if p.y[0]&1 == 1 {
			p.y.neg(&p.y)
		}
	}
	l.n = 0
}

// ySquared is x³ + 7.
func (p *point) ySquared() (y2 fe) {
	y2.sqr(&p.x)
	y2.mul(&y2, &p.x)
	y2.add(&y2, &feSeven)
	return y2
}

// hinted takes a y from outside, if it is what lift would find.
func (p *point) hinted(y *[32]byte) bool {
	if !p.y.setBytes(y) || p.y[0]&1 == 1 {
		return false
	}
	var t fe
	t.sqr(&p.y)
	y2 := p.ySquared()
	return t.equal(&y2)
}

package bip340

// point is a finite point of the curve y² = x³ + 7.
type point struct{ x, y fe }

var generator = point{
	fe{0x59f2815b16f81798, 0x029bfcdb2dce28d9, 0x55a06295ce870b07, 0x79be667ef9dcbbac},
	fe{0x9c47d08ffb10d4b8, 0xfd17b448a6855419, 0x5da4fbfc0e1108a8, 0x483ada7726a3c465},
}

// times is the point λ·p, or −λ·p if sign is 1.
func (p *point) times(sign uint64) (q point) {
	q.x.mul(&p.x, &feBeta)
	q.y.negIf(&p.y, sign)
	return q
}

// jacobian is the point (x/z², y/z³), or infinity, the zero of the group, where z = 0.
type jacobian struct{ x, y, z fe }

func (p *jacobian) isInfinity() bool { return p.z.isZero() }

// double sets p = 2p. There is no point with y = 0, since −7 is no cube modulo p. Formula dbl-2009-l of the Explicit-Formulas
// Database (https://hyperelliptic.org/EFD/g1p/auto-shortw-jacobian-0.html).
func (p *jacobian) double() {
	var a, b, c, d, e, f fe
	a.sqr(&p.x)
	b.sqr(&p.y)
	c.sqr(&b)
	d.add(&p.x, &b)
	d.sqr(&d)
	d.sub2(&d, &a, &c)
	d.add(&d, &d)
	e.add(&a, &a)
	e.add(&e, &a)
	f.sqr(&e)
	p.z.mul(&p.y, &p.z)
	p.z.add(&p.z, &p.z)
	p.x.sub2(&f, &d, &d)
	d.sub(&d, &p.x)
	c.add(&c, &c)
	c.add(&c, &c)
	c.add(&c, &c)
	p.y.mul(&e, &d)
	p.y.sub(&p.y, &c)
}

// add sets p = p + q. Formula add-1998-cmo-2.
func (p *jacobian) add(q *jacobian) {
	if q.isInfinity() {
		return
	}
	if p.isInfinity() {
		*p = *q
		return
	}
	var zp, zq, u, h, s, r, t fe
	zp.sqr(&p.z)
	zq.sqr(&q.z)
	u.mul(&p.x, &zq) // u = X1·Z2², h = X2·Z1² − u
	h.mul(&q.x, &zp)
	h.sub(&h, &u)
	s.mul(&p.y, &zq) // s = Y1·Z2³, r = Y2·Z1³ − s
	s.mul(&s, &q.z)
	r.mul(&q.y, &zp)
	r.mul(&r, &p.z)
	r.sub(&r, &s)
	if h.isZero() {
		if r.isZero() {
			p.double()
		} else {
			*p = jacobian{}
		}
		return
	}
	p.z.mul(&p.z, &q.z)
	p.z.mul(&p.z, &h)
	t.sqr(&h)
	u.mul(&u, &t)
	t.mul(&t, &h)
	p.x.sqr(&r)
	p.x.sub(&p.x, &t)
	p.x.sub2(&p.x, &u, &u)
	u.sub(&u, &p.x)
	p.y.mul(&r, &u)
	t.mul(&t, &s)
	p.y.sub(&p.y, &t)
}

// addPoint sets p = p + q. Formula add-1998-cmo-2 with Z2 = 1.
func (p *jacobian) addPoint(q *point) {
	if p.isInfinity() {
		*p = jacobian{q.x, q.y, feOne}
		return
	}
	var zp, v, h, r, t fe
	zp.sqr(&p.z)
	h.mul(&q.x, &zp)
	h.sub(&h, &p.x)
	r.mul(&q.y, &zp)
	r.mul(&r, &p.z)
	r.sub(&r, &p.y)
	if h.isZero() {
		if r.isZero() {
			p.double()
		} else {
			*p = jacobian{}
		}
		return
	}
	p.z.mul(&p.z, &h)
	t.sqr(&h)
	v.mul(&p.x, &t)
	t.mul(&t, &h)
	p.x.sqr(&r)
	p.x.sub(&p.x, &t)
	p.x.sub2(&p.x, &v, &v)
	v.sub(&v, &p.x)
	t.mul(&t, &p.y)
	p.y.mul(&r, &v)
	p.y.sub(&p.y, &t)
}

// sub sets p = p − q.
func (p *jacobian) sub(q *jacobian) {
	n := *q
	n.y.neg(&q.y)
	p.add(&n)
}

package bip340

import (
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/consensys/gnark-crypto/ecc"
	gnark "github.com/consensys/gnark-crypto/ecc/secp256k1"
	"github.com/consensys/gnark-crypto/ecc/secp256k1/fr"
)

// mulTerm is one k·P of a sum. A scalar below 2^128 may be given to msm.add too.
type mulTerm struct {
	p point
	k scalar
}

func toGnark(p *point) (g gnark.G1Affine) {
	g.X.SetBigInt(p.x.big())
	g.Y.SetBigInt(p.y.big())
	return g
}

// checkMSM holds a sum against gnark's multi-exponentiation.
func checkMSM(t testing.TB, m *msm, terms []mulTerm) {
	t.Helper()
	points, scalars := make([]gnark.G1Affine, len(terms)), make([]fr.Element, len(terms))
	m.reset(0)
	for i := range terms {
		points[i] = toGnark(&terms[i].p)
		scalars[i].SetBigInt(terms[i].k.big())
		if k := terms[i].k; k[2]|k[3] == 0 && i%2 == 0 {
			m.add(&terms[i].p, half{k[0], k[1]})
		} else {
			m.addWide(&terms[i].p, &k)
		}
	}
	var want gnark.G1Affine
	if len(terms) > 0 {
		if _, err := want.MultiExp(points, scalars, ecc.MultiExpConfig{NbTasks: 1}); err != nil {
			t.Fatal(err)
		}
	}
	got := m.sum()
	if got.isInfinity() != want.IsInfinity() {
		t.Fatalf("%d terms: infinity %v, gnark says %v", len(terms), got.isInfinity(), want.IsInfinity())
	}
	if want.IsInfinity() {
		return
	}
	p := got.affine()
	var x, y big.Int
	if p.x.big().Cmp(want.X.BigInt(&x)) != 0 || p.y.big().Cmp(want.Y.BigInt(&y)) != 0 {
		t.Fatalf("%d terms: %x, gnark says %x, %x", len(terms), p, &x, &y)
	}
}

// affine is the point, in normal form; p must not be infinity.
func (p *jacobian) affine() (q point) {
	var i, i2 fe
	i.inv(&p.z)
	i2.sqr(&i)
	q.x.mul(&p.x, &i2)
	q.y.mul(&p.y, &i2)
	q.y.mul(&q.y, &i)
	return point{q.x.normed(), q.y.normed()}
}

func randomScalar(r *rand.Rand) (k scalar) {
	b := random32(r)
	k.setBytes(&b)
	return k
}

func randomHalf(r *rand.Rand) scalar { return scalar{r.Uint64(), r.Uint64()} }

// somePoints are n multiples of the base point, of which none is another's negative.
func somePoints(r *rand.Rand, n int) (ps []point) {
	for range n {
		var p jacobian
		p.addPoint(&generator)
		for range 20 {
			p.double()
			if r.IntN(2) == 1 {
				p.addPoint(&generator)
			}
		}
		ps = append(ps, p.affine())
	}
	return ps
}

func (p point) negated() point { p.y.neg(&p.y); return p }

func TestMSMRandom(t *testing.T) {
	r := newRand(90)
	var m msm // one for all, so that what a sum leaves behind is seen
	pool := somePoints(r, 700)
	for _, n := range []int{0, 1, 2, 3, 5, 8, 17, 40, 64, 100, 350, 700, 7, 1} {
		for _, draw := range []func(*rand.Rand) scalar{randomScalar, randomHalf} {
			terms := make([]mulTerm, n)
			for i := range terms {
				terms[i] = mulTerm{pool[i], draw(r)}
			}
			checkMSM(t, &m, terms)
		}
	}
}

// TestMSMHostile has sums in which lists collide, points repeat or cancel, and sums come out as infinity on every level.
func TestMSMHostile(t *testing.T) {
	r := newRand(91)
	pool := somePoints(r, 64)
	var one, two, last, top scalar
	one[0], two[0], top = 1, 2, scalar{^uint64(0), ^uint64(0)}
	last.neg(&one)
	k := randomScalar(r)
	var minusK scalar
	minusK.neg(&k)
	fill := func(n int, f func(i int) mulTerm) (ts []mulTerm) {
		for i := range n {
			ts = append(ts, f(i))
		}
		return ts
	}
	scenes := map[string][]mulTerm{
		"all scalars 0":                 fill(50, func(i int) mulTerm { return mulTerm{pool[i], scalar{}} }),
		"all scalars 1":                 fill(50, func(i int) mulTerm { return mulTerm{pool[i], one} }),
		"all scalars n - 1":             fill(50, func(i int) mulTerm { return mulTerm{pool[i], last} }),
		"all scalars 2^128 - 1":         fill(50, func(i int) mulTerm { return mulTerm{pool[i], top} }),
		"one scalar":                    fill(64, func(i int) mulTerm { return mulTerm{pool[i], k} }),
		"one point, one scalar":         fill(64, func(int) mulTerm { return mulTerm{pool[0], k} }),
		"one point":                     fill(64, func(int) mulTerm { return mulTerm{pool[0], randomScalar(r)} }),
		"one point, 0 in all":           fill(64, func(i int) mulTerm { return mulTerm{pool[0], []scalar{k, minusK}[i%2]} }),
		"P and -P, one scalar":          fill(64, func(i int) mulTerm { return mulTerm{[]point{pool[0], pool[0].negated()}[i%2], k} }),
		"P and -P, one left over":       fill(65, func(i int) mulTerm { return mulTerm{[]point{pool[0], pool[0].negated()}[i%2], k} }),
		"P, P, -P, -P":                  fill(64, func(i int) mulTerm { return mulTerm{[]point{pool[0], pool[0].negated()}[i/2%2], k} }),
		"P twice and -2P":               {{pool[0], k}, {pool[0], k}, {pool[0], minusK}, {pool[0], minusK}},
		"P and λP and λ²P":              {{pool[0], one}, {pool[0].times(0), one}, {twice(pool[0]), one}},
		"base point twice":              {{generator, one}, {generator, one}},
		"0 and 1":                       fill(40, func(i int) mulTerm { return mulTerm{pool[i], scalar{uint64(i % 2)}} }),
		"small scalars":                 fill(60, func(i int) mulTerm { return mulTerm{pool[i], scalar{uint64(i)}} }),
		"powers of two":                 fill(127, func(i int) mulTerm { return mulTerm{pool[i%64], powerOfTwo(i)} }),
		"powers of two of one point":    fill(256, func(i int) mulTerm { return mulTerm{pool[0], powerOfTwo(i)} }),
		"a power less one of one point": fill(128, func(i int) mulTerm { return mulTerm{pool[0], lessOne(i)} }),
		"many pairs that cancel": fill(300, func(i int) mulTerm {
			return mulTerm{[]point{pool[i/2%64], pool[i/2%64].negated()}[i%2], randomOf(i / 2)}
		}),
		"many that cancel and one":       append(fill(300, func(i int) mulTerm { return mulTerm{pool[i/2%64], []scalar{k, minusK}[i%2]} }), mulTerm{pool[3], two}),
		"weakly reduced coordinates":     fill(9, func(i int) mulTerm { return mulTerm{heavy(i), k} }),
		"weakly reduced, with and minus": fill(18, func(i int) mulTerm { return mulTerm{[]point{heavy(i / 2), heavy(i / 2).negated()}[i%2], k} }),
	}
	var m msm
	for name, terms := range scenes {
		t.Run(name, func(t *testing.T) {
			checkMSM(t, &m, terms)
			slices.Reverse(terms)
			checkMSM(t, &m, terms)
			r.Shuffle(len(terms), func(i, j int) { terms[i], terms[j] = terms[j], terms[i] })
			checkMSM(t, new(msm), terms)
		})
	}
}

func twice(p point) point { q := p.times(0); return q.times(0) }

func powerOfTwo(i int) (k scalar) { k[i%256/64] = 1 << (i % 64); k.reduce(); return k }

func lessOne(i int) (k scalar) {
	k = powerOfTwo(i)
	var minusOne scalar
	minusOne.neg(&scalar{1})
	k.add(&k, &minusOne)
	return k
}

func randomOf(seed int) scalar { return randomScalar(newRand(uint64(seed))) }

// heavy is a point whose x is below 2^32 + 977, in the form above p where i is odd.
func heavy(i int) (p point) {
	for x := uint64(1 + i/2*10); ; x++ {
		var ok bool
		var l lifter
		p = point{x: fe{x}}
		l.add(&p, &ok)
		if l.flush(); ok {
			break
		}
	}
	if i%2 == 1 {
		p.x = fe{p.x[0] + feP[0], feP[1], feP[2], feP[3]}
	}
	return p
}

// TestWindows: for any number of points, the windows are the scalar's bits in order.
func TestWindows(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 10, 100, 1000, 10_000, 50_000, 1 << 20} {
		off := 0
		for _, w := range windows(n) {
			if w.off != off || w.width < 1 || w.width > maxWidth {
				t.Errorf("%d points: %v", n, windows(n))
			}
			off += w.width
		}
		if off != scalarBits {
			t.Errorf("%d points: %d bits", n, off)
		}
	}
}

// FuzzMSM reads terms: point u8 | kind u8 | scalar bytes as the kind says. Few points, so that they meet.
func FuzzMSM(f *testing.F) {
	pool := somePoints(newRand(92), 4)
	pool = append(pool, pool[0].negated(), pool[1].negated(), pool[0].times(0), pool[0].times(1), twice(pool[0]), generator, heavy(0), heavy(1))
	f.Add([]byte{0, 0, 1, 4, 0, 1})
	f.Add([]byte{0, 0, 3, 4, 0, 3, 0, 1, 255, 0, 1, 255})
	f.Add([]byte{0, 2, 7, 6, 2, 7, 8, 2, 7})
	var m msm
	f.Fuzz(func(t *testing.T, b []byte) {
		var terms []mulTerm
		for len(b) >= 3 && len(terms) < 200 {
			mt := mulTerm{p: pool[int(b[0])%len(pool)]}
			switch b[1] % 5 {
			case 0:
				mt.k[0] = uint64(b[2])
			case 1:
				mt.k = powerOfTwo(int(b[2]))
			case 2:
				mt.k = randomOf(int(b[2]))
			case 3:
				mt.k = lessOne(int(b[2]))
			case 4:
				v := randomOf(int(b[2]))
				mt.k.neg(&v)
			}
			terms = append(terms, mt)
			b = b[3:]
		}
		checkMSM(t, &m, terms)
	})
}

// TestJacobian holds addition and doubling of points against the naive twin, infinity and equal points included.
func TestJacobian(t *testing.T) {
	r := newRand(93)
	ps := somePoints(r, 3)
	var list []jacobian
	list = append(list, jacobian{}, jacobian{x: feOne, y: feOne, z: feP}) // 0 in both forms
	for _, p := range ps {
		for _, q := range []point{p, p.negated()} {
			z := fe{r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64()} // any z stands for the same point
			var z2, z3 fe
			z2.sqr(&z)
			z3.mul(&z2, &z)
			q.x.mul(&q.x, &z2)
			q.y.mul(&q.y, &z3)
			list = append(list, jacobian{q.x, q.y, z})
		}
		list = append(list, jacobian{p.x, p.y, feOne})
	}
	ref := func(p *jacobian) *refPoint {
		if p.isInfinity() {
			return nil
		}
		a := p.affine()
		return &refPoint{a.x.big(), a.y.big()}
	}
	same := func(name string, p *jacobian, want *refPoint) {
		t.Helper()
		got := ref(p)
		if (got == nil) != (want == nil) || got != nil && (got.x.Cmp(want.x) != 0 || got.y.Cmp(want.y) != 0) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	for i := range list {
		p := list[i]
		p.double()
		same("double", &p, refAdd(ref(&list[i]), ref(&list[i])))
		for j := range list {
			p := list[i]
			p.add(&list[j])
			same("add", &p, refAdd(ref(&list[i]), ref(&list[j])))
			p.sub(&list[j])
			same("sub", &p, ref(&list[i]))
		}
		for _, q := range ps {
			p := list[i]
			p.addPoint(&q)
			same("addPoint", &p, refAdd(ref(&list[i]), &refPoint{q.x.big(), q.y.big()}))
		}
	}
}

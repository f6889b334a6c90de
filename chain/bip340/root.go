package bip340

// Powers by fixed addition chains, as libsecp256k1 has them: p − 2 and (p + 1)/4 are, in binary, 223 ones, a zero, 22 ones
// and a short tail. 255 squarings and 15 products, 253 and 13.

// lanes is how many powers are computed at once. A squaring waits for the one before it; two independent chains keep the
// multiplier busy (9.7 ns a squaring alone, 7.3 in twos, no less in threes).
const lanes = 2

type feLanes [lanes]fe

func (z *feLanes) mul(x, y *feLanes) {
	for i := range z {
		z[i].mul(&x[i], &y[i])
	}
}

// sqrs sets z = x^(2^n), n ≥ 1.
func (z *feLanes) sqrs(x *feLanes, n int) {
	z[0].sqr(&x[0])
	z[1].sqr(&x[1])
	for ; n > 1; n-- {
		z[0].sqr(&z[0])
		z[1].sqr(&z[1])
	}
}

// sqrt sets each z to x^((p+1)/4), the square root of x if x has one; p = 3 modulo 4. Which it is, its square tells.
func (z *feLanes) sqrt(x *feLanes) {
	var x2, x3, t, x22, x44, x88 feLanes
	step := func(to, from *feLanes, n int, by *feLanes) { // to = from^(2^n)·by
		to.sqrs(from, n)
		to.mul(to, by)
	}
	step(&x2, x, 1, x)
	step(&x3, &x2, 1, x)
	step(&t, &x3, 3, &x3) // x6
	step(&t, &t, 3, &x3)  // x9
	step(&t, &t, 2, &x2)  // x11
	step(&x22, &t, 11, &t)
	step(&x44, &x22, 22, &x22)
	step(&x88, &x44, 44, &x44)
	step(&t, &x88, 88, &x88) // x176
	step(&t, &t, 44, &x44)   // x220
	step(&t, &t, 3, &x3)     // x223
	step(&t, &t, 23, &x22)
	step(&t, &t, 6, &x2)
	z.sqrs(&t, 2)
}

// inv sets z = x^(p−2), the inverse of x; that of 0 is 0.
func (z *fe) inv(x *fe) {
	var x2, x3, t, x22, x44, x88 fe
	step := func(to, from *fe, n int, by *fe) {
		to.sqr(from)
		for ; n > 1; n-- {
			to.sqr(to)
		}
		to.mul(to, by)
	}
	a := *x
	step(&x2, &a, 1, &a)
	step(&x3, &x2, 1, &a)
	step(&t, &x3, 3, &x3)
	step(&t, &t, 3, &x3)
	step(&t, &t, 2, &x2)
	x11 := t
	step(&x22, &x11, 11, &x11)
	step(&x44, &x22, 22, &x22)
	step(&x88, &x44, 44, &x44)
	step(&t, &x88, 88, &x88)
	step(&t, &t, 44, &x44)
	step(&t, &t, 3, &x3)
	step(&t, &t, 23, &x22)
	step(&t, &t, 5, &a)
	step(&t, &t, 3, &x2)
	step(z, &t, 2, &a)
}

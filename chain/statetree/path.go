package statetree

import (
	"crypto/sha256"
	"encoding/binary"
)

// path is SHA-256(account) as four big-endian words, so that comparing words
// compares paths and bit 0 is the top bit of word 0.
type path [4]uint64

func pathOf(account *[32]byte) path {
	h := sha256.Sum256(account[:])
	return pathFrom(&h)
}

func pathFrom(h *Hash) (p path) {
	for i := range p {
		p[i] = binary.BigEndian.Uint64(h[8*i:])
	}
	return p
}

func (p *path) hash() (h Hash) {
	for i := range p {
		binary.BigEndian.PutUint64(h[8*i:], p[i])
	}
	return h
}

// bit returns the side (0 left, 1 right) taken below a node at this depth.
func (p *path) bit(depth int) int {
	return int(p[depth>>6]>>(63-depth&63)) & 1
}

// with returns p with the bit at this depth, which is 0, set to side.
func (p path) with(depth, side int) path {
	p[depth>>6] |= uint64(side) << (63 - depth&63)
	return p
}

// fill returns p with all bits from this depth on set.
func (p path) fill(depth int) path {
	for i := range p {
		switch at := depth - 64*i; {
		case at <= 0:
			p[i] = ^uint64(0)
		case at < 64:
			p[i] |= ^uint64(0) >> at
		}
	}
	return p
}

func (p *path) compare(q *path) int {
	for i := range p {
		if p[i] != q[i] {
			if p[i] < q[i] {
				return -1
			}
			return 1
		}
	}
	return 0
}

// shares reports whether the first d bits of both paths are equal.
func (p *path) shares(q *path, d int) bool {
	for i := 0; i < d; i += 64 {
		x := p[i>>6] ^ q[i>>6]
		if d-i < 64 {
			x >>= 64 - (d - i)
		}
		if x != 0 {
			return false
		}
	}
	return true
}

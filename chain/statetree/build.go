package statetree

import (
	"errors"
	"fmt"
	"iter"
)

// Build computes the root of leaves that come in ascending order of path,
// without holding them, and gives the pages of slots above them to put: the
// page at the top last, any other after those below it. Pages of leaves are not
// given: each is the leaves at its place, as they came (see LeafPage). next
// returns false at the end. An error of next or put ends it.
func Build(next func() (Leaf, bool, error), put func(key PageKey, page []byte) error) (root Hash, n uint64, err error) {
	b := builder{next: next, put: put}
	return b.build()
}

// BuildPages is Build that gives the pages of leaves too: all that a Paged
// reads.
func BuildPages(next func() (Leaf, bool, error), put func(key PageKey, page []byte) error) (Hash, uint64, error) {
	b := builder{next: next, put: put, whole: true}
	return b.build()
}

func (b *builder) build() (root Hash, n uint64, err error) {
	if err := b.fill(pageLeaves + 1); err != nil {
		return Hash{}, 0, err
	}
	top, err := b.slots(path{}, 0)
	if err == nil && len(b.ahead) > 0 {
		err = fmt.Errorf("statetree: leaf %d is not above the one before", b.taken)
	}
	return top.hash, b.taken, err
}

// BuildFrom is Build of leaves that walk gives to its argument, as Paged.Walk
// does.
func BuildFrom(walk func(use func(*Leaf) error) error, put func(key PageKey, page []byte) error) (Hash, uint64, error) {
	var failed error
	next, stop := iter.Pull(func(yield func(Leaf) bool) {
		failed = walk(func(l *Leaf) error {
			if !yield(*l) {
				return errStopped
			}
			return nil
		})
	})
	defer stop()
	return Build(func() (Leaf, bool, error) {
		l, ok := next()
		if !ok && failed != nil {
			return l, false, failed
		}
		return l, ok, nil
	}, put)
}

var errStopped = errors.New("statetree: stopped")

// builder reads ahead as far as it takes to know whether a page is cut.
type builder struct {
	next  func() (Leaf, bool, error)
	put   func(PageKey, []byte) error
	whole bool // pages of leaves are given too
	ahead []placedLeaf
	last  path
	taken uint64
	ended bool
}

type placedLeaf struct {
	leaf Leaf
	path path
}

func (b *builder) fill(n int) error {
	for len(b.ahead) < n && !b.ended {
		leaf, ok, err := b.next()
		if err != nil {
			return err
		}
		if b.ended = !ok; b.ended {
			return nil
		}
		p := pathOf(&leaf.Account)
		if leaf.Void() || (b.taken > 0 || len(b.ahead) > 0) && b.last.compare(&p) >= 0 {
			return fmt.Errorf("statetree: a leaf that is void, or not above the one before")
		}
		b.last, b.ahead = p, append(b.ahead, placedLeaf{leaf, p})
	}
	return nil
}

// below counts the leaves ahead that lie below a place, up to most.
func (b *builder) below(prefix *path, depth, most int) (int, error) {
	if err := b.fill(most); err != nil {
		return 0, err
	}
	n := 0
	for n < len(b.ahead) && n < most && b.ahead[n].path.shares(prefix, depth) {
		n++
	}
	return n, nil
}

// subtree takes the leaves below a place, two at least, where a page is.
func (b *builder) subtree(prefix path, depth int) (subtree, error) {
	most := pageLeaves + 1
	if depth >= pageDeepest {
		most = 1 << 16
	}
	n, err := b.below(&prefix, depth, most)
	if err != nil || n == most {
		if err == nil && depth >= pageDeepest {
			err = fmt.Errorf("statetree: %d paths share %d bits", n, depth)
		}
		if err != nil {
			return subtree{}, err
		}
		return b.slots(prefix, depth)
	}
	items, leaves := make([]item, n), make([]Leaf, n)
	for i := range items {
		items[i], leaves[i] = item{path: b.ahead[i].path, index: i}, b.ahead[i].leaf
	}
	b.take(n)
	if b.whole {
		page := append(make([]byte, 0, 1+n*LeafSize), pageOfLeaves)
		for i := range leaves {
			page = leaves[i].append(page)
		}
		if err := b.put(pageKey(&prefix, depth), page); err != nil {
			return subtree{}, err
		}
	}
	return hashItems(items, depth, leaves), nil
}

func (b *builder) take(n int) {
	b.taken += uint64(n)
	b.ahead = b.ahead[:copy(b.ahead, b.ahead[n:])]
}

// slots makes the page of slots at a place.
func (b *builder) slots(prefix path, depth int) (subtree, error) {
	page := append(make([]byte, 0, 1+pageSlots*33), pageOfSlots)
	var level [pageSlots]subtree
	for i := range level {
		at := path{prefix[0] | uint64(i)<<(64-pageBits-depth)}
		n, err := b.below(&at, depth+pageBits, 2)
		if err != nil {
			return subtree{}, err
		}
		switch n {
		case 0:
			page = append(page, slotEmpty)
		case 1:
			leaf := b.ahead[0].leaf
			page = leaf.append(append(page, slotLeaf))
			level[i] = subtree{hash: leaf.Hash(), held: one}
			b.take(1)
		default:
			if level[i], err = b.subtree(at, depth+pageBits); err != nil {
				return subtree{}, err
			}
			page = append(append(page, slotPage), level[i].hash[:]...)
		}
	}
	for n := pageSlots; n > 1; n /= 2 {
		for i := range n / 2 {
			level[i] = join(&level[2*i], &level[2*i+1])
		}
	}
	return level[0], b.put(pageKey(&prefix, depth), page)
}

// Above compares where an account stands with the place of a page: -1 and 1 if
// it lies before or behind all that is below the page, 0 if it lies below.
func (k PageKey) Above(account [32]byte) int {
	at := path{uint64(k[0])<<56 | uint64(k[1])<<48 | uint64(k[2])<<40 | uint64(k[3])<<32 | uint64(k[4])<<24 | uint64(k[5])<<16 | uint64(k[6])<<8 | uint64(k[7])}
	p := pathOf(&account)
	switch last := at.fill(int(k[8])); {
	case p.compare(&at) < 0:
		return -1
	case p.compare(&last) > 0:
		return 1
	}
	return 0
}

// LeafPage makes the page of the encoded leaves (LeafSize bytes each) that lie
// below its place.
func LeafPage(leaves []byte) []byte { return append([]byte{pageOfLeaves}, leaves...) }

// AppendLeaf appends the encoding of a leaf, LeafSize bytes.
func AppendLeaf(b []byte, l *Leaf) []byte { return l.append(b) }

// ReadLeaf reads what AppendLeaf wrote from the front of b.
func ReadLeaf(b []byte) Leaf { return readLeaf(b) }

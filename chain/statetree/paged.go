package statetree

import (
	"errors"
	"fmt"
	"sync/atomic"
)

// Paged is a Tree of which a part is in memory and the rest in stored pages.
// It reads a page when a change or a question leads there and holds it to the
// hash that the page above it says, so a damaged page is an error and never a
// wrong answer. Changed pages stay in memory until a Checkpoint has written
// them; others go when Trim is called and memory is short.
//
// Get, Prove, Range and Walk change nothing and may run at the same time as
// each other, but not beside the other methods. After an error of Update, Replay
// or Fetch the tree is of no more use: each later call returns it again.
type Paged struct {
	t      Tree
	memory int64
}

// minMemory is enough for the pages above and beside a few changes.
const minMemory = 1 << 20

// OpenPaged opens the tree whose pages read gives: an empty one if there is no
// page at the top. memory is what the accounts and hashes in memory may take,
// in bytes: see Trim.
func OpenPaged(read ReadPage, memory int64) (*Paged, error) {
	p := &Paged{memory: max(memory, minMemory)}
	for i := range p.t.shards {
		p.t.shards[i].paging = &paging{read: read, cut: pageLeaves}
	}
	err := read(pageKey(&path{}, 0), p.readTop)
	if err != nil {
		return nil, fmt.Errorf("page at the top: %w", err)
	}
	return p, nil
}

// readTop reads the page at the top, which is one of slots whatever it holds.
func (p *Paged) readTop(page []byte) (err error) {
	if len(page) == 0 || page[0] != pageOfSlots {
		return errPage
	}
	page = page[1:]
	for i := range p.t.shards {
		s := &p.t.shards[i]
		at := path{uint64(i) << (64 - shardBits)}
		if s.root, page, err = s.readSlot(page, &at, shardBits); err != nil {
			return err
		}
		p.t.top[shardCount+i] = s.subtree(s.root)
	}
	if len(page) != 0 {
		return errPage
	}
	for i := shardCount - 1; i > 0; i-- {
		p.t.top[i] = join(&p.t.top[2*i], &p.t.top[2*i+1])
	}
	return nil
}

// Adopt makes an empty tree hold what t holds, which is not to be used any more.
func (p *Paged) Adopt(t *Tree) {
	for i := range t.shards {
		own := p.t.shards[i].paging
		p.t.shards[i] = t.shards[i]
		p.t.shards[i].paging = own
	}
	p.t.top = t.top
}

// Root returns the hash of the whole tree.
func (p *Paged) Root() Hash { return p.t.Root() }

// Update is Tree.Update.
func (p *Paged) Update(changes []Change) (Hash, error) {
	root := p.t.Update(changes)
	return root, p.failed()
}

// Replay is Update after pages were written that the ones above them, or the
// one at the top, don't know of, since a Checkpoint didn't come to its end. The
// changes must name every account that any such page could differ in. Pages
// are read by read, which may be nil for the tree's own: of those whose keys
// begin with the same four bits in ascending order and one at a time.
func (p *Paged) Replay(changes []Change, read ReadPage) (Hash, error) {
	own := p.t.shards[0].read
	if read == nil {
		read = own
	}
	for i := range p.t.shards {
		s := &p.t.shards[i]
		s.lax, s.read, s.late = true, read, map[ref][]Change{}
	}
	root, err := p.Update(changes)
	for i := range p.t.shards {
		p.t.shards[i].lax, p.t.shards[i].read = false, own
	}
	return root, err
}

func (p *Paged) failed() error {
	var all []error
	for i := range p.t.shards {
		all = append(all, p.t.shards[i].failed)
	}
	return errors.Join(all...)
}

// Get returns the leaf of an account, or false if the tree has none.
func (p *Paged) Get(account [32]byte) (Leaf, bool, error) {
	at := pathOf(&account)
	return p.t.get(&account, &at)
}

// Fetch brings accounts into memory, as a batch of changes to them would, and
// returns the leaf of each, (0, 0) if the tree has none. Large batches run on
// several goroutines, all of which have ended when it returns.
func (p *Paged) Fetch(accounts [][32]byte) ([]Leaf, error) {
	workers := workersFor(len(accounts))
	out := make([]Leaf, len(accounts))
	b := sortIntoShards(len(accounts), workers, func(i int) *[32]byte { return &accounts[i] })
	fan(workers, shardCount, func(i int) {
		s, items := &p.t.shards[i], b.items[b.start[i]:b.start[i+1]]
		for len(items) > 0 && s.failed == nil {
			group := items[:min(lanes, len(items))]
			items = items[len(group):]
			s.touched += s.touch(s.root, shardBits, group)
			for j := range group {
				out[group[j].index] = s.fetch(&accounts[group[j].index], &group[j].path)
			}
		}
	})
	return out, p.failed()
}

func (s *shard) fetch(account *[32]byte, p *path) Leaf {
	r := s.root
	for d := shardBits; r.isBranch(); d++ {
		if d%pageBits == 0 {
			if s.enter(r, d, p); s.failed != nil {
				return Leaf{}
			}
		}
		r = s.branches[r-1].child[p.bit(d)]
	}
	if r == 0 || s.leaf(r).Account != *account {
		return Leaf{Account: *account}
	}
	return *s.leaf(r)
}

// Prove is Tree.Prove.
func (p *Paged) Prove(account [32]byte) (Proof, error) {
	var failed error
	proof := p.t.prove(account, &failed)
	return proof, failed
}

// Range is Tree.Range.
func (p *Paged) Range(from, to Hash, maxLeaves int) ([]Leaf, RangeProof, error) {
	var failed error
	leaves, proof := p.t.ranged(from, to, maxLeaves, &failed)
	return leaves, proof, failed
}

// ProveRange is the proof of Range for whoever has the leaves: all of the range,
// or with more those up to path to.
func (p *Paged) ProveRange(from, to Hash, more bool) (RangeProof, error) {
	var failed error
	r := ranger{from: pathFrom(&from), to: pathFrom(&to)}
	return RangeProof{More: more, Nodes: r.prove(p.t.cursor(&failed), nil)}, failed
}

// Walk calls use with every account, ascending by path, until it returns an
// error, which Walk returns.
func (p *Paged) Walk(use func(*Leaf) error) error {
	var failed error
	if err := walk(p.t.cursor(&failed), use); err != nil {
		return err
	}
	return failed
}

func walk(c cursor, use func(*Leaf) error) error {
	switch c.held() {
	case none:
		return *c.failed
	case one:
		return use(c.leaf())
	}
	left, right := c.sides()
	if err := walk(left, use); err != nil {
		return err
	}
	return walk(right, use)
}

// WalkStored calls use with every account, ascending by path, of the tree that
// Replay of the changes would give: it reads pages one after another and keeps
// none, so memory is what the changes take, up to 140 bytes each. Nothing is
// held against a hash: the root that Build gives says whether all was right.
func WalkStored(read ReadPage, changes []Change, use func(*Leaf) error) error {
	p, err := OpenPaged(read, 0)
	if err != nil {
		return err
	}
	b := sortIntoShards(len(changes), workersFor(len(changes)), func(i int) *[32]byte { return &changes[i].Leaf.Account })
	rest := b.items[:0]
	for i := range p.t.shards {
		p.t.shards[i].lax = true
		rest = append(rest, b.ordered(i)...) // fewer than there were: none is overwritten before it is read
	}
	// changed takes the changes of paths up to at, of all if at is nil, and reports whether one of them is at's own.
	changed := func(at *path) (own bool, err error) {
		for len(rest) > 0 && !own && err == nil && (at == nil || rest[0].path.compare(at) <= 0) {
			c := &changes[rest[0].index]
			own = at != nil && rest[0].path == *at
			rest = rest[1:]
			if !c.gone() {
				err = use(&c.Leaf)
			}
		}
		return own, err
	}
	err = p.Walk(func(l *Leaf) error {
		at := pathOf(&l.Account)
		own, err := changed(&at)
		if err != nil || own {
			return err
		}
		return use(l)
	})
	if err == nil {
		_, err = changed(nil)
	}
	return err
}

// InMemory is what the accounts and hashes in memory take, in bytes.
func (p *Paged) InMemory() (sum int64) {
	for i := range p.t.shards {
		sum += p.t.shards[i].bytes()
	}
	return sum
}

const (
	branchBytes = 41 // a branch and its mark
	leafBytes   = LeafSize
)

func (s *shard) bytes() int64 { return int64(s.branching)*branchBytes + int64(s.live)*leafBytes }

// Trim lets go of pages, those used least of late first, until what is in
// memory is below the limit. It returns false if changed pages alone take more:
// then a Checkpoint has to be written before.
func (p *Paged) Trim() bool {
	limit := p.memory / shardCount
	var over atomic.Bool
	fan(workersFor(parallelFrom), shardCount, func(i int) {
		s := &p.t.shards[i]
		if s.bytes() <= limit {
			return
		}
		t := trimmer{s: s, goal: limit * 7 / 8}
		for range 3 { // the first may begin in the middle, the second may but take marks away
			if t.sweep(s.root, shardBits, path{}); t.done {
				return
			}
			s.hand = path{}
		}
		if s.bytes() > limit {
			over.Store(true)
		}
	})
	return !over.Load()
}

// trimmer goes over a shard's pages in the order of paths, from where the last
// one stopped: a page used since it last came by gets another turn (the clock
// algorithm).
type trimmer struct {
	s    *shard
	goal int64
	done bool
}

func (t *trimmer) sweep(r ref, depth int, prefix path) {
	s := t.s
	if last := prefix.fill(depth); t.done || !r.isBranch() || s.away(r) || last.compare(&s.hand) < 0 {
		return
	}
	if s.bytes() <= t.goal {
		t.done, s.hand = true, prefix
		return
	}
	if m := s.marks[r-1]; depth%pageBits == 0 && m&paged != 0 {
		if m&(dirty|used) == 0 {
			s.letGo(r)
			return
		}
		s.marks[r-1] &^= used
	}
	child := s.branches[r-1].child
	t.sweep(child[0], depth+1, prefix)
	t.sweep(child[1], depth+1, prefix.with(depth, 1))
}

// letGo makes the page at branch r one that is away.
func (s *shard) letGo(r ref) {
	child := s.branches[r-1].child
	s.branches[r-1].child = [2]ref{}
	s.free(child[0])
	s.free(child[1])
}

// free gives back the space of a subtree.
func (s *shard) free(r ref) {
	switch {
	case r == 0:
	case r.isLeaf():
		s.freeLeaf(r)
	default:
		child := s.branches[r-1].child
		s.free(child[0])
		s.free(child[1])
		s.freeBranch(r)
	}
}

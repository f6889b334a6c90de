package ledger

import (
	"slices"

	"quipu/chain"
)

// entry is one header in memory: what fork choice and sync need of it. About 200 bytes with its place in the map.
type entry struct {
	id             chain.BlockID
	parent         *entry // nil for block 0
	child, sibling *entry // first child, next child of the same parent
	work           chain.Work
	height         uint32
	bodySize       uint32
	arrival        uint64 // when the header came
	seq            uint64 // when its matching body was complete; 0 without a body, and for block 0
	body           bool   // held
	linked         bool   // it and all its ancestors are held
	bad            bool   // it or an ancestor is known to be invalid
	applied        bool   // it was applied here, so every rule was checked
}

// ahead is the order of fork choice: most work, then the earlier complete body.
func (e *entry) ahead(o *entry) bool {
	if c := e.work.Cmp(&o.work); c != 0 {
		return c > 0
	}
	return e.seq < o.seq
}

// index is the tree of all headers.
type index struct {
	byID  map[chain.BlockID]*entry
	heads map[*entry]struct{} // entries not bad whose children, if any, are all bad
	why   map[chain.BlockID]string
}

func newIndex() *index {
	return &index{byID: map[chain.BlockID]*entry{}, heads: map[*entry]struct{}{}, why: map[chain.BlockID]string{}}
}

// add links a new entry below its parent.
func (x *index) add(e *entry) {
	x.byID[e.id] = e
	if p := e.parent; p != nil {
		e.sibling, p.child = p.child, e
		e.bad = p.bad
		if !e.bad {
			delete(x.heads, p)
		}
	}
	if !e.bad {
		x.heads[e] = struct{}{}
	}
}

// hold notes that e's body is here and returns every entry that became linked by it, parents first.
func (x *index) hold(e *entry, seq uint64) []*entry {
	e.body, e.seq = true, seq
	if e.parent != nil && !e.parent.linked {
		return nil
	}
	e.linked = true
	out := []*entry{e}
	for i := 0; i < len(out); i++ {
		for c := out[i].child; c != nil; c = c.sibling {
			if c.body {
				c.linked = true
				out = append(out, c)
			}
		}
	}
	return out
}

// condemn marks e and all that descends from it.
func (x *index) condemn(e *entry, why string) {
	x.why[e.id] = why
	if e.bad {
		return
	}
	stack := []*entry{e}
	for len(stack) > 0 {
		b := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		b.bad = true
		delete(x.heads, b)
		for c := b.child; c != nil; c = c.sibling {
			if !c.bad {
				stack = append(stack, c)
			}
		}
	}
	if p := e.parent; p != nil && !p.bad {
		for c := p.child; c != nil; c = c.sibling {
			if !c.bad {
				return
			}
		}
		x.heads[p] = struct{}{}
	}
}

// unlink notes that e's body is gone: neither e nor what descends from it has all its ancestors any more.
func (e *entry) unlink() {
	stack := []*entry{e}
	for len(stack) > 0 {
		b := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		b.linked = false
		for c := b.child; c != nil; c = c.sibling {
			if c.linked {
				stack = append(stack, c)
			}
		}
	}
}

// descendants are e and all below it, parents first, and the most work among them that is not known to be bad.
func (e *entry) descendants() (out []*entry, heaviest chain.Work) {
	out = []*entry{e}
	for i := 0; i < len(out); i++ {
		if b := out[i]; !b.bad && b.work.Gt(&heaviest) {
			heaviest = b.work
		}
		for c := out[i].child; c != nil; c = c.sibling {
			out = append(out, c)
		}
	}
	return out, heaviest
}

// reason is why e is bad: its own mark or that of its nearest marked ancestor.
func (x *index) reason(e *entry) string {
	for a := e; a != nil; a = a.parent {
		if why, ok := x.why[a.id]; ok {
			if a != e {
				why = "descends from invalid block " + a.id.String() + ": " + why
			}
			return why
		}
	}
	return ""
}

// heaviest is the header with the most work among those not bad; between equal ones the earlier.
func (x *index) heaviest() *entry {
	var best *entry
	for e := range x.heads {
		if best != nil {
			c := e.work.Cmp(&best.work)
			if c < 0 || c == 0 && e.arrival > best.arrival {
				continue
			}
		}
		best = e
	}
	return best
}

// better lists the linked entries not bad that are ahead of tip.
func (x *index) better(tip *entry) []*entry {
	var out []*entry
	for _, e := range x.byID {
		if e.linked && !e.bad && (tip.bad || e.ahead(tip)) {
			out = append(out, e)
		}
	}
	return out
}

// path is one branch from block 0 on, by height.
type path []*entry

func (p path) tip() *entry       { return p[len(p)-1] }
func (p path) has(e *entry) bool { return int(e.height) < len(p) && p[e.height] == e }

// fork is e's highest ancestor (or e itself) on p.
func (p path) fork(e *entry) *entry {
	for !p.has(e) {
		e = e.parent
	}
	return e
}

// to is p moved to e's branch. It costs as many steps as the branches differ.
func (p path) to(e *entry) path {
	f := p.fork(e)
	p = p[:f.height+1]
	n := len(p)
	for ; e != f; e = e.parent {
		p = append(p, e)
	}
	slices.Reverse(p[n:])
	return p
}

// headsByWork lists the heads with more work than tip: most first, between equal ones the earlier header.
func (x *index) headsByWork(tip *entry) []*entry {
	var out []*entry
	for e := range x.heads {
		if e.work.Cmp(&tip.work) > 0 {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b *entry) int {
		if c := b.work.Cmp(&a.work); c != 0 {
			return c
		}
		if a.arrival < b.arrival {
			return -1
		}
		return 1
	})
	return out
}

package mempool

// The heaps an entry can be in; each keeps the entry's place in entry.place.
const (
	byHead   = iota // heads of pending chains, best first
	byTail          // tails of pending chains, worst first
	byGap           // gapped, cheapest first
	byExpiry        // whatever has a last height, soonest first
	orders
)

// order is a binary heap of entries that knows where each of them is, so that any can be removed in O(log n).
type order struct {
	slot   int
	before func(a, b *entry) bool
	items  []*entry
}

func (o *order) holds(e *entry) bool { return e.place[o.slot] > 0 }

func (o *order) push(e *entry) {
	o.items = append(o.items, e)
	o.up(len(o.items) - 1)
}

// remove takes e out; an entry that isn't there is no error.
func (o *order) remove(e *entry) {
	i := int(e.place[o.slot]) - 1
	if i < 0 {
		return
	}
	last := len(o.items) - 1
	moved := o.items[last]
	o.items[last] = nil
	o.items = o.items[:last]
	e.place[o.slot] = 0
	if i < last {
		o.set(i, moved)
		o.fix(moved)
	}
}

// fix restores the order after e's key changed.
func (o *order) fix(e *entry) {
	i := int(e.place[o.slot]) - 1
	o.up(i)
	o.down(int(e.place[o.slot]) - 1)
}

func (o *order) first() *entry {
	if len(o.items) == 0 {
		return nil
	}
	return o.items[0]
}

func (o *order) set(i int, e *entry) {
	o.items[i] = e
	e.place[o.slot] = int32(i + 1) // 0 is "not here"
}

func (o *order) up(i int) {
	e := o.items[i]
	for i > 0 && o.before(e, o.items[(i-1)/2]) {
		o.set(i, o.items[(i-1)/2])
		i = (i - 1) / 2
	}
	o.set(i, e)
}

func (o *order) down(i int) {
	e := o.items[i]
	for {
		child := 2*i + 1
		if child >= len(o.items) {
			break
		}
		if child+1 < len(o.items) && o.before(o.items[child+1], o.items[child]) {
			child++
		}
		if !o.before(o.items[child], e) {
			break
		}
		o.set(i, o.items[child])
		i = child
	}
	o.set(i, e)
}

// walk yields a heap's entries in order without changing it: k of them cost O(k log k), whatever the heap holds.
// The caller may add entries, such as the next in a chain, while it goes.
type walk struct {
	of   *order
	open []step
}

type step struct {
	e  *entry
	at int // index in the heap, whose children come into reach after it; −1 for an added one
}

func (o *order) walk() *walk {
	w := &walk{of: o}
	w.reach(0)
	return w
}

func (w *walk) next() *entry {
	if len(w.open) == 0 {
		return nil
	}
	s := w.open[0]
	last := len(w.open) - 1
	w.open[0] = w.open[last]
	w.open = w.open[:last]
	w.down()
	if s.at >= 0 {
		w.reach(2*s.at + 1)
		w.reach(2*s.at + 2)
	}
	return s.e
}

func (w *walk) add(e *entry) { w.push(step{e, -1}) }

func (w *walk) reach(i int) {
	if i < len(w.of.items) {
		w.push(step{w.of.items[i], i})
	}
}

func (w *walk) push(s step) {
	w.open = append(w.open, s)
	i := len(w.open) - 1
	for i > 0 && w.of.before(s.e, w.open[(i-1)/2].e) {
		w.open[i] = w.open[(i-1)/2]
		i = (i - 1) / 2
	}
	w.open[i] = s
}

func (w *walk) down() {
	for i := 0; ; {
		child := 2*i + 1
		if child >= len(w.open) {
			return
		}
		if child+1 < len(w.open) && w.of.before(w.open[child+1].e, w.open[child].e) {
			child++
		}
		if !w.of.before(w.open[child].e, w.open[i].e) {
			return
		}
		w.open[i], w.open[child] = w.open[child], w.open[i]
		i = child
	}
}

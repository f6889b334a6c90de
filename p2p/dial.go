package p2p

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// slot is a peer of the book that this node chose to be connected to, or tests.
type slot struct {
	knownKey
	group  group
	feeler bool // it is only tested
	anchor bool
	since  time.Time // chosen
	live   bool      // a connection stands
	good   bool      // it has answered as a peer of this network
}

// chooser decides whom to dial. It knows the book, the slots and the time it is told, and no network: what it decides
// can be simulated. The first choice after a start are the anchors, outbound peers of the last run.
type chooser struct {
	book    *addrBook
	rng     *rand.Rand
	want    int  // slots
	spread  bool // no two slots in one group
	pace    pace
	slots   map[peer.ID]*slot
	feelAt  time.Time
	turnAt  time.Time
	anchors []knownKey // of the last run, not dialled yet
}

// pace is the chooser's intervals.
type pace struct {
	feeler time.Duration // between two tests of new addresses
	retry  time.Duration // after the first failure of an address; doubled each time
	most   time.Duration // of retry
	turn   time.Duration // between two slots given up for others; 0: never
}

func paceOf(testNet bool) pace {
	if testNet {
		return pace{feeler: 5 * time.Second, retry: time.Second, most: 10 * time.Second}
	}
	return pace{feeler: 30 * time.Second, retry: 10 * time.Second, most: time.Hour, turn: 30 * time.Minute}
}

func newChooser(book *addrBook, rng *rand.Rand, want int, testNet bool) *chooser {
	return &chooser{book: book, rng: rng, want: want, spread: !testNet, pace: paceOf(testNet), slots: map[peer.ID]*slot{}, anchors: book.anchors}
}

// next takes a slot for the peer to dial now, nil if there is nothing to do. usable says of a peer that it isn't
// connected, refused, or ourselves; crowded of a group that an outbound connection beside the slots lies in it.
func (c *chooser) next(now time.Time, usable func(peer.ID) bool, crowded func(group) bool) *slot {
	taken := map[group]bool{}
	filled := 0
	for _, s := range c.slots {
		if !s.feeler {
			filled++
			taken[s.group] = true
		}
	}
	free := func(e *known) bool {
		return c.slots[e.id] == nil && usable(e.id) && c.due(e, now)
	}
	spread := func(e *known) bool {
		return free(e) && (!c.spread || !taken[e.group] && !crowded(e.group))
	}
	if filled < c.want {
		for len(c.anchors) > 0 {
			e := c.book.entries[c.anchors[0]]
			c.anchors = c.anchors[1:]
			if e != nil && c.slots[e.id] == nil && usable(e.id) {
				return c.take(e, now, false, true)
			}
		}
		if e := c.book.pick(c.rng, false, spread); e != nil {
			return c.take(e, now, false, false)
		}
	}
	if now.Before(c.feelAt) || c.feeling() {
		return nil
	}
	c.feelAt = now.Add(c.pace.feeler/2 + time.Duration(c.rng.Int64N(int64(c.pace.feeler))))
	e := c.book.challenged(free)
	if e == nil {
		e = c.book.pick(c.rng, true, free)
	}
	if e == nil {
		return nil
	}
	return c.take(e, now, true, false)
}

func (c *chooser) feeling() bool {
	for _, s := range c.slots {
		if s.feeler {
			return true
		}
	}
	return false
}

// due reports whether an address has rested long enough since it was last dialled.
func (c *chooser) due(e *known, now time.Time) bool {
	if e.tried.IsZero() {
		return true
	}
	wait := c.pace.most
	if e.fails < 16 {
		wait = min(wait, c.pace.retry<<e.fails)
	}
	return now.Sub(e.tried) >= wait
}

func (c *chooser) take(e *known, now time.Time, feeler, anchor bool) *slot {
	s := &slot{knownKey: e.knownKey, group: e.group, feeler: feeler, anchor: anchor, since: now}
	c.slots[e.id] = s
	c.book.trying(e.knownKey, now)
	return s
}

// failed gives a slot back whose peer didn't answer.
func (c *chooser) failed(s *slot, now time.Time) {
	c.release(s)
	online := false
	for _, o := range c.slots {
		online = online || o.good
	}
	c.book.failed(s.knownKey, now, online)
}

// answered notes that a slot's peer is one of this network, and reports whether it stays: a feeler does if there is
// room for it.
func (c *chooser) answered(s *slot, now time.Time) bool {
	c.book.succeeded(s.knownKey, now)
	s.good = true
	if !s.feeler {
		return true
	}
	filled := 0
	for _, o := range c.slots {
		if o.feeler {
			continue
		}
		if filled++; c.spread && o.group == s.group {
			filled = c.want
		}
	}
	if filled < c.want {
		s.feeler = false
		return true
	}
	c.release(s)
	return false
}

// turnover gives up one slot now and then when all are filled, and returns it, nil if it isn't time. Hostile peers stay for
// ever and honest ones don't: without it, the former would come to hold every slot in time.
func (c *chooser) turnover(now time.Time) *slot {
	if c.pace.turn == 0 || now.Before(c.turnAt) {
		return nil
	}
	first := c.turnAt.IsZero()
	c.turnAt = now.Add(c.pace.turn/2 + time.Duration(c.rng.Int64N(int64(c.pace.turn))))
	if first || c.filled() < c.want {
		return nil
	}
	var full []*slot
	for _, s := range c.slots {
		if s.good && !s.feeler {
			full = append(full, s)
		}
	}
	sortSlots(full)
	s := full[c.rng.IntN(len(full))]
	c.release(s)
	return s
}

func (c *chooser) release(s *slot) {
	if c.slots[s.id] == s {
		delete(c.slots, s.id)
	}
}

// filled is how many slots hold a peer that has answered.
func (c *chooser) filled() (n int) {
	for _, s := range c.slots {
		if s.good && !s.feeler {
			n++
		}
	}
	return n
}

// keepAnchors makes the outbound peers that have been connected longest the anchors of the next run.
func (c *chooser) keepAnchors() {
	var oldest []*slot
	for _, s := range c.slots {
		if s.good && !s.feeler {
			oldest = append(oldest, s)
		}
	}
	if len(oldest) == 0 {
		return // what was there last time may be there next time
	}
	sortSlots(oldest)
	c.book.anchors = nil
	for _, s := range oldest[:min(len(oldest), maxAnchors)] {
		c.book.anchors = append(c.book.anchors, s.knownKey)
	}
	c.book.changed = true
}

func sortSlots(s []*slot) {
	slices.SortFunc(s, func(a, b *slot) int {
		return cmp.Or(a.since.Compare(b.since), strings.Compare(string(a.id), string(b.id)))
	})
}

package p2p

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// The shape of the address book: places as in Bitcoin Core's addrman, fewer of them, and one an address. What one group
// of sources says reaches newPerSource of the new buckets, what lies in one group triedPerGroup of the tried ones.
const (
	newBuckets    = 256
	newPerSource  = 16
	triedBuckets  = 64
	triedPerGroup = 4
	bucketSize    = 32
)

// When an entry gives way to another.
const (
	triesUnproven = 3                   // failures of one that never answered
	triesProven   = 8                   // failures of one that did, and then not for goodFor
	goodFor       = 7 * 24 * time.Hour  //
	horizon       = 30 * 24 * time.Hour // nobody has named it for so long
	rivalAfter    = 4 * time.Hour       // one that answered more lately isn't put to the test for its place
)

// knownKey names an entry: one peer at one address, so that nobody can give another's peer id wrong addresses.
type knownKey struct {
	id   peer.ID
	addr string // multiaddr, in bytes
}

// known is an entry of the book.
type known struct {
	knownKey
	group  group
	source group     // of who told us first
	seen   time.Time // last told
	tried  time.Time // last dialled
	good   time.Time // last answered as a peer of this network, dialled by us
	fails  int       // in a row

	proven bool // in the tried table
	bucket int
	pos    int
	member int    // place in the list of its group
	rival  *known // waits for this one's place in the tried table
}

// addrBook is what a node knows of addresses: new ones it was told, and tried ones that have answered it. Places are
// found by a keyed hash, so that nobody outside knows which addresses push out which. No lock, no clock, no disk.
type addrBook struct {
	secret  [32]byte
	entries map[knownKey]*known
	fresh   table
	tried   table
	anchors []knownKey // dialled first after a restart
	changed bool       // since it was read or written
}

// table is buckets of places, and what stands in them by group.
type table struct {
	places  [][bucketSize]*known
	total   int
	groups  []*members
	byGroup map[group]*members
}

type members struct {
	index int // in table.groups
	list  []*known
}

func newTable(buckets int) table {
	return table{places: make([][bucketSize]*known, buckets), byGroup: map[group]*members{}}
}

func newAddrBook(secret [32]byte) *addrBook {
	return &addrBook{secret: secret, entries: map[knownKey]*known{}, fresh: newTable(newBuckets), tried: newTable(triedBuckets)}
}

func (t *table) at(e *known) *known { return t.places[e.bucket][e.pos] }

func (t *table) put(e *known) {
	t.places[e.bucket][e.pos] = e
	t.total++
	m := t.byGroup[e.group]
	if m == nil {
		m = &members{index: len(t.groups)}
		t.byGroup[e.group] = m
		t.groups = append(t.groups, m)
	}
	e.member = len(m.list)
	m.list = append(m.list, e)
}

func (t *table) remove(e *known) {
	t.places[e.bucket][e.pos] = nil
	t.total--
	m := t.byGroup[e.group]
	last := m.list[len(m.list)-1]
	m.list[e.member], last.member = last, e.member
	if m.list = m.list[:len(m.list)-1]; len(m.list) > 0 {
		return
	}
	delete(t.byGroup, e.group)
	end := t.groups[len(t.groups)-1]
	t.groups[m.index], end.index = end, m.index
	t.groups = t.groups[:len(t.groups)-1]
}

// hash is a number below n from the secret and some parts.
func (b *addrBook) hash(n int, what byte, parts ...string) int {
	h := sha256.New()
	h.Write(b.secret[:])
	h.Write([]byte{what})
	for _, p := range parts {
		h.Write(binary.LittleEndian.AppendUint16(nil, uint16(len(p))))
		h.Write([]byte(p))
	}
	return int(binary.LittleEndian.Uint64(h.Sum(nil)) % uint64(n))
}

// aim sets the place that is e's own in one of the tables.
func (b *addrBook) aim(e *known, proven bool) {
	e.proven = proven
	if proven {
		h := b.hash(triedPerGroup, 't', string(e.id), e.addr)
		e.bucket = b.hash(triedBuckets, 'T', string(e.group), string(rune('0'+h)))
	} else {
		h := b.hash(newPerSource, 'n', string(e.group), string(e.source))
		e.bucket = b.hash(newBuckets, 'N', string(e.source), string(rune('0'+h)))
	}
	e.pos = b.hash(bucketSize, 'p', string(rune(e.bucket)), string(e.id), e.addr)
}

func (b *addrBook) tableOf(e *known) *table {
	if e.proven {
		return &b.tried
	}
	return &b.fresh
}

// hopeless entries give way to others and are named to nobody.
func (e *known) hopeless(now time.Time) bool {
	switch {
	case now.Sub(e.tried) < time.Minute: // its test may be under way
		return false
	case e.good.IsZero() && e.fails >= triesUnproven:
		return true
	case e.fails >= triesProven && now.Sub(e.good) > goodFor:
		return true
	}
	return now.Sub(e.seen) > horizon && now.Sub(e.good) > horizon
}

// add enters an address that a source of some group told, or notes that it was told again. It reports whether the
// address is new to the book: where its place is taken by one that isn't hopeless, it isn't entered.
func (b *addrBook) add(id peer.ID, a ma.Multiaddr, source group, now time.Time) bool {
	ip, ok := dialable(a)
	if !ok || len(id) == 0 || len(id) > maxPeerID || source == "" {
		return false
	}
	e := &known{knownKey: knownKey{id, string(a.Bytes())}, group: groupOf(ip), source: source, seen: now}
	if old := b.entries[e.knownKey]; old != nil {
		if now.After(old.seen) {
			old.seen = now
		}
		return false
	}
	b.aim(e, false)
	if !b.settle(e, now) {
		return false
	}
	b.entries[e.knownKey] = e
	b.changed = true
	return true
}

// settle puts e into the place it aims at, if that is free or its holder hopeless.
func (b *addrBook) settle(e *known, now time.Time) bool {
	t := b.tableOf(e)
	if holder := t.at(e); holder != nil {
		if !holder.hopeless(now) {
			return false
		}
		b.drop(holder)
	}
	t.put(e)
	return true
}

func (b *addrBook) drop(e *known) {
	b.tableOf(e).remove(e)
	delete(b.entries, e.knownKey)
	b.changed = true
}

// trying notes that an entry is being dialled.
func (b *addrBook) trying(k knownKey, now time.Time) {
	if e := b.entries[k]; e != nil {
		e.tried = now
	}
}

// failed notes that it didn't answer. Nothing is held against it if counts is false: we may be offline ourselves.
func (b *addrBook) failed(k knownKey, now time.Time, counts bool) {
	e := b.entries[k]
	if e == nil || !counts {
		return
	}
	e.fails++
	b.changed = true
	if r := e.rival; r != nil && b.entries[r.knownKey] == r { // it loses its place; it may find another among the new
		e.rival = nil
		b.tried.remove(e)
		b.aim(e, false)
		if !b.settle(e, now) {
			delete(b.entries, e.knownKey)
		}
		b.promote(r, now)
	}
}

// succeeded notes that it answered as a peer of this network.
func (b *addrBook) succeeded(k knownKey, now time.Time) {
	e := b.entries[k]
	if e == nil {
		return
	}
	e.fails, e.good, e.seen, e.rival = 0, now, now, nil
	b.changed = true
	if !e.proven {
		b.promote(e, now)
	}
}

// promote moves an entry to the tried table. Where its place is held by one that isn't hopeless, it becomes its rival:
// the holder is dialled, and loses the place if it doesn't answer. One rival a place.
func (b *addrBook) promote(e *known, now time.Time) {
	if b.entries[e.knownKey] != e || e.proven {
		return // gone meanwhile, or there already
	}
	goal := *e
	b.aim(&goal, true)
	if holder := b.tried.at(&goal); holder != nil && !holder.hopeless(now) {
		if holder.rival == nil && now.Sub(holder.good) > rivalAfter {
			holder.rival = e
		}
		return
	}
	b.fresh.remove(e)
	b.aim(e, true)
	b.settle(e, now)
}

// pick draws an entry that ok allows: even odds between the tables, then a group, then one of the group. So whoever has
// a thousand addresses in one group has the odds of one, and needs as many groups as honest peers have to match them. One
// that failed lately is passed over by chance (0.66 a failure, Bitcoin Core's figure). nil if many draws found none.
func (b *addrBook) pick(rng *rand.Rand, fresh bool, ok func(*known) bool) *known {
	for range 100 {
		t := &b.fresh
		if !fresh && (t.total == 0 || b.tried.total > 0 && rng.IntN(2) == 0) {
			t = &b.tried
		}
		if t.total == 0 {
			return nil
		}
		list := t.groups[rng.IntN(len(t.groups))].list
		e := list[rng.IntN(len(list))]
		if ok(e) && rng.Float64() < math.Pow(0.66, float64(min(e.fails, 8))) {
			return e
		}
	}
	return nil
}

// challenged is a holder of a tried place that has to be put to the test for a rival; nil if there is none.
func (b *addrBook) challenged(ok func(*known) bool) *known {
	for k := range b.tried.places {
		for _, e := range b.tried.places[k] {
			if e == nil || e.rival == nil {
				continue
			}
			if b.entries[e.rival.knownKey] != e.rival {
				e.rival = nil
			} else if ok(e) {
				return e
			}
		}
	}
	return nil
}

// sample is up to n peers to tell others of, each at one address.
func (b *addrBook) sample(rng *rand.Rand, n int, now time.Time, ok func(*known) bool) (out []*known) {
	taken := map[peer.ID]bool{}
	for range 4 * n {
		e := b.pick(rng, false, func(e *known) bool { return !taken[e.id] && !e.hopeless(now) && ok(e) })
		if e == nil || len(out) >= n {
			break
		}
		taken[e.id] = true
		out = append(out, e)
	}
	return out
}

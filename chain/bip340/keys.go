package bip340

import (
	"crypto/rand"
	"encoding/binary"
	"math/bits"
	"sync"
)

// Keys remembers public keys whose point is known, over calls: a key costs a batch its square root once. It holds a fixed
// number of keys, 64 bytes each, and forgets when it is full. Only keys under which a signature was valid enter it.
//
// It changes no verdict. It may be used by several goroutines. Nil remembers nothing.
type Keys struct {
	seed   [4]uint64 // so that nobody outside can choose keys that stand in each other's way
	shards []keyShard
}

type keyShard struct {
	mu    sync.Mutex
	next  uint32  // who leaves a full set
	slots []point // sets of keyWays; a free slot has y = 0
}

const (
	keyShards = 64
	keyWays   = 8
)

// NewKeys makes room for at least so many keys, and takes its memory at once. It panics if there are more than 2^28,
// which are 16 GiB.
func NewKeys(entries int) *Keys {
	if entries > 1<<28 {
		panic("bip340: NewKeys with more than 2^28 entries")
	}
	sets := max(1, (entries+keyShards*keyWays-1)/(keyShards*keyWays))
	k := &Keys{shards: make([]keyShard, keyShards)}
	var seed [32]byte
	rand.Read(seed[:]) // never fails: crypto/rand ends the program rather than return an error
	for i := range k.seed {
		k.seed[i] = binary.LittleEndian.Uint64(seed[8*i:])
	}
	for i := range k.shards {
		k.shards[i].slots = make([]point, sets*keyWays)
	}
	return k
}

// Invalid is [Invalid] with what k remembers.
func (k *Keys) Invalid(items []Item) []int { return invalid(items, tuned, k) }

// set locks the slots where a key with this x can stand.
func (k *Keys) set(x *fe) (*keyShard, []point) {
	h, l := bits.Mul64(x[0]^k.seed[0], x[1]^k.seed[1])
	h2, l2 := bits.Mul64(x[2]^k.seed[2], x[3]^k.seed[3])
	h, l = bits.Mul64(h^l2, l^h2|1)
	h ^= l
	s := &k.shards[h%keyShards]
	s.mu.Lock()
	i, _ := bits.Mul64(h, uint64(len(s.slots)/keyWays))
	return s, s.slots[i*keyWays:][:keyWays]
}

// find fills in p.y if p.x, below p, is known.
func (k *Keys) find(p *point) bool {
	if k == nil {
		return false
	}
	s, slots := k.set(&p.x)
	defer s.mu.Unlock()
	for i := range slots {
		if slots[i].x == p.x && slots[i].y != (fe{}) {
			p.y = slots[i].y
			return true
		}
	}
	return false
}

// put remembers a point with its even y, both below p.
func (k *Keys) put(p *point) {
	s, slots := k.set(&p.x)
	defer s.mu.Unlock()
	for i := range slots {
		if slots[i].y == (fe{}) {
			slots[i] = *p
			return
		}
		if slots[i].x == p.x {
			return
		}
	}
	slots[s.next%keyWays] = *p
	s.next++
}

// learn puts the keys of a decided batch that were not known before: those with an item that isn't among bad.
func (k *Keys) learn(ts terms, bad []int) {
	if k == nil {
		return
	}
	var refused map[int]bool
	if len(bad) > 0 {
		refused = make(map[int]bool, len(bad))
		for _, i := range bad {
			refused[i] = true
		}
	}
	for i := range ts.list {
		t := &ts.list[i]
		if ts.fresh[t.key] && !refused[t.index] {
			ts.fresh[t.key] = false
			k.put(&ts.keys[t.key])
		}
	}
}

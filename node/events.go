package node

import (
	"sync"
	"time"

	"quipu/rpc"
)

// maxEvents bounds the ring: about 2 MB.
const maxEvents = 8192

// events is a bounded ring with sequence numbers from 1. Readers pull with since; nobody is called back.
type events struct {
	mu      sync.Mutex
	ring    []rpc.Event
	newest  uint64
	changed chan struct{}
}

func newEvents() *events { return &events{changed: make(chan struct{})} }

// add stamps and keeps events. It never waits for a reader.
func (e *events) add(evs ...rpc.Event) {
	if len(evs) == 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now().UTC()
	for _, ev := range evs {
		e.newest++
		ev.Schema, ev.Seq, ev.Time = rpc.EventSchema, e.newest, now
		if len(e.ring) < maxEvents {
			e.ring = append(e.ring, ev)
		} else {
			e.ring[(ev.Seq-1)%maxEvents] = ev
		}
	}
	close(e.changed)
	e.changed = make(chan struct{})
}

// since is an rpc.EventSource: the events after seq still held, oldest first, and a channel that closes on the next.
// A seq above the newest is left over from before a restart and counts as 0.
func (e *events) since(seq uint64) ([]rpc.Event, <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if seq > e.newest {
		seq = 0
	}
	first := max(seq+1, e.newest+1-uint64(len(e.ring)))
	out := make([]rpc.Event, 0, e.newest+1-first)
	for s := first; s <= e.newest; s++ {
		out = append(out, e.ring[(s-1)%maxEvents])
	}
	return out, e.changed
}

func (e *events) seq() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.newest
}

// overwritten is how many events aren't held any more.
func (e *events) overwritten() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.newest - uint64(len(e.ring))
}

package node

import (
	"errors"
	"sync"

	"quipu/p2p"
)

// maxTogether bounds the transactions that are checked as one batch, unless one caller brings more: signatures get
// hardly cheaper above, and whoever waits for the batch waits longer.
const maxTogether = 4096

var errAbandoned = errors.New("the batch was given up")

// together makes one batch of what callers bring while another batch is being checked: one of those who wait checks for
// all. It needs no goroutine of its own. Who may wait is bounded by the callers: the validators of gossip and the
// connections of the API.
type together struct {
	mu      sync.Mutex
	waiting []*txCall
	busy    bool
}

// txCall is one caller's transactions. turn gets true when this caller is to check for all, false when out is there.
type txCall struct {
	raws [][]byte
	out  []p2p.TxResult
	turn chan bool
}

// run answers one caller by check, alone or with others, once ready returns.
func (t *together) run(raws [][]byte, ready func(), check func([][]byte) []p2p.TxResult) []p2p.TxResult {
	c := &txCall{raws: raws, turn: make(chan bool, 1)}
	t.mu.Lock()
	t.waiting = append(t.waiting, c)
	mine := !t.busy
	t.busy = true
	t.mu.Unlock()
	if !mine && !<-c.turn {
		return c.out
	}
	ready() // others may join meanwhile
	calls, all := t.take()
	defer t.pass(calls) // also if check panics: the others get no results then
	results := check(all)
	for _, o := range calls {
		o.out, results = results[:len(o.raws):len(o.raws)], results[len(o.raws):]
	}
	return c.out
}

// take is those at the head of the queue, the caller first.
func (t *together) take() (calls []*txCall, all [][]byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, txs := 0, 0
	for n < len(t.waiting) && (n == 0 || txs+len(t.waiting[n].raws) <= maxTogether) {
		txs += len(t.waiting[n].raws)
		n++
	}
	calls = t.waiting[:n:n]
	if t.waiting = t.waiting[n:]; len(t.waiting) == 0 {
		t.waiting = nil
	}
	if n == 1 {
		return calls, calls[0].raws
	}
	all = make([][]byte, 0, txs)
	for _, c := range calls {
		all = append(all, c.raws...)
	}
	return calls, all
}

// pass wakes those who were answered, and the next to check.
func (t *together) pass(calls []*txCall) {
	for _, c := range calls[1:] {
		if c.out == nil {
			c.out = make([]p2p.TxResult, len(c.raws))
			for i := range c.out {
				c.out[i].Err = errAbandoned
			}
		}
		c.turn <- false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.busy = len(t.waiting) > 0; t.busy {
		t.waiting[0].turn <- true
	}
}

// calls is how many wait.
func (t *together) calls() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.waiting)
}

package node

import (
	"sync"
	"time"
)

// yieldMost is how long transactions wait for blocks at most: a long import must not hold them up for good.
const yieldMost = 500 * time.Millisecond

// yield lets blocks go first: while one is being checked and stored, transactions wait to be checked. A block that is
// slow to cross the network costs forks, a transaction that waits only makes its batch larger.
type yield struct {
	mu     sync.Mutex
	blocks int           // being imported
	idle   chan struct{} // closes when there are none
}

// block is called before an import; what it returns, after.
func (y *yield) block() (done func()) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.blocks++; y.blocks == 1 {
		y.idle = make(chan struct{})
	}
	return func() {
		y.mu.Lock()
		defer y.mu.Unlock()
		if y.blocks--; y.blocks == 0 {
			close(y.idle)
		}
	}
}

// wait returns when no block is being imported, or after yieldMost.
func (y *yield) wait() {
	y.mu.Lock()
	idle, busy := y.idle, y.blocks > 0
	y.mu.Unlock()
	if !busy {
		return
	}
	t := time.NewTimer(yieldMost)
	defer t.Stop()
	select {
	case <-idle:
	case <-t.C:
	}
}

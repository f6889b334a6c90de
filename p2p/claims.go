package p2p

import (
	"sync"
	"time"

	"quipu/chain"
)

// claims are the blocks whose bodies are being relayed just now: the sync loop leaves these out, so that no body is fetched
// twice at once. A claim ends by itself, so that whoever forgets one delays a block and never loses it.
type claims struct {
	mu    sync.Mutex
	until map[chain.BlockID]time.Time
}

// take claims a block for at most d, false if it is claimed or if most are.
func (c *claims) take(id chain.BlockID, d time.Duration, most int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for k, t := range c.until {
		if !now.Before(t) {
			delete(c.until, k)
		}
	}
	if _, ok := c.until[id]; ok || len(c.until) >= most {
		return false
	}
	if c.until == nil {
		c.until = map[chain.BlockID]time.Time{}
	}
	c.until[id] = now.Add(d)
	return true
}

func (c *claims) release(id chain.BlockID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.until, id)
}

// any reports whether a block is claimed.
func (c *claims) any() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for _, t := range c.until {
		if now.Before(t) {
			return true
		}
	}
	return false
}

func (c *claims) has(id chain.BlockID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, ok := c.until[id]
	return ok && time.Now().Before(t)
}

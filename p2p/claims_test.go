package p2p

import (
	"testing"
	"testing/synctest"
	"time"

	"quipu/chain"
)

func TestClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c claims
		a, b := chain.BlockID{1}, chain.BlockID{2}
		if c.any() || c.has(a) || !c.take(a, time.Second, 1) || !c.has(a) || !c.any() {
			t.Error("a block can't be claimed")
		}
		if c.take(a, time.Second, 2) || c.take(b, time.Second, 1) {
			t.Error("claimed twice, or above the limit")
		}
		c.release(a)
		if c.has(a) || !c.take(b, time.Second, 1) {
			t.Error("a claim that was given back holds on")
		}
		time.Sleep(time.Second) // virtual
		if c.any() || c.has(b) || !c.take(a, time.Second, 1) {
			t.Error("a claim outlives its time")
		}
	})
}

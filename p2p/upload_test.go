package p2p

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// The rate holds over all peers together; each gets an even share, however much it asks for; of one peer, what was asked
// first goes first, and small answers before bodies.
func TestUploadIsSharedEvenly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 100_000
		u := newUploads(rate)
		ctx, cancel := context.WithCancel(t.Context())
		var sent [4]atomic.Int64 // one stream of a, three of b, the last one small answers
		for i, p := range []peer.ID{"a", "b", "b", "b"} {
			go func() {
				for u.wait(ctx, p, uint64((i+1)%4), 1000) == nil {
					sent[i].Add(1000)
				}
			}()
		}
		time.Sleep(10 * time.Second)
		a, first, second, small := sent[0].Load(), sent[1].Load(), sent[2].Load(), sent[3].Load()
		total := a + first + second + small
		if want := int64(10*rate + rate/20); total > want+1000 || total < want*99/100 {
			t.Errorf("%d bytes in 10 s", total)
		}
		if a < total*49/100 || a > total*51/100 {
			t.Errorf("one stream of a peer got %d of %d", a, total)
		}
		if small < (total-a)*98/100 || first+second > 10_000 {
			t.Errorf("of the other: small ones %d, first %d, second %d", small, first, second)
		}
		cancel()
		synctest.Wait()
		u.mu.Lock()
		defer u.mu.Unlock()
		if len(u.queues) != 0 {
			t.Errorf("%d queues left", len(u.queues))
		}
	})
}

func TestUploadLimits(t *testing.T) {
	for n, ok := range map[int64]bool{0: true, MinUpload: true, MaxUpload: true, 1: false, -1: false, MinUpload - 1: false, MaxUpload + 1: false} {
		if err := checkUpload(n); (err == nil) != ok {
			t.Errorf("%d: %v", n, err)
		}
	}
	if newUploads(0) != nil {
		t.Error("0 limits")
	}
	for rate, piece := range map[int64]int{MinUpload: 1 << 10, 100_000: 5000, 1 << 30: uploadPiece} {
		if got := newUploads(rate).piece(); got != piece {
			t.Errorf("at %d a piece of %d, want %d", rate, got, piece)
		}
	}
}

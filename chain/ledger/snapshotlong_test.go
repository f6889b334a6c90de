package ledger

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"quipu/chain"
)

// How long a snapshot of a million accounts takes, with the journal nearly full, alone and while blocks come in: the
// figures of docs/performance.md. Each file holds what it should.
func TestSnapshotOfAMillion(t *testing.T) {
	if os.Getenv("QUIPU_LONG") == "" {
		t.Skip("takes a minute; set QUIPU_LONG=1")
	}
	const blocks, first = 700, 180
	defer debug.SetGCPercent(debug.SetGCPercent(15)) // as a node does
	r := rand.New(rand.NewPCG(1, 1))
	dir := t.TempDir()
	s, all := crowd(t, 1_000_000, func(c *Config) {
		onDisk(t)(c)
		c.StateMemory, c.behind, c.groupBlocks, c.MemTable = StateMemory, JournalAccounts, 0, NodeMemTable
	})
	names := make([]string, blocks)
	for i := range names {
		nonce, txs := s.Account(s.alice.Account).Nonce, make([]chain.Tx, 6)
		for k := range txs {
			outs := make([]chain.Output, 255)
			for j := range outs {
				outs[j] = chain.Output{To: all[r.IntN(len(all))], Amount: 1}
			}
			txs[k] = s.alice.Pay(s.G, nonce+uint64(k), 0, outs...)
		}
		names[i] = fmt.Sprint("b", i)
		s.Next(names[i], txs)
	}
	pin := func() *Pinned {
		s.l.mu.Lock()
		defer s.l.mu.Unlock()
		s.l.pin()
		p := s.l.pinned
		s.l.pinned = nil
		return p
	}
	write := func(what string, p *Pinned) {
		runtime.GC()
		var before runtime.MemStats
		runtime.ReadMemStats(&before)
		stop, peak := make(chan struct{}), make(chan uint64)
		go func() {
			most := uint64(0)
			for {
				select {
				case <-stop:
					peak <- most
					return
				case <-time.After(20 * time.Millisecond):
					var now runtime.MemStats
					runtime.ReadMemStats(&now)
					most = max(most, now.HeapAlloc)
				}
			}
		}()
		start := time.Now()
		err := p.Write(t.Context(), dir)
		took := time.Since(start)
		close(stop)
		more := <-peak - before.HeapAlloc
		p.Release()
		if err != nil {
			t.Error(err)
			return
		}
		f, err := OpenSnapshot(filepath.Join(dir, snapshotName(p.Tip.Header.Height, p.Tip.ID)))
		if err == nil {
			defer f.Close()
			start = time.Now()
			err = f.Verify()
		}
		if err != nil {
			t.Error(err)
			return
		}
		t.Logf("%s: block %d, %d accounts, %.2f s, %.1f MB, heap up to %d MB more, verified in %.2f s",
			what, f.Height, f.Accounts, took.Seconds(), float64(f.Bytes)/1e6, more>>20, time.Since(start).Seconds())
	}
	s.add(names[:first]...)
	t.Logf("%d accounts in the journal", s.l.State().Behind)
	start := time.Now()
	p := pin()
	t.Logf("pinned in %.2f s", time.Since(start).Seconds())
	write("alone", p)
	p, done := pin(), make(chan struct{})
	go func() { defer close(done); write("while blocks come in", p) }()
	start, n := time.Now(), 0
	for _, name := range names[first:] {
		select {
		case <-done:
		default:
			n++
			s.add(name)
			continue
		}
		break
	}
	t.Logf("%.0f accounts a second beside it (%d blocks)", float64(n*6*255)/time.Since(start).Seconds(), n)
	<-done
	start = time.Now()
	s.add(names[first+n:]...)
	t.Logf("%.0f accounts a second alone", float64((blocks-first-n)*6*255)/time.Since(start).Seconds())
	write("later, alone", pin())
}

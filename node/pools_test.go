package node

import (
	"errors"
	"testing"
	"time"

	"quipu/chain"
	"quipu/chain/chaintest"
)

// A node that joins gets a pool larger than a status can show, chains of nonces in order, and what was gossiped away
// from it since.
func TestNewcomerGetsLargePool(t *testing.T) {
	inWorld(t, worldGenesis(1), func(w *world) {
		a := w.start(nil)
		var raws [][]byte
		for nonce := range uint64(900) {
			raws = append(raws, chaintest.Raw(alice.Pay(w.g, nonce, 0, chaintest.To(bob, 1))), chaintest.Raw(bob.Pay(w.g, nonce, 0, chaintest.To(alice, 1))))
		}
		for i, r := range a.AcceptTxs(raws) {
			if r.Err != nil {
				t.Fatalf("%d: %v", i, r.Err)
			}
		}
		time.Sleep(2 * time.Second) // virtual: what came this second is left to gossip
		b := w.start(nil)
		w.within(15*time.Second, "of one pool", func() bool { return b.pool.Stats().Txs == len(raws) })
		if s := b.pool.Stats(); s.GappedTxs > 0 || len(b.net.Bans()) > 0 {
			t.Errorf("%d behind a gap, bans %v", s.GappedTxs, b.net.Bans())
		}
	})
}

// TestAcceptTogether: what many callers bring at once is answered to each as if it had come alone, a transaction that
// two of them bring is admitted once, and a bad one blames its own bringer only.
func TestAcceptTogether(t *testing.T) {
	inWorld(t, worldGenesis(1), func(w *world) {
		n := w.start(nil)
		const callers, each = 8, 30
		done := make(chan int, callers)
		forged := chaintest.Raw(bob.Pay(w.g, 0, 0, chaintest.To(alice, 1)))
		forged[len(forged)-1] ^= 1
		for c := range callers {
			var raws [][]byte
			for k := range each {
				raws = append(raws, chaintest.Raw(alice.Pay(w.g, uint64(k), 0, chaintest.To(bob, 1)))) // the same of all
			}
			if c == 0 {
				raws = append(raws, forged)
			}
			go func() {
				admitted := 0
				for i, r := range n.AcceptTxs(raws) {
					if r.Admitted {
						admitted++
					}
					if bad := i == each; bad != isRule(r.Err) || !bad && !r.Checked {
						t.Errorf("caller %d, transaction %d: %+v", c, i, r)
					}
				}
				done <- admitted
			}()
		}
		sum := 0
		for range callers {
			sum += <-done
		}
		if sum != each || n.pool.Stats().Txs != each {
			t.Errorf("%d admitted, %d in the pool, want %d", sum, n.pool.Stats().Txs, each)
		}
	})
}

func isRule(err error) bool {
	var rule *chain.RuleError
	return errors.As(err, &rule)
}

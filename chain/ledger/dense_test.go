package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"os"
	"testing"

	"quipu/chain"
	"quipu/chain/chaintest"
)

// dense fills size bytes with transactions of 255 outputs to accounts that nobody has, the block that writes most.
func dense(from chaintest.Key, g *chain.Genesis, size int) (txs []chain.Tx) {
	for nonce := uint64(0); ; nonce++ {
		tx := chain.Tx{Nonce: nonce, Outputs: make([]chain.Output, chain.MaxOutputs)}
		for i := range tx.Outputs {
			tx.Outputs[i].To = sha256.Sum256(binary.BigEndian.AppendUint64([]byte{byte(i)}, nonce))
			tx.Outputs[i].Amount = 1
		}
		if size -= tx.Size(); size < 0 {
			return txs
		}
		txs = append(txs, from.Sign(g, tx, 0))
	}
}

// genesis -> a1 (dense) -> a2
//
//	\-> b1 -> b2 -> b3
//
// The densest block of the largest body_limit is applied, reverted and applied again, each in one transaction at the
// least memtable.
func TestDensestBlockFitsOneTransaction(t *testing.T) {
	limits := []uint32{1 << 18, 1 << 20}
	if os.Getenv("QUIPU_LONG") != "" {
		limits = append(limits, chain.MaxBody)
	}
	for _, limit := range limits {
		s := &scene{t: t, alice: chaintest.NewKey("alice"), names: map[chain.BlockID]string{}}
		g := chaintest.Genesis(func(g *chain.Genesis) { g.BodyLimit = limit }, s.alice)
		s.Gen, s.cfg = chaintest.New(g), Config{Genesis: g, Dir: t.TempDir(), FreeSpace: plenty}
		s.open()
		a1 := s.Next("a1", dense(s.alice, g, int(limit)))
		s.Next("a2", nil)
		s.SetTip("genesis")
		s.Next("b1", nil)
		s.Next("b2", nil)
		s.Next("b3", nil)
		if int(a1.Header.BodySize) < int(limit)-11000 {
			t.Fatalf("the block isn't full: %d bytes", a1.Header.BodySize)
		}
		s.headers("a1", "a2", "b1", "b2", "b3")
		count, room := s.l.db.MaxBatchCount(), s.l.db.MaxBatchSize()
		commits := 0
		s.l.cfg.afterCommit = func() { commits++ }
		s.bodies("a1")
		if commits != 2 {
			t.Fatalf("%d commits, want one for the body and one for the block", commits)
		}
		s.tip("a1")
		n := int64(s.l.Stats().Accounts)
		t.Logf("body_limit %d: %d accounts of at most %d entries, %d bytes a transaction", limit, n, count, room)
		if n*2 > count*11/10 {
			t.Errorf("%d accounts take more than about half of %d entries", n, count)
		}
		s.bodies("b1", "b2")
		s.tip("b2")
		if got := s.l.Stats().Accounts; got != 2 {
			t.Fatalf("%d accounts after the dense block was reverted, want alice and the miner", got)
		}
		s.bodies("a2") // as heavy and later
		s.tip("b2")
		s.bodies("b3")
		s.reopen()
		s.tip("b3")
		s.l.Close()
	}
}

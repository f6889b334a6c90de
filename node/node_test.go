package node

import (
	"errors"
	"testing"
	"time"

	"quipu/chain"
	"quipu/chain/bip340"
	"quipu/chain/chaintest"
	"quipu/mempool"
	"quipu/rpc"
)

// Two nodes, one of them mining: a payment handed to the other is verified by both, mined, and gives both the same
// tip, state root and balances.
func TestPaymentBetweenTwoNodes(t *testing.T) {
	inWorld(t, worldGenesis(1), func(w *world) {
		miner := w.start(mining("m1"))
		other := w.start(nil)
		w.within(10*time.Second, "connected and past block 1", agree(1, miner, other))
		id := submit(w, other, alice.Pay(w.g, 0, 0, chaintest.To(carol, 7)))
		w.within(2*time.Second, "in the miner's pool or chain", func() bool {
			_, _, pooled := miner.pool.ByID(id)
			return pooled || confirmed(id, 1, miner)()
		})
		w.within(60*time.Second, "confirmed twice on both", confirmed(id, 2, miner, other))
		w.within(10*time.Second, "one tip", agree(2, miner, other))
		for _, n := range w.nodes {
			if got := balance(w, n, carol); got != 7 {
				t.Errorf("carol has %d, want 7", got)
			}
		}
	})
}

// A node that joins late has everything from several peers, and what it then mines is taken.
func TestLateJoinerCatchesUp(t *testing.T) {
	inWorld(t, worldGenesis(3), func(w *world) {
		for _, name := range []string{"m1", "m2", "m3"} {
			w.start(mining(name))
		}
		w.within(120*time.Second, "30 blocks", agree(30, w.nodes...))
		late := w.start(nil)
		w.within(20*time.Second, "caught up", func() bool { return late.Tip().Header.Height >= 30 })
		w.within(20*time.Second, "one tip", agree(31, w.nodes...))
	})
}

// Four miners are split two and two; each side takes a payment and grows its own branch. After the heal one branch
// wins, and the payment of the other side goes back to the pool and is mined again.
//
//	... -> common -> a1 -> a2 ...   {1 2}
//	             \-> b1 -> b2 ...   {3 4}
func TestPartitionHealsAndLosesNoPayment(t *testing.T) {
	partitionHeals(t, 0)
}

// The same where the sides are further apart than undo reaches: those who lose start over from block 0.
func TestPartitionHealsBelowTheUndo(t *testing.T) {
	partitionHeals(t, 3)
}

func partitionHeals(t *testing.T, undo int) {
	inWorld(t, worldGenesis(4), func(w *world) {
		for _, name := range []string{"m1", "m2", "m3", "m4"} {
			w.start(func(c *Config) { mining(name)(c); c.undoKeep = undo })
		}
		w.within(60*time.Second, "one tip", agree(3, w.nodes...))
		left, right := w.nodes[:2], w.nodes[2:]
		gate := func(nodes, blocked []*Node) {
			var ids []string
			for _, n := range blocked {
				ids = append(ids, n.net.ID())
			}
			for _, n := range nodes {
				if err := n.net.Gate(ids); err != nil {
					w.Fatal(err)
				}
			}
		}
		gate(left, right)
		gate(right, left)
		w.within(5*time.Second, "split", func() bool {
			for _, n := range w.nodes {
				if len(n.net.Peers()) != 1 {
					return false
				}
			}
			return true
		})
		x := submit(w, left[0], alice.Pay(w.g, 0, 0, chaintest.To(carol, 5)))
		y := submit(w, right[0], bob.Pay(w.g, 0, 0, chaintest.To(carol, 11)))
		w.within(120*time.Second, "each side has mined its payment", func() bool {
			return confirmed(x, 1, left...)() && confirmed(y, 1, right...)()
		})
		if left[0].Tip().ID == right[0].Tip().ID || confirmed(y, 1, left[0])() || confirmed(x, 1, right[0])() {
			w.Fatal("the sides are not apart")
		}
		common := w.nodes[0].Tip().Header.Height
		for h := left[0].Tip(); ; h = must(left[0].Header(h.Header.Parent)) {
			if info := right[0].ledger.Info(h.ID); info.OnBest {
				common = h.Header.Height
				break
			}
		}
		w.within(300*time.Second, "the sides are far enough apart", func() bool {
			return left[0].Tip().Header.Height > common+uint64(2*undo) && right[0].Tip().Header.Height > common+uint64(2*undo)
		})
		gate(left, nil)
		gate(right, nil)
		w.within(60*time.Second, "one tip", agree(4, w.nodes...))
		if undo > 0 {
			anew := 0
			for _, n := range w.nodes {
				anew += kinds(n)["node.rebuilt"]
			}
			if anew < 2 {
				t.Errorf("%d nodes started over", anew)
			}
		}
		w.within(60*time.Second, "both payments on all", func() bool {
			return confirmed(x, 2, w.nodes...)() && confirmed(y, 2, w.nodes...)()
		})
		for _, n := range w.nodes {
			if got := balance(w, n, carol); got != 16 {
				t.Errorf("carol has %d, want 16", got)
			}
			if len(n.net.Bans()) != 0 {
				t.Errorf("honest nodes banned each other: %v", n.net.Bans())
			}
		}
	})
}

func must(s chain.State, ok bool) chain.State {
	if !ok {
		panic("no header")
	}
	return s
}

// A header from a clock that runs ahead is parked, not refused; when it is due the node takes it and tells others.
func TestBlockFromTheFutureWaits(t *testing.T) {
	g := worldGenesis(1)
	inWorld(t, g, func(w *world) {
		a := w.start(nil)
		b := w.start(nil)
		gen := chaintest.New(g)
		ahead := gen.Next("ahead", nil, chaintest.At(15_000))
		if err := a.AcceptHeader(ahead.Header, []byte{}); err == nil {
			w.Fatal("a header 15 s ahead was forwarded")
		}
		time.Sleep(4 * time.Second) // virtual: 11 s ahead, the limit is 10
		if a.Tip().Header.Height != 0 {
			w.Fatal("taken before it was due")
		}
		w.within(3*time.Second, "taken when due, by both", agree(1, a, b))
	})
}

// What each way in refuses, and whose fault it is.
func TestAcceptTxsBlamesOnlyStatelessFaults(t *testing.T) {
	g := worldGenesis(1)
	inWorld(t, g, func(w *world) {
		n := w.start(nil)
		good := alice.Pay(g, 0, 0, chaintest.To(bob, 1))
		forged := alice.Pay(g, 1, 0, chaintest.To(bob, 1))
		forged.Signature[40] ^= 1
		cheap := alice.Sign(g, chain.Tx{Nonce: 1, Fee: 1, Outputs: []chain.Output{chaintest.To(bob, 1)}}, 0)
		for _, c := range []struct {
			name  string
			raw   []byte
			fault bool
			want  error
		}{
			{"valid", chaintest.Raw(good), false, nil},
			{"the same again", chaintest.Raw(good), false, mempool.ErrKnown},
			{"forged signature", chaintest.Raw(forged), true, chain.ErrSignature},
			{"forged signature again: from the cache", chaintest.Raw(forged), true, chain.ErrSignature},
			{"fee below the least", chaintest.Raw(cheap), true, chain.ErrFeeTooLow},
			{"trailing byte", append(chaintest.Raw(good), 0), true, chain.ErrTrailing},
			{"truncated", chaintest.Raw(good)[:100], true, chain.ErrTruncated},
			{"more than the balance", chaintest.Raw(bob.Pay(g, 0, 0, chaintest.To(alice, 2000*chain.Knots))), false, mempool.ErrFunds},
		} {
			res := n.AcceptTxs([][]byte{c.raw})[0]
			checkFault(t, c.name, res.Err, c.want, c.fault)
		}
	})
}

func checkFault(t *testing.T, name string, err, want error, fault bool) {
	t.Helper()
	var broken *chain.RuleError
	if !errors.Is(err, want) || errors.As(err, &broken) != fault {
		t.Errorf("%s: %v; want %v, sender's fault %v", name, err, want, fault)
	}
}

// A payment signed a second time has another signature and the same txid: it is the one that waits already.
func TestResignedPaymentIsKnown(t *testing.T) {
	g := worldGenesis(1)
	inWorld(t, g, func(w *world) {
		n := w.start(nil)
		a := &api{n: n}
		tx := alice.Pay(g, 0, 0, chaintest.To(bob, 1))
		id := tx.ID(g.NetworkID())
		for i, again := range []chain.Tx{tx, tx, resign(t, tx, id)} {
			got, err := a.txSubmit(t.Context(), [][]byte{chaintest.Raw(again)})
			if err != nil {
				t.Fatal(err)
			}
			if got[0].TxID != id || got[0].State != rpc.TxPending || got[0].Known != (i > 0) || got[0].Error != nil {
				t.Errorf("submitted %d times: %+v", i+1, got[0])
			}
		}
	})
}

func resign(t *testing.T, tx chain.Tx, id chain.TxID) chain.Tx {
	t.Helper()
	sig, err := bip340.Sign(&alice.Secret, id[:], &[32]byte{1})
	if err != nil || sig == tx.Signature {
		t.Fatalf("no second signature (%v)", err)
	}
	tx.Signature = sig
	return tx
}

// What never becomes due, stands far below the tip, or comes with a wrong body takes no room among the parked.
func TestParkingIsForWhatWillBeDue(t *testing.T) {
	g := worldGenesis(1)
	inWorld(t, g, func(w *world) {
		n := w.start(nil)
		gen := chaintest.New(g)
		later := gen.Next("later", nil, chaintest.At(2*3600_000))
		wrong := gen.SetTip("genesis").Next("wrong", nil, chaintest.At(15_000))
		soon := gen.SetTip("genesis").Next("soon", nil, chaintest.At(15_001))
		n.AcceptHeader(later.Header, []byte{})
		n.AcceptHeader(wrong.Header, chaintest.Raw(alice.Pay(g, 0, 0, chaintest.To(bob, 1))))
		n.AcceptHeader(soon.Header, []byte{})
		if len(n.parked.byID) != 1 {
			t.Errorf("%d parked, want the one that is due soon with its own body", len(n.parked.byID))
		}
	})
}

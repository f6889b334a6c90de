package p2p

import (
	"encoding/binary"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/p2p/wire"
)

// unsigned are transactions for a Backend that doesn't look at signatures.
func unsigned(n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		t := chain.Tx{Nonce: uint64(i), Fee: 159, Outputs: []chain.Output{{Amount: 1}}}
		binary.LittleEndian.PutUint64(t.From[:], uint64(i)*0x9e3779b97f4a7c15)
		out[i] = t.Append(nil)
	}
	return out
}

// trusting takes whatever comes and isn't there yet.
func trusting(g *chain.Genesis) *fake {
	f := newFake(g)
	f.admit = func(raw []byte) TxResult {
		if f.pool[chain.LeafOf(raw)] != nil {
			return TxResult{Err: ErrKnown, Checked: true}
		}
		return TxResult{Admitted: true, Checked: true}
	}
	return f
}

// Each of four nodes in a row loses every tenth message of gossip: large pools agree all the same, in bounded time, and
// what was repaired is counted.
func TestPoolsAgreeThoughGossipIsLost(t *testing.T) {
	txs, per := 12_000, 200
	if os.Getenv("QUIPU_LONG") != "" {
		txs = 60_000
	}
	raws := unsigned(txs)
	inWorld(t, func(w *world) {
		g := chaintest.Genesis(nil, alice)
		var came, lost atomic.Int64
		var all []*node
		for i := range 4 {
			var dial []string
			if i > 0 {
				dial = []string{all[i-1].addr()}
			}
			all = append(all, w.start(trusting(g), func(s *Service) {
				s.gossip.lose = func() bool {
					if came.Add(1)%10 != 0 {
						return false
					}
					lost.Add(1)
					return true
				}
			}, dial...))
		}
		w.within(5*time.Second, "linked", func() bool { return len(all[3].Peers()) == 1 && len(all[1].Peers()) == 2 })
		time.Sleep(2 * time.Second) // virtual: the mesh is built
		for i := 0; i < txs; i += per {
			n := all[i/per%4]
			n.f.AcceptTxs(raws[i : i+per])
			n.PublishTxs(raws[i : i+per])
			time.Sleep(50 * time.Millisecond) // virtual
		}
		took := w.within(30*time.Second, "of one pool", func() bool {
			for _, n := range all {
				if n.f.poolSize() != txs {
					return false
				}
			}
			return true
		})
		repaired := uint64(0)
		for _, n := range all {
			c := n.Counters()
			repaired += c["txs_repaired"]
			if len(n.Bans()) > 0 {
				t.Errorf("bans: %+v", n.Bans())
			}
		}
		if lost.Load() == 0 || repaired == 0 {
			t.Errorf("%d messages lost, %d transactions repaired", lost.Load(), repaired)
		}
		t.Logf("%d messages lost, %d transactions repaired, agreed %v after the last", lost.Load(), repaired, took)
	})
}

// A node that joins gets a whole large pool from the first peer it compares with, and doesn't gossip it on.
func TestNewcomerGetsWholePool(t *testing.T) {
	const txs = 20_000
	raws := unsigned(txs)
	inWorld(t, func(w *world) {
		g := chaintest.Genesis(nil, alice)
		fa, fb := trusting(g), trusting(g)
		fa.AcceptTxs(raws)
		a := w.start(fa, nil)
		b := w.start(fb, nil, a.addr())
		w.within(10*time.Second, "full", func() bool { return fb.poolSize() == txs })
		// Some few that its filter seems to have had come with the last answer, and few are gossiped on.
		if c := b.Counters(); c["txs_sent"] >= poolMany || c["txs_repaired"] < txs {
			t.Errorf("it gossiped what it was given, or got it otherwise: %v", c)
		}
	})
}

// Transactions of any sizes in any order make batches that no neighbour takes for malformed. Here a batch that is one byte
// short of being sent is followed by the largest transaction.
func TestNoBatchIsTooLong(t *testing.T) {
	raws := unsigned(413)
	size := 0
	for _, raw := range raws[:411] {
		size += len(raw)
	}
	memo := chain.Tx{Nonce: 411, Fee: 999, Outputs: []chain.Output{{Amount: 1}}, Memo: make([]byte, batchBytes-1-size-chain.TxMinSize)}
	raws[411] = memo.Append(nil)
	most := chain.Tx{Nonce: 412, Fee: 99_999, Outputs: make([]chain.Output, chain.MaxOutputs), Memo: make([]byte, chain.MaxMemo)}
	for i := range most.Outputs {
		most.Outputs[i].Amount = 1
	}
	if raws[412] = most.Append(nil); size+len(raws[411]) != batchBytes-1 || len(raws[412]) != chain.TxMaxSize {
		t.Fatalf("%d and %d bytes", size+len(raws[411]), len(raws[412]))
	}
	inWorld(t, func(w *world) {
		g := chaintest.Genesis(nil, alice)
		fa, fb := trusting(g), trusting(g)
		a := w.start(fa, nil)
		b := w.start(fb, nil, a.addr())
		w.within(5*time.Second, "linked", func() bool { return len(a.gossip.txs.ListPeers()) == 1 && len(b.gossip.txs.ListPeers()) == 1 })
		fa.AcceptTxs(raws)
		a.PublishTxs(raws)
		w.within(10*time.Second, "all there", func() bool { return fb.poolSize() == len(raws) || len(b.Bans()) > 0 })
		if len(b.Bans()) > 0 {
			t.Errorf("bans: %+v", b.Bans())
		}
	})
}

// A peer that asks all the time, or on another tip, is told so; nobody is charged. What doesn't decode is.
func TestPoolQuestions(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	blocks := testChain(g, 1, 1)
	inWorld(t, func(w *world) {
		f := trusting(g)
		f.AcceptTxs(unsigned(10))
		n := w.start(f, nil)
		h := w.liar(g, func() wire.Status { return statusOf(f) })
		w.dialTo(h, n)
		ask := func(q []byte) (wire.PoolCode, int, error) {
			st, err := h.NewStream(network.WithNoDial(w.Context(), ""), n.host.ID(), protocol.ID(wire.ProtocolID(g.NetworkID(), wire.NamePool)))
			if err != nil {
				return 0, 0, err
			}
			defer st.Close()
			wire.WriteFrame(st, q)
			st.CloseWrite()
			b, err := wire.ReadFrame(st, wire.MaxPoolAnswer)
			if err != nil {
				return 0, 0, err
			}
			code, raws, err := wire.DecodePool(b)
			return code, len(raws), err
		}
		here := wire.NewPoolRequest(f.Tip().ID, [8]byte{}, wire.Prefix{}, nil)
		elsewhere := wire.NewPoolRequest(blocks[0].Header.ID(), [8]byte{}, wire.Prefix{}, nil)
		if code, got, err := ask(here.Append(nil)); code != wire.PoolAll || got != 10 || err != nil {
			t.Errorf("code %d, %d transactions, %v", code, got, err)
		}
		if code, _, err := ask(elsewhere.Append(nil)); code != wire.PoolElsewhere || err != nil {
			t.Errorf("on another tip: code %d, %v", code, err)
		}
		full := 0
		for range 2 * poolsBurst {
			if code, _, err := ask(here.Append(nil)); err == nil && code == wire.PoolAll {
				full++
			}
		}
		if full > poolsBurst {
			t.Errorf("%d of %d questions at once are answered", full, 2*poolsBurst)
		}
		if len(n.Bans()) > 0 {
			t.Errorf("bans: %+v", n.Bans())
		}
		ask(append(here.Append(nil), make([]byte, wire.MaxPoolFilter)...))
		w.within(time.Second, "banned", w.banned(n, h, Malformed))
	})
}

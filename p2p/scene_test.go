package p2p

import (
	"testing"
	"time"

	"quipu/chain/chaintest"
)

func TestTwoNodesExchangeStatusAndABatch(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	blocks := testChain(g, 3, 1)
	inWorld(t, func(w *world) {
		fa, fb := newFake(g), newFake(g)
		fa.load(blocks[:1])
		fb.load(blocks[:1])
		a := w.start(fa, nil)
		b := w.start(fb, nil, a.addr())
		w.within(3*time.Second, "both know each other's tip", func() bool {
			pa, pb := a.Peers(), b.Peers()
			return len(pa) == 1 && len(pb) == 1 && pa[0].TipHeight == 1 && pb[0].TipHeight == 1
		})
		w.within(5*time.Second, "in the mesh", func() bool { return len(a.gossip.txs.ListPeers()) == 1 })
		raws := payments(g, 100)
		a.PublishTxs(raws)
		took := w.within(2*time.Second, "all transactions at the other node", func() bool { return fb.poolSize() == 100 })
		if b.Counters()["txs_repaired"] > 0 {
			t.Errorf("after %v the exchange had to repair what gossip should bring", took)
		}
		if p := a.Peers()[0]; p.RTT < 20*time.Millisecond || p.RTT > 200*time.Millisecond || p.Version != "quipu" {
			t.Errorf("peer info %+v", p)
		}
		fa.load(blocks[1:2])
		a.PublishBlock(blocks[1].Header, blocks[1].Body)
		w.within(time.Second, "small block by gossip", func() bool { return fb.Tip().Header.Height == 2 })
	})
}

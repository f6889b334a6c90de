package node

import (
	"testing"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/p2p/wire"
)

// quietNode is a node that isn't running, and how often it has looked at each signature.
func quietNode(t *testing.T, g *chain.Genesis) (*Node, map[chain.LeafHash]int) {
	n, err := New(Config{Genesis: g, Listen: []string{"/ip4/127.0.0.1/tcp/0"}, TestNet: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	looked := map[chain.LeafHash]int{}
	n.checker = g.NewChecker(0, func(leaf chain.LeafHash) bool {
		known := n.known(leaf)
		if !known {
			looked[leaf]++
		}
		return known
	})
	return n, looked
}

// TestNoSignatureTwice: a transaction that came through gossip is verified once, whatever block it comes back in, that of a
// rival branch included. By then neither the pool holds it nor, here, the cache.
func TestNoSignatureTwice(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	gen := chaintest.New(g)
	var txs []chain.Tx
	var raws [][]byte
	for i := range uint64(50) {
		txs = append(txs, alice.Pay(g, i, 0, chaintest.To(bob, 1)))
		raws = append(raws, chaintest.Raw(txs[i]))
	}
	a := gen.Next("a", txs)
	b1 := gen.SetTip("genesis").Next("b1", txs, chaintest.MinedBy(bob))
	b2 := gen.Next("b2", nil)

	n, looked := quietNode(t, g)
	for i, res := range n.AcceptTxs(raws) {
		if res.Err != nil {
			t.Fatal(i, res.Err)
		}
	}
	take := func(blocks ...*chaintest.Block) {
		for _, b := range blocks {
			if _, err := n.AddHeaders([]chain.Header{b.Header}); err != nil {
				t.Fatal(err)
			}
			if err := n.Import([]chain.Block{b.Block}); err != nil {
				t.Fatal(err)
			}
		}
	}
	take(a)
	if n.pool.Stats().Txs != 0 {
		t.Fatal("the pool still holds what was mined")
	}
	n.verified = newVerified()
	key := wire.NewShortKey(&b1.Header, 1)
	var ids []uint64
	for _, raw := range raws {
		leaf := chain.LeafOf(raw)
		ids = append(ids, key.ID(&leaf))
	}
	for i, f := range n.FindShort(key, ids) {
		if string(f.Raw) != string(raws[i]) || f.Leaf != chain.LeafOf(raws[i]) {
			t.Fatalf("transaction %d of the rival block isn't found", i)
		}
	}
	take(b1, b2)
	if n.Tip().ID != b2.ID() {
		t.Fatal("no reorg")
	}
	for _, raw := range raws {
		if leaf := chain.LeafOf(raw); looked[leaf] != 1 {
			t.Errorf("signature of %s was verified %d times", leaf, looked[leaf])
		}
	}
}

// TestFindShort: what the pool holds is found, what two have or is asked for twice is not, nor what nobody has.
func TestFindShort(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	n, _ := quietNode(t, g)
	var raws [][]byte
	for i := range uint64(5) {
		raws = append(raws, chaintest.Raw(alice.Pay(g, i, 0, chaintest.To(bob, 1))))
	}
	n.AcceptTxs(raws[:4])
	h := g.State().Header
	key := wire.NewShortKey(&h, 9)
	id := func(i int) uint64 { leaf := chain.LeafOf(raws[i]); return key.ID(&leaf) }
	got := n.FindShort(key, []uint64{id(0), id(4), id(1), id(2), id(1)})
	for i, want := range [][]byte{raws[0], nil, nil, raws[2], nil} {
		if string(got[i].Raw) != string(want) {
			t.Errorf("%d: %x, want %x", i, got[i].Raw, want)
		}
	}
	other := chain.LeafHash{1}
	f := finder{key: key, at: map[uint64]int{key.ID(&other): 0}, out: got[:1]} // as if it had the short id of the first
	f.look(&other, raws[1])
	f.look(&other, raws[1])
	if got[0].Raw != nil {
		t.Error("a short id that two transactions have finds one of them")
	}
}

// BenchmarkFindShort is one block of 4,000 pooled transactions, put together but for its bytes: the short ids of the pool and
// the Merkle root.
func BenchmarkFindShort(b *testing.B) {
	const txs = 4000
	keys := make([]chaintest.Key, 1000)
	for i := range keys {
		keys[i] = chaintest.NewKey(string(rune('a' + i)))
	}
	g := chaintest.Genesis(nil, keys...)
	n, err := New(Config{Genesis: g, Listen: []string{"/ip4/127.0.0.1/tcp/0"}, TestNet: true})
	if err != nil {
		b.Fatal(err)
	}
	defer n.Close()
	h := g.State().Header
	key := wire.NewShortKey(&h, 9)
	var raws [][]byte
	var leaves []chain.LeafHash
	var ids []uint64
	for i := range txs {
		raws = append(raws, chaintest.Raw(keys[i%len(keys)].Pay(g, uint64(i/len(keys)), 0, chaintest.To(bob, 1))))
		leaves = append(leaves, chain.LeafOf(raws[i]))
		ids = append(ids, key.ID(&leaves[i]))
	}
	for _, res := range n.AcceptTxs(raws) {
		if res.Err != nil {
			b.Fatal(res.Err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if found := n.FindShort(key, ids); found[0].Raw == nil {
			b.Fatal("not found")
		}
		chain.MTH(leaves)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*txs), "µs/tx")
}

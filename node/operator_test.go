package node

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/chain/ledger"
	"quipu/p2p"
	"quipu/p2p/wire"
	"quipu/rpc"
)

// feed gives a node blocks one by one.
func feed(t *testing.T, n *Node, blocks ...*chaintest.Block) {
	t.Helper()
	for _, b := range blocks {
		if _, err := n.AddHeaders([]chain.Header{b.Header}); err != nil {
			t.Fatalf("header %s: %v", b.Name, err)
		}
		if err := n.Import([]chain.Block{b.Block}); err != nil {
			t.Fatalf("body %s: %v", b.Name, err)
		}
	}
}

func withoutNet(t *testing.T, cfg Config) *Node {
	t.Helper()
	cfg.TestNet = true
	n, err := Offline(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func alarms(n *Node) (out []string) {
	all, _ := n.events.since(0)
	for _, e := range all {
		if e.Kind == "node.alarm" {
			out = append(out, e.Reason)
		}
	}
	return out
}

// A chain beside the checkpoint is nobody's fault, is never followed, and raises one alarm.
func TestCheckpointIsNobodysFault(t *testing.T) {
	gen := chaintest.New(crashGenesis())
	a := gen.Chain("a", 4, nil)
	gen.SetTip("a1")
	b := gen.Chain("b", 1, func(int) []chain.Tx { return []chain.Tx{alice.Pay(gen.G, 0, 0, chaintest.To(bob, 1))} })
	dir := t.TempDir()
	cfg := Config{Genesis: gen.G, DataDir: dir, Checkpoints: map[uint64]chain.BlockID{2: b[0].ID()}}
	n := withoutNet(t, cfg)
	feed(t, n, a[0])
	for range 3 {
		k, err := n.AddHeaders([]chain.Header{a[1].Header, a[2].Header})
		if k != 0 || !errors.Is(err, p2p.ErrInvalidAncestor) {
			t.Fatalf("%d stored, %v", k, err)
		}
	}
	if got := alarms(n); len(got) != 1 {
		t.Fatalf("alarms: %q", got)
	}
	if len(n.fault) != 0 {
		t.Fatal("it is taken for a fault of ours")
	}
	feed(t, n, b[0])
	if n.Tip().ID != b[0].ID() {
		t.Fatal("the checkpoint isn't the tip")
	}
	n.Close()

	cfg.Checkpoints = nil
	n = withoutNet(t, cfg)
	feed(t, n, a[1:]...)
	n.Close()
	cfg.Checkpoints = map[uint64]chain.BlockID{2: b[0].ID()}
	n = withoutNet(t, cfg)
	if n.Tip().ID != b[0].ID() {
		t.Fatal("the stored chain beside the checkpoint is followed")
	}
	if n.Invalid(a[3].ID()) {
		t.Fatal("a peer on the other chain would be charged")
	}
}

// A node that prunes answers for old blocks what it still knows, and never makes something up.
func TestPrunedNodeAnswers(t *testing.T) {
	gen := chaintest.New(crashGenesis())
	blocks := gen.Chain("m", 20, func(i int) []chain.Tx {
		return []chain.Tx{alice.Pay(gen.G, gen.Account(alice.Account).Nonce, 0, chaintest.To(bob, 1))}
	})
	n := withoutNet(t, Config{Genesis: gen.G, undoKeep: 4, Prune: 8})
	feed(t, n, blocks...)
	a := &api{n: n}
	for i, b := range blocks {
		id, kept := b.Checked.Txs()[0].ID(), i >= 12
		s, err := a.standing(id)
		if err != nil || s.State != rpc.TxIncluded || s.Height != uint64(i+1) || *s.Block != b.ID() || s.Confirmations != uint64(20-i) || (s.Tx != nil) != kept {
			t.Fatalf("%s: %+v %v", b.Name, s, err)
		}
		if w := n.TxStatus([]chain.TxID{id})[0]; w.State != wire.TxInBlock || w.Block != b.ID() {
			t.Fatalf("%s: %+v", b.Name, w)
		}
		if _, ok := n.Body(b.ID()); ok != kept {
			t.Fatalf("%s: served %v", b.Name, ok)
		}
		block := b.ID()
		r, err := a.chainBlock(t.Context(), rpc.ChainBlockParams{ID: &block, Txs: true})
		if err != nil || r.Pruned == kept || !r.Validated || !r.OnBest || (len(r.Txs) > 0) != kept {
			t.Fatalf("%s: %+v %v", b.Name, r, err)
		}
	}
	if held := n.Held(); len(held) != 1 || held[0] != (wire.Range{From: 13, To: 20}) {
		t.Fatalf("held: %v", held)
	}
	if len(n.fault) != 0 {
		t.Fatal(<-n.fault)
	}
	if _, err := Offline(Config{Genesis: gen.G, Prune: 4095}); err == nil {
		t.Fatal("fewer bodies than undo reaches")
	}
}

// A reorg of six blocks raises the alarm in log, metric and event; one of five doesn't.
func TestReorgAlarm(t *testing.T) {
	for depth, want := range map[int]int{reorgAlarm - 1: 0, reorgAlarm: 1} {
		gen := chaintest.New(crashGenesis())
		a := gen.Chain("a", depth, nil)
		gen.SetTip("genesis")
		b := gen.Chain("b", depth+1, func(i int) []chain.Tx {
			return []chain.Tx{alice.Pay(gen.G, uint64(i), 0, chaintest.To(bob, 1))}
		})
		n := withoutNet(t, Config{Genesis: gen.G})
		feed(t, n, a...)
		feed(t, n, b...)
		if n.Tip().ID != b[depth].ID() {
			t.Fatal("no reorg")
		}
		if got := alarms(n); len(got) != want {
			t.Errorf("depth %d: alarms %q", depth, got)
		}
		values := map[string]float64{}
		registry := prometheus.NewRegistry()
		registry.MustRegister(n.metrics.reorgDepth, n.metrics.reorgAlarms)
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				values[f.GetName()] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
		if values["quipu_chain_reorg_depth_blocks"] != float64(depth) || values["quipu_chain_reorg_alarms_total"] != float64(want) {
			t.Errorf("depth %d: metrics say %v and %v", depth, values["quipu_chain_reorg_depth_blocks"], values["quipu_chain_reorg_alarms_total"])
		}
	}
}

// The marks of an operator don't cost a peer anything either.
func TestRolledBackBlockIsNobodysFault(t *testing.T) {
	gen := chaintest.New(crashGenesis())
	a := gen.Chain("a", 4, nil)
	cfg := Config{Genesis: gen.G, DataDir: t.TempDir()}
	n := withoutNet(t, cfg)
	feed(t, n, a...)
	n.Close()
	r, err := ledger.Rollback(t.Context(), ledger.Config{Dir: cfg.path("chain")}, 2, true, nil)
	if err != nil || r.Refused != a[2].ID() {
		t.Fatalf("%+v %v", r, err)
	}
	n = withoutNet(t, cfg)
	if n.Tip().ID != a[1].ID() || n.Invalid(a[3].ID()) {
		t.Fatalf("tip at %d, a4 invalid %v", n.Tip().Header.Height, n.Invalid(a[3].ID()))
	}
	_, err = n.AddHeaders([]chain.Header{a[3].Header})
	if !errors.Is(err, p2p.ErrInvalidAncestor) {
		t.Fatal(fmt.Errorf("a descendant: %w", err))
	}
}

// A newcomer that knows a pruned node only gets all headers and waits, at peace; a node that keeps all completes it.
func TestNewcomerAmongPrunedNodes(t *testing.T) {
	g := worldGenesis(1)
	inWorld(t, g, func(w *world) {
		gen := chaintest.New(g)
		time.Sleep(time.Minute) // virtual: the blocks below are in the past
		blocks := gen.Chain("m", 30, nil)
		pruned := w.start(func(c *Config) { c.undoKeep, c.Prune = 4, 8 })
		feed(t, pruned, blocks...)
		newcomer := w.start(nil)
		w.within(20*time.Second, "all headers at the newcomer", func() bool { return newcomer.BestHeader().Header.Height == 30 })
		time.Sleep(time.Minute) // virtual: time enough to lose patience
		if len(newcomer.net.Bans())+len(pruned.net.Bans()) != 0 || newcomer.Tip().Header.Height != 0 {
			t.Errorf("bans %v %v, tip %d", newcomer.net.Bans(), pruned.net.Bans(), newcomer.Tip().Header.Height)
		}
		whole := w.start(nil)
		feed(t, whole, blocks...)
		w.within(time.Minute, "the newcomer at the tip", agree(30, newcomer, whole, pruned))
	})
}

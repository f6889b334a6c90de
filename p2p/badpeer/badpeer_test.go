package badpeer

import (
	"errors"
	"log/slog"
	"slices"
	"testing"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/peer"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/p2p/wire"
)

const someone = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWGQmdpzHXCqLno4mMxWXKNFQHASBeF99gTm2JR8Vu5Bdc"

func TestConfig(t *testing.T) {
	good := func() Config {
		return Config{Kind: BadBlock, Genesis: chaintest.Genesis(nil), Bootstrap: []string{someone}}
	}
	if c := good(); c.Validate() != nil {
		t.Fatal(c.Validate())
	}
	for what, change := range map[string]func(*Config){
		"kind":          func(c *Config) { c.Kind = "bad-manners" },
		"genesis":       func(c *Config) { c.Genesis = nil },
		"nobody":        func(c *Config) { c.Bootstrap = nil },
		"too many":      func(c *Config) { c.Bootstrap = make([]string, 257) },
		"not an addr":   func(c *Config) { c.Bootstrap = []string{"localhost:1"} },
		"no id in addr": func(c *Config) { c.Bootstrap = []string{"/ip4/127.0.0.1/tcp/1"} },
	} {
		c := good()
		change(&c)
		if c.Validate() == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}

func headersOf(blocks ...*chaintest.Block) []chain.Header {
	var hs []chain.Header
	for _, b := range blocks {
		hs = append(hs, b.Header)
	}
	return hs
}

// genesis -> a1 -> a2
//
//	\-> b1 -> b2 -> b3
func TestViewFollowsMostWork(t *testing.T) {
	gen := chaintest.New(chaintest.Genesis(nil))
	a := gen.Chain("a", 2, nil)
	gen.SetTip("genesis")
	b := append([]*chaintest.Block{gen.Next("b", nil, chaintest.MinedBy(chaintest.NewKey("bob")))}, gen.Chain("b", 2, nil)...)
	v := newView(gen.G)
	if !v.add(headersOf(a...)) || v.tip().ID != a[1].ID() {
		t.Fatal("does not follow a")
	}
	if v.add(headersOf(b[:2]...)) {
		t.Error("left a for a branch with the same work")
	}
	v.counted = 2
	if !v.add(headersOf(b...)) || v.tip().ID != b[2].ID() || v.counted != 0 {
		t.Error("does not follow b, or counts on from a")
	}
	if v.add(headersOf(b...)) || v.add(headersOf(a...)) {
		t.Error("headers it has are news")
	}
	got := v.after(&wire.HeadersRequest{Locator: []chain.BlockID{a[1].ID(), b[0].ID(), a[0].ID()}, Max: 1})
	if !slices.Equal(got, headersOf(b[1])) {
		t.Errorf("%d headers after b1", len(got))
	}
	if l := v.locator(); l[0] != b[2].ID() || l[len(l)-1] != gen.G.State().ID {
		t.Errorf("locator %v", l)
	}
}

func newLiar(t *testing.T, g *chain.Genesis) *liar {
	h, err := libp2p.New(libp2p.NoListenAddrs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return &liar{g: g, host: h, log: slog.New(slog.DiscardHandler), view: newView(g)}
}

// TestBadBlock: it keeps all header rules and is the body its header commits to, each transaction passes every
// stateless rule, and yet it is invalid.
func TestBadBlock(t *testing.T) {
	alice := chaintest.NewKey("alice")
	gen := chaintest.New(chaintest.Genesis(nil, alice))
	blocks := gen.Chain("a", 3, nil)
	l := newLiar(t, gen.G)
	l.view.add(headersOf(blocks...))
	tip := l.view.tip()
	bad, err := l.mine(t.Context(), &tip)
	if err != nil || bad == nil {
		t.Fatal(bad, err)
	}
	h := bad.state.Header
	if _, err := gen.G.CheckHeader(&blocks[2].State, &h); err != nil {
		t.Errorf("header: %v", err)
	}
	if err := chain.CheckBody(&h, bad.body); err != nil {
		t.Errorf("body: %v", err)
	}
	checked, errs := gen.G.CheckBlocks([]chain.Block{{Header: h, Body: bad.body}}, nil)
	if errs[0] != nil {
		t.Fatalf("stateless rules: %v", errs[0])
	}
	if _, err := gen.G.Apply(&checked[0], gen.Accounts()); !errors.Is(err, chain.ErrBalance) {
		t.Errorf("applied: %v, want %v", err, chain.ErrBalance)
	}

	l.view.setBad(bad)
	got := l.view.after(&wire.HeadersRequest{Locator: []chain.BlockID{blocks[1].ID()}, Max: 9})
	if !slices.Equal(got, []chain.Header{blocks[2].Header, h}) {
		t.Errorf("serves %d headers, want the honest tip and the bad block", len(got))
	}
	if s := l.status(); s.TipID != bad.state.ID || !s.TipWork.Gt(&tip.Work) || len(s.Ranges) != 1 {
		t.Errorf("claims %+v", s)
	}
	// The honest chain goes on. The claim stands, and whoever is ahead of it is still shown where it forks off.
	more := gen.Chain("c", 2, nil)
	l.view.add(append([]chain.Header{h}, headersOf(more...)...))
	if l.view.tip().ID != tip.ID {
		t.Error("followed its own bad block")
	}
	l.view.add(headersOf(more...))
	got = l.view.after(&wire.HeadersRequest{Locator: []chain.BlockID{more[1].ID(), more[0].ID(), blocks[2].ID()}, Max: 9})
	if !slices.Equal(got, []chain.Header{h}) || l.view.claim().ID != bad.state.ID {
		t.Errorf("serves %d headers, want the bad block alone", len(got))
	}
}

// TestForged: every cheap check passes, nonces included, and only the signature is wrong.
func TestForged(t *testing.T) {
	alice, bob := chaintest.NewKey("alice"), chaintest.NewKey("bob")
	gen := chaintest.New(chaintest.Genesis(nil, alice, bob))
	blocks := []*chaintest.Block{
		gen.Next("a1", []chain.Tx{alice.Pay(gen.G, 0, 0, chaintest.To(bob, 1)), alice.Pay(gen.G, 1, 0, chaintest.To(bob, 1))}),
		gen.Next("a2", nil),
		gen.Next("a3", []chain.Tx{alice.Pay(gen.G, 2, 0, chaintest.To(bob, 1))}),
	}
	l := newLiar(t, gen.G)
	l.view.add(headersOf(blocks...))
	want, upTo := l.view.uncounted()
	if len(want) != 2 || upTo != 3 {
		t.Fatalf("%d bodies wanted up to %d", len(want), upTo)
	}
	l.view.count(want[:1], [][]byte{blocks[0].Body}, 1)
	want, upTo = l.view.uncounted()
	if len(want) != 1 || upTo != 3 {
		t.Fatalf("%d bodies wanted up to %d", len(want), upTo)
	}
	l.view.count(want, [][]byte{blocks[2].Body}, upTo)

	victims := l.view.victims()
	for _, k := range []chaintest.Key{alice, bob} {
		if n, ok := victims[k.Account]; !ok || n != gen.Account(k.Account).Nonce {
			t.Errorf("%s is thought to be at nonce %d", k.Name, n)
		}
	}
	raws, err := l.forge()
	if err != nil || len(raws) != ahead*len(victims) {
		t.Fatal(len(raws), err)
	}
	_, errs := gen.G.CheckTxs(raws, nil)
	for i, err := range errs {
		if !errors.Is(err, chain.ErrSignature) {
			t.Errorf("forged transaction %d: %v", i, err)
		}
	}
	if got, err := wire.DecodeTxBatch(wire.AppendTxBatch(nil, [8]byte{}, raws)); err != nil || len(got) != len(raws) {
		t.Errorf("batch: %v", err)
	}
}

func TestShunned(t *testing.T) {
	l := newLiar(t, chaintest.Genesis(nil))
	one := &target{}
	l.targets = map[peer.ID]*target{"x": one}
	if l.shunned() {
		t.Error("gave up before it began")
	}
	if one.tries = tryAgain; l.shunned() {
		t.Error("gave up on a node it never met too early")
	}
	if one.met = true; !l.shunned() {
		t.Error("goes on at a node that drops it")
	}
	one.met, one.tries = false, tryFirst
	if !l.shunned() {
		t.Error("goes on at a node that is not there")
	}
}

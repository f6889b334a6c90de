package ledger

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"quipu/chain"
	"quipu/chain/chaintest"
)

// scene is a generator of named blocks and a ledger that is given them.
type scene struct {
	*chaintest.Gen
	t          *testing.T
	l          *Ledger
	cfg        Config
	alice, bob chaintest.Key
	names      map[chain.BlockID]string
}

// newScene opens a ledger in memory, or in a directory if edit sets one.
func newScene(t *testing.T, edit func(*Config)) *scene {
	t.Helper()
	s := &scene{t: t, alice: chaintest.NewKey("alice"), bob: chaintest.NewKey("bob")}
	s.names = map[chain.BlockID]string{}
	g := chaintest.Genesis(func(g *chain.Genesis) { g.BodyLimit = 1 << 16 }, s.alice, s.bob)
	s.Gen = chaintest.New(g)
	s.names[s.Get("genesis").ID()] = "genesis"
	s.cfg = Config{Genesis: g, groupBlocks: 1}
	if edit != nil {
		edit(&s.cfg)
	}
	s.open()
	t.Cleanup(func() { s.l.Close() })
	return s
}

// onDisk puts the scene's ledger into a directory. Files are small and there is no watermark.
func onDisk(t *testing.T) func(*Config) {
	dir := t.TempDir()
	return func(c *Config) { c.Dir, c.FreeSpace = dir, plenty }
}

func plenty(string) (uint64, error) { return 1 << 50, nil }

func (s *scene) open() {
	s.t.Helper()
	l, err := Open(s.cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.l = l
}

func (s *scene) reopen() {
	s.t.Helper()
	if err := s.l.Close(); err != nil {
		s.t.Fatal(err)
	}
	s.open()
}

// pay is a payment of alice to bob that makes branches differ.
func (s *scene) pay(nonce, amount uint64) []chain.Tx {
	return []chain.Tx{s.alice.Pay(s.G, nonce, 0, chaintest.To(s.bob, amount))}
}

// headers stores the headers of named blocks, which must be accepted.
func (s *scene) headers(names ...string) {
	s.t.Helper()
	for _, name := range names {
		if _, err := s.l.AddHeaders([]chain.Header{s.Get(name).Header}); err != nil {
			s.t.Fatalf("header %s: %v", name, err)
		}
	}
}

// bodies gives the ledger the bodies of named blocks in one call.
func (s *scene) bodies(names ...string) Result {
	s.t.Helper()
	blocks := make([]chain.CheckedBlock, len(names))
	for i, name := range names {
		blocks[i] = s.Get(name).Checked
	}
	before := s.l.Tip()
	res, err := s.l.Add(blocks)
	if err != nil && (res.Deep == nil || !errors.Is(err, ErrDeepReorg)) {
		s.t.Fatalf("bodies %v: %v", names, err)
	}
	s.net(before, res.Change)
	return res
}

// add gives headers and bodies one by one.
func (s *scene) add(names ...string) {
	s.t.Helper()
	for _, name := range names {
		s.headers(name)
		s.bodies(name)
	}
}

// net holds a Change against the tips before and after the call.
func (s *scene) net(before chain.State, c chain.Change) {
	s.t.Helper()
	at := before.ID
	for _, u := range c.Reverted {
		if u.Block.ID() != at {
			s.t.Fatalf("change reverts %d, the tip there is another", u.Block.Header().Height)
		}
		at = u.Block.Header().Parent
	}
	for _, u := range c.Applied {
		if u.Block.Header().Parent != at {
			s.t.Fatalf("change applies %d on another block", u.Block.Header().Height)
		}
		at = u.Block.ID()
		if len(c.Reverted) > 0 && at == c.Reverted[len(c.Reverted)-1].Block.ID() {
			s.t.Fatal("change reverts and applies the same block")
		}
	}
	if at != s.l.Tip().ID {
		s.t.Fatalf("change leads to %s, the tip is %s", at, s.l.Tip().ID)
	}
}

// tip wants the named block as tip and every account as the generator has it there.
func (s *scene) tip(name string) {
	s.t.Helper()
	b := s.Get(name)
	if got := s.l.Tip(); got.ID != b.ID() {
		s.t.Fatalf("tip is %s, want %s", s.name(got.ID), name)
	}
	s.SetTip(name)
	want := s.Accounts()
	keys := []chain.Account{chaintest.NewKey("nobody").Account}
	for a := range want {
		keys = append(keys, a)
	}
	_, got, err := s.l.Accounts(keys)
	if err != nil || !maps.Equal(got, want) {
		s.t.Fatalf("accounts after %s are %v, want %v (%v)", name, got, want, err)
	}
	sum := uint64(0)
	for _, a := range got {
		sum += a.Balance
	}
	if issued, burned := s.l.Supply(); sum != s.G.Supply()+issued-burned {
		s.t.Fatalf("Σ balances %d, genesis + issued − burned %d", sum, s.G.Supply()+issued-burned)
	}
}

// Next is the generator's, and remembers the name.
func (s *scene) Next(name string, txs []chain.Tx, opts ...chaintest.Option) *chaintest.Block {
	b := s.Gen.Next(name, txs, opts...)
	s.names[b.ID()] = name
	return b
}

func (s *scene) name(id chain.BlockID) string {
	if name := s.names[id]; name != "" {
		return name
	}
	return id.String()
}

// genesis -> a1 -> a2 -> a3
func TestChain(t *testing.T) {
	s := newScene(t, onDisk(t))
	s.tip("genesis")
	s.Next("a1", s.pay(0, 10))
	s.Next("a2", nil)
	s.Next("a3", s.pay(1, 20))
	s.add("a1", "a2", "a3")
	s.tip("a3")
	for range 2 {
		a3 := s.Get("a3")
		loc, raw, ok, err := s.l.FindTx(a3.Checked.Txs()[0].ID())
		if err != nil || !ok || loc != (TxLocation{3, a3.ID(), 0}) || string(raw) != string(a3.Body) {
			t.Fatalf("FindTx: %v %v %v", loc, ok, err)
		}
		if h, id, ok, err := s.l.HeaderAt(2); err != nil || !ok || id != s.Get("a2").ID() || h != s.Get("a2").Header {
			t.Fatalf("HeaderAt(2): %v %v", ok, err)
		}
		if body, ok, err := s.l.Body(a3.ID()); err != nil || !ok || string(body) != string(a3.Body) {
			t.Fatalf("Body: %v %v", ok, err)
		}
		s.reopen()
		s.tip("a3")
	}
}

func wantErr(t *testing.T, err, is error, words ...string) {
	t.Helper()
	if !errors.Is(err, is) {
		t.Fatalf("error %v, want one that is %v", err, is)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Fatalf("error %q doesn't name %q", err, w)
		}
	}
}

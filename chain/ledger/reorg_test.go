package ledger

import (
	"fmt"
	"slices"
	"testing"

	"quipu/chain"
	"quipu/chain/chaintest"
)

// chain makes blocks prefix1 … prefixN on the named block, each with a payment of its own, and returns their names.
// The nonce is alice's at the parent.
func (s *scene) chain(on, prefix string, n int) []string {
	s.SetTip(on)
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%s%d", prefix, i+1)
		s.Next(names[i], s.pay(s.Account(s.alice.Account).Nonce, uint64(1000*int(prefix[0])+i)))
	}
	return names
}

// badNonce makes a block that keeps every stateless rule and can't be applied.
func (s *scene) badNonce(name string) *chaintest.Block { return s.Next(name, s.pay(99, 1)) }

func reasons(res Result, kinds ...chain.ErrorKind) bool {
	return slices.EqualFunc(res.Invalid, kinds, func(b InvalidBlock, k chain.ErrorKind) bool {
		r, ok := b.Err.(*chain.RuleError)
		return ok && r.Kind == k
	})
}

// genesis -> a1 -> a2
//
//	\-> b1 -> b2
func TestTieKeepsTheFirst(t *testing.T) {
	s := newScene(t, onDisk(t))
	s.chain("genesis", "a", 2)
	s.chain("genesis", "b", 2)
	s.headers("b1", "b2", "a1", "a2") // the order of headers doesn't count
	s.bodies("a1")
	s.bodies("b1")
	s.tip("a1")
	s.reopen()
	s.tip("a1")
	if s.l.BestHeader().ID != s.Get("b2").ID() {
		t.Fatal("the earlier of two heaviest headers isn't the best")
	}
	s.bodies("b2")
	s.tip("b2")
	s.bodies("a2")
	s.tip("b2")
	for range 2 {
		s.reopen()
		s.tip("b2")
	}
}

// The same tree. b2's body is complete before a2's, although b1's comes last.
func TestTieCountsTheLastBlocksBody(t *testing.T) {
	s := newScene(t, onDisk(t))
	s.chain("genesis", "a", 2)
	s.chain("genesis", "b", 2)
	s.headers("a1", "a2", "b1", "b2")
	s.bodies("b2")
	s.bodies("a1", "a2")
	s.tip("a2")
	s.reopen()
	s.bodies("b1")
	s.tip("b2")
}

// genesis -> a1 -> a2 -> a3
//
//	\-> b2 -> b3 -> b4
func TestHeavierBranchWins(t *testing.T) {
	for _, group := range []int{0, 1, 2} {
		s := newScene(t, func(c *Config) { c.groupBlocks = group })
		s.chain("genesis", "a", 3)
		s.chain("a1", "b", 3)
		s.add("a1", "a2", "a3", "b1", "b2")
		s.tip("a3")
		a3 := s.Get("a3").Checked.Txs()[0].ID()
		s.headers("b3")
		if s.l.BestHeader().ID != s.Get("b3").ID() {
			t.Fatal("BestHeader waits for the body")
		}
		res := s.bodies("b3")
		s.tip("b3")
		if len(res.Change.Reverted) != 2 || len(res.Change.Applied) != 3 {
			t.Fatalf("%d reverted and %d applied, want 2 and 3", len(res.Change.Reverted), len(res.Change.Applied))
		}
		for i, u := range res.Change.Reverted { // as if undone from the values a3 left
			before := s.SetTip([]string{"a2", "a1"}[i]).Account(s.alice.Account)
			after := s.SetTip([]string{"a3", "a2"}[i]).Account(s.alice.Account)
			j := slices.IndexFunc(u.Changes, func(c chain.AccountChange) bool { return c.Account == s.alice.Account })
			if u.Changes[j].Before != before || u.Changes[j].After != after {
				t.Fatalf("reverted %d carries %+v, want %v to %v", i, u.Changes[j], before, after)
			}
		}
		if _, _, ok, err := s.l.FindTx(a3); ok || err != nil {
			t.Fatalf("a transaction of a reverted block is still found (%v)", err)
		}
		if i := s.l.Info(s.Get("a3").ID()); !i.Body || !i.Validated || i.OnBest || i.Invalid {
			t.Fatalf("info of a reverted block: %+v", i)
		}
		s.add("a1") // known
		s.tip("b3")
	}
}

// A change that would hold more than it may comes in parts, each a walk from one whole block to another.
//
// genesis -> a1 -> … -> a9
//
//	\-> b1 -> … -> b10 -> bad
func TestALongChangeComesInParts(t *testing.T) {
	for _, size := range []int64{1, 500, 1500} {
		s := newScene(t, func(c *Config) { c.maxChange, c.UndoKeep = size, 10 })
		s.add(s.chain("genesis", "a", 9)...)
		b := s.chain("genesis", "b", 10)
		s.badNonce("bad")
		s.headers(append(b, "bad")...)
		s.bodies(append(b[1:], "bad")...)
		s.tip("a9")
		res, calls := s.bodies("b1"), 1
		for ; res.More; calls++ {
			s.tip(s.name(s.l.Tip().ID))
			res = s.bodies()
		}
		if least := 19 * 159 / (size + 159); calls < 2 || int64(calls) < least {
			t.Fatalf("%d bytes: %d parts", size, calls)
		}
		if !reasons(res, chain.ErrNonce) {
			t.Fatalf("invalid: %v", res.Invalid)
		}
		s.tip("b10")
	}
}

// A block that creates accounts and is reverted takes them away again.
//
// genesis -> a1
//
//	\-> b1 -> b2
func TestUndoRemovesCreatedAccounts(t *testing.T) {
	s := newScene(t, nil)
	carol := chaintest.NewKey("carol")
	s.Next("a1", []chain.Tx{s.alice.Pay(s.G, 0, 0, chaintest.To(carol, 5), chaintest.To(carol, 6))}, chaintest.MinedBy(chaintest.NewKey("dave")))
	s.chain("genesis", "b", 2)
	s.add("a1")
	s.tip("a1")
	n := s.l.Stats().Accounts
	s.add("b1", "b2")
	s.tip("b2")
	if _, _, _, present, _ := s.l.Prove(carol.Account); present || n != 4 {
		t.Fatalf("carol is still there; %d accounts before", n)
	}
}

// genesis -> a1 -> a2 -> a3
//
//	\-> b1 -> b2 -> bad -> b4 -> b5
func TestInvalidBranchIsAbandoned(t *testing.T) {
	s := newScene(t, onDisk(t))
	s.chain("genesis", "a", 3)
	s.chain("genesis", "b", 2)
	s.badNonce("bad")
	s.Next("b4", nil)
	s.Next("b5", nil)
	s.add("a1", "a2", "a3")
	s.headers("b1", "b2", "bad", "b4", "b5")
	s.bodies("b1", "b2", "b4", "b5")
	s.tip("a3")
	res := s.bodies("bad")
	s.tip("a3")
	if !reasons(res, chain.ErrNonce) || len(res.Change.Applied)+len(res.Change.Reverted) != 0 {
		t.Fatalf("result %+v, want one wrong nonce and no net change", res)
	}
	for range 2 {
		if s.l.BestHeader().ID != s.Get("a3").ID() {
			t.Fatal("BestHeader descends from an invalid block")
		}
		for _, name := range []string{"bad", "b4", "b5"} {
			if i := s.l.Info(s.Get(name).ID()); !i.Invalid || i.Reason == "" || i.OnBest || i.Validated {
				t.Fatalf("info of %s: %+v", name, i)
			}
		}
		if i := s.l.Info(s.Get("b2").ID()); i.Invalid {
			t.Fatalf("info of b2: %+v", i)
		}
		b5 := s.Get("b5")
		child := s.G.NewHeader(&b5.State, s.Miner, 0)
		child.Solve(1 << 20)
		n, err := s.l.AddHeaders([]chain.Header{s.Get("b1").Header, child})
		wantErr(t, err, ErrInvalidAncestor)
		if n != 1 {
			t.Fatalf("%d headers counted, want 1", n)
		}
		if w := s.l.Wanted(1 << 20); len(w) != 0 {
			t.Fatalf("%d bodies wanted of an invalid branch", len(w))
		}
		s.reopen()
		s.tip("a3")
	}
}

// genesis -> a1
//
//	\-> b1 -> b2 -> bad -> b4
func TestValidPrefixOfAnInvalidBranchStillWins(t *testing.T) {
	s := newScene(t, nil)
	s.chain("genesis", "a", 1)
	s.chain("genesis", "b", 2)
	s.Next("bad", nil, chaintest.Header(func(h *chain.Header) { h.StateRoot[0] ^= 1 }))
	s.Next("b4", nil)
	s.add("a1")
	s.headers("b1", "b2", "bad", "b4")
	s.bodies("b4", "bad", "b2")
	s.tip("a1")
	res := s.bodies("b1")
	s.tip("b2")
	if !reasons(res, chain.ErrStateRoot) {
		t.Fatalf("invalid %v, want one wrong state root", res.Invalid)
	}
	if len(res.Change.Reverted) != 1 || len(res.Change.Applied) != 2 {
		t.Fatal("the change isn't net")
	}
}

// genesis -> a1 -> a2
//
//	\-> b1 -> b2 -> b3 -> b4 -> bad
//	\-> c1 -> c2 -> c3 -> c4
//	              \-> d3 -> worse -> d5
//
// All bodies but the first of each branch are there; then those come in one call.
func TestSecondAndThirdChoice(t *testing.T) {
	for _, group := range []int{0, 1} {
		s := newScene(t, func(c *Config) { c.groupBlocks = group })
		s.chain("genesis", "a", 2)
		s.chain("genesis", "b", 4)
		s.badNonce("bad")
		s.chain("genesis", "c", 4)
		s.chain("c2", "d", 1)
		s.badNonce("worse")
		s.Next("d5", nil)
		s.add("a1", "a2")
		s.headers("b1", "b2", "b3", "b4", "bad", "c1", "c2", "c3", "c4", "d1", "worse", "d5")
		s.bodies("b2", "b3", "c2", "c3", "c4", "d5", "worse", "d1", "bad", "b4")
		s.tip("a2")
		res := s.bodies("b1", "c1")
		s.tip("c4") // as heavy as b4, whose body came later
		if !reasons(res, chain.ErrNonce, chain.ErrNonce) {
			t.Fatalf("invalid: %v", res.Invalid)
		}
		if len(res.Change.Reverted) != 2 || len(res.Change.Applied) != 4 {
			t.Fatal("the change isn't net")
		}
	}
}

func TestBodiesInAnyOrder(t *testing.T) {
	permutations([]string{"a1", "a2", "a3", "a4"}, func(order []string) {
		s := newScene(t, nil)
		s.headers(s.chain("genesis", "a", 4)...)
		for _, name := range order {
			s.bodies(name)
		}
		s.tip("a4")
		s.l.Close()
	})
}

func permutations(names []string, f func([]string)) {
	var rec func(k int)
	rec = func(k int) {
		if k == len(names) {
			f(slices.Clone(names))
		}
		for i := k; i < len(names); i++ {
			names[k], names[i] = names[i], names[k]
			rec(k + 1)
			names[k], names[i] = names[i], names[k]
		}
	}
	rec(0)
}

// Undo reaches three blocks back.
//
// genesis -> a1 -> a2 -> a3 -> a4 -> a5
//
//	\-> b2 -> b3 -> b4 -> b5 -> b6
//	      \-> c3 -> c4 -> c5 -> c6
func TestUndoDepth(t *testing.T) {
	onto := onDisk(t)
	s := newScene(t, func(c *Config) { onto(c); c.UndoKeep = 3 })
	s.chain("genesis", "a", 5)
	s.chain("a1", "b", 5)
	s.chain("a2", "c", 4)
	s.add("a1", "a2", "a3", "a4", "a5", "b1", "b2", "b3", "b4")
	s.tip("a5")
	for range 2 {
		s.headers("b5")
		res := s.bodies("b5") // the second time a body that is known
		s.tip("a5")
		if res.Deep == nil || res.Deep.ID != s.Get("b5").ID() || res.Deep.Fork != 1 || res.Deep.UndoFrom != 3 {
			t.Fatalf("deep reorg reported as %+v", res.Deep)
		}
		wantErr(t, res.Deep, ErrDeepReorg, "height 1")
		s.reopen()
		s.tip("a5")
	}
	s.headers("c1", "c2", "c3", "c4")
	if res := s.bodies("c1", "c2", "c3", "c4"); res.Deep == nil {
		t.Fatal("the heavier, too deep branch b isn't reported beside c")
	}
	s.tip("c4") // as heavy as b5 and later, and the best that can be reached
	s.chain("c4", "e", 1)
	s.headers("e1")
	if res := s.bodies("e1"); res.Deep != nil {
		t.Fatal("a lighter branch is reported")
	}
	s.tip("e1")
}

// A long invalid branch is walked further than undo is kept, and left again.
//
// genesis -> a1 -> … -> a6 (fast blocks, much work each)
//
//	\-> b1 -> … -> b13 -> bad (slow blocks)
func TestAbandonedBranchLongerThanUndo(t *testing.T) {
	s := newScene(t, func(c *Config) { c.UndoKeep = 6 })
	const fast = 6
	var as, bs []string
	for i := range fast {
		as = append(as, fmt.Sprintf("a%d", i+1))
		s.Next(as[i], nil, chaintest.At(1))
	}
	light := true
	s.SetTip("genesis")
	for i := 0; light; i++ {
		bs = append(bs, fmt.Sprintf("b%d", i+1))
		work := s.Next(bs[i], nil, chaintest.At(2000)).State.Work
		light = work.Cmp(&s.Get("a6").State.Work) <= 0
	}
	bad := s.SetTip(bs[len(bs)-2]).Next("bad", s.pay(7, 1), chaintest.At(2000)) // in place of the block that would win
	if bad.State.Work != s.Get(bs[len(bs)-1]).State.Work || len(bs) <= fast {
		t.Fatalf("the scene isn't as drawn: %d slow blocks", len(bs))
	}
	s.add(as...)
	s.tip("a6")
	s.headers(bs[:len(bs)-1]...)
	s.bodies(bs[:len(bs)-1]...)
	s.headers("bad")
	if res := s.bodies("bad"); !reasons(res, chain.ErrNonce) || res.Deep != nil {
		t.Fatalf("result %+v", res)
	}
	s.tip("a6")
}

// genesis -> a1 -> a2 -> a3
//
//	\-> b2
func TestMarkInvalid(t *testing.T) {
	s := newScene(t, onDisk(t))
	s.chain("genesis", "a", 3)
	s.chain("a1", "b", 1)
	s.add("a1", "b1")
	s.headers("a2", "a3")
	reason := &chain.RuleError{Kind: chain.ErrSignature, Desc: "for the test"}
	mark := func(name string) Result {
		before := s.l.Tip()
		res, err := s.l.MarkInvalid(s.Get(name).ID(), reason)
		if err != nil {
			t.Fatal(err)
		}
		s.net(before, res.Change)
		return res
	}
	if res := mark("a3"); !reasons(res, chain.ErrSignature) {
		t.Fatalf("result %+v", res)
	}
	if res := mark("a3"); len(res.Invalid) != 0 {
		t.Fatal("marked twice")
	}
	s.tip("b1")
	s.bodies("a2") // as heavy and later
	s.tip("b1")
	mark("b1") // on the best chain
	s.tip("a2")
	s.reopen()
	s.tip("a2")
	mark("a1")
	s.tip("genesis")
	s.reopen()
	s.tip("genesis")
	if _, err := s.l.MarkInvalid(s.Get("genesis").ID(), reason); err == nil {
		t.Fatal("block 0 was marked")
	}
	_, err := s.l.MarkInvalid(chain.BlockID{1}, reason)
	wantErr(t, err, chain.ErrUnknownParent)
}

func TestAddRefuses(t *testing.T) {
	s := newScene(t, nil)
	s.chain("genesis", "a", 2)
	_, err := s.l.Add([]chain.CheckedBlock{s.Get("a1").Checked})
	wantErr(t, err, chain.ErrUnknownParent)
	_, err = s.l.AddHeaders([]chain.Header{s.Get("a2").Header})
	wantErr(t, err, chain.ErrUnknownParent)
	s.headers("a1")
	h := s.Get("a1").Header
	wrong := chain.Seal(h, nil)
	if _, err := s.l.Add([]chain.CheckedBlock{wrong}); err == nil {
		t.Fatal("a body of another length was stored")
	}
	h.Nonce++
	h.Bits++
	n, err := s.l.AddHeaders([]chain.Header{s.Get("a1").Header, s.Get("a2").Header, h})
	wantErr(t, err, chain.ErrBits)
	if n != 2 {
		t.Fatalf("%d leading headers, want 2", n)
	}
	s.tip("genesis")
}

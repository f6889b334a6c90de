package mempool

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"testing"

	"quipu/chain"
)

// scene is a pool over a world with its own checks after each step.
type scene struct {
	*world
	pool *Pool
}

func newScene(t *testing.T, cfg Config, funds uint64, accounts ...chain.Account) *scene {
	w := newWorld(t, funds, func(g *chain.Genesis) { g.Subsidy, g.Tail = 0, 0 }, accounts...)
	return &scene{w, New(w.g, cfg)}
}

// add must admit all; it returns the results.
func (s *scene) add(txs ...chain.CheckedTx) []Result {
	s.t.Helper()
	out := s.pool.Add(s.height(), s.accs, txs)
	for i := range out {
		if out[i].Err != nil {
			s.t.Fatalf("tx %d: %v", i, out[i].Err)
		}
	}
	verify(s.t.(*testing.T), s.pool)
	return out
}

func (s *scene) refuse(want Refusal, tx chain.CheckedTx) {
	s.t.Helper()
	before := s.pool.Stats()
	if r := s.pool.Add(s.height(), s.accs, []chain.CheckedTx{tx})[0]; kind(r.Err) != want || len(r.Dropped) != 0 {
		s.t.Fatalf("got %v, want %q", r.Err, want)
	}
	if now := s.pool.Stats(); now.Txs != before.Txs || now.GappedTxs != before.GappedTxs {
		s.t.Fatalf("a refused one changed the pool: %+v", now)
	}
	verify(s.t.(*testing.T), s.pool)
}

func (s *scene) update(ch chain.Change) []chain.CheckedTx {
	s.t.Helper()
	out := s.pool.Update(ch, nil, s.height())
	verify(s.t.(*testing.T), s.pool)
	return out
}

// want compares the candidates in order.
func (s *scene) want(what string, txs ...chain.CheckedTx) {
	s.t.Helper()
	got := s.pool.Candidates(1 << 30)
	verifyCandidates(s.t.(*testing.T), s.accs, 1<<30, got)
	same(s.t, what, got, txs...)
}

func same(t testing.TB, what string, got []chain.CheckedTx, want ...chain.CheckedTx) {
	t.Helper()
	if !slices.Equal(leavesOf(got), leavesOf(want)) {
		var text string
		for i := range got {
			text += fmt.Sprintf(" (account %d nonce %d fee %d)", got[i].Tx().From[31], got[i].Tx().Nonce, got[i].Tx().Fee)
		}
		t.Fatalf("%s: got%s, want %d others", what, text, len(want))
	}
}

func (s *scene) fate(tx chain.CheckedTx, want string) {
	s.t.Helper()
	if fate, ok := s.pool.Fate(tx.ID()); fate.Reason != want || ok != (want != "") {
		s.t.Fatalf("fate %q, want %q", fate.Reason, want)
	}
}

var a, b, c, d = acct(1), acct(2), acct(3), acct(4)

func TestCandidatesFollowRatesAndNonces(t *testing.T) {
	s := newScene(t, Config{}, 100_000, a, b, c)
	a0, a1, a2 := s.pay(a, d, 0, 200, 1), s.pay(a, d, 1, 900, 1), s.pay(a, d, 2, 500, 1)
	b0, b1 := s.pay(b, d, 0, 600, 1), s.pay(b, d, 1, 300, 1)
	c0 := s.pay(c, d, 0, 300, 1)
	s.add(a0, a1, a2, b0, b1, c0)
	s.want("all", b0, b1, c0, a0, a1, a2) // b1 came before c0
	same(t, "two fit", s.pool.Candidates(2*159+158), b0, b1)
	shown := map[chain.LeafHash]bool{}
	for range 1000 { // windows of half the pool: together they show all of it
		window := s.pool.Leaves(3)
		if len(window) != 3 {
			t.Fatalf("a window of %d leaves, want 3", len(window))
		}
		for _, l := range window {
			shown[l] = true
		}
	}
	if len(shown) != 6 {
		t.Fatalf("a thousand windows showed %d of 6", len(shown))
	}
	if l := s.pool.Leaves(0); len(l) != 0 {
		t.Fatalf("leaves %v", l)
	}
	// A large one that doesn't fit takes its followers out, nobody else's.
	big := chain.Tx{From: d, Fee: 5000, Outputs: slices.Repeat([]chain.Output{{To: a, Amount: 1}}, 10)}
	s.accs[d] = chain.AccountState{Balance: 100_000}
	s.add(check(t, s.g, big), s.pay(d, a, 1, 5000, 1))
	same(t, "without the large one", s.pool.Candidates(500), b0, b1, c0)
	if n := s.pool.NextNonce(a, 0); n != 3 {
		t.Fatalf("next nonce %d", n)
	}
	if n := s.pool.NextNonce(acct(9), 7); n != 7 {
		t.Fatalf("next nonce of a stranger %d", n)
	}
}

// Leaves shows windows of at most max, each account's nonces in order, and calls repeated cover the whole pool.
func TestLeavesCoverThePool(t *testing.T) {
	s := newScene(t, Config{}, 100_000, a, b, c)
	if l := s.pool.Leaves(3); len(l) != 0 {
		t.Fatalf("an empty pool shows %d", len(l))
	}
	for _, from := range []chain.Account{a, b, c} {
		s.add(s.pay(from, d, 0, 200, 1), s.pay(from, d, 1, 200, 1), s.pay(from, d, 3, 200, 1))
	}
	if l := s.pool.Leaves(0); len(l) != 0 {
		t.Fatalf("a window of 0 shows %d", len(l))
	}
	seen := map[chain.LeafHash]bool{}
	for _, max := range append(slices.Repeat([]int{3}, 200), 100) { // 200 windows miss an account with (2/3)^200
		next := map[chain.Account]uint64{}
		l := s.pool.Leaves(max)
		if len(l) != min(max, 6) {
			t.Fatalf("a window of %d shows %d", max, len(l))
		}
		for _, leaf := range l {
			tx, _ := s.pool.Get(leaf)
			if tx.Tx().Nonce != next[tx.Tx().From] {
				t.Fatalf("nonce %d out of order", tx.Tx().Nonce)
			}
			next[tx.Tx().From]++
			seen[leaf] = seen[leaf] || max == 3
		}
	}
	for leaf, ok := range seen {
		if !ok {
			t.Fatalf("%s was in no window", leaf)
		}
	}
}

// A double spend is a replacement: the second spends the same slot, and only a better fee decides.
func TestDoubleSpendIsReplacement(t *testing.T) {
	s := newScene(t, Config{}, 10_000, a)
	pay, steal := s.pay(a, b, 0, 2000, 5000), s.pay(a, c, 0, 2199, 5000)
	s.add(pay)
	s.refuse(ErrUnderpriced, steal)                     // +9.95 %
	s.refuse(ErrUnderpriced, s.pay(a, c, 0, 2000, 100)) // cheaper to make, not dearer to send
	steal = s.pay(a, c, 0, 2200, 5000)
	if r := s.add(steal)[0]; !slices.Equal(r.Dropped, []Drop{{pay.ID(), ReasonReplaced}}) || !r.Pending {
		t.Fatalf("got %+v", r)
	}
	s.want("the replacement alone", steal)
	s.fate(pay, ReasonReplaced)
	s.refuse(ErrUnderpriced, pay)
	s.update(s.mine(pay)) // a miner elsewhere took the first
	s.want("nothing")
	s.fate(steal, ReasonRival)
}

// The +10 % is of the rate, not of the fee: a longer replacement pays for its length.
func TestReplacementRate(t *testing.T) {
	s := newScene(t, Config{}, 1_000_000, a)
	s.add(s.pay(a, b, 0, 15_900, 1)) // 100 a byte
	long := chain.Tx{From: a, Fee: 199*110 - 1, Outputs: []chain.Output{{To: b, Amount: 1}, {To: c, Amount: 1}}}
	s.refuse(ErrUnderpriced, check(t, s.g, long))
	long.Fee++
	s.add(check(t, s.g, long))
}

func TestReplacementKeepsChainAffordable(t *testing.T) {
	s := newScene(t, Config{}, 10_000, a)
	a0, a1, a2 := s.pay(a, b, 0, 200, 2000), s.pay(a, b, 1, 200, 2000), s.pay(a, b, 2, 300, 2000)
	s.add(a0, a1, a2) // 6,700 of 10,000
	s.refuse(ErrFunds, s.pay(a, b, 1, 1000, 6801))
	// It would leave a2 without funds, so it pays a2's fee too (BIP 125, rule 3): 200 + 300 + 159.
	s.refuse(ErrUnderpriced, s.pay(a, b, 1, 658, 6000))
	dear := s.pay(a, b, 1, 659, 6000)
	s.add(dear)
	s.want("a2 waits", a0, dear)
	if _, pending, ok := s.pool.ByID(a2.ID()); !ok || pending {
		t.Fatalf("a2 is in the pool %v, pending %v", ok, pending)
	}
	cheap := s.pay(a, b, 1, 900, 1000)
	if r := s.add(cheap)[0]; len(r.Promoted) != 1 || r.Promoted[0].Leaf() != a2.Leaf() {
		t.Fatalf("a2 should be back: %+v", r)
	}
	s.want("a2 is back", a0, cheap, a2)
}

// Displaced followers obey the cap of all that wait: the cheapest go.
func TestDisplacedFollowersUnderCap(t *testing.T) {
	s := newScene(t, Config{GappedTxs: 2}, 10_000, a, b)
	a0, a1, a2, a3 := s.pay(a, c, 0, 200, 1000), s.pay(a, c, 1, 500, 1000), s.pay(a, c, 2, 300, 1000), s.pay(a, c, 3, 400, 1000)
	b1 := s.pay(b, c, 1, 250, 1)
	s.add(a0, a1, a2, a3, b1)
	dear := s.pay(a, c, 0, 200+500+300+400+159, 8400)
	r := s.add(dear)[0]
	if !slices.Equal(r.Dropped, []Drop{{a0.ID(), ReasonReplaced}, {b1.ID(), ReasonEvicted}, {a2.ID(), ReasonEvicted}}) {
		t.Fatalf("got %+v", r)
	}
	s.want("a1 and a3 wait", dear)
}

// The cheapest account's tail goes first; what is dear behind something cheap counts as cheap.
func TestEviction(t *testing.T) {
	s := newScene(t, Config{MaxBytes: 6 * 159, AccountBytes: 6 * 159}, 1_000_000, a, b, c, d)
	a0, a1, a2 := s.pay(a, d, 0, 1000, 1), s.pay(a, d, 1, 400, 1), s.pay(a, d, 2, 9000, 1)
	b0, b1 := s.pay(b, d, 0, 800, 1), s.pay(b, d, 1, 750, 1)
	c0 := s.pay(c, d, 0, 600, 1)
	s.add(a0, a1, a2, b0, b1, c0)
	poor := s.pay(d, a, 0, 558, 1) // beats 400 by less than min_fee_rate a byte
	s.refuse(ErrFull, poor)
	if err := s.pool.Worth(poor.Tx(), poor.Raw(), 0, s.accs); kind(err) != ErrFull {
		t.Fatalf("Worth says %v", err)
	}
	if r := s.add(s.pay(d, a, 0, 559, 1))[0]; !slices.Equal(r.Dropped, []Drop{{a2.ID(), ReasonEvicted}}) {
		t.Fatalf("got %+v", r)
	}
	s.fate(a2, ReasonEvicted)
	// A larger one takes as many tails as it needs: 559 lies above 400, so a1 goes, then d0.
	two := chain.Tx{From: b, Nonce: 2, Fee: 2000, Outputs: []chain.Output{{To: d, Amount: 1}, {To: a, Amount: 1}}}
	s.refuse(ErrFull, check(t, s.g, chain.Tx{From: b, Nonce: 2, Fee: 800, Outputs: two.Outputs})) // 4.02 a byte, wants 3.5 + 1 for the second
	r := s.add(check(t, s.g, two))[0]
	if len(r.Dropped) != 2 || r.Dropped[0].ID != a1.ID() {
		t.Fatalf("got %+v", r)
	}
	// Behind the cheap tail of its own account a newcomer counts as cheap, whatever it pays.
	s.add(s.pay(d, a, 0, 900, 1))
	s.refuse(ErrFull, s.pay(b, d, 3, 50_000, 1))
	if st := s.pool.Stats(); st.Bytes > 6*159 || st.Dropped[ReasonEvicted] == 0 {
		t.Fatalf("stats %+v", st)
	}
}

func TestAccountCaps(t *testing.T) {
	s := newScene(t, Config{AccountTxs: 3, AccountBytes: 20_000}, 10_000_000, a, b)
	s.add(s.pay(a, c, 0, 200, 1), s.pay(a, c, 1, 200, 1), s.pay(a, c, 2, 200, 1))
	s.refuse(ErrGap, s.pay(a, c, 3, 200, 1))
	big := chain.Tx{From: b, Fee: 20_000, Outputs: slices.Repeat([]chain.Output{{To: a, Amount: 1}}, 255)}
	s.add(check(t, s.g, big))
	big.Nonce = 1
	s.refuse(ErrAccountFull, check(t, s.g, big))
	s.add(s.pay(b, c, 1, 200, 1))
	big.Outputs, big.Fee = big.Outputs[:245], 2_000_000
	s.refuse(ErrAccountFull, check(t, s.g, big)) // as a replacement
}

func TestGapped(t *testing.T) {
	cfg := Config{GappedAccountTxs: 3, GappedTxs: 4, GappedBytes: 20_000, GappedBlocks: 5, MaxBytes: 20_000}
	s := newScene(t, cfg, 100_000, a, b, c)
	a1, a2, a3, a4 := s.pay(a, d, 1, 500, 1), s.pay(a, d, 2, 500, 1), s.pay(a, d, 3, 500, 1), s.pay(a, d, 4, 500, 1)
	s.add(a2, a4, a3)
	s.want("nothing pending")
	s.refuse(ErrGap, s.pay(a, d, 5, 50_000, 1)) // the account's cap is full of what is closer
	if r := s.add(a1)[0]; !slices.Equal(r.Dropped, []Drop{{a4.ID(), ReasonEvicted}}) {
		t.Fatalf("the farthest should go: %+v", r)
	}
	// The cap of all: the cheapest of any account goes, if it is beaten.
	b2 := s.pay(b, d, 2, 300, 1)
	s.add(b2)
	s.refuse(ErrFull, s.pay(c, d, 2, 458, 1))
	if r := s.add(s.pay(c, d, 2, 459, 1))[0]; !slices.Equal(r.Dropped, []Drop{{b2.ID(), ReasonEvicted}}) {
		t.Fatalf("got %+v", r)
	}
	// The missing one brings the rest in, in order.
	a0 := s.pay(a, d, 0, 500, 1)
	r := s.add(a0)[0]
	same(t, "promoted", r.Promoted, a1, a2, a3)
	s.want("the whole chain", a0, a1, a2, a3)
	// What waits is kept for GappedBlocks.
	for range 4 {
		s.update(s.mine())
	}
	if st := s.pool.Stats(); st.GappedTxs != 1 {
		t.Fatalf("stats %+v", st)
	}
	s.update(s.mine())
	if st := s.pool.Stats(); st.GappedTxs != 0 || st.Dropped[ReasonGapOld] != 1 || st.GappedBytes != 0 {
		t.Fatalf("stats %+v", st)
	}
}

// Gapped ones never push out a pending one, and one whose turn comes in a full pool competes like any newcomer.
func TestGappedInFullPool(t *testing.T) {
	s := newScene(t, Config{MaxBytes: 2 * 159, AccountBytes: 2 * 159}, 100_000, a, b)
	b0, a0, a1, a2 := s.pay(b, d, 0, 400, 1), s.pay(a, d, 0, 400, 1), s.pay(a, d, 1, 400, 1), s.pay(a, d, 2, 400, 1)
	s.add(b0, a1, a2)
	if r := s.add(a0)[0]; len(r.Promoted) != 0 || !slices.Equal(r.Dropped, []Drop{{a1.ID(), ReasonEvicted}}) {
		t.Fatalf("got %+v", r)
	}
	s.want("b0 stays", b0, a0)
	if _, pending, ok := s.pool.ByID(a2.ID()); !ok || pending {
		t.Fatalf("a2 should still wait")
	}
}

func TestExpiry(t *testing.T) {
	s := newScene(t, Config{}, 100_000, a)
	a0, a2 := s.pay(a, b, 0, 500, 1), s.pay(a, b, 2, 500, 1)
	ends := check(t, s.g, chain.Tx{From: a, Nonce: 1, Fee: 500, ValidUntil: 4, Outputs: []chain.Output{{To: b, Amount: 1}}})
	s.add(a0, ends, a2)
	for range 3 {
		s.update(s.mine())
	}
	s.want("may stand in block 4", a0, ends, a2)
	s.update(s.mine())
	s.want("may not stand in block 5", a0)
	s.fate(ends, ReasonExpired)
	again := s.pay(a, b, 1, 200, 1)
	if r := s.add(again)[0]; len(r.Promoted) != 1 {
		t.Fatalf("its follower waits for it: %+v", r)
	}
	s.want("filled again", a0, again, a2)
}

func TestReorgRefill(t *testing.T) {
	s := newScene(t, Config{}, 100_000, a, b, c)
	a0, a1, a2 := s.pay(a, d, 0, 500, 10), s.pay(a, d, 1, 600, 10), s.pay(a, d, 2, 700, 10)
	b0, c0 := s.pay(b, d, 0, 550, 10), s.pay(c, d, 0, 450, 10)
	s.add(a0, a1, a2, b0, c0)
	s.update(s.mine(a0, b0))
	s.update(s.mine(a1, c0))
	s.want("the rest", a2)
	// The other branch mines b0 again and a rival of c0.
	rival := s.pay(c, d, 0, 159, 99)
	ch := join(s.revert(2), s.mine(b0), s.mine(rival), s.mine())
	same(t, "admitted", s.update(ch), a0, a1) // a2 was pending all along
	s.want("a's chain is whole again", a0, a1, a2)
	s.fate(c0, ReasonRival)
	s.fate(b0, "")
	if st := s.pool.Stats(); st.Refilled != 2 || st.Promoted != 2 {
		t.Fatalf("stats %+v", st)
	}
	s.update(s.mine(a0, a1, a2))
	s.want("all mined")
	if st := s.pool.Stats(); st.Accounts != 0 || st.Dropped[ReasonMined] != 7 {
		t.Fatalf("stats %+v", st)
	}
}

// What comes back competes with what is there: the best fee rates stay.
func TestReorgRefillUnderCap(t *testing.T) {
	s := newScene(t, Config{MaxBytes: 3 * 159, AccountBytes: 3 * 159}, 100_000, a, b, c, d)
	a0, b0, c0 := s.pay(a, d, 0, 900, 1), s.pay(b, d, 0, 300, 1), s.pay(c, d, 0, 700, 1)
	s.update(s.mine(a0, b0, c0))
	b1, d0 := s.pay(b, d, 1, 5000, 1), s.pay(d, a, 0, 400, 1)
	s.add(b1, d0)
	same(t, "admitted", s.update(s.revert(1)), a0, c0)
	s.want("the best three", a0, c0, d0) // b1 came to stand behind b0, and both were the cheapest
	s.fate(b0, ReasonEvicted)
	s.fate(b1, ReasonEvicted)
}

// A payment out of a payment: after a reorg the second waits until the first is mined again.
func TestReorgTakesFunds(t *testing.T) {
	s := newScene(t, Config{}, 10_000, a)
	fund, spend := s.pay(a, b, 0, 500, 5000), s.pay(b, c, 0, 500, 4000)
	s.update(s.mine(fund))
	s.update(s.mine(spend))
	same(t, "admitted", s.update(join(s.revert(2), s.mine(), s.mine(), s.mine())), fund)
	s.want("b has nothing to spend", fund)
	same(t, "admitted later", s.update(s.mine(fund)), spend)
	s.want("b has funds again", spend)
}

// Update also follows states alone, for accounts that the change doesn't name.
func TestUpdateFromStates(t *testing.T) {
	s := newScene(t, Config{}, 10_000, a, b)
	a0, a1, b0 := s.pay(a, c, 0, 200, 1000), s.pay(a, c, 1, 200, 3000), s.pay(b, c, 0, 200, 1)
	s.add(a0, a1, b0)
	s.pool.Update(chain.Change{}, chain.Accounts{a: {Balance: 2000}, b: {Balance: 10_000, Nonce: 1}}, 1)
	s.accs = chain.Accounts{a: {Balance: 2000}, b: {Balance: 10_000, Nonce: 1}}
	verify(t, s.pool)
	s.want("a1 is not covered", a0)
	s.fate(b0, ReasonStale)
	if got := s.pool.Senders(); !slices.Equal(got, []chain.Account{a}) {
		t.Fatalf("senders %v", got)
	}
}

func TestDiscard(t *testing.T) {
	s := newScene(t, Config{}, 10_000, a)
	a0, a1 := s.pay(a, c, 0, 200, 1), s.pay(a, c, 1, 200, 1)
	s.add(a0, a1)
	s.pool.Discard(a0.ID(), chain.TxID{1})
	verify(t, s.pool)
	s.want("a1 waits")
	s.fate(a0, ReasonDiscarded)
	s.add(a0) // it may be sent again, and has no fate then
	s.fate(a0, "")
	s.want("both", a0, a1)
}

func TestFatesAreBounded(t *testing.T) {
	s := newScene(t, Config{Fates: 3}, 10_000_000, a)
	var all []chain.CheckedTx
	for i := range 5 {
		all = append(all, s.pay(a, b, 0, 200<<i, 1))
		s.add(all[i])
	}
	s.fate(all[0], "")
	for i := 1; i < 4; i++ {
		s.fate(all[i], ReasonReplaced)
	}
	s.fate(all[4], "")
}

func TestDumpGivesThePoolBack(t *testing.T) {
	s := newScene(t, Config{}, 100_000, a, b)
	s.add(s.pay(a, c, 0, 200, 1), s.pay(a, c, 1, 900, 1), s.pay(a, c, 4, 200, 1), s.pay(b, c, 0, 400, 1), s.pay(b, c, 3, 300, 1), s.pay(b, c, 2, 300, 1))
	var txs []chain.CheckedTx
	for _, raw := range s.pool.Dump() {
		tx, _, err := chain.DecodeTx(raw)
		if err != nil {
			t.Fatal(err)
		}
		txs = append(txs, check(t, s.g, tx))
	}
	again := New(s.g, Config{})
	for i, r := range again.Add(0, s.accs, txs) {
		if r.Err != nil {
			t.Fatalf("tx %d: %v", i, r.Err)
		}
	}
	verify(t, again)
	same(t, "candidates", again.Candidates(1<<20), s.pool.Candidates(1<<20)...)
	if x, y := again.Stats(), s.pool.Stats(); x.GappedTxs != y.GappedTxs || x.Bytes != y.Bytes {
		t.Fatalf("%+v, want %+v", x, y)
	}
}

// The pool keeps no slice of what it is given: a batch or a block body would stay in memory with it.
func TestPoolOwnsItsBytes(t *testing.T) {
	s := newScene(t, Config{}, 100_000, a)
	raw := (&chain.Tx{From: a, Fee: 500, Outputs: []chain.Output{{To: b, Amount: 1}}, Memo: []byte("memo")}).Append(nil)
	want := bytes.Clone(raw)
	txs, _ := s.g.CheckTxs([][]byte{raw}, func(chain.LeafHash) bool { return true })
	leaf := txs[0].Leaf()
	s.add(txs[0])
	clear(raw)
	got, ok := s.pool.Get(leaf)
	if !ok || !s.pool.Has(leaf) || !bytes.Equal(got.Raw(), want) || string(got.Tx().Memo) != "memo" {
		t.Fatalf("the pool's copy changed with the caller's")
	}
}

// Callers from many goroutines meet in the one mutex; the race detector watches.
func TestManyCallers(t *testing.T) {
	s := newScene(t, Config{MaxBytes: 20_000}, 10_000_000, a, b, c)
	var txs []chain.CheckedTx
	for i := range 60 {
		txs = append(txs, s.pay([]chain.Account{a, b, c}[i%3], d, uint64(i/3), uint64(159+i*7%100), 1))
	}
	var wg sync.WaitGroup
	for k := range 4 {
		wg.Go(func() {
			for i := range txs {
				tx := txs[(i*(2*k+1))%len(txs)]
				s.pool.Add(0, s.accs, []chain.CheckedTx{tx})
				s.pool.Candidates(1000)
				s.pool.Has(tx.Leaf())
				s.pool.Stats()
			}
		})
	}
	wg.Wait()
	verify(t, s.pool)
	if st := s.pool.Stats(); st.Txs != 60 {
		t.Fatalf("stats %+v", st)
	}
}

package mempool

import (
	"maps"
	"testing"

	"quipu/chain"
	"quipu/chain/chaintest"
)

// world is a best chain in memory: enough of a ledger to feed a pool.
type world struct {
	t      testing.TB
	g      *chain.Genesis
	accs   chain.Accounts
	blocks []chain.Update
}

// newWorld funds each account with so many knots.
func newWorld(t testing.TB, funds uint64, edit func(*chain.Genesis), accounts ...chain.Account) *world {
	w := &world{t: t, accs: chain.Accounts{}}
	w.g = chaintest.Genesis(func(g *chain.Genesis) {
		for _, a := range accounts {
			g.Balances = append(g.Balances, chain.GenesisBalance{Account: a, Balance: funds})
		}
		if edit != nil {
			edit(g)
		}
	})
	for _, b := range w.g.Balances {
		w.accs[b.Account] = chain.AccountState{Balance: b.Balance}
	}
	return w
}

func (w *world) height() uint64 { return uint64(len(w.blocks)) }

// check makes a checked transaction without paying for a signature: its leaf counts as verified.
func check(t testing.TB, g *chain.Genesis, tx chain.Tx) chain.CheckedTx {
	t.Helper()
	txs, errs := g.CheckTxs([][]byte{tx.Append(nil)}, func(chain.LeafHash) bool { return true })
	if errs[0] != nil {
		t.Fatal(errs[0])
	}
	return txs[0]
}

// pay is a transaction of 159 bytes, so that fees order as rates do.
func (w *world) pay(from, to chain.Account, nonce, fee, amount uint64) chain.CheckedTx {
	w.t.Helper()
	return check(w.t, w.g, chain.Tx{From: from, Nonce: nonce, Fee: fee, Outputs: []chain.Output{{To: to, Amount: amount}}})
}

// mine puts a block of these on the tip; they must apply.
func (w *world) mine(txs ...chain.CheckedTx) chain.Change {
	w.t.Helper()
	b := chain.Seal(chain.Header{Height: w.height() + 1, Miner: acct(255)}, txs)
	u, err := w.g.Apply(&b, w.accs)
	if err != nil {
		w.t.Fatal(err)
	}
	w.accs = maps.Clone(w.accs)
	for _, c := range u.Changes {
		w.accs[c.Account] = c.After
	}
	w.blocks = append(w.blocks, u)
	return chain.Change{Applied: []chain.Update{u}}
}

// revert takes n blocks off.
func (w *world) revert(n int) chain.Change {
	var ch chain.Change
	w.accs = maps.Clone(w.accs)
	for range n {
		u := w.blocks[len(w.blocks)-1]
		w.blocks = w.blocks[:len(w.blocks)-1]
		for _, c := range u.Changes {
			if c.Existed {
				w.accs[c.Account] = c.Before
			} else {
				delete(w.accs, c.Account)
			}
		}
		ch.Reverted = append(ch.Reverted, u)
	}
	return ch
}

func join(changes ...chain.Change) (out chain.Change) {
	for _, c := range changes {
		out.Reverted = append(out.Reverted, c.Reverted...)
		out.Applied = append(out.Applied, c.Applied...)
	}
	return out
}

func acct(i byte) chain.Account { return chain.Account{31: i + 1} }

func leavesOf(txs []chain.CheckedTx) (out []chain.LeafHash) {
	for i := range txs {
		out = append(out, txs[i].Leaf())
	}
	return out
}

// verify holds the pool to its invariants.
func verify(t interface{ Fatalf(string, ...any) }, p *Pool) {
	txs, size, gapped, gapSize, ending := 0, 0, 0, 0, 0
	each := func(e *entry, pending bool) {
		if e.pending != pending || e.late || e.fate != "" {
			t.Fatalf("%s: pending %v, late %v, fate %q", e.tx.ID(), e.pending, e.late, e.fate)
		}
		if p.byID[e.tx.ID()] != e || p.byLeaf[e.tx.Leaf()] != e || p.accounts[e.tx.Tx().From] != e.of {
			t.Fatalf("%s is not in the tables", e.tx.ID())
		}
		if e.last <= p.height || e.last > e.validUntil() || pending && e.last != e.validUntil() {
			t.Fatalf("%s ends at %d, valid until %d, height %d", e.tx.ID(), e.last, e.validUntil(), p.height)
		}
		if p.expiry.holds(e) != (e.last != noLast) || p.gaps.holds(e) == pending {
			t.Fatalf("%s: wrong heaps %v", e.tx.ID(), e.place)
		}
		if e.last != noLast {
			ending++
		}
	}
	for key, a := range p.accounts {
		if a.key != key || a.dirty || a.refill != nil || len(a.pending)+len(a.gapped) == 0 {
			t.Fatalf("account %s is left over", key)
		}
		spent, own, floor := uint64(0), 0, (*entry)(nil)
		for i, e := range a.pending {
			each(e, true)
			if e.nonce != a.state.Nonce+uint64(i) {
				t.Fatalf("nonce %d at place %d of a chain from %d", e.nonce, i, a.state.Nonce)
			}
			if floor == nil || e.cheaper(floor) {
				floor = e
			}
			if lower(floor.fee, floor.size, e.floor.fee, e.floor.size) || lower(e.floor.fee, e.floor.size, floor.fee, floor.size) {
				t.Fatalf("floor of %s is %d/%d, want %d/%d", e.tx.ID(), e.floor.fee, e.floor.size, floor.fee, floor.size)
			}
			spent += e.cost
			own += e.size
			if p.heads.holds(e) != (i == 0) || p.tails.holds(e) != (i == len(a.pending)-1) {
				t.Fatalf("heads or tails hold the wrong end")
			}
		}
		if spent != a.spent || spent > a.state.Balance {
			t.Fatalf("pending of %s spend %d, noted %d, balance %d", key, spent, a.spent, a.state.Balance)
		}
		if own != a.bytes || own > p.cfg.AccountBytes || len(a.pending) > p.cfg.AccountTxs {
			t.Fatalf("%d pending in %d bytes, noted %d", len(a.pending), own, a.bytes)
		}
		txs, size = txs+len(a.pending), size+own
		own = 0
		for i, e := range a.gapped {
			each(e, false)
			if i > 0 && a.gapped[i-1].nonce >= e.nonce || e.nonce < a.next() {
				t.Fatalf("gapped nonce %d out of order", e.nonce)
			}
			own += e.size
		}
		if len(a.gapped) > 0 && p.continues(a, a.gapped[0]) {
			t.Fatalf("gapped %d should be pending", a.gapped[0].nonce)
		}
		if own != a.gapSize || own > p.cfg.GappedAccountBytes || len(a.gapped) > p.cfg.GappedAccountTxs {
			t.Fatalf("%d gapped in %d bytes, noted %d", len(a.gapped), own, a.gapSize)
		}
		gapped, gapSize = gapped+len(a.gapped), gapSize+own
	}
	if txs != p.txs || size != p.bytes || size > p.cfg.MaxBytes {
		t.Fatalf("%d pending in %d bytes, noted %d in %d", txs, size, p.txs, p.bytes)
	}
	if gapped != len(p.gaps.items) || gapSize != p.gapBytes || gapped > p.cfg.GappedTxs || gapSize > p.cfg.GappedBytes {
		t.Fatalf("%d gapped in %d bytes, noted %d in %d", gapped, gapSize, len(p.gaps.items), p.gapBytes)
	}
	if n := txs + gapped; len(p.byID) != n || len(p.byLeaf) != n || len(p.expiry.items) != ending {
		t.Fatalf("tables hold %d and %d of %d, %d end", len(p.byID), len(p.byLeaf), n, len(p.expiry.items))
	}
	for _, o := range []*order{&p.heads, &p.tails, &p.gaps, &p.expiry} {
		for i, e := range o.items {
			if int(e.place[o.slot]) != i+1 || i > 0 && o.before(e, o.items[(i-1)/2]) {
				t.Fatalf("heap %d is out of order at %d", o.slot, i)
			}
		}
	}
	if len(p.fates.of) > len(p.fates.ring) {
		t.Fatalf("%d fates", len(p.fates.of))
	}
}

// verifyCandidates holds a selection to its promise: it fits, and applies in order on the tip but for account prices.
func verifyCandidates(t interface{ Fatalf(string, ...any) }, accs chain.Accounts, maxBytes int, txs []chain.CheckedTx) {
	size, now := 0, maps.Clone(accs)
	for i := range txs {
		tx := txs[i].Tx()
		s := now[tx.From]
		cost, ok := tx.Spent(s.Balance)
		if tx.Nonce != s.Nonce || !ok {
			t.Fatalf("candidate %d has nonce %d, account at %d with %d knots", i, tx.Nonce, s.Nonce, s.Balance)
		}
		now[tx.From] = chain.AccountState{Balance: s.Balance - cost, Nonce: s.Nonce + 1}
		size += len(txs[i].Raw())
	}
	if size > maxBytes {
		t.Fatalf("candidates of %d bytes, at most %d", size, maxBytes)
	}
}

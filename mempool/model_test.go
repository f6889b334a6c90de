package mempool

import (
	"encoding/binary"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"quipu/chain"
)

var smallCaps = Config{
	MaxBytes: 2400, AccountTxs: 6, AccountBytes: 1000,
	GappedTxs: 5, GappedBytes: 1000, GappedAccountTxs: 3, GappedAccountBytes: 600, GappedBlocks: 4, Fates: 8,
}

// model drives a pool and its naive twin through the same random life.
type model struct {
	*world
	rt    *rapid.T
	pool  *Pool
	twin  *naive
	made  []chain.CheckedTx
	stamp uint64
}

const modelAccounts = 5

// TestModel compares the pool with its naive twin after every random addition, block and reorg: the same answers, the
// same pending chains, the same gapped, the same candidates, and the invariants hold.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var accounts []chain.Account
		for i := range modelAccounts {
			accounts = append(accounts, acct(byte(i)))
		}
		price := rapid.SampledFrom([]uint64{0, 40}).Draw(rt, "price")
		rate := rapid.SampledFrom([]uint32{1, 0, 2}).Draw(rt, "rate")
		w := newWorld(t, 6000, func(g *chain.Genesis) {
			g.AccountPrice, g.MinFeeRate, g.Subsidy, g.Tail = price, rate, 0, 0
		}, accounts...)
		caps := smallCaps
		caps.MaxBytes = rapid.SampledFrom([]int{2400, 900, 1300}).Draw(rt, "pool cap")
		caps.GappedTxs = rapid.SampledFrom([]int{5, 1, 3}).Draw(rt, "gapped cap")
		m := &model{world: w, rt: rt, pool: New(w.g, caps), twin: &naive{g: w.g, cfg: caps}}
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			switch rapid.IntRange(0, 11).Draw(rt, "step") {
			case 0:
				m.update(m.block())
			case 1:
				m.reorg()
			case 2:
				m.discard()
			default:
				m.add()
			}
			m.compare()
		}
	})
}

// draw is a random transaction near its sender's nonce, or one made before.
func (m *model) draw() chain.CheckedTx {
	rt := m.rt
	if len(m.made) > 0 && rapid.IntRange(0, 7).Draw(rt, "again") == 0 {
		c := rapid.SampledFrom(m.made).Draw(rt, "old")
		if rapid.Bool().Draw(rt, "resigned") {
			tx := *c.Tx()
			tx.Signature[0]++
			return check(m.t, m.g, tx)
		}
		return c
	}
	from := acct(byte(rapid.IntRange(0, modelAccounts-1).Draw(rt, "from")))
	tx := chain.Tx{From: from, Nonce: m.accs[from].Nonce + uint64(rapid.IntRange(0, 7).Draw(rt, "nonce"))}
	if tx.Nonce > 0 && rapid.IntRange(0, 9).Draw(rt, "stale") == 0 {
		tx.Nonce = m.accs[from].Nonce - 1
		if m.accs[from].Nonce == 0 {
			tx.Nonce = 0
		}
	}
	if rapid.Bool().Draw(rt, "next") {
		tx.Nonce = m.pool.NextNonce(from, m.accs[from].Nonce)
	}
	for range rapid.IntRange(1, 3).Draw(rt, "outputs") {
		to := acct(byte(rapid.IntRange(0, modelAccounts+4).Draw(rt, "to")))
		tx.Outputs = append(tx.Outputs, chain.Output{To: to, Amount: uint64(rapid.SampledFrom([]int{1, 300, 700, 2500}).Draw(rt, "amount"))})
	}
	if rapid.IntRange(0, 4).Draw(rt, "ends") == 0 {
		tx.ValidUntil = uint32(m.height()) + uint32(rapid.IntRange(2, 8).Draw(rt, "until"))
	}
	m.stamp++
	tx.Memo = binary.LittleEndian.AppendUint64(nil, m.stamp)
	tx.Memo = append(tx.Memo, make([]byte, rapid.SampledFrom([]int{0, 0, 72}).Draw(rt, "memo"))...)
	tx.Fee = m.g.MinFee(tx.Size()) + uint64(rapid.SampledFrom([]int{0, 40, 100, 200, 300, 400, 800}).Draw(rt, "tip"))
	c := check(m.t, m.g, tx)
	m.made = append(m.made, c)
	return c
}

func (m *model) add() {
	var txs []chain.CheckedTx
	for range rapid.IntRange(1, 4).Draw(m.rt, "batch") {
		txs = append(txs, m.draw())
	}
	worth := m.pool.Worth(txs[0].Tx(), txs[0].Raw(), m.height(), m.accs)
	results := m.pool.Add(m.height(), m.accs, txs)
	if worth != nil && results[0].Err == nil {
		m.rt.Fatalf("Worth refused what Add took: %v", worth)
	}
	for i, c := range txs {
		before := m.twin.leaves(true)
		gapped := m.twin.leaves(false)
		pending, err := m.twin.add(m.height(), m.accs, c)
		r := results[i]
		if kind(err) != kind(r.Err) || pending != r.Pending {
			m.rt.Fatalf("tx %d: pool says %v, pending %v; twin says %v, pending %v", i, r.Err, r.Pending, err, pending)
		}
		now := m.twin.leaves(true)
		var promoted []chain.LeafHash
		for _, l := range gapped {
			if slices.Contains(now, l) {
				promoted = append(promoted, l)
			}
		}
		if !slices.Equal(promoted, sorted(leavesOf(r.Promoted))) {
			m.rt.Fatalf("tx %d: pool promoted %d, twin %d", i, len(r.Promoted), len(promoted))
		}
		if dropped := len(before) + len(gapped) + 1 - len(now) - len(m.twin.leaves(false)); err == nil && dropped != len(r.Dropped) {
			m.rt.Fatalf("tx %d: pool dropped %d, twin %d", i, len(r.Dropped), dropped)
		}
	}
}

// block makes a block of some candidates and some others that apply.
func (m *model) block(others ...chain.CheckedTx) chain.Change {
	txs := m.pool.Candidates(rapid.SampledFrom([]int{0, 500, 1500}).Draw(m.rt, "block"))
	o := m.g.NewOverlay(m.height()+1, m.accs)
	var fit []chain.CheckedTx
	for range rapid.IntRange(0, 2).Draw(m.rt, "rivals") {
		others = append(others, m.draw())
	}
	for _, c := range append(others, txs...) {
		if v := uint64(c.Tx().ValidUntil); v != 0 && v < m.height()+1 {
			continue
		}
		if o.ApplyTx(&c) == nil {
			fit = append(fit, c)
		}
	}
	return m.mine(fit...)
}

func (m *model) reorg() {
	n := rapid.IntRange(0, min(3, len(m.blocks))).Draw(m.rt, "depth")
	ch := m.revert(n)
	var old []chain.CheckedTx
	for _, u := range slices.Backward(ch.Reverted) {
		old = append(old, u.Block.Txs()...)
	}
	if rapid.Bool().Draw(m.rt, "none again") {
		old = nil
	}
	for range rapid.IntRange(0, n+1).Draw(m.rt, "length") {
		ch = join(ch, m.block(old...))
		old = nil
	}
	m.update(ch)
}

func (m *model) update(ch chain.Change) {
	was := m.twin.leaves(true)
	accs := m.accs
	if rapid.Bool().Draw(m.rt, "change alone") { // it names every state that changed
		accs = nil
	}
	admitted := m.pool.Update(ch, accs, m.height())
	m.twin.update(ch, m.accs, m.height())
	var fresh []chain.LeafHash
	for _, l := range m.twin.leaves(true) {
		if !slices.Contains(was, l) {
			fresh = append(fresh, l)
		}
	}
	if !slices.Equal(fresh, sorted(leavesOf(admitted))) {
		m.rt.Fatalf("pool admitted %d, twin %d", len(admitted), len(fresh))
	}
}

func (m *model) discard() {
	if len(m.made) == 0 {
		return
	}
	c := rapid.SampledFrom(m.made).Draw(m.rt, "discard")
	id := c.ID()
	_, _, held := m.pool.ByID(id)
	m.pool.Discard(id)
	m.twin.rebuild(m.accs, &id)
	if fate, ok := m.pool.Fate(id); held && (!ok || fate.Reason != ReasonDiscarded) {
		m.rt.Fatalf("discarded one has fate %q", fate.Reason)
	}
}

func (m *model) compare() {
	verify(m.rt, m.pool)
	for _, max := range []int{1 << 20, 900, rapid.IntRange(0, 2400).Draw(m.rt, "max")} {
		got := m.pool.Candidates(max)
		verifyCandidates(m.rt, m.accs, max, got)
		if !slices.Equal(leavesOf(got), m.twin.candidates(max)) {
			m.rt.Fatalf("candidates of %d bytes differ from the twin's", max)
		}
	}
	if got := sorted(m.pool.Leaves(1 << 20)); !slices.Equal(got, m.twin.leaves(true)) {
		m.rt.Fatalf("%d pending, twin has %d", len(got), len(m.twin.leaves(true)))
	}
	var gapped []chain.LeafHash
	for _, e := range m.pool.gaps.items {
		gapped = append(gapped, e.tx.Leaf())
	}
	if !slices.Equal(sorted(gapped), m.twin.leaves(false)) {
		m.rt.Fatalf("%d gapped, twin has %d", len(gapped), len(m.twin.leaves(false)))
	}
}

func (n *naive) leaves(pending bool) (out []chain.LeafHash) {
	for _, x := range n.list {
		if x.pending == pending {
			out = append(out, x.tx.Leaf())
		}
	}
	return sorted(out)
}

func sorted(l []chain.LeafHash) []chain.LeafHash {
	slices.SortFunc(l, func(a, b chain.LeafHash) int { return slices.Compare(a[:], b[:]) })
	return l
}

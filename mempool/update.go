package mempool

import (
	"slices"

	"quipu/chain"
)

// Update follows one change of the best chain; height is the new tip's. It removes what was mined, takes back
// what was reverted and not mined again, drops what became stale or expired, moves what the balances no longer cover to the
// gapped, and promotes. Everything that would be pending then competes for the pool's caps: the lowest effective
// rates go. admitted are those that became pending, in nonce order for each account: they count as newly admitted.
//
// Account states come from the change itself. accs, which may be nil, adds states after the change of accounts that
// the change doesn't name.
func (p *Pool) Update(ch chain.Change, accs chain.Accounts, height uint64) (admitted []chain.CheckedTx) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.height = height
	u := update{p: p, height: height}
	u.takeBack(ch.Reverted)
	u.findMined(ch.Applied)
	u.newStates(&ch, accs)
	u.sortOutReverted(ch.Applied)
	u.findLate()
	for _, a := range u.dirty {
		u.rebuild(a)
	}
	for p.bytes > p.cfg.MaxBytes {
		p.gone(p.pop(p.tails.first().of), ReasonEvicted)
	}
	p.trimGaps(&u.result)
	for _, a := range u.dirty {
		a.dirty = false
		p.prune(a)
	}
	return u.admitted()
}

// Clear forgets every transaction, for a chain that goes back to this height by another way than Update. Nothing is
// remembered of them: they are offered again.
func (p *Pool) Clear(height uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	empty := New(p.g, p.cfg)
	p.height, p.accounts, p.byLeaf, p.byID = height, empty.accounts, empty.byLeaf, empty.byID
	p.heads, p.tails, p.gaps, p.expiry = empty.heads, empty.tails, empty.gaps, empty.expiry
	p.txs, p.bytes, p.gapBytes = 0, 0, 0
}

type update struct {
	p        *Pool
	height   uint64
	dirty    []*account // in the order found, so that the same change gives the same pool
	reverted []*entry   // oldest first
	fresh    []*entry   // became pending
	result   Result     // its Dropped is not read
}

func (u *update) touch(a *account) {
	if !a.dirty {
		a.dirty = true
		u.dirty = append(u.dirty, a)
	}
}

// takeBack makes entries of reverted transactions and tracks their senders.
func (u *update) takeBack(reverted []chain.Update) {
	p := u.p
	for i := len(reverted) - 1; i >= 0; i-- {
		if reverted[i].Block == nil {
			continue
		}
		txs := reverted[i].Block.Txs()
		for j := range txs {
			c := &txs[j]
			if p.byID[c.ID()] != nil {
				continue
			}
			from := c.Tx().From
			a := p.accounts[from]
			if a == nil {
				a = &account{key: from}
				p.accounts[from] = a
			}
			u.touch(a)
			e := newEntry(c, a)
			p.seq++
			e.seq = p.seq
			u.reverted = append(u.reverted, e)
		}
	}
}

// findMined marks pooled transactions whose slot (from, nonce) a block has filled.
func (u *update) findMined(applied []chain.Update) {
	if len(u.p.accounts) == 0 {
		return
	}
	for i := range applied {
		if applied[i].Block == nil {
			continue
		}
		txs := applied[i].Block.Txs()
		for j := range txs {
			t := txs[j].Tx()
			a := u.p.accounts[t.From]
			if a == nil {
				continue
			}
			if e := a.at(t.Nonce); e != nil {
				u.touch(a)
				e.fate = ReasonRival
				if e.tx.ID() == txs[j].ID() {
					e.fate = ReasonMined
				}
			}
		}
	}
}

// newStates moves every tracked account to its state after the change.
func (u *update) newStates(ch *chain.Change, accs chain.Accounts) {
	p := u.p
	if len(p.accounts) == 0 {
		return
	}
	named := map[chain.Account]struct{}{}
	set := func(c *chain.AccountChange, s chain.AccountState) {
		if a := p.accounts[c.Account]; a != nil {
			a.state = s
			named[c.Account] = struct{}{}
			u.touch(a)
		}
	}
	for i := range ch.Reverted {
		for j := range ch.Reverted[i].Changes {
			c := &ch.Reverted[i].Changes[j]
			set(c, c.Before) // zero where the block created it
		}
	}
	for i := range ch.Applied {
		for j := range ch.Applied[i].Changes {
			c := &ch.Applied[i].Changes[j]
			set(c, c.After)
		}
	}
	for key, s := range accs {
		a := p.accounts[key]
		if _, ok := named[key]; !ok && a != nil && a.state != s {
			a.state = s
			u.touch(a)
		}
	}
}

// sortOutReverted hands reverted transactions whose slot is open to their accounts. The others were mined again, or
// a rival was, which their owner may ask about.
func (u *update) sortOutReverted(applied []chain.Update) {
	filled := map[chain.TxID]*entry{}
	for _, e := range u.reverted {
		if e.nonce < e.of.state.Nonce {
			filled[e.tx.ID()] = e
			continue
		}
		e.of.refill = append(e.of.refill, e)
	}
	if len(filled) == 0 {
		return
	}
	for i := range applied {
		if applied[i].Block != nil {
			txs := applied[i].Block.Txs()
			for j := range txs {
				delete(filled, txs[j].ID())
			}
		}
	}
	for _, e := range filled {
		u.p.fates.remember(&e.tx, ReasonRival)
	}
}

// findLate marks those whose last height has passed: they can't stand in the next block.
func (u *update) findLate() {
	for e := u.p.expiry.first(); e != nil && e.last <= u.height; e = u.p.expiry.first() {
		u.p.expiry.remove(e)
		e.late = true
		u.touch(e.of)
	}
}

// rebuild makes an account's chain anew from all it has: the longest run of nonces from the tip's on that the balance
// covers and the account's caps allow. The rest is gapped. The pool's own caps are left to the caller.
func (u *update) rebuild(a *account) {
	if u.shorten(a) {
		return
	}
	p := u.p
	all := slices.Concat(a.pending, a.gapped, a.refill)
	for _, e := range all {
		e.was = e.pending
	}
	for len(a.pending) > 0 {
		p.pop(a)
	}
	for len(a.gapped) > 0 {
		p.release(a.gapped[len(a.gapped)-1])
	}
	refilled := a.refill
	a.refill = nil
	slices.SortFunc(all, func(x, y *entry) int {
		switch {
		case x.nonce != y.nonce && x.nonce < y.nonce, x.nonce == y.nonce && better(x, y):
			return -1
		case x == y:
			return 0
		}
		return 1
	})
	var rest []*entry
	for i, e := range all {
		reason := ""
		switch {
		case e.nonce < a.state.Nonce && e.fate != "":
			reason = e.fate
		case e.nonce < a.state.Nonce:
			reason = ReasonStale
		case e.fate == ReasonDiscarded:
			reason = ReasonDiscarded
		case e.validUntil() <= u.height:
			reason = ReasonExpired
		case e.late:
			reason = ReasonGapOld
		case i > 0 && e.nonce == all[i-1].nonce:
			reason = ReasonReplaced // can't be: reverted nonces lie below pooled ones
		case !p.continues(a, e):
			rest = append(rest, e)
			continue
		}
		e.fate, e.late = "", false
		if reason != "" {
			p.gone(e, reason)
			continue
		}
		p.push(a, e)
		if !e.was {
			u.fresh = append(u.fresh, e)
		}
	}
	for _, e := range rest {
		e.fate, e.late = "", false
	}
	p.park(&u.result, a, rest, u.height)
	p.count.refilled += u.enter(refilled)
}

// shorten is rebuild for the usual case: the first of an account's chain were mined and all the others stay. It changes
// nothing and returns false in any other.
func (u *update) shorten(a *account) bool {
	p := u.p
	if len(a.refill) > 0 || len(a.gapped) > 0 {
		return false
	}
	k, left := 0, a.state.Balance
	for i, e := range a.pending {
		switch {
		case e.nonce < a.state.Nonce && e.fate == ReasonMined:
			k = i + 1
		case e.nonce < a.state.Nonce || e.fate != "" || e.late || e.validUntil() <= u.height || e.cost > left:
			return false
		default:
			left -= e.cost
		}
	}
	if k < len(a.pending) && a.pending[k].nonce != a.state.Nonce {
		return false
	}
	mined := slices.Clone(a.pending[:k])
	a.pending = slices.Delete(a.pending, 0, k)
	for _, e := range mined {
		a.spent -= e.cost
		a.bytes -= e.size
		p.bytes -= e.size
		p.txs--
		e.pending, e.floor = false, nil
	}
	for i, e := range a.pending {
		e.floor = a.floorAt(i, e)
	}
	p.settle(a)
	for _, e := range mined {
		e.fate = ""
		p.gone(e, ReasonMined)
	}
	return true
}

// enter puts refilled entries that found a place into the tables.
func (u *update) enter(refilled []*entry) (n uint64) {
	for _, e := range refilled {
		if e.pending || u.p.gaps.holds(e) {
			u.p.enter(e)
			n++
		}
	}
	return n
}

// admitted are the fresh ones that kept their place. Their bytes are copied only now: a block's body may be large.
func (u *update) admitted() (out []chain.CheckedTx) {
	for _, e := range u.reverted {
		if u.p.byID[e.tx.ID()] == e {
			e.tx = e.tx.Clone()
		}
	}
	for _, e := range u.fresh {
		if e.pending {
			out = append(out, e.tx)
		}
	}
	u.p.count.promoted += uint64(len(out))
	return out
}

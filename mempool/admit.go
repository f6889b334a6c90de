package mempool

import (
	"fmt"
	"slices"
)

// extend puts e at the end of its account's chain. old is a gapped one with the same nonce, which was short of funds.
func (p *Pool) extend(r *Result, a *account, e, old *entry) error {
	if e.cost > a.state.Balance-a.spent {
		return fmt.Errorf("%w: it spends %d, pending leaves %d", ErrFunds, e.cost, a.state.Balance-a.spent)
	}
	if a.bytes+e.size > p.cfg.AccountBytes {
		return fmt.Errorf("%w: %d bytes pending, at most %d", ErrAccountFull, a.bytes, p.cfg.AccountBytes)
	}
	if old != nil {
		if err := p.outbids(e.fee, e.size, old, 0); err != nil {
			return err
		}
	}
	victims, err := p.room(e.size, a.floorAt(len(a.pending), e), nil)
	if err != nil {
		return err
	}
	if old != nil {
		p.release(old)
	}
	p.push(a, e) // before old goes, lest the account is pruned with it
	p.evict(r, victims)
	if old != nil {
		r.Dropped = append(r.Dropped, p.gone(old, ReasonReplaced))
	}
	r.Pending = true
	p.promote(r, a)
	return nil
}

// replace puts e in the place of old, which is pending. Followers that the balance no longer covers leave the chain
// and wait among the gapped.
func (p *Pool) replace(r *Result, a *account, e, old *entry, height uint64) error {
	at := int(e.nonce - a.state.Nonce)
	keep, spent, size, fees := len(a.pending), a.spent-old.cost+e.cost, a.bytes-old.size+e.size, uint64(0)
	for ; spent > a.state.Balance && keep > at+1; keep-- {
		f := a.pending[keep-1]
		spent, size, fees = spent-f.cost, size-f.size, fees+f.fee
	}
	if spent > a.state.Balance {
		return fmt.Errorf("%w: it spends %d, pending before it leaves %d", ErrFunds, e.cost, a.state.Balance-(spent-e.cost))
	}
	if err := p.outbids(e.fee, e.size, old, fees); err != nil {
		return err
	}
	if size > p.cfg.AccountBytes {
		return fmt.Errorf("%w: %d bytes pending, at most %d", ErrAccountFull, a.bytes, p.cfg.AccountBytes)
	}
	victims, err := p.room(size-a.bytes, a.floorAt(at, e), a)
	if err != nil {
		return err
	}
	var behind []*entry
	for len(a.pending) > at {
		behind = append(behind, p.pop(a))
	}
	slices.Reverse(behind)
	p.push(a, e)
	for _, f := range behind[1 : keep-at] {
		p.push(a, f)
	}
	p.evict(r, victims)
	r.Dropped = append(r.Dropped, p.gone(old, ReasonReplaced))
	p.park(r, a, behind[keep-at:], height)
	p.trimGaps(r)
	r.Pending = true
	p.promote(r, a)
	return nil
}

// wait puts e among the gapped: a nonce before it is missing.
func (p *Pool) wait(r *Result, a *account, e, old *entry, height uint64) error {
	if e.cost > a.state.Balance-a.spent {
		return fmt.Errorf("%w: it spends %d, pending leaves %d", ErrFunds, e.cost, a.state.Balance-a.spent)
	}
	var victims []*entry
	txs, own, all, size := len(a.gapped)+1, a.gapSize+e.size, len(p.gaps.items)+1, p.gapBytes+e.size
	take := func(v *entry) {
		victims = append(victims, v)
		txs, own, all, size = txs-1, own-v.size, all-1, size-v.size
	}
	if old != nil {
		if err := p.outbids(e.fee, e.size, old, 0); err != nil {
			return err
		}
		take(old)
	}
	// The account's own caps keep the nonces that are closest to their turn.
	for i := len(a.gapped) - 1; txs > p.cfg.GappedAccountTxs || own > p.cfg.GappedAccountBytes; i-- {
		if i < 0 || a.gapped[i].nonce <= e.nonce {
			return fmt.Errorf("%w: the account has %d transactions behind a missing nonce", ErrGap, len(a.gapped))
		}
		take(a.gapped[i])
	}
	for w := p.gaps.walk(); all > p.cfg.GappedTxs || size > p.cfg.GappedBytes; {
		v := w.next()
		if slices.Contains(victims, v) { // taken above: at most GappedAccountTxs
			continue
		}
		if v == nil || !p.beats(e.fee, e.size, v) {
			return fmt.Errorf("%w: too many wait behind a missing nonce", ErrFull)
		}
		take(v)
	}
	for _, v := range victims {
		p.release(v)
	}
	p.hold(a, e, height)
	for _, v := range victims {
		reason := ReasonEvicted
		if v == old {
			reason = ReasonReplaced
		}
		r.Dropped = append(r.Dropped, p.gone(v, reason))
	}
	return nil
}

// promote moves gapped ones whose turn has come to the end of the chain, as if they were new.
func (p *Pool) promote(r *Result, a *account) {
	for len(a.gapped) > 0 {
		e := a.gapped[0]
		if !p.continues(a, e) {
			return
		}
		victims, err := p.room(e.size, a.floorAt(len(a.pending), e), nil)
		p.release(e)
		if err != nil {
			r.Dropped = append(r.Dropped, p.gone(e, ReasonEvicted))
			return
		}
		p.push(a, e)
		p.evict(r, victims)
		r.Promoted = append(r.Promoted, e.tx)
	}
}

// continues reports whether e may be the next of its account's chain, the pool's own cap aside.
func (p *Pool) continues(a *account, e *entry) bool {
	return e.nonce == a.next() && len(a.pending) < p.cfg.AccountTxs &&
		e.cost <= a.state.Balance-a.spent && a.bytes+e.size <= p.cfg.AccountBytes
}

// outbids is the replacement rule. fees are those of followers that lose their place.
func (p *Pool) outbids(fee uint64, size int, old *entry, fees uint64) error {
	if least := old.fee + fees + p.g.MinFee(size); fee < least {
		return fmt.Errorf("%w: fee %d, want at least %d to replace %s", ErrUnderpriced, fee, least, old.tx.ID())
	}
	if lower(fee, 11*size, old.fee, 10*old.size) { // fee/size < 1.1 × the old
		return fmt.Errorf("%w: want 1.1 times the fee rate of %s, %d knots for %d bytes", ErrUnderpriced, old.tx.ID(), old.fee, old.size)
	}
	return nil
}

// beats reports whether fee/size exceeds v's rate by min_fee_rate, or at all if that is 0.
func (p *Pool) beats(fee uint64, size int, v *entry) bool {
	step := p.g.MinFee(size)
	if step == 0 {
		return lower(v.fee, v.size, fee, size)
	}
	return fee >= step && !lower(fee-step, size, v.fee, v.size)
}

func (p *Pool) full(floor *entry) error {
	return fmt.Errorf("%w: want %d knots a byte above %d for %d bytes", ErrFull, p.g.MinFeeRate, floor.fee, floor.size)
}

// room lists the pending transactions to evict so that more bytes fit, cheapest tail first. All of them are beaten by
// rate, the effective rate of what comes. Nothing is changed. Tails of except are left alone.
func (p *Pool) room(more int, rate *entry, except *account) ([]*entry, error) {
	need := p.bytes + more - p.cfg.MaxBytes
	if need <= 0 {
		return nil, nil
	}
	var victims []*entry
	for w := p.tails.walk(); need > 0; {
		v := w.next()
		if v == nil {
			return nil, ErrFull
		}
		if v.of == except {
			continue
		}
		if !p.beats(rate.fee, rate.size, v.floor) {
			return nil, p.full(v.floor)
		}
		victims = append(victims, v)
		need -= v.size
		if i := int(v.nonce - v.of.state.Nonce); i > 0 {
			w.add(v.of.pending[i-1])
		}
	}
	return victims, nil
}

// evict removes what room listed.
func (p *Pool) evict(r *Result, victims []*entry) {
	for _, v := range victims {
		r.Dropped = append(r.Dropped, p.gone(p.pop(v.of), ReasonEvicted))
	}
}

// park moves entries that lost their place, in nonce order, among the gapped. The account's caps keep the nonces
// closest to their turn; the caller then applies the caps of all.
func (p *Pool) park(r *Result, a *account, rest []*entry, height uint64) {
	for _, e := range rest {
		reason := ReasonGap
		if e.nonce == a.next() && e.cost > a.state.Balance-a.spent {
			reason = ReasonFunds
		}
		if e.nonce-a.state.Nonce >= uint64(p.cfg.AccountTxs) {
			r.Dropped = append(r.Dropped, p.gone(e, reason))
			continue
		}
		p.hold(a, e, height)
		for len(a.gapped) > p.cfg.GappedAccountTxs || a.gapSize > p.cfg.GappedAccountBytes {
			far := a.gapped[len(a.gapped)-1]
			p.release(far)
			r.Dropped = append(r.Dropped, p.gone(far, reason))
		}
	}
}

// trimGaps brings all gapped under their caps, cheapest first.
func (p *Pool) trimGaps(r *Result) {
	for len(p.gaps.items) > p.cfg.GappedTxs || p.gapBytes > p.cfg.GappedBytes {
		e := p.gaps.first()
		p.release(e)
		r.Dropped = append(r.Dropped, p.gone(e, ReasonEvicted))
	}
}

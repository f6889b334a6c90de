package mempool

import (
	"errors"
	"math/big"
	"slices"

	"quipu/chain"
)

// naive is the pool's twin: the policy of the package comment over one flat list, everything found by scanning,
// every failed attempt undone by going back to a copy.
type naive struct {
	g      *chain.Genesis
	cfg    Config
	list   []naiveTx
	height uint64
	seq    int
}

type naiveTx struct {
	tx      chain.CheckedTx
	seq     int
	pending bool
	keep    uint64
}

func (n *naiveTx) from() chain.Account { return n.tx.Tx().From }
func (n *naiveTx) nonce() uint64       { return n.tx.Tx().Nonce }
func (n *naiveTx) size() int           { return len(n.tx.Raw()) }
func (n *naiveTx) cost() uint64        { c, _ := n.tx.Tx().Spent(chain.AnySupply); return c }
func (n *naiveTx) rate() *big.Rat {
	return new(big.Rat).SetFrac(new(big.Int).SetUint64(n.tx.Tx().Fee), big.NewInt(int64(n.size())))
}

func (n *naive) sum(f func(*naiveTx) bool) (count, size int, cost uint64) {
	for i := range n.list {
		if f(&n.list[i]) {
			count, size, cost = count+1, size+n.list[i].size(), cost+n.list[i].cost()
		}
	}
	return count, size, cost
}

func (n *naive) of(a chain.Account, pending bool) (out []naiveTx) {
	for _, x := range n.list {
		if x.from() == a && x.pending == pending {
			out = append(out, x)
		}
	}
	slices.SortFunc(out, func(x, y naiveTx) int { return int(x.nonce()) - int(y.nonce()) })
	return out
}

func (n *naive) remove(id chain.TxID) {
	n.list = slices.DeleteFunc(n.list, func(x naiveTx) bool { return x.tx.ID() == id })
}

// effective is the lowest rate of x's chain up to x.
func (n *naive) effective(x naiveTx) *big.Rat {
	r := x.rate()
	for _, y := range n.of(x.from(), true) {
		if y.nonce() < x.nonce() && y.rate().Cmp(r) < 0 {
			r = y.rate()
		}
	}
	return r
}

// worst is the tail with the lowest effective rate, the newest of several.
func (n *naive) worst(except *chain.Account) (out *naiveTx, rate *big.Rat) {
	for _, x := range n.list {
		chain := n.of(x.from(), true)
		if !x.pending || chain[len(chain)-1].seq != x.seq || except != nil && *except == x.from() {
			continue
		}
		if e := n.effective(x); out == nil || e.Cmp(rate) < 0 || e.Cmp(rate) == 0 && x.seq > out.seq {
			out, rate = &x, e
		}
	}
	return out, rate
}

func (n *naive) cheapestGapped() (out *naiveTx) {
	for _, x := range n.list {
		if !x.pending && (out == nil || x.rate().Cmp(out.rate()) < 0 || x.rate().Cmp(out.rate()) == 0 && x.seq > out.seq) {
			out = &x
		}
	}
	return out
}

func (n *naive) beats(rate, victim *big.Rat) bool {
	step := big.NewRat(int64(n.g.MinFeeRate), 1)
	more := new(big.Rat).Sub(rate, victim)
	return more.Sign() > 0 && more.Cmp(step) >= 0
}

func (n *naive) add(height uint64, accs chain.Accounts, c chain.CheckedTx) (pending bool, err error) {
	before := slices.Clone(n.list)
	n.height = height
	n.seq++
	pending, err = n.try(height, accs, naiveTx{tx: c, seq: n.seq})
	if err != nil {
		n.list = before
		n.seq--
	}
	return pending, err
}

func (n *naive) try(height uint64, accs chain.Accounts, x naiveTx) (bool, error) {
	t, s := x.tx.Tx(), accs[x.from()]
	var old *naiveTx
	for i := range n.list {
		y := n.list[i]
		if y.tx.Leaf() == x.tx.Leaf() {
			return false, ErrKnown
		}
		if y.from() == x.from() && y.nonce() == x.nonce() {
			old = &y
		}
	}
	switch {
	case t.ValidUntil != 0 && uint64(t.ValidUntil) < height+4:
		return false, ErrExpiring
	case t.Nonce < s.Nonce:
		return false, ErrStale
	case t.Nonce >= s.Nonce+uint64(n.cfg.AccountTxs):
		return false, ErrGap
	case x.cost() > s.Balance:
		return false, ErrFunds
	}
	created := map[chain.Account]bool{}
	for _, o := range t.Outputs {
		if _, ok := accs[o.To]; !ok && o.To != t.From {
			created[o.To] = true
		}
	}
	if t.Fee < n.g.MinFee(x.size())+uint64(len(created))*n.g.AccountPrice {
		return false, ErrCreateFee
	}
	if old != nil && old.tx.ID() == x.tx.ID() {
		return false, ErrKnown
	}
	pending := n.of(x.from(), true)
	next := s.Nonce + uint64(len(pending))
	outbids := func(fees uint64) bool {
		return t.Fee >= old.tx.Tx().Fee+fees+n.g.MinFee(x.size()) &&
			x.rate().Cmp(new(big.Rat).Mul(old.rate(), big.NewRat(11, 10))) >= 0
	}
	own := func(y *naiveTx) bool { return y.pending && y.from() == x.from() }
	switch {
	case t.Nonce <= next:
		var displaced []naiveTx
		var fees uint64
		if old != nil {
			n.remove(old.tx.ID())
		}
		for _, y := range slices.Backward(pending) {
			if _, _, spent := n.sum(own); spent+x.cost() > s.Balance && y.nonce() > t.Nonce {
				displaced = append(displaced, y)
				fees += y.tx.Tx().Fee
				n.remove(y.tx.ID())
			}
		}
		_, size, spent := n.sum(own)
		if spent+x.cost() > s.Balance {
			return false, ErrFunds
		}
		tooBig := size+x.size() > n.cfg.AccountBytes
		if tooBig && t.Nonce == next {
			return false, ErrAccountFull
		}
		if old != nil && !outbids(fees) {
			return false, ErrUnderpriced
		}
		if tooBig {
			return false, ErrAccountFull
		}
		var except *chain.Account
		if t.Nonce < next {
			except = &t.From
		}
		if !n.push(x, except) {
			return false, ErrFull
		}
		slices.Reverse(displaced)
		n.park(displaced, s, height)
		n.trim()
		n.promote(x.from(), s)
		return true, nil
	default:
		if _, _, spent := n.sum(own); spent+x.cost() > s.Balance {
			return false, ErrFunds
		}
		if old != nil {
			if !outbids(0) {
				return false, ErrUnderpriced
			}
			n.remove(old.tx.ID())
		}
		for {
			gapped := n.of(x.from(), false)
			_, size, _ := n.sum(func(y *naiveTx) bool { return !y.pending && y.from() == x.from() })
			if len(gapped) < n.cfg.GappedAccountTxs && size+x.size() <= n.cfg.GappedAccountBytes {
				break
			}
			if far := gapped[len(gapped)-1]; far.nonce() > x.nonce() {
				n.remove(far.tx.ID())
			} else {
				return false, ErrGap
			}
		}
		for {
			count, size, _ := n.sum(func(y *naiveTx) bool { return !y.pending })
			if count < n.cfg.GappedTxs && size+x.size() <= n.cfg.GappedBytes {
				break
			}
			v := n.cheapestGapped()
			if !n.beats(x.rate(), v.rate()) {
				return false, ErrFull
			}
			n.remove(v.tx.ID())
		}
		x.keep = height + uint64(n.cfg.GappedBlocks)
		n.list = append(n.list, x)
		return false, nil
	}
}

// push makes x pending and evicts what it beats; false if that isn't enough.
func (n *naive) push(x naiveTx, except *chain.Account) bool {
	x.pending, x.keep = true, 0
	rate := n.effective(x)
	for {
		if _, size, _ := n.sum(func(y *naiveTx) bool { return y.pending }); size+x.size() <= n.cfg.MaxBytes {
			n.list = append(n.list, x)
			return true
		}
		v, r := n.worst(except)
		if v == nil || !n.beats(rate, r) {
			return false
		}
		n.remove(v.tx.ID())
	}
}

func (n *naive) continues(x naiveTx, s chain.AccountState) bool {
	count, size, spent := n.sum(func(y *naiveTx) bool { return y.pending && y.from() == x.from() })
	return x.nonce() == s.Nonce+uint64(count) && count < n.cfg.AccountTxs &&
		spent+x.cost() <= s.Balance && size+x.size() <= n.cfg.AccountBytes
}

func (n *naive) promote(a chain.Account, s chain.AccountState) {
	for {
		gapped := n.of(a, false)
		if len(gapped) == 0 || !n.continues(gapped[0], s) {
			return
		}
		n.remove(gapped[0].tx.ID())
		before := slices.Clone(n.list)
		if !n.push(gapped[0], nil) {
			n.list = before
			return
		}
	}
}

func (n *naive) park(rest []naiveTx, s chain.AccountState, height uint64) {
	for _, x := range rest {
		if x.nonce()-s.Nonce >= uint64(n.cfg.AccountTxs) {
			continue
		}
		x.pending = false
		if x.keep == 0 {
			x.keep = height + uint64(n.cfg.GappedBlocks)
		}
		n.list = append(n.list, x)
		for {
			gapped := n.of(x.from(), false)
			_, size, _ := n.sum(func(y *naiveTx) bool { return !y.pending && y.from() == x.from() })
			if len(gapped) <= n.cfg.GappedAccountTxs && size <= n.cfg.GappedAccountBytes {
				break
			}
			n.remove(gapped[len(gapped)-1].tx.ID())
		}
	}
}

func (n *naive) trim() {
	for {
		count, size, _ := n.sum(func(y *naiveTx) bool { return !y.pending })
		if count <= n.cfg.GappedTxs && size <= n.cfg.GappedBytes {
			return
		}
		n.remove(n.cheapestGapped().tx.ID())
	}
}

// update rebuilds every account, touched or not.
func (n *naive) update(ch chain.Change, accs chain.Accounts, height uint64) {
	n.height = height
	for _, u := range slices.Backward(ch.Reverted) {
		for _, tx := range u.Block.Txs() {
			if !slices.ContainsFunc(n.list, func(x naiveTx) bool { return x.tx.ID() == tx.ID() }) {
				n.seq++
				n.list = append(n.list, naiveTx{tx: tx, seq: n.seq})
			}
		}
	}
	n.rebuild(accs, nil)
}

func (n *naive) rebuild(accs chain.Accounts, discard *chain.TxID) {
	all := n.list
	n.list = nil
	slices.SortFunc(all, func(x, y naiveTx) int {
		a, b := x.from(), y.from()
		if c := slices.Compare(a[:], b[:]); c != 0 {
			return c
		}
		return int(x.nonce()) - int(y.nonce())
	})
	var rest []naiveTx
	for i, x := range all {
		s, v := accs[x.from()], uint64(x.tx.Tx().ValidUntil)
		gone := x.nonce() < s.Nonce || v != 0 && v <= n.height || x.keep != 0 && x.keep <= n.height ||
			discard != nil && x.tx.ID() == *discard
		switch {
		case gone:
		case n.continues(x, s):
			x.pending, x.keep = true, 0
			n.list = append(n.list, x)
		default:
			rest = append(rest, x)
		}
		if i+1 == len(all) || all[i+1].from() != x.from() {
			n.park(rest, s, n.height)
			rest = nil
		}
	}
	for {
		if _, size, _ := n.sum(func(y *naiveTx) bool { return y.pending }); size <= n.cfg.MaxBytes {
			break
		}
		v, _ := n.worst(nil)
		n.remove(v.tx.ID())
	}
	n.trim()
}

// candidates picks the best head again and again.
func (n *naive) candidates(maxBytes int) (out []chain.LeafHash) {
	left := map[chain.Account][]naiveTx{}
	for _, x := range n.list {
		if x.pending {
			left[x.from()] = n.of(x.from(), true)
		}
	}
	for len(left) > 0 {
		var best *naiveTx
		for _, chain := range left {
			if c := &chain[0]; best == nil || c.rate().Cmp(best.rate()) > 0 || c.rate().Cmp(best.rate()) == 0 && c.seq < best.seq {
				best = c
			}
		}
		a := best.from()
		if best.size() > maxBytes {
			delete(left, a)
			continue
		}
		maxBytes -= best.size()
		out = append(out, best.tx.Leaf())
		if left[a] = left[a][1:]; len(left[a]) == 0 {
			delete(left, a)
		}
	}
	return out
}

func kind(err error) Refusal {
	var r Refusal
	errors.As(err, &r)
	return r
}

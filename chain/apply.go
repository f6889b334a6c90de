package chain

import (
	"fmt"
	"slices"

	"github.com/holiman/uint256"
)

// Overlay is a set of accounts as they stand inside a block that is being applied or built. It is a value machine:
// no storage behind it, so base must hold every account the transactions touch (Touched lists them).
type Overlay struct {
	g       *Genesis
	height  uint64
	base    Accounts
	now     Accounts
	fees    uint64
	created uint64
}

// NewOverlay starts a block at this height on top of base, which is read and never written.
func (g *Genesis) NewOverlay(height uint64, base Accounts) *Overlay {
	return &Overlay{g: g, height: height, base: base, now: Accounts{}}
}

// Get is an account as it stands now, false if it doesn't exist.
func (o *Overlay) Get(a Account) (AccountState, bool) {
	if s, ok := o.now[a]; ok {
		return s, true
	}
	s, ok := o.base[a]
	return s, ok
}

// ApplyTx applies one transaction (rules A1 to A3, in this order) or leaves everything as it was. Its errors carry
// an ErrorKind but blame nobody: balance and nonce depend on the tip. Apply turns them into blame for a block.
func (o *Overlay) ApplyTx(c *CheckedTx) error {
	t := &c.tx
	from, _ := o.Get(t.From)
	if t.Nonce != from.Nonce {
		return fmt.Errorf("%w: %s has nonce %d, account %s is at %d", ErrNonce, c.id, t.Nonce, t.From, from.Nonce)
	}
	spent, ok := t.Spent(from.Balance)
	if !ok {
		return fmt.Errorf("%w: %s spends more than the balance %d of %s", ErrBalance, c.id, from.Balance, t.From)
	}
	created := o.creates(t)
	if !o.g.paysFor(t.Fee, len(c.raw), created) {
		return fmt.Errorf("%w: %s creates %d accounts with a fee of %d", ErrCreateFee, c.id, created, t.Fee)
	}
	o.now[t.From] = AccountState{Balance: from.Balance - spent, Nonce: from.Nonce + 1}
	for i := range t.Outputs {
		to, _ := o.Get(t.Outputs[i].To)
		to.Balance += t.Outputs[i].Amount // Σ balances ≤ MAX_SUPPLY < 2^63: no wrap
		o.now[t.Outputs[i].To] = to
	}
	o.fees += t.Fee
	o.created += created
	return nil
}

// creates counts the outputs whose account is absent when credited: the first to each absent account.
func (o *Overlay) creates(t *Tx) uint64 {
	n := uint64(0)
	for i := range t.Outputs {
		to := t.Outputs[i].To
		if _, exists := o.Get(to); exists || to == t.From {
			continue
		}
		if !slices.ContainsFunc(t.Outputs[:i], func(e Output) bool { return e.To == to }) {
			n++
		}
	}
	return n
}

// paysFor reports fee ≥ min_fee_rate × length + account_price × created, over integers that can't wrap.
func (g *Genesis) paysFor(fee uint64, length int, created uint64) bool {
	var price, least uint256.Int
	price.Mul(uint256.NewInt(g.AccountPrice), uint256.NewInt(created))
	least.AddUint64(&price, g.MinFee(length))
	return !least.Gt(uint256.NewInt(fee))
}

// Reward credits the miner with subsidy + fees − burned; nothing is written if that is 0. It returns what was
// issued and burned. It is called once, after the last transaction.
func (o *Overlay) Reward(miner Account) (issued, burned uint64) {
	issued, burned = o.g.SubsidyAt(o.height), o.g.AccountPrice*o.created // each burn was paid by a fee: no wrap
	if reward := issued + o.fees - burned; reward > 0 {
		s, _ := o.Get(miner)
		s.Balance += reward
		o.now[miner] = s
	}
	return issued, burned
}

// Changes lists every account written so far, ascending.
func (o *Overlay) Changes() []AccountChange {
	out := make([]AccountChange, 0, len(o.now))
	for a, after := range o.now {
		before, existed := o.base[a]
		out = append(out, AccountChange{Account: a, Before: before, After: after, Existed: existed})
	}
	slices.SortFunc(out, func(x, y AccountChange) int { return slices.Compare(x.Account[:], y.Account[:]) })
	return out
}

// Touched lists each account that the transactions or the reward may read, once.
func Touched(miner Account, txs []CheckedTx) []Account {
	seen := map[Account]struct{}{miner: {}}
	for i := range txs {
		seen[txs[i].tx.From] = struct{}{}
		for j := range txs[i].tx.Outputs {
			seen[txs[i].tx.Outputs[j].To] = struct{}{}
		}
	}
	out := make([]Account, 0, len(seen))
	for a := range seen {
		out = append(out, a)
	}
	return out
}

// Apply runs a whole block over base, which holds its Touched accounts as they stand after the parent. Every rule
// is objective here, so its errors are RuleErrors: the block is invalid. The state root is compared by whoever
// keeps the tree, with CheckStateRoot.
func (g *Genesis) Apply(b *CheckedBlock, base Accounts) (Update, error) {
	o := g.NewOverlay(b.header.Height, base)
	for i := range b.txs {
		if err := o.ApplyTx(&b.txs[i]); err != nil {
			return Update{}, blockFault(err)
		}
	}
	u := Update{Block: b}
	u.Issued, u.Burned = o.Reward(b.header.Miner)
	u.Changes = o.Changes()
	return u, nil
}

// CheckStateRoot is rule A4.
func CheckStateRoot(h *Header, root Hash) error {
	if h.StateRoot != root {
		return ruleError(ErrStateRoot, "header says %s, the accounts give %s", h.StateRoot, root)
	}
	return nil
}

package chaintest

import (
	"fmt"

	"quipu/chain"
	"quipu/chain/statetree"
)

// Gen makes named blocks on any block made before, in the style of dcrd's chaingen. It keeps accounts and state
// tree of one block, and walks to another by undo and redo, so long chains and many branches are cheap.
type Gen struct {
	G        *chain.Genesis
	Miner    chain.Account
	blocks   map[string]*Block
	tip, cur *Block // next block's parent; the block accounts and tree stand at
	accounts chain.Accounts
	tree     *statetree.Tree
}

// Block is a named block. Valid is false if its transactions don't apply or an option corrupted it.
type Block struct {
	chain.Block
	Name    string
	State   chain.State
	Checked chain.CheckedBlock
	Valid   bool
	parent  *Block
	changes []chain.AccountChange
}

// ID is the block's id.
func (b *Block) ID() chain.BlockID { return b.State.ID }

// New starts at block 0, named "genesis".
func New(g *chain.Genesis) *Gen {
	gen := &Gen{G: g, Miner: NewKey("miner").Account, blocks: map[string]*Block{}, accounts: chain.Accounts{}, tree: statetree.New()}
	var changes []statetree.Change
	for _, b := range g.Balances {
		gen.accounts[b.Account] = chain.AccountState{Balance: b.Balance}
		changes = append(changes, statetree.Change{Leaf: statetree.Leaf{Account: b.Account, Balance: b.Balance}})
	}
	gen.tree.Update(changes)
	s := g.State()
	gen.cur = &Block{Block: chain.Block{Header: s.Header}, Name: "genesis", State: s, Valid: true}
	gen.tip = gen.cur
	gen.blocks["genesis"] = gen.cur
	return gen
}

// Get is the block of a name; it panics if there is none.
func (g *Gen) Get(name string) *Block {
	b := g.blocks[name]
	if b == nil {
		panic(fmt.Sprintf("chaintest: no block %q", name))
	}
	return b
}

// SetTip makes the named block the parent of the next one.
func (g *Gen) SetTip(name string) *Gen { g.tip = g.Get(name); return g }

// Tip is the parent of the next block.
func (g *Gen) Tip() *Block { return g.tip }

// Account is an account as it stands after the tip.
func (g *Gen) Account(a chain.Account) chain.AccountState { g.walk(g.tip); return g.accounts[a] }

// Accounts is a copy of all accounts after the tip.
func (g *Gen) Accounts() chain.Accounts {
	g.walk(g.tip)
	out := make(chain.Accounts, len(g.accounts))
	for a, s := range g.accounts {
		out[a] = s
	}
	return out
}

// Option changes the block being made.
type Option struct {
	after  uint64              // ms after the parent; 0 is the spacing
	draft  func(*chain.Header) // before roots
	body   func([]byte) []byte // before roots
	header func(*chain.Header) // after roots, before the work
	sealed func(*chain.Block)  // after the work
}

// At sets the block's time to so many ms after its parent's (the default is the genesis spacing).
func At(ms uint64) Option {
	return Option{after: ms}
}

// MinedBy sets the miner.
func MinedBy(k Key) Option { return Option{draft: func(h *chain.Header) { h.Miner = k.Account }} }

// Body replaces the body before its roots are made, so that work and tx_root cover the corruption.
func Body(f func([]byte) []byte) Option { return Option{body: f} }

// Header edits the header after the roots and before the work.
func Header(f func(*chain.Header)) Option { return Option{header: f} }

// Sealed edits the block after its work.
func Sealed(f func(*chain.Block)) Option { return Option{sealed: f} }

// Next makes a block of these transactions on the tip and moves the tip to it.
func (g *Gen) Next(name string, txs []chain.Tx, opts ...Option) *Block {
	if g.blocks[name] != nil {
		panic(fmt.Sprintf("chaintest: block %q stands already", name))
	}
	parent := g.tip
	g.walk(parent)
	h := g.G.NewHeader(&parent.State, g.Miner, 0)
	h.Time = parent.State.Header.Time + uint64(g.G.Spacing)
	for _, o := range opts {
		if o.after > 0 {
			h.Time = parent.State.Header.Time + o.after
		}
		if o.draft != nil {
			o.draft(&h)
		}
	}
	var body []byte
	for _, t := range txs {
		body = t.Append(body)
	}
	for _, o := range opts {
		if o.body != nil {
			body = o.body(body)
		}
	}
	b := &Block{Name: name, parent: parent, Valid: true}
	g.fill(b, h, body)
	for _, o := range opts {
		if o.header != nil {
			o.header(&b.Header)
			b.Valid = false
		}
	}
	b.Header.Solve(1 << 40)
	for _, o := range opts {
		if o.sealed != nil {
			o.sealed(&b.Block)
			b.Valid = false
		}
	}
	b.State = chain.AssumeState(&parent.State, &b.Header)
	b.Checked, _ = g.G.AssumeChecked(b.Block)
	g.blocks[name], g.tip = b, b
	if !b.Valid {
		b.changes = nil
	}
	return b
}

// fill makes roots, count and size. A body that doesn't apply leaves the parent's state root: the block is invalid.
func (g *Gen) fill(b *Block, h chain.Header, body []byte) {
	h.BodySize = uint32(len(body))
	if raws, err := chain.SplitBody(body); err == nil {
		leaves := make([]chain.LeafHash, len(raws))
		for i, raw := range raws {
			leaves[i] = chain.LeafOf(raw)
		}
		h.TxRoot, h.TxCount = chain.MTH(leaves), uint32(len(raws))
	}
	b.Block = chain.Block{Header: h, Body: body}
	checked, err := g.G.AssumeChecked(b.Block)
	if err == nil {
		var u chain.Update
		if u, err = g.G.Apply(&checked, g.accounts); err == nil {
			b.changes = u.Changes
			b.Header.StateRoot = g.tree.Update(treeChanges(u.Changes, false))
			g.tree.Update(treeChanges(u.Changes, true))
			return
		}
	}
	b.Valid = false
	b.Header.StateRoot = b.parent.State.Header.StateRoot
}

// Chain makes n empty-handed blocks named prefix1 … prefixN on the tip, each with txs(i) if that isn't nil.
func (g *Gen) Chain(prefix string, n int, txs func(i int) []chain.Tx) []*Block {
	out := make([]*Block, n)
	for i := range out {
		var list []chain.Tx
		if txs != nil {
			list = txs(i)
		}
		out[i] = g.Next(fmt.Sprintf("%s%d", prefix, i+1), list)
	}
	return out
}

// walk moves accounts and tree from cur to b: back to the fork by undo, then forward.
func (g *Gen) walk(b *Block) {
	var path []*Block
	to := b
	for to.State.Header.Height > g.cur.State.Header.Height {
		path, to = append(path, to), to.parent
	}
	for g.cur != to {
		if g.cur.State.Header.Height == to.State.Header.Height {
			path, to = append(path, to), to.parent
		}
		g.apply(g.cur.changes, true)
		g.cur = g.cur.parent
	}
	for i := len(path) - 1; i >= 0; i-- {
		g.apply(path[i].changes, false)
		g.cur = path[i]
	}
}

func (g *Gen) apply(changes []chain.AccountChange, undo bool) {
	for _, c := range changes {
		switch {
		case !undo:
			g.accounts[c.Account] = c.After
		case c.Existed:
			g.accounts[c.Account] = c.Before
		default:
			delete(g.accounts, c.Account)
		}
	}
	g.tree.Update(treeChanges(changes, undo))
}

func treeChanges(changes []chain.AccountChange, undo bool) []statetree.Change {
	out := make([]statetree.Change, len(changes))
	for i, c := range changes {
		s := c.After
		if undo {
			s = c.Before
		}
		out[i] = statetree.Change{
			Leaf:   statetree.Leaf{Account: c.Account, Balance: s.Balance, Nonce: s.Nonce},
			Delete: undo && !c.Existed,
		}
	}
	return out
}

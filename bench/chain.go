package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"

	"quipu/chain"
	"quipu/chain/bip340"
	"quipu/chain/ledger"
	"quipu/chain/statetree"
)

// Chain describes a chain to be made: the same values give the same bytes.
type Chain struct {
	Blocks   int    `json:"blocks"`   // from height 1 on
	Txs      int    `json:"txs"`      // in each block
	Accounts int    `json:"accounts"` // in genesis; transaction i is sent by account i mod Accounts, recipients are drawn from all
	Seed     uint64 `json:"seed"`     // of keys and recipients
	// Hostile fills every block to body_limit with transactions of 255 outputs to new accounts; Txs is ignored.
	Hostile bool `json:"hostile"`
}

// FileName names a file for this chain.
func (c *Chain) FileName() string {
	if c.Hostile {
		return fmt.Sprintf("hostile-%d-%d-%d.quipu", c.Blocks, c.Accounts, c.Seed)
	}
	return fmt.Sprintf("chain-%d-%d-%d-%d.quipu", c.Blocks, c.Txs, c.Accounts, c.Seed)
}

// Validate says what can't be made.
func (c *Chain) Validate() error {
	switch {
	case c.Blocks < 1 || c.Blocks > 1_000_000:
		return fmt.Errorf("%d blocks: 1 to 1000000 are possible", c.Blocks)
	case c.Accounts < 1 || c.Accounts > ledger.MaxBalances:
		return fmt.Errorf("%d accounts: 1 to %d are possible", c.Accounts, ledger.MaxBalances)
	case c.Txs < 0 || c.Txs > chain.MaxBody/chain.TxMinSize:
		return fmt.Errorf("%d transactions a block: 0 to %d are possible", c.Txs, chain.MaxBody/chain.TxMinSize)
	}
	return nil
}

const (
	chainSpacing = 1000       // ms
	chainBits    = 0x207fffff // every second header meets it
	chainLimit   = 2 << 20    // body_limit, as the open network's, unless the blocks are larger
	chainFunds   = 1 << 40    // knots an account
	chainStart   = 1_700_000_000_000
)

// txsPerBlock is Txs, or as many of 255 outputs as fit.
func (c *Chain) txsPerBlock(g *chain.Genesis) int {
	if c.Hostile {
		return int(g.BodyLimit) / hostileSize
	}
	return c.Txs
}

// hostileSize is a transaction of 255 outputs without memo, in bytes.
const hostileSize = chain.TxMaxSize - chain.MaxMemo

// chainMaker holds what making a chain takes.
type chainMaker struct {
	Chain
	g       *chain.Genesis
	pubs    []chain.Account
	secrets [][32]byte // of senders only
	nonces  []uint64
	state   chain.State
	tree    *statetree.Tree
	drawn   *rand.Rand
	made    uint64 // new accounts so far
	sent    uint64
	first   int    // senders are first, first + every, …
	every   int    // 0 is 1
	extra   uint64 // fees are up to so much above the least
}

// Write makes the chain and writes it as an export (docs/spec.md): genesis, then header and body of every block.
// progress may be nil.
func (c Chain) Write(ctx context.Context, w io.Writer, progress func(done, total uint64)) error {
	if err := c.Validate(); err != nil {
		return err
	}
	m, err := newChainMaker(c)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 1<<20)
	if err := ledger.WriteExportHead(out, m.g); err != nil {
		return err
	}
	for i := range c.Blocks {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := m.next()
		if err != nil {
			return err
		}
		out.Write(b.Header.Append(nil)) // the writer keeps its first error
		if _, err := out.Write(b.Body); err != nil {
			return err
		}
		if progress != nil {
			progress(uint64(i+1), uint64(c.Blocks))
		}
	}
	return out.Flush()
}

func newChainMaker(c Chain) (*chainMaker, error) {
	m := &chainMaker{Chain: c, tree: statetree.New(), drawn: rand.New(rand.NewPCG(c.Seed, 1))}
	m.pubs = make([]chain.Account, c.Accounts)
	most := c.Blocks * max(c.Txs, 1)
	if c.Hostile {
		most = c.Blocks * (chain.MaxBody / hostileSize)
	}
	m.secrets = make([][32]byte, min(c.Accounts, most))
	m.nonces = make([]uint64, len(m.secrets))
	errs := make([]error, len(m.secrets))
	spread(len(m.pubs), func(i int) {
		h := m.hash("account", uint64(i))
		if i < len(m.secrets) {
			m.secrets[i] = h
			m.pubs[i], errs[i] = bip340.PublicKey(&h)
		} else {
			m.pubs[i] = h // never sends: any 32 bytes are an account
		}
	})
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	g := &chain.Genesis{
		Name: "bench", Prefix: "tqp", Time: chainStart, Spacing: chainSpacing, HalfLife: 144 * chainSpacing,
		Bits: chainBits, LimitBits: chainBits, BodyLimit: uint32(min(max(chainLimit, c.Txs*chain.TxMinSize), chain.MaxBody)),
		Subsidy: 50 * chain.Knots, Halving: 1_000_000, MinFeeRate: 1,
	}
	changes := make([]statetree.Change, len(m.pubs))
	for i, a := range m.pubs {
		g.Balances = append(g.Balances, chain.GenesisBalance{Account: a, Balance: chainFunds})
		changes[i].Leaf = statetree.Leaf{Account: a, Balance: chainFunds}
	}
	slices.SortFunc(g.Balances, func(a, b chain.GenesisBalance) int { return bytes.Compare(a.Account[:], b.Account[:]) })
	var err error
	if m.g, err = chain.DecodeGenesis(g.Append(nil)); err != nil {
		return nil, err
	}
	m.tree.Update(changes)
	m.state = m.g.State()
	return m, nil
}

// hash draws 32 bytes for a purpose and a number.
func (m *chainMaker) hash(what string, i uint64) [32]byte {
	b := binary.LittleEndian.AppendUint64([]byte("quipu bench "+what), m.Seed)
	return sha256.Sum256(binary.LittleEndian.AppendUint64(b, i))
}

// next makes, signs, applies and solves one block.
func (m *chainMaker) next() (b chain.Block, err error) {
	txs := make([]chain.Tx, m.txsPerBlock(m.g))
	from := make([]int, len(txs))
	for i := range txs {
		from[i] = m.sender()
		t := &txs[i]
		t.From, t.Nonce = m.pubs[from[i]], m.nonces[from[i]]
		m.nonces[from[i]]++
		t.Outputs = m.outputs()
		t.Fee = m.g.MinFee(t.Size())
		if m.extra > 0 {
			t.Fee += m.drawn.Uint64N(m.extra)
		}
	}
	raws := make([][]byte, len(txs))
	errs := make([]error, len(txs))
	spread(len(txs), func(i int) {
		id := txs[i].ID(m.g.NetworkID())
		txs[i].Signature, errs[i] = bip340.Sign(&m.secrets[from[i]], id[:], &[32]byte{})
		raws[i] = txs[i].Append(nil)
	})
	if err := errors.Join(errs...); err != nil {
		return b, err
	}
	h := m.g.NewHeader(&m.state, m.pubs[0], m.state.Header.Time+chainSpacing)
	leaves := make([]chain.LeafHash, len(raws))
	for i, raw := range raws {
		leaves[i] = chain.LeafOf(raw)
		b.Body = append(b.Body, raw...)
	}
	h.TxRoot, h.TxCount, h.BodySize = chain.MTH(leaves), uint32(len(raws)), uint32(len(b.Body))
	b.Header = h
	if err := m.apply(&b); err != nil {
		return b, err
	}
	for !b.Header.Solve(1 << 20) {
	}
	m.state, err = m.g.CheckHeader(&m.state, &b.Header)
	return b, err
}

// sender is whose turn it is.
func (m *chainMaker) sender() int {
	every := max(1, m.every)
	i := m.first + every*int(m.sent%uint64(max(1, len(m.secrets)/every)))
	m.sent++
	return i
}

func (m *chainMaker) outputs() []chain.Output {
	if !m.Hostile {
		return []chain.Output{{To: m.pubs[m.drawn.IntN(len(m.pubs))], Amount: 1 + m.drawn.Uint64N(1000)}}
	}
	out := make([]chain.Output, chain.MaxOutputs)
	for i := range out {
		out[i] = chain.Output{To: m.hash("new", m.made), Amount: 1}
		m.made++
	}
	return out
}

// apply fills in the state root.
func (m *chainMaker) apply(b *chain.Block) error {
	checked, err := m.g.AssumeChecked(*b)
	if err != nil {
		return err
	}
	base := chain.Accounts{}
	for _, a := range chain.Touched(b.Header.Miner, checked.Txs()) {
		if leaf, ok := m.tree.Get(a); ok {
			base[a] = chain.AccountState{Balance: leaf.Balance, Nonce: leaf.Nonce}
		}
	}
	u, err := m.g.Apply(&checked, base)
	if err != nil {
		return err
	}
	changes := make([]statetree.Change, len(u.Changes))
	for i, c := range u.Changes {
		changes[i].Leaf = statetree.Leaf{Account: c.Account, Balance: c.After.Balance, Nonce: c.After.Nonce}
	}
	b.Header.StateRoot = m.tree.Update(changes)
	return nil
}

package chain

import (
	"bytes"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"sync/atomic"

	"quipu/chain/statetree"
)

// Bounds of a genesis (docs/spec.md §6). They hold for the JSON and for the canonical bytes.
const (
	minSpacing   = 100 // ms
	minHalfLives = 32  // half_life, in spacings: each block anchors the next, so rounding is lost below
	maxHalfLives = 1024
)

// Genesis holds a network's constants. Its canonical bytes hash to the network id, which block 0 carries as its
// parent: every chain commits to every constant.
type Genesis struct {
	Name         string // 1–32 bytes of printable ASCII
	Prefix       string // of addresses: 1–10 letters a–z
	Time         uint64 // Unix ms
	Spacing      int64  // ms between blocks, aimed at
	HalfLife     int64  // ms
	Bits         uint32 // of blocks 1 and 2
	LimitBits    uint32 // the easiest there may be
	BodyLimit    uint32 // bytes
	Subsidy      uint64 // knots, of block 1
	Halving      uint32 // blocks
	Tail         uint64 // knots: the least subsidy
	MinFeeRate   uint32 // knots a byte
	AccountPrice uint64 // knots burned for each account a transaction creates
	Balances     []GenesisBalance

	network   NetworkID
	header    Header
	maxSupply uint64
	issuedAt0 uint64
	tree      *atomic.Pointer[statetree.Tree] // see TakeTree
}

// GenesisBalance is one funded account. Balance ≥ 1 knot.
type GenesisBalance struct {
	Account Account
	Balance uint64
}

// seal checks every bound, sorts the balances and computes the network id, block 0 and MAX_SUPPLY. canonical may be
// the bytes g was decoded from.
func (g *Genesis) seal(canonical []byte) error {
	if err := g.checkBounds(); err != nil {
		return err
	}
	if canonical == nil {
		slices.SortFunc(g.Balances, func(a, b GenesisBalance) int { return bytes.Compare(a.Account[:], b.Account[:]) })
	}
	leaves := make([]statetree.Change, len(g.Balances))
	sum := uint64(0)
	for i, b := range g.Balances {
		if i > 0 && b.Account == g.Balances[i-1].Account {
			return ruleError(ErrGenesis, "account %s has two balances", b.Account)
		}
		if b.Balance < 1 || b.Balance > AnySupply-sum {
			return ruleError(ErrGenesis, "balance %d of %s: want at least 1 and all together at most 2^63−1", b.Balance, b.Account)
		}
		sum += b.Balance
		leaves[i].Leaf = statetree.Leaf{Account: b.Account, Balance: b.Balance}
	}
	g.issuedAt0 = sum
	issued, ok := g.totalSubsidy()
	if !ok || issued > AnySupply-sum {
		return ruleError(ErrGenesis, "balances and all subsidies together exceed 2^63−1 knots")
	}
	g.maxSupply = sum + issued
	if canonical == nil {
		canonical = g.Append(nil)
	}
	g.network = NetworkID(tagGenesis.Sum(canonical))
	tree := statetree.New()
	g.header = Header{
		Version: 1, Parent: BlockID(g.network), HistoryRoot: EmptyRoot, Time: g.Time,
		TxRoot: EmptyRoot, StateRoot: tree.Update(leaves), Bits: g.Bits,
	}
	g.tree = &atomic.Pointer[statetree.Tree]{}
	g.tree.Store(tree)
	return nil
}

func (g *Genesis) checkBounds() error {
	bad := func(format string, args ...any) error { return ruleError(ErrGenesis, format, args...) }
	if len(g.Name) < 1 || len(g.Name) > 32 || strings.ContainsFunc(g.Name, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		return bad("name %q: want 1 to 32 printable ASCII characters", g.Name)
	}
	if len(g.Prefix) < 1 || len(g.Prefix) > 10 || strings.ContainsFunc(g.Prefix, func(r rune) bool { return r < 'a' || r > 'z' }) {
		return bad("prefix %q: want 1 to 10 letters a to z", g.Prefix)
	}
	limit, ok := ToTarget(g.LimitBits)
	if !ok {
		return bad("limit_bits %08x: not canonical", g.LimitBits)
	}
	target, ok := ToTarget(g.Bits)
	if !ok || target.Gt(&limit) {
		return bad("bits %08x: not canonical or easier than limit_bits %08x", g.Bits, g.LimitBits)
	}
	if g.Time >= TimeLimit {
		return bad("time %d: want below 2^53", g.Time)
	}
	if g.Spacing < minSpacing || g.Spacing > 1<<32-1 {
		return bad("spacing %d ms: want at least %d and below 2^32", g.Spacing, minSpacing)
	}
	if g.HalfLife < minHalfLives*g.Spacing || g.HalfLife > maxHalfLives*g.Spacing {
		return bad("half_life %d ms: want %d to %d spacings", g.HalfLife, minHalfLives, maxHalfLives)
	}
	if g.BodyLimit < TxMaxSize || g.BodyLimit > MaxBody {
		return bad("body_limit %d: want %d to %d bytes", g.BodyLimit, TxMaxSize, MaxBody)
	}
	if g.Halving < 1 {
		return bad("halving 0: want at least 1")
	}
	return nil
}

// SubsidyAt is max(subsidy >> ((h−1) div halving), tail); a shift of 64 or more gives 0. h ≥ 1.
func (g *Genesis) SubsidyAt(h uint64) uint64 {
	return max(g.Subsidy>>((h-1)/uint64(g.Halving)), g.Tail) // Go's shift by ≥ 64 is 0
}

// totalSubsidy is Σ SubsidyAt(1..2^32−1), false above 2^63−1.
func (g *Genesis) totalSubsidy() (uint64, bool) {
	sum := uint64(0)
	for h := uint64(1); h <= MaxHeight; {
		s := g.SubsidyAt(h)
		n := uint64(g.Halving) - (h-1)%uint64(g.Halving)
		if s == g.Tail { // it never falls again
			n = MaxHeight - h + 1
		}
		n = min(n, MaxHeight-h+1)
		hi, lo := bits.Mul64(s, n)
		if hi != 0 || lo > AnySupply-sum {
			return 0, false
		}
		sum += lo
		h += n
	}
	return sum, true
}

func (g *Genesis) NetworkID() NetworkID { return g.network }

// MaxSupply is Σ genesis balances + Σ subsidies, in knots: no amount can exceed it.
func (g *Genesis) MaxSupply() uint64 { return g.maxSupply }

// Supply is Σ genesis balances, in knots.
func (g *Genesis) Supply() uint64 { return g.issuedAt0 }

// TakeTree is the tree of the balances, for whoever keeps the accounts: it was made to know its root. The first call
// gets it and may change it, later ones get nil.
func (g *Genesis) TakeTree() *statetree.Tree {
	if g.tree == nil {
		return nil
	}
	return g.tree.Swap(nil)
}

// State is the chain's state after block 0. Its work counts 0 and isn't checked.
func (g *Genesis) State() State {
	s := State{Header: g.header, ID: g.header.ID(), ParentTime: g.Time}
	s.Peaks = []Hash{historyLeaf(s.ID, &s.Work)}
	return s
}

// Append writes the canonical bytes (docs/spec.md §6): what the network id is the tagged hash of.
func (g *Genesis) Append(dst []byte) []byte {
	dst = slices.Grow(dst, 128+40*len(g.Balances))
	dst = append(dst, 1, byte(len(g.Name)))
	dst = append(dst, g.Name...)
	dst = append(dst, byte(len(g.Prefix)))
	dst = append(dst, g.Prefix...)
	dst = le.AppendUint64(dst, g.Time)
	dst = le.AppendUint32(dst, uint32(g.Spacing))
	dst = le.AppendUint64(dst, uint64(g.HalfLife))
	dst = le.AppendUint32(dst, g.Bits)
	dst = le.AppendUint32(dst, g.LimitBits)
	dst = le.AppendUint32(dst, g.BodyLimit)
	dst = le.AppendUint64(dst, g.Subsidy)
	dst = le.AppendUint32(dst, g.Halving)
	dst = le.AppendUint64(dst, g.Tail)
	dst = le.AppendUint32(dst, g.MinFeeRate)
	dst = le.AppendUint64(dst, g.AccountPrice)
	dst = le.AppendUint32(dst, uint32(len(g.Balances)))
	for _, b := range g.Balances {
		dst = append(dst, b.Account[:]...)
		dst = le.AppendUint64(dst, b.Balance)
	}
	return dst
}

// DecodeGenesis reads canonical bytes to their end, and refuses whatever Append wouldn't write back the same.
func DecodeGenesis(b []byte) (*Genesis, error) {
	r := reader{b: b}
	g := &Genesis{}
	if v := r.u8(); v != 1 {
		return nil, ruleError(ErrGenesis, "genesis version %d, want 1", v)
	}
	g.Name = string(r.take(int(r.u8())))
	g.Prefix = string(r.take(int(r.u8())))
	g.Time = r.u64()
	g.Spacing = int64(r.u32())
	half := r.u64()
	g.HalfLife = int64(min(half, 1<<62)) // far above what seal allows
	g.Bits, g.LimitBits, g.BodyLimit = r.u32(), r.u32(), r.u32()
	g.Subsidy, g.Halving, g.Tail = r.u64(), r.u32(), r.u64()
	g.MinFeeRate, g.AccountPrice = r.u32(), r.u64()
	n := int(r.u32())
	if r.short || len(r.b) != n*40 {
		return nil, ruleError(ErrGenesis, "%d bytes of balances, want %d × 40", len(r.b), n)
	}
	g.Balances = make([]GenesisBalance, n)
	for i := range g.Balances {
		g.Balances[i] = GenesisBalance{Account: Account(r.b[40*i:]), Balance: le.Uint64(r.b[40*i+32:])}
		if i > 0 && bytes.Compare(g.Balances[i-1].Account[:], g.Balances[i].Account[:]) >= 0 {
			return nil, ruleError(ErrGenesis, "balances are not in ascending order of account")
		}
	}
	if err := g.seal(b); err != nil {
		return nil, err
	}
	return g, nil
}

// reader takes fixed-size values from the front of b; after a short read all it returns is zero.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if r.short || len(r.b) < n {
		r.short = true
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) u8() uint8 {
	if v := r.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (r *reader) u32() uint32 {
	if v := r.take(4); v != nil {
		return le.Uint32(v)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if v := r.take(8); v != nil {
		return le.Uint64(v)
	}
	return 0
}

func (g *Genesis) String() string { return fmt.Sprintf("%s (%s)", g.Name, g.network.Short()) }

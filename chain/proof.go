package chain

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"quipu/chain/statetree"
)

// Proofs for whoever holds one header and trusts it: that a block is its ancestor, what an account had after that block,
// that a transaction stands in it (docs/spec.md §5, §9). Verifying needs nothing else: no node, clock or disk.

// Lengths of paths, in hashes.
const (
	MaxBlockPath = 32 // heights are below 2^32
	MaxTxPath    = 15 // MaxBody ÷ TxMinSize is below 2^15
)

// ErrProof is wrapped by errors about a proof that does not show what it is said to show.
var ErrProof = errors.New("proof doesn't hold")

// BlockProof shows that a block is an ancestor of another, the anchor, or the anchor itself. The anchor is what the
// verifier knows, and no part of it.
type BlockProof struct {
	Header Header
	Work   Work   // chain work through it; 0 for the anchor itself, of which nothing here says it
	Path   []Hash // of id ‖ Work in the anchor's history_root (RFC 6962 §2.1.1); none for the anchor itself
}

// AccountProof shows what an account had after a block, or that there was none.
type AccountProof struct {
	Block  BlockProof
	Exists bool
	State  AccountState    // zero unless Exists
	Proof  statetree.Proof // against the block's state_root
}

// TxProof shows that a transaction stands in a block.
type TxProof struct {
	Block BlockProof
	Raw   []byte // its encoding
	Index uint32 // its place in the block, from 0
	Path  []Hash // of its leaf in the block's tx_root
}

// Verify returns nil if p shows that its block is the anchor or an ancestor of it. Its work is proved with it, but for the
// anchor itself. Errors wrap ErrProof.
func (p *BlockProof) Verify(anchor *Header) error {
	id := p.Header.ID()
	if id == anchor.ID() {
		if len(p.Path) > 0 || !p.Work.IsZero() {
			return fmt.Errorf("%w: a path from block %s to itself", ErrProof, id)
		}
		return nil
	}
	root, ok := rootOfPath(historyLeaf(id, &p.Work), p.Header.Height, anchor.Height, p.Path)
	if !ok || root != anchor.HistoryRoot {
		return fmt.Errorf("%w: block %s is not shown to be an ancestor of block %s", ErrProof, id, anchor.ID())
	}
	return nil
}

// Verify returns nil if p shows what a had after p's block, and that this block is the anchor or an ancestor of it. Errors
// wrap ErrProof.
func (p *AccountProof) Verify(anchor *Header, a Account) error {
	if err := p.Block.Verify(anchor); err != nil {
		return err
	}
	root := p.Block.Header.StateRoot
	var err error
	if p.Exists {
		err = statetree.VerifyMember(root, statetree.Leaf{Account: a, Balance: p.State.Balance, Nonce: p.State.Nonce}, p.Proof)
	} else if err = statetree.VerifyAbsent(root, a, p.Proof); err == nil && p.State != (AccountState{}) {
		err = errors.New("an account that doesn't exist has a balance or a nonce")
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProof, err)
	}
	return nil
}

// VerifyTx returns the transaction of this id if p shows that it stands in p's block, and that this block is the anchor or
// an ancestor of it. Its signature is verified too. Errors wrap ErrProof.
func (g *Genesis) VerifyTx(p *TxProof, anchor *Header, id TxID) (CheckedTx, error) {
	if err := p.Block.Verify(anchor); err != nil {
		return CheckedTx{}, err
	}
	h := &p.Block.Header
	root, ok := rootOfPath(leafHash(p.Raw), uint64(p.Index), uint64(h.TxCount), p.Path)
	if !ok || root != h.TxRoot {
		return CheckedTx{}, fmt.Errorf("%w: the transaction is not shown to be number %d of block %s", ErrProof, p.Index, h.ID())
	}
	txs, errs := g.CheckTxs([][]byte{p.Raw}, nil)
	if errs[0] != nil {
		return CheckedTx{}, fmt.Errorf("%w: %w", ErrProof, errs[0])
	}
	if txs[0].ID() != id {
		return CheckedTx{}, fmt.Errorf("%w: it is about transaction %s", ErrProof, txs[0].ID())
	}
	return txs[0], nil
}

// HistoryPath is the path of block index in the history_root of a block of height size, from the states of its ancestors:
// two are read a hash. index < size.
func HistoryPath(index, size uint64, at func(height uint64) (State, error)) ([]Hash, error) {
	return pathOf(index, size, func(lo, hi uint64) (Hash, error) {
		last, err := at(hi - 1)
		if err != nil {
			return Hash{}, err
		}
		leaf := historyLeaf(last.ID, &last.Work)
		if hi-lo == 1 {
			return leaf, nil
		}
		// The tree of hi − 1 entries has its peaks up to lo and those of what follows apart: lo is a multiple of a power of
		// two above hi − 1 − lo.
		before, err := at(hi - 2)
		if err != nil {
			return Hash{}, err
		}
		peaks := slices.Clone(before.Peaks[bits.OnesCount64(lo):])
		return rootOfPeaks(appendPeak(peaks, hi-1-lo, leaf)), nil
	})
}

// TxPath is the path of leaf index in MTH(leaves). index < len(leaves).
func TxPath(leaves []LeafHash, index int) []Hash {
	path, _ := pathOf(uint64(index), uint64(len(leaves)), func(lo, hi uint64) (Hash, error) { return MTH(leaves[lo:hi]), nil })
	return path
}

// pathOf is RFC 6962 §2.1.1, lowest hash first; mth is MTH(D[lo:hi]).
func pathOf(index, size uint64, mth func(lo, hi uint64) (Hash, error)) ([]Hash, error) {
	var path []Hash
	for lo, hi := uint64(0), size; hi-lo > 1; {
		k := lo + leftOf(hi-lo)
		from, to := k, hi // what lies beside the leaf's half
		if index < k {
			hi = k
		} else {
			from, to, lo = lo, k, k
		}
		h, err := mth(from, to)
		if err != nil {
			return nil, err
		}
		path = append(path, h)
	}
	slices.Reverse(path)
	return path, nil
}

// rootOfPath is where a path of pathOf leads; false if it isn't as long as index and size say.
func rootOfPath(leaf Hash, index, size uint64, path []Hash) (Hash, bool) {
	if index >= size {
		return Hash{}, false
	}
	var beyond [64]bool // from the top down: the leaf lies in the right half
	n := 0
	for lo, hi := uint64(0), size; hi-lo > 1; n++ {
		k := lo + leftOf(hi-lo)
		if beyond[n] = index >= k; beyond[n] {
			lo = k
		} else {
			hi = k
		}
	}
	if len(path) != n {
		return Hash{}, false
	}
	for i, h := range path {
		if beyond[n-1-i] {
			leaf = nodeHash(h, leaf)
		} else {
			leaf = nodeHash(leaf, h)
		}
	}
	return leaf, true
}

// leftOf is the largest power of two below n, which is at least 2.
func leftOf(n uint64) uint64 { return 1 << (bits.Len64(n-1) - 1) }

package chain

import (
	"runtime"
	"slices"
	"sync"

	"quipu/chain/bip340"
)

// Checker makes the stateless checks and remembers over calls what makes the next ones cheaper. It changes no verdict
// and may be used by several goroutines.
type Checker struct {
	g     *Genesis
	known func(LeafHash) bool
	keys  *bip340.Keys
}

// NewChecker remembers about so many senders' keys, 64 bytes each; 0 remembers none. known reports leaves whose
// signature has been verified before; nil knows none.
func (g *Genesis) NewChecker(keys int, known func(LeafHash) bool) *Checker {
	c := &Checker{g: g, known: known}
	if keys > 0 {
		c.keys = bip340.NewKeys(keys)
	}
	return c
}

// CheckTxs checks the stateless rules of many encoded transactions, T1 to T4, signatures in batches over all
// cores. Each raw is exactly one transaction and is kept, not copied. known reports leaves whose signature this
// node has verified before; nil knows none. Both results have one entry an input; where errs[i] is nil, txs[i]
// holds. A RuleError is the sender's fault.
func (g *Genesis) CheckTxs(raws [][]byte, known func(LeafHash) bool) (txs []CheckedTx, errs []error) {
	return g.NewChecker(0, known).Txs(raws)
}

// Txs is CheckTxs.
func (c *Checker) Txs(raws [][]byte) (txs []CheckedTx, errs []error) {
	txs, errs = make([]CheckedTx, len(raws)), make([]error, len(raws))
	v := verifier{keys: c.keys}
	for i, raw := range raws {
		if errs[i] = c.g.checkTx(&txs[i], raw, 0); errs[i] == nil {
			v.add(&txs[i], i, c.known, nil)
		}
	}
	v.blame(runtime.GOMAXPROCS(0), errs)
	for i, err := range errs {
		if err != nil {
			txs[i] = CheckedTx{} // what didn't pass has no checked form
		}
	}
	return txs, errs
}

// CheckBlocks checks many bodies against their headers and all stateless rules of their transactions (B1 to B5,
// T1 to T4); signature batches cross block borders. The headers must have been checked. Results are as CheckTxs's.
// Where WrongBody(err), the server of the body is to blame and the block may be valid; any other RuleError makes
// the block invalid.
func (g *Genesis) CheckBlocks(blocks []Block, known func(LeafHash) bool) (checked []CheckedBlock, errs []error) {
	return g.NewChecker(0, known).Blocks(runtime.GOMAXPROCS(0), blocks)
}

// Blocks is CheckBlocks on so many goroutines, all of which have ended when it returns. One is for callers that check
// several lists at once: each signature batch is then as large as it can be.
func (c *Checker) Blocks(workers int, blocks []Block) (checked []CheckedBlock, errs []error) {
	return c.Decode(workers, blocks).Verify(workers)
}

// Unverified are blocks that passed all of CheckBlocks but for signatures.
type Unverified struct {
	c       *Checker
	checked []CheckedBlock
	errs    []error
	hints   [][]byte // by block; see Hint
}

// Decode is the first half of Blocks.
func (c *Checker) Decode(workers int, blocks []Block) *Unverified {
	u := &Unverified{c: c, checked: make([]CheckedBlock, len(blocks)), errs: make([]error, len(blocks))}
	parallel(workers, len(blocks), func(i int) { u.checked[i], u.errs[i] = c.g.checkBody(blocks[i]) })
	return u
}

// HintSize is what one transaction's hint takes, in bytes.
const HintSize = 32

// Hint gives, for each block, what may stand beside its body: HintSize bytes a transaction, the even y, big-endian, of
// the point whose x its signature begins with. A right one saves a square root, a wrong one or a list of another
// length changes no verdict. Hints are no part of the format. They are read by Verify.
func (u *Unverified) Hint(hints [][]byte) { u.hints = hints }

// hint is the hint for transaction j of block i, nil if there is none.
func (u *Unverified) hint(i, j int) *[HintSize]byte {
	if i >= len(u.hints) || len(u.hints[i]) != HintSize*len(u.checked[i].txs) {
		return nil
	}
	return (*[HintSize]byte)(u.hints[i][HintSize*j:])
}

// Verify is the second half of Blocks: signatures. It may be called once.
func (u *Unverified) Verify(workers int) (checked []CheckedBlock, errs []error) {
	n := 0
	for i := range u.checked {
		n += len(u.checked[i].txs)
	}
	v := verifier{keys: u.c.keys}
	v.grow(n)
	for i := range u.checked {
		if u.errs[i] == nil {
			for j := range u.checked[i].txs {
				v.add(&u.checked[i].txs[j], i, u.c.known, u.hint(i, j))
			}
		}
	}
	v.blame(workers, u.errs)
	for i, err := range u.errs {
		if err != nil {
			u.checked[i] = CheckedBlock{}
		}
	}
	return u.checked, u.errs
}

// CheckBody checks that body is the one h commits to, by decoding and tx_root alone (rules B1 and B2). It is what
// a fetching goroutine asks before it blames its peer.
func CheckBody(h *Header, body []byte) error {
	raws, err := SplitBody(body)
	if err != nil {
		return err
	}
	leaves := make([]LeafHash, len(raws))
	for i, raw := range raws {
		leaves[i] = LeafOf(raw)
	}
	return checkTxRoot(h, leaves)
}

// AssumeChecked rebuilds a checked block from what this node stored after checking it. It is for the ledger alone.
func (g *Genesis) AssumeChecked(b Block) (CheckedBlock, error) {
	c := CheckedBlock{header: b.Header, id: b.Header.ID(), body: b.Body}
	raws, err := SplitBody(b.Body)
	if err != nil {
		return c, err
	}
	c.txs = make([]CheckedTx, len(raws))
	for i, raw := range raws {
		if err := g.decodeTx(&c.txs[i], raw); err != nil {
			return c, err
		}
	}
	return c, nil
}

// Seal makes a checked block of a header and transactions that are checked already: a miner's own block.
func Seal(h Header, txs []CheckedTx) CheckedBlock {
	body := make([]byte, 0, h.BodySize)
	for i := range txs {
		body = append(body, txs[i].raw...)
	}
	return CheckedBlock{header: h, id: h.ID(), body: body, txs: txs}
}

func (g *Genesis) checkBody(b Block) (CheckedBlock, error) {
	c := CheckedBlock{header: b.Header, id: b.Header.ID(), body: b.Body}
	raws, err := SplitBody(b.Body)
	if err != nil {
		return c, err
	}
	txs, leaves := make([]CheckedTx, len(raws)), make([]LeafHash, len(raws))
	outputs := 0
	for i, raw := range raws {
		leaves[i] = LeafOf(raw)
		outputs += int(raw[txFixedHead-1])
	}
	if err := checkTxRoot(&b.Header, leaves); err != nil {
		return c, err
	}
	if len(raws) != int(b.Header.TxCount) {
		return c, ruleError(ErrBodyCount, "%d transactions, header says %d", len(raws), b.Header.TxCount)
	}
	if len(b.Body) != int(b.Header.BodySize) {
		return c, ruleError(ErrBodyLength, "body of %d bytes, header says %d", len(b.Body), b.Header.BodySize)
	}
	slab := make([]Output, 0, outputs) // of all transactions
	for i, raw := range raws {
		if err := g.checkTxAs(&txs[i], raw, leaves[i], &slab, b.Header.Height); err != nil {
			return c, err
		}
	}
	c.txs = txs
	return c, nil
}

func checkTxRoot(h *Header, leaves []LeafHash) error {
	if root := MTH(leaves); root != h.TxRoot {
		return ruleError(ErrTxRoot, "body hashes to %s, header says %s", root, h.TxRoot)
	}
	return nil
}

func (g *Genesis) decodeTx(c *CheckedTx, raw []byte) error {
	return g.decodeTxAs(c, raw, LeafOf(raw), nil)
}

// decodeTxAs is decodeTx where the leaf hash is known; see decodeTx in codec.go for slab.
func (g *Genesis) decodeTxAs(c *CheckedTx, raw []byte, leaf LeafHash, slab *[]Output) error {
	n, err := decodeTx(&c.tx, raw, slab)
	if err != nil {
		return err
	}
	if n != len(raw) {
		return ruleError(ErrTrailing, "%d bytes after the transaction", len(raw)-n)
	}
	c.raw, c.id, c.leaf = raw, TxIDOf(g.network, raw), leaf
	return nil
}

// checkTx is every stateless rule but the signature. height 0 leaves valid_until to the pool.
func (g *Genesis) checkTx(c *CheckedTx, raw []byte, height uint64) error {
	return g.checkTxAs(c, raw, LeafOf(raw), nil, height)
}

func (g *Genesis) checkTxAs(c *CheckedTx, raw []byte, leaf LeafHash, slab *[]Output, height uint64) error {
	if err := g.decodeTxAs(c, raw, leaf, slab); err != nil {
		return err
	}
	t := &c.tx
	for i := range t.Outputs {
		if t.Outputs[i].Amount == 0 {
			return ruleError(ErrZeroAmount, "output %d of %s has amount 0", i, c.id)
		}
	}
	if least := g.MinFee(len(raw)); t.Fee < least {
		return ruleError(ErrFeeTooLow, "fee %d of %s, want at least %d", t.Fee, c.id, least)
	}
	if _, ok := t.Spent(g.maxSupply); !ok {
		return ruleError(ErrOverSupply, "%s spends more than there will ever be", c.id)
	}
	if height > 0 && t.ValidUntil != 0 && height > uint64(t.ValidUntil) {
		return ruleError(ErrExpired, "%s was valid until height %d", c.id, t.ValidUntil)
	}
	return nil
}

// MinFee is min_fee_rate × length, in knots, for an encoding of so many bytes.
func (g *Genesis) MinFee(length int) uint64 { return uint64(g.MinFeeRate) * uint64(length) }

// verifier collects signatures and verifies them in one batch a core.
type verifier struct {
	keys  *bip340.Keys
	items []bip340.Item
	of    []*CheckedTx
	slot  []int // which entry of the caller's errors each item belongs to
}

// grow makes room for n signatures.
func (v *verifier) grow(n int) {
	v.items, v.of, v.slot = make([]bip340.Item, 0, n), make([]*CheckedTx, 0, n), make([]int, 0, n)
}

// add takes a transaction whose signature isn't known; hint may be nil.
func (v *verifier) add(c *CheckedTx, slot int, known func(LeafHash) bool, hint *[HintSize]byte) {
	if known != nil && known(c.leaf) {
		return
	}
	v.items = append(v.items, bip340.Item{Pub: (*[32]byte)(&c.tx.From), Msg: c.id[:], Sig: &c.tx.Signature, RY: hint})
	v.of = append(v.of, c)
	v.slot = append(v.slot, slot)
}

// leastBatch is how many signatures are worth a core: two halves of fewer cost a tenth more than the whole.
const leastBatch = 256

// blame writes an error into the slot of every item whose signature is invalid; the first of a slot stands.
func (v *verifier) blame(workers int, errs []error) {
	workers = min(workers, (len(v.items)+leastBatch-1)/leastBatch)
	bad := make([][]int, workers)
	parallel(workers, workers, func(w int) {
		lo, hi := w*len(v.items)/workers, (w+1)*len(v.items)/workers
		bad[w] = v.keys.Invalid(v.items[lo:hi])
		for i := range bad[w] {
			bad[w][i] += lo
		}
	})
	for _, i := range slices.Concat(bad...) {
		if c := v.of[i]; errs[v.slot[i]] == nil {
			errs[v.slot[i]] = ruleError(ErrSignature, "signature of %s by %s does not verify", c.id, c.tx.From)
		}
	}
}

// parallel runs f(0..n−1) on so many goroutines and returns when all are done.
func parallel(workers, n int, f func(i int)) {
	if n <= 1 || workers <= 1 {
		for i := range n {
			f(i)
		}
		return
	}
	var wg sync.WaitGroup
	workers = min(n, workers)
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				f(i)
			}
		})
	}
	wg.Wait()
}

package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/pprof"
	"time"

	"quipu/chain"
	"quipu/chain/ledger"
	"quipu/mempool"
	"quipu/node"
)

// Reorg describes two chains from one fork: A, and B with one block and so some work more. Senders of A are the
// accounts of even number, those of B the others, so that every transaction of A may come back into the pool.
type Reorg struct {
	Depth    int    `json:"depth"`    // blocks of A above the fork; B has one more
	Txs      int    `json:"txs"`      // in each block
	Accounts int    `json:"accounts"` // in genesis
	Seed     uint64 `json:"seed"`
}

// reorgBase is how many blocks lie below the fork.
const reorgBase = 4

// Validate says what can't be made.
func (r *Reorg) Validate() error {
	if r.Depth < 1 || r.Depth > ledger.DefaultUndoKeep {
		return fmt.Errorf("depth %d: 1 to %d are possible", r.Depth, ledger.DefaultUndoKeep)
	}
	if r.Accounts < 2 {
		return fmt.Errorf("%d accounts: at least 2, one for each chain", r.Accounts)
	}
	c := r.chain()
	return c.Validate()
}

func (r *Reorg) chain() Chain {
	return Chain{Blocks: reorgBase + r.Depth + 1, Txs: r.Txs, Accounts: r.Accounts, Seed: r.Seed}
}

// Branches are the chains, in memory.
type Branches struct {
	Genesis *chain.Genesis
	Base    []chain.Block // up to the fork
	A, B    []chain.Block
}

// Make makes them. progress may be nil.
func (r Reorg) Make(ctx context.Context, progress func(done, total uint64)) (*Branches, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	out := &Branches{}
	done, total := 0, 2*(reorgBase+r.Depth)+1
	for side, n := range []int{r.Depth, r.Depth + 1} {
		m, err := newChainMaker(r.chain())
		if err != nil {
			return nil, err
		}
		var blocks []chain.Block
		for i := range reorgBase + n {
			if i == reorgBase { // the blocks before are the same on both sides
				m.sent, m.first, m.every, m.extra = 0, side, 2, 1000
				m.drawn = rand.New(rand.NewPCG(r.Seed, uint64(2+side)))
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			b, err := m.next()
			if err != nil {
				return nil, err
			}
			blocks = append(blocks, b)
			if done++; progress != nil {
				progress(uint64(done), uint64(total))
			}
		}
		if side == 0 {
			out.Genesis, out.Base, out.A = m.g, blocks[:reorgBase], blocks[reorgBase:]
		} else {
			out.B = blocks[reorgBase:]
		}
	}
	return out, nil
}

// ReorgRun is one measurement. Times in seconds.
type ReorgRun struct {
	// ReorgS runs from the moment when all bodies of B but its first are stored and checked until the tip is durable and
	// the pool updated: the first body is checked and stored in it.
	ReorgS float64 `json:"reorg_s"`
	// WithSignaturesS is the same with no body of B stored or checked before, headers only.
	WithSignaturesS float64 `json:"with_signatures_s"`

	RevertS float64            `json:"revert_s"` // parts of ReorgS
	ApplyS  float64            `json:"apply_s"`
	PoolS   float64            `json:"pool_s"`
	Stages  map[string]float64 `json:"stages_s"` // of ReorgS, see node.StageSeconds
	// Signatures tells what WithSignaturesS took in checking, summed over cores.
	VerifyS float64 `json:"verify_cpu_s"`

	Reverted  int     `json:"reverted_txs"`
	Returned  int     `json:"returned_txs"` // are pending in the pool after
	PoolMB    float64 `json:"pool_mb"`
	PoolCapMB float64 `json:"pool_cap_mb"`
	BestFirst bool    `json:"best_first"` // the pool's candidates are in falling order of fee rate
	PeakRSSMB float64 `json:"peak_rss_mb"`
}

// ReorgResult is the run with the median time, and all runs.
type ReorgResult struct {
	Header
	Chains Reorg `json:"chains"`
	ReorgRun
	Runs []ReorgRun `json:"runs"`
}

// Choose fills in the run with the median time.
func (r *ReorgResult) Choose() {
	var times []float64
	for i := range r.Runs {
		times = append(times, r.Runs[i].ReorgS)
	}
	middle := Median(times)
	for i := range r.Runs {
		if r.Runs[i].ReorgS == middle {
			r.ReorgRun = r.Runs[i]
			return
		}
	}
}

// RunReorg measures one reorg of each kind, each on a fresh node with default settings whose data is below dir.
// profile may name a file for a CPU profile of the first.
func RunReorg(b *Branches, dir, profile string) (r ReorgRun, err error) {
	for _, stored := range []bool{true, false} {
		if err := r.once(b, dir, profile, stored); err != nil {
			return r, err
		}
	}
	r.PeakRSSMB = peakRSS()
	return r, nil
}

func (r *ReorgRun) once(b *Branches, dir, profile string, stored bool) (err error) {
	data, err := os.MkdirTemp(dir, "quipu-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(data)
	n, err := node.Offline(node.Config{DataDir: data, Genesis: b.Genesis})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	if err := give(n, b.Base, b.A); err != nil {
		return err
	}
	headers := make([]chain.Header, len(b.B))
	for i := range b.B {
		headers[i] = b.B[i].Header
	}
	if _, err := n.AddHeaders(headers); err != nil {
		return err
	}
	last := b.B
	if stored {
		if err := n.Import(b.B[1:]); err != nil {
			return err
		}
		last = b.B[:1]
	}
	if tip := n.Tip().ID; tip != b.A[len(b.A)-1].Header.ID() {
		return errors.New("the chain moved before all was there")
	}
	if stored && profile != "" {
		p, err := os.Create(profile)
		if err != nil {
			return err
		}
		defer p.Close()
		if err := pprof.StartCPUProfile(p); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	before := n.StageSeconds()
	start := time.Now()
	err = n.Import(last)
	took := time.Since(start).Seconds()
	if err != nil {
		return err
	}
	if tip := n.Tip().ID; tip != b.B[len(b.B)-1].Header.ID() {
		return errors.New("the heavier chain wasn't followed")
	}
	spent := n.StageSeconds()
	for name := range spent {
		spent[name] -= before[name]
	}
	if !stored {
		r.WithSignaturesS, r.VerifyS = took, spent["verify"]+spent["decode"]
		return nil
	}
	r.ReorgS, r.Stages = took, spent
	r.RevertS, r.ApplyS, r.PoolS = spent["revert"], spent["forward"], spent["pool"]
	for i := range b.A {
		r.Reverted += int(b.A[i].Header.TxCount)
	}
	pool := n.Pool()
	s := pool.Stats()
	r.Returned, r.PoolMB, r.PoolCapMB = s.Txs, float64(s.Bytes)/1e6, float64(mempool.DefaultConfig().MaxBytes)/1e6
	r.BestFirst = bestFirst(pool.Candidates(s.Bytes))
	return nil
}

// give feeds blocks as sync does: headers, then bodies.
func give(n *node.Node, parts ...[]chain.Block) error {
	for _, blocks := range parts {
		headers := make([]chain.Header, len(blocks))
		for i := range blocks {
			headers[i] = blocks[i].Header
		}
		if _, err := n.AddHeaders(headers); err != nil {
			return err
		}
		if err := n.Import(blocks); err != nil {
			return err
		}
	}
	return nil
}

// bestFirst reports whether effective fee rates fall: that of a transaction is the lowest of its account's up to it.
func bestFirst(txs []chain.CheckedTx) bool {
	type rate struct{ fee, size uint64 }
	floors := map[chain.Account]rate{}
	last := rate{1, 0}
	for i := range txs {
		t := txs[i].Tx()
		r := rate{t.Fee, uint64(len(txs[i].Raw()))}
		if f, ok := floors[t.From]; ok && f.fee*r.size < r.fee*f.size {
			r = f
		}
		floors[t.From] = r
		if r.fee*last.size > last.fee*r.size {
			return false
		}
		last = r
	}
	return true
}

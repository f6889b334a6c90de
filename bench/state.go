package bench

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	"quipu/chain/statetree"
)

// State says what `quipu bench state` measures: the tree of accounts, in memory.
type State struct {
	Accounts int // in the tree
	Updates  int // accounts changed at once, drawn from all
	Proofs   int // made and verified a run
	Leaves   int // in a range answer
	Runs     int // of which the median counts
}

// Validate says what can't be measured.
func (s *State) Validate() error {
	for _, v := range []struct {
		name       string
		value, max int
	}{
		{"accounts", s.Accounts, 100_000_000},
		{"updates", s.Updates, 10_000_000},
		{"proofs", s.Proofs, 1_000_000},
		{"leaves", s.Leaves, statetree.MaxRangeLeaves},
		{"runs", s.Runs, 1000},
	} {
		if v.value < 1 || v.value > v.max {
			return fmt.Errorf("%d %s: 1 to %d are possible", v.value, v.name, v.max)
		}
	}
	return nil
}

// StateResult has medians, and all runs behind them. Path hashing is part of an update. A worker is a core that Go may use.
type StateResult struct {
	Header
	Accounts int    `json:"accounts"`
	Updates  int    `json:"updates"` // a batch
	Root     string `json:"root"`    // after the last run, the same by one worker, by two and from the leaves alone

	Build           float64 `json:"build_s"`           // seconds to add all accounts to an empty tree, on all cores
	BytesAnAccount  float64 `json:"bytes_an_account"`  // of heap
	UpdatesPerS     float64 `json:"updates_per_s"`     // two workers
	UpdatesPerSOne  float64 `json:"updates_per_s_one"` // one worker
	UpdateCPU       float64 `json:"update_cpu_us"`     // microseconds of the process an update, two workers; other programs don't add to it
	UpdateCPUOne    float64 `json:"update_cpu_us_one"` // one worker
	RootOfPerS      float64 `json:"root_of_per_s"`     // leaves a second, root from the leaves alone, on all cores
	ProofBytes      float64 `json:"proof_bytes"`       // mean, of members
	ProofBytes999   float64 `json:"proof_bytes_p999"`  // one in a thousand is longer
	ProofBytesMax   int     `json:"proof_bytes_max"`   // the longest met
	Prove           float64 `json:"prove_us"`
	VerifyProof     float64 `json:"verify_us"` // decoding included
	AbsentBytes     float64 `json:"absent_proof_bytes"`
	AbsentBytesMax  int     `json:"absent_proof_bytes_max"`
	VerifyAbsent    float64 `json:"absent_verify_us"`
	RangeLeaves     int     `json:"range_leaves"`      // in an answer
	RangeBytes      float64 `json:"range_bytes"`       // of an answer, mean
	RangeProofBytes float64 `json:"range_proof_bytes"` // of that beside the leaves
	RangeMake       float64 `json:"range_make_us_a_leaf"`
	RangeVerify     float64 `json:"range_verify_us_a_leaf"` // decoding included, one core

	// On disk, with a journal and pages; and opened again after kill -9 with the pages as far behind as they get.
	PerSCommitted float64   `json:"updates_per_s_committed"`
	BytesAnUpdate float64   `json:"bytes_written_an_update"` // journal and pages, before Badger's own
	OpenAfterKill float64   `json:"open_after_kill_s"`
	Stored        *Stored   `json:"stored,omitempty"`
	Reopened      *Reopened `json:"reopened,omitempty"`

	Runs map[string][]float64 `json:"runs"` // by name of the figure, in the order measured
}

// stateBench is one measurement on its way.
type stateBench struct {
	State
	r     *StateResult
	rand  *rand.Rand
	tree  *statetree.Tree
	nonce uint64
}

// RunState measures; progress may be nil.
func RunState(ctx context.Context, s State, progress func(done, total uint64)) (*StateResult, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	b := &stateBench{State: s, rand: rand.New(rand.NewPCG(1, 2)), r: &StateResult{
		Header: NewHeader("quipu.bench.state/v1"), Accounts: s.Accounts, Updates: s.Updates, Runs: map[string][]float64{},
	}}
	steps, done := uint64(4*s.Runs+1), uint64(0)
	step := func(f func() error) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		runtime.GC()
		if err := f(); err != nil {
			return err
		}
		if done++; progress != nil {
			progress(done, steps)
		}
		return nil
	}
	if err := step(b.build); err != nil {
		return nil, err
	}
	for range s.Runs {
		for _, f := range []func() error{b.update, b.members, b.absent, b.ranges} {
			if err := step(f); err != nil {
				return nil, err
			}
		}
	}
	return b.r, b.finish()
}

func benchAccount(i int) (a [32]byte) {
	binary.LittleEndian.PutUint64(a[:], uint64(i))
	return a
}

// build adds the accounts, in batches as a ledger would on opening.
func (b *stateBench) build() error {
	var before, after runtime.MemStats
	runtime.GC() // a second time: what pools kept goes only now
	runtime.ReadMemStats(&before)
	b.tree = statetree.New()
	changes := make([]statetree.Change, 0, min(b.Accounts, 100_000))
	start := time.Now()
	for i := range b.Accounts {
		changes = append(changes, statetree.Change{Leaf: statetree.Leaf{Account: benchAccount(i), Balance: uint64(i) + 1}})
		if len(changes) == cap(changes) || i == b.Accounts-1 {
			b.tree.Update(changes)
			changes = changes[:0]
		}
	}
	b.r.Build = round2(time.Since(start).Seconds())
	changes = nil
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.r.BytesAnAccount = round2(float64(int64(after.HeapAlloc)-int64(before.HeapAlloc)) / float64(b.Accounts))
	return nil
}

// update changes the same accounts with one worker and, after taking it back, with two.
func (b *stateBench) update() error {
	changes := make([]statetree.Change, b.Updates)
	back := make([]statetree.Change, b.Updates)
	for i := range changes {
		a := benchAccount(b.rand.IntN(b.Accounts))
		b.nonce++
		back[i].Leaf, _ = b.tree.Get(a)
		changes[i].Leaf = statetree.Leaf{Account: a, Balance: b.rand.Uint64() | 1, Nonce: b.nonce}
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	var roots [2]statetree.Hash
	for workers := 1; workers <= 2; workers++ {
		old := b.tree.Root()
		runtime.GOMAXPROCS(workers)
		user, system := cpuTime()
		start := time.Now()
		roots[workers-1] = b.tree.Update(changes)
		wall := time.Since(start).Seconds()
		u, s := cpuTime()
		name := []string{"_one", ""}[workers-1]
		b.note("updates_per_s"+name, math.Round(float64(b.Updates)/wall))
		b.note("update_cpu_us"+name, (u-user+s-system)*1e6/float64(b.Updates))
		if workers == 1 && b.tree.Update(back) != old {
			return fmt.Errorf("taking changes back does not give the root before them")
		}
	}
	if roots[0] != roots[1] {
		return fmt.Errorf("one worker gives root %x, two give %x", roots[0], roots[1])
	}
	return nil
}

func (b *stateBench) members() error {
	leaves := make([]statetree.Leaf, b.Proofs)
	for i := range leaves {
		leaves[i], _ = b.tree.Get(benchAccount(b.rand.IntN(b.Accounts)))
	}
	start := time.Now()
	encoded := make([][]byte, b.Proofs)
	for i := range leaves {
		encoded[i] = b.tree.Prove(leaves[i].Account).Append(nil)
	}
	b.noteEach("prove_us", start, b.Proofs)
	b.note("proof_bytes", meanSize(encoded, &b.r.ProofBytesMax))
	sizes := make([]int, len(encoded))
	for i := range encoded {
		sizes[i] = len(encoded[i])
	}
	slices.Sort(sizes)
	b.note("proof_bytes_p999", float64(sizes[(len(sizes)-1)*999/1000]))
	root := b.tree.Root()
	start = time.Now()
	for i := range leaves {
		p, err := statetree.DecodeProof(encoded[i])
		if err == nil {
			err = statetree.VerifyMember(root, leaves[i], p)
		}
		if err != nil {
			return err
		}
	}
	b.noteEach("verify_us", start, b.Proofs)
	return nil
}

func (b *stateBench) absent() error {
	encoded := make([][]byte, b.Proofs)
	for i := range encoded {
		encoded[i] = b.tree.Prove(benchAccount(b.Accounts + i)).Append(nil)
	}
	b.note("absent_proof_bytes", meanSize(encoded, &b.r.AbsentBytesMax))
	root := b.tree.Root()
	start := time.Now()
	for i := range encoded {
		p, err := statetree.DecodeProof(encoded[i])
		if err == nil {
			err = statetree.VerifyAbsent(root, benchAccount(b.Accounts+i), p)
		}
		if err != nil {
			return err
		}
	}
	b.noteEach("absent_verify_us", start, b.Proofs)
	return nil
}

// ranges asks for answers from random paths on.
func (b *stateBench) ranges() error {
	to := statetree.Hash{}
	for i := range to {
		to[i] = 255
	}
	root := b.tree.Root()
	var size, leaves int
	var making, verifying time.Duration
	n := max(1, 65536/b.Leaves)
	for range n {
		from := statetree.PathOf(benchAccount(b.rand.IntN(b.Accounts)))
		from[0] /= 2 // in the lower half, so that there are leaves enough above it
		start := time.Now()
		list, p := b.tree.Range(from, to, b.Leaves)
		answer := statetree.AppendRange(nil, list, p)
		making += time.Since(start)
		start = time.Now()
		list, p, err := statetree.DecodeRange(answer)
		if err == nil {
			_, err = statetree.VerifyRange(root, from, to, list, p)
		}
		if err != nil {
			return err
		}
		verifying += time.Since(start)
		size += len(answer)
		leaves += len(list)
	}
	b.r.RangeLeaves = leaves / n
	b.note("range_bytes", float64(size)/float64(n))
	b.note("range_proof_bytes", float64(size-leaves*statetree.LeafSize)/float64(n))
	b.note("range_make_us_a_leaf", float64(making.Nanoseconds())/1000/float64(max(1, leaves)))
	b.note("range_verify_us_a_leaf", float64(verifying.Nanoseconds())/1000/float64(max(1, leaves)))
	return nil
}

// finish computes the root from the leaves alone, and the medians.
func (b *stateBench) finish() error {
	leaves := make([]statetree.Leaf, b.Accounts)
	for i := range leaves {
		leaves[i], _ = b.tree.Get(benchAccount(i))
	}
	start := time.Now()
	root := statetree.RootOf(leaves)
	b.r.RootOfPerS = math.Round(float64(b.Accounts) / time.Since(start).Seconds())
	if root != b.tree.Root() {
		return fmt.Errorf("the leaves alone give root %x, the updates gave %x", root, b.tree.Root())
	}
	b.r.Root = hex.EncodeToString(root[:])
	for name, to := range map[string]*float64{
		"updates_per_s": &b.r.UpdatesPerS, "updates_per_s_one": &b.r.UpdatesPerSOne,
		"update_cpu_us": &b.r.UpdateCPU, "update_cpu_us_one": &b.r.UpdateCPUOne,
		"proof_bytes": &b.r.ProofBytes, "proof_bytes_p999": &b.r.ProofBytes999, "prove_us": &b.r.Prove, "verify_us": &b.r.VerifyProof,
		"absent_proof_bytes": &b.r.AbsentBytes, "absent_verify_us": &b.r.VerifyAbsent,
		"range_bytes": &b.r.RangeBytes, "range_proof_bytes": &b.r.RangeProofBytes,
		"range_make_us_a_leaf": &b.r.RangeMake, "range_verify_us_a_leaf": &b.r.RangeVerify,
	} {
		*to = Median(b.r.Runs[name])
	}
	return nil
}

// Keep takes over what was measured on disk.
func (r *StateResult) Keep(s Stored, o Reopened) error {
	r.Stored, r.Reopened = &s, &o
	r.PerSCommitted, r.BytesAnUpdate, r.OpenAfterKill = s.PerS, round2(s.JournalBytes+s.PageBytes), o.OpenS
	if s.Root != o.Root || s.Behind != o.Behind {
		return fmt.Errorf("after kill -9 the store has root %s, %d accounts behind; it had %s, %d", o.Root, o.Behind, s.Root, s.Behind)
	}
	return nil
}

func (b *stateBench) note(name string, v float64) {
	b.r.Runs[name] = append(b.r.Runs[name], round2(v))
}

func (b *stateBench) noteEach(name string, start time.Time, n int) {
	b.note(name, float64(time.Since(start).Nanoseconds())/1000/float64(n))
}

// meanSize is the mean length, and raises most to the greatest.
func meanSize(list [][]byte, most *int) float64 {
	sum := 0
	for _, b := range list {
		sum += len(b)
		*most = max(*most, len(b))
	}
	return float64(sum) / float64(len(list))
}

package bench

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"quipu/chain"
	"quipu/chain/ledger"
	"quipu/chain/statetree"
)

// Stored is what the accounts' part of a ledger does on disk: a tree in pages, and a journal. Times in seconds.
type Stored struct {
	Accounts int     `json:"accounts"`
	Updates  int     `json:"updates"` // a batch, drawn from all accounts: one durable commit each
	MemoryMB float64 `json:"state_memory_mb"`

	FillS       float64   `json:"fill_s"`                  // making the store
	PerS        float64   `json:"updates_per_s_committed"` // pages written behind, included
	PerSRuns    []float64 `json:"updates_per_s_committed_runs"`
	UpdatesDone int       `json:"updates_done"`
	LongestMS   float64   `json:"longest_commit_ms"` // of a batch, with the slice of pages after it
	// Bytes an update, as given to the store: journal and pages. Disk has what the process wrote to files in all,
	// Badger's log and compaction among it.
	JournalBytes float64 `json:"journal_bytes_an_update"`
	PageBytes    float64 `json:"page_bytes_an_update"`
	DiskBytes    float64 `json:"disk_bytes_an_update"`
	InMemoryMB   float64 `json:"tree_in_memory_mb"` // at the end
	PeakRSSMB    float64 `json:"peak_rss_mb"`

	Behind int    `json:"accounts_behind"` // that the pages don't have, when it is ready to be killed
	Root   string `json:"root"`
}

// Reopened is an open of a store whose process was killed.
type Reopened struct {
	OpenS     float64 `json:"open_s"`
	Behind    int     `json:"accounts_behind"`
	Root      string  `json:"root"`
	PeakRSSMB float64 `json:"peak_rss_mb"`
}

// RunStored makes a store in dir, measures, and leaves it as far behind as a ledger ever is, for the process to be
// killed. It is to be run in a process of its own.
func RunStored(ctx context.Context, s State, dir string, memory int64, progress func(done, total uint64)) (r Stored, err error) {
	r = Stored{Accounts: s.Accounts, Updates: s.Updates, MemoryMB: float64(memory) / 1e6}
	states, err := ledger.OpenStates(dir, memory)
	if err != nil {
		return r, err
	}
	start := time.Now()
	order := byPath(s.Accounts)
	for i := 0; i < s.Accounts; {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		var changes []statetree.Change
		for ; i < s.Accounts && len(changes) < 100_000; i++ {
			n := order[i].account
			changes = append(changes, statetree.Change{Leaf: statetree.Leaf{Account: benchAccount(n), Balance: uint64(n) + 1}})
		}
		if err := states.Fill(changes); err != nil {
			return r, err
		}
		progress(uint64(i), uint64(s.Accounts))
	}
	order = nil
	if err := states.Settle(); err != nil {
		return r, err
	}
	r.FillS = round2(time.Since(start).Seconds())

	draw := rand.New(rand.NewPCG(3, 4))
	batch := func() []statetree.Change {
		changes := make([]statetree.Change, s.Updates)
		for i := range changes {
			changes[i].Leaf = statetree.Leaf{Account: benchAccount(draw.IntN(s.Accounts)), Balance: draw.Uint64() | 1, Nonce: 1}
		}
		return changes
	}
	before, wrote := states.Timings(), bytesWritten()
	for range s.Runs { // each more than a journal holds, so that each has its share of pages to write
		n := 0
		spent := time.Duration(0)
		for n < 600_000 {
			if err := ctx.Err(); err != nil {
				return r, err
			}
			changes := batch()
			start := time.Now()
			if err := states.Apply(changes, false); err != nil {
				return r, err
			}
			took := time.Since(start)
			spent += took
			r.LongestMS = max(r.LongestMS, round2(took.Seconds()*1000))
			n += len(changes)
		}
		r.UpdatesDone += n
		r.PerSRuns = append(r.PerSRuns, math.Round(float64(n)/spent.Seconds()))
	}
	r.PerS = Median(r.PerSRuns)
	after := states.Timings()
	done := float64(r.UpdatesDone)
	r.JournalBytes = round2(float64(after.JournalBytes-before.JournalBytes) / done)
	r.PageBytes = round2(float64(after.PageBytes-before.PageBytes) / done)
	r.DiskBytes = round2(float64(bytesWritten()-wrote) / done)
	r.InMemoryMB = round2(float64(states.InMemory()) / 1e6)
	r.PeakRSSMB = peakRSS()
	if err := states.Settle(); err != nil {
		return r, err
	}
	for states.Behind()+s.Updates <= ledger.JournalAccounts { // a journal as full as it gets
		if err := states.Apply(batch(), true); err != nil {
			return r, err
		}
	}
	root := states.Root()
	r.Behind, r.Root = states.Behind(), hex.EncodeToString(root[:])
	return r, nil
}

// placed is an account and where it stands.
type placed struct {
	path    uint64
	account int
}

// byPath lists accounts as they stand in the tree, so that a store is filled page by page.
func byPath(n int) []placed {
	all := make([]placed, n)
	spread(n, func(i int) {
		p := statetree.PathOf(benchAccount(i))
		all[i] = placed{binary.BigEndian.Uint64(p[:]), i}
	})
	slices.SortFunc(all, func(a, b placed) int { return cmp.Compare(a.path, b.path) })
	return all
}

// RunReopen opens the store again and reads an account. It leaves it open, for the process to be killed.
func RunReopen(dir string, memory int64) (r Reopened, err error) {
	start := time.Now()
	states, err := ledger.OpenStates(dir, memory)
	if err != nil {
		return r, err
	}
	r.OpenS = round2(time.Since(start).Seconds())
	root := states.Root()
	r.Behind, r.Root = states.Behind(), hex.EncodeToString(root[:])
	if leaf, err := states.Get(chain.Account(benchAccount(0))); err != nil || leaf.Void() {
		return r, fmt.Errorf("account 0 can't be read: %v", err)
	}
	r.PeakRSSMB = peakRSS()
	return r, nil // not closed: that would tidy up for the next
}

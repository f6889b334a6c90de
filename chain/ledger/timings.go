package ledger

import "time"

// Timings are sums over all blocks applied so far, for benchmarks: wall time, and bytes.
type Timings struct {
	Bodies time.Duration // storing bodies
	Apply  time.Duration // reading accounts and applying transactions
	Root   time.Duration // the tree's update
	Encode time.Duration // undo, index and journal, into a transaction
	Commit time.Duration // of groups, until durable
	// History is batches of the account history index, until durable.
	History time.Duration
	Pages   time.Duration // writing pages behind, and letting go of them
	// Revert and Forward are all of reverting blocks and of applying them: Apply, Root, Encode and Commit among it,
	// what of Pages falls between, and reading what isn't at hand.
	Revert, Forward time.Duration

	JournalBytes, PageBytes, PagesWritten uint64 // what accounts took on the way to disk, before Badger's own
}

// Timings may be called at any time.
func (l *Ledger) Timings() Timings {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.times
}

// lap adds the time since *start to *sum and starts anew.
func lap(start *time.Time, sum *time.Duration) {
	now := time.Now()
	*sum += now.Sub(*start)
	*start = now
}

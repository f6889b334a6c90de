package ledger

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"quipu/chain"
)

// NodeMemTable is the memtable of an ordinary node, in bytes, where the network needs no larger one. Twice as much made
// no import faster and took 250 MB more.
const NodeMemTable = 64 << 20

// DefaultUndoKeep is how many blocks can be reverted, at least, unless a Config says otherwise.
const DefaultUndoKeep = 4096

// Config says where the ledger is and how much it may take.
type Config struct {
	Dir     string         // "" keeps everything in memory
	Genesis *chain.Genesis // Verify and Export take the stored one if nil
	// MemTable is Badger's memtable in bytes: at least MinMemTable, which is what 0 means. NodeMemTable writes
	// less often and suits a node that has the memory; test networks take 0.
	MemTable  int64
	FreeSpace func(dir string) (uint64, error) // nil asks the file system
	UndoKeep  int                              // blocks that can be reverted; 0 means DefaultUndoKeep, lower is for tests
	Prune     int                              // bodies kept, counted from the tip; 0 keeps all, else at least UndoKeep
	// Checkpoints name the only block that is followed at a height. Nothing of it is stored: it holds while it is given.
	Checkpoints map[uint64]chain.BlockID
	MinWork     chain.Work   // a new header of less work is not stored, see WorkFloor
	History     bool         // keep the account history index, see history.go
	StateMemory int64        // bytes that accounts and hashes in memory may take; 0 means the constant of that name
	Log         *slog.Logger // Badger's warnings and errors; nil is silent

	readOnly    bool         // tools that only look: Badger's files stay as they are, unless it has a crash to mend
	afterCommit func()       // tests: called after each committed transaction
	failCommit  func() error // tests: asked before each transaction is committed; an error is the store's
	levelZero   int          // tables that Badger gathers before it compacts them; 0 is its default
	lean        bool         // tools that make room: they write little, so they need little, and nothing is compacted beside
	pruneStep   int          // tests: most bodies removed in one transaction; 0 is no limit but the store's
	maxChange   int64        // tests: bytes of bodies in one Change; 0 means maxChange
	groupBlocks int          // tests: most blocks in one transaction; 0 is no limit but the store's
	historyCut  int          // tests: records of it in one transaction; 0 is as many as fit
	historySpan int          // tests: blocks in a batch of the history index; 0 means historySpan
	pinEvery    int          // see PinEvery
	loadPart    int          // tests: bytes of a snapshot's pages written at once; 0 means loadPart
	behind      int          // tests: accounts in the journal from which it is written out; 0 means JournalAccounts
}

// MinMemTable is the least memtable for a network: 32 × body_limit, so that the worst block (outputs to new accounts
// only) takes about half of what one Badger transaction may hold, and 8 MiB, below which Badger would refuse the
// value threshold.
func MinMemTable(g *chain.Genesis) int64 { return max(32*int64(g.BodyLimit), 8<<20) }

// Validate fills in defaults and says what is wrong.
func (c *Config) Validate() error {
	if c.Genesis == nil {
		return errors.New("ledger: no genesis given")
	}
	if id, ok := c.Checkpoints[0]; ok && id != c.Genesis.State().ID {
		return fmt.Errorf("ledger: checkpoint %s at height 0 isn't this network's block 0, %s", id, c.Genesis.State().ID)
	}
	return c.defaults()
}

func (c *Config) defaults() error {
	least := int64(8 << 20) // without a genesis nothing is written
	if c.Genesis != nil {
		least = MinMemTable(c.Genesis)
	}
	if c.MemTable == 0 {
		c.MemTable = least
	}
	if c.MemTable < least || c.MemTable > 1<<30 {
		return fmt.Errorf("ledger: memtable of %d bytes, want %d to %d for this network", c.MemTable, least, 1<<30)
	}
	if c.UndoKeep == 0 {
		c.UndoKeep = DefaultUndoKeep
	}
	if c.UndoKeep < 1 {
		return fmt.Errorf("ledger: undo of %d blocks, want at least 1", c.UndoKeep)
	}
	if c.Prune < 0 || c.Prune > 0 && c.Prune < c.UndoKeep {
		return fmt.Errorf("ledger: pruning to %d bodies, want at least %d, or 0 to keep all", c.Prune, c.UndoKeep)
	}
	if c.StateMemory == 0 {
		c.StateMemory = StateMemory
	}
	if c.StateMemory < 1<<20 {
		return fmt.Errorf("ledger: %d bytes of memory for accounts, want at least %d", c.StateMemory, 1<<20)
	}
	if c.behind == 0 {
		c.behind = JournalAccounts
	}
	if c.historySpan == 0 {
		c.historySpan = historySpan
	}
	if c.loadPart == 0 {
		c.loadPart = loadPart
	}
	if c.maxChange == 0 {
		c.maxChange = maxChange
	}
	if c.FreeSpace == nil {
		c.FreeSpace = statfs
		if c.Dir == "" {
			c.FreeSpace = func(string) (uint64, error) { return 1 << 62, nil }
		}
	}
	return nil
}

// valueLog is the size of Badger's value log file. All our values stay below the threshold and so in the tables;
// one file exists nevertheless.
func (c *Config) valueLog() int64 { return min(c.MemTable, 128<<20) }

// needSpace is the watermark of free bytes below which nothing is written.
func (c *Config) needSpace() uint64 {
	limit := int64(chain.MaxBody)
	if c.Genesis != nil {
		limit = int64(c.Genesis.BodyLimit)
	}
	if c.lean || c.readOnly {
		return leanSpace
	}
	return uint64(max(512<<20, 2*c.MemTable+c.valueLog()+4*limit))
}

// leanSpace is enough for a few small transactions.
const leanSpace = 64 << 20

// checkSpace wants so many bytes more than the watermark.
func (c *Config) checkSpace(more uint64) error {
	free, err := c.FreeSpace(c.Dir)
	if err != nil {
		return fmt.Errorf("looking at free space: %w", err)
	}
	if need := c.needSpace() + more; free < need {
		return &LowSpaceError{Dir: c.Dir, Free: free, Need: need}
	}
	return nil
}

// openStore opens Badger. create makes a missing directory; without it a directory without a store is refused.
func openStore(c *Config, create bool) (*badger.DB, error) {
	if c.Dir != "" {
		if _, err := os.Stat(filepath.Join(c.Dir, badger.ManifestFilename)); err != nil && !create {
			return nil, fmt.Errorf("%w: %s has none; name a node's data directory, or start a node to make one", ErrNoLedger, c.Dir)
		}
		if err := os.MkdirAll(c.Dir, 0o700); err != nil {
			return nil, fmt.Errorf("making the ledger's directory: %w", err)
		}
	}
	o := c.badger()
	if c.readOnly && c.Dir != "" && !crashed(c.Dir) {
		o = o.WithReadOnly(true)
	} else if err := c.checkSpace(c.leftLogs()); err != nil {
		return nil, err
	}
	if c.Dir != "" {
		if err := c.lookAtFiles(); err != nil {
			return nil, err
		}
	}
	if left := leftMemTable(c.Dir); left > o.MemTableSize {
		o.MemTableSize = left
	}
	db, err := openBadger(o)
	switch {
	case err == nil:
		return db, nil
	case strings.Contains(err.Error(), "Cannot acquire directory lock"): // Badger wraps the cause as text only
		return nil, locked(c.Dir)
	case errors.Is(err, os.ErrPermission) || strings.Contains(err.Error(), "permission denied"):
		return nil, fmt.Errorf("%w: %s may not be read and written by this user; run as the user who owns it", ErrNoAccess, c.Dir)
	case strings.Contains(err.Error(), "read-only file system"):
		return nil, fmt.Errorf("%w: %s is on a file system that is mounted read-only; mount it for writing or copy the directory", ErrNoAccess, c.Dir)
	case strings.Contains(err.Error(), "too many open files"), strings.Contains(err.Error(), "no space left on device"), strings.Contains(err.Error(), "cannot allocate memory"):
		return nil, fmt.Errorf("opening the ledger in %s: %w", c.Dir, err)
	}
	return nil, cantOpen(c.Dir, err.Error())
}

// cantOpen is one sentence of what Badger says: "… err: … err: cause", with the file somewhere in it.
func cantOpen(dir, text string) error {
	what := dir
	if f := storeFile.FindString(text); f != "" {
		what = filepath.Join(dir, f)
	}
	parts := strings.Split(strings.Join(strings.Fields(text), " "), " err: ")
	return corrupt("%s does not open (%s)", what, parts[len(parts)-1])
}

var storeFile = regexp.MustCompile(`\d+\.(sst|vlog|mem)\b`)

// openBadger opens the store, again where a process was killed between making a log's file and giving it its length: the
// engine refuses such a file, having made an empty log of it.
func openBadger(o badger.Options) (*badger.DB, error) {
	for tries := 0; ; tries++ {
		db, err := badger.Open(o)
		if err == nil || tries == 2 || !strings.Contains(err.Error(), "Create a new file") { // ristretto's z.NewFile, wrapped as text
			return db, err
		}
	}
}

// crashed reports whether the last run ended without closing: a memtable's log is left.
func crashed(dir string) bool {
	logs, _ := filepath.Glob(filepath.Join(dir, "*.mem"))
	return len(logs) > 0
}

// leftLogs is what opening writes to put into tables what a run that ended without closing left in memtables' logs. A
// node's watermark holds it.
func (c *Config) leftLogs() uint64 {
	if !c.lean && !c.readOnly {
		return 0
	}
	logs, _ := filepath.Glob(filepath.Join(c.Dir, "*.mem"))
	return filesBytes(logs)
}

// leftMemTable is the memtable size of a run that ended without closing: Badger makes its log twice as long. Replaying
// it into a smaller one would abort the process, so Open takes the larger for this run.
func leftMemTable(dir string) (size int64) {
	if dir == "" {
		return 0
	}
	logs, _ := filepath.Glob(filepath.Join(dir, "*.mem"))
	for _, f := range logs {
		if info, err := os.Stat(f); err == nil {
			size = max(size, min(info.Size()/2, 1<<30))
		}
	}
	return size
}

func (c *Config) badger() badger.Options {
	cache := min(max(c.MemTable/2, 2<<20), 32<<20)
	o := badger.DefaultOptions(c.Dir)
	if c.MemTable >= NodeMemTable { // 640 MB of them, twice as much before writes wait
		o.NumLevelZeroTables = int(max(5, 640<<20/c.MemTable))
		o.NumLevelZeroTablesStall = 2 * o.NumLevelZeroTables
	}
	if c.levelZero > 0 {
		o.NumLevelZeroTables = c.levelZero
	}
	compactors := 2 // the fewest Badger allows, but for none
	if c.lean {
		compactors, o.NumLevelZeroTablesStall = 0, 1<<10 // no write waits for what isn't done
	}
	return o.
		WithInMemory(c.Dir == "").
		WithSyncWrites(true).
		WithDetectConflicts(false). // one writer, under the ledger's mutex
		WithNumVersionsToKeep(1).
		WithNumCompactors(compactors).
		WithMetricsEnabled(false).
		WithCompression(options.None). // hashes and signatures don't compress
		WithChecksumVerificationMode(options.OnBlockRead).
		WithBlockCacheSize(cache).
		WithIndexCacheSize(cache).
		WithMemTableSize(c.MemTable).
		WithNumMemtables(2).
		WithValueThreshold(1 << 20). // pieces are smaller: nothing lands in the value log
		WithValueLogFileSize(c.valueLog()).
		WithLogger(badgerLog{c.Log})
}

// badgerLog passes Badger's warnings and errors on.
type badgerLog struct{ log *slog.Logger }

func (l badgerLog) Errorf(format string, args ...any) {
	if l.log != nil {
		l.log.Error("badger", "text", strings.TrimSpace(fmt.Sprintf(format, args...)))
	}
}

func (l badgerLog) Warningf(format string, args ...any) {
	if l.log != nil {
		l.log.Warn("badger", "text", strings.TrimSpace(fmt.Sprintf(format, args...)))
	}
}

func (badgerLog) Infof(string, ...any)  {}
func (badgerLog) Debugf(string, ...any) {}

// batch collects writes of one Badger transaction and starts another when it is full: for writes that need no
// atomicity among each other. limit is 80 % of what Badger takes.
type batch struct {
	l     *Ledger
	txn   *badger.Txn
	room  int64 // bytes
	count int64
}

const entryOverhead = 16 // Badger counts 12; bytes

// begin starts a transaction, after a look at free space.
func (l *Ledger) begin() (*batch, error) {
	if l.broken != nil {
		return nil, l.broken
	}
	if err := l.cfg.checkSpace(0); err != nil {
		return nil, err
	}
	return &batch{l: l, txn: l.db.NewTransaction(true), room: l.db.MaxBatchSize() * 8 / 10, count: l.db.MaxBatchCount() * 8 / 10}, nil
}

func (b *batch) set(k, v []byte) error {
	b.spend(1, int64(len(k)+len(v)))
	return b.fail(b.txn.Set(k, v))
}

func (b *batch) delete(k []byte) error {
	b.spend(1, int64(len(k)))
	return b.fail(b.txn.Delete(k))
}

func (b *batch) spend(entries, bytes int64) {
	b.count -= entries
	b.room -= bytes + entries*entryOverhead
}

// fits reports whether so many more entries of so many bytes in all stay within 80 % of a transaction.
func (b *batch) fits(entries, bytes int64) bool {
	return entries <= b.count && bytes+entries*entryOverhead <= b.room
}

// fail makes an error of the store final: memory may be ahead of the disk, so nothing more is written.
func (b *batch) fail(err error) error {
	if err != nil {
		b.l.broken = fmt.Errorf("writing the ledger: %w", err)
		return b.l.broken
	}
	return nil
}

func (b *batch) commit() error {
	if b.l.cfg.failCommit != nil {
		if err := b.fail(b.l.cfg.failCommit()); err != nil {
			return err
		}
	}
	if err := b.fail(b.txn.Commit()); err != nil {
		return err
	}
	if b.l.cfg.afterCommit != nil {
		b.l.cfg.afterCommit()
	}
	return nil
}

func (b *batch) discard() { b.txn.Discard() }

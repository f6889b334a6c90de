package ledger

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/fb"
)

// What Badger v4.9.6 does with damaged files, and why they are looked at here:
//   - a table whose footer isn't whole makes it panic on a goroutine of its own (table.initBiggestAndSmallest);
//   - tables that a MANIFEST with a cut end doesn't name are removed when it opens (revertToManifest);
//   - a block with a wrong checksum counts as the end of its table, for a reader and for compaction, which then drops
//     what stands behind it (table.Iterator, subcompact); DB.VerifyChecksum dereferences nil there.

// tornDir is where tables are kept that a cut MANIFEST doesn't name.
const tornDir = "torn"

// lookAtFiles refuses a store that Badger would die from or make worse. It changes nothing but that it keeps a second
// name of tables that Badger is going to remove and that may hold something.
func (c *Config) lookAtFiles() error {
	err := c.inspect()
	if errors.Is(err, ErrCorrupt) && lockHeld(c.Dir) {
		return locked(c.Dir) // what is being written may look like anything
	}
	return err
}

func (c *Config) inspect() error {
	manifest := filepath.Join(c.Dir, badger.ManifestFilename)
	f, err := os.Open(manifest)
	if err != nil {
		return nil // there is none, or Badger says what is wrong
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil
	}
	m, whole, err := badger.ReplayManifestFile(f, 0, c.badger())
	if err != nil {
		return nil // Badger ends with the same error and has touched nothing then
	}
	files, err := filepath.Glob(filepath.Join(c.Dir, "*.sst"))
	if err != nil {
		return nil
	}
	var unnamed []string
	for _, name := range files {
		id, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(name), ".sst"), 10, 64)
		if err != nil {
			continue
		}
		if _, ok := m.Tables[id]; !ok {
			unnamed = append(unnamed, name)
			continue
		}
		t, err := openTable(name)
		if err != nil {
			return err
		}
		t.Close()
	}
	if whole == info.Size() || len(unnamed) == 0 {
		return nil
	}
	// A crash while the MANIFEST grows leaves a memtable's log behind, with all that the tables it doesn't name yet hold.
	if !crashed(c.Dir) {
		return corrupt("%s ends in the middle of a record and names %d of %d tables; nothing was touched", manifest, len(m.Tables), len(files))
	}
	return c.keepTorn(manifest, unnamed)
}

// keepTorn gives tables a second name in tornDir and copies the MANIFEST there, which Badger is going to cut.
func (c *Config) keepTorn(manifest string, tables []string) error {
	dir := filepath.Join(c.Dir, tornDir)
	err := os.MkdirAll(dir, 0o700)
	for _, f := range tables {
		if lerr := os.Link(f, filepath.Join(dir, filepath.Base(f))); lerr != nil && !errors.Is(lerr, os.ErrExist) {
			err = errors.Join(err, lerr)
		}
	}
	b, rerr := os.ReadFile(manifest) // Badger rewrites it before it grows large
	if err = errors.Join(err, rerr); err == nil {
		err = os.WriteFile(filepath.Join(dir, badger.ManifestFilename), b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("keeping what a cut MANIFEST doesn't name: %w", err)
	}
	if c.Log != nil {
		c.Log.Warn("the MANIFEST ends in the middle of a record; tables it doesn't name are kept, remove them when the node is well", "dir", dir)
	}
	return nil
}

// tableFile is a table of Badger's: blocks | index | index length u32 | checksum | checksum length u32, big-endian
// (table/builder.go).
type tableFile struct {
	*os.File
	start, size int64 // of the index
	sum         []byte
	index       *fb.TableIndex // nil before readIndex
}

// openTable reads a table's footer.
func openTable(name string) (*tableFile, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("opening the ledger: %w", err)
	}
	t := &tableFile{File: f}
	if err := t.readFooter(); err != nil {
		f.Close()
		return nil, corrupt("table %s %v", name, err)
	}
	return t, nil
}

func (t *tableFile) readFooter() error {
	info, err := t.Stat()
	if err != nil {
		return err
	}
	at := info.Size()
	back := func(n int64) ([]byte, error) {
		if at -= n; at < 0 || n > 32 {
			return nil, errors.New("has no whole footer")
		}
		b := make([]byte, n)
		_, err := t.ReadAt(b, at)
		return b, err
	}
	length := func() (int64, error) {
		b, err := back(4)
		if err != nil {
			return 0, err
		}
		return int64(be.Uint32(b)), nil
	}
	n, err := length()
	if err != nil {
		return err
	}
	if t.sum, err = back(n); err != nil {
		return err
	}
	if _, ok := sumOf(t.sum); !ok {
		return errors.New("has no checksum of its index")
	}
	if t.size, err = length(); err != nil {
		return err
	}
	if t.start = at - t.size; t.start < 0 || t.size < 16 || t.size > 1<<30 {
		return errors.New("has no whole index")
	}
	return nil
}

// readIndex reads what says where the blocks are.
func (t *tableFile) readIndex() error {
	b := make([]byte, t.size)
	if _, err := t.ReadAt(b, t.start); err != nil {
		return err
	}
	if !sumFits(b, t.sum) {
		return corrupt("table %s has an index with a wrong checksum", t.Name())
	}
	t.index = fb.GetRootAsTableIndex(b, 0)
	return nil
}

// damaged counts the blocks whose checksum is wrong.
func (t *tableFile) damaged() (n int, err error) {
	if err := t.readIndex(); err != nil {
		return 0, err
	}
	var o fb.BlockOffset
	var b []byte
	for i := range t.index.OffsetsLength() {
		if !t.index.Offsets(&o, i) || int64(o.Offset())+int64(o.Len()) > t.start {
			n++
			continue
		}
		b = slices.Grow(b[:0], int(o.Len()))[:o.Len()]
		if _, err := t.ReadAt(b, int64(o.Offset())); err != nil {
			return n, err
		}
		if !blockFits(b) {
			n++
		}
	}
	return n, nil
}

// blockFits: entries | their offsets u32 each | how many u32 | checksum | its length u32. The checksum is of all
// before it.
func blockFits(b []byte) bool {
	if len(b) < 8 {
		return false
	}
	n, b := int(be.Uint32(b[len(b)-4:])), b[:len(b)-4]
	if n > 32 || n > len(b)-4 {
		return false
	}
	sum, b := b[len(b)-n:], b[:len(b)-n]
	return int(be.Uint32(b[len(b)-4:])) <= len(b)/4-1 && sumFits(b, sum)
}

// sumOf reads a pb.Checksum: field 1, the algorithm, is left out where it is CRC-32C, as for all our tables; field 2 is
// the sum, left out where it is 0.
func sumOf(sum []byte) (want uint64, ok bool) {
	if len(sum) == 0 {
		return 0, true
	}
	v, n := binary.Uvarint(sum[1:])
	return v, sum[0] == 2<<3 && n > 0 && 1+n == len(sum)
}

func sumFits(b, sum []byte) bool {
	want, ok := sumOf(sum)
	return ok && uint64(crc32.Checksum(b, castagnoli)) == want
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// damagedTables reads every block of every table. It names the files with damaged ones.
func damagedTables(ctx context.Context, dir string) error {
	if dir == "" {
		return nil
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil {
		return err
	}
	var found []string
	for _, name := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		t, err := openTable(name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			if !namedTable(dir, name) {
				continue // being written now, or left by a crash: Badger names whole ones only
			}
			t, err = openTable(name) // it may have become whole meanwhile
		}
		if errors.Is(err, os.ErrNotExist) {
			continue // compacted meanwhile
		}
		if err != nil {
			return err
		}
		n, err := t.damaged()
		t.Close()
		if err != nil {
			return err
		}
		if n > 0 {
			found = append(found, fmt.Sprintf("%d of %d blocks of %s", n, t.index.OffsetsLength(), filepath.Base(name)))
		}
	}
	if len(found) == 0 {
		return nil
	}
	return &DamagedTablesError{Dir: dir, What: strings.Join(found, ", ")}
}

// namedTable reports whether the MANIFEST names a table, or can't be read.
func namedTable(dir, name string) bool {
	id, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(name), ".sst"), 10, 64)
	if err != nil {
		return false
	}
	f, err := os.Open(filepath.Join(dir, badger.ManifestFilename))
	if err != nil {
		return true
	}
	defer f.Close()
	m, _, err := badger.ReplayManifestFile(f, 0, badger.DefaultOptions(dir))
	if err != nil {
		return true
	}
	_, ok := m.Tables[id]
	return ok
}

// DamagedTablesError says that blocks of the store's tables have wrong checksums. It wraps ErrCorrupt. Records that
// stand in other blocks can be read; anything that rewrites the tables would lose some of them.
type DamagedTablesError struct {
	Dir, What string
}

func (e *DamagedTablesError) Unwrap() error { return ErrCorrupt }
func (e *DamagedTablesError) Error() string {
	return fmt.Sprintf("%v: wrong checksums in %s, in %s; nothing was changed. Save the blocks in front of the damage with an export, restore a copy or move the directory away, and import them",
		ErrCorrupt, e.What, e.Dir)
}

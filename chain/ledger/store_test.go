package ledger

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"quipu/chain"
	"quipu/chain/chaintest"
)

func TestLocked(t *testing.T) {
	s := newScene(t, onDisk(t))
	_, err := Open(s.cfg)
	wantErr(t, err, ErrLocked, s.cfg.Dir, "process "+strconv.Itoa(os.Getpid()))
	_, err = Verify(t.Context(), s.cfg, 0, nil)
	wantErr(t, err, ErrLocked)
	s.reopen()
}

func TestWrongGenesis(t *testing.T) {
	s := newScene(t, onDisk(t))
	s.l.Close()
	other := chaintest.Genesis(func(g *chain.Genesis) { g.Name, g.BodyLimit = "other", 1<<16 })
	cfg := s.cfg
	cfg.Genesis = other
	_, err := Open(cfg)
	wantErr(t, err, ErrWrongGenesis, s.G.NetworkID().String(), other.NetworkID().String())
	s.open()
}

func TestNewerSchema(t *testing.T) {
	s := newScene(t, onDisk(t))
	s.tamper(func(txn *badger.Txn) error { return txn.Set(metaSchema, le.AppendUint32(nil, schema+1)) })
	_, err := Open(s.cfg)
	wantErr(t, err, ErrNewerSchema, s.cfg.Dir)
	s.tamper(func(txn *badger.Txn) error { return txn.Delete(metaSchema) })
	_, err = Open(s.cfg)
	wantErr(t, err, ErrCorrupt, "schema")
}

// tamper edits a ledger's records behind its back; it is closed after.
func (s *scene) tamper(f func(txn *badger.Txn) error) {
	s.t.Helper()
	s.l.Close()
	if err := s.cfg.Validate(); err != nil {
		s.t.Fatal(err)
	}
	db, err := openStore(&s.cfg, false)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := db.Update(f); err != nil {
		s.t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		s.t.Fatal(err)
	}
}

// A first start that was cut off before the tip was written is done again.
func TestInterruptedFirstStart(t *testing.T) {
	s := newScene(t, onDisk(t))
	s.tamper(func(txn *badger.Txn) error {
		return txn.Delete(metaTip)
	})
	_, err := Verify(t.Context(), s.cfg, 0, nil)
	wantErr(t, err, ErrNoLedger)
	s.open()
	s.tip("genesis")
}

func TestMissingDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "ledger")
	cfg := Config{Dir: dir, FreeSpace: plenty}
	_, err := Verify(t.Context(), cfg, 0, nil)
	wantErr(t, err, ErrNoLedger, dir)
	wantErr(t, Export(t.Context(), cfg, nil, nil), ErrNoLedger, dir)
	if _, err := os.Stat(filepath.Dir(dir)); !os.IsNotExist(err) {
		t.Fatalf("something was made: %v", err)
	}
	empty := t.TempDir()
	cfg.Dir = empty
	_, err = Verify(t.Context(), cfg, 0, nil)
	wantErr(t, err, ErrNoLedger, empty)
	if files, _ := os.ReadDir(empty); len(files) != 0 {
		t.Fatalf("%d files were made", len(files))
	}
	cfg.Dir, cfg.Genesis = dir, chaintest.Genesis(nil)
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("directory made with %v (%v)", info.Mode(), err)
	}
}

// genesis -> a1 -> a2 -> a3 -> a4
//
//	\-> b1 -> b2 -> b3 -> b4 -> b5
//
// The disk fills up before each of the commits in turn. What is on disk and what is in memory stay the same block,
// the ledger closes, and goes on to b5 when there is room again.
func TestLowSpace(t *testing.T) {
	for room := 0; ; room++ {
		s := newScene(t, onDisk(t))
		s.chain("genesis", "a", 4)
		s.chain("genesis", "b", 5)
		s.add("a1", "a2", "a3", "a4")
		s.headers("b1", "b2", "b3", "b4", "b5")
		left, writes := room, 0
		s.l.cfg.FreeSpace = func(dir string) (uint64, error) {
			if left--; left < 0 {
				return 100 << 20, nil
			}
			writes++
			return s.l.cfg.needSpace(), nil
		}
		s.l.cfg.afterCommit = func() { writes-- }
		blocks := []chain.CheckedBlock{s.Get("b1").Checked, s.Get("b2").Checked, s.Get("b3").Checked, s.Get("b4").Checked, s.Get("b5").Checked}
		_, err := s.l.Add(blocks)
		if err == nil {
			if room < 10 {
				t.Fatalf("done with %d commits", room)
			}
			s.tip("b5")
			s.l.Close()
			break
		}
		var low *LowSpaceError
		if !errors.As(err, &low) || low.Dir != s.cfg.Dir || low.Free != 100<<20 || low.Need < 512<<20 {
			t.Fatalf("error %v", err)
		}
		if writes != 0 {
			t.Fatalf("%d transactions were begun and not committed", writes)
		}
		at := s.name(s.l.Tip().ID)
		s.tip(at)
		if _, err := s.l.MarkInvalid(s.Get("b5").ID(), errors.New("no room")); !errors.As(err, &low) {
			t.Fatalf("MarkInvalid wrote without room: %v", err)
		}
		if room%2 == 0 { // room was made while running
			s.l.cfg.FreeSpace = plenty
			s.bodies("b1", "b2", "b3", "b4", "b5")
			s.tip("b5")
			s.l.Close()
			continue
		}
		if err := s.l.Close(); err != nil {
			t.Fatal(err)
		}
		stopped, err := openStopped(s.cfg)
		if err != nil {
			t.Fatal(err)
		}
		if stopped.tip.ID != s.Get(at).ID() {
			t.Fatalf("memory was at %s and the disk at %s", at, s.name(stopped.tip.ID))
		}
		stopped.Close()
		s.open()
		s.bodies("b1", "b2", "b3", "b4", "b5")
		s.tip("b5")
		s.l.Close()
	}
}

func TestLowSpaceAtOpen(t *testing.T) {
	s := newScene(t, onDisk(t))
	s.l.Close()
	before, _ := os.ReadDir(s.cfg.Dir)
	s.cfg.FreeSpace = func(string) (uint64, error) { return 1 << 20, nil }
	_, err := Open(s.cfg)
	var low *LowSpaceError
	if !errors.As(err, &low) || low.Free != 1<<20 {
		t.Fatalf("error %v", err)
	}
	if after, _ := os.ReadDir(s.cfg.Dir); len(after) != len(before) {
		t.Fatal("files were made")
	}
	wantErr(t, err, err, s.cfg.Dir, "512 MiB")
}

// A crash left the log of a larger memtable than the present one; its records don't fit the present one.
func TestSmallerMemTableAfterCrash(t *testing.T) {
	dir := t.TempDir()
	s := newScene(t, func(c *Config) { c.Dir, c.FreeSpace, c.MemTable = dir, plenty, 32<<20 })
	s.add(s.chain("genesis", "a", 3)...)
	for i := range 30 {
		err := s.l.db.Update(func(txn *badger.Txn) error {
			return txn.Set([]byte{'?', byte(i)}, bytes.Repeat([]byte{1}, pieceSize))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	s.cfg.Dir, s.cfg.MemTable = copyDir(t, dir), 0
	s.l.Close()
	s.open()
	s.tip("a3")
}

func TestConfig(t *testing.T) {
	g := chaintest.Genesis(nil)
	for name, c := range map[string]Config{
		"no genesis":     {},
		"small memtable": {Genesis: g, MemTable: 32*int64(g.BodyLimit) - 1},
		"large memtable": {Genesis: g, MemTable: 1<<30 + 1},
		"no undo":        {Genesis: g, UndoKeep: -1},
	} {
		if err := c.Validate(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	c := Config{Genesis: g, MemTable: NodeMemTable}
	if err := c.Validate(); err != nil || c.UndoKeep != 4096 {
		t.Errorf("%v, undo of %d", err, c.UndoKeep)
	}
	if o := c.badger(); !o.SyncWrites || o.DetectConflicts || o.ValueThreshold <= pieceSize || o.NumMemtables != 2 {
		t.Errorf("Badger options %+v", o)
	}
	if need := c.needSpace(); need != 512<<20 {
		t.Errorf("watermark %d", need)
	}
	c.MemTable = 256 << 20
	if need := c.needSpace(); need != (2*256+128+4)<<20 {
		t.Errorf("watermark %d", need)
	}
}

func TestClosed(t *testing.T) {
	s := newScene(t, nil)
	s.chain("genesis", "a", 1)
	s.l.Close()
	_, err := s.l.Add([]chain.CheckedBlock{s.Get("a1").Checked})
	wantErr(t, err, ErrClosed)
	_, err = s.l.AddHeaders([]chain.Header{s.Get("a1").Header})
	wantErr(t, err, ErrClosed)
	_, _, err = s.l.Body(s.Get("a1").ID())
	wantErr(t, err, ErrClosed)
	_, _, err = s.l.Accounts(nil)
	wantErr(t, err, ErrClosed)
	if err := s.l.Close(); err != nil || s.l.Wanted(1) != nil {
		t.Fatal(err)
	}
}

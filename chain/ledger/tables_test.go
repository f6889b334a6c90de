package ledger

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/dgraph-io/badger/v4"
)

// Damage to files that Badger would die from or make worse: one error, and every file as it was found.
func TestDamagedFiles(t *testing.T) {
	t.Parallel() // it waits for the disk
	s := verifiable(t)
	whole := s.cfg.Dir
	if err := damagedTables(t.Context(), whole); err != nil {
		t.Fatal(err)
	}
	being := filepath.Join(whole, "000077.sst") // a table that is being written: it has its length and no contents yet
	if err := os.WriteFile(being, make([]byte, 5000), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := damagedTables(t.Context(), whole); err != nil {
		t.Fatal(err)
	}
	os.Remove(being)
	edit := func(name string, f func(b []byte) []byte) func(dir string) {
		return func(dir string) {
			found, _ := filepath.Glob(filepath.Join(dir, name))
			if len(found) == 0 {
				t.Fatalf("no %s in %s", name, dir)
			}
			b, err := os.ReadFile(found[0])
			if err == nil {
				err = os.WriteFile(found[0], f(b), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	type row struct {
		name   string
		damage func(dir string)
		says   string // of Open; "" where only what reads every block notices
	}
	rows := []row{
		{"table cut", edit("*.sst", func(b []byte) []byte { return b[:len(b)/2] }), ".sst has no whole"},
		{"table empty", edit("*.sst", func(b []byte) []byte { return nil }), ".sst has no whole footer"},
		{"table zeroed", edit("*.sst", func(b []byte) []byte { return make([]byte, len(b)) }), ".sst has no whole index"},
		{"table gone", func(dir string) {
			found, _ := filepath.Glob(filepath.Join(dir, "*.sst"))
			if err := os.Remove(found[0]); err != nil {
				t.Fatal(err)
			}
		}, "file does not exist for table"},
		{"table index", edit("*.sst", func(b []byte) []byte { b[len(b)-40] ^= 1; return b }), "checksum"},
		{"block", edit("*.sst", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }), ""},
		{"MANIFEST cut", edit("MANIFEST", func(b []byte) []byte { return b[:len(b)-3] }), "ends in the middle of a record and names 0 of 1 tables"},
		{"MANIFEST empty", edit("MANIFEST", func(b []byte) []byte { return nil }), "manifest has bad magic"},
		{"MANIFEST byte", edit("MANIFEST", func(b []byte) []byte { b[len(b)-3] ^= 1; return b }), "checksum mismatch"},
		{"value log", edit("*.vlog", func(b []byte) []byte { b[3] ^= 1; return b }), "does not open"},
	}
	for back := 1; back <= 24; back++ {
		rows = append(rows, row{"footer byte", edit("*.sst", func(b []byte) []byte { b[len(b)-back] ^= 0x55; return b }), "000001.sst"})
	}
	for _, c := range rows {
		s.cfg.Dir = copyDir(t, whole)
		c.damage(s.cfg.Dir)
		before := tableBytes(t, s.cfg.Dir)
		if c.says != "" {
			_, err := Open(s.cfg)
			wantErr(t, err, ErrCorrupt, c.says)
		}
		_, err := Reindex(t.Context(), s.cfg, nil)
		wantErr(t, err, ErrCorrupt)
		_, err = Verify(t.Context(), s.cfg, 0, nil)
		wantErr(t, err, ErrCorrupt)
		if !bytes.Equal(before, tableBytes(t, s.cfg.Dir)) {
			t.Errorf("%s: the files were changed", c.name)
		}
	}
}

// tableBytes is what stands in all tables and the MANIFEST.
func tableBytes(t *testing.T, dir string) (out []byte) {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(dir, "*.sst"))
	for _, f := range append(files, filepath.Join(dir, badger.ManifestFilename)) {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out = append(append(out, f...), b...)
	}
	return out
}

// A process that was killed left a log: its MANIFEST may be cut, and what Badger removes then is kept beside.
func TestCutManifestAfterACrash(t *testing.T) {
	t.Parallel() // it waits for the disk
	s := verifiable(t)
	s.open()
	s.add(s.chain("b4", "c", 2)...)
	s.cfg.Dir = copyDir(t, s.cfg.Dir) // as a kill leaves it
	s.l.Close()
	manifest := filepath.Join(s.cfg.Dir, badger.ManifestFilename)
	if err := os.Truncate(manifest, 20); err != nil {
		t.Fatal(err)
	}
	before := tableBytes(t, s.cfg.Dir)
	_, err := Open(s.cfg)
	wantErr(t, err, ErrCorrupt)
	for _, name := range []string{"000001.sst", badger.ManifestFilename} {
		b, err := os.ReadFile(filepath.Join(s.cfg.Dir, tornDir, name))
		if err != nil || !bytes.Contains(before, b) {
			t.Fatalf("%s wasn't kept (%v)", name, err)
		}
	}
}

// In use goes before damaged: what another process writes may look like anything.
func TestLockedGoesFirst(t *testing.T) {
	t.Parallel() // it waits for the disk
	s := newScene(t, onDisk(t))
	s.add(s.chain("genesis", "a", 2)...)
	s.reopen()
	if !lockHeld(s.cfg.Dir) {
		t.Skip("the lock can't be seen on this system")
	}
	f, err := os.OpenFile(filepath.Join(s.cfg.Dir, "000001.sst"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.Write(make([]byte, 100))
	f.Close()
	_, err = Open(s.cfg)
	wantErr(t, err, ErrLocked, "is held by process")
}

package ledger

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"quipu/chain"
)

// copyDir copies an open ledger's directory as a crash would leave it: what was written through the maps, nothing
// more, at one moment. The files are sparse and stay so.
func copyDir(t *testing.T, from string) string {
	t.Helper()
	return copySettled(t, from)
}

func copySparse(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	buf, zero := make([]byte, 1<<16), make([]byte, 1<<16)
	size := int64(0)
	for {
		n, err := io.ReadFull(in, buf)
		if !bytes.Equal(buf[:n], zero[:n]) {
			if _, err := out.WriteAt(buf[:n], size); err != nil {
				t.Fatal(err)
			}
		}
		size += int64(n)
		if err != nil {
			break
		}
	}
	if err := out.Truncate(size); err != nil {
		t.Fatal(err)
	}
}

// genesis -> a1 -> a2 -> a3
//
//	\-> b1 -> b2 -> b3 -> bad
//	\-> c1 -> c2 -> c3 -> c4 -> c5
//
// After every committed transaction of this the directory is copied. Each copy must open on a block that was
// complete, verify from genesis, and end at c5 when it is given everything again.
func TestCrashAfterEveryCommit(t *testing.T) {
	for _, behind := range []int{0, 5} { // 5 accounts in the journal: records are written every few blocks
		crashAfterEveryCommit(t, behind)
	}
}

func crashAfterEveryCommit(t *testing.T, behind int) {
	t.Helper()
	var copies []string
	commits := 0
	dir := t.TempDir()
	s := newScene(t, func(c *Config) {
		c.Dir, c.FreeSpace, c.UndoKeep = dir, plenty, 8
		c.behind = behind
		c.afterCommit = func() {
			commits++
			copies = append(copies, copyDir(t, dir))
		}
	})
	s.chain("genesis", "a", 3)
	s.chain("genesis", "b", 3)
	s.badNonce("bad")
	s.chain("genesis", "c", 5)
	all := []string{"a1", "a2", "a3", "b1", "b2", "b3", "bad", "c1", "c2", "c3", "c4", "c5"}
	s.add("a1", "a2", "a3")
	s.headers("b1", "b2", "b3", "bad", "c1", "c2", "c3", "c4", "c5")
	s.bodies("bad", "b3", "b2")
	s.bodies("b1")
	s.tip("a3")
	s.bodies("c5", "c4", "c3", "c2", "c1")
	s.tip("c5")
	s.l.Close()
	if commits < 30 {
		t.Fatalf("%d commits: units were grouped", commits)
	}
	middle := 0
	for i, dir := range copies {
		s.cfg.Dir, s.cfg.afterCommit = dir, nil
		stored, err := Verify(t.Context(), s.cfg, 0, nil)
		if err != nil {
			t.Fatalf("copy %d: %v", i, err)
		}
		s.open()
		if s.l.Tip().ID != stored.Tip {
			middle++ // the crash was between two units: Open went on
		}
		if now := s.l.Tip(); now.Work.Lt(&stored.Work) {
			t.Fatalf("copy %d: Open went from height %d back to %d", i, stored.Height, now.Header.Height)
		}
		s.tip(s.name(s.l.Tip().ID))
		for _, name := range all {
			s.l.AddHeaders([]chain.Header{s.Get(name).Header}) // refused below the bad block
		}
		s.bodies(slices.DeleteFunc(slices.Clone(all), func(name string) bool { return !s.l.Info(s.Get(name).ID()).Header })...)
		s.tip("c5")
		s.l.Close()
	}
	if middle < 8 {
		t.Fatalf("%d of %d copies were in the middle of a walk", middle, len(copies))
	}
}

// A process is killed between making a log's file and giving it its length: the next Open takes it for empty.
func TestEmptyLogFiles(t *testing.T) {
	t.Parallel() // it waits for the disk
	s := newScene(t, onDisk(t))
	s.add(s.chain("genesis", "a", 3)...)
	dir := copyDir(t, s.cfg.Dir) // as a kill leaves it
	s.cfg.Dir = dir
	logs, _ := filepath.Glob(filepath.Join(dir, "*.mem"))
	if len(logs) == 0 {
		t.Fatal("no log")
	}
	for _, name := range []string{"00099.mem", "000099.vlog"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		s.open()
		s.tip("a3")
		s.l.Close()
	}
}

package ledger

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"quipu/chain"
)

// The power fails. Unlike a killed process, which leaves all it wrote through its maps to the system, it may take the
// end of a log. After each of 50 commits (16 by default) of a run with reorgs, and if long with a memtable that fills
// up, the directory is copied; in each copy the newest memtable log is zeroed from random offsets on: in its last two
// entries, and, to lose more, in its last two commits. Likewise the value log.
//
// Each copy must be found whole by an independent replay, and its tip must be exactly that of the last commit in
// front of the damage: a commit is there whole or not at all, and none is lost but those the damage reached.
func TestPowerLoss(t *testing.T) {
	t.Parallel() // it waits for the disk
	long := os.Getenv("QUIPU_LONG") != ""
	commits, offsets := 16, 1
	if long {
		commits, offsets = 50, 20
	}
	dir := t.TempDir()
	var copies []string
	var records []tipRecord // after each commit
	s := newScene(t, onDisk(t))
	s.l.Close()
	s.cfg.Dir, s.cfg.UndoKeep, s.cfg.behind = dir, 64, 4000 // pages are written every few blocks, in slices
	armed := false
	s.cfg.afterCommit = func() {
		if s.l == nil || len(copies) == commits {
			return
		}
		if records = append(records, s.l.record); armed {
			copies = append(copies, copySettled(t, dir))
		}
	}
	s.open()
	names := s.fillMemTable(dir, long)
	armed = true
	names = append(names, s.reorgs(func() bool { return len(copies) == commits })...)
	end := s.name(s.l.Tip().ID)
	s.l.Close()

	rng := rand.New(rand.NewPCG(50, 20))
	lost := map[int]int{}
	for i, whole := range copies {
		if !long && i%2 == 1 {
			continue
		}
		log := newest(t, whole, "*.mem")
		entries, ends := parseLog(t, log)
		for k := range offsets {
			at := drawOffset(rng, entries, ends, (i/2+k)%2 == 0)
			cut := copyDir(t, whole)
			zeroFrom(t, newest(t, cut, "*.mem"), at)
			missing := 0 // commits with a byte at or behind the damage
			for _, end := range ends {
				if int64(end) > at {
					missing++
				}
			}
			want := records[len(records)-len(copies)+i-missing]
			lost[missing]++
			s.survives(cut, fmt.Sprintf("commit %d, log cut at %d of %d", i, at, ends[len(ends)-1]), want, names, end, k == 0 && i%4 == 0)
		}
		for k := range offsets {
			if i%4 != 0 && k > 4 {
				break
			}
			cut := copyDir(t, whole)
			vlog := newest(t, cut, "*.vlog")
			if _, ends := parseLog(t, vlog); len(ends) > 0 {
				t.Fatal("a value landed in the value log: its last two records need the same treatment")
			}
			zeroFrom(t, vlog, rng.Int64N(logHead+1))
			s.survives(cut, fmt.Sprintf("commit %d, value log zeroed", i), records[len(records)-len(copies)+i], names, end, false)
		}
	}
	rotated := filepath.Base(newest(t, copies[0], "*.mem")) != filepath.Base(newest(t, copies[commits-1], "*.mem"))
	if lost[1] == 0 || lost[2] == 0 || rotated != long {
		t.Fatalf("commits lost by cuts: %v; memtable rotated: %v", lost, rotated)
	}
}

// survives opens a damaged copy: replay and Open agree on want, and given everything again it gets to the end.
func (s *scene) survives(dir, what string, want tipRecord, names []string, end string, refill bool) {
	s.t.Helper()
	defer os.RemoveAll(dir)
	s.cfg.Dir, s.cfg.afterCommit = dir, nil
	r, err := Verify(s.t.Context(), s.cfg, 0, nil)
	if err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
	if r.Tip != want.id || r.Height != want.height {
		s.t.Fatalf("%s: the tip is %s at height %d, want %s at %d", what, s.name(r.Tip), r.Height, s.name(want.id), want.height)
	}
	s.open()
	defer s.l.Close()
	tip := s.l.Tip()
	if tip.Header.Height == want.height && tip.Header.StateRoot != r.StateRoot {
		s.t.Fatalf("%s: state root %s, the replay gives %s", what, tip.Header.StateRoot, r.StateRoot)
	}
	if !refill {
		return
	}
	for _, name := range names {
		s.headers(name)
	}
	s.bodies(names...)
	s.tip(end)
}

// fillMemTable adds wide blocks: one, or until the memtable has room for one or two more (its list takes more than
// its log).
func (s *scene) fillMemTable(dir string, whole bool) (names []string) {
	for full := false; !full; {
		name := fmt.Sprint("p", len(names)+1)
		s.wide(name)
		s.add(name)
		names = append(names, name)
		_, ends := parseLog(s.t, newest(s.t, dir, "*.mem"))
		full = !whole || ends[len(ends)-1] > int(s.l.cfg.MemTable-1300<<10)
	}
	return names
}

// wide makes a block with about as many outputs as it may have, always to the same accounts.
func (s *scene) wide(name string) {
	nonce := s.Account(s.alice.Account).Nonce
	var txs []chain.Tx
	for i := range uint64(6) {
		outs := make([]chain.Output, 255)
		for j := range outs {
			le.PutUint64(outs[j].To[:], i<<16|uint64(j)+1)
			outs[j].Amount = 1
		}
		txs = append(txs, s.alice.Pay(s.G, nonce+i, 0, outs...))
	}
	s.Next(name, txs)
}

// reorgs adds rounds until done: on the tip two wide blocks, then a branch of three that wins.
func (s *scene) reorgs(done func() bool) (names []string) {
	base := s.name(s.l.Tip().ID)
	for round := 0; ; round++ {
		s.SetTip(base)
		a := []string{fmt.Sprintf("r%da1", round), fmt.Sprintf("r%da2", round)}
		s.wide(a[0])
		s.wide(a[1])
		b := s.chain(base, fmt.Sprintf("r%db", round), 3)
		s.add(a...)
		s.headers(b...)
		s.bodies(b[2], b[1], b[0])
		base = b[2]
		s.tip(base)
		names = append(append(names, a...), b...)
		if done() {
			return names
		}
	}
}

// copySettled copies until nothing happened meanwhile: Badger writes tables and deletes logs in the background.
func copySettled(t *testing.T, dir string) string {
	t.Helper()
	list := func() string {
		var out strings.Builder
		files, _ := filepath.Glob(filepath.Join(dir, "*"))
		for _, f := range files {
			if info, err := os.Stat(f); err == nil {
				fmt.Fprintln(&out, f, info.Size())
			}
		}
		return out.String()
	}
	for {
		before := list()
		to := tryCopy(t, dir)
		if to != "" && list() == before {
			return to
		}
		os.RemoveAll(to)
	}
}

// tryCopy copies the files, or returns "" if a file went away meanwhile.
func tryCopy(t *testing.T, from string) string {
	to := t.TempDir()
	files, err := filepath.Glob(filepath.Join(from, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if filepath.Base(f) == "LOCK" {
			continue
		}
		if in, err := os.Open(f); err == nil {
			in.Close()
			if _, err := os.Stat(f); err != nil {
				return ""
			}
			copySparse(t, f, filepath.Join(to, filepath.Base(f)))
		} else {
			return ""
		}
	}
	return to
}

func newest(t *testing.T, dir, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, pattern)) // names have leading zeros: sorted by age
	if err != nil || len(files) == 0 {
		t.Fatalf("no %s in %s (%v)", pattern, dir, err)
	}
	return slices.Max(files)
}

// logHead is what a log of Badger begins with: key id 8 | base IV 12.
const logHead = 20

// parseLog gives where entries of a memtable or value log begin and where its commits end. An entry is meta u8 | user
// meta u8 | key length, value length, expiry as uvarints | key | value | crc32; the last of a commit has bit 7 of
// meta set. (Badger v4.9.6, structs.go and memtable.go.)
func parseLog(t *testing.T, file string) (entries, ends []int) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	for at := logHead; at+2 < len(b); {
		r := bytes.NewReader(b[at+2:])
		size := r.Len()
		klen, _ := binary.ReadUvarint(r)
		vlen, _ := binary.ReadUvarint(r)
		binary.ReadUvarint(r)
		if klen == 0 {
			return entries, ends
		}
		entries = append(entries, at)
		last := b[at]&(1<<7) != 0
		if at += 2 + size - r.Len() + int(klen) + int(vlen) + 4; last {
			ends = append(ends, at)
		}
	}
	return entries, ends
}

// drawOffset is a random offset in the last two entries of a log, or in its last two commits.
func drawOffset(rng *rand.Rand, entries, ends []int, small bool) int64 {
	if len(ends) == 0 {
		return logHead
	}
	end := ends[len(ends)-1]
	from := logHead
	if small {
		from = entries[max(0, len(entries)-2)]
	} else if len(ends) > 2 {
		from = ends[len(ends)-3]
	}
	return int64(from + rng.IntN(end-from))
}

// zeroFrom makes everything from an offset on zeros, as blocks of a file are that never reached the disk.
func zeroFrom(t *testing.T, file string, at int64) {
	t.Helper()
	info, err := os.Stat(file)
	if err == nil {
		err = os.Truncate(file, at)
	}
	if err == nil {
		err = os.Truncate(file, info.Size())
	}
	if err != nil {
		t.Fatal(err)
	}
}

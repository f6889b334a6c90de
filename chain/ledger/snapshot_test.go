package ledger

import (
	"context"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"quipu/chain"
	"quipu/chain/statetree"
)

// restore asks a snapshot for everything in ranges, verifies each against the root, and returns the root they give.
func restore(t *testing.T, s *Snapshot) chain.Hash {
	t.Helper()
	var all []statetree.Leaf
	from, to := statetree.Hash{}, statetree.Hash{}
	for i := range to {
		to[i] = 255
	}
	for {
		leaves, p, err := s.Range(from, to, 700)
		if err != nil {
			t.Fatal(err)
		}
		covered, err := statetree.VerifyRange(s.Root, from, to, leaves, p)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, leaves...)
		next, ok := statetree.NextPath(covered)
		if from = next; !ok || !p.More {
			return statetree.RootOf(all)
		}
	}
}

// genesis -> a × 12, and from the eighth b × 8: pinned at every fourth block
//
// The file is written when the ledger has gone on, with checkpoints of pages in between, and holds the accounts of the
// block that was pinned. Those of blocks that left the chain go, and all but three.
func TestSnapshots(t *testing.T) {
	t.Parallel() // it waits for the disk
	r := rand.New(rand.NewPCG(5, 6))
	dir := t.TempDir()
	s, all := crowd(t, 8000, func(c *Config) {
		c.Dir, c.FreeSpace, c.UndoKeep, c.pinEvery = t.TempDir(), plenty, 16, 4
	})
	a := s.spread(r, "genesis", "a", 12, all)
	b := s.spread(r, a[8], "b", 9, all)
	if err := os.WriteFile(filepath.Join(dir, "making-1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	held := map[string]*Pinned{}
	for _, name := range append(slices.Clone(a), b...) {
		s.add(name)
		if p := s.l.TakePinned(); p != nil {
			held[s.name(p.Tip.ID)] = p
		}
	}
	for name, p := range held {
		if p.Tip.Header.Height%4 != 0 {
			t.Fatalf("pinned at block %d", p.Tip.Header.Height)
		}
		if err := p.Write(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
		p.Release()
		f, err := OpenSnapshot(filepath.Join(dir, snapshotName(p.Tip.Header.Height, p.Tip.ID)))
		if err != nil {
			t.Fatal(err)
		}
		s.SetTip(name)
		if got := restore(t, f); got != p.Tip.Header.StateRoot || got != f.Root || f.Accounts != uint64(len(s.Gen.Accounts())) || f.Verify() != nil {
			t.Fatalf("%s: root %s of %d accounts, %v", name, got, f.Accounts, f.Verify())
		}
		f.Close()
	}
	if len(held) < 4 || held[a[11]] == nil {
		t.Fatalf("%d blocks were pinned", len(held))
	}
	if err := s.l.TidySnapshots(dir); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	var heights []uint64
	for _, name := range files {
		f, err := OpenSnapshot(name)
		if err != nil {
			t.Fatal(err)
		}
		if !s.l.Info(f.Block).OnBest {
			t.Fatalf("the file of block %d stayed, which left the chain", f.Height)
		}
		heights = append(heights, f.Height)
		f.Close()
	}
	if !slices.Equal(heights, []uint64{8, 12, 16}) && !slices.Equal(heights, []uint64{4, 8, 16}) && !slices.Equal(heights, []uint64{4, 8, 12}) {
		t.Fatalf("files of blocks %v", heights)
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	s.spread(r, b[8], "c", 3, all)
	for _, name := range []string{"caa", "cab", "cac"} {
		s.add(name)
	}
	p := s.l.TakePinned()
	if p == nil {
		t.Fatal("nothing pinned at block 20")
	}
	defer p.Release()
	if err := p.Write(stopped, dir); !errors.Is(err, context.Canceled) {
		t.Fatalf("a write that was stopped: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "making-*")); len(left) > 0 {
		t.Fatalf("left: %v", left)
	}
}

// Far history isn't pinned: its file would be put out by the next ones.
func TestSnapshotsOfHistory(t *testing.T) {
	s := newScene(t, func(c *Config) { c.pinEvery = 2 })
	names := s.chain("genesis", "a", 11)
	s.headers(names...)
	for _, name := range names {
		s.bodies(name)
		p := s.l.TakePinned()
		if h := s.l.Tip().Header.Height; (p != nil) != (h%2 == 0 && h+6 > 11) {
			t.Fatalf("at block %d of 11: %v", h, p)
		}
		if p != nil {
			p.Release()
		}
	}
}

// A damaged file is refused when it is opened, or gives an error where it is read, and never a wrong answer.
func TestDamagedSnapshot(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	s, all := crowd(t, 3000, func(c *Config) { c.pinEvery = 1 })
	s.add(s.spread(r, "genesis", "a", 1, all)...)
	p := s.l.TakePinned()
	dir := t.TempDir()
	if err := p.Write(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	p.Release()
	name := filepath.Join(dir, snapshotName(p.Tip.Header.Height, p.Tip.ID))
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	to := statetree.Hash{}
	for i := range to {
		to[i] = 255
	}
	wrong := 0
	for i := range 400 {
		b := slices.Clone(whole)
		switch at := r.IntN(len(b)); {
		case i < 60:
			b[snapshotHead-80+i] ^= 1 << r.IntN(8) // head
		case i < 100:
			b[len(b)-1-r.IntN(60)] ^= 1 << r.IntN(8)
		case i%5 == 0:
			b = b[:at]
		default:
			b[at] ^= 1 << r.IntN(8)
		}
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := OpenSnapshot(name)
		if err != nil {
			wrong++
			if !errors.Is(err, ErrSnapshot) || !strings.Contains(err.Error(), name) {
				t.Fatal(err)
			}
			continue
		}
		if f.Verify() == nil {
			t.Fatalf("change %d goes unnoticed", i)
		}
		if f.Root == p.Tip.Header.StateRoot {
			leaves, proof, err := f.Range(statetree.Hash{}, to, 3500)
			if err == nil {
				_, err = statetree.VerifyRange(f.Root, statetree.Hash{}, to, leaves, proof)
			} else if !errors.Is(err, ErrSnapshot) {
				t.Fatal(err)
			}
			if err != nil {
				wrong++
			} else if statetree.RootOf(leaves) != f.Root {
				t.Fatal("a wrong answer")
			}
		}
		f.Close()
	}
	if wrong < 200 {
		t.Fatalf("%d of 400 noticed", wrong)
	}
}

// Files are written while blocks come in, of which some replace others, and each holds the accounts of its own block.
func TestSnapshotsWhileBlocksCome(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(9, 10))
	s, all := crowd(t, 4000, func(c *Config) { c.Dir, c.FreeSpace, c.pinEvery = t.TempDir(), plenty, 2 })
	a := s.spread(r, "genesis", "a", 10, all)
	names := append(slices.Clone(a), s.spread(r, a[4], "b", 14, all)...)
	dir, done := t.TempDir(), make(chan error, 1)
	stop := make(chan struct{})
	go func() {
		for written := 0; ; {
			if p := s.l.TakePinned(); p != nil {
				err := p.Write(t.Context(), dir)
				if p.Release(); err != nil {
					done <- err
					return
				}
				written++
				continue
			}
			select {
			case <-stop:
				if written == 0 {
					done <- errors.New("none was written")
				}
				close(done)
				return
			default:
				runtime.Gosched()
			}
		}
	}()
	for _, name := range names {
		s.add(name)
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	files, err := Snapshots(dir)
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		f, err := OpenSnapshot(file)
		if err != nil {
			t.Fatal(err)
		}
		if want := s.Get(s.name(f.Block)).Header.StateRoot; f.Height%2 != 0 || restore(t, f) != want || f.Verify() != nil {
			t.Fatalf("block %d: %v", f.Height, f.Verify())
		}
		f.Close()
	}
}

// Files are found in a directory of any name, and one that can't be read at the moment isn't taken for a damaged one.
func TestTidySnapshots(t *testing.T) {
	s := newScene(t, func(c *Config) { c.pinEvery = 1 })
	dir := filepath.Join(t.TempDir(), "node [1")
	if none, err := Snapshots(dir); err != nil || len(none) > 0 {
		t.Fatal(none, err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range s.chain("genesis", "a", 2) {
		s.add(name)
		p := s.l.TakePinned()
		if err := p.Write(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
		p.Release()
	}
	files, err := Snapshots(dir)
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	gone := files[0] + ".away"
	if err := os.Rename(files[0], gone); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(files[0], files[0]); err != nil { // opening it fails with ELOOP, whoever asks
		t.Fatal(err)
	}
	damaged := filepath.Join(dir, "state-0000000003-00.snapshot")
	for _, name := range []string{damaged, filepath.Join(dir, "making-7")} {
		if err := os.WriteFile(name, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.l.TidySnapshots(dir); err == nil {
		t.Fatal("nothing said of a file that can't be read")
	}
	if now, _ := filesLike(dir, "*"); !slices.Equal(now, []string{files[0], gone, files[1]}) {
		t.Fatalf("left: %v", now)
	}
}

// A changed leaf that the pages don't repeat from the list is found whatever the checksum says.
func TestVerifySnapshotReadsEachLeaf(t *testing.T) {
	s := newScene(t, func(c *Config) { c.pinEvery = 1 })
	s.add(s.chain("genesis", "a", 1)...)
	p, dir := s.l.TakePinned(), t.TempDir()
	defer p.Release()
	if err := p.Write(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	files, _ := Snapshots(dir)
	whole, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for i := range int(p.accounts) * statetree.LeafSize {
		b := slices.Clone(whole[:len(whole)-sha256.Size])
		b[snapshotHead+i] ^= 1
		sum := sha256.Sum256(b)
		if err := os.WriteFile(files[0], append(b, sum[:]...), 0o600); err != nil {
			t.Fatal(err)
		}
		if f, err := OpenSnapshot(files[0]); err == nil {
			if f.Verify() == nil {
				t.Fatalf("byte %d of the leaves goes unnoticed", i)
			}
			f.Close()
		}
	}
}

// A file whose head was changed may hold together in itself: it is of no block of the chain then, and goes.
func TestSnapshotsOfNoBlock(t *testing.T) {
	s := newScene(t, func(c *Config) { c.pinEvery = 1 })
	s.add(s.chain("genesis", "a", 3)...)
	p, dir := s.l.TakePinned(), t.TempDir()
	defer p.Release()
	if err := p.Write(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	files, _ := Snapshots(dir)
	whole, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	head := len(snapshotMagic)
	edits := map[string]func(b []byte){
		"nothing": func([]byte) {},
		"network": func(b []byte) { b[head] ^= 1 },
		"height":  func(b []byte) { b[head+32] ^= 1 },
		"block":   func(b []byte) { b[head+40] ^= 1 },
		"another block of the chain": func(b []byte) {
			id := s.Get("a2").ID()
			b[head+32] = 2
			copy(b[head+40:], id[:])
		},
	}
	for what, edit := range edits {
		b := slices.Clone(whole)
		edit(b)
		if err := os.WriteFile(files[0], b, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := OpenSnapshot(files[0])
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		stands, err := s.l.Stands(f)
		if f.Close(); err != nil || stands != (what == "nothing") {
			t.Errorf("%s changed: stands %v (%v)", what, stands, err)
		}
		if err := s.l.TidySnapshots(dir); err != nil {
			t.Fatal(err)
		}
		if left, _ := Snapshots(dir); (len(left) == 1) != stands {
			t.Errorf("%s changed: left %v", what, left)
		}
	}
}

// A start from block 0 takes away what was pinned: whoever writes it is told that, and no damage. Files that are there
// stay until it is known again which blocks are on the best chain.
func TestSnapshotsWhileStartingOver(t *testing.T) {
	for _, edit := range []func(*Config){nil, onDisk(t)} {
		s := deepScene(t, edit)
		s.l.PinEvery(1)
		dir := t.TempDir()
		s.add(s.chain("a12", "e", 2)...)
		p := s.l.TakePinned()
		if err := p.Write(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
		s.give(s.chain("a4", "b", 11))
		if err := s.l.StartOver(); err != nil {
			t.Fatal(err)
		}
		if err := p.Write(t.Context(), dir); !errors.Is(err, ErrUnpinned) || errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		p.Release()
		if err := s.l.TidySnapshots(dir); err != nil {
			t.Fatal(err)
		}
		if left, _ := filesLike(dir, "*"); len(left) != 1 {
			t.Fatalf("left: %v", left)
		}
		s.steps(3)
		s.tip("b11")
		if err := s.l.TidySnapshots(dir); err != nil {
			t.Fatal(err)
		}
		if left, _ := filesLike(dir, "*"); len(left) != 0 {
			t.Fatalf("left: %v", left)
		}
	}
}

// The disk runs low in the middle of a file: it gives way, whole, before the ledger has to stop.
func TestSnapshotOnAFullDisk(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	asked, dir := 0, t.TempDir()
	s, all := crowd(t, 200_000, func(c *Config) {
		c.pinEvery = 1
		c.FreeSpace = func(of string) (uint64, error) {
			if of != dir {
				return 1 << 50, nil
			}
			if asked++; asked > 2 {
				return c.needSpace() + 1<<20, nil
			}
			return 1 << 50, nil
		}
	})
	s.add(s.spread(r, "genesis", "a", 1, all)...)
	p := s.l.TakePinned()
	defer p.Release()
	err := p.Write(t.Context(), dir)
	var low *LowSpaceError
	if err == nil || errors.As(err, &low) || !strings.Contains(err.Error(), dir) || asked != 3 {
		t.Fatalf("asked %d times: %v", asked, err)
	}
	if left, _ := filesLike(dir, "*"); len(left) != 0 {
		t.Fatalf("left: %v", left)
	}
	s.add(s.spread(r, "aaa", "b", 2, all)...)
}

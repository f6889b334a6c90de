package ledger

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
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

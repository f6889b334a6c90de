package ledger

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// compactable is a closed ledger on disk.
//
// genesis -> a1 -> … -> a20        the tip
//
//	a3 -> b1 -> … -> b9         left behind, longer than one transaction of pruning takes
//	a17 -> c1                   may win yet
func compactable(t *testing.T) (s *scene, a, b []string) {
	s = newScene(t, func(c *Config) { c.Dir, c.FreeSpace, c.UndoKeep, c.pruneStep = t.TempDir(), plenty, 4, 3 })
	a, b = s.chain("genesis", "a", 20), s.chain("a3", "b", 9)
	c := s.chain("a17", "c", 1)
	s.add(a[:13]...)
	s.headers(b...)
	s.bodies(b...)
	s.add(a[13:]...)
	s.add(c...)
	s.tip("a20")
	s.l.Close()
	return s, a, b
}

// left checks what must be there after compaction to eight bodies.
func left(t *testing.T, s *scene, a, b []string) {
	t.Helper()
	s.open()
	defer s.l.Close()
	s.tip("a20")
	for i, name := range a {
		if info := s.l.Info(s.Get(name).ID()); info.Body != (i >= 12) || info.Pruned == info.Body || !info.OnBest {
			t.Fatalf("%s: %+v", name, info)
		}
	}
	for _, name := range b {
		if info := s.l.Info(s.Get(name).ID()); info.Body || !info.Header || info.Invalid {
			t.Fatalf("%s: %+v", name, info)
		}
	}
	if info := s.l.Info(s.Get("c1").ID()); !info.Body {
		t.Fatalf("c1: %+v", info)
	}
	if got := s.wants(1 << 20); got != nil {
		t.Fatalf("wanted: %v", got)
	}
	if st := s.l.Stats(); st.Pruned != 12 || st.Bodies != 1+8+1 {
		t.Fatalf("%+v", st)
	}
}

func TestCompactInPlace(t *testing.T) {
	t.Parallel() // it waits for the disk
	s, a, b := compactable(t)
	out, err := Compact(t.Context(), s.cfg, 8, "", nil)
	if err != nil || out.Height != 20 || out.Pruned != 12 || out.After == 0 {
		t.Fatalf("%+v %v", out, err)
	}
	left(t, s, a, b)
	if out, err = Compact(t.Context(), s.cfg, 0, "", nil); err != nil || out.Pruned != 12 { // nothing more goes
		t.Fatalf("%+v %v", out, err)
	}
	left(t, s, a, b)
	_, err = Compact(t.Context(), s.cfg, 3, "", nil)
	if err == nil || !strings.Contains(err.Error(), "at least 4") {
		t.Fatal(err)
	}
}

// With less room than a node needs, bodies go and the tables stay as they are; with hardly any, nothing is written.
func TestCompactWithoutRoom(t *testing.T) {
	t.Parallel() // it waits for the disk
	s, a, b := compactable(t)
	var low *LowSpaceError
	s.cfg.FreeSpace = func(string) (uint64, error) { return leanSpace - 1, nil }
	if out, err := Compact(t.Context(), s.cfg, 8, "", nil); !errors.As(err, &low) || out.Pruned != 0 {
		t.Fatalf("%+v %v", out, err)
	}
	s.cfg.FreeSpace = func(string) (uint64, error) { return leanSpace, nil }
	if _, err := Open(s.cfg); !errors.As(err, &low) {
		t.Fatal(err) // a node doesn't start with so little
	}
	out, err := Compact(t.Context(), s.cfg, 8, "", nil)
	if !errors.As(err, &low) || out.Pruned != 12 || low.Need <= leanSpace {
		t.Fatalf("%+v %v", out, err)
	}
	s.cfg.FreeSpace = plenty
	left(t, s, a, b)
}

// To another disk: the old directory isn't touched, however full it is.
func TestCompactTo(t *testing.T) {
	t.Parallel() // it waits for the disk
	s, a, b := compactable(t)
	from, to := s.cfg.Dir, filepath.Join(t.TempDir(), "new")
	s.cfg.FreeSpace = func(dir string) (uint64, error) {
		if strings.HasPrefix(dir, from) {
			return 0, nil
		}
		return plenty(dir)
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	before := tableBytes(t, from)
	if _, err := Compact(stopped, s.cfg, 8, to, nil); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(to + "*"); len(left) > 0 {
		t.Fatalf("left behind: %v", left)
	}
	if err := os.Mkdir(to+".part", 0o700); err != nil { // of a run that was killed
		t.Fatal(err)
	}
	out, err := Compact(t.Context(), s.cfg, 8, to, nil)
	if err != nil || out.Height != 20 || out.Pruned != 12 {
		t.Fatalf("%+v %v", out, err)
	}
	_, err = Compact(t.Context(), s.cfg, 8, to, nil)
	wantErr(t, err, ErrTaken, to)
	if string(before) != string(tableBytes(t, from)) {
		t.Fatal("the old directory was changed")
	}
	s.cfg.Dir = to
	left(t, s, a, b)

	s.cfg.Dir, to = from, to+"all" // with all bodies it is a ledger that verifies
	if _, err := Compact(t.Context(), s.cfg, 0, to, nil); err != nil {
		t.Fatal(err)
	}
	s.cfg.Dir = to
	if r, err := Verify(t.Context(), s.cfg, 0, nil); err != nil || r.Height != 20 {
		t.Fatalf("%+v %v", r, err)
	}
}

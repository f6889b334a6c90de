package ledger

import (
	"errors"
	"os"
	"testing"

	"quipu/chain"
)

var errDisk = errors.New("the disk fails, for the test")

// A reorg of 40 blocks, each block a transaction of its own or many in one, whose commit number k fails, for every k:
// nothing more is written by this run; what is stored is a whole block of one of the two chains, found valid by a replay
// from genesis; and the next Open ends the reorg.
//
// genesis -> a1 -> … -> a40
//
//	\-> b1 -> … -> b41
func TestEveryCommitOfADeepReorgFails(t *testing.T) {
	t.Parallel() // it waits for the disk
	const depth = 40
	for _, group := range []int{1, 0} {
		dir := t.TempDir()
		s := newScene(t, func(c *Config) { c.Dir, c.FreeSpace, c.groupBlocks = dir, plenty, group })
		a, b := s.chain("genesis", "a", depth), s.chain("genesis", "b", depth+1)
		s.give(a)
		s.headers(b...)
		s.bodies(b[1:]...)
		s.tip("a40")
		s.l.Close()
		step := 1
		if group == 1 && os.Getenv("QUIPU_LONG") == "" {
			step = 11
		}
		seen := map[string]bool{}
		for k := 0; ; k += step {
			s.cfg.Dir = copyDir(t, dir)
			left := k
			s.cfg.failCommit = nil
			s.open()
			s.l.cfg.failCommit = func() error {
				if left--; left < 0 {
					return errDisk
				}
				return nil
			}
			before := s.l.Tip()
			_, err := s.l.Add([]chain.CheckedBlock{s.Get("b1").Checked})
			if err == nil {
				if k < 2 {
					t.Fatalf("%d commits", k)
				}
				s.tip("b41")
				s.l.Close()
				break
			}
			wantErr(t, err, errDisk)
			if _, err := s.l.AddHeaders([]chain.Header{s.Get("b1").Header}); !errors.Is(err, errDisk) {
				t.Fatalf("commit %d: it goes on after a failed write (%v)", k, err)
			}
			s.l.Close()
			stored, err := Verify(t.Context(), s.cfg, 0, nil)
			if err != nil {
				t.Fatalf("commit %d: %v", k, err)
			}
			seen[s.name(stored.Tip)] = true
			s.open()
			if stored.Height == 0 && stored.Tip == before.ID {
				t.Fatalf("commit %d: opened at block 0", k)
			}
			if k > 0 { // the last body is stored
				s.tip("b41")
			} else {
				s.tip("a40")
			}
			s.l.Close()
		}
		if len(seen) < 1 || group == 1 && len(seen) < 6 {
			t.Fatalf("stopped at %v", seen)
		}
	}
}

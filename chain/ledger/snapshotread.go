package ledger

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"

	"github.com/dgraph-io/badger/v4"

	"quipu/chain"
	"quipu/chain/statetree"
)

// Snapshot is an open snapshot file. Its methods may be called at the same time.
type Snapshot struct {
	Network  chain.NetworkID
	Height   uint64
	Block    chain.BlockID
	Root     chain.Hash // the state root of that block, as the file says: compare it with the header's
	Accounts uint64
	Bytes    int64

	f     *os.File
	tree  *statetree.Paged
	pages uint64
	index int64 // offset of the first entry
}

// OpenSnapshot opens a snapshot file. It reads the head and the page at the top; Verify reads all.
func OpenSnapshot(name string) (*Snapshot, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	s := &Snapshot{f: f}
	if err := s.open(); err != nil {
		f.Close()
		return nil, err
	}
	return s, nil
}

func (s *Snapshot) open() error {
	name := s.f.Name()
	info, err := s.f.Stat()
	if err != nil {
		return err
	}
	s.Bytes = info.Size()
	head, tail := make([]byte, snapshotHead), make([]byte, 8)
	if s.Bytes < int64(snapshotHead+snapshotTail) {
		return badSnapshot(name, "has %d bytes", s.Bytes)
	}
	if _, err := s.f.ReadAt(head, 0); err != nil {
		return err
	}
	if _, err := s.f.ReadAt(tail, s.Bytes-int64(snapshotTail)); err != nil {
		return err
	}
	if string(head[:len(snapshotMagic)]) != snapshotMagic {
		return badSnapshot(name, "doesn't begin with %q", snapshotMagic[:len(snapshotMagic)-1])
	}
	b := head[len(snapshotMagic):]
	s.Network, s.Height = chain.NetworkID(b), le.Uint64(b[32:])
	s.Block, s.Root, s.Accounts = chain.BlockID(b[40:]), chain.Hash(b[72:]), le.Uint64(b[104:])
	s.pages = le.Uint64(tail)
	room := uint64(s.Bytes) - uint64(snapshotHead+snapshotTail)
	if s.Accounts > room/statetree.LeafSize || s.pages > (room-s.Accounts*statetree.LeafSize)/snapshotEntry {
		return badSnapshot(name, "is too short for %d accounts and %d pages", s.Accounts, s.pages)
	}
	s.index = s.Bytes - int64(snapshotTail) - int64(s.pages)*int64(snapshotEntry)
	if s.tree, err = statetree.OpenPaged(s.readPage, 0); err != nil {
		return badSnapshot(name, "%v", err)
	}
	if root := chain.Hash(s.tree.Root()); root != s.Root {
		return badSnapshot(name, "has pages with root %s and says %s", root, s.Root)
	}
	return nil
}

// Close closes the file.
func (s *Snapshot) Close() error { return s.f.Close() }

// Range is the accounts whose paths lie in from … to and the proof against Root that there are no others: see
// statetree.Tree.Range.
func (s *Snapshot) Range(from, to chain.Hash, maxLeaves int) ([]statetree.Leaf, statetree.RangeProof, error) {
	if bytes.Compare(from[:], to[:]) > 0 {
		return nil, statetree.RangeProof{}, nil
	}
	most := min(statetree.MaxRangeLeaves, max(maxLeaves, 1))
	leaves, more, err := s.leaves(from, to, most)
	if err != nil {
		return nil, statetree.RangeProof{}, err
	}
	end := to
	if more {
		end = statetree.PathOf(leaves[most-1].Account)
	}
	proof, err := s.tree.ProveRange(from, end, more)
	if err == nil { // the leaves were read beside the tree: whoever is given them verifies them, and so does this
		_, err = statetree.VerifyRange(s.Root, from, to, leaves, proof)
	}
	if err != nil {
		return nil, statetree.RangeProof{}, badSnapshot(s.f.Name(), "%v", err)
	}
	return leaves, proof, nil
}

// leaves reads the accounts of a range as they stand in the file: up to so many, and whether there are more.
func (s *Snapshot) leaves(from, to chain.Hash, most int) (out []statetree.Leaf, more bool, err error) {
	one := make([]byte, statetree.LeafSize)
	first := sort.Search(int(s.Accounts), func(i int) bool {
		if _, e := s.f.ReadAt(one, int64(snapshotHead)+int64(i)*statetree.LeafSize); e != nil {
			err = e
		}
		p := statetree.PathOf([32]byte(one))
		return bytes.Compare(p[:], from[:]) >= 0
	})
	if err != nil {
		return nil, false, err
	}
	b := make([]byte, min(most+1, int(s.Accounts)-first)*statetree.LeafSize)
	if _, err := s.f.ReadAt(b, int64(snapshotHead)+int64(first)*statetree.LeafSize); err != nil {
		return nil, false, err
	}
	n := sort.Search(len(b)/statetree.LeafSize, func(i int) bool {
		p := statetree.PathOf([32]byte(b[i*statetree.LeafSize:]))
		return bytes.Compare(p[:], to[:]) > 0
	})
	if more = n > most; more {
		n = most
	}
	out = make([]statetree.Leaf, n)
	for i := range out {
		out[i] = statetree.ReadLeaf(b[i*statetree.LeafSize:])
	}
	return out, more, nil
}

// Answer is Range, encoded as docs/spec.md says.
func (s *Snapshot) Answer(from, to chain.Hash, maxLeaves int) ([]byte, error) {
	leaves, proof, err := s.Range(from, to, maxLeaves)
	if err != nil {
		return nil, err
	}
	return statetree.AppendRange(nil, leaves, proof), nil
}

// readPage is the tree's statetree.ReadPage: a page of slots by the index, one of leaves cut out of the leaves.
func (s *Snapshot) readPage(k statetree.PageKey, use func([]byte) error) error {
	var failed error
	entry := make([]byte, snapshotEntry)
	i := sort.Search(int(s.pages), func(i int) bool {
		if _, err := s.f.ReadAt(entry, s.index+int64(i)*int64(snapshotEntry)); err != nil {
			failed = err
		}
		return bytes.Compare(entry[:len(k)], k[:]) >= 0
	})
	if failed != nil {
		return failed
	}
	if i < int(s.pages) {
		if _, err := s.f.ReadAt(entry, s.index+int64(i)*int64(snapshotEntry)); err != nil {
			return err
		}
		if bytes.Equal(entry[:len(k)], k[:]) {
			at, n := le.Uint64(entry[len(k):]), le.Uint32(entry[len(k)+8:])
			if n > 1<<12 || at > uint64(s.index) {
				return fmt.Errorf("page %v is said to have %d bytes at %d", k, n, at)
			}
			page := make([]byte, n)
			if _, err := s.f.ReadAt(page, int64(at)); err != nil {
				return err
			}
			return use(page)
		}
	}
	return s.readLeaves(k, use)
}

// snapshotCut is more leaves than a page has, but for paths that nobody can find (statetree's deepest pages).
const snapshotCut = 1 << 10

func (s *Snapshot) readLeaves(k statetree.PageKey, use func([]byte) error) error {
	var failed error
	leaf := make([]byte, statetree.LeafSize)
	lo := sort.Search(int(s.Accounts), func(i int) bool {
		if _, err := s.f.ReadAt(leaf, int64(snapshotHead)+int64(i)*statetree.LeafSize); err != nil {
			failed = err
		}
		return k.Above([32]byte(leaf)) >= 0
	})
	if failed != nil {
		return failed
	}
	b := make([]byte, min(snapshotCut, int(s.Accounts)-lo)*statetree.LeafSize)
	n, err := s.f.ReadAt(b[:min(len(b), 80*statetree.LeafSize)], int64(snapshotHead)+int64(lo)*statetree.LeafSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if n == 80*statetree.LeafSize && k.Above([32]byte(b[n-statetree.LeafSize:])) == 0 {
		if n, err = s.f.ReadAt(b, int64(snapshotHead)+int64(lo)*statetree.LeafSize); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	count := 0
	for (count+1)*statetree.LeafSize <= n && k.Above([32]byte(b[count*statetree.LeafSize:])) == 0 {
		count++
	}
	if count == 0 {
		return nil // there is none: the tree says so
	}
	return use(statetree.LeafPage(b[:count*statetree.LeafSize]))
}

// Verify reads the whole file: its checksum, the root that its leaves give, and the tree that its pages make of them.
func (s *Snapshot) Verify() error {
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(s.f, 0, s.Bytes-sha256.Size)); err != nil {
		return err
	}
	want := make([]byte, sha256.Size)
	if _, err := s.f.ReadAt(want, s.Bytes-sha256.Size); err != nil {
		return err
	}
	if !bytes.Equal(sum.Sum(nil), want) {
		return badSnapshot(s.f.Name(), "doesn't have its checksum")
	}
	in := bufio.NewReaderSize(io.NewSectionReader(s.f, int64(snapshotHead), int64(s.Accounts)*statetree.LeafSize), 1<<20)
	leaf, left := make([]byte, statetree.LeafSize), s.Accounts
	root, n, err := statetree.Build(func() (statetree.Leaf, bool, error) {
		if left == 0 {
			return statetree.Leaf{}, false, nil
		}
		left--
		_, err := io.ReadFull(in, leaf)
		return statetree.ReadLeaf(leaf), err == nil, err
	}, func(statetree.PageKey, []byte) error { return nil })
	if err != nil || chain.Hash(root) != s.Root {
		return badSnapshot(s.f.Name(), "has leaves with root %x (%v)", root, err)
	}
	n = 0
	err = s.tree.Walk(func(*statetree.Leaf) error { n++; return nil })
	if err != nil || n != s.Accounts {
		return badSnapshot(s.f.Name(), "has %d accounts of %d in its tree (%v)", n, s.Accounts, err)
	}
	return nil
}

// Snapshots lists the snapshot files in a directory, oldest first: none if there is no such directory.
func Snapshots(dir string) ([]string, error) { return filesLike(dir, "state-*.snapshot") }

// filesLike isn't filepath.Glob of both: a directory's name may hold what Glob takes for a pattern.
func filesLike(dir, pattern string) (files []string, err error) {
	all, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	for _, f := range all {
		if ok, _ := filepath.Match(pattern, f.Name()); ok {
			files = append(files, filepath.Join(dir, f.Name()))
		}
	}
	return files, err
}

// Stands reports whether a snapshot is of this ledger's best chain: the block it names is, at that height and with that
// state root. An error is the store's.
func (l *Ledger) Stands(s *Snapshot) (ok bool, err error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	e := l.index.byID[s.Block]
	if err := l.usable(); err != nil || e == nil || !l.main.has(e) || uint64(e.height) != s.Height || s.Network != l.g.NetworkID() {
		return false, err
	}
	err = l.db.View(func(txn *badger.Txn) error {
		h, err := l.mustState(txn, e)
		ok = h.Header.StateRoot == s.Root
		return err
	})
	return ok && err == nil, err
}

// TidySnapshots removes what was left unfinished, damaged files, those of blocks that left the best chain, and all but
// the last three. A file that can't be read now stays, and counts as one of the three: its turn comes. While the chain
// is applied anew from block 0 nobody knows which blocks will be on it, and files of all stay.
func (l *Ledger) TidySnapshots(dir string) error {
	left, err := filesLike(dir, "making-*")
	if err != nil {
		return err
	}
	files, err := Snapshots(dir)
	if err != nil {
		return err
	}
	kept := 0
	var errs []error
	for i := len(files) - 1; i >= 0; i-- {
		s, err := OpenSnapshot(files[i])
		keep := false
		switch {
		case err == nil:
			s.Close()
			if keep, err = l.Stands(s); err != nil || !keep && l.Rebuilding() != nil {
				errs, keep = append(errs, err), true
			}
		case !errors.Is(err, ErrSnapshot):
			errs, keep = append(errs, err), true
		}
		if keep && kept < SnapshotsKept {
			kept++
		} else {
			left = append(left, files[i])
		}
	}
	for _, f := range left {
		errs = append(errs, os.Remove(f))
	}
	return errors.Join(errs...)
}

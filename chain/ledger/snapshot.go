package ledger

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"quipu/chain"
	"quipu/chain/statetree"
)

// A snapshot is a file of all accounts as of one block, from which ranges are served with proofs against that block's
// state root. Integers are little-endian.
//
//	"quipu-state/1\n" | network 32 | height u64 | block 32 | state root 32 | accounts u64
//	accounts × (account 32 | balance u64 | nonce u64)    ascending by path
//	pages of slots above them (chain/statetree/page.go), one after another
//	pages × (key 9 | offset u64 | length u32)            ascending by key
//	pages u64 | SHA-256 of all before
//
// What is read is held against the state root, page by page, so a damaged file gives an error and no wrong answer.
const (
	snapshotMagic = "quipu-state/1\n"
	snapshotHead  = len(snapshotMagic) + 32 + 8 + 32 + 32 + 8
	snapshotEntry = statetree.PageKeySize + 12
	snapshotTail  = 8 + sha256.Size
)

// ErrSnapshot is wrapped by errors about a file that is no snapshot, or a damaged one.
var ErrSnapshot = errors.New("the snapshot file is damaged")

func badSnapshot(name, format string, args ...any) error {
	return fmt.Errorf("%w: %s %s; remove it", ErrSnapshot, name, fmt.Sprintf(format, args...))
}

// ErrUnpinned: what was pinned isn't stored any more. Nobody's fault.
var ErrUnpinned = errors.New("the chain was applied anew from block 0 meanwhile, and the accounts that were pinned are gone")

// Pinned is the accounts at one block, whatever the ledger does afterwards but for a start from block 0. It holds a
// read transaction open until Release, so not for long: what was overwritten since can't be tidied up meanwhile.
type Pinned struct {
	Tip      chain.State
	accounts uint64
	l        *Ledger
	txn      *badger.Txn
	drops    uint64 // Ledger.drops then
}

// Release lets go. It may be called again.
func (p *Pinned) Release() { p.txn.Discard() }

// pinHere reports whether the accounts at the tip are to be pinned. Not those of far history, which the file of a block
// that is known to come would put out at once.
func (l *Ledger) pinHere() bool {
	every := uint64(l.cfg.pinEvery)
	h := l.record.height
	return every > 0 && h > 0 && h%every == 0 && l.over == nil && h+SnapshotsKept*every > l.best.Header.Height
}

// PinEvery makes the ledger pin the accounts at each multiple of so many blocks that it reaches from now on, for
// TakePinned; 0 ends that.
func (l *Ledger) PinEvery(blocks int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cfg.pinEvery = blocks; blocks == 0 {
		l.unpin()
	}
}

// pin keeps the accounts at the tip, which must be committed, for TakePinned. If all are in memory still, since genesis
// has them and no checkpoint ever ended, they are written now: Pinned.Write reads pages, and makes no tree of its own.
func (l *Ledger) pin() error {
	l.unpin()
	paged, err := has(l.db, pageRecord(statetree.PageKey{}))
	if err == nil && !paged {
		err = l.checkpoint(0)
	}
	if err != nil {
		return err
	}
	l.pinned = &Pinned{Tip: l.tip, accounts: l.record.accounts, l: l, txn: l.db.NewTransaction(false), drops: l.drops.Load()}
	return nil
}

func (l *Ledger) unpin() {
	if l.pinned != nil {
		l.pinned.Release()
		l.pinned = nil
	}
}

// SnapshotsKept is how many snapshot files are kept.
const SnapshotsKept = 3

// TakePinned is the accounts at the last multiple of PinEvery that was reached, once; nil if there are none.
// The caller releases them, before the ledger is closed.
func (l *Ledger) TakePinned() *Pinned {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.pinned
	l.pinned = nil
	return p
}

// snapshotName is the file of a block: names ascend as heights do.
func snapshotName(height uint64, id chain.BlockID) string {
	return fmt.Sprintf("state-%010d-%x.snapshot", height, id[:8])
}

// Write makes the snapshot file of pinned accounts in a directory, whole or not at all. It takes memory for what the
// journal holds, about 140 bytes for each of JournalAccounts, and for the pages of slots, about 4 bytes an account.
//
// Errors: ErrUnpinned, context.Cause of ctx, ErrCorrupt, or one of the system.
func (p *Pinned) Write(ctx context.Context, dir string) (err error) {
	defer func() {
		if err != nil && p.drops != p.l.drops.Load() {
			err = ErrUnpinned
		}
	}()
	var changes []statetree.Change
	if _, err := readJournal(p.txn, func(more []statetree.Change) error {
		changes = append(changes, more...) // of a repeated account the last counts
		return nil
	}); err != nil {
		return err
	}
	if err := p.room(dir, p.accounts); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "making-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already if all went well
	w := snapshotWriter{sum: sha256.New(), room: func(left uint64) error { return p.room(dir, left) }}
	w.out = bufio.NewWriterSize(io.MultiWriter(f, w.sum), 1<<20)
	err = w.write(ctx, p, changes)
	if err == nil {
		err = w.out.Flush()
	}
	if err == nil {
		_, err = f.Write(w.sum.Sum(nil))
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, snapshotName(p.Tip.Header.Height, p.Tip.ID))); err != nil {
		return err
	}
	return syncDir(dir)
}

// room looks whether the disk takes the file of so many more accounts and leaves the ledger what it needs: the file
// gives way before the ledger would have to stop.
func (p *Pinned) room(dir string, accounts uint64) error {
	free, err := p.l.cfg.FreeSpace(dir)
	if err != nil {
		return fmt.Errorf("looking at free space: %w", err)
	}
	if need := p.l.cfg.needSpace() + accounts*64; free < need {
		return fmt.Errorf("%s has %d MiB free, and %d MiB are needed to finish the file and leave the ledger its room", dir, free>>20, need>>20)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

type snapshotWriter struct {
	out  *bufio.Writer
	sum  hash.Hash
	at   uint64
	slot bytes.Buffer // pages of slots, about a sixteenth of the leaves
	list []snapshotPage
	room func(accounts uint64) error
}

type snapshotPage struct {
	key    statetree.PageKey
	offset uint64 // from the first page of slots
	length uint32
}

func (w *snapshotWriter) put(b []byte) error {
	n, err := w.out.Write(b)
	w.at += uint64(n)
	return err
}

func (w *snapshotWriter) write(ctx context.Context, p *Pinned, changes []statetree.Change) error {
	h := &p.Tip.Header
	head := append([]byte(snapshotMagic), make([]byte, 0, 112)...)
	network := p.l.g.NetworkID()
	head = append(head, network[:]...)
	head = le.AppendUint64(head, h.Height)
	head = append(append(head, p.Tip.ID[:]...), h.StateRoot[:]...)
	if err := w.put(le.AppendUint64(head, p.accounts)); err != nil {
		return err
	}
	root, n, err := statetree.BuildFrom(func(use func(*statetree.Leaf) error) error {
		scan, n := pageScan{txn: p.txn}, uint64(0)
		defer scan.close()
		return statetree.WalkStored(scan.read, changes, func(leaf *statetree.Leaf) error {
			if n++; n%4096 == 0 && ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if n%(1<<16) == 0 && n <= p.accounts {
				if err := w.room(p.accounts - n); err != nil {
					return err
				}
			}
			if err := w.put(statetree.AppendLeaf(make([]byte, 0, statetree.LeafSize), leaf)); err != nil {
				return err
			}
			return use(leaf)
		})
	}, func(k statetree.PageKey, page []byte) error {
		w.list = append(w.list, snapshotPage{k, uint64(w.slot.Len()), uint32(len(page))})
		w.slot.Write(page)
		return nil
	})
	if err != nil {
		return damagedPage(err)
	}
	if n != p.accounts || chain.Hash(root) != h.StateRoot {
		return corrupt("the accounts pinned at block %d are %d with root %x, want %d and %s", h.Height, n, root, p.accounts, h.StateRoot)
	}
	first := w.at
	if err := w.put(w.slot.Bytes()); err != nil {
		return err
	}
	slices.SortFunc(w.list, func(a, b snapshotPage) int { return bytes.Compare(a.key[:], b.key[:]) })
	for _, e := range w.list {
		b := le.AppendUint64(append(make([]byte, 0, snapshotEntry), e.key[:]...), first+e.offset)
		if err := w.put(le.AppendUint32(b, e.length)); err != nil {
			return err
		}
	}
	return w.put(le.AppendUint64(nil, uint64(len(w.list))))
}

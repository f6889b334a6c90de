package ledger

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"quipu/chain"
)

// Sentinels, for errors.Is. Each error that wraps one is a sentence that names what was found and what to do.
var (
	ErrLocked       = errors.New("the ledger is in use")
	ErrWrongGenesis = errors.New("the ledger belongs to another network")
	ErrNewerSchema  = errors.New("the ledger was written by a newer program")
	ErrOlderSchema  = errors.New("the ledger was written by an older program")
	ErrCorrupt      = errors.New("the ledger on disk is damaged")
	ErrNoLedger     = errors.New("there is no ledger here")
	ErrNoAccess     = errors.New("the ledger's files can't be used")
	ErrClosed       = errors.New("the ledger is closed")

	// ErrInvalidAncestor: the header keeps the rules but it or an ancestor is known to be invalid. Nobody's fault.
	ErrInvalidAncestor = errors.New("the header or an ancestor of it is known to be invalid")
	// ErrLowWork: the header keeps the rules and its branch has too little work to be kept. Nobody's fault.
	ErrLowWork = errors.New("the branch has too little work to be stored")
	// ErrCheckpoint: the header keeps the rules and another block is the checkpoint at its height. Nobody's fault.
	ErrCheckpoint = errors.New("another block is this node's checkpoint at that height")
	// ErrStale: a header made for a block that is no longer the tip.
	ErrStale = errors.New("its parent is no longer the tip")
	// ErrDeepReorg: a heavier branch leaves ours further back than undo reaches.
	ErrDeepReorg = errors.New("a heavier branch leaves this one further back than undo is kept")
)

// LowSpaceError says that the disk is too full to write safely. Badger writes through memory maps over sparse
// files: on a full disk the process would die by SIGBUS, so the ledger stops before. Nothing was written.
type LowSpaceError struct {
	Dir        string
	Free, Need uint64 // bytes
}

func (e *LowSpaceError) Error() string {
	return fmt.Sprintf("%s has %d MiB free and the ledger needs %d MiB: make room and start again", e.Dir, e.Free>>20, e.Need>>20)
}

// DeepReorgError names a heavier complete branch that was not followed: see Ledger.StartOver. It wraps ErrDeepReorg.
type DeepReorgError struct {
	ID           chain.BlockID // the branch's last complete block
	Height, Fork uint64        // of that block, and where the branch leaves the chain followed here
	UndoFrom     uint64        // lowest height that can still be reverted
}

func (e *DeepReorgError) Unwrap() error { return ErrDeepReorg }
func (e *DeepReorgError) Error() string {
	return fmt.Sprintf("a heavier branch up to block %d (%s) leaves this chain at height %d, and blocks can be reverted down to %d only: the chain has to be applied anew from block 0",
		e.Height, e.ID, e.Fork, e.UndoFrom)
}

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s; restore a copy, or remove the directory and sync again", ErrCorrupt, fmt.Sprintf(format, args...))
}

func locked(dir string) error {
	holder := "another process"
	if pid, err := os.ReadFile(filepath.Join(dir, "LOCK")); err == nil && len(pid) < 16 && len(strings.TrimSpace(string(pid))) > 0 {
		holder = "process " + strings.TrimSpace(string(pid))
	}
	return fmt.Errorf("%w: %s is held by %s; stop that node or use another data directory", ErrLocked, dir, holder)
}

func wrongGenesis(dir string, has, want chain.NetworkID) error {
	return fmt.Errorf("%w: %s holds network %s and the genesis given is network %s; use that network's genesis or another data directory",
		ErrWrongGenesis, dir, has, want)
}

// checkSchema refuses what this program doesn't read.
func checkSchema(version []byte, dir string) error {
	if len(version) == 4 && le.Uint32(version) == schema {
		return nil
	}
	if len(version) == 4 && le.Uint32(version) < schema {
		return fmt.Errorf("%w: %s has schema %d and this program writes %d; quipu chain reindex rebuilds it from the blocks it holds",
			ErrOlderSchema, dir, le.Uint32(version), schema)
	}
	return fmt.Errorf("%w: %s has schema %x and this program knows %d; use the newer program, or remove the directory and sync again",
		ErrNewerSchema, dir, version, schema)
}

package ledger

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/dgraph-io/badger/v4"

	"quipu/chain"
)

// exportMagic begins an export: magic | length u32 | canonical genesis | header ‖ body of blocks 1, 2, … to the end.
// A body's length is body_size of its header.
const exportMagic = "quipu-chain/1\n"

// maxGenesis bounds canonical genesis bytes in store and export.
const maxGenesis = 64 << 20

// MaxBalances is how many balances a genesis may have that a ledger or an export is to hold.
const MaxBalances = (maxGenesis - 256) / 40

// ErrExport is wrapped by every error about the bytes of an export.
var ErrExport = errors.New("not a whole quipu chain export")

// Export writes the validated best chain of a stopped node's ledger. cfg.Genesis may be nil. See Ledger.Export.
func Export(ctx context.Context, cfg Config, w io.Writer, progress func(done, total uint64)) error {
	l, err := openToLook(cfg)
	if err != nil {
		return err
	}
	defer l.Close()
	return l.Export(ctx, w, progress)
}

// Export writes genesis and the validated best chain as it stands now. progress may be nil; it is called with
// blocks written and blocks in all. When ctx ends or a block can't be read, the blocks before it have been written.
func (l *Ledger) Export(ctx context.Context, w io.Writer, progress func(done, total uint64)) error {
	l.mu.RLock()
	blocks := append(path(nil), l.main[1:]...)
	err := l.whole("export history")
	l.mu.RUnlock()
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 1<<20)
	if err := WriteExportHead(out, l.g); err != nil {
		return err
	}
	err = l.exportBlocks(ctx, out, blocks, progress)
	if ferr := out.Flush(); ferr != nil {
		err = fmt.Errorf("writing the export: %w", ferr)
	}
	return err
}

func (l *Ledger) exportBlocks(ctx context.Context, out *bufio.Writer, blocks path, progress func(done, total uint64)) error {
	total := uint64(len(blocks))
	for i, e := range blocks {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := l.stored(e)
		if err != nil {
			return err
		}
		out.Write(b.Header.Append(nil)) // the writer keeps its first error
		if _, err := out.Write(b.Body); err != nil {
			return fmt.Errorf("writing the export: %w", err)
		}
		if done := uint64(i + 1); progress != nil {
			progress(done, total)
		}
	}
	return nil
}

// WriteExportHead writes what an export begins with: all before the blocks. Header and body of each block from
// height 1 on come after it.
func WriteExportHead(w io.Writer, g *chain.Genesis) error {
	canonical := g.Append(nil)
	head := le.AppendUint32([]byte(exportMagic), uint32(len(canonical)))
	if _, err := w.Write(append(head, canonical...)); err != nil {
		return fmt.Errorf("writing the export: %w", err)
	}
	return nil
}

// stored reads a block back.
func (l *Ledger) stored(e *entry) (b chain.Block, err error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if err := l.usable(); err != nil {
		return b, err
	}
	err = l.db.View(func(txn *badger.Txn) error {
		s, err := l.mustState(txn, e)
		if err != nil {
			return err
		}
		b.Header = s.Header
		b.Body, err = getBody(txn, e)
		return err
	})
	return b, err
}

// ReadExport reads an export: the genesis at once, the blocks from height 1 on as they are asked for, once. Sizes
// are bounded by the genesis, heights and parents are followed; nothing else of a block is checked. After an error
// the sequence ends. Errors wrap ErrExport, or come from r.
func ReadExport(r io.Reader) (*chain.Genesis, iter.Seq2[chain.Block, error], error) {
	in := bufio.NewReaderSize(r, 1<<16)
	var head [len(exportMagic) + 4]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return nil, nil, exportError(err, "it is shorter than its head")
	}
	if string(head[:len(exportMagic)]) != exportMagic {
		return nil, nil, fmt.Errorf("%w: it doesn't begin with %q", ErrExport, exportMagic)
	}
	n := le.Uint32(head[len(exportMagic):])
	if n > maxGenesis {
		return nil, nil, fmt.Errorf("%w: a genesis of %d bytes, at most %d", ErrExport, n, maxGenesis)
	}
	canonical := make([]byte, min(n, 1<<20)) // a claim that is large has to be kept in part first
	_, err := io.ReadFull(in, canonical)
	if err == nil && int(n) > len(canonical) {
		all := make([]byte, n)
		_, err = io.ReadFull(in, all[copy(all, canonical):])
		canonical = all
	}
	if err != nil {
		return nil, nil, exportError(err, "it ends in its genesis")
	}
	g, err := chain.DecodeGenesis(canonical)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: its genesis is refused (%v)", ErrExport, err)
	}
	return g, func(yield func(chain.Block, error) bool) {
		parent := g.State().ID
		for height := uint64(1); ; height++ {
			b, err := readBlock(in, g, parent, height)
			if err == io.EOF {
				return
			}
			if !yield(b, err) || err != nil {
				return
			}
			parent = b.Header.ID()
		}
	}, nil
}

// readBlock returns io.EOF at a clean end.
func readBlock(in *bufio.Reader, g *chain.Genesis, parent chain.BlockID, height uint64) (b chain.Block, err error) {
	var raw [chain.HeaderSize]byte
	if _, err := io.ReadFull(in, raw[:]); err != nil {
		if err == io.EOF {
			return b, err
		}
		return b, exportError(err, "it ends in header %d", height)
	}
	if b.Header, err = chain.DecodeHeader(raw[:]); err != nil {
		return b, err
	}
	h := &b.Header
	if h.Height != height || h.Parent != parent {
		return b, fmt.Errorf("%w: header %d doesn't continue the block before it", ErrExport, height)
	}
	if h.BodySize > g.BodyLimit {
		return b, fmt.Errorf("%w: block %d has a body of %d bytes, at most %d", ErrExport, height, h.BodySize, g.BodyLimit)
	}
	b.Body = make([]byte, h.BodySize)
	if _, err := io.ReadFull(in, b.Body); err != nil {
		return b, exportError(err, "it ends in the body of block %d", height)
	}
	return b, nil
}

func exportError(err error, format string, args ...any) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: %s", ErrExport, fmt.Sprintf(format, args...))
	}
	return fmt.Errorf("reading the export: %w", err)
}

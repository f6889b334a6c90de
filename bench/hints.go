package bench

import (
	"bufio"
	"context"
	"io"
	"iter"
	"runtime"
	"sync"

	secp "github.com/decred/dcrd/dcrec/secp256k1/v4"

	"quipu/chain"
	"quipu/chain/ledger"
	"quipu/node"
)

// evenY is the even y of the point with this x, as one who has verified the signature could keep it. Where there is
// none it is some wrong hint.
func evenY(x *[32]byte) (out [32]byte) {
	var fx, y secp.FieldVal
	fx.SetBytes(x)
	secp.DecompressY(&fx, false, &y)
	y.Normalize().PutBytes(&out)
	return out
}

// WriteHints reads an export and writes chain.HintSize bytes for each of its transactions, in order. progress may be
// nil and is called with blocks done.
func WriteHints(ctx context.Context, export io.Reader, w io.Writer, progress func(done, total uint64)) error {
	_, blocks, err := ledger.ReadExport(export)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 1<<20)
	done := uint64(0)
	for b, err := range blocks {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		raws, err := chain.SplitBody(b.Body)
		if err != nil {
			return err
		}
		hints := make([][32]byte, len(raws))
		spread(len(raws), func(i int) {
			signature := raws[i][len(raws[i])-64:]
			hints[i] = evenY((*[32]byte)(signature))
		})
		for i := range hints {
			out.Write(hints[i][:]) // the writer keeps its first error
		}
		if done++; progress != nil {
			progress(done, done)
		}
	}
	return out.Flush()
}

// hinted puts what WriteHints wrote beside the blocks. hints nil gives none; where they end, blocks go on without.
func hinted(blocks iter.Seq2[chain.Block, error], hints io.Reader) iter.Seq2[node.HintedBlock, error] {
	return func(yield func(node.HintedBlock, error) bool) {
		for b, err := range blocks {
			h := node.HintedBlock{Block: b}
			if err == nil && hints != nil && int(b.Header.TxCount) <= len(b.Body)/chain.TxMinSize {
				h.Hint = make([]byte, chain.HintSize*int(b.Header.TxCount))
				if _, err := io.ReadFull(hints, h.Hint); err != nil {
					h.Hint, hints = nil, nil
				}
			}
			if !yield(h, err) {
				return
			}
		}
	}
}

// spread runs f(0..n−1) over the cores and returns when all are done.
func spread(n int, f func(i int)) {
	var all sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		all.Go(func() {
			for i := w; i < n; i += workers {
				f(i)
			}
		})
	}
	all.Wait()
}

package node

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"quipu/chain"
)

// A part is so many blocks in a row that are checked together on one core: large enough for signature batches to pay,
// small enough that memory stays bounded and the ledger has something to apply soon.
const (
	partTxs   = 8192    // signatures, unless one block has more
	partBytes = 4 << 20 // of bodies, unless one block has more
	partSize  = 512     // blocks
)

type part struct {
	blocks  []chain.Block
	hints   [][]byte // by block
	txs     int
	bytes   int
	checked []chain.CheckedBlock
	errs    []error
	done    chan struct{} // closes when checked and errs are there
}

func (p *part) full() bool {
	return p.txs >= partTxs || p.bytes >= partBytes || len(p.blocks) >= partSize
}

// fits reports whether a block may join.
func (p *part) fits(b *chain.Block) bool {
	return len(p.blocks) == 0 || p.txs+int(b.Header.TxCount) <= partTxs && p.bytes+len(b.Body) <= partBytes
}

// HintedBlock is a block and what its sender may put beside it, see chain.Unverified.Hint: nil is none.
type HintedBlock struct {
	chain.Block
	Hint []byte
}

// unhinted passes blocks on without hints.
func unhinted(blocks iter.Seq2[chain.Block, error]) iter.Seq2[HintedBlock, error] {
	return func(yield func(HintedBlock, error) bool) {
		for b, err := range blocks {
			if !yield(HintedBlock{Block: b}, err) {
				return
			}
		}
	}
}

// checkAhead makes the stateless checks of blocks in parts, each on one core and as many at once as there are cores,
// and hands the parts to take in order, one at a time, while later ones are checked. It reads ahead no more than two
// parts a core. It ends with the first error of blocks, take or ctx, and has then ended all it started. Parts before
// the error have been taken.
func (n *Node) checkAhead(ctx context.Context, blocks iter.Seq2[HintedBlock, error], take func(*part) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cores := runtime.GOMAXPROCS(0)
	work, order := make(chan *part, cores), make(chan *part, 2*cores)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()

	var readErr error // read after order is closed
	all.Go(func() {
		defer close(order)
		defer close(work)
		readErr = n.cut(blocks, func(p *part) bool {
			select {
			case order <- p:
			case <-ctx.Done():
				return false
			}
			select {
			case work <- p:
				return true
			case <-ctx.Done():
				return false
			}
		})
	})
	for range cores {
		all.Go(func() {
			for p := range work {
				if ctx.Err() == nil {
					start := time.Now()
					decoded := n.checker.Decode(1, p.blocks)
					decoded.Hint(p.hints)
					n.stages.decode.add(start)
					start = time.Now()
					p.checked, p.errs = decoded.Verify(1)
					n.stages.verify.add(start)
				}
				close(p.done)
			}
		})
	}
	for p := range order {
		start := time.Now()
		select {
		case <-p.done:
		case <-ctx.Done():
		}
		n.stages.starved.add(start)
		if err := ctx.Err(); err != nil {
			return err
		}
		start = time.Now()
		if err := take(p); err != nil {
			return err
		}
		n.stages.store.add(start)
	}
	if readErr == nil {
		readErr = ctx.Err()
	}
	return readErr
}

// cut gathers blocks into parts and gives each to send, until send says no. It returns the error that ended blocks.
func (n *Node) cut(blocks iter.Seq2[HintedBlock, error], send func(*part) bool) error {
	p := &part{done: make(chan struct{})}
	start := time.Now()
	flush := func() bool {
		if len(p.blocks) == 0 {
			return true
		}
		n.stages.read.add(start)
		ok := send(p)
		p, start = &part{done: make(chan struct{})}, time.Now()
		return ok
	}
	for b, err := range blocks {
		if err != nil {
			flush()
			return err
		}
		if !p.fits(&b.Block) && !flush() {
			return nil
		}
		p.blocks, p.hints = append(p.blocks, b.Block), append(p.hints, b.Hint)
		p.txs += int(b.Header.TxCount)
		p.bytes += len(b.Body)
		if p.full() && !flush() {
			return nil
		}
	}
	flush()
	return nil
}

// InvalidBlockError names the first block of a stream that can't be taken and why.
type InvalidBlockError struct {
	Height uint64
	ID     chain.BlockID
	Err    error
}

func (e *InvalidBlockError) Error() string {
	return fmt.Sprintf("block %d (%s) is refused: %v", e.Height, e.ID, e.Err)
}

func (e *InvalidBlockError) Unwrap() error { return e.Err }

// Imported is what ImportStream has done so far.
type Imported struct {
	Read    uint64 // blocks
	Known   uint64 // of those, how many were here before
	Applied uint64 // of those, how many were checked and are durable by this call
	Txs     uint64 // in the applied
	Height  uint64 // of the last block taken
	Beside  bool   // the last block taken isn't on the best chain: what is here has more work

	last chain.BlockID
}

// ImportStream is Import for blocks in the order of height whose headers aren't stored yet, as many as there are:
// headers are checked and stored part by part. Blocks that are held already are passed over. progress may be nil. Who
// calls it has chosen these blocks, so a branch far below the tip is taken too.
//
// It ends at the first block that is refused (*InvalidBlockError), at an error of blocks, or when ctx ends, each time
// with everything before it durable. Any other error is ours.
func (n *Node) ImportStream(ctx context.Context, blocks iter.Seq2[chain.Block, error], progress func(Imported)) (Imported, error) {
	return n.ImportHinted(ctx, unhinted(blocks), progress)
}

// ImportHinted is ImportStream for blocks with hints beside them.
func (n *Node) ImportHinted(ctx context.Context, blocks iter.Seq2[HintedBlock, error], progress func(Imported)) (Imported, error) {
	var done Imported
	var read, known atomic.Uint64
	if err := n.startOver(ctx); err != nil { // one that was interrupted
		return done, err
	}
	before := n.ledger.Tip().Header.Height
	fresh := func(yield func(HintedBlock, error) bool) {
		for b, err := range blocks {
			if err == nil {
				read.Add(1)
				if info := n.ledger.Info(b.Header.ID()); b.Header.Height <= before && (info.Body || info.Pruned) {
					known.Add(1)
					continue
				}
			}
			if !yield(b, err) {
				return
			}
		}
	}
	err := n.checkAhead(ctx, fresh, func(p *part) error {
		err := n.takePart(p, &done)
		done.Read, done.Known = read.Load(), known.Load()
		if progress != nil {
			progress(done)
		}
		return err
	})
	done.Read, done.Known = read.Load(), known.Load()
	if err == nil {
		err = n.startOver(ctx) // these blocks may leave the chain below the undo
	}
	if err == nil && done.Applied > 0 && !n.ledger.Info(done.last).OnBest {
		done.Beside = true
	}
	return done, err
}

// takePart stores headers and blocks of one part up to the first that is refused.
func (n *Node) takePart(p *part, done *Imported) error {
	start := time.Now()
	headers := make([]chain.Header, len(p.blocks))
	for i := range p.blocks {
		headers[i] = p.blocks[i].Header
	}
	k, headerErr := n.AddHeadersProven(headers)
	n.stages.header.add(start)
	p.blocks, p.checked, p.errs = p.blocks[:k], p.checked[:k], p.errs[:k]
	blocks := p.blocks
	if err := n.store(p); err != nil {
		return err
	}
	for i := range blocks {
		h := &blocks[i].Header
		id := h.ID()
		if p.errs[i] != nil {
			return &InvalidBlockError{h.Height, id, p.errs[i]}
		}
		info := n.ledger.Info(id)
		if info.Invalid {
			return &InvalidBlockError{h.Height, id, errors.New(info.Reason)}
		}
		done.Height, done.last = h.Height, id
		done.Applied++
		done.Txs += uint64(h.TxCount)
	}
	if isOurs(headerErr) {
		return headerErr
	}
	if headerErr != nil {
		h := &headers[k]
		if info := n.ledger.Info(h.ID()); info.Invalid {
			headerErr = errors.New(info.Reason)
		}
		return &InvalidBlockError{h.Height, h.ID(), headerErr}
	}
	return nil
}

// stages counts where an import's time goes. Decoding and verifying run on several cores at once: their time is summed
// over them.
type stages struct{ read, decode, verify, header, store, starved, pool stage }

// stage is a sum of durations in ns.
type stage struct{ ns atomic.Int64 }

func (s *stage) add(start time.Time) { s.ns.Add(int64(time.Since(start))) }

// StageSeconds is the wall time spent in each stage of all parts so far. read is reading and cutting; decode (with
// the transactions' rules and roots) and verify (signatures) are summed over the cores that run them; header, bodies
// (storing them), apply (balances and undo), root, encode (index, undo and journal into the transaction), commit, pages
// (of the accounts, behind), history (the index of accounts, behind), pool (its update) and store_other come one after
// another; revert and forward are all of the walks down and up, with what they hold of the stages before; starved is how
// long there was nothing checked to store.
func (n *Node) StageSeconds() map[string]float64 {
	s, l := &n.stages, n.ledger.Timings()
	sec := func(st *stage) float64 { return time.Duration(st.ns.Load()).Seconds() }
	out := map[string]float64{
		"read": sec(&s.read), "decode": sec(&s.decode), "verify": sec(&s.verify), "header": sec(&s.header), "starved": sec(&s.starved),
		"bodies": l.Bodies.Seconds(), "apply": l.Apply.Seconds(), "root": l.Root.Seconds(), "encode": l.Encode.Seconds(), "commit": l.Commit.Seconds(),
	}
	out["pool"] = sec(&s.pool)
	out["revert"], out["forward"] = l.Revert.Seconds(), l.Forward.Seconds()
	out["pages"], out["history"] = l.Pages.Seconds(), l.History.Seconds()
	out["store_other"] = max(0, sec(&s.store)-out["header"]-out["pool"]-(l.Bodies+l.Apply+l.Root+l.Encode+l.Commit+l.Pages+l.History).Seconds())
	return out
}

// Accounts is how many accounts exist at the tip.
func (n *Node) Accounts() int { return n.ledger.Stats().Accounts }

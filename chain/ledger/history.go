package ledger

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"

	"quipu/chain"
)

// The account history index lists for each account the transactions that it sends or that pay it, and the blocks it
// mines. It is derived from bodies and written behind, blocks of many at once, in transactions of their own; a reorg
// deletes nothing.
//
//	'x' account ‖ first height u32   batch uvarint | count × (height − the one before uvarint | place uvarint)
//	'y' batch u32                    id of the batch's last block
//	m history                        id 32 | next batch u32: for every block up to this one there are entries
//
// Place is index − the one before in that block, beginning at −1, or 0 for the block's miner, which comes last.
//
// A batch is written for one branch, from the fork with what the index stood for to the block that its 'y' record
// names. An entry counts where that block's branch and the best chain are still one at the entry's height, so what a
// reorg leaves behind is passed over without looking at bodies, pruned ones too. The m record goes back to the fork before
// a record can overwrite one of another branch, and forward when the batch is whole: a crash between leaves some
// entries twice, and readers count them once.
type history struct {
	stored bool   // there is an index on disk
	base   *entry // it is complete up to this block, which may have left the best chain since
	next   uint32 // number of the next batch
}

const (
	// A batch is due when it has so many blocks, or bodies of so many bytes: about 300,000 entries of plain payments. It
	// ends early with the block in which it gets more than historyTouches entries. A record spans no more than a batch's blocks.
	historySpan    = 64
	historyBytes   = 24 << 20
	historyTouches = 400_000
	// historyEntries is how many entries of an account make a record full; it ends with the block then.
	historyEntries = 4096
	// historySteps is how many batches are written after one change of the tip at most. More is left to IndexHistory.
	historySteps = 4
)

// MinerPlace is the index of the entry that says that the account mined the block.
const MinerPlace = 1<<32 - 1

// ErrNoHistory: this ledger keeps no account history index.
var ErrNoHistory = errors.New("this node keeps no account history")

var metaHistory = []byte("mhistory")

func batchKey(n uint32) []byte { return be.AppendUint32([]byte{keyBatch}, n) }

// loadHistory reads what the index stands for. It stays on disk while a node runs without it.
func (l *Ledger) loadHistory(txn *badger.Txn) error {
	h := history{base: l.main[0]}
	v, err := get(txn, metaHistory)
	if err != nil {
		return err
	}
	if v != nil {
		if len(v) != 36 || l.index.byID[chain.BlockID(v)] == nil {
			return historyCorrupt("its record doesn't name a block that is stored")
		}
		h.stored, h.base, h.next = true, l.index.byID[chain.BlockID(v)], le.Uint32(v[32:])
	}
	l.history = h
	if l.cfg.History && l.wantsHistory() {
		return fmt.Errorf("%w: this node began with a snapshot and hasn't all blocks yet, so an account history index can't be made; run without --history until quipu status says that it is verified",
			ErrPruned)
	}
	if at := l.main.fork(h.base).height; l.cfg.History && uint64(at) < l.pruned {
		return fmt.Errorf("%w: the account history index reaches to block %d and bodies up to %d are gone, so it can't be completed; run without --history, or sync again from an empty data directory",
			ErrPruned, at, l.pruned)
	}
	return nil
}

func historyRecord(base chain.BlockID, next uint32) []byte {
	return le.AppendUint32(append(make([]byte, 0, 36), base[:]...), next)
}

// restartHistory writes, where there is an index, that it stands at block 0: its other records were dropped.
func (l *Ledger) restartHistory(set func(k, v []byte) error) error {
	stored, err := has(l.db, metaHistory)
	if err != nil || !stored {
		return err
	}
	return set(metaHistory, historyRecord(l.g.State().ID, 0))
}

func historyCorrupt(format string, args ...any) error {
	return fmt.Errorf("%w: the account history index: %s; quipu chain reindex makes it anew", ErrCorrupt, fmt.Sprintf(format, args...))
}

// historyBase is the height up to which the index is complete for the best chain.
func (l *Ledger) historyBase() uint64 { return uint64(l.main.fork(l.history.base).height) }

// prunable is up to where bodies may go: those that the index still needs stay.
func (l *Ledger) prunable(to uint64) uint64 {
	if l.cfg.History {
		to = min(to, l.historyBase())
	}
	return to
}

// historyDue reports whether what is above a height makes a batch.
func (l *Ledger) historyDue(base uint64) bool {
	above := l.main[base+1:]
	size := 0
	for _, e := range above[:min(len(above), l.cfg.historySpan)] {
		size += int(e.bodySize)
	}
	return len(above) >= l.cfg.historySpan || size >= historyBytes
}

// indexHistory writes the batches that are due after a change of the tip.
func (l *Ledger) indexHistory() error {
	for range historySteps {
		if !l.cfg.History || !l.historyDue(l.historyBase()) {
			return nil
		}
		if err := l.historyBatch(); err != nil {
			return err
		}
	}
	return nil
}

// IndexHistory writes one batch of the account history index if one is due, or with all if there is anything to write,
// and reports whether the next one is due. Where Config.History is not set it does nothing.
func (l *Ledger) IndexHistory(all bool) (more bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return false, l.broken
	}
	due := func() bool {
		base := l.historyBase()
		return l.cfg.History && base < l.record.height && (all || l.historyDue(base))
	}
	if !due() {
		return false, nil
	}
	if err := l.historyBatch(); err != nil {
		return false, err
	}
	return due(), nil
}

// finishHistory writes all batches up to the tip, for tools.
func (l *Ledger) finishHistory(ctx context.Context, progress func(stage string, done, total uint64)) error {
	for l.cfg.History && l.historyBase() < l.record.height {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := l.historyBatch(); err != nil {
			return err
		}
		progress("indexing", l.historyBase(), l.record.height)
	}
	return nil
}

// historyBatch writes the next batch.
func (l *Ledger) historyBatch() error {
	start := time.Now()
	defer lap(&start, &l.times.History)
	from := l.main.fork(l.history.base)
	var touches []touch
	var to *entry
	err := l.db.View(func(txn *badger.Txn) (err error) {
		touches, to, err = l.touches(txn, from)
		return err
	})
	if err != nil || to == from {
		return err
	}
	batch := l.history.next
	if batch == 1<<32-1 {
		return historyCorrupt("it has used all batch numbers")
	}
	l.history = history{stored: true, base: from, next: batch + 1} // what the first transaction makes of it
	w := spill{l: l}
	defer w.close()
	if err := w.set(metaHistory, historyRecord(from.id, batch+1)); err != nil {
		return err
	}
	if err := w.set(batchKey(batch), to.id[:]); err != nil {
		return err
	}
	if err := historyRecords(touches, batch, l.cfg.cut(&w)); err != nil {
		return err
	}
	if err := w.set(metaHistory, historyRecord(to.id, batch+1)); err != nil {
		return err
	}
	if err := w.flush(); err != nil {
		return err
	}
	l.history.base = to
	return nil
}

// cut is w.set, with a commit after every few records if a test wants that.
func (c *Config) cut(w *spill) func(k, v []byte) error {
	n := 0
	return func(k, v []byte) error {
		if n++; c.historyCut > 0 && n%c.historyCut == 0 {
			if err := w.flush(); err != nil {
				return err
			}
		}
		return w.set(k, v)
	}
}

// touch is one entry: an account and where it is touched.
type touch struct {
	account       chain.Account
	height, index uint32
}

func (t *touch) place() place { return place(t.height)<<32 | place(t.index) }

// touches lists the entries of the blocks above from for one batch, each once, by account and then by place; to is the
// batch's last block.
func (l *Ledger) touches(txn *badger.Txn, from *entry) (out []touch, to *entry, err error) {
	size, n := 0, 0
	above := l.main[from.height+1:]
	for n < min(len(above), l.cfg.historySpan) && size < historyBytes {
		size, n = size+int(above[n].bodySize), n+1
	}
	out = make([]touch, 0, size/(chain.TxMinSize/2)+n)
	var body []byte
	to = from
	for _, e := range above[:n] {
		if len(out) > historyTouches {
			break
		}
		if body, err = appendBody(body[:0], txn, e); err != nil {
			return nil, nil, err
		}
		err = parties(body, func(index uint32, account []byte) {
			out = append(out, touch{chain.Account(account), e.height, index})
		})
		if err != nil {
			return nil, nil, corrupt("the body of block %d (%s) does not decode (%v)", e.height, e.id, err)
		}
		miner, err := blockMiner(txn, e)
		if err != nil {
			return nil, nil, err
		}
		out = append(out, touch{miner, e.height, MinerPlace})
		to = e
	}
	slices.SortFunc(out, func(a, b touch) int {
		x, y := be.Uint64(a.account[:]), be.Uint64(b.account[:])
		if x == y {
			if c := bytes.Compare(a.account[8:], b.account[8:]); c != 0 {
				return c
			}
			x, y = uint64(a.place()), uint64(b.place())
		}
		switch {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	return slices.Compact(out), to, nil
}

// appendBody appends e's body to buf.
func appendBody(buf []byte, txn *badger.Txn, e *entry) ([]byte, error) {
	start := len(buf)
	for n := range pieces(int(e.bodySize)) {
		item, err := txn.Get(pieceKey(idKey(keyBody, e.id), n))
		if errors.Is(err, badger.ErrKeyNotFound) {
			return nil, corrupt("piece %d of the body of block %d (%s) is missing", n, e.height, e.id)
		}
		if err == nil {
			err = item.Value(func(v []byte) error { buf = append(buf, v...); return nil })
		}
		if err != nil {
			return nil, fmt.Errorf("reading the ledger: %w", err)
		}
	}
	if len(buf)-start != int(e.bodySize) {
		return nil, corrupt("the body of block %d (%s) has %d bytes, its header says %d", e.height, e.id, len(buf)-start, e.bodySize)
	}
	return buf, nil
}

// parties calls f with sender and recipients of each transaction of a body, by the encoding of docs/spec.md §3. The
// account is valid during the call.
func parties(body []byte, f func(index uint32, account []byte)) error {
	const from, outputs = 1, 53
	raws, err := chain.SplitBody(body)
	if err != nil {
		return err
	}
	for i, raw := range raws {
		f(uint32(i), raw[from:from+32])
		for n := range int(raw[outputs]) {
			at := outputs + 1 + n*chain.OutputSize
			f(uint32(i), raw[at:at+32])
		}
	}
	return nil
}

// blockMiner reads the miner's account from e's header.
func blockMiner(txn *badger.Txn, e *entry) (chain.Account, error) {
	v, err := get(txn, idKey(keyHeader, e.id))
	if err != nil {
		return chain.Account{}, err
	}
	r, err := decodeHeaderRecord(e.id, v)
	return r.state.Header.Miner, err
}

// historyRecords cuts sorted entries into records.
func historyRecords(touches []touch, batch uint32, set func(k, v []byte) error) error {
	var slab []byte // records of many accounts: keys and values stay referenced until the commit
	for len(touches) > 0 {
		n := 1
		for n < len(touches) && touches[n].account == touches[0].account &&
			(n < historyEntries || touches[n].height == touches[n-1].height) {
			n++
		}
		if most := 48 + 10*n; cap(slab)-len(slab) < most {
			slab = make([]byte, 0, max(1<<16, most))
		}
		at := len(slab)
		slab = append(append(slab, keyHistory), touches[0].account[:]...)
		slab = be.AppendUint32(slab, touches[0].height)
		key := slab[at:len(slab):len(slab)]
		at = len(slab)
		slab = appendHistory(slab, batch, touches[:n])
		if err := set(key, slab[at:len(slab):len(slab)]); err != nil {
			return err
		}
		touches = touches[n:]
	}
	return nil
}

func appendHistory(b []byte, batch uint32, touches []touch) []byte {
	b = binary.AppendUvarint(b, uint64(batch))
	height, index := touches[0].height, int64(-1)
	for i := range touches {
		t := &touches[i]
		b = binary.AppendUvarint(b, uint64(t.height-height))
		if t.height != height {
			index = -1
		}
		height = t.height
		if t.index == MinerPlace {
			b = append(b, 0)
			continue
		}
		b = binary.AppendUvarint(b, uint64(int64(t.index)-index))
		index = int64(t.index)
	}
	return b
}

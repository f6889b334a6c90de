package p2p

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"quipu/chain"
	"quipu/p2p/wire"
)

// Bounds of what is kept to answer with.
const (
	keptBlocks  = 8
	keptBytes   = 16 << 20
	compactWait = 2 * time.Second       // how long an asker waits here for a body that is on its way
	compactLook = 50 * time.Millisecond // between looks for a body that comes by another way than the relay

	shortsASecond = 4 // questions by short id that one peer may ask
	shortsBurst   = 16
)

// wholeBlock is a block whose body is here and gives the header's tx_root. It need not have been validated.
type wholeBlock struct {
	id     chain.BlockID
	header chain.Header
	body   []byte
	raws   [][]byte // in body
	leaves []chain.LeafHash

	mu        sync.Mutex
	lacked    []uint8 // by place: how many lacked the transaction, of our pool and those that asked for places here
	observers int     // how many these are
}

// newWhole takes a body that has passed chain.CheckBody or was put together under tx_root.
func newWhole(h *chain.Header, body []byte) *wholeBlock {
	raws, err := chain.SplitBody(body)
	if err != nil || len(raws) != int(h.TxCount) || len(raws) > wire.MaxBlockTxCount {
		return nil // the block is invalid: nothing of it is relayed
	}
	w := &wholeBlock{id: h.ID(), header: *h, body: body, raws: raws, leaves: make([]chain.LeafHash, len(raws))}
	for i, raw := range raws {
		w.leaves[i] = chain.LeafOf(raw)
	}
	return w
}

func (w *wholeBlock) size() int { return len(w.body) + len(w.raws)*(24+32+1) }

// lacks notes that one more observer lacks the transactions at these places.
func (w *wholeBlock) lacks(places []uint16) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.observers == 1<<8-1 {
		return
	}
	w.observers++
	if w.lacked == nil {
		w.lacked = make([]uint8, len(w.raws))
	}
	for _, i := range places {
		if int(i) < len(w.lacked) {
			w.lacked[i]++
		}
	}
}

// rare reports whether most observers lacked a transaction, and at least so many. w.mu is held.
func (w *wholeBlock) rare(i, least int) bool {
	return w.lacked != nil && int(w.lacked[i]) >= least && 2*int(w.lacked[i]) > w.observers
}

// compact is the block under a key. What two observers lacked, and most of them, others will hardly have: that is
// prefilled, as far as it may go.
func (w *wholeBlock) compact(key wire.ShortKey) wire.Compact {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := wire.Compact{IDs: make([]uint64, 0, len(w.raws))}
	left := wire.MaxPrefilled
	for i, raw := range w.raws {
		if w.rare(i, 2) && len(raw) <= left {
			left -= len(raw)
			c.Prefilled = append(c.Prefilled, wire.PlacedTx{Index: uint16(i), Raw: raw})
			continue
		}
		c.IDs = append(c.IDs, key.ID(&w.leaves[i]))
	}
	return c
}

// placed are the transactions at these places, as far as the block reaches.
func (w *wholeBlock) placed(indexes []uint16) []wire.PlacedTx {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]wire.PlacedTx, 0, min(len(indexes), len(w.raws)))
	for _, i := range indexes {
		if int(i) < len(w.raws) {
			out = append(out, wire.PlacedTx{Index: i, Rare: w.rare(int(i), 1), Raw: w.raws[i]})
		}
	}
	return out
}

// relay is what is known of blocks being pulled, and the last whole ones.
type relay struct {
	mu    sync.Mutex
	pulls map[chain.BlockID]*pull
	kept  []*wholeBlock // newest last
}

// keep adds a whole block to those that are answered with from memory.
func (y *relay) keep(w *wholeBlock) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if w.size() > keptBytes || slices.ContainsFunc(y.kept, func(k *wholeBlock) bool { return k.id == w.id }) {
		return
	}
	y.kept = append(y.kept, w)
	total := 0
	for _, k := range y.kept {
		total += k.size()
	}
	for len(y.kept) > keptBlocks || total > keptBytes {
		total -= y.kept[0].size()
		y.kept[0] = nil
		y.kept = y.kept[1:]
	}
}

// get is a kept block, or else the pull that may bring it, or neither.
func (y *relay) get(id chain.BlockID) (*wholeBlock, *pull) {
	y.mu.Lock()
	defer y.mu.Unlock()
	for _, k := range y.kept {
		if k.id == id {
			return k, nil
		}
	}
	return nil, y.pulls[id]
}

// whole is a block as it is here now, from memory or from disk; nil if its body isn't here. One that isn't kept is read and
// hashed for each answer, however short that is: it takes of the peer's share of bytes what sending the body would take.
func (s *Service) whole(ctx context.Context, r *remote, id chain.BlockID) (*wholeBlock, error) {
	if w, _ := s.relay.get(id); w != nil {
		return w, nil
	}
	state, ok := s.b.Header(id)
	if !ok || !s.b.HasBody(id) {
		return nil, nil
	}
	taken, err := s.hold(ctx, r, int(state.Header.BodySize))
	if err != nil {
		return nil, err
	}
	defer taken.release()
	near := state.Header.Height+nearTip >= s.b.Tip().Header.Height
	if !near {
		if err := r.bytes.WaitN(ctx, int(state.Header.BodySize)); err != nil {
			return nil, errors.Join(errSlow, err)
		}
	}
	body, ok := s.b.Body(id)
	if !ok {
		return nil, nil
	}
	w := newWhole(&state.Header, body)
	if w != nil && near {
		s.relay.keep(w) // others will ask too
	}
	return w, nil
}

// serveCompact answers at once with what is here, and waits a moment for a block whose body is on its way.
func (s *Service) serveCompact(ctx context.Context, r *remote, st network.Stream) error {
	b, err := s.request(r, st, wire.CompactRequestSize)
	if err != nil {
		return err
	}
	q, err := wire.DecodeCompactRequest(b)
	if err != nil {
		return err
	}
	w, err := s.whole(ctx, r, q.ID)
	if err != nil {
		return err
	}
	code := wire.BodyMissing
	if w == nil {
		if _, known := s.b.Header(q.ID); known && !s.b.Invalid(q.ID) {
			code = wire.BodyLater
			if w, err = s.await(ctx, r, q.ID); err != nil {
				return err
			}
		}
	}
	if w == nil {
		s.count("compact_served_none")
		return s.answer(ctx, r, st, 1, func() []byte { return []byte{byte(code)} })
	}
	s.count("compact_served")
	c := w.compact(wire.NewShortKey(&w.header, q.Nonce))
	return s.answer(ctx, r, st, c.Size(), func() []byte { return wire.AppendCompact(make([]byte, 0, c.Size()), &c) })
}

// await waits for a body. A node that syncs doesn't: it won't have it soon.
func (s *Service) await(ctx context.Context, r *remote, id chain.BlockID) (*wholeBlock, error) {
	if !s.near() {
		return nil, nil
	}
	s.count("compact_waited")
	ctx, cancel := context.WithTimeout(ctx, compactWait)
	defer cancel()
	look := time.NewTicker(compactLook)
	defer look.Stop()
	for {
		var ended <-chan struct{}
		w, p := s.relay.get(id)
		if w != nil {
			return w, nil
		}
		if p != nil {
			ended = p.ended
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-ended:
			if p.whole != nil {
				return p.whole, nil
			} // else another way may bring it yet
		case <-look.C:
			if p == nil && s.b.HasBody(id) {
				return s.whole(ctx, r, id)
			}
		}
	}
}

// serveIndexes answers the form of blocktxs that names places in a block.
func (s *Service) serveIndexes(ctx context.Context, r *remote, st network.Stream, b []byte) error {
	q, err := wire.DecodeBlockIndexRequest(b)
	if err != nil {
		return err
	}
	w, err := s.whole(ctx, r, q.ID)
	if err != nil {
		return err
	}
	if w == nil {
		return s.answer(ctx, r, st, 0, func() []byte { return nil })
	}
	txs := w.placed(q.Indexes)
	w.lacks(q.Indexes)
	size := 0
	for i := range txs {
		size += 2 + len(txs[i].Raw)
	}
	s.stats.add("relay_txs_served", uint64(len(txs)))
	return s.answer(ctx, r, st, min(size, wire.MaxIndexAnswer), func() []byte { return wire.AppendBlockIndexTxs(nil, txs) })
}

// serveShort answers the form of blocktxs that names short ids: out of our pool, whether the block is here or not.
func (s *Service) serveShort(ctx context.Context, r *remote, st network.Stream, b []byte) error {
	q, err := wire.DecodeShortRequest(b)
	if err != nil {
		return err
	}
	var raws [][]byte
	size := 0
	state, ok := s.b.Header(q.ID)
	switch {
	case !ok || state.Header.Height+nearTip < s.b.Tip().Header.Height:
	case !r.shorts.Allow():
		s.count("shorts_over_bucket")
	default:
		for _, f := range s.b.FindShort(wire.NewShortKey(&state.Header, q.Nonce), q.IDs) {
			if f.Raw != nil {
				raws, size = append(raws, f.Raw), size+len(f.Raw)
			}
		}
		s.stats.add("relay_txs_served", uint64(len(raws)))
	}
	return s.answer(ctx, r, st, min(size, wire.MaxAnswer), func() []byte { return wire.AppendBlockTxs(nil, raws) })
}

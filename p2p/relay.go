package p2p

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"quipu/chain"
	"quipu/p2p/wire"
)

// Bounds of the relay of blocks.
const (
	maxPulls    = 16                        // blocks pulled at once
	pullTime    = 10 * time.Second          // of one pull; then the block is the sync loop's
	compactTime = compactWait + time.Second // an announcer may wait for its own body
	pullHedge   = time.Second               // without an answer for so long, another is asked as well
	pullAsks    = 4                         // peers asked for the compact form of one block
	placeAsks   = 8                         // requests for missing transactions of one block
	helpers     = 4                         // neighbours that are asked for shares of them at once
	helpBytes   = 16 << 10                  // of missing transactions: fewer are left to who gave the list
	helpTime    = 600 * time.Millisecond    // then their shares are left to it too
)

// pull is one block on its way here.
type pull struct {
	id     chain.BlockID
	header chain.Header
	ended  chan struct{}
	whole  *wholeBlock // set before ended is closed; nil: it failed
	lists  []compactList
	wrong  bool // the list could not be made the block
	asks   int  // round trips so far
}

// compactList is what a peer gave as the compact form of a block.
type compactList struct {
	r     *remote
	nonce uint64
	key   wire.ShortKey
	list  *wire.Compact
}

// relayBlock starts to pull the body of a block whose header was accepted, unless it is here, no better than ours, being
// pulled, or this node has to sync first. It returns at once.
func (s *Service) relayBlock(h *chain.Header, id chain.BlockID) {
	if h.BodySize <= wire.SmallBody || !s.near() || s.b.HasBody(id) || s.b.Invalid(id) {
		return
	}
	tip := s.b.Tip()
	if state, ok := s.b.Header(id); !ok || !state.Work.Gt(&tip.Work) {
		return
	}
	if !s.relaying.take(id, pullTime, maxPulls) {
		s.count("relay_refused")
		return
	}
	p := &pull{id: id, header: *h, ended: make(chan struct{})}
	s.relay.mu.Lock()
	if s.relay.pulls == nil {
		s.relay.pulls = map[chain.BlockID]*pull{}
	}
	s.relay.pulls[id] = p
	s.relay.mu.Unlock()
	if !s.spawn(func() { s.runPull(s.ctx, p) }) {
		s.endPull(p, nil)
		s.relaying.release(id)
	}
}

// runPull pulls a block and hands it to the node. What is waiting for it is answered before it is validated.
func (s *Service) runPull(ctx context.Context, p *pull) {
	defer poke(s.wakeSync)
	defer s.relaying.release(p.id)
	within, cancel := context.WithTimeout(ctx, pullTime)
	defer cancel()
	body := s.pullBlock(within, p)
	s.endPull(p, p.whole)
	if body == nil {
		s.count("relay_given_up")
		return
	}
	if err := s.b.AddBodies([]chain.Block{{Header: p.header, Body: body}}); err != nil && ctx.Err() == nil {
		s.log.Error("importing a relayed block", "block", p.id, "err", err)
	}
	s.recheckTips()
}

// endPull lets those that wait for the block have it.
func (s *Service) endPull(p *pull, w *wholeBlock) {
	if w != nil {
		s.relay.keep(w)
	}
	s.relay.mu.Lock()
	delete(s.relay.pulls, p.id)
	s.relay.mu.Unlock()
	close(p.ended)
}

// pullBlock gets a body that gives tx_root, in compact form from an announcer or whole; nil if nobody gives it.
func (s *Service) pullBlock(ctx context.Context, p *pull) []byte {
	body := s.pullCompact(ctx, p)
	if body == nil && ctx.Err() == nil {
		body = s.pullWhole(ctx, p)
	}
	if body != nil {
		s.stats.add("relay_round_trips", uint64(p.asks))
		s.expose(p)
	}
	return body
}

type compactAnswer struct {
	compactList
	code wire.BodyCode
	err  error
}

// pullCompact asks announcers for the compact form, the first one first, the next when one has nothing or keeps us
// waiting.
//
// An answer that comes too late is read to its end: whoever sent it must not think that we ask in vain.
func (s *Service) pullCompact(ctx context.Context, p *pull) []byte {
	answers := make(chan compactAnswer, pullAsks)
	asked := map[peer.ID]bool{}
	flying := 0
	ask := func() {
		if len(asked) >= pullAsks {
			return
		}
		r := s.nextHolder(p.id, asked)
		if r == nil {
			return
		}
		asked[r.id] = true
		if s.spawn(func() { answers <- s.askCompact(s.ctx, r, p) }) {
			flying++
			p.asks++
		}
	}
	ask()
	hedge := time.NewTimer(pullHedge)
	defer hedge.Stop()
	for flying > 0 {
		select {
		case <-ctx.Done():
			return nil
		case <-hedge.C:
			ask()
			hedge.Reset(pullHedge)
		case a := <-answers:
			flying--
			switch {
			case a.err != nil:
				s.count("compact_failed")
				if s.remote(a.r.id) == a.r && ctx.Err() == nil {
					s.fault(a.r.id, aboutFrame, a.err)
				}
			case a.code == wire.BodyMissing:
				s.count("compact_not_here")
			case a.code == wire.BodyLater:
				s.count("compact_not_yet")
			default:
				p.lists = append(p.lists, a.compactList)
				return s.rebuild(ctx, p, &a.compactList)
			}
			ask()
		}
	}
	return nil
}

// nextHolder is the next peer to ask for a block: who gossiped its header, in that order, then who names it as its tip or
// best header, then any.
func (s *Service) nextHolder(id chain.BlockID, asked map[peer.ID]bool) *remote {
	now := time.Now()
	announced := s.announced.of(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	fit := func(r *remote) bool { return r != nil && !asked[r.id] && !now.Before(r.restUntil) }
	for _, a := range announced {
		if r := s.remotes[a]; fit(r) {
			return r
		}
	}
	var named, others []*remote
	for _, r := range s.remotes {
		switch {
		case !fit(r):
		case r.hasStatus && (r.status.TipID == id || r.status.BestID == id):
			named = append(named, r)
		default:
			others = append(others, r)
		}
	}
	for _, list := range [][]*remote{named, others} {
		if len(list) > 0 {
			return list[rand.IntN(len(list))]
		}
	}
	return nil
}

func (s *Service) askCompact(ctx context.Context, r *remote, p *pull) (a compactAnswer) {
	ctx, cancel := context.WithTimeout(ctx, compactTime)
	defer cancel()
	q := wire.CompactRequest{ID: p.id, Nonce: rand.Uint64()}
	a.r, a.nonce, a.key = r, q.Nonce, wire.NewShortKey(&p.header, q.Nonce)
	s.count("compact_asked")
	a.err = s.ask(ctx, r.id, wire.NameCompact, q.Append(nil), wire.CompactSize(p.header.TxCount, p.header.BodySize), func(b []byte) (err error) {
		a.code, a.list, err = wire.DecodeCompact(b, p.header.TxCount)
		return err
	})
	return a
}

// rebuild puts a block together from a list, our pool and what it asks for; nil if that isn't the block.
func (s *Service) rebuild(ctx context.Context, p *pull, l *compactList) []byte {
	n := int(p.header.TxCount)
	w := &wholeBlock{id: p.id, header: p.header, raws: make([][]byte, n), leaves: make([]chain.LeafHash, n)}
	var rare, missing []uint16 // not in our pool: with others too, and what must be asked for
	for _, t := range l.list.Prefilled {
		w.raws[t.Index], w.leaves[t.Index] = t.Raw, chain.LeafOf(t.Raw)
		if !s.b.HasTx(w.leaves[t.Index]) {
			rare = append(rare, t.Index)
		}
	}
	ids := make([]uint64, n) // by place
	found := s.b.FindShort(l.key, l.list.IDs)
	for i, k := 0, 0; i < n; i++ {
		if w.raws[i] != nil {
			continue
		}
		ids[i] = l.list.IDs[k]
		if w.raws[i], w.leaves[i] = found[k].Raw, found[k].Leaf; w.raws[i] == nil {
			missing = append(missing, uint16(i))
		}
		k++
	}
	s.stats.add("relay_txs_prefilled", uint64(len(l.list.Prefilled)))
	s.stats.add("relay_txs_found", uint64(len(l.list.IDs)-len(missing)))
	s.stats.add("relay_txs_missing", uint64(len(missing)))
	if 2*len(missing) > n { // as many bytes as the body, near enough
		s.count("relay_cold")
		return nil
	}
	fetched, ok := s.fetchPlaces(ctx, p, l, w, ids, missing)
	if !ok {
		p.wrong = true
		return nil
	}
	w.lacks(slices.Concat(missing, rare))
	if rare = append(rare, fetched...); len(rare) > 0 {
		slices.Sort(rare)
		w.lacks(slices.Compact(rare))
	}
	if chain.MTH(w.leaves) != p.header.TxRoot {
		p.wrong = true
		s.count("relay_wrong_root")
		return nil
	}
	size := 0
	for _, raw := range w.raws {
		size += len(raw)
	}
	w.body = make([]byte, 0, size)
	for i, raw := range w.raws {
		at := len(w.body)
		w.body = append(w.body, raw...)
		w.raws[i] = w.body[at:len(w.body):len(w.body)] // the pool's may go
	}
	p.whole = w
	s.count("relay_blocks")
	return w.body
}

// fetchPlaces asks for missing transactions: the peer that gave the list, which has all, and then others. What doesn't have
// the short id that the list says is as good as nothing: only the whole block can tell who of the two was wrong. rare are
// those that others lacked too, as we are told.
func (s *Service) fetchPlaces(ctx context.Context, p *pull, l *compactList, w *wholeBlock, ids []uint64, missing []uint16) (rare []uint16, ok bool) {
	left, helped := s.fetchShort(ctx, p, l, w, ids, missing)
	if missing = left; helped {
		rare = slices.Clone(left) // the helpers lacked it too
	}
	asked := map[peer.ID]bool{}
	r := l.r
	for range placeAsks {
		if len(missing) == 0 || r == nil {
			break
		}
		asked[r.id] = true
		q := wire.BlockIndexRequest{ID: p.id, Indexes: missing}
		var txs []wire.PlacedTx
		s.count("relay_asked_places")
		p.asks++
		err := s.ask(ctx, r.id, wire.NameBlockTxs, q.Append(nil), wire.MaxIndexAnswer, func(b []byte) (err error) {
			txs, err = wire.DecodeBlockIndexTxs(b, &q)
			return err
		})
		if err != nil && ctx.Err() == nil {
			s.fault(r.id, aboutFrame, err)
		}
		before := len(missing)
		for _, t := range txs {
			if leaf := chain.LeafOf(t.Raw); l.key.ID(&leaf) == ids[t.Index] {
				w.raws[t.Index], w.leaves[t.Index] = t.Raw, leaf
				if t.Rare {
					rare = append(rare, t.Index)
				}
			}
		}
		missing = slices.DeleteFunc(slices.Clone(missing), func(i uint16) bool { return w.raws[i] != nil })
		if len(missing) == before { // it has nothing, or failed
			r = s.nextHolder(p.id, asked)
		}
	}
	return rare, len(missing) == 0
}

// pullWhole asks for the body: first who gave the list, since it has all, but last if that list was wrong.
func (s *Service) pullWhole(ctx context.Context, p *pull) []byte {
	asked := map[peer.ID]bool{}
	var first, last *remote
	for i := range p.lists {
		first = p.lists[i].r
		asked[first.id] = true
	}
	if p.wrong {
		first, last = nil, first
	}
	for range pullAsks {
		r := first
		if first = nil; r == nil {
			r = s.nextHolder(p.id, asked)
		}
		if r == nil {
			r, last = last, nil
		}
		if r == nil {
			return nil
		}
		asked[r.id] = true
		p.asks++
		if body := s.askBody(ctx, r, &p.header, p.id); body != nil {
			s.count("relay_whole_bodies")
			p.whole = newWhole(&p.header, body)
			return body
		}
	}
	return nil
}

// askBody asks one peer for one body and checks it. nil: it hasn't got it, or didn't give it.
func (s *Service) askBody(ctx context.Context, r *remote, h *chain.Header, id chain.BlockID) []byte {
	q := wire.BodiesRequest{IDs: []chain.BlockID{id}}
	st, done, err := s.open(ctx, s.t.stall, r.id, wire.NameBodies, q.Append(nil))
	if err == nil {
		defer done()
		var body []byte
		var code wire.BodyCode
		st.SetReadDeadline(time.Now().Add(s.t.job))
		if code, body, err = wire.ReadBody(st, h.BodySize); err == nil && code != wire.BodyFollows {
			return nil
		}
		if err == nil {
			s.stats.add("bytes_in_"+wire.NameBodies, uint64(wire.FrameHead+1+len(body)))
			if err = chain.CheckBody(h, body); err == nil {
				return body
			}
		}
	}
	if ctx.Err() == nil && s.remote(r.id) == r {
		ev := evidenceOf(aboutBody, err)
		if ev == NobodysFault || ev == InvalidBlock {
			ev = Silent
		}
		s.charge(r.id, ev, err)
	}
	return nil
}

// expose charges whoever gave a list that the block contradicts. It is made of the whole block alone, so no honest node
// gives another; what our pool made of it is nobody's fault.
func (s *Service) expose(p *pull) {
	if p.whole == nil {
		return
	}
	for i := range p.lists {
		if l := &p.lists[i]; !p.whole.gives(l) {
			s.charge(l.r.id, WrongCompact, fmt.Errorf("compact form of block %s at height %d", p.id, p.header.Height))
		}
	}
}

// gives reports whether l is a compact form of the block.
func (w *wholeBlock) gives(l *compactList) bool {
	ids, prefilled := l.list.IDs, l.list.Prefilled
	for i := range w.raws {
		if len(prefilled) > 0 && int(prefilled[0].Index) == i {
			if chain.LeafOf(prefilled[0].Raw) != w.leaves[i] {
				return false
			}
			prefilled = prefilled[1:]
			continue
		}
		if len(ids) == 0 || ids[0] != l.key.ID(&w.leaves[i]) {
			return false
		}
		ids = ids[1:]
	}
	return true
}

// fetchShort asks neighbours for shares of what is missing: their pools will hold most of it, and who gave the list has
// many askers. It returns what is still missing.
func (s *Service) fetchShort(ctx context.Context, p *pull, l *compactList, w *wholeBlock, ids []uint64, missing []uint16) (left []uint16, helped bool) {
	size := len(missing) * int(p.header.BodySize) / int(p.header.TxCount)
	near := s.nearest(l.r, min(helpers, size/(helpBytes/2)))
	if size < helpBytes || len(near) == 0 {
		return missing, false
	}
	ctx, cancel := context.WithTimeout(ctx, helpTime)
	defer cancel()
	p.asks++
	answers := make(chan []Found, len(near))
	flying := 0
	for i, r := range near {
		share := missing[i*len(missing)/len(near) : (i+1)*len(missing)/len(near)]
		q := wire.ShortRequest{ID: p.id, Nonce: l.nonce}
		for _, at := range share[:min(len(share), wire.MaxShortIDs)] {
			q.IDs = append(q.IDs, ids[at])
		}
		if s.spawn(func() { answers <- s.askShort(ctx, r, &q) }) {
			flying++
		}
	}
	place := make(map[uint64]uint16, len(missing))
	for _, at := range missing {
		place[ids[at]] = at
	}
	for ; flying > 0; flying-- {
		for _, f := range <-answers {
			if at, ok := place[l.key.ID(&f.Leaf)]; ok {
				w.raws[at], w.leaves[at] = f.Raw, f.Leaf
			}
		}
	}
	left = slices.DeleteFunc(slices.Clone(missing), func(at uint16) bool { return w.raws[at] != nil })
	s.stats.add("relay_txs_helped", uint64(len(missing)-len(left)))
	return left, true
}

// nearest are up to n neighbours of the shortest round trips.
func (s *Service) nearest(but *remote, n int) []*remote {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*remote
	for _, r := range s.remotes {
		if r != but && r.hasStatus && !now.Before(r.restUntil) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b *remote) int { return cmp.Compare(a.rtt, b.rtt) })
	return out[:min(n, len(out))]
}

// askShort is one share. Who is late or has nothing isn't charged: nobody said that it has them.
func (s *Service) askShort(ctx context.Context, r *remote, q *wire.ShortRequest) []Found {
	var out []Found
	s.count("relay_asked_short")
	err := s.ask(ctx, r.id, wire.NameBlockTxs, q.Append(nil), wire.MaxAnswer, func(b []byte) error {
		raws, err := wire.DecodeBlockTxs(b, len(q.IDs))
		for _, raw := range raws {
			out = append(out, Found{chain.LeafOf(raw), raw})
		}
		return err
	})
	if evidenceOf(aboutFrame, err) == Malformed {
		s.charge(r.id, Malformed, err)
	}
	return out
}

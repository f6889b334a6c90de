package p2p

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"quipu/chain"
	"quipu/p2p/wire"
)

// Bounds of a download of headers in ranges.
const (
	rangesAhead = 32  // ranges asked for or waiting for the one before, each at most wire.MaxHeaders: 13 MB
	rangeMin    = 500 // headers
	rangesSmall = 8   // of a test network's node
	peerRanges  = 2   // asked of one peer at once, if it is quick: the next is on its way while one is served
	rangeAskers = 3   // peers that may be asked for one range at once
	rangeTick   = 250 * time.Millisecond
	rangeHedge  = 500 * time.Millisecond // a range that holds all up is asked of another after that, or twice the usual time
	noneAgain   = 5 * time.Second        // a peer that doesn't have the target is asked again after that
)

// headerRun is a download of a long stretch of headers from many peers at once. Every range of it is asked for as part of
// the chain that ends in the target, so whoever has that block gives the same answer. What came is checked by itself
// where it was fetched, and stored once the range before it is stored, with every rule: only there do its first parent
// and its history roots show. What doesn't link is kept against its sender until the target is stored, for then it is
// proven that the sender showed another chain; meanwhile others are asked.
//
// A run that ends early loses only what didn't link yet. The next one, after a restart too, starts where this one's
// stored headers end. Only headerLoop's goroutine touches it.
type headerRun struct {
	target  mark    // shown by the claimer, or walked to
	claimer peer.ID // who named it
	marks   []mark  // ends of the ranges, if a walk has been there
	last    mark    // stored up to here
	by      *remote // who served what ends there
	ranges  []*headerRange
	helpers map[peer.ID]*helper
	began   time.Time
	moved   time.Time     // when something was stored last
	took    time.Duration // what a range takes, on average
	over    bool
	alone   bool // the claimer has gone
}

// headerRange is one range of a run, in the order of height.
type headerRange struct {
	from    uint64
	n       int
	parent  chain.BlockID // of the first and the last one's id, zero if not known before
	end     chain.BlockID
	hs      []chain.Header // nil until it has come
	by      *remote
	askers  map[peer.ID]struct{}
	asked   time.Time // the last time
	claimer bool      // only the claimer is asked: another's didn't link
	cancel  context.CancelFunc
	ctx     context.Context
}

// helper is what a run remembers of a peer.
type helper struct {
	r      *remote
	awake  bool // may be asked
	flying int
	took   time.Duration // its last range; 0: none yet
	fails  int
	until  time.Time // not asked before
	none   bool      // it didn't have the target
	out    error     // what it served didn't link, or broke a rule: not asked any more
	beside mark      // what it didn't link to
}

type rangeResult struct {
	r    *remote
	k    *headerRange
	hs   []chain.Header // nil: it doesn't have them
	err  error
	took time.Duration
}

// errOtherChain is headers of another chain than the one asked for.
var errOtherChain = errors.New("headers of another chain than the one asked for")

// ranging is what others see of headerLoop.
type ranging struct {
	offers chan *headerRun // 1 deep
	mu     sync.Mutex
	on     bool
	height uint64               // of the target
	not    map[peer.ID]struct{} // peers that don't take part though they say they are as high
	wanted bool                 // another run was offered meanwhile
	held   int                  // headers in memory
}

// offerRun starts a run unless there is one.
func (s *Service) offerRun(run *headerRun) bool {
	g := &s.ranging
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.on {
		g.wanted = true
		return false
	}
	g.on, g.height, g.wanted, g.not = true, run.target.height, false, map[peer.ID]struct{}{}
	g.offers <- run
	return true
}

// ranged reports whether a peer with this status takes part in the run: what it has is fetched there.
func (s *Service) ranged(p peer.ID, st *wire.Status) bool {
	s.ranging.mu.Lock()
	defer s.ranging.mu.Unlock()
	_, not := s.ranging.not[p]
	return s.ranging.on && !not && st.BestHeight >= s.ranging.height
}

// headerLoop works off one run at a time. One of them gives way after headerTime if another waits.
func (s *Service) headerLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case run := <-s.ranging.offers:
			s.count("header_runs")
			s.downloadRanges(ctx, run)
			s.endRun(ctx, run)
			s.ranging.mu.Lock()
			s.ranging.on, s.ranging.held = false, 0
			s.ranging.mu.Unlock()
			for _, r := range s.everyone() {
				poke(r.heard)
			}
		}
	}
}

// show updates what others see. It reports whether another run waits.
func (g *ranging) show(run *headerRun) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.not)
	for p, h := range run.helpers {
		if h.out != nil || h.none {
			g.not[p] = struct{}{}
		}
	}
	g.held = 0
	for _, k := range run.ranges {
		g.held += len(k.hs)
	}
	return g.wanted
}

func (s *Service) downloadRanges(ctx context.Context, run *headerRun) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	run.began, run.helpers = time.Now(), map[peer.ID]*helper{}
	run.moved, run.took = run.began, rangeHedge
	results := make(chan rangeResult)
	stored := make(chan error)
	storing := false
	tick := time.NewTicker(rangeTick)
	defer tick.Stop()
	for {
		s.meet(run)
		run.fill(s.rangesAhead(), run.share())
		s.assignRanges(ctx, run, results)
		if !storing {
			storing = s.storeRange(ctx, run, stored)
		}
		wanted := s.ranging.show(run)
		if run.over || run.last.height >= run.target.height {
			return
		}
		select {
		case <-ctx.Done():
			run.over = true
		case res := <-results:
			s.takeRange(run, res)
		case err := <-stored:
			storing = false
			s.takeStored(run, err)
		case <-tick.C:
			idle := time.Since(run.moved)
			_, known := s.b.Header(run.target.id) // from elsewhere
			run.over = known || idle > 2*s.t.request || wanted && time.Since(run.began) > headerTime
		}
	}
}

// endRun charges those whose headers are proven to be of another chain now, or who claimed what they didn't show.
func (s *Service) endRun(ctx context.Context, run *headerRun) {
	if _, known := s.b.Header(run.target.id); !known {
		if run.moved.Equal(run.began) && ctx.Err() == nil {
			s.charge(run.claimer, Unproven, fmt.Errorf("claims header %s and has not shown the chain to it", run.target.id))
		}
		return
	}
	for p, h := range run.helpers {
		if !errors.Is(h.out, errOtherChain) {
			continue
		}
		at := s.b.HeadersTo(run.target.id, h.beside.height, 1)
		if len(at) == 1 && at[0].ID() == h.beside.id { // what its headers don't link to is what they should
			s.charge(p, evidenceOf(aboutHeader, h.out), h.out)
		}
	}
}

func (s *Service) rangesAhead() int {
	if s.cfg.TestNet {
		return rangesSmall
	}
	return rangesAhead
}

// share is the size of a range such that each helper gets about two of what is left.
func (run *headerRun) share() uint64 {
	left := run.target.height - run.last.height
	return min(max(left/uint64(2*max(1, len(run.helpers))), rangeMin), wire.MaxHeaders)
}

// fill lists the ranges to ask for next, at most so many, of this size where their ends aren't known. How many there are
// bounds what a run takes in memory.
func (run *headerRun) fill(most int, size uint64) {
	for len(run.ranges) < most {
		top, parent := run.last.height, chain.BlockID{}
		if run.marks != nil {
			parent = run.last.id
		}
		if n := len(run.ranges); n > 0 {
			last := run.ranges[n-1]
			top, parent = last.from+uint64(last.n)-1, last.end
		}
		if top >= run.target.height {
			return
		}
		end := mark{height: min(top+size, run.target.height)}
		if i := slices.IndexFunc(run.marks, func(m mark) bool { return m.height > top }); i >= 0 {
			end = run.marks[i]
		}
		if end.height == run.target.height {
			end = run.target
		}
		run.ranges = append(run.ranges, &headerRange{
			from: top + 1, n: int(end.height - top), parent: parent, end: end.id, askers: map[peer.ID]struct{}{},
		})
	}
}

// assignRanges gives every peer with a free slot the lowest range that nobody is asked for. When there is none, the
// lowest one that is late is asked of a further peer: it holds up all the others.
func (s *Service) assignRanges(ctx context.Context, run *headerRun, results chan<- rangeResult) {
	for given := true; given; {
		given = false
		for _, h := range run.free() {
			r := h.r
			if k := run.pick(h); k != nil {
				if len(k.askers) > 0 {
					s.count("ranges_hedged")
				}
				if k.ctx == nil {
					k.ctx, k.cancel = context.WithCancel(ctx)
				}
				k.asked = time.Now()
				asking := k.ctx // not k's by the time this runs
				given = s.spawn(func() {
					res := s.fetchRange(asking, r, run.target.id, k)
					select {
					case results <- res:
					case <-ctx.Done():
					}
				})
				if given {
					h.flying++
					k.askers[r.id] = struct{}{}
				}
			}
		}
	}
}

// meet looks who may help now: peers that say they are as high as the target, and don't rest.
func (s *Service) meet(run *headerRun) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, h := range run.helpers {
		if h.awake = false; s.remotes[p] == nil && h.flying == 0 && h.out == nil {
			delete(run.helpers, p)
		}
	}
	for p, r := range s.remotes {
		if !r.hasStatus || r.status.BestHeight < run.target.height || now.Before(r.restUntil) {
			continue
		}
		h := run.helpers[p]
		if h == nil && len(run.helpers) < maxMaxPeers {
			h = &helper{}
			run.helpers[p] = h
		}
		if h != nil {
			h.r, h.awake = r, h.out == nil && !now.Before(h.until)
		}
	}
	run.alone = s.remotes[run.claimer] == nil
}

// free lists the helpers with a free slot, the quickest first.
func (run *headerRun) free() (out []*helper) {
	for _, h := range run.helpers {
		slots := 1
		if h.took > 0 && h.took <= 2*run.took {
			slots = peerRanges
		}
		if h.awake && h.flying < slots {
			out = append(out, h)
		}
	}
	slices.SortFunc(out, func(a, b *helper) int {
		return cmp.Or(cmp.Compare(a.fails, b.fails), cmp.Compare(a.flying, b.flying), cmp.Compare(a.took, b.took), cmp.Compare(a.r.id, b.r.id))
	})
	return out
}

// pick is the range to ask a peer for, nil if there is none.
func (run *headerRun) pick(h *helper) *headerRange {
	var first *headerRange
	left := 0
	for _, k := range run.ranges {
		if k.hs == nil && len(k.askers) == 0 && (!k.claimer || run.alone || h.r.id == run.claimer) {
			if left++; first == nil {
				first = k
			}
		}
	}
	if first != nil && (h.flying == 0 || left > len(run.helpers)) { // a second one only while there are enough for all
		return first
	}
	for _, k := range run.ranges {
		if k.hs != nil {
			continue
		}
		_, asked := k.askers[h.r.id]
		if !asked && h.flying == 0 && !k.claimer && len(k.askers) < rangeAskers && time.Since(k.asked) > max(rangeHedge, 2*run.took) {
			return k
		}
		return nil
	}
	return nil
}

// fetchRange asks a peer for a range and checks what the range shows by itself. What it proves against the peer is
// charged here.
func (s *Service) fetchRange(ctx context.Context, r *remote, of chain.BlockID, k *headerRange) rangeResult {
	start := time.Now()
	res := rangeResult{r: r, k: k}
	res.hs, res.err = s.askHeaders(ctx, r, wire.HeadersRequest{Of: of, From: k.from, Max: uint16(k.n)})
	if res.err == nil && len(res.hs) == k.n {
		if res.err = k.check(s.b.Genesis(), res.hs); res.err != nil {
			s.badHeaders(r, res.err)
		}
	}
	if res.err != nil || len(res.hs) < k.n {
		res.hs = nil // fewer: its chain to that block is shorter, so it has another block in mind, or none
	}
	res.took = time.Since(start)
	return res
}

// check is what a range shows without the one before it.
func (k *headerRange) check(g *chain.Genesis, hs []chain.Header) error {
	if hs[0].Height != k.from || k.parent != (chain.BlockID{}) && hs[0].Parent != k.parent {
		return errOtherChain
	}
	last, err := g.CheckRange(hs)
	if errors.Is(err, chain.ErrUnknownParent) || err == nil && k.end != (chain.BlockID{}) && last != k.end {
		return errOtherChain
	}
	return err
}

// takeRange enters what a peer was asked for. A twin of what has come already is dropped.
func (s *Service) takeRange(run *headerRun, res rangeResult) {
	k, h := res.k, run.helpers[res.r.id]
	h.flying--
	delete(k.askers, res.r.id)
	failed := func(d time.Duration) {
		h.until = time.Now().Add(min(d<<min(h.fails, 10), maxRest))
		h.fails++
		k.claimer = false
	}
	switch {
	case k.hs != nil: // another was quicker
		failed(time.Second)
		if res.hs != nil {
			s.count("ranges_dropped")
		}
	case res.err != nil:
		failed(time.Second)
	case res.hs == nil:
		failed(noneAgain)
		h.none = true
		run.over = run.over || res.r.id == run.claimer
	case h.out != nil:
		s.count("ranges_dropped")
	default:
		s.count("ranges_received")
		k.hs, k.by = res.hs, res.r
		k.cancel()
		h.took, h.fails, h.none = res.took, 0, false
		run.took += (res.took - run.took) / 4
	}
}

// storeRange begins to store the lowest range if it has come. It reports whether it has begun.
func (s *Service) storeRange(ctx context.Context, run *headerRun, stored chan<- error) bool {
	if run.over || len(run.ranges) == 0 || run.ranges[0].hs == nil {
		return false
	}
	k := run.ranges[0]
	if k.hs[0].Parent != run.last.id {
		s.unlinked(run, k)
		return false
	}
	add := s.b.AddHeaders
	if run.marks != nil {
		add = s.b.AddHeadersProven
	}
	hs := k.hs
	return s.spawn(func() {
		_, err := add(hs)
		poke(s.wakeSync)
		select {
		case stored <- err:
		case <-ctx.Done():
		}
	})
}

// unlinked is a range whose first header doesn't name the last one stored. Its sender showed another chain, or whoever
// served the one before did: the claimer is asked. If its own doesn't link either, the run ends.
func (s *Service) unlinked(run *headerRun, k *headerRange) {
	s.count("ranges_unlinked")
	err := fmt.Errorf("%w: those from height %d on don't link to %s", errOtherChain, k.from, run.last.id)
	if k.by.id != run.claimer {
		run.exclude(k.by, err).beside = run.last
		k.claimer = true
		return
	}
	run.over = true
	s.charge(run.claimer, Unproven, err) // or the one before is to blame, but leading away with valid headers costs their work
	if run.by != nil {
		s.rest(run.by.id, time.Second)
	}
}

// exclude asks a peer for nothing more in this run, and drops what it has served and isn't stored. The peer may have gone
// since, and been forgotten: it is remembered again.
func (run *headerRun) exclude(r *remote, err error) *helper {
	h := run.helpers[r.id]
	if h == nil {
		h = &helper{r: r}
		run.helpers[r.id] = h
	}
	h.out = err
	for _, k := range run.ranges {
		if k.by == r {
			k.hs, k.by, k.ctx = nil, nil, nil
		}
	}
	return h
}

// takeStored moves on after the lowest range was stored, or not.
func (s *Service) takeStored(run *headerRun, err error) {
	k := run.ranges[0]
	var rule *chain.RuleError
	switch {
	case err == nil:
		run.last = mark{k.from + uint64(k.n) - 1, k.hs[k.n-1].ID()}
		run.by, run.moved = k.by, time.Now()
		run.ranges = run.ranges[1:]
		s.rested(k.by)
	case errors.As(err, &rule): // linked to what is stored, and breaks a rule
		s.badHeaders(k.by, err)
		run.exclude(k.by, err)
	default: // too early, too little work by now, invalid, ours
		run.over = true
		if !errors.Is(err, ErrLowWork) {
			s.badHeaders(k.by, err)
		}
	}
}

package p2p

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"quipu/chain"
	"quipu/p2p/wire"
)

// Bounds of the download of bodies.
const (
	jobFew      = 16                    // so many bodies aren't split further over peers
	jobFewSmall = 1                     // of a test network's node: there a few blocks behind is much, and the split can be seen
	windowBytes = 64 << 20              // asked for or waiting for import
	windowSmall = 16 << 20              // of a test network's node
	importBytes = 8 << 20               // handed to the node at once, at least one block
	importCalls = 2                     // at once: one is checked while the other is stored
	maxRefusals = 8192                  // bodies whose refusals are remembered
	bodyCost    = 512                   // bytes an entry costs besides its body
	listedFew   = 64                    // a list of missing bodies so short is made again whenever something is heard
	syncTick    = 50 * time.Millisecond // between two looks at rates while bodies come
	refusedMin  = 250 * time.Millisecond
	refusedMax  = time.Minute
)

// download is the state of syncLoop; only that goroutine touches it.
type download struct {
	s         *Service
	plan      *schedule
	began     time.Time
	refilled  time.Time // when the list was made
	looked    time.Time // when rates and jobs were looked at
	listed    int       // bodies that were missing when the list was made
	stuck     int       // bytes of wanted bodies that no peer can be asked for now
	refusals  map[chain.BlockID]map[peer.ID]notHere
	ready     []chain.Block
	waiting   int    // bytes of ready and of what is being imported
	importing int    // calls
	tip, best uint64 // heights, as of the last look: while blocks are applied the node may be slow to say
	patience  patience
}

// notHere is a peer that said it doesn't have a body. It isn't asked again before until, unless it says meanwhile that
// the block is its tip.
type notHere struct {
	at, until time.Time
	times     int
}

// syncLoop downloads wanted bodies: schedule says who is asked for which, each body is checked against its header where it
// is fetched, then imported. A failed job costs its peer a rest, and what is left of it is given to another.
func (s *Service) syncLoop(ctx context.Context) {
	spacing := time.Duration(s.b.Genesis().Spacing) * time.Millisecond
	few := jobFew
	if s.cfg.TestNet {
		few = jobFewSmall
	}
	d := &download{s: s, began: time.Now(), refusals: map[chain.BlockID]map[peer.ID]notHere{}, patience: newPatience(spacing, time.Now()),
		plan: newSchedule(few, rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())))}
	arrivals := make(chan arrival, 16)
	imported := make(chan []chain.Block, importCalls)
	tick := time.NewTimer(0)
	defer tick.Stop()
	why := changed
	for {
		now := time.Now()
		if d.due(why) {
			d.refill(now)
			why = nothing
		}
		if now.Sub(d.looked) >= syncTick || d.looked.Before(d.refilled) {
			d.look(ctx, now, arrivals)
		}
		d.startImport(ctx, imported)
		select {
		case <-ctx.Done():
			return
		case <-s.wakeSync:
			why = max(why, hint)
		case <-tick.C:
			if d.stuck > 0 && time.Since(d.refilled) >= refusedMin {
				why = max(why, hint)
			}
			tick.Reset(d.pause())
		case a := <-arrivals:
			d.take(&a)
			for more := true; more; { // all that are waiting
				select {
				case a := <-arrivals:
					d.take(&a)
				default:
					more = false
				}
			}
		case blocks := <-imported:
			d.landed(blocks)
			why = changed
		}
	}
}

// pause is how long nothing is looked at if nothing happens.
func (d *download) pause() time.Duration {
	if d.s.syncNow.flying() {
		return syncTick
	}
	return refusedMin
}

// Why the list of what is wanted may be out of date.
const (
	nothing = iota
	hint    // a peer has said something, or a refusal may have expired
	changed // bodies were imported
)

// due reports whether to ask the node again what is missing. That reads as many headers as are missing, and a hint costs
// its sender nothing: so a long list is read again at most every refusedMin, unless it has been used up.
func (d *download) due(why int) bool {
	used := len(d.plan.pieces) == 0
	if time.Since(d.refilled) >= refusedMin {
		return why > nothing || used
	}
	return why > nothing && d.listed <= listedFew || why == changed && used
}

// look brings the schedule up to date and starts what it says.
func (d *download) look(ctx context.Context, now time.Time, arrivals chan<- arrival) {
	d.looked = now
	d.plan.peers(d.s.holders())
	d.plan.measure(now)
	for _, j := range d.plan.stalled(now, d.s.t.stall) {
		j.cancel(errStalled)
	}
	if !d.settling() {
		budget := int64(d.window()-d.waiting) - d.plan.flyingBytes()
		for _, j := range d.plan.next(now, budget) {
			d.launch(ctx, j, arrivals)
		}
	}
	best, tip := d.s.b.BestHeader(), d.s.b.Tip()
	d.best, d.tip = best.Header.Height, tip.Header.Height
	d.patience.look(time.Now(), d.best > d.tip+nearTip, d.importing == 0, d.s.syncNow.takeArrived())
	d.shown()
}

// window bounds the bytes asked for or waiting for import.
func (d *download) window() int {
	if d.s.cfg.TestNet {
		return windowSmall
	}
	return windowBytes
}

// refill asks the node what is missing. Bodies that no peer can be asked for now are left out, and the node is asked
// for so much more the next time: a branch that nobody delivers never delays another.
func (d *download) refill(now time.Time) {
	budget := d.window() + d.stuck
	wants := d.s.b.Wanted(budget)
	markFar(wants)
	d.refilled, d.listed = now, len(wants)
	if len(wants) == 0 {
		clear(d.refusals)
	}
	d.plan.peers(d.s.holders())
	heard := d.s.statuses()
	d.stuck = 0
	total := 0
	var list []Want
	var who [][]*source
	for i := range wants {
		w := &wants[i]
		cost := int(w.Header.BodySize) + bodyCost
		total += cost
		if d.s.relaying.has(w.ID) {
			continue
		}
		may := d.mayAsk(heard, w)
		if len(may) == 0 && !d.plan.busy(w.ID) {
			d.stuck += cost
			continue
		}
		list, who = append(list, *w), append(who, may)
	}
	d.plan.list(list, who, total+chain.MaxBody >= budget)
}

// settleTime is how long a node that has just started waits to hear all the peers it dials before it asks for bodies.
const settleTime = 500 * time.Millisecond

// settling reports that it still waits: else the first peer to answer would be asked for everything.
func (d *download) settling() bool {
	if time.Since(d.began) >= settleTime {
		return false
	}
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	return slices.ContainsFunc(d.s.targets, func(t *target) bool {
		r := d.s.remotes[t.info.ID]
		return r == nil || !r.hasStatus
	})
}

// holders lists the peers that may hold bodies, those whose status is known.
func (s *Service) holders() (out []seen) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.remotes {
		if r.hasStatus {
			out = append(out, seen{id: r.id, rtt: r.rtt, fails: r.failedJobs, rests: now.Before(r.restUntil)})
		}
	}
	return out
}

// told is what a peer says of itself.
type told struct {
	id     peer.ID
	status wire.Status
	at     time.Time
}

func (s *Service) statuses() (out []told) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.remotes {
		if r.hasStatus {
			out = append(out, told{r.id, r.status, r.heardAt})
		}
	}
	return out
}

// mayAsk lists the peers that say that they hold a body, but for those that said no when they were asked.
func (d *download) mayAsk(heard []told, w *Want) (out []*source) {
	announcers, refused := d.s.announced.of(w.ID), d.refusals[w.ID]
	now := time.Now()
	for i := range heard {
		h := &heard[i]
		no, asked := refused[h.id]
		if asked && now.Before(no.until) && !(h.status.TipID == w.ID && h.at.After(no.at)) {
			continue
		}
		if src := d.plan.sources[h.id]; src != nil && (h.holds(w) || slices.Contains(announcers, h.id)) {
			out = append(out, src)
		}
	}
	return out
}

// holds reports whether a peer's status says that it holds a body: it is its tip, or its ranges cover the height.
func (h *told) holds(w *Want) bool {
	if w.ID == h.status.TipID {
		return true
	}
	for _, v := range h.status.Ranges {
		if v.From <= w.Header.Height && w.Header.Height <= v.To {
			return true
		}
	}
	return false
}

// launch starts a job that the schedule has entered.
func (d *download) launch(ctx context.Context, j *job, arrivals chan<- arrival) {
	jobCtx, cancel := context.WithCancelCause(ctx)
	j.ctx, j.cancel = jobCtx, cancel
	r := d.s.remote(j.from.id)
	if j.hedge {
		d.s.stats.add("body_bytes_hedged", uint64(j.bytes))
	}
	if r == nil || !d.s.spawn(func() {
		defer cancel(nil)
		err := d.s.fetchBodies(jobCtx, r, j, arrivals)
		select {
		case arrivals <- arrival{job: j, remote: r, ended: true, err: err}:
		case <-ctx.Done():
		}
	}) {
		cancel(nil)
		d.plan.end(j, time.Now())
	}
}

// take enters what a job brought: a body is ready for import, and what is left of a job that has ended is open again.
func (d *download) take(a *arrival) {
	if a.ended {
		vain := d.plan.end(a.job, time.Now())
		d.s.stats.add("body_bytes_duplicate", uint64(vain))
		d.s.jobEnded(a)
		d.looked = time.Time{} // its peer may be free now
		return
	}
	p, fresh, useless := d.plan.answered(a.job, !a.missing)
	for _, j := range useless {
		j.cancel(errElsewhere)
	}
	switch {
	case a.missing:
		d.refused(p, a.remote.id)
	case fresh:
		if p.far {
			d.s.syncNow.arrive()
		}
		d.ready = append(d.ready, a.block)
		d.waiting += len(a.block.Body)
	}
}

// refused notes that a peer doesn't have a body.
func (d *download) refused(p *piece, from peer.ID) {
	now := time.Now()
	if len(d.refusals) >= maxRefusals {
		clear(d.refusals)
	}
	if d.refusals[p.ID] == nil {
		d.refusals[p.ID] = map[peer.ID]notHere{}
	}
	times := d.refusals[p.ID][from].times
	wait := min(refusedMin<<min(times, 10), refusedMax)
	d.refusals[p.ID][from] = notHere{at: now, until: now.Add(wait), times: times + 1}
	p.who = slices.DeleteFunc(p.who, func(src *source) bool { return src.id == from })
}

// startImport hands what is ready to the node, in the order of height.
func (d *download) startImport(ctx context.Context, imported chan<- []chain.Block) {
	if d.importing >= importCalls || len(d.ready) == 0 {
		return
	}
	slices.SortFunc(d.ready, func(a, b chain.Block) int {
		return cmp.Compare(a.Header.Height, b.Header.Height)
	})
	n, size := 0, 0
	for n < len(d.ready) && (n == 0 || size+len(d.ready[n].Body) <= importBytes) {
		size += len(d.ready[n].Body)
		n++
	}
	blocks := slices.Clone(d.ready[:n])
	d.ready = slices.Delete(d.ready, 0, n)
	d.importing++
	d.s.spawn(func() {
		if err := d.s.b.AddBodies(blocks); err != nil {
			d.s.log.Error("importing blocks", "count", len(blocks), "err", err)
			if !sleep(ctx, time.Second) { // ours, perhaps a full disk: no hurry to ask for them again
				return
			}
		}
		d.s.recheckTips()
		select {
		case imported <- blocks:
		case <-ctx.Done():
		}
	})
}

// landed enters blocks that the node has taken. Neighbours that lack them hear of it: they may be stored and not applied
// yet, and then no new tip says so.
func (d *download) landed(blocks []chain.Block) {
	d.importing--
	for i := range blocks {
		d.waiting -= len(blocks[i].Body)
		d.plan.imported(blocks[i].Header.ID())
	}
	d.s.syncNow.imported(blocks)
	d.shown()
	if d.best > d.tip+nearTip {
		for _, r := range d.s.everyone() {
			poke(r.announce)
		}
	}
}

// WakeSync makes the sync look again at what is wanted. It returns at once.
func (s *Service) WakeSync() {
	poke(s.wakeSync)
	for _, r := range s.everyone() {
		poke(r.heard)
	}
}

var (
	errStalled   = errors.New("has sent nothing for too long")
	errElsewhere = errors.New("another peer was faster")
)

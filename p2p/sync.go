package p2p

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"quipu/chain"
	"quipu/p2p/wire"
)

// Bounds of the download of bodies.
const (
	jobMin      = 256 << 10 // bytes asked of a peer at once, at least one body
	jobMax      = 1 << 20   // wire.MaxAnswer: a server sends no further body after that
	jobBodies   = 128       // wire.MaxBodies
	jobFew      = 16        // so many bodies aren't split further over peers
	jobFewSmall = 1         // of a test network's node: there a few blocks behind is much, and the split can be seen
	peerJobs    = 2         // jobs a peer is asked for at once: the next is on its way while one is served
	windowBytes = 64 << 20  // asked for or waiting for import
	windowSmall = 16 << 20  // of a test network's node
	maxPending  = 8192      // bodies in the list of what is to be asked for
	bodyCost    = 512       // bytes an entry costs besides its body
	listedFew   = 64        // a list of missing bodies so short is made again whenever something is heard
	refusedMin  = 250 * time.Millisecond
	refusedMax  = time.Minute
)

// download is the state of syncLoop; only that goroutine touches it.
type download struct {
	s         *Service
	began     time.Time
	pending   []Want                     // to be asked for, in the order of Backend.Wanted
	refilled  time.Time                  // when pending was made
	listed    int                        // bodies that were missing then
	stuck     int                        // bytes of wanted bodies that no peer can be asked for now
	flying    map[chain.BlockID]struct{} // asked for, or waiting for import
	bytes     int                        // of flying
	jobs      int
	refusals  map[chain.BlockID]map[peer.ID]notHere
	ready     []chain.Block
	importing bool
	patience  patience
}

// notHere is a peer that said it doesn't have a body. It isn't asked again before until, unless it says meanwhile that
// the block is its tip.
type notHere struct {
	at, until time.Time
	times     int
}

// jobResult is what one job of bodies came to. Every want of the job is in exactly one of got, missing and left.
type jobResult struct {
	r       *remote
	wants   []Want
	got     []chain.Block
	missing []Want // the peer doesn't have them
	left    []Want // not answered: by BodyLater, or by a fault
}

// syncLoop downloads wanted bodies: jobs of about equal bytes over all peers that hold them, each body checked against
// its header where it is fetched, then imported. A slow or failed job costs its peer a rest, and what is left of it is
// given to another.
func (s *Service) syncLoop(ctx context.Context) {
	spacing := time.Duration(s.b.Genesis().Spacing) * time.Millisecond
	d := &download{s: s, began: time.Now(), flying: map[chain.BlockID]struct{}{}, refusals: map[chain.BlockID]map[peer.ID]notHere{},
		patience: newPatience(spacing, time.Now())}
	results := make(chan jobResult)
	imported := make(chan []chain.Block)
	tick := time.NewTicker(refusedMin)
	defer tick.Stop()
	why := changed
	for {
		if d.due(why) {
			d.refill()
			why = nothing
		}
		if !d.settling() {
			d.assign(ctx, results)
		}
		d.startImport(ctx, imported)
		d.show()
		select {
		case <-ctx.Done():
			return
		case <-s.wakeSync:
			why = max(why, hint)
		case <-tick.C:
			if d.stuck > 0 {
				why = max(why, hint)
			}
		case res := <-results:
			d.take(res)
		case blocks := <-imported:
			d.importing = false
			for _, b := range blocks {
				d.land(b.Header.ID(), &b.Header)
			}
			why = changed
			s.recheckTips()
		}
	}
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
	used := len(d.pending) == 0
	if time.Since(d.refilled) >= refusedMin {
		return why > nothing || used
	}
	return why > nothing && d.listed <= listedFew || why == changed && used
}

// show updates what SyncState reports.
func (d *download) show() {
	d.patience.look(time.Now(), d.s.behind(), !d.importing, d.s.syncNow.takeArrived())
	p := &d.s.syncNow
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pending, p.flying, p.jobs, p.over = len(d.pending), len(d.flying), d.jobs, d.patience.over()
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
func (d *download) refill() {
	wants := d.s.b.Wanted(d.window() + d.stuck)
	markFar(wants)
	d.refilled, d.listed = time.Now(), len(wants)
	if len(wants) == 0 {
		clear(d.refusals)
	}
	holders := d.s.holders()
	d.stuck = 0
	d.pending = slices.DeleteFunc(wants, func(w Want) bool {
		if _, ok := d.flying[w.ID]; ok || d.s.relaying.has(w.ID) {
			return true
		}
		if !slices.ContainsFunc(holders, func(h holder) bool { return d.mayAsk(&h, &w) }) {
			d.stuck += int(w.Header.BodySize) + bodyCost
			return true
		}
		return false
	})
	d.pending = d.pending[:min(len(d.pending), maxPending)]
}

// assign gives every peer that has a free slot a job.
func (d *download) assign(ctx context.Context, results chan<- jobResult) {
	for len(d.pending) > 0 && d.bytes < d.window() {
		given := false
		free := slices.DeleteFunc(d.s.holders(), func(h holder) bool { return !h.free })
		bytes, bodies := d.share(len(free))
		for i := range free {
			if wants := d.pick(&free[i], bytes, bodies); len(wants) > 0 && d.bytes < d.window() {
				given = true
				d.launch(ctx, free[i].r, wants, results)
			}
		}
		if !given {
			return
		}
	}
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

// share is the size of a job such that all peers get about two of what is pending.
func (d *download) share(peers int) (bytes, bodies int) {
	total := 0
	for i := range d.pending {
		total += int(d.pending[i].Header.BodySize)
	}
	n, few := max(1, 2*peers), jobFew
	if d.s.cfg.TestNet {
		few = jobFewSmall
	}
	return min(max(total/n, jobMin), jobMax), min(max((len(d.pending)+n-1)/n, few), jobBodies)
}

// holder is a peer as the scheduler sees it at one moment.
type holder struct {
	r      *remote
	status wire.Status
	heard  time.Time
	jobs   int
	fails  int
	bodies uint64
	free   bool // has a free slot and no rest to keep
}

// holders lists the peers whose status is known in the order in which they get jobs: those that failed last come last,
// then the least busy first, then those that have given most. The first jobs are of what the tip waits for.
func (s *Service) holders() []holder {
	now := time.Now()
	s.mu.Lock()
	var out []holder
	for _, r := range s.remotes {
		if r.hasStatus {
			out = append(out, holder{r: r, status: r.status, heard: r.heardAt, jobs: r.jobs, fails: r.failedJobs, bodies: r.bodies,
				free: r.jobs < peerJobs && !now.Before(r.restUntil)})
		}
	}
	s.mu.Unlock()
	slices.SortFunc(out, func(a, b holder) int {
		return cmp.Or(cmp.Compare(a.fails, b.fails), cmp.Compare(a.jobs, b.jobs), cmp.Compare(b.bodies, a.bodies))
	})
	return out
}

// holds reports whether the peer says that it holds a body: it is its tip, its ranges cover the height, or it gossiped
// the header.
func (d *download) holds(h *holder, w *Want) bool {
	if w.ID == h.status.TipID {
		return true
	}
	for _, v := range h.status.Ranges {
		if v.From <= w.Header.Height && w.Header.Height <= v.To {
			return true
		}
	}
	return slices.Contains(d.s.announced.of(w.ID), h.r.id)
}

func (d *download) mayAsk(h *holder, w *Want) bool {
	if !d.holds(h, w) {
		return false
	}
	no, ok := d.refusals[w.ID][h.r.id]
	return !ok || !time.Now().Before(no.until) || h.status.TipID == w.ID && h.heard.After(no.at)
}

// pick takes up to so many bytes and bodies that a peer holds out of the pending list, the first ones first. One body
// is taken whatever its size.
func (d *download) pick(h *holder, bytes, bodies int) (job []Want) {
	size := 0
	d.pending = slices.DeleteFunc(d.pending, func(w Want) bool {
		n := int(w.Header.BodySize)
		if len(job) >= bodies || len(job) > 0 && size+n > bytes || !d.mayAsk(h, &w) {
			return false
		}
		size += n
		job = append(job, w)
		return true
	})
	return job
}

func (d *download) launch(ctx context.Context, r *remote, wants []Want, results chan<- jobResult) {
	if !d.s.spawn(func() {
		res := d.s.fetchBodies(ctx, r, wants)
		select {
		case results <- res:
		case <-ctx.Done():
		}
	}) {
		return
	}
	for i := range wants {
		d.flying[wants[i].ID] = struct{}{}
		d.bytes += int(wants[i].Header.BodySize) + bodyCost
	}
	d.jobs++
	d.s.mu.Lock()
	r.jobs++
	d.s.mu.Unlock()
}

// land takes a body out of what is flying.
func (d *download) land(id chain.BlockID, h *chain.Header) {
	if _, ok := d.flying[id]; ok {
		delete(d.flying, id)
		d.bytes -= int(h.BodySize) + bodyCost
	}
}

// take enters a job's result: what came is ready for import, the rest goes back to the front of the list.
func (d *download) take(res jobResult) {
	d.jobs--
	d.s.mu.Lock()
	res.r.jobs--
	d.s.mu.Unlock()
	now := time.Now()
	for i := range res.missing {
		id := res.missing[i].ID
		if len(d.refusals) >= maxPending {
			clear(d.refusals)
		}
		if d.refusals[id] == nil {
			d.refusals[id] = map[peer.ID]notHere{}
		}
		times := d.refusals[id][res.r.id].times
		wait := min(refusedMin<<min(times, 10), refusedMax)
		d.refusals[id][res.r.id] = notHere{at: now, until: now.Add(wait), times: times + 1}
	}
	back := slices.Concat(res.missing, res.left)
	for i := range back {
		d.land(back[i].ID, &back[i].Header)
	}
	d.pending = append(back, d.pending...)
	d.ready = append(d.ready, res.got...)
}

// startImport hands all that is ready to the node, in the order of height, one call at a time.
func (d *download) startImport(ctx context.Context, imported chan<- []chain.Block) {
	if d.importing || len(d.ready) == 0 {
		return
	}
	blocks := d.ready
	d.ready, d.importing = nil, true
	slices.SortFunc(blocks, func(a, b chain.Block) int {
		return cmp.Compare(a.Header.Height, b.Header.Height)
	})
	d.s.spawn(func() {
		if err := d.s.b.AddBodies(blocks); err != nil {
			d.s.log.Error("importing blocks", "count", len(blocks), "err", err)
			if !sleep(ctx, time.Second) { // ours, perhaps a full disk: no hurry to ask for them again
				return
			}
		}
		select {
		case imported <- blocks:
		case <-ctx.Done():
		}
	})
}

// WakeSync makes the sync look again at what is wanted. It returns at once.
func (s *Service) WakeSync() {
	poke(s.wakeSync)
	for _, r := range s.everyone() {
		poke(r.heard)
	}
}

// syncProgress is what syncLoop shows of itself, and what fetching goroutines tell it between their results.
type syncProgress struct {
	mu                    sync.Mutex
	pending, flying, jobs int
	over                  bool // patience is
	arrived               int  // bodies of branches far ahead since the last look
}

func (p *syncProgress) arrive() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.arrived++
}

func (p *syncProgress) takeArrived() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.arrived
	p.arrived = 0
	return n
}

func (p *syncProgress) patienceOver() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.over
}

// SyncState says how far the download is.
func (s *Service) SyncState() SyncState {
	best, tip := s.b.BestHeader(), s.b.Tip()
	out := SyncState{TipHeight: tip.Header.Height, BestHeight: best.Header.Height}
	out.Syncing = !s.near()
	for _, r := range s.everyone() {
		s.mu.Lock()
		out.NetworkHeight = max(out.NetworkHeight, r.status.BestHeight)
		s.mu.Unlock()
	}
	p := &s.syncNow
	p.mu.Lock()
	defer p.mu.Unlock()
	out.Pending, out.Flying, out.Jobs = p.pending, p.flying, p.jobs
	return out
}

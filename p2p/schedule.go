package p2p

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"quipu/chain"
)

// Bounds of what peers are asked for.
const (
	jobMin     = 256 << 10              // bytes asked of a peer at once, at least one body
	jobMax     = 1 << 20                // wire.MaxAnswer: a server sends no further body after that
	jobBodies  = 128                    // wire.MaxBodies
	jobTime    = 500 * time.Millisecond // what a job should take
	peerJobs   = 8                      // jobs asked of one peer at once; it answers wire requests of up to 16
	peerWindow = 8 << 20                // bytes asked of one peer and not here yet
	lead       = 100 * time.Millisecond // how long, beside the round trip, a peer has left to send when it is asked for more
	jumps      = 2                      // one in so many jobs of what is rare is drawn anew
	headBytes  = 2 * jobMin             // what the tip waits for, at least two bodies

	rateOver    = time.Second           // time constant of a peer's rate
	sampleEvery = 50 * time.Millisecond // least between two looks at it
	rateUnknown = 1 << 20               // bytes a second, while no peer's rate is known
	suspectMin  = time.Second           // without a byte: then others may be asked for what a peer has been asked for
	suspectNew  = 2 * time.Second       // the same of a peer that has sent nothing yet
	suspectSend = 192 << 10             // or the time in which the peer sends so much, if that is more
	hedgeMin    = 300 * time.Millisecond
	hedgeNew    = time.Second // for a job of a peer whose rate isn't known
	hedgeShare  = 20          // hedged bytes are at most 1/20 of all, and hedgeFree
	hedgeFree   = 1 << 20
	maxCarriers = 2 // jobs that are to bring one body, those of suspects not counted
)

// schedule decides which peer is asked for which bodies, and when. It knows no network, clock or goroutine: who uses it
// says what is missing, who holds it and what time it is.
//
// A peer is asked for more when it has so little left to send that a round trip would let it run dry: what it is asked
// for ahead is its rate times that time, and a slow peer gets one body. What the tip waits for goes to the fastest. All
// else is taken in order while most peers hold it. Where most lack it, they want it too, and asking for the lowest would make
// one seed send everything to everybody: then the rarest is taken first, from a place drawn at random.
type schedule struct {
	few     int // a job's bodies aren't split below this number
	draw    *rand.Rand
	sources map[peer.ID]*source
	order   []*source // the same, by id
	pieces  []*piece  // in the order of Backend.Wanted; those that have come are left out
	known   map[chain.BlockID]*piece
	more    bool  // pieces doesn't list all that is missing
	holders int   // peers that hold anything that is listed
	asked   int64 // bytes asked for, each body counted once
	hedged  int64 // bytes asked for a second time
}

// piece is a body that is missing, or has come and isn't imported yet.
type piece struct {
	Want
	who  []*source // may be asked for it
	jobs []*job    // are to bring it
	done bool      // it has come
}

// source is a peer as the schedule sees it.
type source struct {
	id      peer.ID
	rtt     time.Duration
	fails   int  // jobs that failed, in a row
	rests   bool // is not to be asked
	rate    float64
	jobs    []*job // in the order asked
	ended   int64  // bytes that jobs brought which have ended
	came    int64  // all bytes it has brought
	lastAt  time.Time
	mark    int64 // came when the rate was looked at
	markAt  time.Time
	silent  time.Duration // how long it has sent nothing
	suspect bool          // that is longer than its rate explains
	at      uint64        // the height after the last that was drawn for it
}

// job is bodies asked of one peer in one request.
type job struct {
	from    *source
	pieces  []*piece
	left    []*piece // not answered yet
	bytes   int64
	began   time.Time
	expect  time.Duration // it should take
	hedge   bool          // asks for what another is to bring as well
	got     atomic.Int64  // bytes that have come, set by who fetches
	used    int64         // of those, in bodies that nobody else brought before
	brought int           // bodies
	ctx     context.Context
	cancel  func(cause error)
}

func newSchedule(few int, draw *rand.Rand) *schedule {
	return &schedule{few: few, draw: draw, sources: map[peer.ID]*source{}, known: map[chain.BlockID]*piece{}}
}

// seen is a peer that may be asked.
type seen struct {
	id    peer.ID
	rtt   time.Duration
	fails int
	rests bool
}

// peers takes in who is connected.
func (s *schedule) peers(all []seen) {
	here := make(map[peer.ID]*source, len(all))
	for _, src := range s.order {
		src.rests = true // unless it is among them
	}
	s.order = s.order[:0]
	for _, p := range all {
		src := s.sources[p.id]
		if src == nil {
			src = &source{id: p.id}
		}
		if src.rtt == 0 || p.rtt > 0 && p.rtt < src.rtt {
			src.rtt = p.rtt
		}
		src.fails, src.rests = p.fails, p.rests
		here[p.id] = src
		s.order = append(s.order, src)
	}
	s.sources = here
	slices.SortFunc(s.order, func(a, b *source) int { return cmp.Compare(a.id, b.id) })
}

// list takes in what is missing, in order, and who may be asked for each. more says that there is more than that.
func (s *schedule) list(wants []Want, who [][]*source, more bool) {
	known := make(map[chain.BlockID]*piece, len(wants))
	holders := map[*source]bool{}
	s.pieces, s.more = s.pieces[:0], more
	for i := range wants {
		p := s.known[wants[i].ID]
		if p == nil {
			p = &piece{Want: wants[i]}
		}
		p.far = wants[i].far // the rest is the same, and who fetches it may be reading it
		known[p.ID] = p
		if p.who = who[i]; !p.done {
			s.pieces = append(s.pieces, p)
		}
		for _, src := range p.who {
			holders[src] = true
		}
	}
	s.holders = len(holders)
	for id, p := range s.known {
		if p.done || len(p.jobs) > 0 { // a job's, whatever is listed now
			known[id] = p
		}
	}
	s.known = known
}

// measure brings rates up to date.
func (s *schedule) measure(now time.Time) {
	for _, src := range s.order {
		src.measure(now)
	}
}

func (src *source) measure(now time.Time) {
	came := src.ended
	for _, j := range src.jobs {
		came += j.got.Load()
	}
	if came > src.came {
		src.came, src.lastAt = came, now
	}
	switch passed := now.Sub(src.markAt); {
	case len(src.jobs) == 0:
		src.markAt, src.suspect, src.silent = time.Time{}, false, 0
		return
	case src.markAt.IsZero(): // the rate is that from the first byte on
		if src.came > src.mark {
			src.mark, src.markAt = src.came, now
		}
	case passed >= sampleEvery:
		sample := float64(src.came-src.mark) / passed.Seconds()
		if src.rate == 0 {
			src.rate = sample
		} else {
			w := min(1, passed.Seconds()/rateOver.Seconds())
			src.rate += w * (sample - src.rate)
		}
		src.mark, src.markAt = src.came, now
	}
	src.silent = now.Sub(src.lastAt)
	src.suspect = src.silent > src.patience()
}

// patience is how long a peer may send nothing before others are asked.
func (src *source) patience() time.Duration {
	if src.rate <= 0 {
		return max(suspectNew, 4*src.rtt)
	}
	return max(suspectMin, 4*src.rtt, min(seconds(suspectSend/src.rate), time.Minute))
}

// stalled lists the jobs of peers that have sent nothing for so long.
func (s *schedule) stalled(now time.Time, stall time.Duration) (out []*job) {
	for _, src := range s.order {
		if len(src.jobs) > 0 && now.Sub(src.lastAt) >= stall {
			out = append(out, src.jobs...)
		}
	}
	return out
}

func seconds(s float64) time.Duration { return time.Duration(min(s, 1e6) * float64(time.Second)) }

// outstanding is what a peer has been asked for and not sent, in bytes.
func (src *source) outstanding() (n int64) {
	for _, j := range src.jobs {
		n += max(0, j.bytes-j.got.Load())
	}
	return n
}

// speed is a peer's rate, or the mean of those known.
func (s *schedule) speed(src *source) float64 {
	if src.rate > 0 {
		return src.rate
	}
	sum, n := 0.0, 0
	for _, o := range s.order {
		if o.rate > 0 {
			sum += o.rate
			n++
		}
	}
	if n == 0 {
		return rateUnknown
	}
	return sum / float64(n)
}

// eta is when a peer would have sent so many bytes more.
func (s *schedule) eta(src *source, bytes int64) time.Duration {
	return src.rtt + seconds(float64(src.outstanding()+bytes)/s.speed(src))
}

// due is when a job will have brought all that is left of it: its peer answers one after another. Who has been silent for
// a while may be for as long again.
func (s *schedule) due(j *job) time.Duration {
	if j.from.suspect {
		return time.Hour
	}
	n := int64(0)
	for _, o := range j.from.jobs {
		n += max(0, o.bytes-o.got.Load())
		if o == j {
			break
		}
	}
	return max(seconds(float64(n)/s.speed(j.from)), j.from.silent)
}

// open reports whether a body has to be asked for: nobody is to bring it, or none who does.
func (p *piece) open() bool { return !p.done && p.carriers() == 0 }

func (p *piece) carriers() (n int) {
	for _, j := range p.jobs {
		if !j.from.suspect {
			n++
		}
	}
	return n
}

func (p *piece) asks(src *source) bool {
	return slices.ContainsFunc(p.jobs, func(j *job) bool { return j.from == src })
}

// from reports whether a peer may be asked for a body and isn't already.
func (p *piece) from(src *source) bool { return slices.Contains(p.who, src) && !p.asks(src) }

func (p *piece) size() int64 { return int64(p.Header.BodySize) }

// room reports whether a peer should be asked for more.
func (src *source) room() bool {
	if src.rests || src.suspect || len(src.jobs) >= peerJobs {
		return false
	}
	if len(src.jobs) == 0 {
		return true
	}
	ahead := min(src.rate*(src.rtt+lead).Seconds(), peerWindow)
	return src.rate > 0 && float64(src.outstanding()) <= ahead
}

// next gives the jobs to be started now, and has entered them as if they were. It starts none any more when they ask for
// budget bytes; what is asked for twice isn't counted.
func (s *schedule) next(now time.Time, budget int64) (out []*job) {
	for given := true; given && budget > 0; {
		given = false
		free := slices.DeleteFunc(slices.Clone(s.order), func(src *source) bool { return !src.room() })
		slices.SortStableFunc(free, func(a, b *source) int {
			return cmp.Or(cmp.Compare(a.fails, b.fails), cmp.Compare(len(a.jobs), len(b.jobs)), cmp.Compare(b.rate, a.rate))
		})
		left := s.left()
		for _, src := range free {
			pieces, hedge := s.pick(src, &left), false
			if pieces == nil {
				pieces, hedge = s.double(src), true
			}
			if pieces == nil {
				continue
			}
			j := s.start(src, pieces, hedge, now)
			out, given, left = append(out, j), true, s.left()
			if budget -= j.bytes; budget <= 0 {
				break
			}
		}
	}
	return append(out, s.hedges(now)...)
}

// remaining is what is open.
type remaining struct {
	bytes  int64
	bodies int
	sole   map[*source]bool // the only one that holds something open, while there are others
}

func (s *schedule) left() (r remaining) {
	r.sole = map[*source]bool{}
	for _, p := range s.pieces {
		if p.open() {
			r.bytes += p.size()
			r.bodies++
			if len(p.who) == 1 && len(s.order) > 1 {
				r.sole[p.who[0]] = true
			}
		}
	}
	return r
}

// pick chooses a job for a peer out of what is open; nil if there is none for it.
func (s *schedule) pick(src *source, left *remaining) []*piece {
	if left.bodies == 0 {
		return nil
	}
	bytes, bodies := s.share(src, left)
	if first := s.headFor(src, left); first >= 0 {
		return s.gather(src, first, bytes, bodies, func(*piece) bool { return true })
	}
	most := len(s.order)/2 + 1 // held by so many it isn't rare
	rarest := most
	for _, p := range s.pieces {
		if len(p.who) < rarest && p.open() && p.from(src) {
			rarest = len(p.who)
		}
	}
	take := func(p *piece) bool { return min(len(p.who), most) == rarest }
	var may []int
	for i, p := range s.pieces {
		if take(p) && p.open() && p.from(src) {
			may = append(may, i)
		}
	}
	if len(may) == 0 {
		return nil
	}
	first := s.reach(src, may, bytes)
	if rarest < most {
		i := slices.IndexFunc(may, func(i int) bool { return s.pieces[i].Header.Height == src.at })
		if i < 0 || s.draw.IntN(jumps) == 0 {
			i = s.draw.IntN(len(may))
		}
		first = may[i]
	}
	job := s.gather(src, first, bytes, bodies, take)
	if job == nil || s.wait(src, job, left) {
		return nil
	}
	src.at = job[len(job)-1].Header.Height + 1
	return job
}

// reach is the first body of those a peer may bring that it would bring before the faster peers have brought all before
// it, so that a slow one doesn't hold up the tip; the last one if it is too slow for any.
func (s *schedule) reach(src *source, may []int, bytes int64) int {
	if src.rate <= 0 {
		return may[0]
	}
	faster := 0.0
	for _, o := range s.order {
		if o != src && o.able() && o.rate > 2*src.rate {
			faster += o.rate
		}
	}
	ahead, before, at := faster*s.eta(src, bytes).Seconds(), 0.0, 0
	for _, i := range may {
		for ; at < i; at++ {
			before += float64(s.pieces[at].size())
		}
		if before >= ahead {
			return i
		}
	}
	return may[len(may)-1]
}

// share is the size of a job for a peer: what it sends in jobTime, and no more than its part of what is open.
func (s *schedule) share(src *source, left *remaining) (bytes int64, bodies int) {
	n := max(1, 2*s.holders)
	bytes = min(int64(src.rate*jobTime.Seconds()), left.bytes/int64(n))
	return min(max(bytes, jobMin), jobMax), min(max((left.bodies+n-1)/n, s.few), jobBodies)
}

// gather takes open bodies from first on that a peer holds and take likes. One is taken whatever its size.
func (s *schedule) gather(src *source, first int, bytes int64, bodies int, take func(*piece) bool) (out []*piece) {
	size := int64(0)
	for _, p := range s.pieces[first:] {
		if !p.open() || !p.from(src) || !take(p) {
			continue
		}
		if size += p.size(); len(out) > 0 && (size > bytes || len(out) >= bodies) {
			break
		}
		out = append(out, p)
	}
	return out
}

// headFor is the first open body of what the tip waits for that this peer should bring, -1 if none. It should not if
// another would have brought it in half the time, or if it has what others don't.
func (s *schedule) headFor(src *source, left *remaining) int {
	size := int64(0)
	for i, p := range s.pieces {
		if i >= 2 && size >= headBytes {
			break
		}
		size += p.size()
		if !p.open() || !p.from(src) || left.sole[src] {
			continue
		}
		mine := s.eta(src, p.size())
		if !slices.ContainsFunc(p.who, func(o *source) bool {
			return o.able() && (o.rate > 0 || src.rate == 0) && 2*s.eta(o, p.size()) < mine
		}) {
			return i
		}
	}
	return -1
}

func (src *source) able() bool { return !src.rests && !src.suspect && src.fails == 0 }

// wait reports that faster peers will have brought all that is open before this one would bring a job of it.
func (s *schedule) wait(src *source, job []*piece, left *remaining) bool {
	if src.rate <= 0 {
		return false
	}
	rate, bytes, mine := 0.0, left.bytes, int64(0)
	for _, p := range job {
		mine += p.size()
	}
	for _, o := range job[0].who {
		if o != src && o.rate > src.rate && o.able() && !slices.ContainsFunc(job, func(p *piece) bool { return !slices.Contains(p.who, o) }) {
			rate += o.rate
			bytes += o.outstanding()
		}
	}
	return rate > 0 && seconds(1.25*float64(bytes)/rate)+lead < s.eta(src, mine)
}

// double is the end of the list: everything is on its way, so a peer with nothing to do is asked for what would come
// last, if it is faster. The first one wins.
func (s *schedule) double(src *source) []*piece {
	if s.more || len(src.jobs) > 0 || !src.able() {
		return nil
	}
	var worst *job
	latest := time.Duration(0)
	for _, p := range s.pieces {
		if p.done || len(p.jobs) != 1 || !p.from(src) {
			continue
		}
		if j := p.jobs[0]; worst == nil || s.due(j) > latest {
			worst, latest = j, s.due(j)
		}
	}
	if worst == nil {
		return nil
	}
	may := slices.DeleteFunc(slices.Clone(worst.left), func(p *piece) bool { return p.done || len(p.jobs) != 1 || !p.from(src) })
	may = may[len(may)/2:] // its last ones: it goes on with the others
	size := int64(0)
	for i, p := range may {
		if size += p.size(); i > 0 && size > jobMax {
			may = may[:i]
			break
		}
	}
	if s.eta(src, size)*5/4+sampleEvery >= latest {
		return nil
	}
	return may
}

// hedges asks a second peer for what the tip waits for and comes late.
func (s *schedule) hedges(now time.Time) (out []*job) {
	size := int64(0)
	for i, p := range s.pieces {
		if i >= 2 && size >= headBytes || s.hedged > s.asked/hedgeShare+hedgeFree {
			break
		}
		size += p.size()
		if p.done || len(p.jobs) != 1 {
			continue
		}
		j := p.jobs[0]
		if now.Sub(j.began) < hedgeMin {
			continue
		}
		var best *source
		for _, o := range p.who {
			if o != j.from && o.able() && len(o.jobs) < peerJobs && (best == nil || s.eta(o, p.size()) < s.eta(best, p.size())) {
				best = o
			}
		}
		if best == nil {
			continue
		}
		late, soon := now.Sub(j.began) >= 2*j.expect, s.eta(best, p.size())
		if late && soon < s.due(j) || i == 0 && 3*soon < s.due(j) {
			out = append(out, s.start(best, []*piece{p}, true, now))
		}
	}
	return out
}

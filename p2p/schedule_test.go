package p2p

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"quipu/chain"
)

// simNode serves what it has at a rate that those who ask share evenly, one job of each after another, and fetches what it
// lacks as its schedule says.
type simNode struct {
	id    peer.ID
	rate  float64 // bytes a second of all answers
	rtt   time.Duration
	has   []bool
	plan  *schedule // nil: has all
	fault func(now time.Duration) (rate float64, fails bool)

	links   map[*simNode][]*simJob // by who asks
	sent    int64
	got     []int // times each body arrived as a fresh one
	raw     int64 // bytes received
	told    []bool
	done    time.Duration
	listed  time.Duration
	history []int // bodies in the order they came
	waiting int   // most bodies that have come and wait for one before them
}

type simJob struct {
	j    *job
	from time.Duration // when its first byte may come
	sent float64
}

// sim is a network in steps of simulated time.
type sim struct {
	t      *testing.T
	bodies []Want
	size   int64
	nodes  []*simNode
	now    time.Duration
	lose   func() bool // a job fails now
}

const simStep = 10 * time.Millisecond

var simStart = time.Unix(1_700_000_000, 0)

func newSim(t *testing.T, bodies, size int) *sim {
	s := &sim{t: t, lose: func() bool { return false }}
	for i := range bodies {
		w := Want{Header: chain.Header{Height: uint64(i + 1), BodySize: uint32(size)}}
		w.ID[0], w.ID[1] = byte(i), byte(i>>8)
		s.bodies = append(s.bodies, w)
		s.size += int64(size)
	}
	return s
}

func (s *sim) add(name string, rate float64, full bool) *simNode {
	n := &simNode{id: peer.ID(name), rate: rate, rtt: 20 * time.Millisecond, links: map[*simNode][]*simJob{}, has: make([]bool, len(s.bodies)), got: make([]int, len(s.bodies))}
	if full {
		for i := range n.has {
			n.has[i] = true
		}
	} else {
		n.plan = newSchedule(jobFew, rand.New(rand.NewPCG(1, uint64(len(s.nodes)))))
	}
	s.nodes = append(s.nodes, n)
	return n
}

func (s *sim) whole(n *simNode) bool { return !slices.Contains(n.has, false) }

// run goes on until all have everything.
func (s *sim) run(limit time.Duration) {
	s.t.Helper()
	for {
		busy := false
		for _, n := range s.nodes {
			if n.plan == nil || n.done > 0 {
				continue
			}
			if s.whole(n) {
				n.done = s.now
				continue
			}
			busy = true
			s.think(n)
		}
		if !busy {
			return
		}
		if s.now > limit {
			for _, n := range s.nodes {
				if n.plan != nil {
					open, flying, jobs := n.plan.counts()
					s.t.Logf("%s lacks %d bodies; %d open, %d flying, %d jobs", n.id, len(slices.DeleteFunc(slices.Clone(n.has), func(h bool) bool { return h })), open, flying, jobs)
				}
			}
			s.t.Fatalf("not done after %v", s.now)
		}
		s.now += simStep
		for _, n := range s.nodes {
			s.serve(n)
		}
	}
}

// think lets a node's schedule look at the world, each half second at what others have said.
func (s *sim) think(n *simNode) {
	now := simStart.Add(s.now)
	var all []seen
	for _, o := range s.nodes {
		if o != n {
			_, fails := o.state(s.now)
			all = append(all, seen{id: o.id, rtt: o.rtt, rests: fails})
		}
	}
	n.plan.peers(all)
	if n.listed == 0 || s.now-n.listed >= 500*time.Millisecond || len(n.plan.pieces) == 0 {
		n.listed = s.now
		for _, o := range s.nodes {
			o.told = slices.Clone(o.has)
		}
		var wants []Want
		for i, w := range s.bodies {
			if !n.has[i] {
				wants = append(wants, w)
			}
		}
		who := make([][]*source, len(wants))
		for i := range wants {
			for _, o := range s.nodes {
				if o != n && o.told[wants[i].Header.Height-1] {
					who[i] = append(who[i], n.plan.sources[o.id])
				}
			}
		}
		n.plan.list(wants, who, false)
	}
	n.plan.measure(now)
	for _, j := range n.plan.stalled(now, 5*time.Second) {
		s.drop(n, j)
	}
	for _, j := range n.plan.next(now, 64<<20) {
		for _, o := range s.nodes {
			if o.id == j.from.id {
				o.links[n] = append(o.links[n], &simJob{j: j, from: s.now + o.rtt})
			}
		}
	}
}

func (n *simNode) state(now time.Duration) (float64, bool) {
	if n.fault == nil {
		return n.rate, false
	}
	return n.fault(now)
}

// drop ends a job of n.
func (s *sim) drop(n *simNode, j *job) {
	for _, o := range s.nodes {
		o.links[n] = slices.DeleteFunc(o.links[n], func(sj *simJob) bool { return sj.j == j })
	}
	n.plan.end(j, simStart.Add(s.now))
}

// serve sends one step's worth of bytes.
func (s *sim) serve(o *simNode) {
	rate, fails := o.state(s.now)
	var asking []*simNode
	for _, n := range s.nodes {
		if len(o.links[n]) > 0 && o.links[n][0].from <= s.now {
			asking = append(asking, n)
		}
	}
	for _, n := range asking {
		left := rate * simStep.Seconds() / float64(len(asking))
		for left > 0 && len(o.links[n]) > 0 && o.links[n][0].from <= s.now {
			sj := o.links[n][0]
			if fails || s.lose() {
				s.drop(n, sj.j)
				continue
			}
			add := min(left, float64(sj.j.bytes)-sj.sent)
			sj.sent += add
			left -= add
			before := sj.j.got.Load()
			sj.j.got.Store(int64(sj.sent))
			o.sent += int64(sj.sent) - before
			n.raw += int64(sj.sent) - before
			s.deliver(n, sj.j)
			if len(sj.j.left) == 0 && slices.Contains(o.links[n], sj) {
				s.drop(n, sj.j)
			}
		}
	}
}

func (s *sim) deliver(n *simNode, j *job) {
	at := int64(0)
	for _, p := range j.pieces[:len(j.pieces)-len(j.left)] {
		at += p.size()
	}
	for len(j.left) > 0 && j.got.Load() >= at+j.left[0].size() {
		at += j.left[0].size()
		p, fresh, useless := n.plan.answered(j, true)
		if fresh {
			i := int(p.Header.Height - 1)
			n.has[i] = true
			n.got[i]++
			n.history = append(n.history, i)
			if next := slices.Index(n.has, false); next >= 0 {
				n.waiting = max(n.waiting, len(n.history)-next)
			}
			n.plan.imported(p.ID)
		}
		for _, u := range useless {
			s.drop(n, u)
		}
	}
}

// check says that every body came once, and how many bytes were received for each of the chain's.
func (s *sim) check(n *simNode) float64 {
	s.t.Helper()
	for i, k := range n.got {
		if k != 1 {
			s.t.Errorf("%s got body %d %d times", n.id, i+1, k)
		}
	}
	return float64(n.raw) / float64(s.size)
}

const mb = 1e6

func servers(s *sim, rates ...float64) (sum float64) {
	for i, r := range rates {
		s.add(fmt.Sprintf("server %d", i), r, true)
		sum += r
	}
	return sum
}

// Throughput is at least 90 % of what all peers have together, whatever each has, and little comes twice.
func TestScheduleFillsAllLinks(t *testing.T) {
	for name, rates := range map[string][]float64{
		"one": {mb}, "two": {mb, mb}, "four": {mb, mb, mb, mb}, "eight": {mb / 2, mb / 2, mb / 2, mb / 2, mb / 2, mb / 2, mb / 2, mb / 2},
		"uneven": {3 * mb, mb, mb / 2, mb / 4}, "one of nine is fast": {5 * mb, mb / 4, mb / 4, mb / 4, mb / 4, mb / 4, mb / 4, mb / 4, mb / 4},
	} {
		for body, count := range map[int]int{400_000: 80, 40_000: 800, 160: 2000} {
			t.Run(fmt.Sprint(name, body), func(t *testing.T) {
				s := newSim(t, count, body)
				sum := servers(s, rates...)
				n := s.add("fresh", 0, false)
				s.run(10 * time.Minute)
				best := time.Duration(float64(s.size) / sum * float64(time.Second))
				times := s.check(n)
				if slack := 200 * time.Millisecond; n.done > best*10/9+slack {
					t.Errorf("took %v, at the sum of rates %v", n.done, best)
				}
				if times > 1.1 {
					t.Errorf("received %.2f times the chain", times)
				}
				t.Logf("%v of %v, %.3f times the chain, hedged %d", n.done, best, times, n.plan.hedged)
			})
		}
	}
}

// One of four peers stalls, is slow or sends nothing usable, from the start or from the middle on: that is hardly worse
// than not having it.
func TestScheduleWithOneBadPeer(t *testing.T) {
	three := newSim(t, 80, 400_000)
	servers(three, mb, mb, mb)
	alone := three.add("fresh", 0, false)
	three.run(time.Minute)
	for name, fault := range map[string]func(time.Duration) (float64, bool){
		"stalls at once":      func(time.Duration) (float64, bool) { return 0, false },
		"stalls later":        func(now time.Duration) (float64, bool) { return mb * float64(b2i(now < 3*time.Second)), false },
		"stalls near the end": func(now time.Duration) (float64, bool) { return mb * float64(b2i(now < 7*time.Second)), false },
		"slow":                func(time.Duration) (float64, bool) { return mb / 20, false },
		"slow later": func(now time.Duration) (float64, bool) {
			return mb/20 + mb*0.95*float64(b2i(now < 3*time.Second)), false
		},
		"fails at once": func(time.Duration) (float64, bool) { return mb, true },
		"fails later":   func(now time.Duration) (float64, bool) { return mb, now > 3*time.Second },
		"on and off": func(now time.Duration) (float64, bool) {
			return mb * float64(b2i(now%(4*time.Second) < 2*time.Second)), false
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, 80, 400_000)
			servers(s, mb, mb, mb)
			s.add("bad", mb, true).fault = fault
			n := s.add("fresh", 0, false)
			s.run(time.Minute)
			times := s.check(n)
			if n.done > alone.done*11/10 {
				t.Errorf("took %v, three good ones %v", n.done, alone.done)
			}
			if n.waiting > 25 {
				t.Errorf("%d bodies had to wait for one before them", n.waiting)
			}
			t.Logf("%v, three good ones %v; %.3f times the chain; at most %d waited", n.done, alone.done, times, n.waiting)
		})
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// All but one peer stall: the sync ends all the same.
func TestScheduleWithOneGoodPeer(t *testing.T) {
	s := newSim(t, 40, 400_000)
	servers(s, mb)
	for i := range 7 {
		s.add(fmt.Sprint("bad", i), 0, true)
	}
	n := s.add("fresh", 0, false)
	s.run(30 * time.Second)
	s.check(n)
}

// Under random faults of everybody every body comes exactly once.
func TestScheduleLosesNothing(t *testing.T) {
	for seed := range uint64(60) {
		draw := rand.New(rand.NewPCG(seed, 2))
		s := newSim(t, 1+draw.IntN(150), 1+draw.IntN(300_000))
		for i := range 1 + draw.IntN(6) {
			until := time.Duration(draw.IntN(20)) * time.Second
			o := s.add(fmt.Sprint("server", i), 1e4+draw.Float64()*mb*3, true)
			o.rtt = time.Duration(draw.IntN(300)) * time.Millisecond
			o.fault = func(now time.Duration) (float64, bool) {
				return o.rate * float64(b2i(now > until || draw.IntN(3) > 0)), draw.IntN(400) == 0
			}
		}
		s.lose = func() bool { return draw.IntN(200) == 0 }
		n := s.add("fresh", 0, false)
		s.run(4 * time.Hour)
		s.check(n)
		if open, flying, jobs := n.plan.counts(); open+flying+jobs != 0 {
			t.Errorf("seed %d: left over %d open, %d flying, %d jobs", seed, open, flying, jobs)
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// Eight empty nodes and one seed, all with the same upload: the seed sends each body little more than once, and all are done
// in far less than eight times the time of one.
func TestScheduleSpreadsASeed(t *testing.T) {
	s := newSim(t, 80, 400_000)
	seed := s.add("seed", mb, true)
	for i := range 8 {
		s.add(fmt.Sprint("empty", i), mb, false)
	}
	s.run(4 * time.Minute)
	last := time.Duration(0)
	for _, n := range s.nodes[1:] {
		last = max(last, n.done)
		if times := s.check(n); times > 1.25 {
			t.Errorf("%s received %.2f times the chain", n.id, times)
		}
	}
	one := time.Duration(float64(s.size) / mb * float64(time.Second))
	if last > one*5/2 {
		t.Errorf("took %v, one alone %v", last, one)
	}
	if times := float64(seed.sent) / float64(s.size); times > 2 {
		t.Errorf("the seed sent %.2f times the chain", times)
	}
	t.Logf("took %v, one alone %v; the seed sent %.2f times the chain", last, one, float64(seed.sent)/float64(s.size))
}

// With full peers only, bodies come about in order: what the tip waits for first.
func TestScheduleKeepsOrder(t *testing.T) {
	s := newSim(t, 80, 400_000)
	servers(s, mb, mb, mb/4)
	n := s.add("fresh", 0, false)
	s.run(time.Minute)
	for k, i := range n.history {
		if i > k+6 {
			t.Errorf("body %d came %d.", i+1, k+1)
		}
	}
}

// What the tip waits for goes to the peer that is known to be fastest, and never first to one that has failed.
func TestScheduleAsksTheFastestFirst(t *testing.T) {
	s := newSchedule(jobFew, rand.New(rand.NewPCG(1, 1)))
	s.peers([]seen{{id: "fast"}, {id: "slow"}, {id: "other"}, {id: "failed", fails: 2}, {id: "rests", rests: true}})
	s.sources["fast"].rate, s.sources["slow"].rate, s.sources["failed"].rate = 2*mb, mb/10, 9*mb
	sim := newSim(t, 1, 400_000)
	for _, want := range []peer.ID{"fast", "slow", "other", "failed"} {
		s.list(sim.bodies, [][]*source{s.order}, true)
		jobs := s.next(simStart, 1)
		if len(jobs) != 1 || jobs[0].from.id != want {
			t.Fatalf("%d jobs, the first of %q, want %q", len(jobs), jobs[0].from.id, want)
		}
		s.end(jobs[0], simStart)
		s.sources[want].rests = true
	}
}

// A late job of what the tip waits for is asked of another; when one has answered, the other is of no use.
func TestScheduleHedges(t *testing.T) {
	s := newSchedule(jobFew, rand.New(rand.NewPCG(1, 1)))
	s.peers([]seen{{id: "a"}, {id: "b"}})
	a, b := s.sources["a"], s.sources["b"]
	a.rate, b.rate = 2*mb, mb
	sim := newSim(t, 1, 400_000)
	s.list(sim.bodies, [][]*source{s.order}, true)
	now := simStart
	jobs := s.next(now, 1)
	if len(jobs) != 1 || jobs[0].from != a {
		t.Fatal("the fastest isn't asked")
	}
	at := time.Duration(0)
	var hedge []*job
	for len(hedge) == 0 {
		if at += sampleEvery; at > 2*time.Second {
			t.Fatal("never hedged")
		}
		now = simStart.Add(at)
		s.measure(now)
		hedge = s.next(now, 1)
	}
	if len(hedge) != 1 || hedge[0].from != b || !hedge[0].hedge || at < hedgeMin || at > suspectMin {
		t.Fatalf("after %v %+v", at, hedge)
	}
	if p, fresh, useless := s.answered(hedge[0], true); !fresh || len(useless) != 1 || useless[0] != jobs[0] || p.ID != sim.bodies[0].ID {
		t.Errorf("fresh %v, useless %v", fresh, useless)
	}
	jobs[0].got.Store(100_000)
	if vain := s.end(jobs[0], now); vain != 100_000 {
		t.Errorf("%d bytes in vain", vain)
	}
	hedge[0].got.Store(400_005)
	if vain := s.end(hedge[0], now); vain != 0 {
		t.Errorf("%d bytes in vain", vain)
	}
	if open, flying, jobs := s.counts(); open+jobs != 0 || flying != 1 {
		t.Errorf("%d open, %d flying, %d jobs", open, flying, jobs)
	}
	s.imported(sim.bodies[0].ID)
	if _, flying, _ := s.counts(); flying != 0 {
		t.Errorf("%d flying", flying)
	}
}

package p2p

import (
	"slices"
	"time"

	"quipu/chain"
)

// The jobs of a schedule from their start to their end.

// start enters a job.
func (s *schedule) start(src *source, pieces []*piece, hedge bool, now time.Time) *job {
	j := &job{from: src, pieces: pieces, left: slices.Clone(pieces), began: now, hedge: hedge}
	for _, p := range pieces {
		j.bytes += p.size()
		p.jobs = append(p.jobs, j)
	}
	if j.expect = hedgeNew; src.rate > 0 {
		j.expect = s.eta(src, j.bytes)
	}
	if hedge {
		s.hedged += j.bytes
	} else {
		s.asked += j.bytes
	}
	if len(src.jobs) == 0 {
		src.lastAt, src.mark, src.markAt = now, src.came, time.Time{}
	}
	src.jobs = append(src.jobs, j)
	return j
}

// answered takes the next body of a job off it. fresh says that the body has come and nobody brought it before. The jobs
// returned have nothing left that is worth waiting for.
func (s *schedule) answered(j *job, came bool) (p *piece, fresh bool, useless []*job) {
	p = j.left[0]
	j.left = j.left[1:]
	p.jobs = slices.DeleteFunc(p.jobs, func(o *job) bool { return o == j })
	if came {
		j.brought++
	}
	if !came || p.done {
		return p, false, nil
	}
	p.done = true
	j.used += p.size()
	s.pieces = slices.DeleteFunc(s.pieces, func(o *piece) bool { return o == p })
	for _, o := range p.jobs {
		if !slices.ContainsFunc(o.left, func(p *piece) bool { return !p.done }) {
			useless = append(useless, o)
		}
	}
	return p, true, useless
}

// end takes a job out: what it hasn't brought is open again. It returns how many bytes it brought in vain.
func (s *schedule) end(j *job, now time.Time) (vain int64) {
	for _, p := range j.left {
		p.jobs = slices.DeleteFunc(p.jobs, func(o *job) bool { return o == j })
	}
	src := j.from
	got := j.got.Load()
	if took := now.Sub(j.began).Seconds(); took > 0 && j.used > 0 {
		src.rate = max(src.rate, float64(min(got, j.bytes))/took) // it isn't slower than that
	}
	src.jobs = slices.DeleteFunc(src.jobs, func(o *job) bool { return o == j })
	src.ended += got
	return max(0, min(got, j.bytes)-j.used)
}

// imported forgets a body that was handed on. It is listed anew if it is missing all the same.
func (s *schedule) imported(id chain.BlockID) { delete(s.known, id) }

// busy reports that a body is on its way or has come.
func (s *schedule) busy(id chain.BlockID) bool {
	p := s.known[id]
	return p != nil && (p.done || len(p.jobs) > 0)
}

// flyingBytes is what has been asked for and isn't here yet.
func (s *schedule) flyingBytes() (n int64) {
	for _, src := range s.order {
		n += src.outstanding()
	}
	return n
}

// counts are bodies to be asked for, on their way or waiting for import, and jobs.
func (s *schedule) counts() (open, flying, jobs int) {
	for _, p := range s.pieces {
		if p.open() {
			open++
		}
	}
	for _, p := range s.known {
		if p.done || p.carriers() > 0 {
			flying++
		}
	}
	for _, src := range s.order {
		jobs += len(src.jobs)
	}
	return open, flying, jobs
}

package p2p

import "time"

// patience says how long a node that is behind its best header counts as syncing. Headers cost a miner work, but
// withholding their bodies costs nothing: a node that paused for as long as a better branch lacks bodies could be halted
// for ever. So being behind spends patience, time for time, unless bodies are being imported just now. Each
// body that brings a branch nearer is worth the time in which the network makes one: whoever lets bodies drip slower
// than they are made wears patience out as well. When near, it comes back at a tenth of the time that passes.
//
// When it is over, the branch is set aside: its bodies are still asked for, but the node goes on from the tip it has.
type patience struct {
	full time.Duration
	body time.Duration // what a body is worth
	left time.Duration
	at   time.Time // of the last look
}

// patienceMin is the least that patience may be worth when full; three times the spacing if that is more.
const patienceMin = 10 * time.Second

func newPatience(spacing time.Duration, now time.Time) patience {
	full := max(patienceMin, 3*spacing)
	return patience{full: full, body: spacing, left: full, at: now}
}

// look accounts for the time since the last look, in which so many bodies of branches far ahead have come. idle:
// nothing is being imported.
func (p *patience) look(now time.Time, behind, idle bool, bodies int) {
	passed := now.Sub(p.at)
	p.at = now
	switch {
	case !behind:
		p.left += passed / 10
	case idle:
		p.left -= passed
	}
	p.left = max(0, p.left) + time.Duration(min(bodies, 1<<16))*p.body
	p.left = min(p.left, p.full)
}

func (p *patience) over() bool { return p.left <= 0 }

// markFar marks the wants of runs longer than nearTip: of branches that a node must sync to. A run is what follows in
// ascending height.
func markFar(wants []Want) {
	for i := 0; i < len(wants); {
		j := i + 1
		for j < len(wants) && wants[j].Header.Height > wants[j-1].Header.Height {
			j++
		}
		for k := i; k < j; k++ {
			wants[k].far = j-i > nearTip
		}
		i = j
	}
}

// behind reports whether the tip is further than nearTip below the best header.
func (s *Service) behind() bool {
	best, tip := s.b.BestHeader(), s.b.Tip()
	return best.Header.Height > tip.Header.Height+nearTip
}

// near reports whether our tip is one to judge transactions by: near the best header, or as near as it gets.
func (s *Service) near() bool { return !s.behind() || s.syncNow.patienceOver() }

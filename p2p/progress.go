package p2p

import (
	"maps"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"quipu/chain"
)

// syncProgress is what syncLoop shows of itself, and what fetching goroutines tell it between their results.
type syncProgress struct {
	mu      sync.Mutex
	now     SyncState // what syncLoop knows of it
	first   time.Time // of the first request of any kind
	over    bool      // patience is
	arrived int       // bodies of branches far ahead since the last look
	bytes   uint64    // of bodies imported
	txs     uint64    // in them
	meter   meter
	rates   map[peer.ID]float64
}

// meter is how fast something goes: over the last rateSpan to twice that.
type meter struct {
	since, later reading
}

type reading struct {
	at                 time.Time
	bytes, txs, height uint64
}

const rateSpan = 2 * time.Second

// rate takes a reading in.
func (m *meter) rate(now reading) (bytes, txs, blocks float64) {
	if m.since.at.IsZero() {
		m.since, m.later = now, now
	}
	if now.at.Sub(m.later.at) >= rateSpan {
		m.since, m.later = m.later, now
	}
	passed := now.at.Sub(m.since.at).Seconds()
	if passed <= 0 {
		return 0, 0, 0
	}
	up := now.height - min(now.height, m.since.height)
	return float64(now.bytes-m.since.bytes) / passed, float64(now.txs-m.since.txs) / passed, float64(up) / passed
}

// asked notes the first request of this service.
func (p *syncProgress) asked() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.first.IsZero() {
		p.first = time.Now()
	}
}

func (p *syncProgress) arrive() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.arrived++
}

func (p *syncProgress) imported(blocks []chain.Block) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range blocks {
		p.bytes += uint64(len(blocks[i].Body))
		p.txs += uint64(blocks[i].Header.TxCount)
	}
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

// flying reports bodies on their way.
func (p *syncProgress) flying() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now.Jobs > 0
}

// ratesNow are the rates of the peers that bodies may come from.
func (p *syncProgress) ratesNow() map[peer.ID]float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.rates)
}

// shown updates what SyncState reports.
func (d *download) shown() {
	open, flying, jobs := d.plan.counts()
	p := &d.s.syncNow
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = d.patience.over()
	p.now.Pending, p.now.Flying, p.now.Jobs, p.now.Waiting = open, flying, jobs, d.waiting
	p.now.Sources, p.now.Suspects = 0, 0
	if p.rates == nil {
		p.rates = map[peer.ID]float64{}
	}
	clear(p.rates)
	for _, src := range d.plan.order {
		if len(src.jobs) > 0 {
			p.now.Sources++
		}
		p.rates[src.id] = src.rate
		if src.suspect {
			p.now.Suspects++
		}
	}
	p.now.Rate, p.now.TxRate, p.now.BlockRate = p.meter.rate(reading{time.Now(), p.bytes, p.txs, d.tip})
	p.now.Bytes, p.now.Txs, p.now.First = p.bytes, p.txs, p.first
}

// SyncState says how far the download is.
func (s *Service) SyncState() SyncState {
	p := &s.syncNow
	p.mu.Lock()
	out := p.now
	p.mu.Unlock()
	best, tip := s.b.BestHeader(), s.b.Tip()
	out.TipHeight, out.BestHeight, out.Syncing = tip.Header.Height, best.Header.Height, !s.near()
	for _, r := range s.everyone() {
		s.mu.Lock()
		out.NetworkHeight = max(out.NetworkHeight, r.status.BestHeight)
		s.mu.Unlock()
	}
	counts := s.stats.all()
	out.Hedged, out.Duplicate = counts["body_bytes_hedged"], counts["body_bytes_duplicate"]
	out.Served = counts["body_bytes_served"]
	return out
}

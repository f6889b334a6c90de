package p2p

import (
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// gate says which peers may not connect: all but the allowed ones in a private network, those blocked by hand (a
// partition), and those refused until a time. It is the host's connection gater; on a host without one, Service closes
// what the gate denies.
type gate struct {
	mu      sync.Mutex
	allowed map[peer.ID]struct{} // nil allows all
	blocked map[peer.ID]struct{}
	refused map[peer.ID]refusal // at most maxBans
	changed chan struct{}       // 1 deep: bans have changed
}

type refusal struct {
	evidence  Evidence
	detail    string
	at, until time.Time
	ban       bool
}

func newGate() *gate {
	return &gate{blocked: map[peer.ID]struct{}{}, refused: map[peer.ID]refusal{}, changed: make(chan struct{}, 1)}
}

func (g *gate) denied(p peer.ID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.blocked[p]; ok || !g.lists(p) {
		return true
	}
	r, ok := g.refused[p]
	if ok && !time.Now().Before(r.until) {
		delete(g.refused, p)
		ok = false
	}
	return ok
}

// lists reports whether a peer is among the allowed ones. The caller holds mu.
func (g *gate) lists(p peer.ID) bool {
	_, ok := g.allowed[p]
	return ok || g.allowed == nil
}

func (g *gate) allows(p peer.ID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lists(p)
}

func (g *gate) allow(peers map[peer.ID]struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.allowed = peers
}

func (g *gate) block(peers []peer.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.blocked = make(map[peer.ID]struct{}, len(peers))
	for _, p := range peers {
		g.blocked[p] = struct{}{}
	}
}

// refuse enters a peer; of two entries the one that lasts longer stands. When full, the one that ends first goes.
func (g *gate) refuse(p peer.ID, r refusal) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if old, ok := g.refused[p]; ok && old.until.After(r.until) {
		return
	}
	if _, ok := g.refused[p]; !ok && len(g.refused) >= maxBans {
		var first peer.ID
		for q, o := range g.refused {
			if first == "" || o.until.Before(g.refused[first].until) {
				first = q
			}
		}
		delete(g.refused, first)
	}
	g.refused[p] = r
	if r.ban {
		poke(g.changed)
	}
}

func (g *gate) pardon(p peer.ID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, ok := g.refused[p]
	delete(g.refused, p)
	poke(g.changed)
	return ok
}

// bans lists those in force, the newest first.
func (g *gate) bans() []BanInfo {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	var out []BanInfo
	for p, r := range g.refused {
		if r.ban && now.Before(r.until) {
			out = append(out, BanInfo{ID: p.String(), Evidence: r.evidence, Detail: r.detail, At: r.at, Until: r.until})
		}
	}
	slices.SortFunc(out, func(a, b BanInfo) int { return b.At.Compare(a.At) })
	return out
}

package p2p

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"

	"quipu/chain"
	"quipu/p2p/wire"
)

// ourStatus is what we say of ourselves. pool says whether to show a window of the pool.
func (s *Service) ourStatus(pool bool) wire.Status {
	best, tip := s.b.BestHeader(), s.b.Tip()
	if !s.b.Verified() {
		tip = s.b.Genesis().State() // nothing above is vouched for: it may turn out invalid
	}
	st := wire.Status{
		BestID: best.ID, BestHeight: best.Header.Height, BestWork: best.Work,
		TipID: tip.ID, TipHeight: tip.Header.Height, TipWork: tip.Work,
		Version: chain.VersionAt(best.Header.Height + 1), Clock: uint64(time.Now().UnixMilli()), Ranges: s.b.Held(),
	}
	if pool {
		st.Pool = s.b.PoolLeaves(wire.MaxPool)
	}
	return st
}

// showPool reports whether it is time to show this peer a window of our pool again, and notes that we do. Not while a block
// is on its way: it goes first, and takes much of the pool with it.
func (s *Service) showPool(r *remote) bool {
	if s.relaying.any() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(r.poolSent) >= s.t.statusEvery*9/10 {
		r.poolSent = now
		return true
	}
	return false
}

// follow keeps the exchange with one peer going until ctx is done: on connect, on each new tip of ours, and every few
// seconds; and acts on what the peer says of itself.
func (s *Service) follow(ctx context.Context, r *remote) {
	foreign := 0
	timer := time.NewTimer(0)
	defer timer.Stop()
	var last time.Time // of the last exchange
	for {
		exchange := true
		select {
		case <-ctx.Done():
			return
		case <-r.heard:
			exchange = false
		case <-r.announce:
			if wait := s.t.statusMin - time.Since(last); wait > 0 && !sleep(ctx, wait) {
				return
			}
		case <-timer.C:
		}
		if exchange {
			err := s.exchange(ctx, r)
			last = time.Now()
			switch {
			case err == nil:
				foreign = 0
			case ctx.Err() != nil:
				return
			case errors.Is(err, multistream.ErrNotSupported[protocol.ID]{}):
				if s.isBootnode(r.id) {
					err = nil // it has none to tell
					break
				}
				// Once may be a peer that is only starting, and one that has spoken before is only stopping.
				if foreign++; foreign > 1 && !s.hasStatus(r) {
					s.charge(r.id, OtherNetwork, fmt.Errorf("no %s", wire.ProtocolID(s.network, wire.NameStatus)))
				}
			default:
				s.fault(r.id, aboutFrame, err)
			}
			next := s.t.statusEvery
			if err != nil {
				next = min(next, time.Second)
			}
			timer.Reset(next)
		}
		s.act(ctx, r)
	}
}

func (s *Service) hasStatus(r *remote) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return r.hasStatus
}

// exchange opens a status stream: ours, then theirs.
func (s *Service) exchange(ctx context.Context, r *remote) error {
	ours := s.ourStatus(s.showPool(r))
	start := time.Now()
	var theirs wire.Status
	err := s.ask(ctx, r.id, wire.NameStatus, ours.Append(nil), wire.MaxStatus, func(b []byte) (err error) {
		theirs, err = wire.DecodeStatus(b)
		return err
	})
	if err == nil {
		s.hear(r, theirs, time.Since(start))
	}
	return err
}

// hear takes in a peer's status. rtt is 0 if the peer opened the stream.
func (s *Service) hear(r *remote, st wire.Status, rtt time.Duration) {
	if s.b.Invalid(st.TipID) {
		s.charge(r.id, InvalidTip, fmt.Errorf("block %s at height %d", st.TipID, st.TipHeight))
		return
	}
	s.mu.Lock()
	now := time.Now()
	if len(st.Pool) > 0 {
		r.pool = st.Pool // kept apart: the next status may show none, and come before this one is acted upon
	}
	st.Pool = nil
	r.status, r.hasStatus, r.heardAt, r.lastSeen = st, true, now, now
	r.skew = time.UnixMilli(int64(st.Clock)).Sub(now)
	if rtt > 0 {
		r.rtt = rtt
	}
	r.skew += r.rtt / 2
	s.mu.Unlock()
	poke(r.heard)
	poke(s.wakeSync)
}

// recheckTips charges peers whose claimed tip has turned out invalid since they named it.
func (s *Service) recheckTips() {
	for _, r := range s.everyone() {
		s.mu.Lock()
		st, ok := r.status, r.hasStatus
		s.mu.Unlock()
		if ok && s.b.Invalid(st.TipID) {
			s.charge(r.id, InvalidTip, fmt.Errorf("block %s at height %d", st.TipID, st.TipHeight))
		}
	}
}

// act does what a peer's status asks for: download headers it has and we don't, and transactions we miss.
func (s *Service) act(ctx context.Context, r *remote) {
	s.mu.Lock()
	st, pool, ok := r.status, r.pool, r.hasStatus && time.Now().After(r.restUntil)
	r.pool = nil
	s.mu.Unlock()
	if !ok {
		return
	}
	if s.lacks(&st) {
		s.downloadHeaders(ctx, r, st)
	}
	switch {
	case len(pool) == 0 || !s.near() || r.wasteful():
	case len(pool) == wire.MaxPool: // there are more than it shows
		s.comparePools(ctx, r)
	default:
		s.repair(ctx, r, pool)
	}
}

// Announce tells every neighbour our new status; call it when the tip has changed. It returns at once.
func (s *Service) Announce() {
	for _, r := range s.everyone() {
		poke(r.announce)
	}
	poke(s.wakeSync)
}

// askStatus exchanges statuses with one peer soon: it knows something that we don't.
func (s *Service) askStatus(p peer.ID) {
	if r := s.remote(p); r != nil {
		poke(r.announce)
	}
}

// repair fetches transactions of a peer's pool that gossip hasn't brought, after giving it a moment. Each transaction
// is asked of one peer at a time.
func (s *Service) repair(ctx context.Context, r *remote, pool []chain.LeafHash) {
	s.repairing(r, func() {
		missing := s.missing(pool)
		if len(missing) == 0 || !sleep(ctx, s.t.repairDelay) {
			return
		}
		if missing = s.claim(s.missing(missing)); len(missing) > 0 {
			s.fetchTxs(ctx, r, missing)
		}
	})
}

// repairing runs f in the background unless one for this peer is under way.
func (s *Service) repairing(r *remote, f func()) {
	set := func(on bool) (was bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		was, r.repairing = r.repairing, on
		return was
	}
	if set(true) {
		return
	}
	if !s.spawn(func() {
		defer set(false)
		f()
	}) {
		set(false)
	}
}

func (s *Service) missing(leaves []chain.LeafHash) (out []chain.LeafHash) {
	for _, l := range leaves {
		if !s.b.HasTx(l) {
			out = append(out, l)
		}
	}
	return out
}

// maxAsked bounds the transactions remembered as asked for.
const maxAsked = 1 << 14

// claim keeps those that nobody has been asked for lately, and enters them.
func (s *Service) claim(leaves []chain.LeafHash) (out []chain.LeafHash) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.asked) >= maxAsked {
		clear(s.asked)
	}
	for _, l := range leaves {
		if at, ok := s.asked[l]; !ok || now.Sub(at) >= s.t.repairAgain {
			s.asked[l] = now
			out = append(out, l)
		}
	}
	return out
}

// fetchTxs asks a peer for transactions of its pool and takes them as from gossip. After a failure others may be asked.
func (s *Service) fetchTxs(ctx context.Context, r *remote, leaves []chain.LeafHash) {
	q := wire.BlockTxsRequest{Leaves: leaves}
	var raws [][]byte
	err := s.ask(ctx, r.id, wire.NameBlockTxs, q.Append(nil), wire.MaxAnswer, func(b []byte) (err error) {
		if raws, err = wire.DecodeBlockTxs(b, len(leaves)); err != nil {
			return err
		}
		wanted := make(map[chain.LeafHash]bool, len(leaves))
		for _, l := range leaves {
			wanted[l] = true
		}
		for _, raw := range raws {
			if l := chain.LeafOf(raw); !wanted[l] {
				return &chain.RuleError{Kind: wire.ErrMalformed, Desc: fmt.Sprintf("transaction %s was not asked for", l)}
			}
		}
		return nil
	})
	if err != nil {
		s.mu.Lock()
		for _, l := range leaves {
			delete(s.asked, l)
		}
		s.mu.Unlock()
		if ctx.Err() == nil {
			s.fault(r.id, aboutFrame, err)
		}
		return
	}
	s.takeRepaired(r, raws, true)
}

// takeRepaired takes transactions that a peer was asked for as from gossip; publish says whether others are told at once.
// What isn't admitted isn't asked for again for a while. It returns false once the peer has used up what its
// transactions may cost, or is to blame.
func (s *Service) takeRepaired(r *remote, raws [][]byte, publish bool) bool {
	s.stats.add("txs_repaired", uint64(len(raws)))
	for len(raws) > 0 {
		n := min(len(raws), wire.MaxBatchTxs)
		if r.wasteful() {
			s.count("batches_over_bucket")
			return false
		}
		results := s.b.AcceptTxs(raws[:n])
		ev, _, detail := judgeBatch(results)
		if publish {
			s.PublishTxs(admittedOf(raws, results))
		}
		v := s.charge(r.id, ev, detail)
		if r.spend(raws[:n], results, v); v == Reject {
			return false
		}
		var refused []chain.LeafHash
		for i := range results {
			if results[i].Err != nil {
				refused = append(refused, chain.LeafOf(raws[i]))
			}
		}
		s.claim(refused)
		raws = raws[n:]
	}
	return true
}

// fault charges a peer for an error of an exchange: what it sent if that broke a rule, else its silence.
func (s *Service) fault(p peer.ID, about subject, err error) Verdict {
	ev := evidenceOf(about, err)
	if ev == NobodysFault {
		ev = Silent
	}
	return s.charge(p, ev, err)
}

// ask opens a stream, sends one frame, reads one of at most max bytes, and decodes it, all within a deadline.
func (s *Service) ask(ctx context.Context, p peer.ID, name string, request []byte, max int, decode func([]byte) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.t.request)
	defer cancel()
	st, done, err := s.open(ctx, s.t.request, p, name, request)
	if err != nil {
		return err
	}
	defer done()
	answer, err := wire.ReadFrame(st, max)
	if err != nil {
		return err
	}
	s.seen(p)
	s.stats.add("bytes_in_"+name, uint64(wire.FrameHead+len(answer)))
	return decode(answer)
}

// open opens a stream and sends one frame, both within wait. The stream lives no longer than ctx; done ends it.
func (s *Service) open(ctx context.Context, wait time.Duration, p peer.ID, name string, request []byte) (network.Stream, func(), error) {
	s.syncNow.asked()
	opening, cancel := context.WithTimeout(network.WithNoDial(ctx, "standing connections only"), wait)
	defer cancel()
	st, err := s.host.NewStream(opening, p, protocol.ID(wire.ProtocolID(s.network, name)))
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { st.Reset() })
	done := func() {
		stop()
		st.Reset()
	}
	st.SetDeadline(time.Now().Add(wait))
	if err := wire.WriteFrame(st, request); err != nil {
		done()
		return nil, nil, err
	}
	if err := st.CloseWrite(); err != nil {
		done()
		return nil, nil, err
	}
	return st, done, nil
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

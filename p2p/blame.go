package p2p

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Evidence names what a peer did.
type Evidence string

const (
	Fine            Evidence = "fine"
	NobodysFault    Evidence = "nobodys-fault"
	UnknownParent   Evidence = "unknown-parent"
	UpgradeNeeded   Evidence = "upgrade-needed"
	InvalidAncestor Evidence = "invalid-ancestor"
	InvalidBlock    Evidence = "invalid-block"
	Malformed       Evidence = "malformed"
	TxSignature     Evidence = "tx-signature"
	TxRule          Evidence = "tx-rule"
	HeaderWork      Evidence = "header-work"
	HeaderRule      Evidence = "header-rule"
	WrongBody       Evidence = "wrong-body"
	WrongRange      Evidence = "wrong-range"
	WrongState      Evidence = "wrong-state"
	InvalidTip      Evidence = "invalid-tip"
	Silent          Evidence = "silent"
	Unproven        Evidence = "unproven-claim"
	TooMany         Evidence = "too-many-requests"
	OtherNetwork    Evidence = "other-network"
	Unread          Evidence = "unread-answers"
	WrongCompact    Evidence = "wrong-compact"
)

// Penalty is what it costs.
type Penalty uint8

const (
	None       Penalty = iota
	Rest               // not asked for anything until it expires; doubled each time in a row
	Disconnect         // closed and refused until it expires, without a ban
	Ban                // closed, refused and listed until it expires; never a static or manual peer
)

func (p Penalty) String() string { return [...]string{"none", "rest", "disconnect", "ban"}[p] }

// Row is one line of the blame table.
type Row struct {
	Verdict Verdict
	Penalty Penalty
	Expiry  time.Duration
	Why     string
}

// blame is the table: evidence → verdict, penalty, expiry. Bans are only for what no honest node sends.
var blame = map[Evidence]Row{
	Fine:            {Accept, None, 0, "passed"},
	NobodysFault:    {Ignore, None, 0, "depends on tip, pool or clock, or is known already"},
	UnknownParent:   {Ignore, None, 0, "we may be behind: asks for the sender's status"},
	UpgradeNeeded:   {Ignore, None, 0, "made for a newer program: not followed"},
	InvalidAncestor: {Ignore, None, 0, "its sender may not have the body that shows it"},
	InvalidBlock:    {Ignore, None, 0, "the header keeps its rules: who relays or serves it is never charged for the body"},
	Malformed:       {Reject, Ban, time.Hour, "bytes that no honest program writes"},
	TxSignature:     {Reject, Ban, 24 * time.Hour, "a signature that does not verify: an honest node checks before it forwards"},
	TxRule:          {Reject, Ban, time.Hour, "a stateless rule: an honest node checks before it forwards"},
	HeaderWork:      {Reject, Ban, 24 * time.Hour, "work that is not there"},
	HeaderRule:      {Reject, Ban, 24 * time.Hour, "breaks a header rule though its parent is known"},
	WrongCompact:    {Reject, Ban, time.Hour, "a compact form that the whole block contradicts"},
	WrongBody:       {Reject, Ban, time.Hour, "a body that is not its header's"},
	WrongState:      {Reject, Ban, time.Hour, "a range of accounts that is not its header's"},
	WrongRange:      {Reject, Ban, time.Hour, "headers of another chain than the one asked for: who has that block has one chain to it"},
	InvalidTip:      {Reject, Ban, 24 * time.Hour, "claims to have validated an invalid block or a descendant of one"},
	Silent:          {Ignore, Rest, time.Second, "no answer, a broken answer or not what it said it holds"},
	Unproven:        {Ignore, Rest, 10 * time.Second, "claims work and does not show the headers"},
	TooMany:         {Ignore, Rest, time.Second, "more requests than the bucket holds: the stream is reset"},
	OtherNetwork:    {Ignore, Disconnect, time.Minute, "speaks no protocol of this network"},
	Unread:          {Ignore, Disconnect, time.Minute, "asks for much and reads none of it: what it asked for fills the memory for all"},
}

const (
	maxRest = time.Minute
	maxBans = 4096
)

// note counts a charge for the list of peers.
func (s *Service) note(p peer.ID, ev Evidence) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.remotes[p]; r != nil {
		if r.charges == nil {
			r.charges = map[Evidence]uint64{}
		}
		r.charges[ev]++
	}
}

// charge enters evidence against a peer and returns its verdict. Nothing of the Backend's is called under a lock.
func (s *Service) charge(p peer.ID, ev Evidence, detail error) Verdict {
	row := blame[ev]
	if row.Penalty == None || p == s.host.ID() {
		return row.Verdict
	}
	s.count("charged_" + string(ev))
	s.note(p, ev)
	event := Event{Kind: PeerCharged, Peer: p.String(), Evidence: ev, Addr: s.addrOf(p)}
	if detail != nil {
		event.Detail = detail.Error()
	}
	now := time.Now()
	static := s.isStatic(p)
	switch {
	case row.Penalty == Rest:
		s.rest(p, row.Expiry)
		s.log.Debug("peer rests", "peer", p, "evidence", ev, "detail", event.Detail)
		return row.Verdict
	case row.Penalty == Ban && !static:
		event.Kind, event.Until = PeerBanned, now.Add(row.Expiry)
		s.gate.refuse(p, refusal{evidence: ev, detail: event.Detail, at: now, until: event.Until, ban: true})
		s.log.Warn("peer banned", "peer", p, "evidence", ev, "detail", event.Detail, "until", event.Until)
		s.drop(p)
	case row.Penalty == Disconnect: // no ban, so static peers too
		s.gate.refuse(p, refusal{evidence: ev, detail: event.Detail, at: now, until: now.Add(row.Expiry)})
		s.log.Warn("peer disconnected", "peer", p, "evidence", ev, "detail", event.Detail, "why", row.Why)
		s.drop(p)
	default: // static or manual: never banned, but asked for nothing for a while
		s.rest(p, maxRest)
		s.log.Warn("static peer misbehaves", "peer", p, "evidence", ev, "detail", event.Detail)
	}
	s.b.Observe(event)
	return row.Verdict
}

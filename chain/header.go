package chain

// ruleSets is the header version in force from each height on, ascending (rule H3). A new rule set is a new row.
var ruleSets = []struct {
	from    uint64
	version uint32
}{{0, 1}}

// VersionAt is the header version in force at a height.
func VersionAt(height uint64) uint32 {
	v := uint32(0)
	for _, r := range ruleSets {
		if height >= r.from {
			v = r.version
		}
	}
	return v
}

// LatestVersion is the newest header version this program knows. Headers above it are not followed and not blamed.
func LatestVersion() uint32 { return ruleSets[len(ruleSets)-1].version }

// NextBits is the difficulty a child of s must carry (rule H5): the genesis bits for heights 1 and 2, then ASERT
// anchored at each block's parent, with the last interval capped so that a network that slept owes no storm.
func (g *Genesis) NextBits(s *State) uint32 {
	if s.Header.Height < 2 {
		return g.Bits
	}
	interval := min(int64(s.Header.Time-s.ParentTime), g.Spacing+2*g.HalfLife)
	return ASERT(s.Header.Bits, g.LimitBits, interval, 0, g.Spacing, g.HalfLife)
}

// CheckHeader checks h against its parent's state, rules H2 to H9, and returns the state after h. The clock is not
// consulted: "too far ahead" is no rule but "not yet", judged by the node.
//
// Errors: RuleError if h breaks a rule, ErrUpgrade if its version is newer than this program, ErrUnknownParent if
// parent isn't h's parent.
func (g *Genesis) CheckHeader(parent *State, h *Header) (State, error) {
	if h.Parent != parent.ID {
		return State{}, ErrUnknownParent
	}
	if h.Version > LatestVersion() {
		return State{}, ErrUpgrade
	}
	id := h.ID()
	if err := g.checkHeader(parent, h, id); err != nil {
		return State{}, err
	}
	return nextState(parent, h, id), nil
}

func (g *Genesis) checkHeader(parent *State, h *Header, id BlockID) error {
	if h.Height != parent.Header.Height+1 || h.Height > MaxHeight {
		return ruleError(ErrHeight, "height %d after %d", h.Height, parent.Header.Height)
	}
	if v := VersionAt(h.Height); h.Version != v {
		return ruleError(ErrVersion, "version %d, want %d at height %d", h.Version, v, h.Height)
	}
	if h.Time <= parent.Header.Time {
		return ruleError(ErrTimeOrder, "time %d is not after the parent's %d", h.Time, parent.Header.Time)
	}
	if h.Time >= TimeLimit {
		return ruleError(ErrTimeLimit, "time %d, want below 2^53", h.Time)
	}
	if want := g.NextBits(parent); h.Bits != want {
		return ruleError(ErrBits, "bits %08x, want %08x", h.Bits, want)
	}
	if !MeetsTarget(id, h.Bits) {
		return ruleError(ErrWork, "id %s is above the target of bits %08x", id, h.Bits)
	}
	if want := parent.NextHistoryRoot(); h.HistoryRoot != want {
		return ruleError(ErrHistoryRoot, "history root %s, want %s", h.HistoryRoot, want)
	}
	if h.BodySize > g.BodyLimit {
		return ruleError(ErrBodySize, "body of %d bytes, at most %d", h.BodySize, g.BodyLimit)
	}
	if n, size := uint64(h.TxCount), uint64(h.BodySize); TxMinSize*n > size || size > TxMaxSize*n {
		return ruleError(ErrTxCount, "%d transactions in %d bytes", n, size)
	}
	return nil
}

func nextState(parent *State, h *Header, id BlockID) State {
	s := State{Header: *h, ID: id, ParentTime: parent.Header.Time}
	work := BlockWork(h.Bits)
	s.Work.Add(&parent.Work, &work)
	s.Peaks = appendPeak(append(make([]Hash, 0, len(parent.Peaks)+1), parent.Peaks...), h.Height, historyLeaf(id, &s.Work))
	return s
}

// AssumeState is nextState for a header this node has checked before and reads back from its own disk.
func AssumeState(parent *State, h *Header) State { return nextState(parent, h, h.ID()) }

// NewHeader is an unsealed child of parent: all but roots, count, size and nonce filled in. The time is the later
// of now and the parent's time + 1, both Unix ms.
func (g *Genesis) NewHeader(parent *State, miner Account, now uint64) Header {
	h := parent.Header.Height + 1
	return Header{
		Version:     VersionAt(h),
		Height:      h,
		Parent:      parent.ID,
		HistoryRoot: parent.NextHistoryRoot(),
		Time:        max(now, parent.Header.Time+1),
		TxRoot:      EmptyRoot,
		Miner:       miner,
		Bits:        g.NextBits(parent),
	}
}

// Solve tries up to n nonces from h.Nonce on and reports whether h now meets its target. On false h.Nonce is the
// next one to try.
func (h *Header) Solve(n uint64) bool {
	for ; n > 0; n-- {
		if MeetsTarget(h.ID(), h.Bits) {
			return true
		}
		h.Nonce++
	}
	return false
}

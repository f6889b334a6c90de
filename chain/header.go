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
	if err := g.checkLink(&parent.Header, h, id, g.NextBits(parent)); err != nil {
		return err
	}
	if want := parent.NextHistoryRoot(); h.HistoryRoot != want {
		return ruleError(ErrHistoryRoot, "history root %s, want %s", h.HistoryRoot, want)
	}
	return nil
}

// checkLink is rules H2 to H9 but for the history root (H7). bits is what H5 asks for.
func (g *Genesis) checkLink(parent, h *Header, id BlockID, bits uint32) error {
	if h.Height != parent.Height+1 || h.Height > MaxHeight {
		return ruleError(ErrHeight, "height %d after %d", h.Height, parent.Height)
	}
	if v := VersionAt(h.Height); h.Version != v {
		return ruleError(ErrVersion, "version %d, want %d at height %d", h.Version, v, h.Height)
	}
	if h.Time <= parent.Time {
		return ruleError(ErrTimeOrder, "time %d is not after the parent's %d", h.Time, parent.Time)
	}
	if h.Time >= TimeLimit {
		return ruleError(ErrTimeLimit, "time %d, want below 2^53", h.Time)
	}
	if h.Bits != bits {
		return ruleError(ErrBits, "bits %08x, want %08x", h.Bits, bits)
	}
	if !MeetsTarget(id, h.Bits) {
		return ruleError(ErrWork, "id %s is above the target of bits %08x", id, h.Bits)
	}
	if h.BodySize > g.BodyLimit {
		return ruleError(ErrBodySize, "body of %d bytes, at most %d", h.BodySize, g.BodyLimit)
	}
	if n, size := uint64(h.TxCount), uint64(h.BodySize); TxMinSize*n > size || size > TxMaxSize*n {
		return ruleError(ErrTxCount, "%d transactions in %d bytes", n, size)
	}
	return nil
}

// CheckRange checks what headers that follow one another show while what comes before them is not known: that each
// names the one before, and rules H2 to H9 but for the history roots (H7) and what concerns the first one's parent. The
// bits of the first two are taken as they are, if they are bits that a header can have: each block anchors the next, so
// two headers check a third. It returns the last one's id. At least one header; its height is 1 or more.
//
// Errors are CheckHeader's; ErrUnknownParent where one doesn't name the one before.
func (g *Genesis) CheckRange(hs []Header) (last BlockID, err error) {
	before := State{Header: Header{Height: hs[0].Height - 1}} // its time of 0 is before any header's
	for i := range hs {
		h := &hs[i]
		switch {
		case i > 0 && h.Parent != last:
			return last, ErrUnknownParent
		case h.Version > LatestVersion():
			return last, ErrUpgrade
		}
		bits := g.NextBits(&before)
		if i < 2 && h.Height > 2 {
			bits = g.anyBits(h.Bits)
		}
		id := h.ID()
		if err := g.checkLink(&before.Header, h, id, bits); err != nil {
			return last, err
		}
		last, before = id, State{Header: *h, ParentTime: before.Header.Time}
	}
	return last, nil
}

// anyBits gives bits back if the difficulty rule can give them, else limit_bits.
func (g *Genesis) anyBits(bits uint32) uint32 {
	target, ok := ToTarget(bits)
	limit, _ := ToTarget(g.LimitBits)
	if !ok || target.Gt(&limit) {
		return g.LimitBits
	}
	return bits
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

package wire

import (
	"slices"

	"quipu/chain"
)

// Limits of status.
const (
	MaxRanges  = 64
	MaxPool    = 1024                                           // leaves of the pool in one status
	statusHead = 2*(32+8+32) + 4 + 8                            // 156
	MaxStatus  = statusHead + 1 + MaxRanges*16 + 2 + MaxPool*32 // 33,951
)

// Range is the heights From to To, both included.
type Range struct{ From, To uint64 }

// Status is what a node says of itself. Both sides send one on a status stream: the opener first.
type Status struct {
	BestID     chain.BlockID // most work among headers not known invalid
	BestHeight uint64
	BestWork   chain.Work
	TipID      chain.BlockID // validated: its sender vouches for every block up to it
	TipHeight  uint64
	TipWork    chain.Work
	Version    uint32           // of headers: the rule set in force
	Clock      uint64           // Unix ms
	Ranges     []Range          // bodies held along the chain of BestID: at most MaxRanges, ascending, none touching the next
	Pool       []chain.LeafHash // a window of the pool, at most MaxPool, strictly ascending
}

// Append appends the encoding of s: best (id 32, height u64, work 32) ‖ tip (the same) ‖ version u32 ‖ clock u64 ‖
// n u8 ‖ n × (from u64, to u64) ‖ n u16 ‖ n × leaf 32. It sorts a copy of Pool, and leaves out what is over a limit.
func (s *Status) Append(dst []byte) []byte {
	dst = append(dst, s.BestID[:]...)
	dst = le.AppendUint64(dst, s.BestHeight)
	dst = appendWork(dst, &s.BestWork)
	dst = append(dst, s.TipID[:]...)
	dst = le.AppendUint64(dst, s.TipHeight)
	dst = appendWork(dst, &s.TipWork)
	dst = le.AppendUint32(dst, s.Version)
	dst = le.AppendUint64(dst, min(s.Clock, chain.TimeLimit-1))
	ranges := s.Ranges[:min(len(s.Ranges), MaxRanges)]
	dst = append(dst, byte(len(ranges)))
	for _, r := range ranges {
		dst = le.AppendUint64(dst, r.From)
		dst = le.AppendUint64(dst, r.To)
	}
	pool := slices.Clone(s.Pool[:min(len(s.Pool), MaxPool)])
	slices.SortFunc(pool, compareLeaf)
	pool = slices.Compact(pool)
	dst = le.AppendUint16(dst, uint16(len(pool)))
	return appendIDs(dst, pool)
}

// DecodeStatus reads a status to its end.
func DecodeStatus(b []byte) (Status, error) {
	if len(b) > MaxStatus {
		return Status{}, malformed("status of %d bytes, at most %d", len(b), MaxStatus)
	}
	var s Status
	r := reader{b: b}
	copy(s.BestID[:], r.take(32))
	s.BestHeight = r.u64()
	s.BestWork = r.work()
	copy(s.TipID[:], r.take(32))
	s.TipHeight = r.u64()
	s.TipWork = r.work()
	s.Version = r.u32()
	s.Clock = r.u64()
	if s.BestHeight > chain.MaxHeight || s.TipHeight > chain.MaxHeight {
		return Status{}, malformed("status with heights %d and %d, at most %d", s.BestHeight, s.TipHeight, uint64(chain.MaxHeight))
	}
	if s.Clock >= chain.TimeLimit {
		return Status{}, malformed("status with clock %d, want below 2^53", s.Clock)
	}
	if err := s.readRanges(&r); err != nil {
		return Status{}, err
	}
	n := int(r.u16())
	if n > MaxPool {
		return Status{}, malformed("status with %d pool leaves, at most %d", n, MaxPool)
	}
	if n > 0 {
		s.Pool = readIDs[chain.LeafHash](&r, n)
	}
	for i := 1; i < len(s.Pool); i++ {
		if compareLeaf(s.Pool[i-1], s.Pool[i]) >= 0 {
			return Status{}, malformed("pool leaves of a status are not strictly ascending")
		}
	}
	if err := r.end("status"); err != nil {
		return Status{}, err
	}
	return s, nil
}

func (s *Status) readRanges(r *reader) error {
	n := int(r.u8())
	if n > MaxRanges {
		return malformed("status with %d ranges, at most %d", n, MaxRanges)
	}
	for i := range n {
		v := Range{From: r.u64(), To: r.u64()}
		if r.short {
			return r.end("status")
		}
		if v.From > v.To || v.To > chain.MaxHeight {
			return malformed("range %d to %d", v.From, v.To)
		}
		if i > 0 && v.From <= s.Ranges[i-1].To+1 {
			return malformed("range %d to %d touches or precedes the one that ends at %d", v.From, v.To, s.Ranges[i-1].To)
		}
		s.Ranges = append(s.Ranges, v)
	}
	return nil
}

func compareLeaf(a, b chain.LeafHash) int { return slices.Compare(a[:], b[:]) }

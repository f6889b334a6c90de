package wire

import (
	"bytes"

	"quipu/chain"
	"quipu/chain/statetree"
)

// Limits of state.
const (
	MaxSnapshots = 8        // in a list
	MinState     = 32 << 10 // bytes of a range that may be asked for: more than the longest proof, and some accounts
	MaxState     = 1 << 20

	snapshotInfo    = 8 + 32 + 8
	stateRange      = 1 + 8 + 32 + 32 + 32 + 4
	MaxStateRequest = stateRange
	MaxStateList    = 2 + MaxSnapshots*snapshotInfo
)

// Leaf is an account as a state root commits to it.
type Leaf = statetree.Leaf

// Snapshot is the accounts as of one block, of which a node serves ranges.
type Snapshot struct {
	Height   uint64
	Block    chain.BlockID
	Accounts uint64 // how many; a claim
}

// LastPath is where the last range of a state ends.
var LastPath = chain.Hash(bytes.Repeat([]byte{0xff}, 32))

// StateRequest asks for the accounts of a snapshot whose paths lie in From … To, or, with List, which snapshots there are.
type StateRequest struct {
	List     bool // nothing else counts then
	Height   uint64
	Block    chain.BlockID
	From, To chain.Hash // both included
	Max      uint32     // bytes of the answer, MinState to MaxState
}

// Leaves is how many accounts fit the answer whatever the proof.
func (q *StateRequest) Leaves() int {
	return (int(q.Max) - 1 - statetree.MaxRangeProofSize) / statetree.LeafSize
}

// Append appends kind u8, and for a range (kind 1) height u64 ‖ block 32 ‖ from 32 ‖ to 32 ‖ max u32.
func (q *StateRequest) Append(dst []byte) []byte {
	if q.List {
		return append(dst, 0)
	}
	dst = le.AppendUint64(append(dst, 1), q.Height)
	dst = append(append(append(dst, q.Block[:]...), q.From[:]...), q.To[:]...)
	return le.AppendUint32(dst, q.Max)
}

// DecodeStateRequest reads a request to its end.
func DecodeStateRequest(b []byte) (q StateRequest, err error) {
	r := reader{b: b}
	kind := r.u8()
	if q.List = kind == 0; !q.List {
		q.Height = r.u64()
		copy(q.Block[:], r.take(32))
		copy(q.From[:], r.take(32))
		copy(q.To[:], r.take(32))
		q.Max = r.u32()
	}
	if err := r.end("state request"); err != nil {
		return StateRequest{}, err
	}
	switch {
	case kind > 1:
		return StateRequest{}, malformed("state request of kind %d", kind)
	case q.List:
		return q, nil
	case q.Height > chain.MaxHeight:
		return StateRequest{}, malformed("state at height %d", q.Height)
	case bytes.Compare(q.From[:], q.To[:]) > 0:
		return StateRequest{}, malformed("state from a path to a lower one")
	case q.Max < MinState || q.Max > MaxState:
		return StateRequest{}, malformed("state range of %d bytes, want %d to %d", q.Max, MinState, MaxState)
	}
	return q, nil
}

// First bytes of an answer.
const (
	stateMissing = 0 // that snapshot isn't here
	stateFollows = 1 // the rest is a range
	stateList    = 2 // the rest is a list
)

// StateMissing is the answer where the snapshot isn't here.
func StateMissing() []byte { return []byte{stateMissing} }

// AppendStateRange appends the answer that gives a range, encoded as docs/spec.md §9 says.
func AppendStateRange(dst, encoded []byte) []byte {
	return append(append(dst, stateFollows), encoded...)
}

// AppendSnapshots appends the answer that lists snapshots, ascending by height: code 2 ‖ n u8 ‖ n × (height u64 ‖
// block 32 ‖ accounts u64).
func AppendSnapshots(dst []byte, list []Snapshot) []byte {
	list = list[max(0, len(list)-MaxSnapshots):]
	dst = append(dst, stateList, byte(len(list)))
	for i := range list {
		dst = le.AppendUint64(dst, list[i].Height)
		dst = append(dst, list[i].Block[:]...)
		dst = le.AppendUint64(dst, list[i].Accounts)
	}
	return dst
}

// StateRange is a range as it came: not proved before Verify.
type StateRange struct {
	Leaves []Leaf
	proof  statetree.RangeProof
}

// Verify holds the range against a state root. covered is how far from … to is covered; the rest, if there is any, begins
// after it.
func (r *StateRange) Verify(root, from, to chain.Hash) (covered chain.Hash, err error) {
	return statetree.VerifyRange(root, from, to, r.Leaves, r.proof)
}

// NextPath is the path after p, false for the last.
func NextPath(p chain.Hash) (chain.Hash, bool) { return statetree.NextPath(p) }

// DecodeState reads the answer to a request for a range. nil means that the snapshot isn't here.
func DecodeState(b []byte) (*StateRange, error) {
	switch {
	case len(b) == 1 && b[0] == stateMissing:
		return nil, nil
	case len(b) == 0 || b[0] != stateFollows:
		return nil, malformed("state answer of %d bytes that is no range", len(b))
	}
	leaves, proof, err := statetree.DecodeRange(b[1:])
	if err != nil {
		return nil, malformed("state range: %v", err)
	}
	return &StateRange{leaves, proof}, nil
}

// DecodeSnapshots reads the answer to a request for a list.
func DecodeSnapshots(b []byte) ([]Snapshot, error) {
	r := reader{b: b}
	code, n := r.u8(), int(r.u8())
	if code != stateList || n > MaxSnapshots {
		return nil, malformed("state answer with code %d and %d snapshots, at most %d", code, n, MaxSnapshots)
	}
	list := make([]Snapshot, n)
	for i := range list {
		s := &list[i]
		s.Height = r.u64()
		copy(s.Block[:], r.take(32))
		if s.Accounts = r.u64(); s.Height > chain.MaxHeight || i > 0 && !r.short && s.Height <= list[i-1].Height {
			return nil, malformed("snapshots that don't ascend, or at height %d", s.Height)
		}
	}
	if err := r.end("state list"); err != nil {
		return nil, err
	}
	return list, nil
}

package rpc

import (
	"context"
	"encoding/hex"

	"quipu/chain"
	"quipu/chain/statetree"
)

// StateSnapshot is a file of all accounts as of one block of the best chain.
type StateSnapshot struct {
	Height    uint64        `json:"height"`
	Block     chain.BlockID `json:"block"`
	StateRoot chain.Hash    `json:"state_root"` // compare it with the header's
	Accounts  uint64        `json:"accounts"`
	Bytes     int64         `json:"bytes"`
}

// StateSnapshots is the result of state_snapshots, oldest first.
type StateSnapshots struct {
	Snapshots List[StateSnapshot] `json:"snapshots"`
}

// MaxRangeLeaves is the most accounts in one answer of state_range.
const MaxRangeLeaves = 4096

// StateRangeParams asks for up to max accounts of the snapshot at a height, from a path on. A path is SHA-256(account).
type StateRangeParams struct {
	Height uint64     `json:"height"`
	From   chain.Hash `json:"from"`
	Max    int        `json:"max"`
}

func (p StateRangeParams) Validate() error { return within("max", p.Max, MaxRangeLeaves) }

// StateRange is the result of state_range: Range is the hex of an answer as docs/spec.md encodes it, from the path asked
// for to the last one there is, or, if it says so, to that of its last account.
type StateRange struct {
	StateSnapshot
	Range string `json:"range"`
}

// Verify decodes the answer and holds it against a state root that the caller got from a header. covered is where the
// proven range ends; more says that there are paths behind it.
func (r *StateRange) Verify(root, from chain.Hash) (leaves []statetree.Leaf, covered chain.Hash, more bool, err error) {
	raw, err := hex.DecodeString(r.Range)
	if err != nil {
		return nil, covered, false, Errorf(NameInternal, "ask another node", "its range isn't hex: %v", err)
	}
	leaves, proof, err := statetree.DecodeRange(raw)
	if err != nil {
		return nil, covered, false, err
	}
	end, err := statetree.VerifyRange(root, from, LastPath, leaves, proof)
	return leaves, end, proof.More, err
}

// LastPath is the highest path.
var LastPath = func() (h chain.Hash) {
	for i := range h {
		h[i] = 255
	}
	return h
}()

// StateSnapshots returns what snapshots the node has.
func (c *Client) StateSnapshots(ctx context.Context) (StateSnapshots, error) {
	return call[StateSnapshots](ctx, c, "state_snapshots", NoParams{})
}

// StateRange asks for accounts of a snapshot; see StateRange.Verify.
func (c *Client) StateRange(ctx context.Context, p StateRangeParams) (StateRange, error) {
	return call[StateRange](ctx, c, "state_range", p)
}

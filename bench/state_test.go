package bench

import (
	"context"
	"testing"
)

// TestState: a small run has every figure, and refuses what it can't measure.
func TestState(t *testing.T) {
	s := State{Accounts: 5000, Updates: 2500, Proofs: 20, Leaves: 64, Runs: 2}
	last := uint64(0)
	r, err := RunState(context.Background(), s, func(done, total uint64) {
		if last = done; total != 9 {
			t.Errorf("total %d", total)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if last != 9 || r.Schema != "quipu.bench.state/v1" || len(r.Root) != 64 || r.RangeLeaves != 64 || len(r.Runs["updates_per_s"]) != 2 {
		t.Errorf("%d steps, %+v", last, r)
	}
	for name, v := range map[string]float64{
		"updates_per_s": r.UpdatesPerS, "updates_per_s_one": r.UpdatesPerSOne, "bytes_an_account": r.BytesAnAccount, "root_of_per_s": r.RootOfPerS,
		"proof_bytes": r.ProofBytes, "absent_proof_bytes": r.AbsentBytes, "range_bytes": r.RangeBytes, "range_proof_bytes": r.RangeProofBytes,
	} {
		if v <= 0 {
			t.Errorf("%s is %v", name, v)
		}
	}
	if float64(r.ProofBytesMax) < r.ProofBytes || r.RangeBytes != r.RangeProofBytes+64*48 {
		t.Errorf("sizes: %+v", r)
	}
	for _, f := range []func(*State){
		func(s *State) { s.Accounts = 0 }, func(s *State) { s.Updates = -1 }, func(s *State) { s.Proofs = 0 },
		func(s *State) { s.Leaves = 1 << 17 }, func(s *State) { s.Runs = 0 },
	} {
		bad := s
		f(&bad)
		if _, err := RunState(context.Background(), bad, nil); err == nil {
			t.Errorf("accepted %+v", bad)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := RunState(ctx, s, nil); err != context.Canceled {
		t.Errorf("cancelled: %v", err)
	}
}

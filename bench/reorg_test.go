package bench

import "testing"

// A small reorg by the way that the benchmark measures: everything comes back, best first.
func TestReorg(t *testing.T) {
	r := Reorg{Depth: 5, Txs: 20, Accounts: 10}
	b, err := r.Make(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(b.A) != 5 || len(b.B) != 6 || b.A[0].Header.Parent != b.B[0].Header.Parent || b.A[0].Header.ID() == b.B[0].Header.ID() {
		t.Fatal("no two branches of one block")
	}
	run, err := RunReorg(b, t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	if run.Reverted != 100 || run.Returned != 100 || !run.BestFirst || run.ReorgS <= 0 || run.WithSignaturesS <= 0 || run.RevertS <= 0 || run.ApplyS <= 0 {
		t.Fatalf("%+v", run)
	}
	for _, bad := range []Reorg{{Depth: 0, Accounts: 2}, {Depth: 4097, Accounts: 2}, {Depth: 1, Accounts: 1}, {Depth: 1, Accounts: 2, Txs: -1}} {
		if bad.Validate() == nil {
			t.Errorf("%+v is possible", bad)
		}
	}
}

package bench

import (
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"strings"
	"testing"

	"quipu/chain/bip340"
)

func TestVerify(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	s, err := NewSignatures(Verify{Sigs: 200, Keys: 20, Runs: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, items := range [][]bip340.Item{s.own, s.few, s.ownHinted, s.fewHinted} {
		if bad := bip340.Invalid(items); len(items) != 200 || bad != nil {
			t.Fatalf("%d items, invalid: %v", len(items), bad)
		}
	}
	keys := map[[32]byte]bool{}
	for _, it := range s.few {
		keys[*it.Pub] = true
	}
	if len(keys) != 20 {
		t.Errorf("%d keys, want 20", len(keys))
	}
	var done, total uint64
	r, err := s.Run(t.Context(), func(d, n uint64) { done, total = d, n })
	if err != nil {
		t.Fatal(err)
	}
	if done == 0 || done != total {
		t.Errorf("progress ended at %d of %d", done, total)
	}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	if doc["schema"] != "quipu.bench.verify/v1" || doc["sigs"] != 200.0 || doc["using"] != 1.0 || doc["cores"] != float64(runtime.NumCPU()) {
		t.Errorf("%s", b)
	}
	figures := 0
	for name, value := range doc {
		if strings.HasSuffix(name, "_us") {
			figures++
			if v, ok := value.(float64); !ok || v <= 0 || len(r.Runs[name]) != 2 {
				t.Errorf("%s: %v of %v", name, value, r.Runs[name])
			}
		}
	}
	if figures != 8 || figures != len(r.Runs) {
		t.Errorf("%d figures and %d rows of runs", figures, len(r.Runs))
	}
	if n := runtime.GOMAXPROCS(0); n != before {
		t.Errorf("GOMAXPROCS is left at %d", n)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Run(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	*s.own[3].Sig = [64]byte{}
	if _, err := s.Run(t.Context(), nil); err == nil {
		t.Error("a refused signature is no error")
	}
}

func TestVerifyValidate(t *testing.T) {
	for _, v := range []Verify{{}, {Sigs: -1, Keys: 1, Runs: 1}, {Sigs: 1, Keys: 0, Runs: 1}, {Sigs: 1, Keys: 1}, {Sigs: 1<<20 + 1, Keys: 1, Runs: 1}} {
		if _, err := NewSignatures(v); err == nil {
			t.Errorf("%+v is accepted", v)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{3, 1}, 1}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 3, 2}, 2}} {
		if got := Median(c.in); got != c.want {
			t.Errorf("Median(%v) = %v, want %v", c.in, got, c.want)
		}
	}
}

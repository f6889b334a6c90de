package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"quipu/chain/bip340"
)

// Verify says what `quipu bench verify` measures: BIP-340 signatures of 32-byte messages, on one core.
type Verify struct {
	Sigs int // in one batch
	Keys int // that sign them in the folded rows; fewer if Sigs is smaller
	Runs int // of which the median counts
}

// Validate says what can't be measured.
func (v *Verify) Validate() error {
	switch {
	case v.Sigs < 1 || v.Sigs > 1<<20:
		return fmt.Errorf("%d signatures: 1 to %d are possible", v.Sigs, 1<<20)
	case v.Keys < 1 || v.Keys > 1<<20:
		return fmt.Errorf("%d keys: 1 to %d are possible", v.Keys, 1<<20)
	case v.Runs < 1 || v.Runs > 1000:
		return fmt.Errorf("%d runs: 1 to 1000 are possible", v.Runs)
	}
	return nil
}

// VerifyResult has the medians in microseconds a signature, and all runs behind them.
type VerifyResult struct {
	Header
	Sigs       int `json:"sigs"`
	FoldedKeys int `json:"folded_keys"`

	Single       float64 `json:"single_us"`        // one by one
	Batch        float64 `json:"batch_us"`         // every signature under a key of its own, both points decompressed
	Warm         float64 `json:"warm_us"`          // the same with the keys remembered from before
	Folded       float64 `json:"folded_us"`        // few keys, decompressed in the batch
	FoldedWarm   float64 `json:"folded_warm_us"`   // few keys, remembered
	Hinted       float64 `json:"hinted_us"`        // as Batch, with a right y for every R beside it
	WarmHinted   float64 `json:"warm_hinted_us"`   // as Warm, with those
	FoldedHinted float64 `json:"folded_hinted_us"` // as FoldedWarm, with those

	Runs map[string][]float64 `json:"runs"` // by name of the figure, in the order measured
}

// Signatures is what is verified, made once.
type Signatures struct {
	Verify
	own, few             []bip340.Item // every signature under its own key; under few keys
	ownHinted, fewHinted []bip340.Item // the same with the y of R
}

// NewSignatures makes the signatures, on all cores; a few seconds for 16,384.
func NewSignatures(v Verify) (*Signatures, error) {
	if err := v.Validate(); err != nil {
		return nil, err
	}
	own, err := signMany(v.Sigs, v.Sigs)
	if err != nil {
		return nil, err
	}
	v.Keys = min(v.Keys, v.Sigs)
	few, err := signMany(v.Sigs, v.Keys)
	if err != nil {
		return nil, err
	}
	return &Signatures{v, own, few, withHints(own), withHints(few)}, nil
}

// Run measures; progress may be nil.
func (s *Signatures) Run(ctx context.Context, progress func(done, total uint64)) (*VerifyResult, error) {
	r := &VerifyResult{Header: NewHeader("quipu.bench.verify/v1"), Sigs: s.Sigs, FoldedKeys: s.Keys, Runs: map[string][]float64{}}
	r.Using = 1
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))

	keys := bip340.NewKeys(2 * s.Sigs)
	batch := func(items []bip340.Item) bool { return bip340.Invalid(items) == nil }
	warm := func(items []bip340.Item) bool { return keys.Invalid(items) == nil }
	single := func(items []bip340.Item) bool {
		return !slices.ContainsFunc(items, func(it bip340.Item) bool { return !bip340.Verify(it.Pub, it.Msg, it.Sig) })
	}
	rows := []struct {
		name   string
		to     *float64
		verify func([]bip340.Item) bool
		items  []bip340.Item
	}{
		{"single_us", &r.Single, single, s.own[:min(len(s.own), 1024)]},
		{"batch_us", &r.Batch, batch, s.own},
		{"warm_us", &r.Warm, warm, s.own},
		{"folded_us", &r.Folded, batch, s.few},
		{"folded_warm_us", &r.FoldedWarm, warm, s.few},
		{"hinted_us", &r.Hinted, batch, s.ownHinted},
		{"warm_hinted_us", &r.WarmHinted, warm, s.ownHinted},
		{"folded_hinted_us", &r.FoldedHinted, warm, s.fewHinted},
	}
	warm(s.own)
	warm(s.few)
	for run := range s.Runs {
		for i, row := range rows {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			repeat := max(1, 8192/len(row.items))
			if row.name == "single_us" {
				repeat = 1
			}
			runtime.GC()
			start := time.Now()
			for range repeat {
				if !row.verify(row.items) {
					return nil, fmt.Errorf("%s: a valid signature was refused", row.name)
				}
			}
			us := float64(time.Since(start).Nanoseconds()) / 1000 / float64(repeat*len(row.items))
			r.Runs[row.name] = append(r.Runs[row.name], round2(us))
			if progress != nil {
				progress(uint64(run*len(rows)+i+1), uint64(s.Runs*len(rows)))
			}
		}
	}
	for _, row := range rows {
		*row.to = Median(r.Runs[row.name])
	}
	return r, nil
}

func round2(v float64) float64 { return float64(int64(v*100+0.5)) / 100 }

// signMany makes n valid signatures under so many keys.
func signMany(n, keys int) ([]bip340.Item, error) {
	items := make([]bip340.Item, n)
	pubs := make([][32]byte, keys)
	secret := func(i int) *[32]byte {
		var s [32]byte
		s[0] = 1
		binary.BigEndian.PutUint64(s[24:], uint64(keys)<<32|uint64(i))
		return &s
	}
	workers := runtime.GOMAXPROCS(0)
	errs := make([]error, workers)
	spread := func(n int, f func(i int) error) error {
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				for i := w; i < n && errs[w] == nil; i += workers {
					errs[w] = f(i)
				}
			})
		}
		wg.Wait()
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
		return nil
	}
	err := spread(keys, func(i int) (err error) {
		pubs[i], err = bip340.PublicKey(secret(i))
		return err
	})
	if err != nil {
		return nil, err
	}
	return items, spread(n, func(i int) error {
		var msg [32]byte
		binary.BigEndian.PutUint64(msg[:], uint64(i))
		msg = bip340.TaggedHash("quipu/bench", msg[:])
		sig, err := bip340.Sign(secret(i%keys), msg[:], &[32]byte{})
		items[i] = bip340.Item{Pub: &pubs[i%keys], Msg: msg[:], Sig: &sig}
		return err
	})
}

// withHints puts the even y of R beside each signature.
func withHints(items []bip340.Item) []bip340.Item {
	out, hints := slices.Clone(items), make([][32]byte, len(items))
	spread(len(out), func(i int) {
		hints[i] = evenY((*[32]byte)(out[i].Sig[:]))
		out[i].RY = &hints[i]
	})
	return out
}

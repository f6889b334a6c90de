package bip340

import (
	"fmt"
	"sync"
	"testing"
)

// Run with: go test -run - -bench . ./chain/bip340
// One core each; ns/sig is the time a signature.

var benchItems = sync.OnceValue(func() []Item {
	var t testing.B
	const n, workers = 16384, 2
	items := make([]Item, n)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() { copy(items[w*n/workers:], signed(&t, uint64(50+w), n/workers, n/workers)) })
	}
	wg.Wait()
	return items
})

var benchShared = sync.OnceValue(func() []Item { return signed(new(testing.B), 60, 16384, 4096) })

func perSig(b *testing.B, n int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/sig")
}

func BenchmarkSign(b *testing.B) {
	secret, msg, aux := [32]byte{1}, [32]byte{2}, [32]byte{3}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Sign(&secret, msg[:], &aux); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	it := signed(b, 51, 1, 1)[0]
	b.ReportAllocs()
	for b.Loop() {
		if !Verify(it.Pub, it.Msg, it.Sig) {
			b.Fatal("refused")
		}
	}
	perSig(b, 1)
}

func benchBatch(b *testing.B, items []Item) {
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		if !VerifyBatch(items) {
			b.Fatal("refused")
		}
	}
	perSig(b, len(items))
}

// Every signature under its own key.
func BenchmarkBatch1(b *testing.B)     { benchBatch(b, benchItems()[:1]) }
func BenchmarkBatch4(b *testing.B)     { benchBatch(b, benchItems()[:4]) }
func BenchmarkBatch16(b *testing.B)    { benchBatch(b, benchItems()[:16]) }
func BenchmarkBatch64(b *testing.B)    { benchBatch(b, benchItems()[:64]) }
func BenchmarkBatch256(b *testing.B)   { benchBatch(b, benchItems()[:256]) }
func BenchmarkBatch1024(b *testing.B)  { benchBatch(b, benchItems()[:1024]) }
func BenchmarkBatch4096(b *testing.B)  { benchBatch(b, benchItems()[:4096]) }
func BenchmarkBatch16384(b *testing.B) { benchBatch(b, benchItems()) }

// 4,096 keys for 16,384 signatures.
func BenchmarkBatchSharedKeys16384(b *testing.B) { benchBatch(b, benchShared()) }

// Keys remembered from before.
func BenchmarkWarm16384(b *testing.B) {
	k := NewKeys(32768)
	k.Invalid(benchItems())
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		if k.Invalid(benchItems()) != nil {
			b.Fatal("refused")
		}
	}
	perSig(b, 16384)
}

// The parts a batch is made of.
func BenchmarkFieldMul(b *testing.B) {
	x, y := generator.x, generator.y
	for b.Loop() {
		x.mul(&x, &y)
	}
}

func BenchmarkFieldSqr(b *testing.B) {
	x := generator.x
	for b.Loop() {
		x.sqr(&x)
	}
}

func BenchmarkFieldInv(b *testing.B) {
	x := generator.x
	for b.Loop() {
		x.inv(&x)
	}
}

// A pair of square roots.
func BenchmarkFieldSqrt(b *testing.B) {
	x := feLanes{generator.x, generator.y}
	for b.Loop() {
		x.sqrt(&x)
	}
}

// A failing batch of 4,096: what a sender of bad signatures costs. They stand evenly spread, or all in the first part.
func BenchmarkInvalid4096(b *testing.B) {
	for _, bad := range []int{1, 4, 16, 64, 256, 1024, 4096} {
		for _, spread := range []bool{true, false} {
			b.Run(fmt.Sprintf("bad=%d/spread=%v", bad, spread), func(b *testing.B) {
				items := append([]Item(nil), benchItems()[:4096]...)
				for i := range bad {
					if spread {
						i *= len(items) / bad
					}
					items[i] = clone(items[i])
					items[i].Msg[0] ^= 1
				}
				b.ResetTimer()
				for b.Loop() {
					if len(Invalid(items)) != bad {
						b.Fatal("wrong count")
					}
				}
				perSig(b, len(items))
			})
		}
	}
}

package wire

import (
	"crypto/sha256"
	"testing"

	"quipu/chain"
)

// TestPoolFilter: a filter has all that was put in, and of others one in a hundred or so, each salt other ones.
func TestPoolFilter(t *testing.T) {
	leaf := func(i int) chain.LeafHash { return sha256.Sum256([]byte{byte(i), byte(i >> 8), byte(i >> 16)}) }
	const n, others = 5000, 20_000
	leaves := make([]chain.LeafHash, n)
	for i := range leaves {
		leaves[i] = leaf(i)
	}
	wrong := map[int]int{}
	for salt := range byte(2) {
		q := NewPoolRequest(chain.BlockID{}, [SaltSize]byte{salt}, Prefix{}, leaves)
		for i := range leaves {
			if !q.Has(&leaves[i]) {
				t.Fatalf("leaf %d is missing", i)
			}
		}
		seem := 0
		for i := range others {
			if l := leaf(n + i); q.Has(&l) {
				seem++
				wrong[i]++
			}
		}
		if seem > others/60 {
			t.Errorf("%d of %d others seem to be there", seem, others)
		}
	}
	twice := 0
	for _, k := range wrong {
		twice += k - 1
	}
	if twice > len(wrong)/10 {
		t.Errorf("%d of %d others seem to be there under both salts", twice, len(wrong))
	}
	if q := NewPoolRequest(chain.BlockID{}, [SaltSize]byte{}, Prefix{}, nil); len(q.Filter) != MinPoolFilter {
		t.Errorf("an empty filter of %d bytes", len(q.Filter))
	}
	if q := NewPoolRequest(chain.BlockID{}, [SaltSize]byte{}, Prefix{}, make([]chain.LeafHash, PoolPartLeaves+100)); len(q.Filter) != MaxPoolFilter {
		t.Errorf("the largest filter has %d bytes", len(q.Filter))
	}
}

func TestPoolLimits(t *testing.T) {
	tx := exampleTx()
	widest := chain.Tx{Outputs: make([]chain.Output, chain.MaxOutputs), Memo: make([]byte, chain.MaxMemo)}
	big := widest.Append(nil)
	pool := codecOf(t, "pool request")
	for n, ok := range map[int]bool{MinPoolFilter - 1: false, MinPoolFilter: true, MaxPoolFilter: true, MaxPoolFilter + 1: false} {
		q := PoolRequest{Part: Prefix{8, 255}, Filter: make([]byte, n)}
		check(t, ok, pool, q.Append(nil))
		q.Part = Prefix{9, 0}
		check(t, false, pool, q.Append(nil))
		q.Part = Prefix{2, 4}
		check(t, false, pool, q.Append(nil))
	}
	missing := codecOf(t, "pool answer")
	check(t, true, missing, AppendPool(nil, PoolMore, repeat(big, MaxAnswer/len(big))))
	check(t, false, missing, AppendPool(nil, PoolMore, repeat(big, MaxAnswer/len(big)+1)))
	check(t, true, missing, AppendPool(nil, PoolAll, nil))
	refused(t, missing, "more, and none", AppendPool(nil, PoolMore, nil))
	refused(t, missing, "another tip, and one", AppendPool(nil, PoolElsewhere, [][]byte{tx}))
	refused(t, missing, "unknown code", AppendPool(nil, PoolMore+1, [][]byte{tx}))
}

func TestPrefix(t *testing.T) {
	a := chain.Account{0b1011_0001}
	for _, c := range []struct {
		p  Prefix
		in bool
	}{{Prefix{0, 0}, true}, {Prefix{1, 1}, true}, {Prefix{1, 0}, false}, {Prefix{3, 0b101}, true}, {Prefix{3, 0b100}, false}, {Prefix{8, 0b1011_0001}, true}} {
		if c.p.Has(&a) != c.in {
			t.Errorf("%+v has %08b: %v", c.p, a[0], !c.in)
		}
	}
}

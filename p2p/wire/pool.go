package wire

import (
	"crypto/sha256"

	"quipu/chain"
)

// Limits of pool.
const (
	poolHead       = 32 + 8 + 1 + 1                 // tip, salt, bits, prefix
	MinPoolFilter  = 8                              // bytes
	MaxPoolFilter  = 64 << 10                       // bytes: 52,428 leaves at filterBits
	MaxPoolRequest = poolHead + MaxPoolFilter       // 65,578
	MaxPoolAnswer  = 1 + MaxAnswer                  // 1,048,577
	PoolPartLeaves = MaxPoolFilter * 8 / filterBits // of a part of a pool that is asked for
	MaxPrefixBits  = 8
	filterBits     = 10 // bits of filter a leaf: with filterHashes one of 120 that aren't in it seems to be
	filterHashes   = 7
)

// Prefix chooses accounts by their first bits: a part of a pool, in which every account's chain of nonces is whole.
type Prefix struct {
	Bits  uint8 // 0 to MaxPrefixBits; 0 is all accounts
	Value uint8 // the bits, below 1 << Bits
}

// Has reports whether an account begins with the prefix, its first byte's highest bit first.
func (p Prefix) Has(a *chain.Account) bool { return uint16(a[0])>>(8-p.Bits) == uint16(p.Value) }

// PoolRequest asks for what the answerer's pool holds and the asker's doesn't, of the accounts with a prefix. The filter
// is a Bloom filter of what the asker has: bit u32_i mod (8 × its length) is set for each of the filterHashes first
// little-endian u32 of SHA-256(salt ‖ leaf), bit 0 being the lowest of the first byte.
type PoolRequest struct {
	Tip    chain.BlockID // the asker's: on another tip pools can't be compared
	Salt   [SaltSize]byte
	Part   Prefix
	Filter []byte // MinPoolFilter to MaxPoolFilter bytes
}

// NewPoolRequest makes the filter of leaves, at most PoolPartLeaves.
func NewPoolRequest(tip chain.BlockID, salt [SaltSize]byte, part Prefix, leaves []chain.LeafHash) PoolRequest {
	size := min(max((len(leaves)*filterBits+7)/8, MinPoolFilter), MaxPoolFilter)
	q := PoolRequest{Tip: tip, Salt: salt, Part: part, Filter: make([]byte, size)}
	for i := range leaves {
		for _, at := range q.places(&leaves[i]) {
			q.Filter[at/8] |= 1 << (at % 8)
		}
	}
	return q
}

// Has reports whether the asker seems to have a transaction. It may be wrong, for each salt about another one.
func (q *PoolRequest) Has(leaf *chain.LeafHash) bool {
	for _, at := range q.places(leaf) {
		if q.Filter[at/8]&(1<<(at%8)) == 0 {
			return false
		}
	}
	return true
}

func (q *PoolRequest) places(leaf *chain.LeafHash) (out [filterHashes]uint32) {
	var b [SaltSize + 32]byte
	copy(b[:], q.Salt[:])
	copy(b[SaltSize:], leaf[:])
	h := sha256.Sum256(b[:])
	for i := range out {
		out[i] = le.Uint32(h[4*i:]) % uint32(8*len(q.Filter))
	}
	return out
}

// Append appends tip 32 ‖ salt 8 ‖ bits u8 ‖ prefix u8 ‖ filter.
func (q *PoolRequest) Append(dst []byte) []byte {
	dst = append(dst, q.Tip[:]...)
	dst = append(dst, q.Salt[:]...)
	dst = append(dst, q.Part.Bits, q.Part.Value)
	return append(dst, q.Filter...)
}

// DecodePoolRequest reads a request to its end. Filter aliases b.
func DecodePoolRequest(b []byte) (PoolRequest, error) {
	var q PoolRequest
	r := reader{b: b}
	copy(q.Tip[:], r.take(32))
	copy(q.Salt[:], r.take(SaltSize))
	q.Part = Prefix{r.u8(), r.u8()}
	if r.short || len(r.b) < MinPoolFilter || len(r.b) > MaxPoolFilter {
		return PoolRequest{}, malformed("pool request of %d bytes, want %d to %d", len(b), poolHead+MinPoolFilter, MaxPoolRequest)
	}
	if q.Part.Bits > MaxPrefixBits || uint16(q.Part.Value)>>q.Part.Bits != 0 {
		return PoolRequest{}, malformed("prefix %#x of %d bits", q.Part.Value, q.Part.Bits)
	}
	q.Filter = r.b
	return q, nil
}

// PoolCode is the first byte of a pool answer.
type PoolCode uint8

const (
	PoolElsewhere PoolCode = 0 // the answerer has another tip, or was asked too often: nothing follows
	PoolAll       PoolCode = 1 // what follows is all that seems to be missing
	PoolMore      PoolCode = 2 // there is more of it than an answer holds: ask again
)

// AppendPool appends code u8 ‖ transactions one after another, those of an account in the order of nonces.
func AppendPool(dst []byte, code PoolCode, raws [][]byte) []byte {
	dst = append(dst, byte(code))
	for _, raw := range raws {
		dst = append(dst, raw...)
	}
	return dst
}

// DecodePool reads an answer to its end. The encodings alias b; only D1 to D4 have been checked.
func DecodePool(b []byte) (code PoolCode, raws [][]byte, err error) {
	if len(b) < 1 || len(b) > MaxPoolAnswer {
		return 0, nil, malformed("pool answer of %d bytes, want 1 to %d", len(b), MaxPoolAnswer)
	}
	if code = PoolCode(b[0]); code > PoolMore {
		return 0, nil, malformed("pool code %d", code)
	}
	if raws, err = chain.SplitBody(b[1:]); err != nil {
		return 0, nil, err
	}
	if (code == PoolElsewhere && len(raws) > 0) || (code == PoolMore && len(raws) == 0) {
		return 0, nil, malformed("%d transactions after pool code %d", len(raws), code)
	}
	return code, raws, nil
}

package chain

import (
	"crypto/sha256"
	"math/bits"

	"quipu/chain/bip340"
)

var (
	tagTx      = bip340.NewTag("quipu/tx")
	tagGenesis = bip340.NewTag("quipu/genesis")
)

// EmptyRoot is MTH({}) = SHA-256("") (RFC 6962 §2.1).
var EmptyRoot = Hash(sha256.Sum256(nil))

// ID is the double SHA-256 of the header's 200 bytes.
func (h *Header) ID() BlockID {
	var buf [HeaderSize]byte
	first := sha256.Sum256(h.Append(buf[:0]))
	return sha256.Sum256(first[:])
}

// TxIDOf is the id of an encoded transaction: the tagged hash of the network and all bytes before the signature.
func TxIDOf(network NetworkID, raw []byte) TxID {
	return TxID(tagTx.Sum(network[:], raw[:len(raw)-64]))
}

// ID is TxIDOf for a transaction that isn't encoded yet. It is what the sender signs.
func (t *Tx) ID(network NetworkID) TxID {
	return TxID(tagTx.Sum(network[:], t.AppendUnsigned(make([]byte, 0, t.Size()))))
}

// LeafOf is SHA-256(0x00 ‖ raw): the RFC 6962 leaf hash of an encoded transaction.
func LeafOf(raw []byte) LeafHash { return LeafHash(leafHash(raw)) }

func leafHash(b []byte) Hash {
	buf := make([]byte, 0, 512)
	buf = append(buf, 0)
	return sha256.Sum256(append(buf, b...))
}

func nodeHash(l, r Hash) Hash {
	var buf [65]byte
	buf[0] = 1
	copy(buf[1:], l[:])
	copy(buf[33:], r[:])
	return sha256.Sum256(buf[:])
}

// MTH is the RFC 6962 §2.1 Merkle tree hash over leaf hashes already made.
func MTH(leaves []LeafHash) Hash {
	var peaks []Hash
	for i, l := range leaves {
		peaks = appendPeak(peaks, uint64(i), Hash(l))
	}
	return rootOfPeaks(peaks)
}

// appendPeak adds leaf number n (counted from 0) to the peaks of a tree of n leaves: the roots of its perfect
// subtrees, largest first, one for each one bit of n. The slice given is not written to beyond its length.
func appendPeak(peaks []Hash, n uint64, leaf Hash) []Hash {
	for range bits.TrailingZeros64(^n) {
		leaf = nodeHash(peaks[len(peaks)-1], leaf)
		peaks = peaks[:len(peaks)-1]
	}
	return append(peaks, leaf)
}

func rootOfPeaks(peaks []Hash) Hash {
	if len(peaks) == 0 {
		return EmptyRoot
	}
	root := peaks[len(peaks)-1]
	for i := len(peaks) - 2; i >= 0; i-- {
		root = nodeHash(peaks[i], root)
	}
	return root
}

// historyLeaf is the leaf hash of D[i] = id ‖ W, W in 32 bytes little-endian.
func historyLeaf(id BlockID, w *Work) Hash {
	var d [65]byte
	copy(d[1:], id[:])
	wb := WorkBytes(w)
	copy(d[33:], wb[:])
	return sha256.Sum256(d[:])
}

// WorkBytes is w in 32 bytes little-endian, as it stands in every format.
func WorkBytes(w *Work) [32]byte {
	var out [32]byte
	for i, limb := range w {
		le.PutUint64(out[8*i:], limb)
	}
	return out
}

// WorkFromBytes is the inverse of WorkBytes.
func WorkFromBytes(b [32]byte) Work {
	var w Work
	for i := range w {
		w[i] = le.Uint64(b[8*i:])
	}
	return w
}

// NextHistoryRoot is the history_root a child of this state must carry.
func (s *State) NextHistoryRoot() Hash { return rootOfPeaks(s.Peaks) }

package wire

import "quipu/chain"

// Limits of txstatus.
const (
	MaxTxIDs           = 64
	MaxReason          = 64 // bytes of printable ASCII
	txStatusHead       = 1 + 4 + 4 + 32 + 1
	MaxTxStatusRequest = 1 + MaxTxIDs*32
	MaxTxStatusAnswer  = 1 + MaxTxIDs*(txStatusHead+MaxReason)
)

// TxState is what a node says of one transaction.
type TxState uint8

const (
	TxUnknown  TxState = 0
	TxVerified TxState = 1 // signature and balance checked here; in the pool
	TxRejected TxState = 2 // seen and refused; Reason says why
	TxInBlock  TxState = 3 // in a block of the validated chain
)

func (s TxState) String() string {
	if int(s) >= len(txStates) {
		return "invalid"
	}
	return txStates[s]
}

var txStates = [...]string{"unknown", "verified", "rejected", "in-block"}

// TxStatus is one peer's word on one transaction: evidence of the kind "peers say so", never more.
type TxStatus struct {
	State  TxState
	Took   uint32        // µs that its verification took there; 0 if not known
	Height uint32        // 0 unless TxInBlock
	Block  chain.BlockID // zero unless TxInBlock
	Reason string        // up to MaxReason bytes of printable ASCII
}

// AppendTxStatusRequest appends n u8 ‖ n × txid 32, n from 1 to MaxTxIDs.
func AppendTxStatusRequest(dst []byte, ids []chain.TxID) []byte {
	return appendIDs(append(dst, byte(len(ids))), ids)
}

// DecodeTxStatusRequest reads a request to its end.
func DecodeTxStatusRequest(b []byte) ([]chain.TxID, error) {
	r := reader{b: b}
	n := int(r.u8())
	if n < 1 || n > MaxTxIDs {
		return nil, malformed("request for the status of %d transactions, want 1 to %d", n, MaxTxIDs)
	}
	ids := readIDs[chain.TxID](&r, n)
	if err := r.end("txstatus request"); err != nil {
		return nil, err
	}
	return ids, nil
}

// AppendTxStatuses appends the answer, one entry an id in the order asked: n u8 ‖ n × (state u8, took u32 µs, height
// u32, block 32, reason_len u8, reason). What an entry may not hold is left out: a place unless TxInBlock, a byte of
// a reason that isn't printable, a reason's end.
func AppendTxStatuses(dst []byte, all []TxStatus) []byte {
	dst = append(dst, byte(len(all)))
	for i := range all {
		t := &all[i]
		dst = append(dst, byte(t.State))
		dst = le.AppendUint32(dst, t.Took)
		if t.State == TxInBlock {
			dst = le.AppendUint32(dst, t.Height)
			dst = append(dst, t.Block[:]...)
		} else {
			dst = append(dst, make([]byte, 4+32)...)
		}
		at := len(dst)
		dst = append(dst, 0)
		for j := 0; j < len(t.Reason) && len(dst)-at-1 < MaxReason; j++ {
			if printable(t.Reason[j]) {
				dst = append(dst, t.Reason[j])
			}
		}
		dst[at] = byte(len(dst) - at - 1)
	}
	return dst
}

// DecodeTxStatuses reads an answer to a request for asked transactions to its end.
func DecodeTxStatuses(b []byte, asked int) ([]TxStatus, error) {
	r := reader{b: b}
	if n := int(r.u8()); r.short || n != asked || n > MaxTxIDs {
		return nil, malformed("status of %d transactions, asked for %d", n, asked)
	}
	if len(b) < 1+asked*txStatusHead {
		return nil, malformed("txstatus answer is cut short")
	}
	all := make([]TxStatus, asked)
	for i := range all {
		t := &all[i]
		t.State = TxState(r.u8())
		t.Took = r.u32()
		t.Height = r.u32()
		copy(t.Block[:], r.take(32))
		reason := r.take(int(r.u8()))
		if r.short {
			break
		}
		if t.State > TxInBlock {
			return nil, malformed("transaction state %d", t.State)
		}
		if t.State != TxInBlock && (t.Height != 0 || t.Block != chain.BlockID{}) {
			return nil, malformed("block of a transaction that is in no block")
		}
		if len(reason) > MaxReason {
			return nil, malformed("reason of %d bytes, at most %d", len(reason), MaxReason)
		}
		for _, c := range reason {
			if !printable(c) {
				return nil, malformed("reason with byte %#x", c)
			}
		}
		t.Reason = string(reason)
	}
	if err := r.end("txstatus answer"); err != nil {
		return nil, err
	}
	return all, nil
}

func printable(c byte) bool { return c >= 0x20 && c <= 0x7e }

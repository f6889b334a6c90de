package chain

import "encoding/binary"

var le = binary.LittleEndian

// Append writes the canonical encoding of t (docs/spec.md §3). It panics if t has no encoding: more than 255 or no
// outputs, or a memo over 80 bytes; such a value can't come from DecodeTx.
func (t *Tx) Append(dst []byte) []byte {
	return append(t.AppendUnsigned(dst), t.Signature[:]...)
}

// AppendUnsigned writes all bytes before the signature: what the txid covers.
func (t *Tx) AppendUnsigned(dst []byte) []byte {
	if len(t.Outputs) == 0 || len(t.Outputs) > MaxOutputs || len(t.Memo) > MaxMemo {
		panic("chain: transaction has no encoding")
	}
	dst = append(dst, TxVersion)
	dst = append(dst, t.From[:]...)
	dst = le.AppendUint64(dst, t.Nonce)
	dst = le.AppendUint64(dst, t.Fee)
	dst = le.AppendUint32(dst, t.ValidUntil)
	dst = append(dst, byte(len(t.Outputs)))
	for i := range t.Outputs {
		dst = append(dst, t.Outputs[i].To[:]...)
		dst = le.AppendUint64(dst, t.Outputs[i].Amount)
	}
	dst = append(dst, byte(len(t.Memo)))
	return append(dst, t.Memo...)
}

// DecodeTx reads one transaction from the front of b and returns how many bytes it took. Memo aliases b. It
// refuses exactly: version ≠ 1, no outputs, memo over 80 bytes, too few bytes (rules D1 to D4).
func DecodeTx(b []byte) (Tx, int, error) {
	var t Tx
	n, err := decodeTx(&t, b, nil)
	if err != nil {
		return Tx{}, 0, err
	}
	return t, n, nil
}

// decodeTx is DecodeTx into t, which is to be zero. Outputs are taken from the end of slab where it has room: one
// allocation for a whole body.
func decodeTx(t *Tx, b []byte, slab *[]Output) (int, error) {
	if len(b) < 1 {
		return 0, ruleError(ErrTruncated, "empty transaction")
	}
	if b[0] != TxVersion {
		return 0, ruleError(ErrTxVersion, "transaction version %d, want %d", b[0], TxVersion)
	}
	if len(b) < txFixedHead {
		return 0, ruleError(ErrTruncated, "transaction head of %d bytes, want %d", len(b), txFixedHead)
	}
	copy(t.From[:], b[1:])
	t.Nonce = le.Uint64(b[33:])
	t.Fee = le.Uint64(b[41:])
	t.ValidUntil = le.Uint32(b[49:])
	n := int(b[53])
	if n == 0 {
		return 0, ruleError(ErrNoOutputs, "transaction without outputs")
	}
	at := txFixedHead
	if len(b) < at+n*OutputSize+1 {
		return 0, ruleError(ErrTruncated, "transaction with %d outputs in %d bytes", n, len(b))
	}
	if slab != nil && cap(*slab)-len(*slab) >= n {
		from := len(*slab)
		*slab = (*slab)[:from+n]
		t.Outputs = (*slab)[from : from+n : from+n]
	} else {
		t.Outputs = make([]Output, n)
	}
	for i := range t.Outputs {
		copy(t.Outputs[i].To[:], b[at:])
		t.Outputs[i].Amount = le.Uint64(b[at+32:])
		at += OutputSize
	}
	memo := int(b[at])
	at++
	if memo > MaxMemo {
		return 0, ruleError(ErrMemoSize, "memo of %d bytes, at most %d", memo, MaxMemo)
	}
	if len(b) < at+memo+64 {
		return 0, ruleError(ErrTruncated, "transaction ends in its memo or signature")
	}
	if memo > 0 {
		t.Memo = b[at : at+memo : at+memo]
	}
	copy(t.Signature[:], b[at+memo:])
	return at + memo + 64, nil
}

// SplitBody returns the encodings in body, in order, each aliasing body. A body that doesn't decode to its end is
// the server's fault (rule B1). At most len(body)/159 entries are made.
func SplitBody(body []byte) ([][]byte, error) {
	txs := make([][]byte, 0, len(body)/TxMinSize)
	for at := 0; at < len(body); {
		n, err := txLen(body[at:])
		if err != nil {
			return nil, ruleError(ErrBodyDecode, "transaction %d at byte %d: %v", len(txs), at, err)
		}
		txs = append(txs, body[at:at+n:at+n])
		at += n
	}
	return txs, nil
}

// FirstTx is the transaction encoding that b begins with, aliasing b. It refuses what DecodeTx refuses.
func FirstTx(b []byte) ([]byte, error) {
	n, err := txLen(b)
	if err != nil {
		return nil, err
	}
	return b[:n:n], nil
}

// txLen is DecodeTx without the values: it refuses what DecodeTx refuses.
func txLen(b []byte) (int, error) {
	if len(b) >= 1 && b[0] != TxVersion || len(b) < txFixedHead || b[53] == 0 {
		_, _, err := DecodeTx(b)
		return 0, err
	}
	at := txFixedHead + int(b[53])*OutputSize
	if len(b) <= at || b[at] > MaxMemo || len(b) < at+1+int(b[at])+64 {
		_, _, err := DecodeTx(b)
		return 0, err
	}
	return at + 1 + int(b[at]) + 64, nil
}

// Append writes the header's 200 bytes (docs/spec.md §4).
func (h *Header) Append(dst []byte) []byte {
	dst = le.AppendUint32(dst, h.Version)
	dst = le.AppendUint64(dst, h.Height)
	dst = append(dst, h.Parent[:]...)
	dst = append(dst, h.HistoryRoot[:]...)
	dst = le.AppendUint64(dst, h.Time)
	dst = append(dst, h.TxRoot[:]...)
	dst = append(dst, h.StateRoot[:]...)
	dst = append(dst, h.Miner[:]...)
	dst = le.AppendUint32(dst, h.TxCount)
	dst = le.AppendUint32(dst, h.BodySize)
	dst = le.AppendUint32(dst, h.Bits)
	return le.AppendUint64(dst, h.Nonce)
}

// DecodeHeader reads a header from exactly 200 bytes. Every 200 bytes are some header; rules come after.
func DecodeHeader(b []byte) (Header, error) {
	var h Header
	if len(b) < HeaderSize {
		return h, ruleError(ErrTruncated, "header of %d bytes, want %d", len(b), HeaderSize)
	}
	if len(b) > HeaderSize {
		return h, ruleError(ErrTrailing, "header of %d bytes, want %d", len(b), HeaderSize)
	}
	h.Version = le.Uint32(b[0:])
	h.Height = le.Uint64(b[4:])
	copy(h.Parent[:], b[12:])
	copy(h.HistoryRoot[:], b[44:])
	h.Time = le.Uint64(b[76:])
	copy(h.TxRoot[:], b[84:])
	copy(h.StateRoot[:], b[116:])
	copy(h.Miner[:], b[148:])
	h.TxCount = le.Uint32(b[180:])
	h.BodySize = le.Uint32(b[184:])
	h.Bits = le.Uint32(b[188:])
	h.Nonce = le.Uint64(b[192:])
	return h, nil
}

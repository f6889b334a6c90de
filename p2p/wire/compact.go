package wire

import "quipu/chain"

// Limits of compact and of the form of blocktxs that names transactions by their place in a block.
const (
	CompactRequestSize = 32 + 8
	MaxBlockTxCount    = chain.MaxBody / chain.TxMinSize // 26,379: what a header can say
	MaxPrefilled       = 256 << 10                       // bytes of transactions in a compact answer
	compactHead        = 1 + 2 + 2
	MaxIndexRequest    = 2 + 32 + 2 + 2*MaxBlockTxCount
	MaxIndexAnswer     = MaxAnswer // bytes of transactions and their places
	MaxShortIDs        = 4096
	MaxShortRequest    = 2 + 32 + 8 + 2 + MaxShortIDs*ShortIDSize
	shortForm          = 1<<16 - 1 // what a blocktxs request of short ids begins with
)

// CompactRequest asks for a block as short ids under NewShortKey(header, Nonce).
type CompactRequest struct {
	ID    chain.BlockID
	Nonce uint64
}

// Append appends id 32 ‖ nonce u64.
func (q *CompactRequest) Append(dst []byte) []byte {
	return le.AppendUint64(append(dst, q.ID[:]...), q.Nonce)
}

// DecodeCompactRequest reads a request to its end.
func DecodeCompactRequest(b []byte) (q CompactRequest, err error) {
	r := reader{b: b}
	copy(q.ID[:], r.take(32))
	q.Nonce = r.u64()
	return q, r.end("compact request")
}

// PlacedTx is a transaction and its place in a block.
type PlacedTx struct {
	Index uint16
	Rare  bool // others lacked it too; in an answer of blocktxs only
	Raw   []byte
}

const rareBit = 1 << 15 // of an index, which is below MaxBlockTxCount

// Compact is a block as short ids, in the order of the block, of all transactions but those that are prefilled.
type Compact struct {
	IDs       []uint64   // ShortIDSize bytes each
	Prefilled []PlacedTx // strictly ascending
}

// AppendCompact appends code u8 = 1 ‖ n u16 ‖ n × short id 6 ‖ n u16 ‖ n × (index u16 ‖ transaction).
func AppendCompact(dst []byte, c *Compact) []byte {
	dst = append(dst, byte(BodyFollows))
	dst = le.AppendUint16(dst, uint16(len(c.IDs)))
	dst = appendShort(dst, c.IDs)
	dst = le.AppendUint16(dst, uint16(len(c.Prefilled)))
	return appendPlaced(dst, c.Prefilled, 0)
}

// Size is the length of the answer.
func (c *Compact) Size() int {
	n := compactHead + ShortIDSize*len(c.IDs)
	for i := range c.Prefilled {
		n += 2 + len(c.Prefilled[i].Raw)
	}
	return n
}

// CompactSize bounds the answer for a block of so many transactions in so many bytes.
func CompactSize(txCount, bodySize uint32) int {
	n := min(int(txCount), MaxBlockTxCount)
	return compactHead + n*(ShortIDSize+2) + min(int(min(bodySize, chain.MaxBody)), MaxPrefilled)
}

// DecodeCompact reads an answer about a block of txCount transactions; prefilled ones alias b. c is nil unless the code is
// BodyFollows; BodyMissing is "not here", BodyLater "not yet". Short ids that stand twice are for the asker to notice.
func DecodeCompact(b []byte, txCount uint32) (code BodyCode, c *Compact, err error) {
	r := reader{b: b}
	switch code = BodyCode(r.u8()); code {
	case BodyMissing, BodyLater:
		return code, nil, r.end("compact answer")
	case BodyFollows:
	default:
		return 0, nil, malformed("compact code %d", code)
	}
	n := int(r.u16())
	if n > int(txCount) {
		return 0, nil, malformed("%d short ids of a block of %d transactions", n, txCount)
	}
	ids := r.take(n * ShortIDSize)
	p := int(r.u16())
	if r.short {
		return 0, nil, r.end("compact answer")
	}
	if n+p != int(txCount) {
		return 0, nil, malformed("%d short ids and %d prefilled transactions of %d", n, p, txCount)
	}
	c = &Compact{IDs: readShort(ids)}
	placed := r.b
	if c.Prefilled, err = readPlaced(&r, p, int(txCount), 0); err != nil {
		return 0, nil, err
	}
	if most := MaxPrefilled + 2*p; len(placed) > most {
		return 0, nil, malformed("%d bytes prefilled, at most %d", len(placed), most)
	}
	return code, c, r.end("compact answer")
}

func appendShort(dst []byte, ids []uint64) []byte {
	for _, id := range ids {
		dst = append(dst, byte(id), byte(id>>8), byte(id>>16), byte(id>>24), byte(id>>32), byte(id>>40))
	}
	return dst
}

func readShort(b []byte) []uint64 {
	ids := make([]uint64, len(b)/ShortIDSize)
	for i := range ids {
		v := b[ShortIDSize*i:]
		ids[i] = uint64(le.Uint32(v)) | uint64(le.Uint16(v[4:]))<<32
	}
	return ids
}

func appendPlaced(dst []byte, txs []PlacedTx, rare uint16) []byte {
	for i := range txs {
		at := txs[i].Index
		if txs[i].Rare {
			at |= rare
		}
		dst = le.AppendUint16(dst, at)
		dst = append(dst, txs[i].Raw...)
	}
	return dst
}

// readPlaced reads n transactions, or all that follow if n is negative. Indexes are strictly ascending and below end, the
// bits of rare aside.
func readPlaced(r *reader, n, end int, rare uint16) (out []PlacedTx, err error) {
	for last := -1; n != 0 && (n > 0 || len(r.b) > 0); n-- {
		v := r.u16()
		at := int(v &^ rare)
		if r.short {
			return nil, r.end("list of transactions")
		}
		if at <= last || at >= end {
			return nil, malformed("transaction at %d after %d in a block of %d", at, last, end)
		}
		raw, err := chain.FirstTx(r.b)
		if err != nil {
			return nil, err
		}
		r.take(len(raw))
		out, last = append(out, PlacedTx{uint16(at), v&rare != 0, raw}), at
	}
	return out, nil
}

// BlockIndexRequest is the form of a blocktxs request that names transactions by their places in a block.
type BlockIndexRequest struct {
	ID      chain.BlockID
	Indexes []uint16 // 1 to MaxBlockTxCount, strictly ascending
}

// Append appends 0 u16 ‖ id 32 ‖ n u16 ‖ n × index u16. The form by leaf begins with its count, which is never 0.
func (q *BlockIndexRequest) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, 0)
	dst = append(dst, q.ID[:]...)
	dst = le.AppendUint16(dst, uint16(len(q.Indexes)))
	for _, i := range q.Indexes {
		dst = le.AppendUint16(dst, i)
	}
	return dst
}

// ByIndex reports whether a blocktxs request has the form of BlockIndexRequest.
func ByIndex(b []byte) bool { return len(b) >= 2 && b[0] == 0 && b[1] == 0 }

// DecodeBlockIndexRequest reads a request to its end.
func DecodeBlockIndexRequest(b []byte) (q BlockIndexRequest, err error) {
	r := reader{b: b}
	if form := r.u16(); form != 0 {
		return q, malformed("request for transactions by place begins with %d, want 0", form)
	}
	copy(q.ID[:], r.take(32))
	n := int(r.u16())
	if n < 1 || n > MaxBlockTxCount {
		return BlockIndexRequest{}, malformed("request for %d transactions of a block, want 1 to %d", n, MaxBlockTxCount)
	}
	list := r.take(2 * n)
	if err := r.end("blocktxs request"); err != nil {
		return BlockIndexRequest{}, err
	}
	q.Indexes = make([]uint16, n)
	for i := range q.Indexes {
		q.Indexes[i] = le.Uint16(list[2*i:])
		if i > 0 && q.Indexes[i] <= q.Indexes[i-1] || q.Indexes[i] >= MaxBlockTxCount {
			return BlockIndexRequest{}, malformed("places of transactions are not strictly ascending below %d", MaxBlockTxCount)
		}
	}
	return q, nil
}

// AppendBlockIndexTxs appends the answer: n × (index u16 ‖ transaction), the highest bit of an index set where Rare. It stops before the one that would take the
// answer over MaxIndexAnswer.
func AppendBlockIndexTxs(dst []byte, txs []PlacedTx) []byte {
	left := MaxIndexAnswer
	for i := range txs {
		if left -= 2 + len(txs[i].Raw); left < 0 {
			txs = txs[:i]
			break
		}
	}
	return appendPlaced(dst, txs, rareBit)
}

// DecodeBlockIndexTxs reads the answer to q, each transaction aliasing b. What was not asked for is malformed.
func DecodeBlockIndexTxs(b []byte, q *BlockIndexRequest) ([]PlacedTx, error) {
	if len(b) > MaxIndexAnswer {
		return nil, malformed("blocktxs answer of %d bytes, at most %d", len(b), MaxIndexAnswer)
	}
	r := reader{b: b}
	txs, err := readPlaced(&r, -1, MaxBlockTxCount, rareBit)
	if err != nil {
		return nil, err
	}
	asked := q.Indexes
	for i := range txs {
		for len(asked) > 0 && asked[0] < txs[i].Index {
			asked = asked[1:]
		}
		if len(asked) == 0 || asked[0] != txs[i].Index {
			return nil, malformed("transaction %d was not asked for", txs[i].Index)
		}
	}
	return txs, nil
}

// ShortRequest is the form of a blocktxs request that names transactions by short id under NewShortKey(header, Nonce): of
// whoever has the header and perhaps the transactions. The answer is that of the form by leaf.
type ShortRequest struct {
	ID    chain.BlockID
	Nonce uint64
	IDs   []uint64 // 1 to MaxShortIDs
}

// Append appends 65,535 u16 ‖ id 32 ‖ nonce u64 ‖ n u16 ‖ n × short id 6.
func (q *ShortRequest) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, shortForm)
	dst = append(dst, q.ID[:]...)
	dst = le.AppendUint64(dst, q.Nonce)
	dst = le.AppendUint16(dst, uint16(len(q.IDs)))
	return appendShort(dst, q.IDs)
}

// ByShortID reports whether a blocktxs request has the form of ShortRequest.
func ByShortID(b []byte) bool { return len(b) >= 2 && le.Uint16(b) == shortForm }

// DecodeShortRequest reads a request to its end.
func DecodeShortRequest(b []byte) (q ShortRequest, err error) {
	r := reader{b: b}
	if form := r.u16(); form != shortForm {
		return q, malformed("request for transactions by short id begins with %d, want %d", form, shortForm)
	}
	copy(q.ID[:], r.take(32))
	q.Nonce = r.u64()
	n := int(r.u16())
	if n < 1 || n > MaxShortIDs {
		return ShortRequest{}, malformed("request for %d transactions by short id, want 1 to %d", n, MaxShortIDs)
	}
	list := r.take(ShortIDSize * n)
	if err := r.end("blocktxs request"); err != nil {
		return ShortRequest{}, err
	}
	q.IDs = readShort(list)
	return q, nil
}

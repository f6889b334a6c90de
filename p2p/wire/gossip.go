package wire

import "quipu/chain"

// Limits of gossip (docs/protocol.md §2). Bytes.
const (
	SaltSize    = 8
	MaxTxBatch  = 64<<10 + chain.TxMaxSize // a whole message on the txs topic
	SmallBody   = 4 << 10                  // a body up to this length rides with its header
	MaxBlockMsg = chain.HeaderSize + SmallBody
	MaxBatchTxs = (MaxTxBatch - SaltSize) / chain.TxMinSize // 477
)

// AppendTxBatch appends a message of the txs topic: salt, then raws one after another. The random salt makes two
// batches of the same transactions two messages, since gossip names a message by the hash of its content. The caller
// keeps raws to at least one and the whole to MaxTxBatch.
func AppendTxBatch(dst []byte, salt [SaltSize]byte, raws [][]byte) []byte {
	dst = append(dst, salt[:]...)
	for _, raw := range raws {
		dst = append(dst, raw...)
	}
	return dst
}

// DecodeTxBatch returns 1 to MaxBatchTxs transaction encodings, each aliasing b. Only the decoding rules D1 to D4
// have been checked.
func DecodeTxBatch(b []byte) (raws [][]byte, err error) {
	if len(b) > MaxTxBatch {
		return nil, malformed("batch of %d bytes, at most %d", len(b), MaxTxBatch)
	}
	if len(b) <= SaltSize {
		return nil, malformed("batch of %d bytes holds no transaction", len(b))
	}
	return chain.SplitBody(b[SaltSize:])
}

// BlockMsg is a message of the blocks topic: what the work commits to, and the body if that is small.
type BlockMsg struct {
	Header chain.Header
	Body   []byte // header.body_size bytes if Whole, else nil
}

// Whole reports whether the body rides with the header: exactly if body_size ≤ SmallBody. An empty body is whole.
func (m *BlockMsg) Whole() bool { return m.Header.BodySize <= SmallBody }

// AppendBlockMsg appends the one valid form of a block's message. body is left out if body_size > SmallBody; otherwise
// it must be body_size bytes.
func AppendBlockMsg(dst []byte, h *chain.Header, body []byte) []byte {
	dst = h.Append(dst)
	if h.BodySize <= SmallBody {
		dst = append(dst, body...)
	}
	return dst
}

// DecodeBlockMsg reads a message of the blocks topic. Body aliases b; it is non-nil if it is whole, even if empty.
// Neither header rules nor tx_root have been checked.
func DecodeBlockMsg(b []byte) (BlockMsg, error) {
	var m BlockMsg
	if len(b) < chain.HeaderSize {
		return m, malformed("block message of %d bytes, want at least %d", len(b), chain.HeaderSize)
	}
	h, err := chain.DecodeHeader(b[:chain.HeaderSize])
	if err != nil {
		return m, err
	}
	body := b[chain.HeaderSize:]
	if h.BodySize > SmallBody {
		if len(body) > 0 {
			return m, malformed("body of %d bytes with a header that says %d: too large to ride along", len(body), h.BodySize)
		}
		return BlockMsg{Header: h}, nil
	}
	if len(body) != int(h.BodySize) {
		return m, malformed("body of %d bytes with a header that says %d", len(body), h.BodySize)
	}
	return BlockMsg{Header: h, Body: body[:len(body):len(body)]}, nil
}

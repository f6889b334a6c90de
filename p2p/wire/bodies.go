package wire

import (
	"io"

	"quipu/chain"
)

// Limits of bodies and blocktxs.
const (
	MaxBodies          = 128
	MaxBodiesRequest   = 1 + 2 + MaxBodies*32
	MaxAnswer          = 1 << 20 // of bodies: the server sends no further body after this; of blocktxs: the whole answer
	MaxLeaves          = 1024
	MaxBlockTxsRequest = 2 + MaxLeaves*32
)

// BodyCode is the first byte of each frame of a bodies answer.
type BodyCode uint8

const (
	BodyMissing BodyCode = 0 // not here
	BodyFollows BodyCode = 1 // the rest of the frame is the body
	BodyLater   BodyCode = 2 // this answer ends here: ask again for this id and those after it
)

// BodiesRequest asks for bodies by block id. The answer is one frame an id, in order (WriteBody, ReadBody), and ends
// early only with BodyLater.
type BodiesRequest struct {
	Flags uint8           // 0
	IDs   []chain.BlockID // 1 to MaxBodies
}

// Append appends flags u8 ‖ n u16 ‖ n × id 32.
func (q *BodiesRequest) Append(dst []byte) []byte {
	dst = append(dst, q.Flags)
	dst = le.AppendUint16(dst, uint16(len(q.IDs)))
	return appendIDs(dst, q.IDs)
}

// DecodeBodiesRequest reads a request to its end.
func DecodeBodiesRequest(b []byte) (BodiesRequest, error) {
	r := reader{b: b}
	flags, n := r.u8(), int(r.u16())
	if flags != 0 {
		return BodiesRequest{}, malformed("bodies request with flags %#x, want 0", flags)
	}
	if n < 1 || n > MaxBodies {
		return BodiesRequest{}, malformed("request for %d bodies, want 1 to %d", n, MaxBodies)
	}
	q := BodiesRequest{IDs: readIDs[chain.BlockID](&r, n)}
	if err := r.end("bodies request"); err != nil {
		return BodiesRequest{}, err
	}
	return q, nil
}

// AppendBody appends one frame of the answer, its head included. body is nil unless code is BodyFollows.
func AppendBody(dst []byte, code BodyCode, body []byte) []byte {
	dst = le.AppendUint32(dst, uint32(1+len(body)))
	dst = append(dst, byte(code))
	return append(dst, body...)
}

// WriteBody writes one frame of the answer, without a copy of the body. body is nil unless code is BodyFollows.
func WriteBody(w io.Writer, code BodyCode, body []byte) error {
	head := le.AppendUint32(make([]byte, 0, FrameHead+1), uint32(1+len(body)))
	_, err := w.Write(append(head, byte(code)))
	if err == nil && len(body) > 0 {
		_, err = w.Write(body)
	}
	return err
}

// ReadBody reads one frame of the answer to a request for the body of a header that says bodySize. A longer body is
// malformed; a shorter one is for chain.CheckBody and chain.CheckBlocks to judge.
func ReadBody(r io.Reader, bodySize uint32) (BodyCode, []byte, error) {
	b, err := ReadFrame(r, 1+int(min(bodySize, chain.MaxBody)))
	if err != nil {
		return 0, nil, err
	}
	return DecodeBody(b)
}

// DecodeBody reads the payload of one frame of the answer. The body aliases b; it is nil unless BodyFollows.
func DecodeBody(b []byte) (BodyCode, []byte, error) {
	if len(b) < 1 {
		return 0, nil, malformed("body frame without a code")
	}
	switch code := BodyCode(b[0]); code {
	case BodyFollows:
		return code, b[1:], nil
	case BodyMissing, BodyLater:
		if len(b) > 1 {
			return 0, nil, malformed("%d bytes after body code %d", len(b)-1, code)
		}
		return code, nil, nil
	default:
		return 0, nil, malformed("body code %d", code)
	}
}

// BlockTxsRequest asks for transactions by leaf.
type BlockTxsRequest struct {
	Leaves []chain.LeafHash // 1 to MaxLeaves
}

// Append appends n u16 ‖ n × leaf 32.
func (q *BlockTxsRequest) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, uint16(len(q.Leaves)))
	return appendIDs(dst, q.Leaves)
}

// DecodeBlockTxsRequest reads a request to its end.
func DecodeBlockTxsRequest(b []byte) (BlockTxsRequest, error) {
	r := reader{b: b}
	n := int(r.u16())
	if n < 1 || n > MaxLeaves {
		return BlockTxsRequest{}, malformed("request for %d transactions, want 1 to %d", n, MaxLeaves)
	}
	q := BlockTxsRequest{Leaves: readIDs[chain.LeafHash](&r, n)}
	if err := r.end("blocktxs request"); err != nil {
		return BlockTxsRequest{}, err
	}
	return q, nil
}

// AppendBlockTxs appends the answer: the encodings found, one after another. It stops before the one that would take
// the answer over MaxAnswer; whoever misses some asks again.
func AppendBlockTxs(dst []byte, raws [][]byte) []byte {
	left := MaxAnswer
	for _, raw := range raws {
		if left -= len(raw); left < 0 {
			break
		}
		dst = append(dst, raw...)
	}
	return dst
}

// DecodeBlockTxs reads an answer of up to asked transactions, each aliasing b. Only the decoding rules D1 to D4 have
// been checked: the asker compares leaves.
func DecodeBlockTxs(b []byte, asked int) ([][]byte, error) {
	if len(b) > MaxAnswer {
		return nil, malformed("blocktxs answer of %d bytes, at most %d", len(b), MaxAnswer)
	}
	raws, err := chain.SplitBody(b)
	if err != nil {
		return nil, err
	}
	if len(raws) > asked {
		return nil, malformed("%d transactions, asked for %d", len(raws), asked)
	}
	return raws, nil
}

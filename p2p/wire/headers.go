package wire

import "quipu/chain"

// Limits of headers.
const (
	MaxLocator        = 64
	MaxHeaders        = 2000
	MaxHeadersRequest = 1 + MaxLocator*32 + 2
	MaxHeadersAnswer  = MaxHeaders * chain.HeaderSize
)

// HeadersRequest has two forms. With a Locator it asks for up to Max headers after the first of its ids that the other
// side's best chain holds. Without one it asks for a range: up to Max headers of the chain that ends in Of, from height
// From on. Whoever has Of answers a range in the same way, whatever its own best chain is.
type HeadersRequest struct {
	Locator []chain.BlockID // 1 to MaxLocator, newest first; none for a range
	Of      chain.BlockID
	From    uint64 // 1 to chain.MaxHeight
	Max     uint16 // 1 to MaxHeaders
}

// Append appends n u8 ‖ n × id 32 ‖ max u16, or 0 u8 ‖ of 32 ‖ from u64 ‖ max u16 for a range.
func (q *HeadersRequest) Append(dst []byte) []byte {
	dst = append(dst, byte(len(q.Locator)))
	if len(q.Locator) == 0 {
		dst = append(dst, q.Of[:]...)
		dst = le.AppendUint64(dst, q.From)
	}
	dst = appendIDs(dst, q.Locator)
	return le.AppendUint16(dst, q.Max)
}

// DecodeHeadersRequest reads a request to its end.
func DecodeHeadersRequest(b []byte) (q HeadersRequest, err error) {
	r := reader{b: b}
	switch n := int(r.u8()); {
	case n > MaxLocator:
		return HeadersRequest{}, malformed("locator of %d ids, at most %d", n, MaxLocator)
	case n == 0:
		copy(q.Of[:], r.take(32))
		q.From = r.u64()
	default:
		q.Locator = readIDs[chain.BlockID](&r, n)
	}
	q.Max = r.u16()
	if err := r.end("headers request"); err != nil {
		return HeadersRequest{}, err
	}
	if q.Max < 1 || q.Max > MaxHeaders {
		return HeadersRequest{}, malformed("request for %d headers, want 1 to %d", q.Max, MaxHeaders)
	}
	if len(q.Locator) == 0 && (q.From < 1 || q.From > chain.MaxHeight) {
		return HeadersRequest{}, malformed("range of headers from height %d", q.From)
	}
	return q, nil
}

// AppendHeaders appends the answer: headers in ascending order, 200 bytes each. None is a valid answer.
func AppendHeaders(dst []byte, hs []chain.Header) []byte {
	for i := range hs {
		dst = hs[i].Append(dst)
	}
	return dst
}

// DecodeHeaders reads an answer of at most max headers. No header rule has been checked, nor that they link.
func DecodeHeaders(b []byte, max int) ([]chain.Header, error) {
	n := len(b) / chain.HeaderSize
	if n*chain.HeaderSize != len(b) {
		return nil, malformed("headers of %d bytes, want a multiple of %d", len(b), chain.HeaderSize)
	}
	if n > min(max, MaxHeaders) {
		return nil, malformed("%d headers, at most %d", n, min(max, MaxHeaders))
	}
	hs := make([]chain.Header, n)
	for i := range hs {
		var err error
		if hs[i], err = chain.DecodeHeader(b[i*chain.HeaderSize : (i+1)*chain.HeaderSize]); err != nil {
			return nil, err
		}
	}
	return hs, nil
}

package wire

import "quipu/chain"

// Limits of headers.
const (
	MaxLocator        = 64
	MaxHeaders        = 2000
	MaxHeadersRequest = 1 + MaxLocator*32 + 2
	MaxHeadersAnswer  = MaxHeaders * chain.HeaderSize
)

// HeadersRequest asks for up to Max headers after the first id of Locator that the other side's best chain holds.
type HeadersRequest struct {
	Locator []chain.BlockID // 1 to MaxLocator, newest first
	Max     uint16          // 1 to MaxHeaders
}

// Append appends n u8 ‖ n × id 32 ‖ max u16.
func (q *HeadersRequest) Append(dst []byte) []byte {
	dst = append(dst, byte(len(q.Locator)))
	dst = appendIDs(dst, q.Locator)
	return le.AppendUint16(dst, q.Max)
}

// DecodeHeadersRequest reads a request to its end.
func DecodeHeadersRequest(b []byte) (HeadersRequest, error) {
	r := reader{b: b}
	n := int(r.u8())
	if n < 1 || n > MaxLocator {
		return HeadersRequest{}, malformed("locator of %d ids, want 1 to %d", n, MaxLocator)
	}
	q := HeadersRequest{Locator: readIDs[chain.BlockID](&r, n), Max: r.u16()}
	if err := r.end("headers request"); err != nil {
		return HeadersRequest{}, err
	}
	if q.Max < 1 || q.Max > MaxHeaders {
		return HeadersRequest{}, malformed("request for %d headers, want 1 to %d", q.Max, MaxHeaders)
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

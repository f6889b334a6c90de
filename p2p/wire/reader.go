package wire

import "quipu/chain"

// reader takes fixed-size values from the front of b; after a short read all it returns is zero, and end says so.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if r.short || n > len(r.b) {
		r.short = true
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) u8() uint8 {
	if v := r.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if v := r.take(2); v != nil {
		return le.Uint16(v)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if v := r.take(4); v != nil {
		return le.Uint32(v)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if v := r.take(8); v != nil {
		return le.Uint64(v)
	}
	return 0
}

func (r *reader) work() chain.Work {
	var b [32]byte
	copy(b[:], r.take(32))
	return chain.WorkFromBytes(b)
}

// end refuses a value that was cut short or that bytes follow.
func (r *reader) end(what string) error {
	if r.short {
		return malformed("%s is cut short", what)
	}
	if len(r.b) > 0 {
		return malformed("%d bytes after the %s", len(r.b), what)
	}
	return nil
}

func appendWork(dst []byte, w *chain.Work) []byte {
	b := chain.WorkBytes(w)
	return append(dst, b[:]...)
}

// readIDs reads n 32-byte ids; nothing is allocated unless all their bytes are there.
func readIDs[T ~[32]byte](r *reader, n int) []T {
	b := r.take(32 * n)
	if b == nil {
		return nil
	}
	ids := make([]T, n)
	for i := range ids {
		ids[i] = T(b[32*i : 32*i+32])
	}
	return ids
}

func appendIDs[T ~[32]byte](dst []byte, ids []T) []byte {
	for i := range ids {
		dst = append(dst, ids[i][:]...)
	}
	return dst
}

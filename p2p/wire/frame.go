package wire

import (
	"encoding/binary"
	"io"
	"math"
)

var le = binary.LittleEndian

// FrameHead is the length of a frame's head: the payload's length, u32.
const FrameHead = 4

// frameStep is how much ReadFrame allocates on a claim alone; more only follows bytes that have arrived.
const frameStep = 16 << 10

// ReadFrame reads one frame and returns its payload of 0 to max bytes. A longer claim is malformed. A stream that
// ends before the first byte gives io.EOF, one that ends inside the frame io.ErrUnexpectedEOF. The buffer doubles as
// bytes arrive, so a liar who claims max and sends little costs little.
func ReadFrame(r io.Reader, max int) ([]byte, error) {
	var head [FrameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	claim := le.Uint32(head[:])
	if max < 0 || uint64(claim) > uint64(max) {
		return nil, malformed("frame of %d bytes, at most %d", claim, max)
	}
	n := int(claim)
	payload := make([]byte, 0, min(n, frameStep))
	for len(payload) < n {
		if len(payload) == cap(payload) {
			grown := make([]byte, len(payload), min(n, 2*cap(payload)))
			copy(grown, payload)
			payload = grown
		}
		got := len(payload)
		payload = payload[:cap(payload)]
		if _, err := io.ReadFull(r, payload[got:]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return payload, nil
}

// WriteFrame writes one frame in one Write, so that a deadline or a flush never parts head and payload.
func WriteFrame(w io.Writer, payload []byte) error {
	if uint64(len(payload)) > math.MaxUint32 {
		return malformed("frame of %d bytes", len(payload))
	}
	if len(payload) <= 4096 {
		_, err := w.Write(AppendFrame(make([]byte, 0, FrameHead+len(payload)), payload))
		return err
	}
	_, err := w.Write(le.AppendUint32(nil, uint32(len(payload)))) // a large one isn't copied
	if err == nil {
		_, err = w.Write(payload)
	}
	return err
}

// AppendFrame appends the frame of payload to dst.
func AppendFrame(dst, payload []byte) []byte {
	dst = le.AppendUint32(dst, uint32(len(payload)))
	return append(dst, payload...)
}

package bip340

import (
	"bytes"
	"testing"
)

func TestTaggedHash(t *testing.T) {
	r := newRand(30)
	tag := NewTag("quipu/test")
	for _, size := range []int{0, 1, 63, 64, 200, 447, 448, 449, 512, 5000} {
		msg := make([]byte, size)
		for i := range msg {
			msg[i] = byte(r.Uint32())
		}
		want := [32]byte(refTagged("quipu/test", msg))
		cut := size / 3
		for _, parts := range [][][]byte{{msg}, {msg[:cut], msg[cut:]}, {nil, msg[:cut], {}, msg[cut:], nil}} {
			if got := tag.Sum(parts...); got != want {
				t.Errorf("size %d in %d parts: %x, want %x", size, len(parts), got, want)
			}
		}
		if got := TaggedHash("quipu/test", msg); got != want {
			t.Errorf("TaggedHash, size %d: %x, want %x", size, got, want)
		}
	}
	if tag.Sum() != TaggedHash("quipu/test") || tag.Sum() == TaggedHash("quipu/tesu") {
		t.Error("no parts, or the tag, are not handled")
	}
}

func TestSumAllocatesNothing(t *testing.T) {
	tag := NewTag("quipu/test")
	a, b := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 416)
	var sink [32]byte
	if n := testing.AllocsPerRun(100, func() { sink = tag.Sum(a, b) }); n != 0 {
		t.Errorf("%v allocations a sum of 448 bytes, want 0", n)
	}
	_ = sink
}

package wire

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"quipu/chain"
)

func TestFrame(t *testing.T) {
	for _, n := range []int{0, 1, frameStep - 1, frameStep, frameStep + 1, 3*frameStep + 5, MaxAnswer} {
		payload := bytes.Repeat([]byte{7}, n)
		var buf bytes.Buffer
		if err := WriteFrame(&buf, payload); err != nil {
			t.Fatal(err)
		}
		buf.WriteString("next")
		got, err := ReadFrame(iotest.HalfReader(&buf), MaxAnswer)
		if err != nil || !bytes.Equal(got, payload) || cap(got) > n+frameStep {
			t.Errorf("frame of %d bytes: %d bytes, capacity %d, %v", n, len(got), cap(got), err)
		}
		if buf.String() != "next" {
			t.Errorf("frame of %d bytes: %d bytes left, want 4", n, buf.Len())
		}
	}
}

func TestFrameRefused(t *testing.T) {
	full := AppendFrame(nil, bytes.Repeat([]byte{7}, 2*frameStep))
	for n := range len(full) {
		want := io.ErrUnexpectedEOF
		if n == 0 {
			want = io.EOF
		}
		if n > 40 && n%997 != 0 {
			continue
		}
		if _, err := ReadFrame(bytes.NewReader(full[:n]), MaxAnswer); err != want {
			t.Errorf("cut after %d bytes: %v, want %v", n, err, want)
		}
	}
	for _, v := range []struct {
		claim uint32
		max   int
	}{{11, 10}, {1, 0}, {1<<32 - 1, MaxAnswer}, {0, -1}} {
		_, err := ReadFrame(bytes.NewReader(le.AppendUint32(nil, v.claim)), v.max)
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("claim of %d where %d are allowed: %v", v.claim, v.max, err)
		}
	}
	broken := errors.New("connection reset")
	if _, err := ReadFrame(io.MultiReader(bytes.NewReader(full[:9]), iotest.ErrReader(broken)), MaxAnswer); err != broken {
		t.Errorf("got %v, want the connection's own error", err)
	}
}

// offers records the largest buffer a reader was offered: what had been allocated before these bytes arrived.
type offers struct {
	r       io.Reader
	largest int
}

func (o *offers) Read(p []byte) (int, error) {
	o.largest = max(o.largest, len(p))
	return o.r.Read(p)
}

// TestFrameClaim: a liar who claims 1 MiB and sends n bytes makes us allocate at most max(16 KiB, n) more.
func TestFrameClaim(t *testing.T) {
	for _, sent := range []int{0, 10, frameStep, 5 * frameStep} {
		o := offers{r: bytes.NewReader(append(le.AppendUint32(nil, MaxAnswer), make([]byte, sent)...))}
		if _, err := ReadFrame(&o, MaxAnswer); err != io.ErrUnexpectedEOF {
			t.Fatal(err)
		}
		if o.largest > max(frameStep, sent) {
			t.Errorf("%d bytes sent, a buffer of %d offered", sent, o.largest)
		}
	}
}

func TestReadBody(t *testing.T) {
	var buf bytes.Buffer
	body := exampleTx()
	for _, err := range []error{WriteBody(&buf, BodyMissing, nil), WriteBody(&buf, BodyFollows, body), WriteBody(&buf, BodyLater, nil)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	sent := buf.Bytes()
	r := bytes.NewReader(sent)
	for _, want := range []BodyCode{BodyMissing, BodyFollows, BodyLater} {
		code, got, err := ReadBody(r, uint32(len(body)))
		if err != nil || code != want || (want == BodyFollows) != bytes.Equal(got, body) {
			t.Errorf("code %d: got %d, %d bytes, %v", want, code, len(got), err)
		}
	}
	if _, _, err := ReadBody(r, 10); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	if _, _, err := ReadBody(bytes.NewReader(sent[5:]), uint32(len(body)-1)); !errors.Is(err, ErrMalformed) {
		t.Errorf("a body longer than its header says: %v", err)
	}
	// What a header of another network's limit says bounds nothing beyond the format's own limit.
	claim := le.AppendUint32(nil, chain.MaxBody+2)
	if _, _, err := ReadBody(bytes.NewReader(claim), 1<<32-1); !errors.Is(err, ErrMalformed) {
		t.Errorf("a body over the format's limit: %v", err)
	}
}

package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"runtime"
	"testing"

	"quipu/chain"
)

// fuzz holds a decoder to three things on any bytes: what it takes encodes to the same bytes, what it refuses is the
// sender's fault, and what it allocates is bounded by what was sent.
func fuzz(f *testing.F, name string) {
	c := codecOf(f, name)
	for _, e := range examples() {
		if e.Codec == name {
			b, _ := hex.DecodeString(e.Hex)
			f.Add(b)
		}
	}
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 300))
	f.Fuzz(func(t *testing.T, b []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		again, err := c.again(b)
		runtime.ReadMemStats(&after)
		// Decoding and encoding again; an append doubles at most. The slack is what the test's own machinery may use.
		if used, limit := after.TotalAlloc-before.TotalAlloc, uint64(256<<10+16*len(b)); used > limit {
			t.Errorf("%d bytes allocated for %d bytes", used, len(b))
		}
		if err != nil {
			var rule *chain.RuleError
			short := name == "frame" && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF))
			if !short && !errors.As(err, &rule) {
				t.Errorf("%v blames nobody", err)
			}
			return
		}
		if !bytes.Equal(again, b) {
			t.Errorf("decoded %x, encoded %x", b, again)
		}
	})
}

func FuzzTxBatch(f *testing.F)         { fuzz(f, "tx batch") }
func FuzzBlockMsg(f *testing.F)        { fuzz(f, "block message") }
func FuzzStatus(f *testing.F)          { fuzz(f, "status") }
func FuzzHeadersRequest(f *testing.F)  { fuzz(f, "headers request") }
func FuzzHeaders(f *testing.F)         { fuzz(f, "headers answer") }
func FuzzBodiesRequest(f *testing.F)   { fuzz(f, "bodies request") }
func FuzzBody(f *testing.F)            { fuzz(f, "bodies answer") }
func FuzzBlockTxsRequest(f *testing.F) { fuzz(f, "blocktxs request") }
func FuzzBlockTxs(f *testing.F)        { fuzz(f, "blocktxs answer") }
func FuzzTxStatusRequest(f *testing.F) { fuzz(f, "txstatus request") }
func FuzzTxStatuses(f *testing.F)      { fuzz(f, "txstatus answer") }
func FuzzPeersRequest(f *testing.F)    { fuzz(f, "peers request") }
func FuzzPeers(f *testing.F)           { fuzz(f, "peers answer") }
func FuzzPoolRequest(f *testing.F)     { fuzz(f, "pool request") }
func FuzzPool(f *testing.F)            { fuzz(f, "pool answer") }
func FuzzProofRequest(f *testing.F)    { fuzz(f, "proof request") }
func FuzzAccountProof(f *testing.F)    { fuzz(f, "account proof") }
func FuzzTxProof(f *testing.F)         { fuzz(f, "tx proof") }
func FuzzCompactRequest(f *testing.F)  { fuzz(f, "compact request") }
func FuzzCompact(f *testing.F)         { fuzz(f, "compact answer") }
func FuzzIndexRequest(f *testing.F)    { fuzz(f, "blocktxs by place request") }
func FuzzShortRequest(f *testing.F)    { fuzz(f, "blocktxs by short id request") }
func FuzzIndexTxs(f *testing.F)        { fuzz(f, "blocktxs by place answer") }
func FuzzStateRequest(f *testing.F)    { fuzz(f, "state request") }
func FuzzState(f *testing.F)           { fuzz(f, "state answer") }
func FuzzFrame(f *testing.F)           { fuzz(f, "frame") }

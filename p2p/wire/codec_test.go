package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"quipu/chain"
)

// refused checks that b is refused and that its sender is to blame.
func refused(t *testing.T, c codec, what string, b []byte) {
	t.Helper()
	_, err := c.again(b)
	var rule *chain.RuleError
	if !errors.As(err, &rule) {
		t.Errorf("%s, %s: got %v, want a RuleError", c.name, what, err)
	}
}

// kept checks that b decodes and encodes again to itself.
func kept(t *testing.T, c codec, what string, b []byte) {
	t.Helper()
	again, err := c.again(b)
	if err != nil || !bytes.Equal(again, b) {
		t.Errorf("%s, %s: %v, same bytes %v", c.name, what, err, bytes.Equal(again, b))
	}
}

// TestCutAndTrailing: every strict prefix of every example is refused, and so is one byte more. Where the length of a
// message is what says how many items it has, the cuts between items are other messages and are left out.
func TestCutAndTrailing(t *testing.T) {
	for _, e := range examples() {
		c := codecOf(t, e.Codec)
		b, _ := hex.DecodeString(e.Hex)
		open := e.Codec == "bodies answer" && b[0] == byte(BodyFollows) || e.Codec == "frame"
		for n := range b {
			between := open || e.Codec == "pool answer" && n == 1 || e.Codec == "headers answer" && n == 0 || (e.Codec == "blocktxs answer" || e.Codec == "blocktxs by place answer") && n == 0
			if !between {
				refused(t, c, e.Says+", cut", b[:n])
			}
		}
		if !open && e.Codec != "pool request" { // its filter may be longer
			refused(t, c, e.Says+", one byte more", append(bytes.Clone(b), 1))
		}
	}
}

// TestLimits: each codec takes as many items as its limit says and not one more.
func TestLimits(t *testing.T) {
	tx := exampleTx()
	widest := chain.Tx{Outputs: make([]chain.Output, chain.MaxOutputs), Memo: make([]byte, chain.MaxMemo)}
	big := widest.Append(nil)
	var salt [SaltSize]byte

	batch := codecOf(t, "tx batch")
	kept(t, batch, "most transactions", AppendTxBatch(nil, salt, repeat(tx, MaxBatchTxs)))
	refused(t, batch, "one transaction too many", AppendTxBatch(nil, salt, repeat(tx, MaxBatchTxs+1)))
	kept(t, batch, "the largest transaction", AppendTxBatch(nil, salt, [][]byte{big}))
	refused(t, batch, "no transaction", salt[:])
	refused(t, batch, "a transaction version of tomorrow", append(salt[:], 2))

	block := codecOf(t, "block message")
	for _, size := range []uint32{0, 159, SmallBody} {
		h := exampleHeader(size)
		kept(t, block, "small body", AppendBlockMsg(nil, &h, make([]byte, size)))
		refused(t, block, "body one byte longer than the header says", append(h.Append(nil), make([]byte, size+1)...))
		if size > 0 {
			refused(t, block, "small body left out", h.Append(nil))
			refused(t, block, "body one byte shorter than the header says", append(h.Append(nil), make([]byte, size-1)...))
		}
	}
	h := exampleHeader(SmallBody + 1)
	kept(t, block, "large body left out", h.Append(nil))
	refused(t, block, "large body rides along", append(h.Append(nil), make([]byte, SmallBody+1)...))

	headersRequest := codecOf(t, "headers request")
	for _, v := range []struct {
		ids int
		max uint16
		ok  bool
	}{{1, 1, true}, {MaxLocator, MaxHeaders, true}, {0, 1, false}, {MaxLocator + 1, 1, false}, {1, 0, false}, {1, MaxHeaders + 1, false}} {
		q := HeadersRequest{Locator: make([]chain.BlockID, v.ids), Max: v.max}
		check(t, v.ok, headersRequest, q.Append(nil))
	}
	for _, v := range []struct {
		from uint64
		max  uint16
		ok   bool
	}{{1, 1, true}, {chain.MaxHeight, MaxHeaders, true}, {0, 1, false}, {chain.MaxHeight + 1, 1, false}, {1, 0, false}, {1, MaxHeaders + 1, false}} {
		q := HeadersRequest{From: v.from, Max: v.max}
		check(t, v.ok, headersRequest, q.Append(nil))
	}
	headers := codecOf(t, "headers answer")
	check(t, true, headers, AppendHeaders(nil, make([]chain.Header, MaxHeaders)))
	check(t, false, headers, AppendHeaders(nil, make([]chain.Header, MaxHeaders+1)))
	if _, err := DecodeHeaders(make([]byte, 3*chain.HeaderSize), 2); err == nil {
		t.Error("three headers taken where two were asked for")
	}

	bodies := codecOf(t, "bodies request")
	for n, ok := range map[int]bool{0: false, 1: true, MaxBodies: true, MaxBodies + 1: false} {
		q := BodiesRequest{IDs: make([]chain.BlockID, n)}
		check(t, ok, bodies, q.Append(nil))
		q.Flags = 1
		check(t, false, bodies, q.Append(nil))
	}
	body := codecOf(t, "bodies answer")
	check(t, true, body, []byte{byte(BodyFollows)})
	refused(t, body, "no code", nil)
	refused(t, body, "unknown code", []byte{3})
	refused(t, body, "bytes after code 0", []byte{0, 0})
	refused(t, body, "bytes after code 2", []byte{2, 0})

	blockTxs := codecOf(t, "blocktxs request")
	for n, ok := range map[int]bool{0: false, 1: true, MaxLeaves: true, MaxLeaves + 1: false} {
		q := BlockTxsRequest{Leaves: make([]chain.LeafHash, n)}
		check(t, ok, blockTxs, q.Append(nil))
	}
	answer := codecOf(t, "blocktxs answer")
	check(t, true, answer, bytes.Repeat(big, MaxAnswer/len(big)))
	check(t, false, answer, bytes.Repeat(big, MaxAnswer/len(big)+1))
	if got := AppendBlockTxs([]byte("before"), repeat(big, 200)); len(got) != 6+MaxAnswer/len(big)*len(big) {
		t.Errorf("an answer of too much is %d bytes long", len(got))
	}
	if _, err := DecodeBlockTxs(bytes.Repeat(tx, 3), 2); err == nil {
		t.Error("three transactions taken where two were asked for")
	}

	askPeers := codecOf(t, "peers request")
	for n, ok := range map[int]bool{0: false, 1: true, MaxPeers: true, MaxPeers + 1: false} {
		check(t, ok, askPeers, AppendPeersRequest(nil, n))
	}
	refused(t, askPeers, "empty", nil)
	peers := codecOf(t, "peers answer")
	broad := PeerAddrs{ID: make([]byte, MaxPeerID), Addrs: repeat(make([]byte, MaxPeerAddr), MaxPeerAddrs)}
	most := AppendPeers(nil, slices.Repeat([]PeerAddrs{broad}, MaxPeers+1))
	kept(t, peers, "largest", most)
	if len(most) != MaxPeersAnswer {
		t.Errorf("longest peers answer is %d bytes, MaxPeersAnswer is %d", len(most), MaxPeersAnswer)
	}
	if _, err := DecodePeers(most, MaxPeers-1); err == nil {
		t.Error("64 peers taken where 63 were asked for")
	}
	refused(t, peers, "65 peers", append([]byte{MaxPeers + 1}, most[1:]...))
	refused(t, peers, "an empty id", []byte{1, 0, 1, 1, 4})
	refused(t, peers, "an id over the limit", append([]byte{1, MaxPeerID + 1}, make([]byte, 300)...))
	refused(t, peers, "no address", []byte{1, 1, 9, 0, 0})
	refused(t, peers, "an empty address", []byte{1, 1, 9, 1, 0})
	refused(t, peers, "five addresses", []byte{1, 1, 9, 5, 1, 4, 1, 4, 1, 4, 1, 4, 1, 4})
	refused(t, peers, "an address over the limit", append([]byte{1, 1, 9, 1, MaxPeerAddr + 1}, make([]byte, MaxPeerAddr+1)...))
	over := PeerAddrs{ID: []byte{9}, Addrs: [][]byte{make([]byte, MaxPeerAddr+1)}}
	if got := AppendPeers(nil, []PeerAddrs{over, {ID: nil, Addrs: [][]byte{{4}}}}); !bytes.Equal(got, []byte{0}) {
		t.Errorf("what is over the limits is sent: %x", got)
	}

	ask := codecOf(t, "txstatus request")
	for n, ok := range map[int]bool{0: false, 1: true, MaxTxIDs: true, MaxTxIDs + 1: false} {
		check(t, ok, ask, AppendTxStatusRequest(nil, make([]chain.TxID, n)))
	}
	says := codecOf(t, "txstatus answer")
	longest := make([]TxStatus, MaxTxIDs+1)
	for i := range longest {
		longest[i].Reason = strings.Repeat("x", MaxReason)
	}
	check(t, true, says, AppendTxStatuses(nil, longest[:MaxTxIDs]))
	check(t, false, says, AppendTxStatuses(nil, longest))
	if n := len(AppendTxStatuses(nil, longest[:MaxTxIDs])); n != MaxTxStatusAnswer {
		t.Errorf("longest txstatus answer is %d bytes, MaxTxStatusAnswer is %d", n, MaxTxStatusAnswer)
	}
	if _, err := DecodeTxStatuses(AppendTxStatuses(nil, longest[:2]), 3); err == nil {
		t.Error("two entries taken where three were asked for")
	}
}

func TestStatusCorruptions(t *testing.T) {
	c := codecOf(t, "status")
	full := exampleStatus()
	full.Ranges, full.Pool = nil, nil
	for i := range uint64(MaxRanges) {
		full.Ranges = append(full.Ranges, Range{10 * i, 10*i + 8})
	}
	for i := range MaxPool {
		full.Pool = append(full.Pool, chain.LeafHash{byte(i >> 8), byte(i)})
	}
	kept(t, c, "largest", full.Append(nil))
	if n := len(full.Append(nil)); n != MaxStatus {
		t.Errorf("largest status is %d bytes, MaxStatus is %d", n, MaxStatus)
	}
	bare := Status{}
	kept(t, c, "smallest", bare.Append(nil))

	ranges := func(rs ...Range) func(*Status) { return func(s *Status) { s.Ranges = rs } }
	for what, change := range map[string]func(*Status){
		"best height over 2^32−1":  func(s *Status) { s.BestHeight = chain.MaxHeight + 1 },
		"tip height over 2^32−1":   func(s *Status) { s.TipHeight = chain.MaxHeight + 1 },
		"range backwards":          ranges(Range{5, 4}),
		"range over 2^32−1":        ranges(Range{5, chain.MaxHeight + 1}),
		"range to 2^64−1, another": ranges(Range{5, 1<<64 - 1}, Range{0, 1}),
		"ranges that touch":        ranges(Range{1, 4}, Range{5, 6}),
		"ranges that overlap":      ranges(Range{1, 4}, Range{3, 6}),
		"ranges that descend":      ranges(Range{7, 9}, Range{1, 2}),
	} {
		s := exampleStatus()
		change(&s)
		refused(t, c, what, s.Append(nil))
	}

	s := exampleStatus()
	s.Ranges = nil
	b := s.Append(nil)
	at := statusHead + 1 // of the pool's length
	patch := func(what string, edit func(b []byte) []byte) { refused(t, c, what, edit(bytes.Clone(b))) }
	patch("clock of 2^53 ms", func(b []byte) []byte { le.PutUint64(b[statusHead-8:], chain.TimeLimit); return b })
	patch("65 ranges", func(b []byte) []byte { b[statusHead] = MaxRanges + 1; return b })
	patch("1025 leaves", func(b []byte) []byte {
		le.PutUint16(b[at:], MaxPool+1)
		return append(b, make([]byte, 32*MaxPool)...)
	})
	patch("leaves descend", func(b []byte) []byte { b[at+2] = 0xff; return b })
	patch("a leaf twice", func(b []byte) []byte { copy(b[at+2+32:], b[at+2:at+2+32]); return b })
}

// TestStatusAppend: whatever a caller puts in, what it sends is valid, since an honest node must never be blamed.
func TestStatusAppend(t *testing.T) {
	s := exampleStatus()
	s.Clock = 1<<64 - 1
	s.Pool = []chain.LeafHash{{3}, {1}, {3}, {2}}
	s.Ranges = nil
	for i := range uint64(MaxRanges + 1) {
		s.Ranges = append(s.Ranges, Range{2 * i, 2 * i})
	}
	got, err := DecodeStatus(s.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Pool) != 3 || len(got.Ranges) != MaxRanges || got.Clock != chain.TimeLimit-1 || s.Pool[0] != (chain.LeafHash{3}) {
		t.Errorf("got %d leaves, %d ranges, clock %d; the caller's pool starts with %s", len(got.Pool), len(got.Ranges), got.Clock, s.Pool[0])
	}
}

func TestTxStatusCorruptions(t *testing.T) {
	c := codecOf(t, "txstatus answer")
	b := AppendTxStatuses(nil, []TxStatus{{State: TxVerified, Took: 9, Reason: "why"}})
	kept(t, c, "valid", b)
	for what, edit := range map[string]func(b []byte){
		"unknown state":               func(b []byte) { b[1] = 4 },
		"height without block":        func(b []byte) { b[6] = 1 },
		"block without being in one":  func(b []byte) { b[10] = 1 },
		"reason longer than the rest": func(b []byte) { b[42]++ },
		"reason shorter than it is":   func(b []byte) { b[42]-- },
		"reason with a control byte":  func(b []byte) { b[43] = '\n' },
		"reason with a byte over 7e":  func(b []byte) { b[43] = 0x7f },
		"more entries than there are": func(b []byte) { b[0] = 2 },
		"fewer entries than there":    func(b []byte) { b[0] = 0 },
	} {
		e := bytes.Clone(b)
		edit(e)
		refused(t, c, what, e)
	}
	long := AppendTxStatuses(nil, []TxStatus{{Reason: strings.Repeat("x", MaxReason)}})
	long[42] = MaxReason + 1
	refused(t, c, "reason of 65 bytes", append(long, 'x'))

	got, err := DecodeTxStatuses(AppendTxStatuses(nil, []TxStatus{
		{State: TxRejected, Height: 5, Block: chain.BlockID{1}, Reason: "a\nb\x80" + strings.Repeat("x", 99)},
	}), 1)
	if err != nil {
		t.Fatal(err)
	}
	if want := (TxStatus{State: TxRejected, Reason: "ab" + strings.Repeat("x", 62)}); got[0] != want {
		t.Errorf("got %+v, want %+v", got[0], want)
	}
}

func TestNames(t *testing.T) {
	var id chain.NetworkID
	copy(id[:], []byte{0xde, 0xad, 0xbe, 0xef, 0x11})
	if got := ProtocolID(id, NameStatus); got != "/quipu/deadbeef/status/1" {
		t.Error(got)
	}
	if got := Topic(id, TopicTxs); got != "/quipu/deadbeef/txs/1" {
		t.Error(got)
	}
}

func check(t *testing.T, ok bool, c codec, b []byte) {
	t.Helper()
	if ok {
		kept(t, c, "in the limit", b)
	} else {
		refused(t, c, "over the limit", b)
	}
}

func repeat(raw []byte, n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = raw
	}
	return out
}

package wire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"quipu/chain"
	"quipu/chain/statetree"
)

var update = flag.Bool("update", false, "write testdata/messages.json anew")

// codec is one decoder and its encoder, so that tables and fuzz targets share them: again decodes b and encodes what
// came out.
type codec struct {
	name  string
	again func(b []byte) ([]byte, error)
}

var codecs = []codec{
	{"tx batch", func(b []byte) ([]byte, error) {
		raws, err := DecodeTxBatch(b)
		if err != nil {
			return nil, err
		}
		return AppendTxBatch(nil, [SaltSize]byte(b), raws), nil
	}},
	{"block message", func(b []byte) ([]byte, error) {
		m, err := DecodeBlockMsg(b)
		if err != nil {
			return nil, err
		}
		return AppendBlockMsg(nil, &m.Header, m.Body), nil
	}},
	{"status", func(b []byte) ([]byte, error) {
		s, err := DecodeStatus(b)
		if err != nil {
			return nil, err
		}
		return s.Append(nil), nil
	}},
	{"headers request", func(b []byte) ([]byte, error) {
		q, err := DecodeHeadersRequest(b)
		if err != nil {
			return nil, err
		}
		return q.Append(nil), nil
	}},
	{"headers answer", func(b []byte) ([]byte, error) {
		hs, err := DecodeHeaders(b, MaxHeaders)
		if err != nil {
			return nil, err
		}
		return AppendHeaders(nil, hs), nil
	}},
	{"bodies request", func(b []byte) ([]byte, error) {
		q, err := DecodeBodiesRequest(b)
		if err != nil {
			return nil, err
		}
		return q.Append(nil), nil
	}},
	{"bodies answer", func(b []byte) ([]byte, error) {
		code, body, err := DecodeBody(b)
		if err != nil {
			return nil, err
		}
		return AppendBody(nil, code, body)[FrameHead:], nil
	}},
	{"blocktxs request", func(b []byte) ([]byte, error) {
		q, err := DecodeBlockTxsRequest(b)
		if err != nil {
			return nil, err
		}
		return q.Append(nil), nil
	}},
	{"blocktxs answer", func(b []byte) ([]byte, error) {
		raws, err := DecodeBlockTxs(b, MaxLeaves)
		if err != nil {
			return nil, err
		}
		return AppendBlockTxs(nil, raws), nil
	}},
	{"txstatus request", func(b []byte) ([]byte, error) {
		ids, err := DecodeTxStatusRequest(b)
		if err != nil {
			return nil, err
		}
		return AppendTxStatusRequest(nil, ids), nil
	}},
	{"txstatus answer", func(b []byte) ([]byte, error) {
		n := 0
		if len(b) > 0 {
			n = int(b[0])
		}
		all, err := DecodeTxStatuses(b, n)
		if err != nil {
			return nil, err
		}
		return AppendTxStatuses(nil, all), nil
	}},
	{"peers request", func(b []byte) ([]byte, error) {
		max, err := DecodePeersRequest(b)
		if err != nil {
			return nil, err
		}
		return AppendPeersRequest(nil, max), nil
	}},
	{"peers answer", func(b []byte) ([]byte, error) {
		all, err := DecodePeers(b, MaxPeers)
		if err != nil {
			return nil, err
		}
		return AppendPeers(nil, all), nil
	}},
	{"pool request", func(b []byte) ([]byte, error) {
		q, err := DecodePoolRequest(b)
		if err != nil {
			return nil, err
		}
		return q.Append(nil), nil
	}},
	{"pool answer", func(b []byte) ([]byte, error) {
		code, raws, err := DecodePool(b)
		if err != nil {
			return nil, err
		}
		return AppendPool(nil, code, raws), nil
	}},
	{"proof request", func(b []byte) ([]byte, error) {
		q, err := DecodeProofRequest(b)
		if err != nil {
			return nil, err
		}
		return q.Append(nil), nil
	}},
	{"account proof", func(b []byte) ([]byte, error) {
		code, p, err := DecodeAccountProof(b)
		if err != nil {
			return nil, err
		}
		return AppendAccountProof(nil, code, &p), nil
	}},
	{"tx proof", func(b []byte) ([]byte, error) {
		code, p, err := DecodeTxProof(b)
		if err != nil {
			return nil, err
		}
		return AppendTxProof(nil, code, &p), nil
	}},
	{"compact request", func(b []byte) ([]byte, error) {
		q, err := DecodeCompactRequest(b)
		if err != nil {
			return nil, err
		}
		return q.Append(nil), nil
	}},
	{"compact answer", func(b []byte) ([]byte, error) {
		n := 0 // of a block of as many transactions as it lists: what the header says is another test's
		if len(b) >= compactHead {
			n = int(le.Uint16(b[1:]))
			if at := 3 + ShortIDSize*n; len(b) >= at+2 {
				n += int(le.Uint16(b[at:]))
			}
		}
		code, c, err := DecodeCompact(b, uint32(n))
		if err != nil {
			return nil, err
		}
		if c == nil {
			return []byte{byte(code)}, nil
		}
		return AppendCompact(nil, c), nil
	}},
	{"blocktxs by place request", func(b []byte) ([]byte, error) {
		q, err := DecodeBlockIndexRequest(b)
		if err != nil {
			return nil, err
		}
		return q.Append(nil), nil
	}},
	{"blocktxs by short id request", func(b []byte) ([]byte, error) {
		q, err := DecodeShortRequest(b)
		if err != nil {
			return nil, err
		}
		return q.Append(nil), nil
	}},
	{"blocktxs by place answer", func(b []byte) ([]byte, error) {
		all := &BlockIndexRequest{Indexes: make([]uint16, MaxBlockTxCount)}
		for i := range all.Indexes {
			all.Indexes[i] = uint16(i)
		}
		txs, err := DecodeBlockIndexTxs(b, all)
		if err != nil {
			return nil, err
		}
		return AppendBlockIndexTxs(nil, txs), nil
	}},
	{"state request", func(b []byte) ([]byte, error) {
		q, err := DecodeStateRequest(b)
		if err != nil {
			return nil, err
		}
		return q.Append(nil), nil
	}},
	{"state answer", func(b []byte) ([]byte, error) {
		if len(b) > 0 && b[0] == stateList {
			list, err := DecodeSnapshots(b)
			if err != nil {
				return nil, err
			}
			return AppendSnapshots(nil, list), nil
		}
		r, err := DecodeState(b)
		if err != nil {
			return nil, err
		}
		if r == nil {
			return StateMissing(), nil
		}
		return AppendStateRange(nil, statetree.AppendRange(nil, r.Leaves, r.proof)), nil
	}},
	{"frame", func(b []byte) ([]byte, error) {
		r := bytes.NewReader(b)
		payload, err := ReadFrame(r, MaxAnswer)
		if err != nil {
			return nil, err
		}
		return append(AppendFrame(nil, payload), b[len(b)-r.Len():]...), nil // what follows is the next frame
	}},
}

func codecOf(t testing.TB, name string) codec {
	for _, c := range codecs {
		if c.name == name {
			return c
		}
	}
	t.Fatalf("no codec %q", name)
	return codec{}
}

// example is one message of testdata/messages.json, which docs/protocol.md shows.
type example struct {
	Codec string `json:"codec"`
	Says  string `json:"says"`
	Hex   string `json:"hex"`
}

// fill is n bytes of b: a value that is easy to find in hex.
func fill[T ~[32]byte](b byte) (v T) {
	for i := range v {
		v[i] = b
	}
	return v
}

func exampleTx() []byte {
	t := chain.Tx{From: fill[chain.Account](0xf0), Nonce: 7, Fee: 159,
		Outputs: []chain.Output{{To: fill[chain.Account](0x70), Amount: 100_000_000}}}
	for i := range t.Signature {
		t.Signature[i] = 0x51
	}
	return t.Append(nil)
}

func exampleHeader(bodySize uint32) chain.Header {
	return chain.Header{Version: 1, Height: 258, Parent: fill[chain.BlockID](0xa1), HistoryRoot: fill[chain.Hash](0xa2),
		Time: 1_700_000_000_000, TxRoot: fill[chain.Hash](0xa3), StateRoot: fill[chain.Hash](0xa4), Miner: fill[chain.Account](0xa5),
		TxCount: bodySize / chain.TxMinSize, BodySize: bodySize, Bits: 0x1f00ffff, Nonce: 99}
}

func exampleStatus() Status {
	return Status{
		BestID: fill[chain.BlockID](0xb1), BestHeight: 260, BestWork: chain.Work{0x20000},
		TipID: fill[chain.BlockID](0xb2), TipHeight: 258, TipWork: chain.Work{0x1fe00},
		Version: 1, Clock: 1_700_000_000_123,
		Ranges: []Range{{1, 258}, {260, 260}},
		Pool:   []chain.LeafHash{fill[chain.LeafHash](0x1e), fill[chain.LeafHash](0x2e)},
	}
}

// examplePeer listens on TCP and QUIC at 203.0.113.7, port 4820.
func examplePeer() PeerAddrs {
	id := fill[chain.Hash](0xe1)
	return PeerAddrs{ID: append([]byte{0, 36, 8, 1, 18, 32}, id[:]...), Addrs: [][]byte{
		{0x04, 203, 0, 113, 7, 0x06, 0x12, 0xd4},
		{0x04, 203, 0, 113, 7, 0x91, 0x02, 0x12, 0xd4, 0xcd, 0x03},
	}}
}

func exampleBlockProof(bodySize uint32) chain.BlockProof {
	return chain.BlockProof{Header: exampleHeader(bodySize), Work: chain.Work{0x1fe00}, Path: []chain.Hash{fill[chain.Hash](0xc1), fill[chain.Hash](0xc2)}}
}

func exampleAccountProof() chain.AccountProof {
	return chain.AccountProof{Block: exampleBlockProof(0), Exists: true, State: chain.AccountState{Balance: 100_000_000, Nonce: 7},
		Proof: statetree.Proof{Siblings: []statetree.Hash{fill[statetree.Hash](0x91), fill[statetree.Hash](0x92)}}}
}

func exampleTxProof() chain.TxProof {
	return chain.TxProof{Block: exampleBlockProof(318), Raw: exampleTx(), Index: 1, Path: []chain.Hash{fill[chain.Hash](0x93)}}
}

func examples() []example {
	status, whole, large := exampleStatus(), exampleHeader(159), exampleHeader(159*100)
	empty := exampleHeader(0)
	headersRequest := HeadersRequest{Locator: []chain.BlockID{fill[chain.BlockID](0xb1), fill[chain.BlockID](0xb0)}, Max: MaxHeaders}
	rangeRequest := HeadersRequest{Of: fill[chain.BlockID](0xb1), From: 258, Max: MaxHeaders}
	bodiesRequest := BodiesRequest{IDs: []chain.BlockID{fill[chain.BlockID](0xb1), fill[chain.BlockID](0xb2)}}
	blockTxsRequest := BlockTxsRequest{Leaves: []chain.LeafHash{fill[chain.LeafHash](0x1e)}}
	accountRequest := ProofRequest{Kind: ProofAccount, Anchor: fill[chain.BlockID](0xb1), Subject: fill[chain.Account](0x70)}
	account, proved := exampleAccountProof(), exampleTxProof()
	compactRequest := CompactRequest{ID: fill[chain.BlockID](0xb1), Nonce: 5}
	key := NewShortKey(&large, compactRequest.Nonce)
	first, third := fill[chain.LeafHash](0x1e), fill[chain.LeafHash](0x2e)
	compact := Compact{IDs: []uint64{key.ID(&first), key.ID(&third)}, Prefilled: []PlacedTx{{Index: 1, Raw: exampleTx()}}}
	indexRequest := BlockIndexRequest{ID: fill[chain.BlockID](0xb1), Indexes: []uint16{7, 300}}
	shortRequest := ShortRequest{ID: compactRequest.ID, Nonce: compactRequest.Nonce, IDs: compact.IDs}
	stateRequest := StateRequest{Height: 1024, Block: fill[chain.BlockID](0xb1), To: LastPath, Max: MaxState}
	var tree statetree.Tree
	tree.Update([]statetree.Change{{Leaf: Leaf{Account: fill[chain.Account](0xf0), Balance: 100_000_000, Nonce: 7}}})
	leaves, proof := tree.Range(chain.Hash{}, LastPath, 2)
	encoded := statetree.AppendRange(nil, leaves, proof)
	statuses := []TxStatus{
		{State: TxUnknown},
		{State: TxVerified, Took: 60},
		{State: TxRejected, Reason: "tx-signature"},
		{State: TxInBlock, Took: 60, Height: 258, Block: fill[chain.BlockID](0xb2)},
	}
	poolRequest := NewPoolRequest(fill[chain.BlockID](0xb2), [SaltSize]byte{1, 2, 3, 4, 5, 6, 7, 8}, Prefix{3, 7},
		[]chain.LeafHash{fill[chain.LeafHash](0x1e), fill[chain.LeafHash](0x2e)})
	list := []struct {
		codec, says string
		b           []byte
	}{
		{"tx batch", "one transaction", AppendTxBatch(nil, [8]byte{1, 2, 3, 4, 5, 6, 7, 8}, [][]byte{exampleTx()})},
		{"block message", "a body of 159 bytes rides along", AppendBlockMsg(nil, &whole, exampleTx())},
		{"block message", "a body of 15,900 bytes does not", AppendBlockMsg(nil, &large, bytes.Repeat(exampleTx(), 100))},
		{"block message", "an empty block", AppendBlockMsg(nil, &empty, nil)},
		{"status", "two ranges of bodies, two transactions in the pool", status.Append(nil)},
		{"headers request", "up to 2000 headers after the first of two ids", headersRequest.Append(nil)},
		{"headers request", "a range: up to 2000 headers of a block's chain from height 258 on", rangeRequest.Append(nil)},
		{"headers answer", "one header", AppendHeaders(nil, []chain.Header{empty})},
		{"headers answer", "none", nil},
		{"bodies request", "two bodies", bodiesRequest.Append(nil)},
		{"bodies answer", "not here", []byte{byte(BodyMissing)}},
		{"bodies answer", "a body of one transaction", append([]byte{byte(BodyFollows)}, exampleTx()...)},
		{"bodies answer", "ask again", []byte{byte(BodyLater)}},
		{"blocktxs request", "one leaf", blockTxsRequest.Append(nil)},
		{"blocktxs answer", "one transaction", AppendBlockTxs(nil, [][]byte{exampleTx()})},
		{"compact request", "a block under nonce 5", compactRequest.Append(nil)},
		{"compact answer", "not here", []byte{byte(BodyMissing)}},
		{"compact answer", "not yet", []byte{byte(BodyLater)}},
		{"compact answer", "of three transactions two short ids, the second prefilled", AppendCompact(nil, &compact)},
		{"blocktxs by place request", "two transactions of a block", indexRequest.Append(nil)},
		{"blocktxs by place answer", "one transaction", AppendBlockIndexTxs(nil, []PlacedTx{{Index: 7, Raw: exampleTx()}})},
		{"blocktxs by place answer", "one transaction that others lacked too", AppendBlockIndexTxs(nil, []PlacedTx{{Index: 7, Rare: true, Raw: exampleTx()}})},
		{"blocktxs by place answer", "none", nil},
		{"blocktxs by short id request", "two transactions of a block under nonce 5", shortRequest.Append(nil)},
		{"txstatus request", "two transactions", AppendTxStatusRequest(nil, []chain.TxID{fill[chain.TxID](0xd1), fill[chain.TxID](0xd2)})},
		{"txstatus answer", "unknown, verified, rejected, in a block", AppendTxStatuses(nil, statuses)},
		{"peers request", "64 peers at most", AppendPeersRequest(nil, MaxPeers)},
		{"peers answer", "one peer at two addresses", AppendPeers(nil, []PeerAddrs{examplePeer()})},
		{"peers answer", "nobody", AppendPeers(nil, nil)},
		{"pool request", "two leaves in the filter, of accounts from e0 to ff", poolRequest.Append(nil)},
		{"pool answer", "one transaction, which is all", AppendPool(nil, PoolAll, [][]byte{exampleTx()})},
		{"pool answer", "another tip", AppendPool(nil, PoolElsewhere, nil)},
		{"proof request", "an account under a block", accountRequest.Append(nil)},
		{"account proof", "a balance and a nonce", AppendAccountProof(nil, ProofFollows, &account)},
		{"tx proof", "the second of two transactions", AppendTxProof(nil, ProofFollows, &proved)},
		{"tx proof", "no such transaction", AppendTxProof(nil, ProofMissing, nil)},
		{"account proof", "not under that block", AppendAccountProof(nil, ProofElsewhere, nil)},
		{"state request", "which snapshots", []byte{0}},
		{"state request", "all accounts at height 1,024", stateRequest.Append(nil)},
		{"state answer", "not here", StateMissing()},
		{"state answer", "two snapshots", AppendSnapshots(nil, []Snapshot{{1024, fill[chain.BlockID](0xb1), 70_000}, {2048, fill[chain.BlockID](0xb2), 80_000}})},
		{"state answer", "the one account there is", AppendStateRange(nil, encoded)},
		{"frame", "the payload 0a0b0c", AppendFrame(nil, []byte{10, 11, 12})},
	}
	out := make([]example, len(list))
	for i, e := range list {
		out[i] = example{e.codec, e.says, hex.EncodeToString(e.b)}
	}
	return out
}

// TestExamples holds the encoders to testdata/messages.json, and each message there to decode and encode again to
// itself. A changed byte is a changed protocol.
func TestExamples(t *testing.T) {
	const file = "testdata/messages.json"
	if *update {
		b, _ := json.MarshalIndent(examples(), "", "  ")
		if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var golden []example
	if err := json.Unmarshal(b, &golden); err != nil {
		t.Fatal(err)
	}
	now := examples()
	if len(golden) != len(now) {
		t.Fatalf("%d examples in the file, %d here", len(golden), len(now))
	}
	for i, e := range golden {
		if e != now[i] {
			t.Errorf("%s, %s:\nnow  %s\nfile %s", now[i].Codec, now[i].Says, now[i].Hex, e.Hex)
		}
		raw, err := hex.DecodeString(e.Hex)
		if err != nil {
			t.Fatal(err)
		}
		again, err := codecOf(t, e.Codec).again(raw)
		if err != nil || !bytes.Equal(again, raw) {
			t.Errorf("%s, %s: decode and encode: %x, %v", e.Codec, e.Says, again, err)
		}
	}
}

package rpc

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"quipu/chain"
)

var (
	testTime = time.Date(2026, 11, 22, 12, 0, 0, 123e6, time.UTC)
	testID   = chain.BlockID{0xab, 1}
	testTx   = chain.TxID{0xcd, 2}
	testAcc  = chain.Account{0xef, 3}
	testRaw  = slices.Repeat([]byte{7}, chain.TxMinSize)
)

// fakeNode answers every method with a value that shows whether it arrived whole, and records what it was asked.
type fakeNode struct {
	mu      sync.Mutex
	gated   []string
	stopped bool
	ring    []Event
	more    chan struct{}
}

func newFake(events int) *fakeNode {
	f := &fakeNode{more: make(chan struct{})}
	for range events {
		f.emit()
	}
	return f
}

func (f *fakeNode) emit() {
	f.mu.Lock()
	defer f.mu.Unlock()
	seq := uint64(len(f.ring) + 1)
	f.ring = append(f.ring, Event{Schema: EventSchema, Seq: seq, Time: testTime, Kind: "tx.verified", ID: testTx.String(), TookUS: 412, Verdict: "accept"})
	close(f.more)
	f.more = make(chan struct{})
}

func (f *fakeNode) events(seq uint64) ([]Event, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if seq > uint64(len(f.ring)) {
		seq = 0
	}
	return f.ring[seq:len(f.ring):len(f.ring)], f.more
}

var (
	testHeader = Header{ID: testID, Height: 7, TimeMS: 1 << 52, Bits: "1f00ffff", Nonce: 1<<64 - 1, MinerAddress: "tqp1x"}
	testRef    = BlockRef{Height: 7, ID: testID, TimeMS: 1 << 52}
	testStatus = NodeStatus{Version: "0.1.0", Started: testTime, Tip: testRef, Supply: Supply{Issued: 1<<63 - 1}, Health: List[Check]{{Name: "peers", OK: true}}, Listen: List[string]{}}
	testPeer   = Peer{ID: "12D3", Direction: "in", Score: -1.5, Tip: &testID, Connected: testTime, LastSeen: testTime}
	testKnown  = KnownPeer{ID: "12D3", Addr: "/ip4/203.0.113.7/tcp/4820", Group: "203.0.0.0/16", Source: "hand", Seen: testTime, LastGood: &testTime}
	testBan    = Ban{ID: "12D3", Reason: "bad-signature", Since: testTime, Until: testTime}
)

func (f *fakeNode) api() API {
	return API{
		NodeStatus: func(context.Context, NoParams) (NodeStatus, error) { return testStatus, nil },
		ChainHead: func(context.Context, NoParams) (ChainHead, error) {
			return ChainHead{Header: testHeader, Work: "77", BestHeader: testRef}, nil
		},
		ChainBlock: func(_ context.Context, p ChainBlockParams) (ChainBlock, error) {
			if p.ID != nil && *p.ID != testID {
				return ChainBlock{}, Errorf(NameNotFound, "", "no block %s", p.ID)
			}
			return ChainBlock{Header: testHeader, OnBest: true, Confirmations: 3, Txs: List[Tx]{}}, nil
		},
		ChainBlocks: func(_ context.Context, p ChainBlocksParams) (ChainBlocks, error) {
			return ChainBlocks{Headers: slices.Repeat(List[Header]{testHeader}, p.Count)}, nil
		},
		ChainGenesis: func(context.Context, NoParams) (ChainGenesis, error) {
			return ChainGenesis{Network: Network{Name: "x"}, Genesis: []byte(`{"name":"x"}`)}, nil
		},
		TxSubmit: func(_ context.Context, raws [][]byte) ([]Submitted, error) {
			out := make([]Submitted, len(raws))
			for i, raw := range raws {
				out[i] = Submitted{TxID: testTx, State: TxPending}
				if len(raw) < chain.TxMinSize {
					out[i] = Submitted{State: TxRejected, Error: AsError(&chain.RuleError{Kind: chain.ErrTruncated, Desc: "too short"})}
				}
			}
			return out, nil
		},
		TxStatus: func(_ context.Context, p TxStatusParams) (TxStatus, error) {
			st := TxStatus{TxID: p.TxID, State: TxIncluded, Height: 7, Block: &testID, Confirmations: 2, ThisNode: ThisNode{Verified: true, TookUS: 99}}
			if p.AskPeers {
				st.Peers = &PeerEvidence{Asked: 1, Verified: 1, Answers: List[PeerSay]{{Peer: "12D3", State: "verified"}}}
			}
			return st, nil
		},
		AccountGet: func(_ context.Context, p AccountGetParams) (Account, error) {
			return Account{Account: *p.Account, Balance: 1<<63 - 1, NextNonce: 4, Exists: true}, nil
		},
		AccountHistory: func(_ context.Context, p AccountHistoryParams) (AccountHistory, error) {
			if p.Before == "" {
				return AccountHistory{Account: *p.Account, Next: "7:4294967295", Entries: List[HistoryEntry]{{Kind: HistoryMined, Height: 7, Block: testID}}}, nil
			}
			return AccountHistory{Account: *p.Account}, nil
		},
		AccountProof: func(_ context.Context, p AccountGetParams) (AccountProof, error) {
			return AccountProof{Account: *p.Account, Balance: 5, Exists: true, Proof: "00"}, nil
		},
		TxProof: func(_ context.Context, p TxProofParams) (TxProof, error) {
			return TxProof{Proved: Proved{Anchor: Anchor{ID: *p.Anchor}}, TxID: p.TxID, Tx: "01"}, nil
		},
		StateSnapshots: func(context.Context, NoParams) (StateSnapshots, error) {
			return StateSnapshots{Snapshots: List[StateSnapshot]{testSnapshot}}, nil
		},
		StateRange: func(_ context.Context, p StateRangeParams) (StateRange, error) {
			return StateRange{StateSnapshot: testSnapshot, Range: "00"}, nil
		},
		MempoolStats: func(context.Context, NoParams) (MempoolStats, error) { return MempoolStats{Txs: 1, Bytes: 159}, nil },
		MempoolList: func(_ context.Context, p MempoolListParams) (MempoolList, error) {
			return MempoolList{Total: 1, Txs: List[PoolTx]{{TxID: testTx, Fee: 200, State: TxPending}}}, nil
		},
		PeerList: func(context.Context, NoParams) (PeerList, error) { return PeerList{Peers: List[Peer]{testPeer}}, nil },
		PeerBans: func(context.Context, NoParams) (PeerBans, error) { return PeerBans{Bans: List[Ban]{testBan}}, nil },
		PeerBook: func(_ context.Context, p PeerBookParams) (PeerBook, error) {
			return PeerBook{Discovery: Discovery{New: p.Max}, Known: List[KnownPeer]{testKnown}}, nil
		},
		Events: f.events,
		AdminGate: func(_ context.Context, p AdminGateParams) (AdminGate, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.gated = p.Block
			return AdminGate{Blocked: p.Block}, nil
		},
		AdminUnban: func(_ context.Context, p AdminUnbanParams) (AdminUnban, error) {
			return AdminUnban{ID: p.ID, Banned: true}, nil
		},
		AdminConnect: func(_ context.Context, p AdminConnectParams) (AdminConnect, error) {
			return AdminConnect{ID: p.Addr}, nil
		},
		AdminStop: func(context.Context, NoParams) (AdminStop, error) {
			f.stopped = true
			return AdminStop{Stopping: true}, nil
		},
	}
}

// faulty are methods that go wrong inside.
func faulty() []Entry {
	return []Entry{
		Method("test_panic", "", false, func(context.Context, NoParams) (NoParams, error) { panic("boom") }),
		Method("test_error", "", false, func(context.Context, NoParams) (NoParams, error) { return NoParams{}, errors.New("disk") }),
		Method("test_wait", "", false, func(ctx context.Context, _ NoParams) (NoParams, error) { <-ctx.Done(); return NoParams{}, ctx.Err() }),
		Method("test_big", "", false, func(context.Context, NoParams) (string, error) {
			return string(slices.Repeat([]byte{'x'}, maxReply/4)), nil
		}),
	}
}

// start serves f on a free port until the test ends, and checks that Serve then returns.
func start(t *testing.T, f *fakeNode, change func(*Config)) (*Server, *Client) {
	t.Helper()
	table, err := f.api().Table()
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Methods: append(table, faulty()...), TokenFile: filepath.Join(t.TempDir(), "rpc.token"), Events: f.events,
		Health: func() Health {
			return Health{Live: []Check{{Name: "turns", OK: true}}, Ready: []Check{{Name: "peers", OK: true, Detail: "4"}, {Name: "tip", OK: false, Detail: "12 s old"}}}
		},
		Page: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("page")) }),
	}
	if change != nil {
		change(&cfg)
	}
	ln, err := Listen("127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(cfg, ln)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if _, err := net.Dial("tcp", s.Addr()); err == nil {
			t.Error("the listener is still open after Serve")
		}
	})
	return s, &Client{URL: s.URL(), Source: "test", TokenFile: cfg.TokenFile}
}

var testSnapshot = StateSnapshot{Height: 1024, Block: testID, StateRoot: [32]byte{9}, Accounts: 3, Bytes: 400}

package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"quipu/chain"
)

// TestEveryMethod calls each method over a real connection and compares what comes back with what the node returned.
func TestEveryMethod(t *testing.T) {
	f := newFake(5)
	s, c := start(t, f, nil)
	ctx := t.Context()
	height := uint64(7)
	called := map[string]bool{}
	same := func(name string, got any, err error, want any) {
		t.Helper()
		called[name] = true
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, want)
		}
	}
	api := f.api()
	{
		got, err := c.NodeStatus(ctx)
		same("node_status", got, err, testStatus)
	}
	{
		got, err := c.ChainHead(ctx)
		same("chain_head", got, err, ChainHead{Header: testHeader, Work: "77", BestHeader: testRef})
	}
	{
		got, err := c.ChainBlock(ctx, ChainBlockParams{Height: &height})
		want, _ := api.ChainBlock(ctx, ChainBlockParams{Height: &height})
		same("chain_block", got, err, want)
	}
	{
		got, err := c.ChainBlocks(ctx, ChainBlocksParams{From: &height, Count: 2})
		same("chain_blocks", got, err, ChainBlocks{Headers: List[Header]{testHeader, testHeader}})
	}
	{
		got, err := c.ChainGenesis(ctx)
		same("chain_genesis", got, err, ChainGenesis{Network: Network{Name: "x"}, Genesis: []byte(`{"name":"x"}`)})
	}
	{
		got, err := c.TxSubmit(ctx, testRaw)
		same("tx_submit", got, err, Submitted{TxID: testTx, State: TxPending})
	}
	{
		got, err := c.TxStatus(ctx, TxStatusParams{TxID: testTx, AskPeers: true})
		want, _ := api.TxStatus(ctx, TxStatusParams{TxID: testTx, AskPeers: true})
		same("tx_status", got, err, want)
	}
	{
		got, err := c.AccountHistory(ctx, testAcc, "", 10)
		same("account_history", got, err, AccountHistory{Account: testAcc, Next: "7:4294967295", Entries: List[HistoryEntry]{{Kind: HistoryMined, Height: 7, Block: testID}}})
		got, err = c.AccountHistory(ctx, testAcc, got.Next, 10)
		same("account_history", got, err, AccountHistory{Account: testAcc, Entries: List[HistoryEntry]{}})
	}
	{
		got, err := c.AccountProof(ctx, testAcc)
		same("account_proof", got, err, AccountProof{Account: testAcc, Balance: 5, Exists: true, Proof: "00", Proved: Proved{Block: BlockProof{Path: List[chain.Hash]{}}}})
	}
	{
		got, err := c.TxProof(ctx, TxProofParams{TxID: testTx, Anchor: &testID})
		same("tx_proof", got, err, TxProof{TxID: testTx, Tx: "01", Path: List[chain.Hash]{}, Proved: Proved{Anchor: Anchor{ID: testID}, Block: BlockProof{Path: List[chain.Hash]{}}}})
	}
	{
		got, err := c.StateSnapshots(ctx)
		same("state_snapshots", got, err, StateSnapshots{Snapshots: List[StateSnapshot]{testSnapshot}})
	}
	{
		got, err := c.StateRange(ctx, StateRangeParams{Height: 1024, Max: 1})
		same("state_range", got, err, StateRange{StateSnapshot: testSnapshot, Range: "00"})
	}
	{
		got, err := c.AccountGet(ctx, testAcc)
		same("account_get", got, err, Account{Account: testAcc, Balance: 1<<63 - 1, NextNonce: 4, Exists: true})
	}
	{
		got, err := c.MempoolStats(ctx)
		same("mempool_stats", got, err, MempoolStats{Txs: 1, Bytes: 159})
	}
	{
		got, err := c.MempoolList(ctx, 10)
		want, _ := api.MempoolList(ctx, MempoolListParams{})
		same("mempool_list", got, err, want)
	}
	{
		got, err := c.PeerList(ctx)
		same("peer_list", got, err, PeerList{Peers: List[Peer]{testPeer}})
	}
	{
		got, err := c.PeerBans(ctx)
		same("peer_bans", got, err, PeerBans{Bans: List[Ban]{testBan}})
	}
	{
		got, err := c.PeerBook(ctx, 7)
		same("peer_book", got, err, PeerBook{Discovery: Discovery{New: 7}, Known: List[KnownPeer]{testKnown}})
	}
	{
		got, err := c.EventsSince(ctx, 2, 2)
		same("events_since", got, err, EventsSince{Events: f.ring[2:4], Next: 4})
	}
	{
		got, err := c.AdminGate(ctx, []string{"12D3"})
		same("admin_gate", got, err, AdminGate{Blocked: List[string]{"12D3"}})
		if len(f.gated) != 1 {
			t.Errorf("gated %v", f.gated)
		}
	}
	{
		got, err := c.AdminUnban(ctx, "12D3")
		same("admin_unban", got, err, AdminUnban{ID: "12D3", Banned: true})
	}
	{
		got, err := c.AdminConnect(ctx, "/ip4/127.0.0.1")
		same("admin_connect", got, err, AdminConnect{ID: "/ip4/127.0.0.1"})
	}
	{
		got, err := c.AdminStop(ctx)
		same("admin_stop", got, err, AdminStop{Stopping: true})
	}
	{
		got, err := c.Discover(ctx)
		called["rpc.discover"] = true
		if err != nil || !json.Valid(got) {
			t.Errorf("rpc.discover: %v", err)
		}
	}
	for name := range s.methods {
		if !called[name] && !strings.HasPrefix(name, "test_") {
			t.Errorf("%s has no typed call, or this test doesn't know it", name)
		}
	}
}

func TestSubmitMany(t *testing.T) {
	_, c := start(t, newFake(0), nil)
	got, err := c.TxSubmitMany(t.Context(), [][]byte{testRaw, {1}})
	if err != nil || len(got) != 2 || got[0].Error != nil || got[1].Error == nil || got[1].Error.Data.Rule != string(chain.ErrTruncated) {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := c.TxSubmit(t.Context(), []byte{1}); !Is(err, NameRejected) {
		t.Errorf("a refused single transaction: %v", err)
	}
	if _, err := c.TxSubmitMany(t.Context(), make([][]byte, MaxSubmit+1)); !Is(err, NameInvalidParams) {
		t.Errorf("501 transactions: %v", err)
	}
	many := make([][]byte, MaxSubmit)
	for i := range many {
		many[i] = testRaw
	}
	if got, err := c.TxSubmitMany(t.Context(), many); err != nil || len(got) != MaxSubmit {
		t.Errorf("500 transactions: %d, %v", len(got), err)
	}
}

func TestClientErrors(t *testing.T) {
	ctx := t.Context()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := &Client{URL: "http://" + ln.Addr().String(), Source: "--rpc"}
	ln.Close()
	var un *Unreachable
	if err := dead.Call(ctx, "node_status", nil, nil); !errors.As(err, &un) {
		t.Errorf("closed port: %v", err)
	} else if text := err.Error(); !strings.Contains(text, dead.URL) || !strings.Contains(text, "--rpc") || !strings.Contains(text, "quipu node run") {
		t.Errorf("an unreachable node must be named, with what to type next: %q", text)
	}
	if err := (&Client{URL: "127.0.0.1:1"}).Call(ctx, "node_status", nil, nil); !errors.As(err, &un) {
		t.Errorf("no URL: %v", err)
	}

	_, c := start(t, newFake(0), nil)
	slow := &Client{URL: c.URL, Timeout: time.Millisecond}
	var none *NoAnswer
	if err := slow.Call(ctx, "test_wait", nil, nil); !errors.As(err, &none) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("timeout: %v", err)
	}
	stopped, cancel := context.WithCancel(ctx)
	cancel()
	if err := c.Call(stopped, "test_wait", nil, nil); !errors.Is(err, context.Canceled) || errors.As(err, &none) {
		t.Errorf("cancelled by the caller: %v", err)
	}
	cut := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, _ := w.(http.Hijacker).Hijack()
		conn.Close()
	}))
	defer cut.Close()
	if err := (&Client{URL: cut.URL}).Call(ctx, "tx_submit", nil, nil); !errors.As(err, &none) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("connection cut after the call was sent: %v", err)
	}
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello\nthere") }))
	defer other.Close()
	var odd *HTTPError
	if err := (&Client{URL: other.URL}).Call(ctx, "node_status", nil, nil); !errors.As(err, &odd) || odd.Text != "hello" {
		t.Errorf("another program: %v", err)
	}
}

// TestRedirect: a token must not travel to wherever a redirect points.
func TestRedirect(t *testing.T) {
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { t.Error("the redirect was followed") }))
	defer target.Close()
	from := httptest.NewServer(http.RedirectHandler(target.URL, http.StatusTemporaryRedirect))
	defer from.Close()
	var odd *HTTPError
	if err := (&Client{URL: from.URL}).Call(t.Context(), "node_status", nil, nil); !errors.As(err, &odd) {
		t.Errorf("%v", err)
	}
}

func TestClientToken(t *testing.T) {
	_, c := start(t, newFake(0), nil)
	ctx := t.Context()
	if _, err := (&Client{URL: c.URL}).AdminStop(ctx); !Is(err, NameUnauthorized) {
		t.Errorf("no token: %v", err)
	}
	wrong := filepath.Join(t.TempDir(), "wrong")
	if _, err := newToken(wrong); err != nil {
		t.Fatal(err)
	}
	if _, err := (&Client{URL: c.URL, TokenFile: wrong}).AdminStop(ctx); !Is(err, NameForbidden) {
		t.Errorf("wrong token: %v", err)
	}
	if _, err := (&Client{URL: c.URL, TokenFile: wrong + "-none"}).AdminStop(ctx); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing token file: %v", err)
	}
	if _, err := c.AdminStop(ctx); err != nil {
		t.Errorf("right token: %v", err)
	}
}

func TestClientEvents(t *testing.T) {
	f := newFake(3)
	_, c := start(t, f, nil)
	stop := errors.New("seen enough")
	var seqs []uint64
	err := c.Events(t.Context(), 1, func(e Event) error {
		seqs = append(seqs, e.Seq)
		if e.Seq == 3 {
			f.emit() // one that happens while the stream is open
		}
		if e.Seq == 4 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || !reflect.DeepEqual(seqs, []uint64{2, 3, 4}) {
		t.Errorf("%v, %v", seqs, err)
	}
}

func TestGenesisParse(t *testing.T) {
	g, err := chain.NewGenesis(chain.Genesis{Name: "x", Prefix: "tqp", Spacing: 1000, HalfLife: 144_000, Bits: 0x1f00ffff, LimitBits: 0x1f00ffff, BodyLimit: 1 << 20, Halving: 100})
	if err != nil {
		t.Fatal(err)
	}
	r := GenesisOf(g)
	if got, err := r.Parse(); err != nil || got.NetworkID() != g.NetworkID() {
		t.Errorf("%v", err)
	}
	r.Network.ID[0]++
	if _, err := r.Parse(); err == nil {
		t.Error("another network id was accepted")
	}
}

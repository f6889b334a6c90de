package main

import (
	"context"
	"encoding/hex"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/rpc"
	"quipu/wallet"
)

// fakeNode is a node's API that says what a test wants it to, served by the real server.
type fakeNode struct {
	g       *chain.Genesis
	url     string
	account rpc.Account // of every account but strangers
	submit  func(n int, id chain.TxID) (rpc.Submitted, error)
	history func(rpc.AccountHistoryParams) (rpc.AccountHistory, error)
	status  func(n int, id chain.TxID) (rpc.TxStatus, error)

	mu       sync.Mutex
	raws     [][]byte // as submitted
	statuses int
}

// newFake starts a fake on whose network there are the wallets alice and bob. It takes everything and says pending.
func newFake(t *testing.T) *fakeNode {
	t.Helper()
	f := &fakeNode{g: chaintest.Genesis(func(g *chain.Genesis) { g.AccountPrice = 1000 })}
	f.account = rpc.Account{Exists: true, Balance: 10 * chain.Knots, NextNonce: 7, Tip: rpc.BlockRef{Height: 100}}
	f.submit = func(_ int, id chain.TxID) (rpc.Submitted, error) {
		return rpc.Submitted{TxID: id, State: rpc.TxPending}, nil
	}
	f.history = func(rpc.AccountHistoryParams) (rpc.AccountHistory, error) {
		return rpc.AccountHistory{}, rpc.Errorf(rpc.NameUnavailable, "quipu node run --history", "this node keeps no history of accounts")
	}
	f.status = func(int, chain.TxID) (rpc.TxStatus, error) { return rpc.TxStatus{State: rpc.TxPending}, nil }

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	table, err := f.api().Table()
	if err != nil {
		t.Fatal(err)
	}
	s, err := rpc.New(rpc.Config{Methods: table}, ln)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewUnstartedServer(s.Handler())
	h.Listener.Close()
	h.Listener = ln
	h.Start()
	t.Cleanup(h.CloseClientConnections)
	f.url = h.URL
	t.Setenv("QUIPU_RPC", h.URL)

	dir, err := walletDir()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"alice", "bob"} {
		w, err := wallet.Create(wallet.Path(dir, name), wallet.Options{Genesis: f.g, NoPassphrase: true}, nil)
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
	}
	t.Setenv("QUIPU_WALLET", "alice")
	return f
}

func (f *fakeNode) api() rpc.API {
	return rpc.API{
		ChainGenesis: func(context.Context, rpc.NoParams) (rpc.ChainGenesis, error) { return rpc.GenesisOf(f.g), nil },
		AccountGet: func(_ context.Context, p rpc.AccountGetParams) (rpc.Account, error) {
			a := f.account
			a.Account = *p.Account
			a.Exists = a.Account != stranger.Account
			return a, nil
		},
		TxSubmit: func(_ context.Context, raws [][]byte) ([]rpc.Submitted, error) {
			f.mu.Lock()
			f.raws = append(f.raws, raws[0])
			n := len(f.raws)
			f.mu.Unlock()
			got, err := f.submit(n, chain.TxIDOf(f.g.NetworkID(), raws[0]))
			if err != nil {
				return nil, err
			}
			return []rpc.Submitted{got}, nil
		},
		TxStatus: func(_ context.Context, p rpc.TxStatusParams) (rpc.TxStatus, error) {
			f.mu.Lock()
			f.statuses++
			n := f.statuses
			f.mu.Unlock()
			s, err := f.status(n, p.TxID)
			s.TxID = p.TxID
			return s, err
		},
		NodeStatus:  none[rpc.NoParams, rpc.NodeStatus],
		ChainHead:   none[rpc.NoParams, rpc.ChainHead],
		ChainBlock:  none[rpc.ChainBlockParams, rpc.ChainBlock],
		ChainBlocks: none[rpc.ChainBlocksParams, rpc.ChainBlocks],
		AccountHistory: func(_ context.Context, p rpc.AccountHistoryParams) (rpc.AccountHistory, error) {
			return f.history(p)
		},
		AccountProof:   none[rpc.AccountGetParams, rpc.AccountProof],
		TxProof:        none[rpc.TxProofParams, rpc.TxProof],
		StateSnapshots: none[rpc.NoParams, rpc.StateSnapshots],
		StateRange:     none[rpc.StateRangeParams, rpc.StateRange],
		MempoolStats:   none[rpc.NoParams, rpc.MempoolStats],
		MempoolList:    none[rpc.MempoolListParams, rpc.MempoolList],
		PeerList:       none[rpc.NoParams, rpc.PeerList],
		PeerBans:       none[rpc.NoParams, rpc.PeerBans],
		PeerBook:       none[rpc.PeerBookParams, rpc.PeerBook],
		Events:         func(uint64) ([]rpc.Event, <-chan struct{}) { return nil, nil },
		AdminGate:      none[rpc.AdminGateParams, rpc.AdminGate],
		AdminUnban:     none[rpc.AdminUnbanParams, rpc.AdminUnban],
		AdminConnect:   none[rpc.AdminConnectParams, rpc.AdminConnect],
		AdminStop:      none[rpc.NoParams, rpc.AdminStop],
	}
}

func none[P, R any](context.Context, P) (r R, err error) {
	return r, rpc.Errorf(rpc.NameNotFound, "", "the fake has none")
}

// sealed makes a wallet with a passphrase whose derivation is cheap.
func sealed(t *testing.T, g *chain.Genesis, name, passphrase string) (path, words string) {
	t.Helper()
	dir, err := walletDir()
	if err != nil {
		t.Fatal(err)
	}
	w, err := wallet.Create(wallet.Path(dir, name), wallet.Options{Genesis: g, KDF: wallet.LightKDF}, []byte(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	words, err = w.Mnemonic()
	if err != nil {
		t.Fatal(err)
	}
	return w.Path(), words
}

// stranger is an account that doesn't exist yet.
var stranger = chaintest.NewKey("stranger")

// sent is the transaction handed in as number n, from 1.
func (f *fakeNode) sent(t *testing.T, n int) chain.Tx {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.raws) < n {
		t.Fatalf("%d transactions were handed in", len(f.raws))
	}
	tx, _, err := chain.DecodeTx(f.raws[n-1])
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

func (f *fakeNode) submits() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.raws)
}

// wantTxID fails unless the run printed exactly the txid of what was handed in.
func (f *fakeNode) wantTxID(t *testing.T, r result) {
	t.Helper()
	tx := f.sent(t, 1)
	if id := tx.ID(f.g.NetworkID()).String(); r.out != id+"\n" {
		t.Errorf("out is %q, want the txid %s alone", r.out, id)
	}
}

// included is a status of a transaction in a block of this id.
func included(block byte, confirmations uint64) rpc.TxStatus {
	id := chain.BlockID{block}
	return rpc.TxStatus{State: rpc.TxIncluded, Height: 101, Block: &id, Confirmations: confirmations, ThisNode: rpc.ThisNode{Verified: true}}
}

func peersSay(asked, verified int) rpc.TxStatus {
	return rpc.TxStatus{State: rpc.TxPending, ThisNode: rpc.ThisNode{Verified: true}, Peers: &rpc.PeerEvidence{Asked: asked, Verified: verified}}
}

// noSecret fails if a secret stands in what a run printed, as text or as hex.
func noSecret(t *testing.T, r result, secrets ...string) {
	t.Helper()
	for _, s := range secrets {
		for _, form := range []string{s, hex.EncodeToString([]byte(s))} {
			if strings.Contains(r.out, form) || strings.Contains(r.err, form) {
				t.Fatalf("a secret was printed\nout: %s\nerr: %s", r.out, r.err)
			}
		}
	}
}

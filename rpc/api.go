package rpc

import (
	"context"
	"encoding/hex"
	"fmt"
	"reflect"

	"quipu/chain"
)

// API is what a node can be asked: one function a method. The node fills all of them; Table gives them their names.
// Functions must return soon after their context ends.
type API struct {
	NodeStatus   func(context.Context, NoParams) (NodeStatus, error)
	ChainHead    func(context.Context, NoParams) (ChainHead, error)
	ChainBlock   func(context.Context, ChainBlockParams) (ChainBlock, error)
	ChainBlocks  func(context.Context, ChainBlocksParams) (ChainBlocks, error)
	ChainGenesis func(context.Context, NoParams) (ChainGenesis, error)
	// TxSubmit takes 1 to 500 encoded transactions of at most chain.TxMaxSize bytes and returns one entry for each.
	// Its error is for the call as a whole, such as "still syncing".
	TxSubmit     func(ctx context.Context, raws [][]byte) ([]Submitted, error)
	TxStatus     func(context.Context, TxStatusParams) (TxStatus, error)
	AccountGet   func(context.Context, AccountGetParams) (Account, error)
	MempoolStats func(context.Context, NoParams) (MempoolStats, error)
	MempoolList  func(context.Context, MempoolListParams) (MempoolList, error)
	PeerList     func(context.Context, NoParams) (PeerList, error)
	PeerBans     func(context.Context, NoParams) (PeerBans, error)
	PeerBook     func(context.Context, PeerBookParams) (PeerBook, error)
	Events       EventSource
	AdminGate    func(context.Context, AdminGateParams) (AdminGate, error)
	AdminUnban   func(context.Context, AdminUnbanParams) (AdminUnban, error)
	AdminConnect func(context.Context, AdminConnectParams) (AdminConnect, error)
	AdminStop    func(context.Context, NoParams) (AdminStop, error)

	// AccountHistory is not_available on a node that doesn't keep it.
	AccountHistory func(context.Context, AccountHistoryParams) (AccountHistory, error)

	AccountProof func(context.Context, AccountGetParams) (AccountProof, error)
	TxProof      func(context.Context, TxProofParams) (TxProof, error)

	StateSnapshots func(context.Context, NoParams) (StateSnapshots, error)
	StateRange     func(context.Context, StateRangeParams) (StateRange, error)
}

// Table is the typed method table of a node. It fails if a function is missing.
func (a API) Table() ([]Entry, error) {
	v := reflect.ValueOf(a)
	for i := range v.NumField() {
		if v.Field(i).IsNil() {
			return nil, fmt.Errorf("rpc: no function for %s", v.Type().Field(i).Name)
		}
	}
	return []Entry{
		Method("node_status", "Height, peers, sync, pool, health and what to do next, on one screen.", false, a.NodeStatus),
		Method("chain_head", "The validated tip and the best header known.", false, a.ChainHead),
		Method("chain_block", "One block by height or id, with its transactions if asked.", false, a.ChainBlock),
		Method("chain_blocks", "Headers of up to 100 heights of the best chain, ascending.", false, a.ChainBlocks),
		Method("chain_genesis", "The network's constants.", false, a.ChainGenesis),
		Method("tx_submit", "Hand in signed transactions; a known one gives its present state.", false, a.txSubmit),
		Method("tx_status", "Where a transaction stands, and who verified it.", false, a.TxStatus),
		Method("account_get", "Balance and nonce at the tip, and what the pool would change.", false, a.AccountGet),
		Method("account_history", "Transactions and mined blocks of an account, newest first, on a node that keeps them.", false, a.AccountHistory),
		Method("account_proof", "What an account has at the tip, with the proof that a verifier without a node needs.", false, a.AccountProof),
		Method("tx_proof", "A transaction in a block, with the proof that a verifier without a node needs.", false, a.TxProof),
		Method("state_snapshots", "Blocks of which this node has a file of all accounts.", false, a.StateSnapshots),
		Method("state_range", "Accounts of a snapshot, ascending by path, with the proof that there are no others between.", false, a.StateRange),
		Method("mempool_stats", "How much waits for a block.", false, a.MempoolStats),
		Method("mempool_list", "Waiting transactions in the order a miner takes them.", false, a.MempoolList),
		Method("peer_list", "Connected peers.", false, a.PeerList),
		Method("peer_bans", "Peers this node refuses, with the reason and until when.", false, a.PeerBans),
		Method("peer_book", "Addresses this node knows, those that have answered it first.", false, a.PeerBook),
		Method("events_since", "What happened after a sequence number; /events streams the same.", false, a.eventsSince),
		Method("admin_gate", "Refuse exactly these peers and no others: a partition made by hand.", true, a.AdminGate),
		Method("admin_connect", "Connect to a peer now.", true, a.AdminConnect),
		Method("admin_unban", "Let a banned peer in again.", true, a.AdminUnban),
		Method("admin_stop", "Stop the node cleanly.", true, a.AdminStop),
	}, nil
}

func (a API) txSubmit(ctx context.Context, p TxSubmitParams) (TxSubmit, error) {
	texts := []string(p.Txs)
	if p.Tx != "" {
		texts = []string{p.Tx}
	}
	raws := make([][]byte, len(texts))
	for i, text := range texts {
		raw, err := decodeTxHex(text)
		if err != nil {
			return TxSubmit{}, Errorf(NameInvalidParams, "", "transaction %d: %v", i, err)
		}
		raws[i] = raw
	}
	results, err := a.TxSubmit(ctx, raws)
	if err != nil {
		return TxSubmit{}, err
	}
	if p.Tx != "" && len(results) == 1 && results[0].Error != nil {
		return TxSubmit{}, results[0].Error
	}
	return TxSubmit{Results: results}, nil
}

func decodeTxHex(text string) ([]byte, error) {
	if len(text) > 2*chain.TxMaxSize {
		return nil, fmt.Errorf("%d hex digits, at most %d", len(text), 2*chain.TxMaxSize)
	}
	return hex.DecodeString(text)
}

func (a API) eventsSince(_ context.Context, p EventsSinceParams) (EventsSince, error) {
	events, _ := a.Events(p.Seq)
	out := EventsSince{Events: events[:min(len(events), p.Max)], Next: p.Seq}
	if len(out.Events) > 0 {
		out.Gap = gap(p.Seq, out.Events)
		out.Next = out.Events[len(out.Events)-1].Seq
	}
	return out, nil
}

package rpc

import (
	"context"
	"encoding/hex"
	"encoding/json"

	"quipu/chain"
)

// The typed calls, one a method of API.

func call[R any](ctx context.Context, c *Client, method string, params any) (R, error) {
	var r R
	err := c.Call(ctx, method, params, &r)
	return r, err
}

func (c *Client) NodeStatus(ctx context.Context) (NodeStatus, error) {
	return call[NodeStatus](ctx, c, "node_status", nil)
}

func (c *Client) ChainHead(ctx context.Context) (ChainHead, error) {
	return call[ChainHead](ctx, c, "chain_head", nil)
}

func (c *Client) ChainBlock(ctx context.Context, p ChainBlockParams) (ChainBlock, error) {
	return call[ChainBlock](ctx, c, "chain_block", p)
}

func (c *Client) ChainBlocks(ctx context.Context, p ChainBlocksParams) (ChainBlocks, error) {
	return call[ChainBlocks](ctx, c, "chain_blocks", p)
}

// ChainGenesis returns the constants of the node's network; its Parse checks them against the network id.
func (c *Client) ChainGenesis(ctx context.Context) (ChainGenesis, error) {
	return call[ChainGenesis](ctx, c, "chain_genesis", nil)
}

// TxSubmit hands in one encoded transaction. A refusal is an *Error.
func (c *Client) TxSubmit(ctx context.Context, raw []byte) (Submitted, error) {
	r, err := call[TxSubmit](ctx, c, "tx_submit", TxSubmitParams{Tx: hex.EncodeToString(raw)})
	if err != nil || len(r.Results) != 1 {
		return Submitted{}, err
	}
	return r.Results[0], nil
}

// TxSubmitMany hands in up to 500 encoded transactions; see Submitted.Error for each.
func (c *Client) TxSubmitMany(ctx context.Context, raws [][]byte) ([]Submitted, error) {
	p := TxSubmitParams{Txs: make(List[string], len(raws))}
	for i, raw := range raws {
		p.Txs[i] = hex.EncodeToString(raw)
	}
	r, err := call[TxSubmit](ctx, c, "tx_submit", p)
	return r.Results, err
}

func (c *Client) TxStatus(ctx context.Context, p TxStatusParams) (TxStatus, error) {
	return call[TxStatus](ctx, c, "tx_status", p)
}

func (c *Client) AccountGet(ctx context.Context, a chain.Account) (Account, error) {
	return call[Account](ctx, c, "account_get", AccountGetParams{Account: &a})
}

func (c *Client) MempoolStats(ctx context.Context) (MempoolStats, error) {
	return call[MempoolStats](ctx, c, "mempool_stats", nil)
}

func (c *Client) MempoolList(ctx context.Context, max int) (MempoolList, error) {
	return call[MempoolList](ctx, c, "mempool_list", MempoolListParams{Max: max})
}

func (c *Client) PeerList(ctx context.Context) (PeerList, error) {
	return call[PeerList](ctx, c, "peer_list", nil)
}

func (c *Client) PeerBans(ctx context.Context) (PeerBans, error) {
	return call[PeerBans](ctx, c, "peer_bans", nil)
}

func (c *Client) PeerBook(ctx context.Context, max int) (PeerBook, error) {
	return call[PeerBook](ctx, c, "peer_book", PeerBookParams{Max: max})
}

func (c *Client) EventsSince(ctx context.Context, seq uint64, max int) (EventsSince, error) {
	return call[EventsSince](ctx, c, "events_since", EventsSinceParams{Seq: seq, Max: max})
}

func (c *Client) AdminGate(ctx context.Context, block []string) (AdminGate, error) {
	return call[AdminGate](ctx, c, "admin_gate", AdminGateParams{Block: block})
}

func (c *Client) AdminConnect(ctx context.Context, addr string) (AdminConnect, error) {
	return call[AdminConnect](ctx, c, "admin_connect", AdminConnectParams{Addr: addr})
}

func (c *Client) AdminUnban(ctx context.Context, id string) (AdminUnban, error) {
	return call[AdminUnban](ctx, c, "admin_unban", AdminUnbanParams{ID: id})
}

func (c *Client) AdminStop(ctx context.Context) (AdminStop, error) {
	return call[AdminStop](ctx, c, "admin_stop", nil)
}

// Discover returns the server's OpenRPC document.
func (c *Client) Discover(ctx context.Context) (json.RawMessage, error) {
	return call[json.RawMessage](ctx, c, "rpc.discover", nil)
}

package testnet

import (
	"context"

	"quipu/rpc"
)

// Client gives verbs to a running test network. Its methods are Supervisor's.
type Client struct{ rpc *rpc.Client }

func verb[R any](ctx context.Context, c *Client, method string, params any) (R, error) {
	var r R
	err := c.rpc.Call(ctx, method, params, &r)
	return r, err
}

func (c *Client) State(ctx context.Context) (State, error) {
	return verb[State](ctx, c, "testnet_ps", nil)
}

// Node does kill, stop, start, pause or resume.
func (c *Client) Node(ctx context.Context, what, name string) (Node, error) {
	return verb[Node](ctx, c, "testnet_"+what, NodeParams{name})
}

func (c *Client) Partition(ctx context.Context, sides string) (Partitioned, error) {
	return verb[Partitioned](ctx, c, "testnet_partition", PartitionParams{sides})
}

func (c *Client) Heal(ctx context.Context) (Partitioned, error) {
	return verb[Partitioned](ctx, c, "testnet_heal", nil)
}

func (c *Client) Add(ctx context.Context, bad string) (Node, error) {
	return verb[Node](ctx, c, "testnet_add", AddParams{bad})
}

func (c *Client) Faucet(ctx context.Context, p FaucetParams) (Paid, error) {
	return verb[Paid](ctx, c, "testnet_faucet", p)
}

func (c *Client) Env(ctx context.Context, name string) (Env, error) {
	return verb[Env](ctx, c, "testnet_env", EnvParams{name})
}

func (c *Client) Down(ctx context.Context, keep bool) (Down, error) {
	return verb[Down](ctx, c, "testnet_down", DownParams{keep})
}

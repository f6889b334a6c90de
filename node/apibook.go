package node

import (
	"context"
	"time"

	"quipu/rpc"
)

// discovery is how much this node knows of others.
func (n *Node) discovery() rpc.Discovery {
	b := n.net.BookInfo()
	return rpc.Discovery{New: b.New, Tried: b.Tried, Groups: b.Groups, Slots: b.Slots, Want: b.Want}
}

func (a *api) peerBook(_ context.Context, p rpc.PeerBookParams) (rpc.PeerBook, error) {
	if !a.n.cfg.Discover {
		return rpc.PeerBook{}, rpc.Errorf(rpc.NameUnavailable, "start it with --discover", "this node keeps no address book")
	}
	out := rpc.PeerBook{Discovery: a.n.discovery()}
	for _, k := range a.n.net.Book(p.Max) {
		out.Known = append(out.Known, rpc.KnownPeer{
			ID: k.ID, Addr: k.Addr, Group: k.Group, Source: k.Source, Tried: k.Tried, Fails: k.Fails, Seen: k.Seen.UTC(),
			LastTry: known(k.LastTry), LastGood: known(k.LastGood),
		})
	}
	return out, nil
}

// known is nil for a time that never was.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// nodes is how many connected peers are nodes, not bootnodes.
func (n *Node) nodes() (out int) {
	for _, p := range n.net.Peers() {
		if !p.Bootnode {
			out++
		}
	}
	return out
}

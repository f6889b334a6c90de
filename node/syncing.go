package node

import "quipu/p2p"

// SyncState says how far the download of bodies is. A node without network has none.
func (n *Node) SyncState() p2p.SyncState {
	if n.net == nil {
		return p2p.SyncState{}
	}
	return n.net.SyncState()
}

// Banned is how many peers are banned.
func (n *Node) Banned() int { return len(n.net.Bans()) }

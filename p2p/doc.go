// Package p2p is the network edge: host, gossip, status exchange, sync, serving, blame. libp2p is imported only here.
//
// Gossip is a hint and the status exchange is the truth: whatever gossip drops (a full queue, an empty mesh, a message
// ignored and remembered as seen) the exchange on connect, on each new tip and every few seconds repairs.
//
// The way of a byte: length limit, decode (p2p/wire), Backend, verdict (verdict.go), blame (blame.go), forwarded or
// not. The gossip validators are the only door, and nothing subscribes. Run is the only function that starts
// goroutines, and it waits for them. The Backend is never called with a lock of this package held.
package p2p

import "github.com/libp2p/go-libp2p/core/host"

// Host is libp2p's host under a name that packages which may not import libp2p can use.
type Host = host.Host

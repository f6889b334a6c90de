package p2p

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"quipu/chain"
	"quipu/chain/chaintest"
)

// bootnode starts one on the simulated network.
func (w *world) bootnode(g *chain.Genesis) (b *Bootnode, stop func()) {
	w.Helper()
	h := w.host()
	b, err := NewBootnode(Config{TestNet: true, Log: w.logOf("bootnode")}, h, g.NetworkID())
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			w.Errorf("Run: %v", err)
		}
		done <- nil
		h.Close()
	}
	w.stop = append(w.stop, stop)
	synctest.Wait()
	return b, stop
}

func (w *world) logOf(name string) *slog.Logger {
	if os.Getenv("QUIPU_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", name)
}

// seeker starts a node that knows the given addresses and finds the rest.
func (w *world) seeker(g *chain.Genesis, file string, dial ...string) *node {
	w.Helper()
	return w.startOn(w.host(), newFake(g), func(c *Config) { c.Discover, c.BookFile = true, file }, nil, dial...)
}

// friends is how many connected peers have told a node their status.
func friends(n *node) (out int) {
	for _, p := range n.Peers() {
		if p.HasStatus {
			out++
		}
	}
	return out
}

// oneNetwork reports whether each node has at least least friends and all are connected to one another over friends.
func oneNetwork(nodes []*node, least int) bool {
	index := map[string]*node{}
	for _, n := range nodes {
		index[n.ID()] = n
		if friends(n) < least {
			return false
		}
	}
	seen := map[*node]bool{nodes[0]: true}
	for todo := nodes[:1:1]; len(todo) > 0; todo = todo[1:] {
		for _, p := range todo[0].Peers() {
			if o := index[p.ID]; o != nil && p.HasStatus && !seen[o] {
				seen[o] = true
				todo = append(todo, o)
			}
		}
	}
	return len(seen) == len(nodes)
}

// TestTwentyNodesFromOneBootnode: twenty nodes that know a bootnode alone become one network; the bootnode dies; one that
// knows any of the twenty joins; and one of the twenty that is restarted comes back by its book, knowing nobody.
func TestTwentyNodesFromOneBootnode(t *testing.T) {
	inWorld(t, func(w *world) {
		g := chaintest.Genesis(nil, alice)
		boot, stop := w.bootnode(g)
		file := t.TempDir() + "/peers.book"
		nodes := []*node{w.seeker(g, file, boot.Addrs()...)}
		for len(nodes) < 20 {
			nodes = append(nodes, w.seeker(g, "", boot.Addrs()...))
		}
		took := w.within(2*time.Minute, "one network of 20", func() bool { return oneNetwork(nodes, 4) })
		t.Logf("20 nodes are one network after %v; the bootnode knows %+v, the first node %+v", took, boot.Info(), nodes[0].BookInfo())
		stop()
		late := w.seeker(g, "", nodes[13].Addrs()...)
		nodes = append(nodes, late)
		took = w.within(2*time.Minute, "one network of 21", func() bool { return oneNetwork(nodes, 4) })
		t.Logf("a newcomer has %d friends %v after the bootnode died", friends(late), took)

		w.within(time.Minute, "outbound peers", func() bool { return nodes[0].BookInfo().Slots > 1 })
		nodes[0].cancel()
		if err := nodes[0].host.Close(); err != nil {
			t.Error(err)
		}
		nodes[0] = w.seeker(g, file)
		if nodes[0].BookInfo().Tried == 0 || nodes[0].BookInfo().Anchors == 0 {
			t.Errorf("the book came back as %+v", nodes[0].BookInfo())
		}
		w.within(time.Minute, "one network again, by the book", func() bool { return oneNetwork(nodes, 4) })
	})
}

// A bootnode is left once there are peers, is never charged for telling no status, and tells nobody of itself.
func TestBootnodeIsLeftOnceThereArePeers(t *testing.T) {
	inWorld(t, func(w *world) {
		g := chaintest.Genesis(nil, alice)
		boot, _ := w.bootnode(g)
		nodes := []*node{w.seeker(g, "", boot.Addrs()...), w.seeker(g, "", boot.Addrs()...), w.seeker(g, "", boot.Addrs()...)}
		w.within(time.Minute, "a network of 3", func() bool { return oneNetwork(nodes, 2) })
		id, _ := peer.Decode(boot.ID())
		w.within(time.Minute, "without the bootnode", func() bool {
			for _, n := range nodes {
				if n.remote(id) != nil {
					return false
				}
			}
			return true
		})
		for _, n := range nodes {
			if len(n.Bans()) > 0 || n.gate.denied(id) || n.Counters()["charged_"+string(OtherNetwork)] > 0 {
				t.Errorf("bans %v, charged %v", n.Bans(), n.Counters())
			}
			for _, k := range n.Book(100) {
				if k.ID == boot.ID() {
					t.Error("a node took the bootnode for one of its kind")
				}
			}
		}
	})
}

// Nodes of two networks that share a bootnode's address by mistake don't learn of each other.
func TestBootnodeOfAnotherNetworkTellsNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		boot, _ := w.bootnode(chaintest.Genesis(nil, alice))
		other := chaintest.Genesis(nil, bob)
		n := w.seeker(other, "", boot.Addrs()...)
		time.Sleep(20 * time.Second) // virtual
		if boot.Info() != (BookInfo{}) || len(n.Book(10)) > 0 {
			t.Errorf("the bootnode knows %+v, the node %v", boot.Info(), n.Book(10))
		}
	})
}

var _ host.Host = standing{}

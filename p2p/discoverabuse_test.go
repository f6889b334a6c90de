package p2p

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"

	"quipu/chain/chaintest"
	"quipu/p2p/wire"
)

// teller is a bare host that a node takes for one of its network, and that answers peers as told.
func (w *world) teller(f *fake, answer func() []byte) host.Host {
	h := w.liar(f.g, func() wire.Status { return statusOf(f) })
	w.handle(h, f.g, wire.NamePeers, func(st network.Stream) {
		if _, err := wire.ReadFrame(st, wire.MaxPeersRequest); err == nil {
			wire.WriteFrame(st, answer())
		}
	})
	return h
}

func TestGarbageForPeersIsBanned(t *testing.T) {
	inWorld(t, func(w *world) {
		f := newFake(chaintest.Genesis(nil, alice))
		bad := w.teller(f, func() []byte { return []byte{1, 0} })
		n := w.seeker(f.g, "", addrOf(bad))
		w.within(30*time.Second, "banned", w.banned(n, bad, Malformed))
	})
}

// What is told of others counts only from peers that the node has dialled: one that connects by itself isn't asked, and
// where it says that it listens counts at its own address alone.
func TestWhoConnectsTellsOfItselfAlone(t *testing.T) {
	inWorld(t, func(w *world) {
		f := newFake(chaintest.Genesis(nil, alice))
		asked := 0
		bad := w.teller(f, func() []byte { asked++; return wire.AppendPeers(nil, nil) })
		n := w.seeker(f.g, "")
		w.dialTo(bad, n)
		w.within(10*time.Second, "its own address in the book", func() bool { return len(n.Book(10)) == 1 })
		for _, a := range []string{"/ip4/203.0.113.7/tcp/4820", "/ip4/203.0.114.7/udp/1/quic-v1"} {
			n.find.identified(bad.ID(), []ma.Multiaddr{maddr(t, a)})
		}
		time.Sleep(30 * time.Second) // virtual
		if asked > 0 || n.find.ask(w.Context(), bad.ID()) == nil {
			t.Errorf("it was asked %d times", asked)
		}
		if book := n.Book(10); len(book) != 1 || !strings.HasPrefix(addrOf(bad), book[0].Addr) {
			t.Errorf("the book is %+v", book)
		}
	})
}

// A flood of requests is refused, bans nobody, and a request of too much is malformed.
func TestFloodOfRequestsForPeers(t *testing.T) {
	inWorld(t, func(w *world) {
		f := newFake(chaintest.Genesis(nil, alice))
		n := w.seeker(f.g, "")
		boot, _ := w.bootnode(f.g)
		for _, c := range []struct {
			addr    string
			refused func() uint64
		}{{n.addr(), func() uint64 { return n.Counters()["peers_refused"] }}, {boot.Addrs()[0], func() uint64 { return boot.Counters()["peers_refused"] }}} {
			h := w.liar(f.g, func() wire.Status { return statusOf(f) })
			info, _ := peer.AddrInfoFromString(c.addr)
			if err := h.Connect(w.Context(), *info); err != nil {
				t.Fatal(err)
			}
			answers := 0
			for range 50 {
				if st, err := h.NewStream(w.Context(), info.ID, protocol.ID(wire.ProtocolID(f.g.NetworkID(), wire.NamePeers))); err == nil {
					wire.WriteFrame(st, wire.AppendPeersRequest(nil, wire.MaxPeers))
					if b, err := wire.ReadFrame(st, wire.MaxPeersAnswer); err == nil && len(b) > 0 {
						answers++
					}
					st.Reset()
				}
			}
			if answers < askBurst || answers > askBurst+3 || c.refused() < 40 {
				t.Errorf("%d answers, %d refused", answers, c.refused())
			}
			if h.Network().Connectedness(info.ID) != network.Connected {
				t.Error("it was disconnected")
			}
		}
		if len(n.Bans()) > 0 {
			t.Errorf("bans %v", n.Bans())
		}
	})
}

// One that opens streams to a bootnode and says nothing leaves it to others.
func TestSilentStreamsLeaveABootnodeToOthers(t *testing.T) {
	inWorld(t, func(w *world) {
		g := chaintest.Genesis(nil, alice)
		boot, _ := w.bootnode(g)
		info, _ := peer.AddrInfoFromString(boot.Addrs()[0])
		open := func(h host.Host) (network.Stream, error) {
			return h.NewStream(w.Context(), info.ID, protocol.ID(wire.ProtocolID(g.NetworkID(), wire.NamePeers)))
		}
		status := func() wire.Status { return wire.Status{} }
		silent, other := w.liar(g, status), w.liar(g, status)
		for _, h := range []host.Host{silent, other} {
			if err := h.Connect(w.Context(), *info); err != nil {
				t.Fatal(err)
			}
		}
		for range bootnodeServing {
			if st, err := open(silent); err == nil {
				st.Write([]byte{1}) // the stream is there
			}
		}
		time.Sleep(time.Second) // virtual
		st, err := open(other)
		if err != nil {
			t.Fatal(err)
		}
		wire.WriteFrame(st, wire.AppendPeersRequest(nil, wire.MaxPeers))
		if b, err := wire.ReadFrame(st, wire.MaxPeersAnswer); err != nil || len(b) == 0 {
			t.Errorf("no answer: %v", err)
		}
	})
}

// Addresses of closed networks stay there, both ways; a lie about them from outside makes a node dial nobody near it.
func TestClosedAddressesStayWhereTheyMeanSomething(t *testing.T) {
	inWorld(t, func(w *world) {
		f := newFake(chaintest.Genesis(nil, alice))
		n := w.seeker(f.g, "")
		n.find.testNet = false
		told := []ma.Multiaddr{
			maddr(t, "/ip4/198.51.100.1/tcp/4820"), maddr(t, "/ip4/10.1.1.1/tcp/4820"), maddr(t, "/ip4/127.0.0.1/tcp/4820"),
			maddr(t, "/ip4/192.168.1.1/tcp/4820"), maddr(t, "/ip4/198.51.100.2/tcp/4820"),
		}
		for from, want := range map[string]string{
			"203.0.113.1": "/ip4/198.51.100.1/tcp/4820", "10.9.9.9": "/ip4/10.1.1.1/tcp/4820 /ip4/198.51.100.1/tcp/4820",
			"127.0.0.1": "/ip4/10.1.1.1/tcp/4820 /ip4/127.0.0.1/tcp/4820 /ip4/192.168.1.1/tcp/4820 /ip4/198.51.100.1/tcp/4820",
		} {
			n.find.book = newAddrBook([32]byte{2})
			n.find.told(mustID(t, 1), told, netip.MustParseAddr(from))
			var got []string
			for _, k := range n.Book(10) {
				got = append(got, k.Addr)
			}
			if strings.Join(sorted(got), " ") != want {
				t.Errorf("from %s: %v", from, got)
			}
		}
		n.find.HandlePeerFound(peer.AddrInfo{ID: mustID(t, 2), Addrs: told})
		for _, k := range n.Book(20) {
			if k.Source == string(onLAN) && !strings.HasPrefix(k.Addr, "/ip4/10.") && !strings.HasPrefix(k.Addr, "/ip4/127.") && !strings.HasPrefix(k.Addr, "/ip4/192.168.") {
				t.Errorf("mDNS names %s", k.Addr)
			}
		}
		h := w.liar(f.g, func() wire.Status { return statusOf(f) })
		w.dialTo(h, n)
		all, err := wire.DecodePeers(n.find.answer(h.ID(), wire.MaxPeers), wire.MaxPeers) // it is at an open address
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range all {
			if a, err := ma.NewMultiaddrBytes(p.Addrs[0]); err != nil || closedRange(must(ipOf(a))) >= 0 {
				t.Errorf("a stranger was told %s, %v", a, err)
			}
		}
	})
}

func must(ip netip.Addr, _ bool) netip.Addr { return ip }

func mustID(t *testing.T, n byte) peer.ID {
	t.Helper()
	id, err := peer.IDFromBytes(append(append([]byte{0x12, 0x20}, make([]byte, 31)...), n))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// The chooser: anchors first, one slot a group, back-off, and a turn for others.
func TestChooser(t *testing.T) {
	b := newAddrBook([32]byte{3})
	now := bookTime
	for i := range 300 {
		k := knownKey{peer.ID(fmt.Sprint("p", i)), string(simAddr(i%30, i).Bytes())}
		b.add(k.id, simAddr(i%30, i), simGroup(i%5), now)
		if i == 17 || i == 18 {
			b.succeeded(k, now)
			b.anchors = append(b.anchors, k)
		}
	}
	c := newChooser(b, newRand(1), 8, false)
	anyone, nowhere := func(peer.ID) bool { return true }, func(group) bool { return false }
	var feelers int
	groups := map[group]int{}
	for i := range 200 {
		now = now.Add(time.Second)
		s := c.next(now, anyone, nowhere)
		if s == nil {
			continue
		}
		if i < 2 && !s.anchor {
			t.Errorf("choice %d is no anchor: %+v", i, s)
		}
		if s.feeler {
			feelers++
		} else {
			groups[s.group]++
		}
		c.answered(s, now)
	}
	if c.filled() != 8 || len(groups) != 8 || feelers < 2 || feelers > 14 {
		t.Errorf("%d slots in %d groups, %d feelers in 200 s", c.filled(), len(groups), feelers)
	}
	gone := 0
	for range 3600 {
		now = now.Add(time.Second)
		if c.turnover(now) != nil {
			gone++
			if s := c.next(now, anyone, nowhere); s == nil || s.feeler {
				t.Fatal("nobody took its place")
			} else {
				c.answered(s, now)
			}
		}
	}
	if gone < 1 || gone > 4 {
		t.Errorf("%d slots given up in an hour", gone)
	}

	one := newAddrBook([32]byte{4})
	one.add("q", simAddr(1, 1), simGroup(1), now)
	c = newChooser(one, newRand(2), 8, false)
	dials := 0
	for range 3600 {
		now = now.Add(time.Second)
		if s := c.next(now, anyone, nowhere); s != nil {
			dials++
			c.release(s)
			one.failed(s.knownKey, now, true)
		}
	}
	if dials < 4 || dials > 9 {
		t.Errorf("an address that never answers was dialled %d times in an hour", dials)
	}
	if s := c.next(now.Add(24*time.Hour), anyone, func(group) bool { return true }); s != nil && !s.feeler {
		t.Errorf("a second outbound peer in a group: %+v", s)
	}
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, seed)) }

func sorted(s []string) []string {
	slices.Sort(s)
	return s
}

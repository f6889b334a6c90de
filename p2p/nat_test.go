package p2p

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	circuit "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"

	"quipu/chain/chaintest"
	"quipu/p2p/wire"
)

func relays(c *Config) { c.Relay = true }

func behindNAT(bootstrap ...string) func(*Config) {
	return func(c *Config) { c.NAT, c.Bootstrap = true, bootstrap }
}

// relayed is the address of n through a relay, "" as long as it has none.
func relayed(n *node) string {
	for _, a := range n.Addrs() {
		if strings.Contains(a, "/p2p-circuit/") {
			return a
		}
	}
	return ""
}

// direct reports whether a has a connection to b that no relay is part of, with b's status heard over it.
func direct(a, b *node) func() bool {
	return func() bool {
		for _, p := range a.Peers() {
			if p.ID == b.ID() && p.HasStatus {
				return !strings.Contains(p.Addr, "/p2p-circuit")
			}
		}
		return false
	}
}

// Two nodes behind NATs can't dial each other. A relay brings them together, they punch through, and then sync and
// gossip without it.
func TestHolesArePunched(t *testing.T) {
	for name, private := range map[string]bool{"open": false, "with a list of allowed peers": true} {
		t.Run(name, func(t *testing.T) { punchHoles(t, private) })
	}
}

func punchHoles(t *testing.T, private bool) {
	g := chaintest.Genesis(nil, alice)
	blocks := testChain(g, 60, 20)
	idents := []Identity{newID(t), newID(t), newID(t)}
	as := func(i int, edit func(*Config)) func(*Config) {
		return func(c *Config) {
			edit(c)
			if c.Identity = idents[i]; private {
				c.AllowPeers = []string{idents[0].ID(), idents[1].ID(), idents[2].ID()}
			}
		}
	}
	inInternet(t, func(w *internet) {
		fr, fa, fb := newFake(g), newFake(g), newFake(g)
		fa.load(blocks[:50])
		r := w.startAt(w.public(), fr, as(0, relays))
		a := w.startAt(w.home(coneNAT), fa, as(1, behindNAT(r.addr())))
		b := w.startAt(w.home(coneNAT), fb, as(2, behindNAT(r.addr())))
		w.within(20*time.Second, "a reached through the relay", func() bool { return relayed(a) != "" })
		w.within(20*time.Second, "all synced", func() bool { return fr.Tip().Header.Height == 50 && fb.Tip().Header.Height == 50 })
		if direct(a, b)() || direct(b, a)() {
			t.Fatal("they are connected before they know of each other")
		}

		before := w.drops()
		if err := b.Connect(w.Context(), relayed(a)); err != nil {
			t.Fatal(err)
		}
		took := w.within(20*time.Second, "connected past the relay", func() bool { return direct(a, b)() && direct(b, a)() })
		t.Logf("punched after %v, with %d packets dropped by the NATs", took, w.drops()-before)
		if punched := a.Counters()["holes_punched"] + b.Counters()["holes_punched"]; punched == 0 {
			t.Errorf("counters of a %v, of b %v", a.Counters(), b.Counters())
		}
		for _, p := range b.Peers() {
			if p.ID == a.ID() && !strings.HasPrefix(p.Addr, "/ip4/2.0.0.1/") {
				t.Errorf("b reaches a at %s, want the address of a's NAT", p.Addr)
			}
		}

		r.cancel()
		r.host.Close()
		w.within(10*time.Second, "the relay gone", func() bool { return len(a.Peers()) == 1 && len(b.Peers()) == 1 })
		fa.load(blocks[:60])
		a.Announce()
		w.within(10*time.Second, "synced through the hole", func() bool { return fb.Tip().Header.Height == 60 })
		w.within(10*time.Second, "in the mesh", func() bool { return len(b.gossip.txs.ListPeers()) == 1 })
		b.PublishTxs(payments(g, 100))
		w.within(2*time.Second, "gossip through the hole", func() bool { return fa.poolSize() == 100 })
		if a.Counters()["txs_repaired"] > 0 {
			t.Error("the exchange had to repair what gossip should bring")
		}
		w.noRelayed(a, b)
	})
}

func (n *internet) drops() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dropped
}

// noRelayed checks that only connections past the relay are left, once it is gone.
func (n *internet) noRelayed(a, b *node) {
	n.Helper()
	for _, c := range a.host.Network().ConnsToPeer(b.host.ID()) {
		if c.Stat().Limited {
			n.Errorf("a relayed connection is left: %s", c.RemoteMultiaddr())
		}
	}
}

// Between two NATs that map each destination to another port no hole can be punched. The relayed connection then
// carries none of our protocols and ends; both nodes stay in the network by the peers they can dial.
func TestNoProtocolOfOursRunsOverARelay(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	blocks := testChain(g, 5, 1)
	inInternet(t, func(w *internet) {
		fr, fa, fb := newFake(g), newFake(g), newFake(g)
		r := w.startAt(w.public(), fr, relays)
		a := w.startAt(w.home(symmetricNAT), fa, behindNAT(r.addr()))
		b := w.startAt(w.home(symmetricNAT), fb, behindNAT(r.addr()))
		w.within(20*time.Second, "a reached through the relay", func() bool { return relayed(a) != "" })
		if err := b.Connect(w.Context(), relayed(a)); err != nil {
			t.Fatal(err)
		}
		ida := a.host.ID()
		if got := b.host.Network().Connectedness(ida); got != network.Limited {
			t.Fatalf("b is %v to a", got)
		}
		for name := range a.handlers() {
			ctx, cancel := context.WithTimeout(network.WithAllowLimitedConn(w.Context(), "test"), 5*time.Second)
			st, err := b.host.NewStream(ctx, ida, protocol.ID(wire.ProtocolID(g.NetworkID(), name)))
			if err == nil {
				st.SetDeadline(time.Now().Add(5 * time.Second))
				st.Write([]byte{0, 0, 0, 0})
				if n, err := st.Read(make([]byte, 1)); err == nil {
					t.Errorf("%s: %d bytes answered over a relay", name, n)
				}
			}
			cancel()
		}
		w.within(time.Minute, "punching given up", func() bool { return a.Counters()["hole_punches_failed"] >= 3 })
		if len(a.Peers()) != 1 || len(b.Peers()) != 1 {
			t.Errorf("peers of a %+v, of b %+v", a.Peers(), b.Peers())
		}
		fa.load(blocks)
		a.Announce()
		w.within(10*time.Second, "synced through the network", func() bool { return fb.Tip().Header.Height == 5 })
		if len(a.Bans())+len(b.Bans())+len(r.Bans()) > 0 {
			t.Errorf("bans %v %v %v", a.Bans(), b.Bans(), r.Bans())
		}
	})
}

// Once a NAT's address has been seen by four, AutoNAT finds out whether it can be dialled. A node with a forwarded
// port announces that address and asks no relay any more; another one announces its relays.
func TestReachabilityIsFoundOut(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	inInternet(t, func(w *internet) {
		var public []string
		for range 5 {
			public = append(public, w.startAt(w.public(), newFake(g), relays).addr())
		}
		shut, open := w.home(coneNAT), w.home(forwardedNAT)
		a := w.startAt(shut, newFake(g), behindNAT(public...))
		f := w.startAt(open, newFake(g), behindNAT(public...))
		announces := func(n *node, ip netip.Addr) bool {
			return slices.ContainsFunc(n.Addrs(), func(s string) bool { return strings.HasPrefix(s, "/ip4/"+ip.String()+"/") })
		}
		w.within(5*time.Minute, "the forwarded port found", func() bool {
			return announces(f, w.homes[open].public) && relayed(f) == ""
		})
		w.within(5*time.Minute, "the shut address withdrawn", func() bool {
			return !announces(a, w.homes[shut].public) && relayed(a) != ""
		})
		// A newcomer elsewhere can use what is announced.
		b := w.startAt(w.home(symmetricNAT), newFake(g), behindNAT(public[0]))
		at := f.Addrs()[slices.IndexFunc(f.Addrs(), func(s string) bool { return strings.HasPrefix(s, "/ip4/2.") })]
		if err := b.Connect(w.Context(), at); err != nil {
			t.Errorf("dialling %s: %v", at, err)
		}
	})
}

// A relay is for nodes of its network, and says what a connection through it may carry.
func TestRelayIsForItsNetwork(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	inInternet(t, func(w *internet) {
		r := w.startAt(w.public(), newFake(g), relays)
		info, _ := peer.AddrInfoFromString(r.addr())
		stranger, _ := w.hostAt(w.public(), nil)
		if err := stranger.Connect(w.Context(), *info); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // virtual: identify is through
		if _, err := circuit.Reserve(w.Context(), stranger, *info); err == nil || !strings.Contains(err.Error(), "PERMISSION_DENIED") {
			t.Errorf("a stranger got a slot: %v", err)
		}
		var ok int
		for range relayPerIP + 2 {
			h, _ := w.hostAt(w.home(coneNAT), nil)
			w.handle(h, g, wire.NameStatus, func(network.Stream) {})
			if err := h.Connect(w.Context(), *info); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second) // virtual
			if rsvp, err := circuit.Reserve(w.Context(), h, *info); err == nil {
				ok++
				if rsvp.LimitData != relayedBytes || rsvp.LimitDuration != relayedFor {
					t.Errorf("limits %d bytes, %v", rsvp.LimitData, rsvp.LimitDuration)
				}
			}
		}
		if ok != relayPerIP+2 {
			t.Errorf("%d nodes of different addresses got a slot", ok)
		}
	})
}

// Whoever doesn't ask for it speaks none of it.
func TestNATHelpIsOff(t *testing.T) {
	for name, edit := range map[string]func(*Config){"nothing": func(*Config) {}, "relay": relays, "nat": func(c *Config) { c.NAT = true }} {
		t.Run(name, func(t *testing.T) {
			inInternet(t, func(w *internet) {
				n := w.startAt(w.public(), newFake(chaintest.Genesis(nil, alice)), edit)
				time.Sleep(time.Minute) // virtual
				var got []string
				for _, p := range n.host.Mux().Protocols() {
					if strings.Contains(string(p), "circuit") || strings.Contains(string(p), "autonat") || strings.Contains(string(p), "dcutr") {
						got = append(got, string(p))
					}
				}
				slices.Sort(got)
				want := map[string][]string{
					"relay": {"/libp2p/autonat/2/dial-back", "/libp2p/autonat/2/dial-request", "/libp2p/circuit/relay/0.2.0/hop"},
					"nat":   {"/libp2p/autonat/2/dial-back", "/libp2p/autonat/2/dial-request", "/libp2p/circuit/relay/0.2.0/stop", "/libp2p/dcutr"},
				}[name]
				if !slices.Equal(got, want) {
					t.Errorf("speaks %v, want %v", got, want)
				}
			})
		})
	}
}

package p2p

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/x/simlibp2p"
	"github.com/marcopolo/simnet"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/p2p/wire"
)

// world is a simulated network in virtual time: QUIC over links of 100 Mbit/s and 20 ms round trip.
type world struct {
	*testing.T
	net   *simnet.Simnet
	hosts int
	stop  []func()
	busy  atomic.Int64                // handlers of bare hosts
	link  simnet.NodeBiDiLinkSettings // of hosts made from now on
}

// node is one Service with its fake Backend.
type node struct {
	*Service
	f      *fake
	cancel func()
}

var link = simnet.NodeBiDiLinkSettings{
	Downlink: simnet.LinkSettings{BitsPerSecond: 100 * simlibp2p.OneMbps},
	Uplink:   simnet.LinkSettings{BitsPerSecond: 100 * simlibp2p.OneMbps},
}

// inWorld runs f in a synctest bubble. Under the race detector one processor works around golang/go#78156.
func inWorld(t *testing.T, f func(w *world)) {
	if raceEnabled {
		old := runtime.GOMAXPROCS(1)
		t.Cleanup(func() { runtime.GOMAXPROCS(old) })
	}
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, net: &simnet.Simnet{LatencyFunc: simnet.StaticLatency(10 * time.Millisecond)}, link: link}
		w.net.Start()
		defer func() {
			for i := len(w.stop) - 1; i >= 0; i-- {
				w.stop[i]()
			}
			w.net.Close()
			for w.busy.Load() > 0 {
				time.Sleep(time.Second) // virtual
			}
		}()
		f(w)
	})
}

// host is a real host on the simulated network.
func (w *world) host() host.Host {
	w.Helper()
	ident, err := NewIdentity()
	if err != nil {
		w.Fatal(err)
	}
	addr := fmt.Sprintf("/ip4/%s/udp/8000/quic-v1", simnet.IntToPublicIPv4(w.hosts))
	w.hosts++
	h, err := NewHost(Config{Identity: ident, Listen: []string{addr}, TestNet: true}, simlibp2p.QUICSimnet(w.net, w.link),
		libp2p.UDPBlackHoleSuccessCounter(nil)) // or many dials to peers that are gone end all dialling

	if err != nil {
		w.Fatal(err)
	}
	w.stop = append(w.stop, func() { h.Close() })
	return h
}

func addrOf(h host.Host) string { return h.Addrs()[0].String() + "/p2p/" + h.ID().String() }

// start runs a node that keeps dialling the given ones.
func (w *world) start(f *fake, edit func(*Service), dial ...string) *node {
	w.Helper()
	return w.startOn(w.host(), f, nil, edit, dial...)
}

// startOn is start on a host, and with a configuration to edit.
func (w *world) startOn(h host.Host, f *fake, set func(*Config), edit func(*Service), dial ...string) *node {
	w.Helper()
	cfg := Config{TestNet: true, Bootstrap: dial, Log: slog.New(slog.NewTextHandler(&f.log, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	if os.Getenv("QUIPU_LOG") != "" {
		cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", w.hosts)
	}
	if set != nil {
		set(&cfg)
	}
	s, err := New(cfg, h, f)
	if err != nil {
		w.Fatal(err)
	}
	if edit != nil {
		edit(s)
	}
	f.mu.Lock()
	f.svc = s
	f.mu.Unlock()
	ctx, cancel := context.WithCancel(w.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	once := func() {
		cancel()
		if err := <-done; err != nil {
			w.Errorf("Run: %v", err)
		}
		done <- nil
	}
	w.stop = append(w.stop, once)
	synctest.Wait() // it has joined the topics
	return &node{Service: s, f: f, cancel: once}
}

func (n *node) addr() string { return n.Addrs()[0] }

// within waits, in virtual time, until cond holds.
func (w *world) within(d time.Duration, what string, cond func() bool) time.Duration {
	w.Helper()
	start := time.Now()
	for !cond() {
		if time.Since(start) > d {
			w.Fatalf("after %v of virtual time: not %s", d, what)
		}
		time.Sleep(5 * time.Millisecond) // virtual
	}
	return time.Since(start)
}

func (w *world) banned(n *node, h host.Host, ev Evidence) func() bool {
	return func() bool {
		for _, b := range n.Bans() {
			if b.ID == h.ID().String() && b.Evidence == ev {
				return true
			}
		}
		return false
	}
}

// dialTo connects a bare host to a node and waits until the node follows it.
func (w *world) dialTo(h host.Host, n *node) {
	w.Helper()
	info, _ := peer.AddrInfoFromString(n.addr())
	if err := h.Connect(w.Context(), *info); err != nil {
		w.Fatal(err)
	}
	w.within(time.Second, "followed", func() bool { return n.remote(h.ID()) != nil })
}

// liar is a bare host that answers status as told, and whatever else the test sets.
func (w *world) liar(g *chain.Genesis, st func() wire.Status) host.Host {
	h := w.host()
	w.handle(h, g, wire.NameStatus, func(s network.Stream) {
		if _, err := wire.ReadFrame(s, wire.MaxStatus); err != nil {
			return
		}
		v := st()
		wire.WriteFrame(s, v.Append(nil))
	})
	return h
}

func (w *world) handle(h host.Host, g *chain.Genesis, name string, f func(network.Stream)) {
	h.SetStreamHandler(protocol.ID(wire.ProtocolID(g.NetworkID(), name)), func(s network.Stream) {
		w.busy.Add(1)
		defer w.busy.Add(-1)
		defer s.Close()
		f(s)
	})
}

// statusOf is what a node with this backend says of itself.
func statusOf(f *fake) wire.Status {
	best, tip := f.BestHeader(), f.Tip()
	return wire.Status{BestID: best.ID, BestHeight: best.Header.Height, BestWork: best.Work, TipID: tip.ID,
		TipHeight: tip.Header.Height, TipWork: tip.Work, Version: 1, Clock: uint64(time.Now().UnixMilli()), Ranges: f.Held()}
}

var alice, bob = chaintest.NewKey("alice"), chaintest.NewKey("bob")

// testChain is n blocks of one payment with the given memo length, all valid. Made once a size.
func testChain(g *chain.Genesis, n, outputs int) []chain.Block {
	gen := chaintest.New(g)
	outs := make([]chain.Output, outputs)
	for i := range outs {
		outs[i] = chaintest.To(bob, 1)
	}
	out := make([]chain.Block, n)
	for i, b := range gen.Chain("b", n, func(i int) []chain.Tx {
		return []chain.Tx{alice.Pay(g, uint64(i), 0, outs...)}
	}) {
		out[i] = b.Block
	}
	return out
}

func payments(g *chain.Genesis, n int) (raws [][]byte) {
	for i := range n {
		raws = append(raws, chaintest.Raw(alice.Pay(g, uint64(i), 0, chaintest.To(bob, 1))))
	}
	return raws
}

func headersOf(blocks []chain.Block) []chain.Header {
	hs := make([]chain.Header, len(blocks))
	for i := range blocks {
		hs[i] = blocks[i].Header
	}
	return hs
}

package light

import (
	"bytes"
	"context"
	"errors"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/p2p"
	"quipu/p2p/wire"
)

// branch is n states on a parent, of headers without bodies, by a miner whose name makes them differ.
func branch(g *chain.Genesis, parent chain.State, n int, miner byte) []chain.State {
	out := make([]chain.State, n)
	for i := range out {
		h := g.NewHeader(&parent, chain.Account{miner}, parent.Header.Time+uint64(g.Spacing))
		h.Solve(1 << 40)
		parent = chain.AssumeState(&parent, &h)
		out[i] = parent
	}
	return out
}

func newHost(t *testing.T, listen ...string) host.Host {
	t.Helper()
	identity, err := p2p.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	h, err := p2p.NewHost(p2p.Config{Identity: identity, Listen: listen, TestNet: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// peerOf serves a chain's headers over a real socket, ascending from height 1. headers may answer in its place.
func peerOf(t *testing.T, g *chain.Genesis, states []chain.State, headers func(q wire.HeadersRequest) []chain.Header) string {
	t.Helper()
	h := newHost(t, "/ip4/127.0.0.1/tcp/0")
	tip, zero := states[len(states)-1], g.State()
	if headers == nil {
		headers = func(q wire.HeadersRequest) (out []chain.Header) {
			from := 0
			for _, id := range q.Locator {
				if i := slices.IndexFunc(states, func(s chain.State) bool { return s.ID == id }); i >= 0 || id == zero.ID {
					from = i + 1
					break
				}
			}
			for i := from; i < len(states) && len(out) < int(q.Max); i++ {
				out = append(out, states[i].Header)
			}
			return out
		}
	}
	serve := func(name string, answer func(b []byte) []byte) {
		h.SetStreamHandler(protocol.ID(wire.ProtocolID(g.NetworkID(), name)), func(st network.Stream) {
			defer st.Close()
			if b, err := wire.ReadFrame(st, 1<<16); err == nil {
				wire.WriteFrame(st, answer(b))
			}
		})
	}
	serve(wire.NameStatus, func([]byte) []byte {
		st := wire.Status{BestID: tip.ID, BestHeight: tip.Header.Height, BestWork: tip.Work, TipID: tip.ID, TipHeight: tip.Header.Height, TipWork: tip.Work, Version: 1}
		return st.Append(nil)
	})
	serve(wire.NameHeaders, func(b []byte) []byte {
		q, err := wire.DecodeHeadersRequest(b)
		if err != nil {
			t.Error(err)
		}
		return wire.AppendHeaders(nil, headers(q))
	})
	return h.Addrs()[0].String() + "/p2p/" + h.ID().String()
}

func newClient(t *testing.T, g *chain.Genesis, file string, peers ...string) *Client {
	t.Helper()
	c, err := New(Config{Genesis: g, Peers: peers, File: file}, newHost(t))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestHeaviestChain: a long chain in several answers, a heavier branch that leaves it far below what is kept densely, and a
// lighter one that is passed over.
func TestHeaviestChain(t *testing.T) {
	g := chaintest.Genesis(nil)
	a := branch(g, g.State(), 4500, 'a')
	b := append(slices.Clone(a[:1500]), branch(g, a[1499], 3001, 'b')...)
	light := append(slices.Clone(a[:4400]), branch(g, a[4399], 90, 'c')...)
	file := filepath.Join(t.TempDir(), "headers")
	first := newClient(t, g, file, peerOf(t, g, a, nil), peerOf(t, g, light, nil))
	if err := first.Sync(t.Context()); err != nil || first.Best().ID != a[4499].ID || first.Best().Work != a[4499].Work {
		t.Fatalf("height %d, %v, %v", first.Best().Header.Height, err, first.reports())
	}
	second := newClient(t, g, file, peerOf(t, g, b, nil), peerOf(t, g, a, nil))
	if second.Best().ID != a[4499].ID {
		t.Fatal("headers weren't kept")
	}
	if err := second.Sync(t.Context()); err != nil || second.Best().ID != b[4500].ID {
		t.Fatalf("height %d, %v, %v", second.Best().Header.Height, err, second.reports())
	}
	for _, s := range second.peers {
		if s.err != nil {
			t.Error(s.err)
		}
	}
	if n := len(second.trail); n > 64+32*8 {
		t.Errorf("%d states kept of 4501", n)
	}
	third := newClient(t, g, file, peerOf(t, g, b, func(q wire.HeadersRequest) []chain.Header {
		t.Errorf("headers asked for that are known")
		return nil
	}))
	if err := third.Sync(t.Context()); err != nil || third.Best().ID != b[4500].ID {
		t.Error(err)
	}
}

// TestPeersThatLeadNowhere: one that goes round in circles ends, and one that has headers of the future is followed to
// them.
func TestPeersThatLeadNowhere(t *testing.T) {
	g := chaintest.Genesis(func(g *chain.Genesis) {
		g.Time = uint64(time.Now().UnixMilli()) - 2100*1000
		g.Spacing, g.HalfLife = 1000, 64_000
	})
	a := branch(g, g.State(), 2050, 'a')
	round := headersOf(a[:wire.MaxHeaders])
	c := newClient(t, g, "", peerOf(t, g, a, func(wire.HeadersRequest) []chain.Header { return round }))
	if err := c.Sync(t.Context()); !errors.Is(err, errBack) || !errors.Is(err, ErrNoPeers) {
		t.Errorf("the same headers again and again: %v", err)
	}
	far := branch(g, a[2049], 1, 'a')[0].Header
	far.Time += 3_600_000
	far.Nonce = 0
	far.Solve(1 << 40)
	future := append(slices.Clone(a), chain.AssumeState(&a[2049], &far))
	c = newClient(t, g, "", peerOf(t, g, future, nil))
	if err := c.Sync(t.Context()); err != nil || c.Best().ID != a[2049].ID {
		t.Errorf("height %d of 2050, %v", c.Best().Header.Height, err)
	}
}

// TestSlowClaim: one that claims the most work and never answers takes its share of the time, not that of the other.
func TestSlowClaim(t *testing.T) {
	g := chaintest.Genesis(nil)
	a := branch(g, g.State(), 20, 'a')
	silent := peerOf(t, g, branch(g, g.State(), 30, 'b'), func(wire.HeadersRequest) []chain.Header {
		<-t.Context().Done()
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
	defer cancel()
	c := newClient(t, g, "", silent, peerOf(t, g, a, nil))
	if err := c.Sync(ctx); err != nil || c.Best().ID != a[19].ID {
		t.Errorf("height %d of 20, %v", c.Best().Header.Height, err)
	}
	if err := c.peers[0].err; err != errShare {
		t.Errorf("the silent one: %v", err)
	}
}

func headersOf(states []chain.State) []chain.Header {
	out := make([]chain.Header, len(states))
	for i := range states {
		out[i] = states[i].Header
	}
	return out
}

// TestThin: what is kept of a chain that grows one by one, and that what is named of it can be asked for.
func TestThin(t *testing.T) {
	var trail []chain.State
	next := uint64(0)
	grow := func(n int) {
		for range n {
			trail = append(trail, chain.State{Header: chain.Header{Height: next}, ID: chain.BlockID{byte(next), byte(next >> 8), byte(next >> 16)}})
			next++
		}
		trail = thin(trail)
		tip, n := trail[len(trail)-1].Header.Height, len(trail)
		if trail[0].Header.Height != 0 || tip != next-1 || n > 2*dense+32*bits.Len64(next/dense) || len(locator(trail)) > wire.MaxLocator {
			t.Fatalf("height %d: %d kept, %d to %d, %d named", next-1, n, trail[0].Header.Height, tip, len(locator(trail)))
		}
		for i := 1; i < n; i++ { // a fork costs at most a little more than what lies above it
			if gap, above := trail[i].Header.Height-trail[i-1].Header.Height, tip-trail[i].Header.Height; gap > 1+above/16 {
				t.Fatalf("a gap of %d at %d blocks below %d", gap, above, tip)
			}
		}
	}
	for range 1000 {
		grow(1)
	}
	for range 100 {
		grow(wire.MaxHeaders)
	}
}

func TestTrailFile(t *testing.T) {
	g := chaintest.Genesis(nil)
	trail := append([]chain.State{g.State()}, branch(g, g.State(), 9, 'a')...)
	b := appendTrail(nil, g.NetworkID(), trail)
	again, err := decodeTrail(b, g)
	if err != nil || !bytes.Equal(appendTrail(nil, g.NetworkID(), again), b) || again[9].NextHistoryRoot() != trail[9].NextHistoryRoot() {
		t.Fatalf("%v", err)
	}
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if _, err := decodeTrail(bad, g); err == nil {
			t.Fatalf("byte %d changed, and taken", i)
		}
		if _, err := decodeTrail(b[:i], g); err == nil {
			t.Fatalf("cut to %d bytes, and taken", i)
		}
	}
	other := chaintest.Genesis(func(g *chain.Genesis) { g.Name = "other" })
	if _, err := decodeTrail(b, other); err == nil || !strings.Contains(err.Error(), "another network") {
		t.Errorf("another network's: %v", err)
	}
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, b[:99], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Genesis: g, Peers: []string{peerOf(t, g, trail[1:], nil)}, File: file}, newHost(t)); !errors.Is(err, ErrFile) || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("a damaged file: %v", err)
	}
}

func TestConfig(t *testing.T) {
	g := chaintest.Genesis(nil)
	h := newHost(t)
	for what, peers := range map[string][]string{
		"none": nil, "without an id": {"/ip4/127.0.0.1/tcp/1"}, "too many": slices.Repeat([]string{"/ip4/127.0.0.1/tcp/1/p2p/" + h.ID().String()}, MaxPeers+1),
	} {
		if _, err := New(Config{Genesis: g, Peers: peers}, h); err == nil {
			t.Errorf("peers %s: taken", what)
		}
	}
	twice := "/ip4/127.0.0.1/tcp/1/p2p/" + newHost(t).ID().String()
	if c, err := New(Config{Genesis: g, Peers: []string{twice, twice}}, h); err != nil || len(c.peers) != 1 {
		t.Errorf("one peer at two addresses: %v", err)
	}
}

func FuzzTrail(f *testing.F) {
	g := chaintest.Genesis(nil)
	b := appendTrail(nil, g.NetworkID(), append([]chain.State{g.State()}, branch(g, g.State(), 3, 'a')...))
	f.Add(b[:len(b)-32])
	f.Add([]byte(trailMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = sealed(b)
		trail, err := decodeTrail(b, g)
		if err == nil && !bytes.Equal(appendTrail(nil, g.NetworkID(), trail), b) {
			t.Error("encodes to other bytes")
		}
	})
}

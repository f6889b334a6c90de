package p2p

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"golang.org/x/time/rate"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/p2p/wire"
)

// Each line is one stream that no honest node opens. It is reset, its sender banned, and the node goes on.
func TestBadFramesAreResetAndCharged(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	frame := func(payload ...byte) []byte { return wire.AppendFrame(nil, payload) }
	huge := []byte{0xff, 0xff, 0xff, 0xff}
	inWorld(t, func(w *world) {
		f := newFake(g)
		n := w.start(f, nil)
		for name, max := range map[string]int{
			wire.NameStatus: wire.MaxStatus, wire.NameHeaders: wire.MaxHeadersRequest, wire.NameBodies: wire.MaxBodiesRequest,
			wire.NameBlockTxs: wire.MaxBlockTxsRequest, wire.NameTxStatus: wire.MaxTxStatusRequest,
		} {
			for what, b := range map[string][]byte{
				"length of 4 GiB":      huge,
				"one byte over":        wire.AppendFrame(nil, make([]byte, max+1)),
				"empty":                frame(),
				"garbage":              frame(bytes.Repeat([]byte{0xa5}, 40)...),
				"all there may be, ff": wire.AppendFrame(nil, bytes.Repeat([]byte{0xff}, max)),
			} {
				h := w.liar(g, func() wire.Status { return statusOf(f) })
				w.dialTo(h, n)
				err := w.send(h, n, name, b)
				if !errors.Is(err, network.ErrReset) && !closed(err) {
					t.Errorf("%s, %s: stream ended with %v, want a reset", name, what, err)
				}
				w.within(time.Second, name+", "+what+": banned", w.banned(n, h, Malformed))
			}
		}
		// What is cut short blames nobody: a connection may break.
		h := w.liar(g, func() wire.Status { return statusOf(f) })
		w.dialTo(h, n)
		for name := range n.handlers() {
			w.send(h, n, name, nil)
			w.send(h, n, name, []byte{9, 0})
			w.send(h, n, name, []byte{9, 0, 0, 0, 1})
		}
		time.Sleep(time.Second) // virtual
		if w.banned(n, h, Malformed)() || n.remote(h.ID()) == nil {
			t.Error("a frame cut short is charged")
		}
		// Served normally after all that.
		other := newFake(g)
		m := w.start(other, nil, n.addr())
		w.within(3*time.Second, "served", func() bool { return len(m.Peers()) == 1 && m.Peers()[0].HasStatus })
	})
}

// closed: the ban may close the connection before the reset is read.
func closed(err error) bool {
	var transport *network.ConnError
	return errors.As(err, &transport) || errors.Is(err, io.ErrClosedPipe)
}

// send writes b to a fresh stream and returns how the stream ended; an answer is no error.
func (w *world) send(h host.Host, n *node, name string, b []byte) error {
	w.Helper()
	s, err := h.NewStream(w.Context(), n.host.ID(), protocol.ID(wire.ProtocolID(n.network, name)))
	if err != nil {
		return err
	}
	defer s.Reset()
	s.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := s.Write(b); err != nil {
		return err
	}
	s.CloseWrite()
	_, err = io.ReadAll(s)
	return err
}

// Each line is an answer that no honest node gives.
func TestBadAnswersAreCharged(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	gen := chaintest.New(g)
	good := gen.Next("good", []chain.Tx{alice.Pay(g, 0, 0, chaintest.To(bob, 1))})
	noWork := good.Header
	for chain.MeetsTarget(noWork.ID(), noWork.Bits) {
		noWork.Nonce++
	}
	badTime := gen.SetTip("genesis").Next("badTime", nil, chaintest.Header(func(h *chain.Header) { h.Time = g.Time })).Header
	badRoot := gen.SetTip("genesis").Next("badRoot", nil, chaintest.Header(func(h *chain.Header) { h.HistoryRoot[0] ^= 1 })).Header
	newer := gen.SetTip("genesis").Next("newer", nil, chaintest.Header(func(h *chain.Header) { h.Version = 99 })).Header
	raws := payments(g, 2)
	forged := bytes.Clone(raws[0])
	forged[len(forged)-1] ^= 1
	headers := func(hs ...chain.Header) []byte { return wire.AppendFrame(nil, wire.AppendHeaders(nil, hs)) }
	for _, c := range []struct {
		name, on string
		answer   []byte
		want     Evidence // "": nobody is banned
	}{
		{"header without work", wire.NameHeaders, headers(noWork), HeaderWork},
		{"header whose time stands still", wire.NameHeaders, headers(badTime), HeaderRule},
		{"header with another history", wire.NameHeaders, headers(badRoot), HeaderRule},
		{"header of a newer program", wire.NameHeaders, headers(newer), ""},
		{"header that links to nothing", wire.NameHeaders, headers(chain.Header{Version: 1, Height: 7}), ""},
		{"no headers", wire.NameHeaders, headers(), ""},
		{"half a header", wire.NameHeaders, wire.AppendFrame(nil, make([]byte, 100)), Malformed},
		{"too many headers", wire.NameHeaders, wire.AppendFrame(nil, make([]byte, wire.MaxHeadersAnswer+chain.HeaderSize)), Malformed},
		{"status of one byte", wire.NameStatus, wire.AppendFrame(nil, []byte{1}), Malformed},
		{"no status", wire.NameStatus, nil, ""},
		{"body of another block", wire.NameBodies, wire.AppendBody(nil, wire.BodyFollows, raws[1]), WrongBody},
		{"body that is no body", wire.NameBodies, wire.AppendBody(nil, wire.BodyFollows, []byte{7}), WrongBody},
		{"body longer than its header says", wire.NameBodies, wire.AppendBody(nil, wire.BodyFollows, append(raws[0], raws[1]...)), Malformed},
		{"body code 9", wire.NameBodies, wire.AppendFrame(nil, []byte{9}), Malformed},
		{"missing body", wire.NameBodies, wire.AppendBody(nil, wire.BodyMissing, nil), ""},
		{"no body", wire.NameBodies, nil, ""},
		{"body later, always", wire.NameBodies, wire.AppendBody(nil, wire.BodyLater, nil), ""},
		{"forged transaction of its pool", wire.NameBlockTxs, wire.AppendFrame(nil, forged), TxSignature},
		{"transaction nobody asked for", wire.NameBlockTxs, wire.AppendFrame(nil, raws[1]), Malformed},
		{"transactions that don't decode", wire.NameBlockTxs, wire.AppendFrame(nil, []byte{1, 2, 3}), Malformed},
		{"no transaction", wire.NameBlockTxs, wire.AppendFrame(nil, nil), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				f, has := newFake(g), newFake(g)
				n := w.start(f, nil)
				has.load([]chain.Block{good.Block})
				if c.on == wire.NameBodies {
					f.AddHeaders([]chain.Header{good.Header})
				}
				st := statusOf(has)
				if c.on == wire.NameBlockTxs {
					st = statusOf(f)
					st.Pool = []chain.LeafHash{chain.LeafOf(forged)}
				}
				h := w.liar(g, func() wire.Status { st.Clock = uint64(time.Now().UnixMilli()); return st })
				asked := make(chan struct{}, 100)
				w.handle(h, g, c.on, func(s network.Stream) {
					wire.ReadFrame(s, wire.MaxStatus)
					poke(asked)
					s.Write(c.answer)
				})
				w.dialTo(h, n)
				<-asked
				if c.want != "" {
					w.within(time.Second, "banned", w.banned(n, h, c.want))
					return
				}
				time.Sleep(3 * time.Second) // virtual
				if len(n.Bans()) > 0 || n.remote(h.ID()) == nil {
					t.Errorf("bans %+v", n.Bans())
				}
			})
		})
	}
}

// Gossip from a bare gossipsub peer: what is refused, ignored, re-batched and charged.
func TestGossipVerdicts(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	gen := chaintest.New(g)
	good := gen.Next("good", []chain.Tx{alice.Pay(g, 0, 0, chaintest.To(bob, 1))})
	after := gen.Next("after", nil)
	noWork := good.Header
	for chain.MeetsTarget(noWork.ID(), noWork.Bits) {
		noWork.Nonce++
	}
	raws := payments(g, 8)
	forged := bytes.Clone(raws[7])
	forged[len(forged)-1] ^= 1
	cheap := chaintest.Raw(alice.Sign(g, chain.Tx{Fee: 1, Outputs: []chain.Output{chaintest.To(bob, 1)}}, 0))
	batch := func(raws ...[]byte) []byte { return wire.AppendTxBatch(nil, [8]byte{1, 2, 3}, raws) }
	block := func(h chain.Header, body []byte) []byte { return wire.AppendBlockMsg(nil, &h, body) }
	for _, c := range []struct {
		name, topic string
		msg         []byte
		known       [][]byte // in the pool before
		want        Evidence // "": nobody is banned
		forwarded   bool     // as it is
		spread      int      // transactions that reach the next node one way or another
	}{
		{"all new", wire.TopicTxs, batch(raws[:4]...), nil, "", true, 4},
		{"three quarters new", wire.TopicTxs, batch(raws[:4]...), raws[:1], "", true, 4},
		{"half new: re-batched", wire.TopicTxs, batch(raws[:4]...), raws[:2], "", false, 4},
		{"nothing new", wire.TopicTxs, batch(raws[:4]...), raws[:4], "", false, 4},
		{"a forged one", wire.TopicTxs, batch(raws[0], forged), nil, TxSignature, false, 1},
		{"a fee below the least", wire.TopicTxs, batch(raws[0], cheap), nil, TxRule, false, 1},
		{"bytes that are no transactions", wire.TopicTxs, batch([]byte{1, 2, 3}), nil, Malformed, false, 0},
		{"no transaction", wire.TopicTxs, batch(), nil, Malformed, false, 0},
		{"too large", wire.TopicTxs, make([]byte, wire.MaxTxBatch+1), nil, Malformed, false, 0},
		{"a block", wire.TopicBlocks, block(good.Header, good.Body), nil, "", true, 0},
		{"a block's header alone", wire.TopicBlocks, block(good.Header, nil), nil, Malformed, false, 0},
		{"another block's body", wire.TopicBlocks, block(good.Header, raws[1]), nil, WrongBody, false, 0},
		{"no work", wire.TopicBlocks, block(noWork, good.Body), nil, HeaderWork, false, 0},
		{"parent not known", wire.TopicBlocks, block(after.Header, nil), nil, "", false, 0},
		{"half a header", wire.TopicBlocks, make([]byte, 100), nil, Malformed, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				f, next := newFake(g), newFake(g)
				n := w.start(f, func(s *Service) { s.t.statusEvery = time.Hour }) // gossip alone
				m := w.start(next, func(s *Service) { s.t.statusEvery = time.Hour }, n.addr())
				h := w.liar(g, func() wire.Status { return statusOf(f) })
				w.dialTo(h, n)
				ps := w.speaker(h, g)
				w.within(5*time.Second, "meshed", func() bool {
					return len(n.gossip.txs.ListPeers()) == 2 && len(n.gossip.blocks.ListPeers()) == 2 && len(m.gossip.txs.ListPeers()) == 1
				})
				time.Sleep(3 * time.Second) // virtual: heartbeats have grafted
				f.AcceptTxs(c.known)
				next.AcceptTxs(c.known)
				before := m.Counters()["gossip_received"]
				if err := ps[c.topic].Publish(w.Context(), c.msg); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Second) // virtual
				if got := w.banned(n, h, c.want)(); got != (c.want != "") {
					t.Errorf("bans %+v, want %q", n.Bans(), c.want)
				}
				if len(m.Bans()) > 0 {
					t.Errorf("the next node blames: %+v", m.Bans())
				}
				sent, received := n.Counters()["batches_sent"], m.Counters()["gossip_received"]-before
				if forwarded := received > sent; forwarded != c.forwarded {
					t.Errorf("next node got %d messages of which %d were our own batches; forwarded %v, want %v", received, sent, forwarded, c.forwarded)
				}
				if got := next.poolSize(); got != c.spread {
					t.Errorf("next node has %d transactions, want %d", got, c.spread)
				}
			})
		})
	}
}

// speaker makes a bare gossipsub node without validators of a host.
func (w *world) speaker(h host.Host, g *chain.Genesis) map[string]*pubsub.Topic {
	w.Helper()
	ps, err := pubsub.NewGossipSub(w.Context(), h, pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor(),
		pubsub.WithMessageIdFn(messageID), pubsub.WithFloodPublish(true))
	if err != nil {
		w.Fatal(err)
	}
	out := map[string]*pubsub.Topic{}
	for _, name := range []string{wire.TopicTxs, wire.TopicBlocks} {
		topic, err := ps.Join(wire.Topic(g.NetworkID(), name))
		if err != nil {
			w.Fatal(err)
		}
		if _, err := topic.Relay(); err != nil {
			w.Fatal(err)
		}
		out[name] = topic
	}
	return out
}

// A peer sends valid transactions that are not admitted, each once: a stale nonce, a conflict. Their signatures cost us
// time, so there is an end to it; another peer's are taken all the same, and the first one's again later.
func TestTransactionsForNothingHaveABound(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	raws := payments(g, 4)
	size := len(raws[0]) * 4
	const vain, batches = 42, 20
	for _, c := range []struct {
		name   string
		result TxResult
		most   int // batches of four looked at
	}{
		{"checked and not admitted", TxResult{Err: ErrKnown, Checked: true}, vain/4 + 1},
		{"ignored unchecked", TxResult{Err: errors.New("balance")}, batches},
		{"one of four admitted", TxResult{Admitted: true, Checked: true}, vain / 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				f := newFake(g)
				looked := 0
				f.admit = func(raw []byte) TxResult {
					if looked++; c.result.Admitted && looked%4 > 0 {
						return TxResult{Err: ErrKnown, Checked: true}
					}
					return c.result
				}
				n := w.start(f, nil)
				bad, good := w.liar(g, func() wire.Status { return statusOf(f) }), w.liar(g, func() wire.Status { return statusOf(f) })
				w.dialTo(bad, n)
				w.dialTo(good, n)
				r := n.remote(bad.ID())
				r.vain, r.ignored = rate.NewLimiter(vainASecond, vain), rate.NewLimiter(ignoredASecond, batches*size-1)
				for range 2 * batches {
					if v := n.takeTxs(r, raws); v != Ignore {
						t.Fatalf("verdict %s", v)
					}
				}
				if looked != 4*c.most {
					t.Errorf("%d transactions looked at, want %d", looked, 4*c.most)
				}
				if n.Counters()["batches_over_bucket"] != uint64(2*batches-c.most) {
					t.Errorf("counters %v", n.Counters())
				}
				before := looked
				if n.takeTxs(n.remote(good.ID()), raws); looked != before+4 {
					t.Error("another peer's are not looked at")
				}
				time.Sleep(10 * time.Millisecond) // virtual
				if n.takeTxs(r, raws); looked != before+8 {
					t.Error("not looked at after a while")
				}
				if len(n.Bans()) > 0 || r.restUntil.After(time.Now()) {
					t.Errorf("charged: %+v", n.Bans())
				}
			})
		})
	}
}

// The pool's window of a status is a way to the same checks, and has the same bound.
func TestPoolForNothingHasABound(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	raws := payments(g, 64)
	inWorld(t, func(w *world) {
		f := newFake(g)
		f.admit = func(raw []byte) TxResult { return TxResult{Err: ErrKnown, Checked: true} }
		n := w.start(f, func(s *Service) { s.t.repairAgain = 0 })
		h := w.liar(g, func() wire.Status { return statusOf(f) })
		asked := 0
		w.handle(h, g, wire.NameBlockTxs, func(s network.Stream) {
			asked++
			wire.ReadFrame(s, wire.MaxBlockTxsRequest)
			wire.WriteFrame(s, bytes.Join(raws, nil))
		})
		w.dialTo(h, n)
		r := n.remote(h.ID())
		r.vain = rate.NewLimiter(1e-9, 120)
		st := statusOf(f)
		for _, raw := range raws {
			st.Pool = append(st.Pool, chain.LeafOf(raw))
		}
		for range 20 {
			n.hear(r, st, 0)
			time.Sleep(time.Second) // virtual
		}
		if asked != 2 {
			t.Errorf("asked %d times for 64 transactions that are for nothing, want 2", asked)
		}
	})
}

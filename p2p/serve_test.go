package p2p

import (
	"io"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"golang.org/x/sync/semaphore"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/p2p/wire"
)

// bigBlock is one whose body is nearly as large as a body may be.
func bigBlock(g *chain.Genesis) chain.Block {
	outs := make([]chain.Output, 250)
	for i := range outs {
		outs[i] = chaintest.To(bob, 1)
	}
	txs := make([]chain.Tx, 90)
	for i := range txs {
		txs[i] = alice.Pay(g, uint64(i), 0, outs...)
	}
	return chaintest.New(g).Next("big", txs).Block
}

// ask opens a stream, sends a request and reads nothing.
func (w *world) ask(h host.Host, n *node, name string, request []byte) network.Stream {
	w.Helper()
	s, err := h.NewStream(w.Context(), n.host.ID(), protocol.ID(wire.ProtocolID(n.network, name)))
	if err != nil {
		w.Fatal(err)
	}
	if err := wire.WriteFrame(s, request); err != nil {
		w.Fatal(err)
	}
	s.CloseWrite()
	return s
}

// Peers that ask for much and read nothing fill their own share of memory, then all there is; who reads is served all
// the same once their time is over, and nothing stays taken.
func TestAnswersNobodyReadsTakeLimitedMemory(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	big := bigBlock(g)
	size := int64(big.Header.BodySize)
	if size < 800_000 {
		t.Fatalf("a body of %d bytes", size)
	}
	q := wire.BodiesRequest{IDs: []chain.BlockID{big.Header.ID(), big.Header.ID()}}
	for _, c := range []struct {
		name   string
		peers  int
		bodies int64 // that the memory of all is for
		served time.Duration
	}{
		{"one peer has a share", 1, 16, time.Second},
		{"all peers have a bound", 3, 12, 20 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				f := newFake(g)
				f.load([]chain.Block{big})
				n := w.start(f, func(s *Service) { s.memory = semaphore.NewWeighted(c.bodies * size) })
				var open []network.Stream
				for range c.peers {
					h := w.liar(g, func() wire.Status { return statusOf(f) })
					w.dialTo(h, n)
					for range maxServing - 2 {
						open = append(open, w.ask(h, n, wire.NameBodies, q.Append(nil)))
					}
				}
				time.Sleep(time.Second) // virtual
				f.mu.Lock()
				read, most := int64(f.read), min(c.bodies, int64(c.peers)*(peerMemory/size))
				f.mu.Unlock()
				// A stream's window takes no whole body, so each body read is one that is held.
				if read > most {
					t.Errorf("%d bodies held, want at most %d", read, most)
				}
				reader := w.liar(g, func() wire.Status { return statusOf(f) })
				w.dialTo(reader, n)
				start := time.Now()
				w.within(c.served, "served to one who reads", func() bool {
					s := w.ask(reader, n, wire.NameBodies, q.Append(nil))
					defer s.Reset()
					s.SetDeadline(time.Now().Add(5 * time.Second))
					b, err := io.ReadAll(s)
					return err == nil && len(b) == 2*(wire.FrameHead+1+int(size))
				})
				t.Logf("%d bodies held, served after %v", read, time.Since(start))
				for _, s := range open {
					s.Reset()
				}
				w.within(time.Minute, "all given back", func() bool {
					if !n.memory.TryAcquire(c.bodies * size) {
						return false
					}
					n.memory.Release(c.bodies * size)
					return true
				})
				if len(n.Bans()) > 0 {
					t.Errorf("bans %+v", n.Bans())
				}
			})
		})
	}
}

// Those who go on asking and never read are disconnected, one after another, so that they can't take all memory for ever;
// one who reads slowly isn't.
func TestWhoNeverReadsIsDisconnected(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	big := bigBlock(g)
	q := wire.BodiesRequest{IDs: []chain.BlockID{big.Header.ID(), big.Header.ID()}}
	inWorld(t, func(w *world) {
		f := newFake(g)
		f.load([]chain.Block{big})
		n := w.start(f, nil)
		slow := w.liar(g, func() wire.Status { return statusOf(f) })
		w.dialTo(slow, n)
		var deaf []host.Host
		for range 10 { // their shares are more than all there is
			h := w.liar(g, func() wire.Status { return statusOf(f) })
			w.dialTo(h, n)
			deaf = append(deaf, h)
		}
		over := make(chan struct{})
		served := 0
		go func() {
			defer close(over)
			for n.remote(slow.ID()) != nil && served < 12 {
				s := w.ask(slow, n, wire.NameBodies, q.Append(nil))
				s.SetDeadline(time.Now().Add(10 * time.Second))
				if b, err := io.ReadAll(&dawdler{s}); err == nil && len(b) > 0 {
					served++
				}
			}
		}()
		for round := 0; ; round++ {
			var open []network.Stream
			left := 0
			for _, h := range deaf {
				if n.remote(h.ID()) == nil {
					continue
				}
				left++
				for range 4 {
					open = append(open, w.ask(h, n, wire.NameBodies, q.Append(nil)))
				}
			}
			if left == 0 {
				break
			}
			if round > 20 {
				t.Fatalf("%d of those who never read are left", left)
			}
			time.Sleep(time.Duration(3+round%2*4) * time.Second) // virtual: before and after the deadline
			for _, s := range open {
				s.Reset()
			}
		}
		<-over
		if served < 12 || n.remote(slow.ID()) == nil || len(n.Bans()) != 0 {
			t.Errorf("the slow reader was served %d times; bans %v", served, n.Bans())
		}
		if !n.gate.denied(deaf[0].ID()) {
			t.Error("it may come back at once")
		}
	})
}

// dawdler reads a little at a time: a MiB takes more than a second.
type dawdler struct{ io.Reader }

func (d *dawdler) Read(b []byte) (int, error) {
	time.Sleep(20 * time.Millisecond) // virtual
	return d.Reader.Read(b[:min(len(b), 16<<10)])
}

// While it waits for its reader an answer takes what it is, not what it might have been.
func TestSmallAnswersToLargeQuestionsTakeLittle(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	blocks := testChain(g, 20, 1)
	inWorld(t, func(w *world) {
		f := newFake(g)
		f.load(blocks)
		n := w.start(f, nil)
		h := w.liar(g, func() wire.Status { return statusOf(f) })
		w.dialTo(h, n)
		r := n.remote(h.ID())
		r.bytes.AllowN(time.Now(), int(r.bytes.Tokens()))
		r.bytes.SetLimit(20 * chain.HeaderSize) // a second: each answer waits for its turn
		q := wire.HeadersRequest{Locator: []chain.BlockID{g.State().ID}, Max: wire.MaxHeaders}
		for range maxServing - 2 {
			w.ask(h, n, wire.NameHeaders, q.Append(nil))
		}
		time.Sleep(100 * time.Millisecond) // virtual
		if len(r.streams) < maxServing-2 {
			t.Fatalf("%d answers wait", len(r.streams))
		}
		if free := int64(peerMemory - (maxServing-2)*20*chain.HeaderSize); !r.memory.TryAcquire(free) {
			t.Error("they take more than they are")
		} else {
			r.memory.Release(free)
		}
	})
}

// Every answer counts against the peer's share of bandwidth, not only bodies.
func TestEveryAnswerIsPaced(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	blocks := testChain(g, 50, 1)
	raws := payments(g, 60)
	var ids []chain.TxID
	var leaves []chain.LeafHash
	for _, raw := range raws {
		ids, leaves = append(ids, chain.TxIDOf(g.NetworkID(), raw)), append(leaves, chain.LeafOf(raw))
	}
	inWorld(t, func(w *world) {
		f := newFake(g)
		f.load(blocks)
		f.AcceptTxs(raws)
		n := w.start(f, nil)
		h := w.liar(g, func() wire.Status { return statusOf(f) })
		w.dialTo(h, n)
		st := statusOf(f)
		for name, request := range map[string][]byte{
			wire.NameStatus:   st.Append(nil),
			wire.NameHeaders:  (&wire.HeadersRequest{Locator: []chain.BlockID{g.State().ID}, Max: 50}).Append(nil),
			wire.NameBodies:   (&wire.BodiesRequest{IDs: []chain.BlockID{blocks[0].Header.ID()}}).Append(nil),
			wire.NameBlockTxs: (&wire.BlockTxsRequest{Leaves: leaves}).Append(nil),
			wire.NameTxStatus: wire.AppendTxStatusRequest(nil, ids),
		} {
			r := n.remote(h.ID())
			r.bytes.SetLimit(1e-9) // nothing comes back
			before := r.bytes.Tokens()
			s := w.ask(h, n, name, request)
			s.SetDeadline(time.Now().Add(5 * time.Second))
			b, err := io.ReadAll(s)
			if err != nil || len(b) < 100 {
				t.Fatalf("%s: %d bytes, %v", name, len(b), err)
			}
			if got := before - r.bytes.Tokens(); got < float64(len(b))-1 || got > float64(len(b))+1 {
				t.Errorf("%s: %d bytes cost %.0f", name, len(b), got)
			}
			if !r.memory.TryAcquire(peerMemory) {
				t.Errorf("%s: memory stays taken", name)
			}
			r.memory.Release(peerMemory)
		}
	})
}

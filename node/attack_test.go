package node

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/p2p"
	"quipu/p2p/wire"
)

// attacker is a bare libp2p host among honest nodes: it answers status as told, streams as told, and gossips what it
// likes.
type attacker struct {
	*world
	h      p2p.Host
	txs    *pubsub.Topic
	blocks *pubsub.Topic
	stop   chan struct{} // closed when the attack is over

	mu    sync.Mutex
	claim func(st *wire.Status) // edits what it says of itself; nil: it is as far as the first node
}

// attack connects an attacker to every node.
func (w *world) attacker() *attacker {
	w.Helper()
	a := &attacker{world: w, h: w.host(), stop: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	w.stop = append(w.stop, func() { cancel(); a.h.Close() })
	a.serve(wire.NameStatus, func(s network.Stream) {
		if _, err := wire.ReadFrame(s, wire.MaxStatus); err == nil {
			st := a.status()
			wire.WriteFrame(s, st.Append(nil))
		}
	})
	ps, err := pubsub.NewGossipSub(ctx, a.h, pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor(),
		pubsub.WithFloodPublish(true), pubsub.WithMessageIdFn(func(m *pb.Message) string {
			id := sha256.Sum256(append([]byte(m.GetTopic()+"\x00"), m.GetData()...))
			return string(id[:20])
		}))
	if err != nil {
		w.Fatal(err)
	}
	for name, topic := range map[string]**pubsub.Topic{wire.TopicTxs: &a.txs, wire.TopicBlocks: &a.blocks} {
		if *topic, err = ps.Join(wire.Topic(w.g.NetworkID(), name)); err != nil {
			w.Fatal(err)
		}
		if _, err := (*topic).Relay(); err != nil {
			w.Fatal(err)
		}
	}
	for _, n := range w.nodes {
		info, _ := peer.AddrInfoFromString(n.net.Addrs()[0])
		if err := a.h.Connect(ctx, *info); err != nil {
			w.Fatal(err)
		}
	}
	w.within(5*time.Second, "attacker known to all", func() bool {
		return len(a.txs.ListPeers()) == len(w.nodes) && len(a.blocks.ListPeers()) == len(w.nodes)
	})
	return a
}

func (a *attacker) status() wire.Status {
	n := a.nodes[0]
	best, tip := n.BestHeader(), n.Tip()
	st := wire.Status{BestID: best.ID, BestHeight: best.Header.Height, BestWork: best.Work, TipID: tip.ID, TipHeight: tip.Header.Height,
		TipWork: tip.Work, Version: 1, Clock: uint64(time.Now().UnixMilli())}
	a.mu.Lock()
	claim := a.claim
	a.mu.Unlock()
	if claim != nil {
		claim(&st)
	}
	return st
}

func (a *attacker) says(claim func(st *wire.Status)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.claim = claim
}

// boast claims a chain that nobody has, with more work than any.
func (a *attacker) boast() {
	a.says(func(st *wire.Status) {
		st.BestID, st.BestHeight = chain.BlockID{1}, st.BestHeight+100_000
		st.BestWork.SetAllOne()
		st.Ranges = []wire.Range{{From: 1, To: st.BestHeight}}
	})
}

func (a *attacker) protocol(name string) protocol.ID {
	return protocol.ID(wire.ProtocolID(a.g.NetworkID(), name))
}

func (a *attacker) serve(name string, f func(s network.Stream)) {
	a.h.SetStreamHandler(a.protocol(name), func(s network.Stream) {
		f(s)
		s.Close()
	})
}

func (a *attacker) gossip(t *pubsub.Topic, msg []byte) {
	a.Helper()
	if err := t.Publish(a.Context(), msg); err != nil {
		a.Fatal(err)
	}
}

// batch is a message of transactions with a salt of its own.
func batch(raws ...[]byte) []byte {
	var salt [wire.SaltSize]byte
	binary.LittleEndian.PutUint64(salt[:], rand.Uint64())
	return wire.AppendTxBatch(nil, salt, raws)
}

// header is a header on a node's tip that keeps every rule.
func (a *attacker) header(edit func(h *chain.Header)) chain.Header {
	tip := a.nodes[0].Tip()
	h := a.g.NewHeader(&tip, carol.Account, uint64(time.Now().UnixMilli()))
	h.StateRoot = chain.Hash{1} // which the body shows to be wrong
	h.Time = max(h.Time, tip.Header.Time+1)
	if edit != nil {
		edit(&h)
	}
	h.Solve(1 << 40)
	return h
}

// scenario is one attack on three honest nodes, two of which mine.
type scenario struct {
	name   string
	attack func(a *attacker)
	want   p2p.Evidence // every honest node bans the attacker for this; "": nobody bans anybody
	check  func(a *attacker)
}

var scenarios = []scenario{
	{"bad signatures", func(a *attacker) {
		var raws [][]byte
		for i := range uint64(20) {
			raw := chaintest.Raw(alice.Pay(a.g, i, 0, chaintest.To(carol, 1)))
			raw[len(raw)-1] ^= 1
			raws = append(raws, raw)
		}
		a.gossip(a.txs, batch(raws...))
	}, p2p.TxSignature, nil},
	{"bad work", func(a *attacker) {
		h := a.header(nil)
		for chain.MeetsTarget(h.ID(), h.Bits) {
			h.Nonce++
		}
		a.gossip(a.blocks, wire.AppendBlockMsg(nil, &h, nil))
	}, p2p.HeaderWork, nil},
	{"a thousand variants of one valid header", func(a *attacker) {
		h := a.header(nil)
		for range 1000 {
			if h.Nonce++; !chain.MeetsTarget(h.ID(), h.Bits) {
				a.blocks.Publish(a.Context(), wire.AppendBlockMsg(nil, &h, nil))
			}
		}
	}, p2p.HeaderWork, nil},
	{"invalid body under valid work", func(a *attacker) {
		for range 5 {
			h := a.header(nil)
			a.gossip(a.blocks, wire.AppendBlockMsg(nil, &h, nil))
			time.Sleep(time.Second) // virtual
		}
	}, "", nil},
	{"an invalid block claimed as validated", func(a *attacker) {
		h := a.header(nil)
		a.gossip(a.blocks, wire.AppendBlockMsg(nil, &h, nil))
		a.says(func(st *wire.Status) { st.TipID = h.ID() })
	}, p2p.InvalidTip, nil},
	{"header spam", func(a *attacker) { // of parents nobody knows, with work that costs nothing
		for i := range 2000 {
			h := a.header(func(h *chain.Header) {
				h.Bits = a.g.LimitBits
				binary.LittleEndian.PutUint32(h.Parent[:], uint32(i))
			})
			a.gossip(a.blocks, wire.AppendBlockMsg(nil, &h, nil))
			if i%50 == 0 {
				time.Sleep(50 * time.Millisecond) // virtual
			}
		}
		a.boast()
	}, "", nil},
	{"stall", func(a *attacker) {
		a.boast()
		for _, name := range []string{wire.NameHeaders, wire.NameBodies, wire.NameBlockTxs} {
			a.serve(name, func(network.Stream) { <-a.stop })
		}
		time.Sleep(15 * time.Second) // virtual
	}, "", nil},
	{"slow drip", func(a *attacker) {
		a.boast()
		for _, name := range []string{wire.NameHeaders, wire.NameBodies, wire.NameBlockTxs} {
			a.serve(name, func(s network.Stream) {
				for _, b := range binary.LittleEndian.AppendUint32(nil, 2000) { // an honest length, byte by byte
					select {
					case <-a.stop:
						return
					case <-time.After(time.Second):
						s.Write([]byte{b})
					}
				}
			})
		}
		time.Sleep(15 * time.Second) // virtual
	}, "", nil},
	{"oversized frames", func(a *attacker) {
		for _, n := range a.nodes {
			s, err := a.h.NewStream(a.Context(), n.host.ID(), a.protocol(wire.NameHeaders))
			if err != nil {
				a.Fatal(err)
			}
			s.Write([]byte{0xff, 0xff, 0xff, 0xff})
		}
	}, p2p.Malformed, nil},
	{"stream floods", func(a *attacker) { // opened and left
		for range 300 {
			for _, n := range a.nodes {
				ctx, cancel := context.WithTimeout(a.Context(), 100*time.Millisecond)
				if s, err := a.h.NewStream(ctx, n.host.ID(), a.protocol(wire.NameBodies)); err == nil {
					s.Write([]byte{9})
				}
				cancel()
			}
		}
	}, "", func(a *attacker) {
		for i, n := range a.nodes {
			if got := n.net.Counters()["requests_refused"]; got < 100 {
				a.Errorf("node %d has refused %d requests", i+1, got)
			}
		}
	}},
	{"re-wrapped batches", func(a *attacker) {
		var raws [][]byte
		for i := range uint64(100) {
			raws = append(raws, chaintest.Raw(bob.Pay(a.g, i, 0, chaintest.To(carol, 1))))
		}
		for range 200 {
			a.gossip(a.txs, batch(raws...))
			time.Sleep(20 * time.Millisecond) // virtual
		}
	}, "", func(a *attacker) {
		for i, n := range a.nodes {
			// What is forwarded again and again would come from the other two as well: 600 batches.
			if got := n.net.Counters()["gossip_received"]; got > 350 {
				a.Errorf("node %d has received %d messages", i+1, got)
			}
		}
	}},
	{"unfunded floods", func(a *attacker) {
		for i := range 200 {
			poor := chaintest.NewKey(fmt.Sprint("poor", i))
			a.gossip(a.txs, batch(chaintest.Raw(poor.Pay(a.g, 0, 0, chaintest.To(carol, 1)))))
			if i%20 == 0 {
				time.Sleep(50 * time.Millisecond) // virtual
			}
		}
	}, "", func(a *attacker) {
		for i, n := range a.nodes {
			if s := n.pool.Stats(); s.Admitted > 10 || s.GappedTxs > 0 {
				a.Errorf("node %d: pool %+v", i+1, s)
			}
		}
	}},
	{"double spends from both sides", func(a *attacker) {
		for i := range uint64(10) { // each half of the network sees another one first
			one, two := bob.Pay(a.g, i, 0, chaintest.To(carol, 1)), bob.Pay(a.g, i, 0, chaintest.To(alice, 1))
			submit(a.world, a.nodes[0], one)
			submit(a.world, a.nodes[1], two)
			a.gossip(a.txs, batch(chaintest.Raw(one), chaintest.Raw(two)))
		}
	}, "", func(a *attacker) {
		a.within(30*time.Second, "one of each two in a block", func() bool {
			_, accs, err := a.nodes[2].ledger.Accounts([]chain.Account{bob.Account})
			return err == nil && accs[bob.Account].Nonce == 10
		})
	}},
	{"payments of another network", func(a *attacker) {
		other := worldGenesis(7)
		a.gossip(a.txs, batch(chaintest.Raw(alice.Pay(other, 0, 0, chaintest.To(carol, 1)))))
	}, p2p.TxSignature, nil},
	{"blocks of another network", func(a *attacker) {
		gen := chaintest.New(worldGenesis(7))
		for i := range 20 {
			b := gen.Next(fmt.Sprint("b", i), nil)
			a.gossip(a.blocks, wire.AppendBlockMsg(nil, &b.Header, nil))
		}
	}, "", nil},
	{"a block from yesterday", func(a *attacker) {
		tip := a.nodes[0].Tip()
		h := a.header(func(h *chain.Header) { h.Time = tip.Header.Time })
		a.gossip(a.blocks, wire.AppendBlockMsg(nil, &h, nil))
	}, p2p.HeaderRule, nil},
	{"blocks from tomorrow", func(a *attacker) {
		for i := range uint64(400) {
			h := a.header(func(h *chain.Header) { h.Time += 40_000 + i })
			a.gossip(a.blocks, wire.AppendBlockMsg(nil, &h, nil))
			if i%20 == 0 {
				time.Sleep(20 * time.Millisecond) // virtual
			}
		}
	}, "", func(a *attacker) {
		for i, n := range a.nodes {
			n.parked.mu.Lock()
			if got := len(n.parked.byID); got == 0 || got > maxParked {
				a.Errorf("node %d has parked %d blocks", i+1, got)
			}
			n.parked.mu.Unlock()
		}
	}},
}

// TestAttacks: after each the honest nodes still make blocks, agree, confirm a payment and blame nobody else; what they
// hold is within its bounds, and the attacker is banned or ignored.
func TestAttacks(t *testing.T) {
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			inWorld(t, worldGenesis(2), func(w *world) {
				for _, edit := range []func(*Config){mining("m1"), mining("m2"), nil} {
					w.start(edit)
				}
				w.within(time.Minute, "a chain", agree(5, w.nodes...))
				a := w.attacker()
				time.Sleep(2 * time.Second) // virtual: meshed
				sc.attack(a)
				if sc.want != "" {
					w.within(10*time.Second, "attacker banned by all", func() bool {
						for _, n := range w.nodes {
							if len(n.net.Bans()) != 1 {
								return false
							}
						}
						return true
					})
				}
				a.survived(sc.want)
				if sc.check != nil {
					sc.check(a)
				}
				close(a.stop)
			})
		})
	}
}

// survived is what must hold after every attack.
func (a *attacker) survived(want p2p.Evidence) {
	id := submit(a.world, a.nodes[2], alice.Pay(a.g, 0, 0, chaintest.To(carol, 7)))
	a.within(60*time.Second, "a payment confirmed on all", confirmed(id, 2, a.nodes...))
	from := a.nodes[0].Tip().Header.Height
	a.within(60*time.Second, "agreed on later blocks", agree(from+1, a.nodes...))
	for i, n := range a.nodes {
		for _, b := range n.net.Bans() {
			if b.ID != a.h.ID().String() || b.Evidence != want {
				a.Errorf("node %d has banned %s for %s (%s)", i+1, b.ID, b.Evidence, b.Detail)
			}
		}
		connected := 0
		for _, p := range n.net.Peers() {
			if p.ID != a.h.ID().String() {
				connected++
			} else if want != "" {
				a.Errorf("node %d still talks to the attacker", i+1)
			}
		}
		if connected != len(a.nodes)-1 {
			a.Errorf("node %d has %d honest peers", i+1, connected)
		}
		s, p := n.ledger.Stats(), n.pool.Stats()
		if most := int(s.BestHeight) + 40; s.Headers > most || s.Bodies > most {
			a.Errorf("node %d holds %d headers and %d bodies at height %d", i+1, s.Headers, s.Bodies, s.BestHeight)
		}
		if p.Txs > 300 || p.GappedTxs > 300 {
			a.Errorf("node %d: pool %+v", i+1, p)
		}
	}
}

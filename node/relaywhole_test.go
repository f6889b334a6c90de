package node

import (
	"context"
	"crypto/sha256"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"quipu/chain"
)

// gossipWhole is what the relay is compared with: the same network, and each block a gossipsub message of header and body,
// forwarded once its tx_root has been checked. Meshes are as the node's; the maker sends to its mesh alone, since to all
// its neighbours a body takes longer.
func gossipWhole(t *testing.T, p relayPlan, g *chain.Genesis, validate, decode float64) relayScenario {
	out := relayScenario{Name: "whole bodies by gossip", Blocks: p.blocks, Counters: map[string]uint64{}}
	var took, bytes []float64
	p.inWorld(t, g, nil, func(w *relayWorld) {
		ctx, cancel := context.WithCancel(context.Background())
		defer time.Sleep(time.Second) // virtual: pubsub ends
		defer cancel()
		const name = "/quipu/whole"
		sleep := func(us float64) { time.Sleep(time.Duration(us * float64(p.txs) * 1e3)) } // virtual
		start := time.Now()
		hosts, topics := make([]host.Host, p.nodes), make([]*pubsub.Topic, p.nodes)
		got, received := make([]atomic.Int64, p.nodes), make([]*wholeTracer, p.nodes)
		for i := range hosts {
			hosts[i], received[i] = w.newHost(i), new(wholeTracer)
			w.stop = append(w.stop, func() { hosts[i].Close() })
			for _, k := range w.peers[i] {
				if err := hosts[i].Connect(ctx, peer.AddrInfo{ID: hosts[k].ID(), Addrs: hosts[k].Addrs()}); err != nil {
					t.Fatal(err)
				}
			}
			params := pubsub.DefaultGossipSubParams()
			params.D, params.Dlo, params.Dhi, params.Dout = 6, 4, 10, 2
			ps, err := pubsub.NewGossipSub(ctx, hosts[i], pubsub.WithGossipSubParams(params), pubsub.WithMaxMessageSize(8<<20),
				pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor(), pubsub.WithFloodPublish(false),
				pubsub.WithRawTracer(received[i]), pubsub.WithMessageIdFn(func(m *pb.Message) string {
					h := sha256.Sum256(m.GetData())
					return string(h[:20])
				}))
			if err != nil {
				t.Fatal(err)
			}
			maker := hosts[i].ID()
			ps.RegisterTopicValidator(name, func(_ context.Context, from peer.ID, _ *pubsub.Message) bool {
				if from != maker {
					sleep(decode)
				}
				return true
			})
			if topics[i], err = ps.Join(name); err != nil {
				t.Fatal(err)
			}
			sub, err := topics[i].Subscribe()
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				for {
					if _, err := sub.Next(ctx); err != nil {
						return
					}
					sleep(validate - decode)
					got[i].Store(int64(time.Since(start)))
				}
			}()
		}
		time.Sleep(20 * time.Second) // virtual: meshes are settled
		for range p.blocks {
			maker := w.rnd.IntN(p.nodes)
			before := make([]uint64, p.nodes)
			for i := range hosts {
				got[i].Store(0)
				before[i] = received[i].bytes.Load()
			}
			msg := make([]byte, chain.HeaderSize+p.txs*chain.TxMinSize)
			for i := range msg {
				msg[i] = byte(rand.Uint32())
			}
			begin := time.Since(start)
			if err := topics[maker].Publish(ctx, msg); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute) // virtual
			for i := range hosts {
				at := time.Duration(got[i].Load())
				if i == maker {
					continue
				}
				if at == 0 {
					t.Errorf("node %d does not have the block", i)
				}
				took = append(took, float64((at-begin).Microseconds())/1e3)
				bytes = append(bytes, float64(received[i].bytes.Load()-before[i]))
			}
		}
	})
	out.fill(took, bytes)
	return out
}

// wholeTracer counts the bytes of messages received.
type wholeTracer struct {
	bytes atomic.Uint64
}

func (t *wholeTracer) RecvRPC(rpc *pubsub.RPC) {
	for _, m := range rpc.GetPublish() {
		t.bytes.Add(uint64(len(m.GetData()) + len(m.GetTopic()) + 8))
	}
}
func (t *wholeTracer) OnNewOutboundStream(peer.ID, protocol.ID)             {}
func (t *wholeTracer) OnClosedOutboundStream(peer.ID)                       {}
func (t *wholeTracer) Join(string)                                          {}
func (t *wholeTracer) Leave(string)                                         {}
func (t *wholeTracer) Graft(peer.ID, string)                                {}
func (t *wholeTracer) Prune(peer.ID, string)                                {}
func (t *wholeTracer) ValidateMessage(*pubsub.Message)                      {}
func (t *wholeTracer) DeliverMessage(*pubsub.Message)                       {}
func (t *wholeTracer) DuplicateMessage(*pubsub.Message)                     {}
func (t *wholeTracer) RejectMessage(*pubsub.Message, string)                {}
func (t *wholeTracer) ThrottlePeer(peer.ID)                                 {}
func (t *wholeTracer) SendRPC(*pubsub.RPC, peer.ID)                         {}
func (t *wholeTracer) SendRPCCompleted(*pubsub.RPC, peer.ID, time.Duration) {}
func (t *wholeTracer) DropRPC(*pubsub.RPC, peer.ID)                         {}
func (t *wholeTracer) UndeliverableMessage(*pubsub.Message)                 {}

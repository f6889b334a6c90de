package p2p

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"quipu/chain"
)

// counters are totals by name. The names are all made here, so the map is bounded.
type counters struct {
	mu sync.Mutex
	n  map[string]uint64
}

func (c *counters) add(name string, n uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]uint64{}
	}
	c.n[name] += n
}

func (c *counters) all() map[string]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[string]uint64, len(c.n))
	maps.Copy(out, c.n)
	return out
}

// tracer counts what pubsub does and, above all, what it drops without a word, and notes who else announces a block. It
// runs in pubsub's event loop.
type tracer struct {
	*counters
	announced *announcers
	blocks    string // the topic
}

var _ pubsub.RawTracer = tracer{}

func (t tracer) OnNewOutboundStream(peer.ID, protocol.ID)             {}
func (t tracer) OnClosedOutboundStream(peer.ID)                       {}
func (t tracer) Join(string)                                          {}
func (t tracer) Leave(string)                                         {}
func (t tracer) Graft(peer.ID, string)                                {}
func (t tracer) Prune(peer.ID, string)                                {}
func (t tracer) ValidateMessage(*pubsub.Message)                      { t.add("gossip_received", 1) }
func (t tracer) DeliverMessage(*pubsub.Message)                       { t.add("gossip_delivered", 1) }
func (t tracer) ThrottlePeer(peer.ID)                                 {}
func (t tracer) SendRPC(*pubsub.RPC, peer.ID)                         {}
func (t tracer) SendRPCCompleted(*pubsub.RPC, peer.ID, time.Duration) {}
func (t tracer) UndeliverableMessage(*pubsub.Message)                 { t.add("gossip_dropped_subscription", 1) }

func (t tracer) DuplicateMessage(m *pubsub.Message) {
	t.add("gossip_duplicate", 1)
	if m.GetTopic() == t.blocks && len(m.Data) == chain.HeaderSize { // a body that isn't small must be asked for
		if h, err := chain.DecodeHeader(m.Data); err == nil {
			t.announced.also(h.ID(), m.ReceivedFrom)
		}
	}
}

// RecvRPC counts what the blocks topic costs: messages with their topic and 8 bytes around, and the ids in control
// messages, also those that say no topic.
func (t tracer) RecvRPC(rpc *pubsub.RPC) {
	n, ids := 0, 0
	for _, m := range rpc.GetPublish() {
		if m.GetTopic() == t.blocks {
			n += len(m.GetData()) + len(t.blocks) + 8
		}
	}
	for _, c := range rpc.GetControl().GetIhave() {
		if c.GetTopicID() == t.blocks {
			ids += len(c.GetMessageIDs())
		}
	}
	for _, c := range rpc.GetControl().GetIwant() {
		ids += len(c.GetMessageIDs())
	}
	for _, c := range rpc.GetControl().GetIdontwant() {
		ids += len(c.GetMessageIDs())
	}
	if n += ids * (messageIDSize + 2); n > 0 {
		t.add("bytes_in_blocks_topic", uint64(n))
	}
}

// DropRPC is told of a queue to a peer that is full. One RPC may hold several messages, or none but control.
func (t tracer) DropRPC(r *pubsub.RPC, _ peer.ID) {
	t.add("gossip_dropped_out", 1)
	t.add("gossip_dropped_out_messages", uint64(len(r.GetPublish())))
}

func (t tracer) RejectMessage(_ *pubsub.Message, reason string) {
	switch reason {
	case pubsub.RejectValidationQueueFull:
		t.add("gossip_dropped_queue", 1)
	case pubsub.RejectValidationThrottled:
		t.add("gossip_dropped_throttled", 1)
	case pubsub.RejectValidationIgnored:
		t.add("gossip_ignored", 1)
	case pubsub.RejectValidationFailed:
		t.add("gossip_rejected", 1)
	default:
		t.add("gossip_refused", 1)
	}
}

// warnings passes on what a library logs from warnings up: the rest is for its developers.
type warnings struct{ slog.Handler }

func (w warnings) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && w.Handler.Enabled(ctx, l)
}
func (w warnings) WithAttrs(a []slog.Attr) slog.Handler { return warnings{w.Handler.WithAttrs(a)} }
func (w warnings) WithGroup(name string) slog.Handler   { return warnings{w.Handler.WithGroup(name)} }

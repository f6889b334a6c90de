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

// tracer counts what pubsub does and, above all, what it drops without a word. It runs in pubsub's event loop.
type tracer struct{ *counters }

var _ pubsub.RawTracer = tracer{}

func (t tracer) OnNewOutboundStream(peer.ID, protocol.ID)             {}
func (t tracer) OnClosedOutboundStream(peer.ID)                       {}
func (t tracer) Join(string)                                          {}
func (t tracer) Leave(string)                                         {}
func (t tracer) Graft(peer.ID, string)                                {}
func (t tracer) Prune(peer.ID, string)                                {}
func (t tracer) ValidateMessage(*pubsub.Message)                      { t.add("gossip_received", 1) }
func (t tracer) DeliverMessage(*pubsub.Message)                       { t.add("gossip_delivered", 1) }
func (t tracer) DuplicateMessage(*pubsub.Message)                     { t.add("gossip_duplicate", 1) }
func (t tracer) ThrottlePeer(peer.ID)                                 {}
func (t tracer) RecvRPC(*pubsub.RPC)                                  {}
func (t tracer) SendRPC(*pubsub.RPC, peer.ID)                         {}
func (t tracer) SendRPCCompleted(*pubsub.RPC, peer.ID, time.Duration) {}
func (t tracer) DropRPC(*pubsub.RPC, peer.ID)                         { t.add("gossip_dropped_out", 1) }
func (t tracer) UndeliverableMessage(*pubsub.Message)                 { t.add("gossip_dropped_subscription", 1) }
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

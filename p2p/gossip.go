package p2p

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"log/slog"
	"slices"
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"

	"quipu/chain"
	"quipu/p2p/wire"
)

// Bounds of gossip.
const (
	batchBytes    = 64 << 10 // a batch is flushed at this size
	batchDelay    = 20 * time.Millisecond
	batchDelayMax = 100 * time.Millisecond // while batches fill well within the delay
	batchBusy     = 4 << 10                // a batch of so much after the delay makes the next one wait twice as long
	maxOutTxs     = 4 << 20                // bytes waiting for our next batch; what doesn't fit is left to the status exchange
	maxOutBlocks  = 64
	maxMessage    = 256 << 10 // of pubsub's RPC: well above wire.MaxTxBatch, well below its default of 1 MiB
	validateQueue = 1024
	peerQueue     = 512
	txValidators  = 256 // batches in validation, each up to wire.MaxTxBatch; the node checks what waits together
	peerBatches   = 64  // of them of one peer: one that floods leaves room to the others
	nearTip       = 2   // blocks: further behind, a node can't judge transactions
)

// gossip is the outgoing side, and the topics once Run has joined them.
type gossip struct {
	txs, blocks *pubsub.Topic

	mu     sync.Mutex
	out    [][]byte
	bytes  int
	outNow chan struct{}
	mined  chan []byte
	lose   func() bool // tests: a message of the txs topic is lost
}

func (g *gossip) init() {
	g.outNow, g.mined = make(chan struct{}, 1), make(chan []byte, maxOutBlocks)
}

// startGossip makes the pubsub router, which lives until ctx is done. Validators are registered before the topics are
// joined: a topic without one forwards unchecked. Peer scoring is off: bans are ours, and on a handful of nodes the
// scores of gossipsub prune everyone.
func (s *Service) startGossip(ctx context.Context) error {
	txs, blocks := wire.Topic(s.network, wire.TopicTxs), wire.Topic(s.network, wire.TopicBlocks)
	params := pubsub.DefaultGossipSubParams()
	params.D, params.Dlo, params.Dhi, params.Dout = 6, 4, 10, 2
	params.HeartbeatInterval = s.t.heartbeat
	params.PruneBackoff, params.UnsubscribeBackoff = s.t.meshBackoff, s.t.meshBackoff
	params.GraftFloodThreshold = s.t.meshBackoff
	params.MaxIHaveLength, params.MaxIDontWantLength = 20_000, 64
	ps, err := pubsub.NewGossipSub(ctx, s.host,
		pubsub.WithGossipSubParams(params),
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign),
		pubsub.WithNoAuthor(),
		pubsub.WithMessageIdFn(messageID),
		pubsub.WithMaxMessageSize(maxMessage),
		pubsub.WithValidateQueueSize(validateQueue),
		pubsub.WithPeerOutboundQueueSize(peerQueue),
		pubsub.WithFloodPublish(true),
		pubsub.WithSubscriptionFilter(pubsub.WrapLimitSubscriptionFilter(pubsub.NewAllowlistSubscriptionFilter(txs, blocks), 16)),
		pubsub.WithPeerFilter(func(p peer.ID, _ string) bool { return !s.gate.denied(p) }),
		pubsub.WithRawTracer(tracer{&s.stats, &s.announced, blocks}),
		pubsub.WithLogger(slog.New(warnings{s.log.Handler()})),
	)
	if err != nil {
		return err
	}
	if err := ps.RegisterTopicValidator(txs, s.validateTxs, pubsub.WithValidatorConcurrency(txValidators)); err != nil {
		return err
	}
	if err := ps.RegisterTopicValidator(blocks, s.validateBlock, pubsub.WithValidatorConcurrency(maxOutBlocks)); err != nil {
		return err
	}
	if s.gossip.txs, err = ps.Join(txs); err != nil {
		return err
	}
	if s.gossip.blocks, err = ps.Join(blocks); err != nil {
		return err
	}
	_, err = s.gossip.blocks.Relay() // until ctx is done
	return err
}

const messageIDSize = 20

// messageID names a message by topic and content.
func messageID(m *pb.Message) string {
	h := sha256.New()
	h.Write([]byte(m.GetTopic()))
	h.Write([]byte{0})
	h.Write(m.GetData())
	return string(h.Sum(nil)[:messageIDSize])
}

func (s *Service) validateTxs(_ context.Context, from peer.ID, m *pubsub.Message) pubsub.ValidationResult {
	if from == s.host.ID() {
		return pubsub.ValidationAccept
	}
	if !s.enter() { // Run waits for what is being checked
		return pubsub.ValidationIgnore
	}
	defer s.wg.Done()
	if s.gossip.lose != nil && s.gossip.lose() {
		return pubsub.ValidationIgnore
	}
	s.seen(from)
	raws, err := wire.DecodeTxBatch(m.Data)
	if err != nil {
		return result(s.charge(from, evidenceOf(aboutFrame, err), err))
	}
	r := s.remote(from)
	if r == nil {
		if r = s.addPeer(from); r == nil {
			return pubsub.ValidationIgnore
		}
	}
	select {
	case r.batches <- struct{}{}:
		defer func() { <-r.batches }()
	default:
		s.count("batches_over_share")
		return pubsub.ValidationIgnore
	}
	return result(s.takeTxs(r, raws))
}

// takeTxs gives transactions of a peer to the node, charges the peer if it must be, and queues what was newly admitted
// for our next batch unless the verdict is Accept: then the message itself is forwarded. Of a peer whose transactions
// have been for nothing too often lately, nothing is looked at.
func (s *Service) takeTxs(r *remote, raws [][]byte) Verdict {
	if r.wasteful() {
		s.count("batches_over_bucket")
		return Ignore
	}
	results := s.b.AcceptTxs(raws)
	ev, admitted, detail := judgeBatch(results)
	s.stats.add("txs_received", uint64(len(raws)))
	s.stats.add("txs_admitted", uint64(admitted))
	v := s.charge(r.id, ev, detail)
	r.spend(raws, results, v)
	if v != Accept && admitted > 0 {
		s.PublishTxs(admittedOf(raws, results))
	}
	return v
}

func admittedOf(raws [][]byte, results []TxResult) (out [][]byte) {
	for i := range results {
		if results[i].Admitted {
			out = append(out, raws[i])
		}
	}
	return out
}

func (s *Service) validateBlock(_ context.Context, from peer.ID, m *pubsub.Message) pubsub.ValidationResult {
	if from == s.host.ID() {
		return pubsub.ValidationAccept
	}
	if !s.enter() { // Run waits for what is being checked
		return pubsub.ValidationIgnore
	}
	defer s.wg.Done()
	s.seen(from)
	msg, err := wire.DecodeBlockMsg(m.Data)
	if err != nil {
		return result(s.charge(from, evidenceOf(aboutFrame, err), err))
	}
	err = s.b.AcceptHeader(msg.Header, msg.Body)
	ev := evidenceOf(aboutHeader, err)
	v := s.charge(from, ev, err)
	if (ev == Fine || ev == NobodysFault) && !msg.Whole() {
		s.announced.add(msg.Header.ID(), from)
	}
	switch {
	case ev == UnknownParent:
		s.askStatus(from)
	case v == Accept:
		if !msg.Whole() {
			s.relayBlock(&msg.Header, msg.Header.ID())
		}
		poke(s.wakeSync)
	}
	return result(v)
}

func result(v Verdict) pubsub.ValidationResult {
	switch v {
	case Accept:
		return pubsub.ValidationAccept
	case Reject:
		return pubsub.ValidationReject
	default:
		return pubsub.ValidationIgnore
	}
}

// PublishTxs queues encodings of admitted transactions for our next batch, flushed after batchDelay or batchBytes. It
// returns at once; what doesn't fit the queue is counted and left to the status exchange.
func (s *Service) PublishTxs(raws [][]byte) {
	g := &s.gossip
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, raw := range raws {
		if len(raw) > chain.TxMaxSize || g.bytes+len(raw) > maxOutTxs {
			s.count("txs_dropped_out")
			continue
		}
		g.out, g.bytes = append(g.out, raw), g.bytes+len(raw)
	}
	poke(g.outNow)
}

// PublishBlock gossips a header, with body if that is small, and tells our new status to every neighbour. It returns
// at once.
func (s *Service) PublishBlock(h chain.Header, body []byte) {
	if h.BodySize <= wire.SmallBody && len(body) != int(h.BodySize) {
		s.log.Error("block to publish has the wrong body", "height", h.Height, "bytes", len(body), "want", h.BodySize)
		return
	}
	if len(body) > wire.SmallBody {
		if w := newWhole(&h, body); w != nil {
			s.relay.keep(w)
		}
	} else if h.BodySize > wire.SmallBody {
		s.relayBlock(&h, h.ID()) // its header waited here for the clock
	}
	select {
	case s.gossip.mined <- wire.AppendBlockMsg(nil, &h, body):
	default:
		s.count("blocks_dropped_out")
	}
	s.Announce()
}

// batchLoop publishes what PublishTxs and PublishBlock have queued.
func (s *Service) batchLoop(ctx context.Context) {
	g := &s.gossip
	delay := batchDelay
	flush := time.NewTimer(time.Hour)
	flush.Stop()
	armed := false
	for {
		select {
		case <-ctx.Done():
			return
		case msg := <-g.mined:
			if err := g.blocks.Publish(ctx, msg); err != nil && ctx.Err() == nil {
				s.log.Warn("publishing a block", "err", err)
			}
		case <-g.outNow:
			if _, left := s.flushTxs(ctx, batchBytes); left > 0 && !armed {
				armed = true
				flush.Reset(delay)
			}
		case <-flush.C:
			armed = false
			sent, _ := s.flushTxs(ctx, 1)
			delay = nextDelay(delay, sent)
		}
	}
}

// nextDelay is how long the next batch may fill after one that a delay ended had so many bytes: longer under load, since
// a message costs every node as much as some tens of transactions.
func nextDelay(delay time.Duration, size int) time.Duration {
	if size >= batchBusy {
		return min(2*delay, batchDelayMax)
	}
	return max(delay/2, batchDelay)
}

// flushTxs publishes batches as long as at least so many bytes wait. It returns how many bytes it sent and how many are
// left.
func (s *Service) flushTxs(ctx context.Context, least int) (sent, left int) {
	for ctx.Err() == nil {
		g := &s.gossip
		g.mu.Lock()
		if left = g.bytes; left < least {
			g.mu.Unlock()
			return sent, left
		}
		n, size := 0, 0
		for n < len(g.out) && size < batchBytes && wire.SaltSize+size+len(g.out[n]) <= wire.MaxTxBatch {
			size += len(g.out[n])
			n++
		}
		raws := g.out[:n]
		g.out, g.bytes = g.out[n:], g.bytes-size
		if len(g.out) == 0 {
			g.out = nil
		}
		g.mu.Unlock()
		var salt [wire.SaltSize]byte
		rand.Read(salt[:]) // never fails
		if err := g.txs.Publish(ctx, wire.AppendTxBatch(nil, salt, raws)); err != nil && ctx.Err() == nil {
			s.log.Warn("publishing transactions", "err", err)
		}
		s.count("batches_sent")
		s.stats.add("txs_sent", uint64(n))
		sent += size
	}
	return sent, 0
}

// topicLoop keeps us in the mesh of the txs topic only while our validated tip is near the best header, or as near as it
// gets: a node far behind can't judge balances, and would ignore what others would have had from it.
func (s *Service) topicLoop(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var leave pubsub.RelayCancelFunc
	for {
		switch near := s.near(); {
		case near && leave == nil:
			cancel, err := s.gossip.txs.Relay()
			if err != nil {
				s.log.Warn("joining the transactions topic", "err", err)
			} else {
				leave = cancel
			}
		case !near && leave != nil:
			leave()
			leave = nil
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// announcers remembers who gossiped the header of a block whose body we may have to fetch: two generations of at most
// 512 blocks, 8 peers each.
type announcers struct {
	mu       sync.Mutex
	now, old map[chain.BlockID][]peer.ID
}

func (a *announcers) init() { a.now, a.old = map[chain.BlockID][]peer.ID{}, nil }

func (a *announcers) add(id chain.BlockID, p peer.ID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.now) >= 512 {
		a.now, a.old = map[chain.BlockID][]peer.ID{}, a.now
	}
	if len(a.now[id]) < 8 {
		a.now[id] = append(a.now[id], p)
	}
}

// also adds one more announcer of a block that has one.
func (a *announcers) also(id chain.BlockID, p peer.ID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.now[id]); n > 0 && n < 8 && !slices.Contains(a.now[id], p) {
		a.now[id] = append(a.now[id], p)
	}
}

// of lists the announcers of a block, the first one first.
func (a *announcers) of(id chain.BlockID) []peer.ID {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ps := a.now[id]; len(ps) > 0 {
		return ps[:len(ps):len(ps)]
	}
	return a.old[id]
}

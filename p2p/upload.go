package p2p

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"quipu/chain"
	"quipu/p2p/wire"
)

// Limits of Config.MaxUpload, bytes a second.
const (
	MinUpload = 4 << 10
	MaxUpload = 1 << 40
)

func checkUpload(n int64) error {
	if n != 0 && (n < MinUpload || n > MaxUpload) {
		return fmt.Errorf("max upload of %d bytes a second: want %d to %d, or 0 for no limit", n, MinUpload, int64(MaxUpload))
	}
	return nil
}

// Answers are sent in pieces of at most uploadPiece where the upload is limited, so that peers share it evenly and an
// answer that nobody wants any more ends soon.
const (
	uploadPiece = 16 << 10
	uploadBurst = 50 * time.Millisecond // of the rate, sent at once after a pause
)

// uploads is the token bucket of all answers of this process. Peers take turns, whatever they ask for; of one peer,
// small answers go first, then bodies in the order asked. nil doesn't limit.
type uploads struct {
	rate  float64 // bytes a second
	burst float64

	mu     sync.Mutex
	tokens float64 // may be negative: the piece that was let through last
	at     time.Time
	queues []*uploadQueue // of the peers that wait, the next one first
	timer  *time.Timer
}

type uploadQueue struct {
	peer  peer.ID
	turns []*turn
}

// turn is a wait for one piece.
type turn struct {
	order uint64
	n     int
	ready chan struct{}
}

func newUploads(rate int64) *uploads {
	if rate == 0 {
		return nil
	}
	burst := float64(rate) * uploadBurst.Seconds()
	return &uploads{rate: float64(rate), burst: burst, tokens: burst, at: time.Now()}
}

// wait returns when n bytes may be sent to a peer.
func (u *uploads) wait(ctx context.Context, p peer.ID, order uint64, n int) error {
	t := &turn{order: order, n: n, ready: make(chan struct{})}
	u.mu.Lock()
	u.enter(p, t)
	u.grant()
	u.mu.Unlock()
	select {
	case <-t.ready:
		return nil
	case <-ctx.Done():
		u.mu.Lock()
		defer u.mu.Unlock()
		u.leave(p, t)
		return ctx.Err()
	}
}

func (u *uploads) enter(p peer.ID, t *turn) {
	i := slices.IndexFunc(u.queues, func(q *uploadQueue) bool { return q.peer == p })
	if i < 0 {
		u.queues = append(u.queues, &uploadQueue{peer: p})
		i = len(u.queues) - 1
	}
	q := u.queues[i]
	at := len(q.turns)
	for at > 0 && q.turns[at-1].order > t.order {
		at--
	}
	q.turns = slices.Insert(q.turns, at, t)
}

func (u *uploads) leave(p peer.ID, t *turn) {
	for i, q := range u.queues {
		if q.peer == p {
			q.turns = slices.DeleteFunc(q.turns, func(o *turn) bool { return o == t })
			if len(q.turns) == 0 {
				u.queues = slices.Delete(u.queues, i, i+1)
			}
			return
		}
	}
}

// grant lets through what there are tokens for, a piece a peer in turn, and comes back when there are more.
func (u *uploads) grant() {
	now := time.Now()
	u.tokens = min(u.burst, u.tokens+u.rate*now.Sub(u.at).Seconds())
	u.at = now
	for u.tokens > 0 && len(u.queues) > 0 {
		q := u.queues[0]
		t := q.turns[0]
		q.turns = q.turns[1:]
		u.tokens -= float64(t.n)
		close(t.ready)
		if u.queues = u.queues[1:]; len(q.turns) > 0 {
			u.queues = append(u.queues, q)
		}
	}
	if len(u.queues) == 0 || u.timer != nil {
		return
	}
	u.timer = time.AfterFunc(seconds(-u.tokens/u.rate)+time.Millisecond, func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.timer = nil
		u.grant()
	})
}

// piece is how much is sent at once: what the rate sends in uploadBurst, within bounds.
func (u *uploads) piece() int { return min(max(int(u.burst), 1<<10), uploadPiece) }

// answerWriter writes one answer within the peer's share of bandwidth and this process's upload.
type answerWriter struct {
	s     *Service
	ctx   context.Context
	r     *remote
	st    network.Stream
	order uint64 // among answers to this peer
}

func (w *answerWriter) Write(b []byte) (n int, err error) {
	if w.s.upload == nil {
		if err := w.s.paced(w.ctx, w.r, w.st, len(b)); err != nil {
			return 0, err
		}
		return w.st.Write(b)
	}
	for n < len(b) {
		piece := b[n:min(len(b), n+w.s.upload.piece())]
		if err := w.s.upload.wait(w.ctx, w.r.id, w.order, len(piece)); err != nil {
			return n, errors.Join(errSlow, err)
		}
		if err := w.s.paced(w.ctx, w.r, w.st, len(piece)); err != nil {
			return n, err
		}
		k, err := w.st.Write(piece)
		if n += k; err != nil {
			return n, err
		}
	}
	return n, nil
}

// answerTime is how long an answer may take: a job's time, and where the upload is limited, as long as the largest one takes
// when all peers ask for one.
func (s *Service) answerTime() time.Duration {
	if s.upload == nil {
		return s.t.job
	}
	s.mu.Lock()
	peers := len(s.remotes)
	s.mu.Unlock()
	return s.t.job + seconds(float64(2*max(1, peers)*(wire.MaxAnswer+chain.MaxBody))/s.upload.rate)
}

package p2p

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"quipu/chain"
	"quipu/p2p/wire"
)

// Bounds of comparing pools.
const (
	poolsASecond = 1 // questions of one peer: each looks through our pool
	poolsBurst   = 40
	poolRounds   = 64 // questions of one comparison: a pool of 16 MiB comes in 17 answers
	poolTries    = 3  // while the peer has another tip
	poolBusy     = 4  // batches of gossip being checked: while there are more, what seems to be missing may be among them
	poolMany     = 64 // missing ones: more of them aren't gossiped on, and the other parts are compared at once
)

// servePool answers what we hold and the asker doesn't seem to.
func (s *Service) servePool(ctx context.Context, r *remote, st network.Stream) error {
	b, err := s.request(r, st, wire.MaxPoolRequest)
	if err != nil {
		return err
	}
	q, err := wire.DecodePoolRequest(b)
	if err != nil {
		return err
	}
	if !r.pools.Allow() || s.b.Tip().ID != q.Tip || !s.near() {
		return s.answer(ctx, r, st, 1, func() []byte { return wire.AppendPool(nil, wire.PoolElsewhere, nil) })
	}
	return s.answer(ctx, r, st, wire.MaxPoolAnswer, func() []byte {
		var missing []chain.LeafHash
		for _, leaf := range s.b.PoolPart(q.Part, true) {
			if !q.Has(&leaf) {
				missing = append(missing, leaf)
			}
		}
		raws := s.b.PoolTxs(missing[:min(len(missing), wire.MaxAnswer/chain.TxMinSize)])
		code, size := wire.PoolAll, 0
		for i := range raws {
			if size += len(raws[i]); size > wire.MaxAnswer {
				raws = raws[:i]
				break
			}
		}
		if len(raws) < len(missing) && len(raws) > 0 {
			code = wire.PoolMore
		}
		s.stats.add("txs_pool_served", uint64(len(raws)))
		return wire.AppendPool(nil, code, raws)
	})
}

// comparePools asks a peer for what its pool holds and ours doesn't, in the background, of one peer after another. A
// part of the accounts is compared, another one each time; if much was missing, all of them.
func (s *Service) comparePools(ctx context.Context, r *remote) {
	checking := 0
	for _, o := range s.everyone() {
		checking += len(o.batches)
	}
	if checking > poolBusy {
		s.count("pools_busy")
		return
	}
	s.repairing(r, func() {
		select {
		case s.pooling <- struct{}{}:
			defer func() { <-s.pooling }()
			s.compare(ctx, r)
		case <-ctx.Done():
		}
	})
}

func (s *Service) compare(ctx context.Context, r *remote) {
	tries, left := 0, 1 // parts to compare
	bits := uint8(0)
	for range poolRounds {
		tip := s.b.Tip().ID
		q := s.poolRequest(tip, bits, r.poolPart)
		bits = q.Part.Bits
		code, raws, err := wire.PoolElsewhere, [][]byte(nil), error(nil)
		if tip == s.b.Tip().ID { // else what was mined meanwhile seems to be missing
			code, raws, err = s.askPool(ctx, r, &q)
		}
		if err != nil {
			if ctx.Err() == nil {
				s.fault(r.id, aboutFrame, err)
			}
			return
		}
		if code == wire.PoolElsewhere {
			s.count("pools_elsewhere")
			if tries++; tries >= poolTries || !sleep(ctx, s.t.repairDelay) {
				return
			}
			continue
		}
		s.count("pools_compared")
		if !s.takeRepaired(r, raws, len(raws) < poolMany) {
			return
		}
		if code == wire.PoolMore {
			continue
		}
		r.poolPart++
		if len(raws) >= poolMany && left == 1 {
			left = 1 << bits
		}
		if left--; left <= 0 {
			return
		}
	}
}

func (s *Service) askPool(ctx context.Context, r *remote, q *wire.PoolRequest) (code wire.PoolCode, raws [][]byte, err error) {
	err = s.ask(ctx, r.id, wire.NamePool, q.Append(nil), wire.MaxPoolAnswer, func(b []byte) (err error) {
		code, raws, err = wire.DecodePool(b)
		return err
	})
	return code, raws, err
}

// poolRequest asks about a part of the accounts small enough for one filter, of at least so many bits. Whatever was
// asked for or refused lately counts as held.
func (s *Service) poolRequest(tip chain.BlockID, bits, part uint8) wire.PoolRequest {
	lately := s.askedLately()
	var p wire.Prefix
	var leaves []chain.LeafHash
	for ; ; bits++ {
		p = wire.Prefix{Bits: bits, Value: part & (1<<bits - 1)}
		if leaves = s.b.PoolPart(p, false); len(leaves)+len(lately) <= wire.PoolPartLeaves || bits == wire.MaxPrefixBits {
			break
		}
	}
	var salt [wire.SaltSize]byte
	rand.Read(salt[:]) // never fails
	return wire.NewPoolRequest(tip, salt, p, append(leaves, lately...))
}

// askedLately are the transactions that aren't asked for again now.
func (s *Service) askedLately() (out []chain.LeafHash) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for l, at := range s.asked {
		if now.Sub(at) < s.t.repairAgain {
			out = append(out, l)
		}
	}
	return out
}

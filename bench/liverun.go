package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"quipu/chain"
	"quipu/rpc"
)

// liveRun is one run under way.
type liveRun struct {
	Live
	nodes    []*rpc.Client
	txs      []transfer
	byID     map[chain.TxID]*transfer
	progress func(what string, done, total uint64)
	start    time.Time
	tips     [][]tipSeen     // by node
	chain    []chain.BlockID // of the first node at the end, from height 1
}

// tipSeen is a tip that a node had at a time, the first time it was seen.
type tipSeen struct {
	at     time.Time
	height uint64
	id     chain.BlockID
}

// due is when a list is to be handed in.
func (l *liveRun) due(list int) time.Time {
	return l.start.Add(time.Duration(float64(list*l.List) / float64(l.Rate) * float64(time.Second)))
}

func (l *liveRun) measure(ctx context.Context, r *LiveRun) error {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var watchers sync.WaitGroup
	errs := make([]error, len(l.nodes))
	l.tips = make([][]tipSeen, len(l.nodes))
	l.start = time.Now()
	for i := range l.nodes {
		watchers.Go(func() { errs[i] = l.watch(watching, i) })
	}
	err := l.offer(ctx, r)
	if err == nil {
		err = l.settle(ctx)
	}
	if err == nil {
		err = l.read(ctx, r)
	}
	stop()
	watchers.Wait()
	if err = errors.Join(err, errors.Join(errs...)); err != nil {
		return err
	}
	l.times(r)
	return l.missing(ctx, r)
}

// watch notes each tip of a node, to livePoll.
func (l *liveRun) watch(ctx context.Context, i int) error {
	tick := time.NewTicker(livePoll)
	defer tick.Stop()
	for {
		head, err := l.nodes[i].ChainHead(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("node-%d: %w", i+1, err)
		}
		if seen := l.tips[i]; len(seen) == 0 || seen[len(seen)-1].id != head.Header.ID {
			l.tips[i] = append(seen, tipSeen{time.Now(), head.Header.Height, head.Header.ID})
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// offer hands in all lists at their times: list k to node k mod nodes, by as many callers a node as it takes to keep the
// times, within limits.
func (l *liveRun) offer(ctx context.Context, r *LiveRun) error {
	const callers = 4 // a node
	lists := (len(l.txs) + l.List - 1) / l.List
	var mu sync.Mutex
	var all sync.WaitGroup
	errs := make([]error, len(l.nodes)*callers)
	next := make([]int, len(l.nodes))
	for i := range next {
		next[i] = i
	}
	r.Refused = map[string]int{}
	for c := range errs {
		node := c % len(l.nodes)
		all.Go(func() {
			for {
				mu.Lock()
				k := next[node]
				next[node] += len(l.nodes)
				mu.Unlock()
				if k >= lists {
					return
				}
				timer := time.NewTimer(time.Until(l.due(k)))
				select {
				case <-ctx.Done():
					timer.Stop()
					errs[c] = ctx.Err()
					return
				case <-timer.C:
				}
				list := l.txs[k*l.List : min((k+1)*l.List, len(l.txs))]
				raws := make([][]byte, len(list))
				for i := range list {
					raws[i] = list[i].raw
				}
				answers, err := l.nodes[node].TxSubmitMany(ctx, raws)
				mu.Lock()
				l.answered(r, list, answers, err)
				l.progress("offering", uint64(r.Offered), uint64(len(l.txs)))
				mu.Unlock()
				var failed *rpc.Error
				if err != nil && !errors.As(err, &failed) {
					errs[c] = err
					return
				}
			}
		})
	}
	all.Wait()
	r.OfferS = time.Since(l.start).Seconds()
	return errors.Join(errs...)
}

func (l *liveRun) answered(r *LiveRun, list []transfer, answers []rpc.Submitted, err error) {
	r.Offered += len(list)
	if err != nil || len(answers) != len(list) {
		r.Unasked += len(list)
		r.Refused[fmt.Sprintf("call: %v", err)] += len(list)
		return
	}
	for i := range answers {
		if e := answers[i].Error; e != nil {
			reason, _, _ := strings.Cut(e.Message, ":")
			r.Refused[string(e.Data.Name)+": "+reason]++
			continue
		}
		list[i].taken = true
		r.Accepted++
	}
}

// settle waits until no pool holds anything and all nodes have one tip, or nothing moves any more.
func (l *liveRun) settle(ctx context.Context) error {
	last, moved := -1, time.Now()
	for {
		waiting, same := 0, true
		var tip chain.BlockID
		for i, n := range l.nodes {
			st, err := n.NodeStatus(ctx)
			if err != nil {
				return fmt.Errorf("node-%d: %w", i+1, err)
			}
			waiting += st.Mempool.Txs + st.Mempool.Queued
			same = same && (i == 0 || st.Tip.ID == tip)
			tip = st.Tip.ID
		}
		if waiting == 0 && same {
			// The pollers have to see it too.
			return sleepFor(ctx, 4*livePoll)
		}
		if waiting != last {
			last, moved = waiting, time.Now()
		}
		if time.Since(moved) > liveEdge {
			return nil
		}
		l.progress("waiting for the last blocks", 0, 0)
		if err := sleepFor(ctx, 4*livePoll); err != nil {
			return err
		}
	}
}

func sleepFor(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// read asks for what nodes counted, and the first node for the blocks of its chain.
func (l *liveRun) read(ctx context.Context, r *LiveRun) error {
	r.Counts = map[string]float64{}
	for i, n := range l.nodes {
		if err := scrape(ctx, n.URL, r); err != nil {
			return fmt.Errorf("node-%d: %w", i+1, err)
		}
	}
	head, err := l.nodes[0].ChainHead(ctx)
	if err != nil {
		return err
	}
	for h := uint64(1); h <= head.Header.Height; h++ {
		l.progress("reading the chain", h, head.Header.Height)
		b, err := l.nodes[0].ChainBlock(ctx, rpc.ChainBlockParams{Height: &h, Txs: true})
		if err != nil {
			return err
		}
		for i := range b.Txs {
			if t := l.byID[b.Txs[i].TxID]; t != nil {
				t.height = h
			}
		}
		r.LargestTx = max(r.LargestTx, len(b.Txs))
		l.chain = append(l.chain, b.Header.ID)
	}
	return nil
}

// scrape adds up what one node's metrics say.
func scrape(ctx context.Context, url string, r *LiveRun) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/metrics", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for s := bufio.NewScanner(io.LimitReader(resp.Body, 16<<20)); s.Scan(); {
		name, text, ok := strings.Cut(s.Text(), " ")
		v, err := strconv.ParseFloat(text, 64)
		if !ok || err != nil {
			continue
		}
		switch {
		case name == "process_cpu_seconds_total":
			r.CPUS = append(r.CPUS, v)
		case name == "process_resident_memory_bytes":
			r.RSSMB = append(r.RSSMB, v/1e6)
		case strings.HasPrefix(name, "quipu_p2p_events_total{"), strings.HasPrefix(name, "quipu_mempool_"), strings.HasPrefix(name, "quipu_tx_"),
			strings.HasPrefix(name, "quipu_chain_reorgs_total"):
			r.Counts[name] += v
		}
	}
	return nil
}

// times fills in what follows from when all nodes held which block.
func (l *liveRun) times(r *LiveRun) {
	held := make([]time.Time, len(l.chain)) // by height − 1: when the last node got it; zero if one didn't
	for h := range held {
		for i := range l.tips {
			k := slices.IndexFunc(l.tips[i], func(t tipSeen) bool {
				return t.height > uint64(h) && t.height <= uint64(len(l.chain)) && l.chain[t.height-1] == t.id
			})
			if k < 0 {
				held[h] = time.Time{}
				break
			}
			if at := l.tips[i][k].at; at.After(held[h]) {
				held[h] = at
			}
		}
	}
	for i := range l.tips {
		for _, t := range l.tips[i] {
			if t.height > uint64(len(l.chain)) || t.height > 0 && l.chain[t.height-1] != t.id {
				r.Reverted++
			}
		}
	}
	in := make([]int, len(held))
	var waits []float64
	for i := range l.txs {
		t := &l.txs[i]
		if t.height == 0 || held[t.height-1].IsZero() {
			continue
		}
		in[t.height-1]++
		waits = append(waits, float64(held[t.height-1].Sub(l.due(t.list)))/1e6)
	}
	first, last := -1, -1
	for h, n := range in {
		if n > 0 {
			if first < 0 {
				first = h
			}
			last = h
			r.Blocks++
			r.InBlocks += n
		}
	}
	if first < last {
		r.SpanS = held[last].Sub(held[first]).Seconds()
		r.TxPerS = float64(r.InBlocks-in[first]) / r.SpanS
	}
	if slices.Sort(waits); len(waits) > 0 {
		at := func(q float64) float64 { return waits[int(q*float64(len(waits)-1))] }
		r.Latency = Latency{at(0.5), at(0.95), at(0.99), at(1)}
	}
}

// missing looks for what was accepted and is in no block.
func (l *liveRun) missing(ctx context.Context, r *LiveRun) error {
	for i := range l.txs {
		t := &l.txs[i]
		if !t.taken || t.height > 0 {
			continue
		}
		found := false
		for _, n := range l.nodes {
			s, err := n.TxStatus(ctx, rpc.TxStatusParams{TxID: t.id})
			if err != nil {
				return err
			}
			if found = s.State == rpc.TxPending || s.State == rpc.TxQueued || s.State == rpc.TxIncluded; found {
				break
			}
		}
		if found {
			r.LeftOver++
		} else {
			r.Lost++
		}
	}
	return nil
}

package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"

	"quipu/chain"
	"quipu/chain/ledger"
	"quipu/node"
	"quipu/p2p"
)

// SyncNode is one process of bench sync: a node with default settings on a loopback address, which serves what it has
// and fetches what it lacks.
type SyncNode struct {
	File   string // an export, whose genesis is the network's
	Dir    string // of the data
	Peers  []string
	Upload int64  // bytes a second of all its answers, 0 without limit
	Fault  string // of Faults: it serves a few bodies well, and then not
	Height uint64 // at which it is done; 0 never
}

// Faults are what a bad server may do.
var Faults = []string{"stall", "slow", "garbage"}

// slowdown is by how much a slow server is slower than the others.
const slowdown = 20

// goodBodies is how many bodies a bad server serves well before it goes bad: it has been given work by then.
const goodBodies = 5

// SyncOnce is how one node's sync went. Times in seconds.
type SyncOnce struct {
	Seconds     float64 `json:"seconds"`      // from the first request to the last block applied
	GoodputMbit float64 `json:"goodput_mbit"` // bytes of the chain's bodies in that time
	Bytes       uint64  `json:"body_bytes"`
	Hedged      uint64  `json:"hedged_bytes"`    // asked of a second peer
	Duplicate   uint64  `json:"duplicate_bytes"` // received in vain
	UserS       float64 `json:"cpu_user_s"`
	SystemS     float64 `json:"cpu_system_s"`
	PeakRSSMB   float64 `json:"peak_rss_mb"`
	Banned      int     `json:"banned"` // peers
	First       int64   `json:"first"`  // of the first request, Unix µs
	Last        int64   `json:"last"`   // of the last block
}

// SyncSet is one row: the run with the median time, and all runs.
type SyncSet struct {
	Peers   int     `json:"peers"`              // that serve
	Fault   string  `json:"fault,omitempty"`    // of one of them
	Swarm   int     `json:"swarm,omitempty"`    // empty nodes that sync at the same time; Seconds is until the last is done
	OfLimit float64 `json:"of_limit,omitempty"` // goodput of one node, in parts of what the servers may upload together
	SyncOnce
	All []SyncOnce `json:"all"`
}

// Choose fills in the run with the median time.
func (s *SyncSet) Choose(limit float64) {
	var times []float64
	for i := range s.All {
		times = append(times, s.All[i].Seconds)
	}
	middle := Median(times)
	for i := range s.All {
		if s.All[i].Seconds == middle {
			s.SyncOnce = s.All[i]
			break
		}
	}
	if limit > 0 && s.Swarm == 0 {
		s.OfLimit = s.GoodputMbit / limit
	}
}

// SyncResult is all rows.
type SyncResult struct {
	Header
	Chain        Chain     `json:"chain"`
	UploadMbit   float64   `json:"upload_mbit"` // of each serving process; 0 is without limit
	Runs         []SyncSet `json:"runs"`
	ImportTxPerS float64   `json:"import_tx_per_s"` // of the same file, by a fresh process
	ImportS      float64   `json:"import_s"`
	// TimesImport is the time of the last row in parts of an import's, TimesFirst in parts of the first row's.
	TimesImport float64 `json:"times_import"`
	TimesFirst  float64 `json:"times_first,omitempty"`
}

// Run serves and syncs until ctx ends. up is told the node's address, done how the sync went.
func (c SyncNode) Run(ctx context.Context, up func(addr string), done func(SyncOnce)) error {
	f, err := os.Open(c.File)
	if err != nil {
		return err
	}
	g, _, err := ledger.ReadExport(f)
	f.Close()
	if err != nil {
		return err
	}
	cfg := node.Config{Genesis: g, DataDir: c.Dir, Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Bootstrap: c.Peers, MaxUpload: c.Upload}
	switch c.Fault {
	case "":
	case "slow":
		cfg.MaxUpload = max(p2p.MinUpload, c.Upload/slowdown)
	default:
		return c.runBad(ctx, cfg, up)
	}
	n, err := node.New(cfg)
	if err != nil {
		return err
	}
	up(n.About().Listen[0])
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	if c.Height > 0 {
		if err := c.watch(ctx, n, ended); err != nil {
			cancel()
			return err
		}
		r := c.result(n)
		if r.Bytes, err = bodyBytes(c.File); err != nil {
			cancel()
			return err
		}
		r.GoodputMbit = 8e-6 * float64(r.Bytes) / r.Seconds
		done(r)
	}
	defer cancel()
	return <-ended
}

// watch waits for the node to reach its goal.
func (c *SyncNode) watch(ctx context.Context, n *node.Node, ended chan error) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for n.Tip().Header.Height < c.Height {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-ended:
			ended <- err
			return errors.Join(errors.New("the node stopped"), err)
		case <-tick.C:
		}
	}
	return nil
}

func (c *SyncNode) result(n *node.Node) (r SyncOnce) {
	last := time.Now()
	s := n.SyncState()
	r.UserS, r.SystemS = cpuTime()
	r.PeakRSSMB = peakRSS()
	r.Hedged, r.Duplicate = s.Hedged, s.Duplicate
	r.Seconds = last.Sub(s.First).Seconds()
	r.Banned = n.Banned()
	r.First, r.Last = s.First.UnixMicro(), last.UnixMicro()
	return r
}

// bodyBytes sums the bodies of a chain's file.
func bodyBytes(file string) (n uint64, err error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	_, blocks, err := ledger.ReadExport(f)
	if err != nil {
		return 0, err
	}
	for b, err := range blocks {
		if err != nil {
			return 0, err
		}
		n += uint64(len(b.Body))
	}
	return n, nil
}

// bad is a node whose bodies can't be relied on.
type bad struct {
	*node.Node
	ctx    context.Context
	fault  string
	served atomic.Int64
}

func (b *bad) Body(id chain.BlockID) ([]byte, bool) {
	body, ok := b.Node.Body(id)
	if !ok || b.served.Add(1) <= goodBodies {
		return body, ok
	}
	if b.fault == "stall" {
		<-b.ctx.Done()
		return nil, false
	}
	drawn := rand.New(rand.NewPCG(1, uint64(b.served.Load())))
	body = append([]byte(nil), body...)
	for i := range body {
		body[i] = byte(drawn.Uint32())
	}
	return body, true
}

// runBad serves out of a ledger, badly.
func (c *SyncNode) runBad(ctx context.Context, cfg node.Config, up func(addr string)) error {
	n, err := node.Offline(cfg)
	if err != nil {
		return err
	}
	defer n.Close()
	identity, err := p2p.NewIdentity()
	if err != nil {
		return err
	}
	net := p2p.Config{Identity: identity, Listen: cfg.Listen, MaxUpload: cfg.MaxUpload}
	h, err := p2p.NewHost(net)
	if err != nil {
		return err
	}
	defer h.Close()
	s, err := p2p.New(net, h, &bad{Node: n, ctx: ctx, fault: c.Fault})
	if err != nil {
		return err
	}
	up(s.Addrs()[0])
	if err := s.Run(ctx); err != nil {
		return fmt.Errorf("bad server: %w", err)
	}
	return nil
}

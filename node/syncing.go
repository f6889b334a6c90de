package node

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"quipu/p2p"
	"quipu/rpc"
)

// SyncState says how far the download of bodies is. A node without network has none.
func (n *Node) SyncState() p2p.SyncState {
	if n.net == nil {
		return p2p.SyncState{}
	}
	return n.net.SyncState()
}

// Banned is how many peers are banned.
func (n *Node) Banned() int { return len(n.net.Bans()) }

// syncStatus says where the node stands and how fast it goes. peers is how many are connected.
func (n *Node) syncStatus(peers int) rpc.SyncStatus {
	s := n.SyncState()
	out := rpc.SyncStatus{
		Peers: s.Sources, Rate: s.Rate, TxRate: s.TxRate, Pending: s.Pending, Flying: s.Flying, Waiting: s.Waiting, Bytes: s.Bytes,
		Hedged: s.Hedged, InVain: s.Duplicate,
	}
	if s.BestHeight > s.TipHeight {
		out.Behind = s.BestHeight - s.TipHeight
	}
	if out.Behind > 0 && s.BlockRate > 0 {
		out.ETAMS = int64(min(1e3*float64(out.Behind)/s.BlockRate, 1e12))
	}
	switch {
	case n.awaiting.Load():
		out.State = "snapshot"
	case n.rebuilding.Load():
		out.State = "rebuilding"
	case out.Behind > 2:
		out.State = "bodies"
	case s.NetworkHeight > s.BestHeight+2:
		out.State = "headers"
	case peers == 0:
		out.State = "no_peers"
	default:
		out.State = "synced"
	}
	return out
}

// Progress is what a person watches while the node catches up. Syncing is false when there is nothing to watch.
type Progress struct {
	Syncing bool
	Height  uint64
	Best    uint64
	Peers   int // connected
	Rate    float64
	TxRate  float64
	ETA     time.Duration // 0 isn't known
}

// Progress of the sync.
func (n *Node) Progress() Progress {
	peers := len(n.net.Peers())
	s, tip, best := n.syncStatus(peers), n.Tip(), n.BestHeader()
	return Progress{
		Syncing: s.State == "bodies" || s.State == "headers" || s.State == "rebuilding", Height: tip.Header.Height, Best: best.Header.Height,
		Peers: peers, Rate: s.Rate, TxRate: s.TxRate, ETA: time.Duration(s.ETAMS) * time.Millisecond,
	}
}

// syncMetrics are read when scraped.
var (
	syncBytes = prometheus.NewDesc("quipu_sync_body_bytes_total", "Bytes of block bodies: imported, hedged (asked of a second peer), duplicate (received in vain), served.", []string{"what"}, nil)
	syncNow   = prometheus.NewDesc("quipu_sync_bodies", "Block bodies by state: pending (to be asked for), flying (asked for, or waiting for import).", []string{"state"}, nil)
	syncPeers = prometheus.NewDesc("quipu_sync_peers", "Peers that are asked for bodies: asked, and of those suspect (nothing came for a while).", []string{"state"}, nil)
	syncRate  = prometheus.NewDesc("quipu_sync_rate_bytes", "Bytes of bodies imported a second, over the last seconds.", nil, nil)
	syncWait  = prometheus.NewDesc("quipu_sync_waiting_bytes", "Bytes of bodies that have come and wait for import.", nil, nil)
)

type syncMetrics struct{ n *Node }

func (c syncMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{syncBytes, syncNow, syncPeers, syncRate, syncWait} {
		ch <- d
	}
}

func (c syncMetrics) Collect(ch chan<- prometheus.Metric) {
	s := c.n.SyncState()
	counter := func(d *prometheus.Desc, v uint64, label string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), label)
	}
	gauge := func(d *prometheus.Desc, v float64, label ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, label...)
	}
	counter(syncBytes, s.Bytes, "imported")
	counter(syncBytes, s.Hedged, "hedged")
	counter(syncBytes, s.Duplicate, "duplicate")
	counter(syncBytes, s.Served, "served")
	gauge(syncNow, float64(s.Pending), "pending")
	gauge(syncNow, float64(s.Flying), "flying")
	gauge(syncPeers, float64(s.Sources), "asked")
	gauge(syncPeers, float64(s.Suspects), "suspect")
	gauge(syncRate, s.Rate)
	gauge(syncWait, float64(s.Waiting))
}

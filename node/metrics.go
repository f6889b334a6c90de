package node

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"quipu/chain"
)

// metrics are the node's own counters; gauges are read from ledger, pool and network when scraped. One registry a
// node, never the global one: tests run many nodes in one process.
type metrics struct {
	registry                               *prometheus.Registry
	accepted                               prometheus.Counter
	rejectedTxs                            *prometheus.CounterVec
	blocks, txs                            prometheus.Counter
	invalidBlocks                          prometheus.Counter
	mined                                  prometheus.Counter
	reorgs                                 prometheus.Counter
	reorgDepth                             prometheus.Gauge
	reorgAlarms                            prometheus.Counter
	startOvers, snapshots, snapshotsFailed prometheus.Counter
	offCheckpoint                          prometheus.Counter
	parkedDropped                          prometheus.Counter
	banned                                 *prometheus.CounterVec
}

func newMetrics(n *Node) *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		m.registry.MustRegister(c)
		return c
	}
	gauge := func(name, help string, read func() float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read))
	}
	m.accepted = counter("quipu_tx_accepted_total", "Transactions that entered the pool.")
	m.blocks = counter("quipu_blocks_applied_total", "Blocks applied to the best chain.")
	m.txs = counter("quipu_block_txs_applied_total", "Transactions in applied blocks.")
	m.invalidBlocks = counter("quipu_blocks_invalid_total", "Blocks found invalid.")
	m.mined = counter("quipu_blocks_mined_total", "Blocks this node made.")
	m.reorgs = counter("quipu_chain_reorgs_total", "Reorganisations of the best chain.")
	m.reorgAlarms = counter("quipu_chain_reorg_alarms_total", "Reorganisations that reverted 6 blocks or more.")
	m.snapshots = counter("quipu_snapshots_written_total", "Snapshot files of all accounts written.")
	m.snapshotsFailed = counter("quipu_snapshots_failed_total", "Snapshot files that could not be written.")
	m.startOvers = counter("quipu_chain_start_overs_total", "Times the chain was applied anew from block 0, since a heavier one left it below the undo.")
	m.offCheckpoint = counter("quipu_chain_off_checkpoint_total", "Headers refused because another block is the checkpoint at their height.")
	m.parkedDropped = counter("quipu_headers_parked_dropped_total", "Headers ahead of the clock that found no room to wait.")
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "quipu_events_overwritten_total", Help: "Events that made room for newer ones; a reader that was too slow is told of the gap.",
	}, func() float64 { return float64(n.events.overwritten()) }))
	m.reorgDepth = prometheus.NewGauge(prometheus.GaugeOpts{Name: "quipu_chain_reorg_depth_blocks", Help: "Blocks reverted by the last reorg."})
	m.rejectedTxs = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "quipu_tx_rejected_total", Help: "Transactions that broke a rule."}, []string{"reason"})
	m.banned = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "quipu_peers_banned_total", Help: "Peers banned, by evidence."}, []string{"reason"})
	m.registry.MustRegister(m.reorgDepth, m.rejectedTxs, m.banned, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	gauge("quipu_chain_height", "Height of the validated tip.", func() float64 { return float64(n.ledger.Tip().Header.Height) })
	gauge("quipu_chain_best_header_height", "Height of the best header.", func() float64 { return float64(n.ledger.BestHeader().Header.Height) })
	gauge("quipu_state_memory_bytes", "What accounts and hashes of their tree take in memory.", func() float64 { return float64(n.ledger.State().Memory) })
	gauge("quipu_state_behind_accounts", "Changed accounts that are in the journal and not yet in the pages of their tree.", func() float64 { return float64(n.ledger.State().Behind) })
	gauge("quipu_chain_pruned_height", "Bodies of the best chain are pruned up to this height.", func() float64 { return float64(n.ledger.Pruned()) })
	gauge("quipu_chain_rebuild_goal_height", "Height to which the chain is being applied anew from block 0; 0 if it isn't.", func() float64 {
		if r := n.ledger.Rebuilding(); r != nil {
			return float64(r.Goal)
		}
		return 0
	})
	if n.cfg.History {
		gauge("quipu_chain_history_height", "The index of accounts' histories reaches to this height.", func() float64 { return float64(n.ledger.HistoryInfo().Height) })
	}
	gauge("quipu_chain_tip_age_seconds", "Age of the tip by its own time.", func() float64 { return n.tipAge().Seconds() })
	gauge("quipu_mempool_txs", "Pending transactions.", func() float64 { return float64(n.pool.Stats().Txs) })
	gauge("quipu_mempool_bytes", "Bytes of pending and gapped transactions.", func() float64 { s := n.pool.Stats(); return float64(s.Bytes + s.GappedBytes) })
	gauge("quipu_tx_batches_waiting", "Lists of transactions from gossip and API that wait to be checked.", func() float64 { return float64(n.together.calls()) })
	gauge("quipu_peers", "Connected peers.", func() float64 { return float64(len(n.net.Peers())) })
	gauge("quipu_peers_outbound_slots", "Outbound peers chosen from the address book.", func() float64 { return float64(n.net.BookInfo().Slots) })
	gauge("quipu_addresses_new", "Addresses in the book that haven't answered yet.", func() float64 { return float64(n.net.BookInfo().New) })
	gauge("quipu_addresses_tried", "Addresses in the book that have answered.", func() float64 { return float64(n.net.BookInfo().Tried) })
	m.registry.MustRegister(counts{n}, syncMetrics{n})
	return m
}

func (m *metrics) rejected(err error) {
	var kind chain.ErrorKind
	if errors.As(err, &kind) {
		m.rejectedTxs.WithLabelValues(string(kind)).Inc()
	}
}

// counts exports what pool and network count by reason: every queue's drops among them. The sets of reasons are
// fixed in code.
type counts struct{ n *Node }

var (
	poolDrops    = prometheus.NewDesc("quipu_mempool_dropped_total", "Transactions that left the pool unmined.", []string{"reason"}, nil)
	poolRefusals = prometheus.NewDesc("quipu_mempool_refused_total", "Transactions the pool didn't take.", []string{"reason"}, nil)
	netCounts    = prometheus.NewDesc("quipu_p2p_events_total", "What the network layer counted: messages, drops, charges.", []string{"what"}, nil)
)

func (c counts) Describe(ch chan<- *prometheus.Desc) {
	ch <- poolDrops
	ch <- poolRefusals
	ch <- netCounts
}

func (c counts) Collect(ch chan<- prometheus.Metric) {
	stats := c.n.pool.Stats()
	for reason, v := range stats.Dropped {
		ch <- prometheus.MustNewConstMetric(poolDrops, prometheus.CounterValue, float64(v), reason)
	}
	for refusal, v := range stats.Refused {
		ch <- prometheus.MustNewConstMetric(poolRefusals, prometheus.CounterValue, float64(v), string(refusal))
	}
	for what, v := range c.n.net.Counters() {
		ch <- prometheus.MustNewConstMetric(netCounts, prometheus.CounterValue, float64(v), what)
	}
}

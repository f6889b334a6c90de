package node

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/x/simlibp2p"
	"github.com/marcopolo/simnet"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/p2p"
)

// relayPlan is one simulated network and what crosses it.
type relayPlan struct {
	nodes, dials int // nodes, and how many others each dials
	txs          int // a block
	blocks       int // a scenario
	mbit         int // each way
	latency      [2]time.Duration
	seed         uint64
}

// relayReport is what TestRelay100 writes.
type relayReport struct {
	Schema     string          `json:"schema"`
	Go         string          `json:"go"`
	Nodes      int             `json:"nodes"`
	Dials      int             `json:"dials_a_node"`
	LinkMbit   int             `json:"link_mbit_each_way"`
	LatencyMS  [2]float64      `json:"one_way_latency_ms"`
	Txs        int             `json:"txs_a_block"`
	BodyBytes  int             `json:"body_bytes"`
	ValidateMS float64         `json:"validate_ms_a_block"`
	Validate   string          `json:"validate_source"`
	FindMS     float64         `json:"find_ms_a_block"`
	Find       string          `json:"find_source"`
	Bytes      string          `json:"bytes_are"`
	Scenarios  []relayScenario `json:"scenarios"`
}

// relayScenario is how some blocks crossed the network: over all nodes but the one that made the block.
type relayScenario struct {
	Name      string            `json:"name"`
	Blocks    int               `json:"blocks"`
	P50       float64           `json:"p50_ms"`
	P95       float64           `json:"p95_ms"`
	Max       float64           `json:"max_ms"`
	BytesMean float64           `json:"bytes_a_node_mean"`
	BytesP95  float64           `json:"bytes_a_node_p95"`
	BytesMax  float64           `json:"bytes_a_node_max"`
	CDF       []float64         `json:"percentiles_ms"` // 0 to 100
	Counters  map[string]uint64 `json:"counters"`       // of all nodes together
}

func (s *relayScenario) fill(took, bytes []float64) {
	slices.Sort(took)
	slices.Sort(bytes)
	at := func(v []float64, share float64) float64 { return v[int(share*float64(len(v)-1)+0.5)] }
	s.P50, s.P95, s.Max = at(took, 0.5), at(took, 0.95), at(took, 1)
	for i := range 101 {
		s.CDF = append(s.CDF, at(took, float64(i)/100))
	}
	sum := 0.0
	for _, b := range bytes {
		sum += b
	}
	s.BytesMean, s.BytesP95, s.BytesMax = sum/float64(len(bytes)), at(bytes, 0.95), at(bytes, 1)
}

// importUS is what bench import measured a transaction to cost besides its signature, in µs: every stage but reading, opening
// and verifying, and decoding alone, which has the check of tx_root in it.
func importUS(t *testing.T) (all, decode float64) {
	b, err := os.ReadFile("../docs/figures/import-accounts-10000.json")
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		Stages []struct {
			Name string  `json:"name"`
			US   float64 `json:"us_a_tx"`
		} `json:"stages"`
	}
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	for _, s := range r.Stages {
		if s.Name == "decode" {
			decode = s.US
		}
		if s.Name != "open" && s.Name != "read" && s.Name != "verify" {
			all += s.US
		}
	}
	return all, decode
}

// findUS is what finding a transaction by short id costs, and putting the block together (BenchmarkFindShort), in µs.
const findUS = 0.5

// relayWorld is many whole nodes with links and latencies of their own, in a synctest bubble.
type relayWorld struct {
	*world
	plan   relayPlan
	rnd    *rand.Rand
	peers  [][]int // whom each dials
	keys   []chaintest.Key
	nonces map[chain.Account]uint64
}

// latencyBetween is fixed for a pair of addresses, uniform between both bounds.
func (p *relayPlan) latencyBetween(a, b net.Addr) time.Duration {
	x, y := a.(*net.UDPAddr).IP.To4(), b.(*net.UDPAddr).IP.To4()
	if slices.Compare(x, y) > 0 {
		x, y = y, x
	}
	n := func(ip net.IP) uint64 {
		return uint64(ip[0])<<24 | uint64(ip[1])<<16 | uint64(ip[2])<<8 | uint64(ip[3])
	}
	r := rand.New(rand.NewPCG(n(x)<<32|n(y), p.seed))
	return p.latency[0] + time.Duration(r.Int64N(int64(p.latency[1]-p.latency[0])))
}

// graph draws whom each node dials, among those before it.
func (p *relayPlan) graph() [][]int {
	r := rand.New(rand.NewPCG(p.seed, 1))
	out := make([][]int, p.nodes)
	for i := range out {
		out[i] = r.Perm(i)[:min(i, p.dials)]
	}
	return out
}

func (p *relayPlan) inWorld(t *testing.T, g *chain.Genesis, keys []chaintest.Key, f func(w *relayWorld)) {
	synctest.Test(t, func(t *testing.T) {
		w := &relayWorld{plan: *p, rnd: rand.New(rand.NewPCG(p.seed, 2)), peers: p.graph(), keys: keys, nonces: map[chain.Account]uint64{}}
		w.world = &world{T: t, g: g, net: &simnet.Simnet{LatencyFunc: func(k *simnet.Packet) time.Duration { return p.latencyBetween(k.From, k.To) }}}
		w.net.Start()
		defer func() {
			var all sync.WaitGroup
			for _, stop := range w.stop {
				all.Go(stop)
			}
			all.Wait()
			w.net.Close()
		}()
		f(w)
	})
}

func (w *relayWorld) newHost(i int) p2p.Host {
	identity, err := p2p.NewIdentity()
	if err != nil {
		w.Fatal(err)
	}
	link := simnet.LinkSettings{BitsPerSecond: w.plan.mbit * simlibp2p.OneMbps}
	h, err := p2p.NewHost(p2p.Config{Identity: identity, Listen: []string{fmt.Sprintf("/ip4/%s/udp/8000/quic-v1", simnet.IntToPublicIPv4(i+1))}},
		simlibp2p.QUICSimnet(w.net, simnet.NodeBiDiLinkSettings{Downlink: link, Uplink: link}))
	if err != nil {
		w.Fatal(err)
	}
	return h
}

func (w *relayWorld) startAll(validate, find float64) {
	for i := range w.plan.nodes {
		c := Config{Genesis: w.g, Host: w.newHost(i), MemTable: max(8<<20, 32*int64(w.g.BodyLimit)), StateMemory: 16 << 20}
		for _, k := range w.peers[i] {
			c.Bootstrap = append(c.Bootstrap, w.nodes[k].net.Addrs()...)
		}
		c.importCost = func(txs int) { time.Sleep(time.Duration(validate * float64(txs) * 1e3)) } // virtual
		c.relayCost = func(txs int) { time.Sleep(time.Duration(find * float64(txs) * 1e3)) }      // virtual
		w.run(c)
	}
	time.Sleep(20 * time.Second) // virtual: connections stand, meshes are settled
	for i, n := range w.nodes {
		if got := len(n.net.Peers()); got < min(w.plan.dials, w.plan.nodes-1) {
			w.Fatalf("node %d has %d peers", i, got)
		}
	}
}

// payments are the transactions of the next block.
func (w *relayWorld) payments() [][]byte {
	raws := make([][]byte, w.plan.txs)
	for i := range raws {
		k := w.keys[i%len(w.keys)]
		raws[i] = chaintest.Raw(k.Pay(w.g, w.nonces[k.Account], 0, chaintest.To(w.keys[(i+1)%len(w.keys)], 1)))
		w.nonces[k.Account]++
	}
	return raws
}

// fill gives a node's pool transactions as if it had them from gossip. Their signatures are verified once for all nodes:
// what that costs was paid before the block.
func (w *relayWorld) fill(n *Node, raws [][]byte, leaves []chain.LeafHash) {
	for _, l := range leaves {
		n.verified.put(l, nil)
	}
	for _, res := range n.AcceptTxs(raws) {
		if res.Err != nil {
			w.Fatal(res.Err)
		}
	}
}

// scenario lets blocks cross the network. lacks says which transactions are missing in whose pool; the node that makes the
// block has all.
func (w *relayWorld) scenario(name string, lacks func(block, node, tx int) bool) relayScenario {
	out := relayScenario{Name: name, Blocks: w.plan.blocks, Counters: map[string]uint64{}}
	var took, bytes []float64
	for b := range w.plan.blocks {
		miner := w.rnd.IntN(len(w.nodes))
		raws := w.payments()
		_, errs := w.g.CheckTxs(raws, nil)
		if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
			w.Fatal(errs[i])
		}
		for i, n := range w.nodes {
			var has [][]byte
			var leaves []chain.LeafHash
			for k, raw := range raws {
				// A chain of nonces with a hole is gapped: what an account pays later is missing with it.
				if i == miner || !lacks(b, i, k%len(w.keys)) {
					has, leaves = append(has, raw), append(leaves, chain.LeafOf(raw))
				}
			}
			w.fill(n, has, leaves)
		}
		h, txs, err := w.nodes[miner].template()
		if err != nil {
			w.Fatal(err)
		}
		if len(txs) != w.plan.txs {
			w.Fatalf("block of %d transactions, want %d", len(txs), w.plan.txs)
		}
		h.Solve(1 << 40)
		before := make([]map[string]uint64, len(w.nodes))
		for i, n := range w.nodes {
			before[i] = n.net.Counters()
		}
		start := time.Now()
		times := make([]float64, len(w.nodes))
		var done sync.WaitGroup
		for i, n := range w.nodes {
			done.Go(func() {
				for time.Since(start) < time.Minute {
					changed := n.tip.changed()
					if n.Tip().ID == h.ID() {
						times[i] = float64(time.Since(start).Microseconds()) / 1e3
						return
					}
					select {
					case <-changed:
					case <-time.After(10 * time.Second): // virtual
					}
				}
				w.Errorf("%s: node %d does not have the block", name, i)
			})
		}
		if err := w.nodes[miner].mined(h, txs); err != nil {
			w.Fatal(err)
		}
		done.Wait()
		time.Sleep(3 * time.Second) // virtual: what is still on its way counts too
		for i, n := range w.nodes {
			now := n.net.Counters()
			for name, v := range now {
				if d := v - before[i][name]; d > 0 {
					out.Counters[name] += d
				}
			}
			if i == miner {
				continue
			}
			got := 0.0
			for _, name := range []string{"bytes_in_blocks_topic", "bytes_in_compact", "bytes_in_blocktxs", "bytes_in_bodies", "body_bytes_received"} {
				got += float64(now[name] - before[i][name])
			}
			took, bytes = append(took, times[i]), append(bytes, got)
		}
		time.Sleep(10 * time.Second) // virtual
	}
	out.fill(took, bytes)
	return out
}

// relayRun runs the scenarios and reports.
func relayRun(t *testing.T, p relayPlan) relayReport {
	keys := make([]chaintest.Key, min(p.txs, 2000))
	for i := range keys {
		keys[i] = chaintest.NewKey(fmt.Sprint("relay", i))
	}
	g := chaintest.Genesis(func(g *chain.Genesis) {
		g.Time, g.Spacing, g.HalfLife, g.BodyLimit = worldStart, 10_000, 1_440_000, uint32(p.txs*chain.TxMinSize+4_000)
	}, keys...)
	validate, decode := importUS(t)
	r := relayReport{
		Schema: "quipu.relay/v1", Go: runtime.Version(), Nodes: p.nodes, Dials: p.dials, LinkMbit: p.mbit, Txs: p.txs, BodyBytes: p.txs * chain.TxMinSize,
		LatencyMS:  [2]float64{float64(p.latency[0].Milliseconds()), float64(p.latency[1].Milliseconds())},
		ValidateMS: validate * float64(p.txs) / 1e3, Validate: "docs/figures/import-accounts-10000.json, all stages but open, read and verify",
		FindMS: findUS * float64(p.txs) / 1e3, Find: "BenchmarkFindShort in package node",
		Bytes: "received in the blocks topic (messages and control) and the streams compact, blocktxs and bodies, requests included, without QUIC's own",
	}
	p.inWorld(t, g, keys, func(w *relayWorld) {
		w.startAll(validate, findUS)
		own := func(block, node, tx int) bool {
			return rand.New(rand.NewPCG(uint64(block)<<40|uint64(node)<<20|uint64(tx), p.seed)).IntN(5) == 0
		}
		r.Scenarios = append(r.Scenarios,
			w.scenario("warm pools", func(int, int, int) bool { return false }),
			w.scenario("own 20 % missing", own),
			w.scenario("same 20 % missing everywhere", func(block, _, tx int) bool { return own(block, 0, tx) }),
		)
	})
	r.Scenarios = append(r.Scenarios, gossipWhole(t, p, g, validate, decode))
	return r
}

// save writes a report to QUIPU_REPORT or among the test's artifacts, and logs it without its long lists.
func (r relayReport) save(t *testing.T) {
	name := os.Getenv("QUIPU_REPORT")
	if name == "" {
		name = filepath.Join(t.ArtifactDir(), "relay100.json")
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.WriteFile(name, append(b, '\n'), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("report in %s: %d nodes, %.1f ms to validate", name, r.Nodes, r.ValidateMS)
	for _, s := range r.Scenarios {
		t.Logf("%-30s p50 %4.0f ms, p95 %4.0f ms, max %4.0f ms; %6.0f bytes a node, p95 %6.0f, max %6.0f", s.Name, s.P50, s.P95, s.Max, s.BytesMean, s.BytesP95, s.BytesMax)
		for _, k := range slices.Sorted(func(yield func(string) bool) {
			for k := range s.Counters {
				if !yield(k) {
					return
				}
			}
		}) {
			t.Logf("    %s %d", k, s.Counters[k])
		}
	}
}

// TestRelay100 lets blocks of 4,000 transactions cross 100 whole nodes in virtual time and writes a report.
func TestRelay100(t *testing.T) {
	if os.Getenv("QUIPU_LONG") == "" {
		t.Skip("100 nodes take minutes: set QUIPU_LONG=1. TestRelaySmall is the same with fewer")
	}
	r := relayRun(t, relayPlan{nodes: 100, dials: 8, txs: 4000, blocks: 2, mbit: 20, latency: [2]time.Duration{25 * time.Millisecond, 150 * time.Millisecond}, seed: 1})
	r.save(t)
	// The goal of the second is 1,500 ms: each hop takes three round trips there, and they add up.
	r.check(t, 0, 500, 1000, 40_000)
	r.check(t, 1, 1800, 2300, 300_000)
	r.check(t, 2, 1800, 2500, 400_000)
}

// TestRelaySmall is TestRelay100 with fewer nodes and transactions.
func TestRelaySmall(t *testing.T) {
	r := relayRun(t, relayPlan{nodes: 12, dials: 4, txs: 400, blocks: 1, mbit: 20, latency: [2]time.Duration{25 * time.Millisecond, 150 * time.Millisecond}, seed: 1})
	r.save(t)
	r.check(t, 0, 500, 700, 6_000)
	r.check(t, 1, 900, 1200, 30_000)
	r.check(t, 2, 900, 1200, 30_000)
	for _, s := range r.Scenarios[:3] {
		for name, want := range map[string]uint64{"relay_blocks": 11, "relay_whole_bodies": 0, "relay_given_up": 0, "bodies_received": 0} {
			if s.Counters[name] != want {
				t.Errorf("%s: %s is %d, want %d", s.Name, name, s.Counters[name], want)
			}
		}
	}
	if got := r.Scenarios[0].Counters["relay_round_trips"]; got != 11 {
		t.Errorf("warm pools: %d round trips for 11 nodes", got)
	}
}

// check holds a scenario to milliseconds of virtual time, and bytes.
func (r *relayReport) check(t *testing.T, i int, p50, p95, bytes float64) {
	t.Helper()
	if s := &r.Scenarios[i]; s.P50 > p50 || s.P95 > p95 || s.BytesMean > bytes {
		t.Errorf("%s: p50 %.0f ms, p95 %.0f ms, %.0f bytes a node; want at most %.0f, %.0f and %.0f", s.Name, s.P50, s.P95, s.BytesMean, p50, p95, bytes)
	}
}

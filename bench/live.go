package bench

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"quipu/chain"
	"quipu/chain/bip340"
	"quipu/rpc"
	"quipu/testnet"
)

// Live is a network of real processes under load: transfers of one recipient, signed beforehand, are offered at a fixed
// rate in lists over RPC, to all nodes in turn. Blocks come once a second and hold up to 4 MiB.
type Live struct {
	Nodes   int           `json:"nodes"`
	For     time.Duration `json:"for_ns"`  // how long transfers are offered
	Rate    int           `json:"rate"`    // transfers a second
	List    int           `json:"list"`    // transfers of one call
	Miners  int           `json:"miners"`  // nodes that mine, 0 for all
	Senders int           `json:"senders"` // each in its turn; a recipient is one of them
	Seed    uint64        `json:"seed"`

	Command  []string `json:"-"` // the program; nil is this executable
	Env      []string `json:"-"` // added to the nodes' environment
	Profiles bool     `json:"-"` // each node writes cpu.out into its directory; what the nodes wrote is kept
}

const (
	liveBody  = chain.MaxBody
	liveMiner = 500              // hashes a second a node
	liveEdge  = 20 * time.Second // without progress the rest counts as left over
	livePoll  = 25 * time.Millisecond
)

// Validate says what can't be run.
func (l *Live) Validate() error {
	switch {
	case l.Nodes < 1 || l.Nodes > testnet.MaxNodes:
		return fmt.Errorf("%d nodes: 1 to %d are possible", l.Nodes, testnet.MaxNodes)
	case l.Miners < 0 || l.Miners > l.Nodes:
		return fmt.Errorf("%d miners: 1 to %d are possible, 0 for all", l.Miners, l.Nodes)
	case l.For < time.Second || l.For > time.Hour:
		return fmt.Errorf("for %s: 1s to 1h are possible", l.For)
	case l.Rate < 1 || l.Rate > 100_000:
		return fmt.Errorf("rate %d: 1 to 100000 transfers a second are possible", l.Rate)
	case l.List < 1 || l.List > rpc.MaxSubmit:
		return fmt.Errorf("lists of %d: 1 to %d are possible", l.List, rpc.MaxSubmit)
	case l.Senders < 1 || l.Senders > 1_000_000:
		return fmt.Errorf("%d senders: 1 to 1000000 are possible", l.Senders)
	}
	return nil
}

// transfers is how many are signed.
func (l *Live) transfers() int { return int(float64(l.Rate) * l.For.Seconds()) }

// Latency is in ms.
type Latency struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// LiveRun is one measurement.
type LiveRun struct {
	// TxPerS is transfers in blocks that all nodes hold, those of the first such block left out, ÷ SpanS.
	TxPerS float64 `json:"tx_per_s"`
	// SpanS runs from the moment all nodes held the first block with transfers to the moment they all held the last.
	SpanS float64 `json:"span_s"`
	// Latency runs from when a transfer was to be handed in to when all nodes held its block.
	Latency   Latency        `json:"latency_ms"`
	Offered   int            `json:"offered"`
	OfferS    float64        `json:"offer_s"` // how long the offering took
	Accepted  int            `json:"accepted"`
	Refused   map[string]int `json:"refused"` // by reason
	Unasked   int            `json:"unanswered"`
	InBlocks  int            `json:"in_blocks"` // that all nodes hold
	LeftOver  int            `json:"left_over"` // in a pool at the end
	Lost      int            `json:"lost"`      // accepted, and neither in a block nor in a pool
	Blocks    int            `json:"blocks"`
	LargestTx int            `json:"largest_block"` // transfers
	Reverted  int            `json:"reverted"`      // blocks a node had at its tip and that are not on the chain
	// CPUS is what each node used until the last block, in seconds.
	CPUS []float64 `json:"node_cpu_s"`
	// RSSMB is each node's memory at the end.
	RSSMB []float64 `json:"node_rss_mb"`
	// Counts are what the nodes' networks and pools counted, all nodes together: messages, and drops of every queue.
	Counts map[string]float64 `json:"counts"`
	Dir    string             `json:"dir,omitempty"` // where profiles are
}

// LiveResult is the run with the median rate, and all runs.
type LiveResult struct {
	Header
	Live Live `json:"load"`
	LiveRun
	Runs []LiveRun `json:"runs"`
}

// Choose fills in the run with the median rate.
func (r *LiveResult) Choose() {
	var rates []float64
	for i := range r.Runs {
		rates = append(rates, r.Runs[i].TxPerS)
	}
	middle := Median(rates)
	for i := range r.Runs {
		if r.Runs[i].TxPerS == middle {
			r.LiveRun = r.Runs[i]
			return
		}
	}
}

// transfer is one that is offered.
type transfer struct {
	id     chain.TxID
	raw    []byte
	list   int  // which list it is in
	taken  bool // a node accepted it
	height uint64
}

// Run makes a network, offers the load and waits for its end. progress may be nil.
func (l Live) Run(ctx context.Context, progress func(what string, done, total uint64)) (r LiveRun, err error) {
	if err := l.Validate(); err != nil {
		return r, err
	}
	if progress == nil {
		progress = func(string, uint64, uint64) {}
	}
	keys, err := l.keys()
	if err != nil {
		return r, err
	}
	cfg := testnet.Config{
		Name: testnet.RandomName("bench"), Nodes: l.Nodes, Miners: l.Miners, MineRate: liveMiner, BodyLimit: liveBody, Balances: keys.balances(),
		Command: l.Command, Env: l.Env, Keep: l.Profiles, BasePort: 14830,
	}
	if l.Profiles {
		cfg.NodeArgs = []string{"--cpuprofile", "cpu.out"}
	}
	net, err := testnet.New(cfg)
	if err != nil {
		return r, err
	}
	if l.Profiles {
		r.Dir = net.Dir()
	}
	txs, signErr := l.sign(ctx, net.Genesis(), keys, progress)
	ctx, stop := context.WithCancel(ctx)
	if signErr != nil {
		stop() // Run removes what New made
	}
	ended := make(chan error, 1)
	go func() { ended <- net.Run(ctx) }()
	defer func() {
		stop()
		err = errors.Join(signErr, err, <-ended)
	}()
	select {
	case <-net.Ready():
	case err := <-ended:
		ended <- nil
		return r, err
	}
	nodes := make([]*rpc.Client, l.Nodes)
	for i := range nodes {
		if nodes[i] = net.Client(fmt.Sprintf("node-%d", i+1)); nodes[i] == nil {
			return r, fmt.Errorf("node-%d isn't there", i+1)
		}
		nodes[i].Timeout = time.Minute
	}
	run := liveRun{Live: l, nodes: nodes, txs: txs, progress: progress, byID: map[chain.TxID]*transfer{}}
	for i := range txs {
		run.byID[txs[i].id] = &txs[i]
	}
	err = run.measure(ctx, &r)
	return r, err
}

// liveKeys are the senders.
type liveKeys struct {
	secrets [][32]byte
	pubs    []chain.Account
}

func (l *Live) keys() (*liveKeys, error) {
	k := &liveKeys{make([][32]byte, l.Senders), make([]chain.Account, l.Senders)}
	errs := make([]error, l.Senders)
	spread(l.Senders, func(i int) {
		b := binary.LittleEndian.AppendUint64([]byte("quipu bench live"), l.Seed)
		k.secrets[i] = sha256.Sum256(binary.LittleEndian.AppendUint64(b, uint64(i)))
		k.pubs[i], errs[i] = bip340.PublicKey(&k.secrets[i])
	})
	return k, errors.Join(errs...)
}

func (k *liveKeys) balances() []chain.GenesisBalance {
	out := make([]chain.GenesisBalance, len(k.pubs))
	for i, a := range k.pubs {
		out[i] = chain.GenesisBalance{Account: a, Balance: chainFunds}
	}
	slices.SortFunc(out, func(a, b chain.GenesisBalance) int { return bytes.Compare(a.Account[:], b.Account[:]) })
	return out
}

// sign makes all transfers.
func (l *Live) sign(ctx context.Context, g *chain.Genesis, k *liveKeys, progress func(string, uint64, uint64)) ([]transfer, error) {
	txs := make([]transfer, l.transfers())
	drawn := rand.New(rand.NewPCG(l.Seed, 4))
	to := make([]int, len(txs))
	for i := range to {
		to[i] = drawn.IntN(l.Senders)
	}
	errs := make([]error, len(txs))
	const part = 4096
	for at := 0; at < len(txs); at += part {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		progress("signing", uint64(at), uint64(len(txs)))
		spread(min(part, len(txs)-at), func(i int) {
			i += at
			t := chain.Tx{From: k.pubs[i%l.Senders], Nonce: uint64(i / l.Senders), Outputs: []chain.Output{{To: k.pubs[to[i]], Amount: 1}}}
			t.Fee = g.MinFee(t.Size())
			txs[i].id, txs[i].list = t.ID(g.NetworkID()), i/l.List
			t.Signature, errs[i] = bip340.Sign(&k.secrets[i%l.Senders], txs[i].id[:], &[32]byte{})
			txs[i].raw = t.Append(nil)
		})
	}
	return txs, errors.Join(errs...)
}

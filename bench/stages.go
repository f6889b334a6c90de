package bench

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"quipu/chain"
)

// Stage is what one stage of an import took, and the least it could take.
type Stage struct {
	Name string `json:"name"`
	// Path says how the stage stands to the others: "serial" stages follow one another; those "beside" run on the
	// other parts meanwhile, their seconds summed over the goroutines that run them; "background" is started by the
	// store and by Go, and only its CPU time is known; "before" comes before the first block.
	Path    string  `json:"path"`
	Seconds float64 `json:"seconds"` // wall time, waiting for a core included; 0 in the background
	CPU     float64 `json:"cpu_s"`   // CPU seconds by profile (100 samples a second of CPU time)
	US      float64 `json:"us_a_tx"` // wall, in the background CPU
	BoundUS float64 `json:"bound_us_a_tx"`
	Bound   string  `json:"bound"` // what BoundUS is; "" if there is none
}

// stageRows are the stages in the order of the data. A sample of the profile belongs to the first row one of whose
// functions stands in its stack, rows with lower order first.
var stageRows = []struct {
	name, path string
	order      int // when its functions are looked for
	functions  []string
}{
	{"open", "before", 8, nil}, // making the ledger, with all that is before the first block
	{"read", "beside", 3, []string{"quipu/node.(*Node).cut"}},
	{"decode", "beside", 1, []string{"quipu/chain.(*Checker).Decode"}},
	{"verify", "beside", 1, []string{"quipu/chain.(*Unverified).Verify"}},
	{"header", "serial", 3, []string{"quipu/node.(*Node).AddHeadersProven"}},
	{"bodies", "serial", 3, []string{"quipu/chain/ledger.(*Ledger).storeBodies"}},
	{"apply", "serial", 3, []string{"quipu/chain.(*Genesis).Apply", "quipu/chain.Touched", "quipu/chain/ledger.(*Ledger).accounts"}},
	{"root", "serial", 4, []string{"quipu/chain/statetree."}},
	{"encode", "serial", 5, []string{"quipu/chain/ledger.(*mover)"}},
	{"commit", "serial", 2, []string{"quipu/chain/ledger.(*batch).commit", "github.com/dgraph-io/badger/v4.(*DB).doWrites", "github.com/dgraph-io/badger/v4.(*DB).writeRequests"}},
	{"pages", "serial", 0, []string{"quipu/chain/ledger.(*Ledger).writeBehind"}},
	{"history", "serial", 0, []string{"quipu/chain/ledger.(*Ledger).indexHistory", "quipu/chain/ledger.(*Ledger).historyBatch"}},
	{"pool", "serial", 3, []string{"quipu/mempool."}},
	{"store_other", "serial", 6, []string{"quipu/node.(*Node).takePart", "quipu/node.(*Node).ImportHinted"}},
	{"tables", "background", 1, []string{"github.com/dgraph-io/badger/v4.(*DB).flushMemtable", "github.com/dgraph-io/badger/v4.(*DB).handleMemTableFlush", "github.com/dgraph-io/badger/v4.buildL0Table"}},
	{"compaction", "background", 1, []string{"github.com/dgraph-io/badger/v4.(*levelsController)"}},
	{"gc", "background", 0, []string{"runtime.gcBgMarkWorker", "runtime.bgsweep", "runtime.bgscavenge"}},
	{"rest", "background", 7, []string{""}},
}

// cpuByStage adds up two profiles: of what comes before the first block, and of the blocks.
func cpuByStage(before, blocks io.Reader) (map[string]float64, error) {
	out := map[string]float64{}
	p, err := readProfile(before)
	if err != nil {
		return nil, err
	}
	for i := range p.stacks {
		out["open"] += p.spent[i].Seconds()
	}
	if p, err = readProfile(blocks); err != nil {
		return nil, err
	}
	for i, stack := range p.stacks {
		out[stageOf(stack)] += p.spent[i].Seconds()
	}
	return out, nil
}

func stageOf(stack []string) string {
	for order := range 8 {
		for _, row := range stageRows {
			if row.order != order {
				continue
			}
			for _, prefix := range row.functions {
				for _, name := range stack {
					if strings.HasPrefix(name, prefix) {
						return row.name
					}
				}
			}
		}
	}
	return "rest"
}

// sample is a part of the chain that is imported, kept to be measured alone when the clock has stopped.
type sample struct {
	blocks  []chain.Block
	hints   [][]byte
	txs     int
	outputs int
	bytes   int
}

const sampleTxs = 8192

func (s *sample) take(b *chain.Block, hint []byte, txs, outputs int) {
	if s.txs < sampleTxs && s.bytes < 8<<20 {
		s.blocks, s.hints = append(s.blocks, *b), append(s.hints, hint)
		s.txs, s.outputs, s.bytes = s.txs+txs, s.outputs+outputs, s.bytes+len(b.Body)
	}
}

// bounds are the least time a transaction could take in each stage, in µs, and what that is.
type bounds map[string]struct {
	us   float64
	what string
}

// measure takes the sample's stages alone, and hashing, memory and disk. accounts is how many there are, diskBytes a
// transaction what the import left on disk.
func (s *sample) measure(g *chain.Genesis, dir, file string, accounts int, diskBytes float64) (bounds, error) {
	out := bounds{}
	if s.txs == 0 {
		return out, nil
	}
	txs := float64(s.txs)
	set := func(name string, us float64, format string, args ...any) {
		out[name] = struct {
			us   float64
			what string
		}{us, fmt.Sprintf(format, args...)}
	}
	reading, err := readRate(file)
	if err != nil {
		return nil, err
	}
	set("read", float64(s.bytes)/txs/reading, "reading the file, %.0f MB/s", reading)

	block := shaBlock()
	size := float64(s.bytes) / txs
	blocks := math.Ceil((size+10)/64) + math.Ceil((size-32+9)/64) + 2 // leaf, txid, a node of the tree
	set("decode", blocks*block/1000, "SHA-256 alone, %.0f ns for 64 bytes", block)

	checker := g.NewChecker(1<<17, nil)
	best := math.Inf(1)
	for range 3 { // the first also learns the keys
		u := checker.Decode(1, s.blocks)
		u.Hint(s.hints)
		start := time.Now()
		u.Verify(1)
		best = min(best, time.Since(start).Seconds())
	}
	set("verify", best/txs*1e6, "%d signatures alone on one core, keys known", s.txs)

	changed, touched := 0.0, 0.0
	nodes := 0.0
	for i := range s.blocks {
		k := distinct(&s.blocks[i])
		changed += k
		for depth := 0; depth < int(math.Log2(float64(max(accounts, 2)))); depth++ {
			width := math.Pow(2, float64(depth))
			nodes += width * (1 - math.Pow(1-1/width, k))
		}
	}
	touched = float64(s.txs + s.outputs)
	miss := cacheMiss()
	set("apply", touched/txs*miss/1000, "one memory access an account, %.0f ns", miss)
	set("root", (2*changed+2*nodes)/txs*block/1000, "SHA-256 of the nodes that change")

	rate, err := writeRate(dir)
	if err != nil {
		return nil, err
	}
	set("bodies", size/rate, "writing them, %.0f MB/s", rate)
	set("commit", max(0, diskBytes-size)/rate, "writing the other %.0f bytes, %.0f MB/s", diskBytes-size, rate)
	return out, nil
}

// distinct is how many accounts a block changes.
func distinct(b *chain.Block) float64 {
	seen := map[chain.Account]struct{}{b.Header.Miner: {}}
	raws, _ := chain.SplitBody(b.Body)
	for _, raw := range raws {
		t, _, _ := chain.DecodeTx(raw)
		seen[t.From] = struct{}{}
		for _, o := range t.Outputs {
			seen[o.To] = struct{}{}
		}
	}
	return float64(len(seen))
}

// shaBlock is the time SHA-256 takes for 64 more bytes, in ns.
func shaBlock() float64 {
	long := make([]byte, 1<<20)
	best := math.Inf(1)
	for range 5 {
		start := time.Now()
		sha256.Sum256(long)
		best = min(best, float64(time.Since(start).Nanoseconds())/float64(len(long)/64))
	}
	return best
}

// cacheMiss is how long it takes to read a word of 64 MiB that the one before named, in ns.
func cacheMiss() float64 {
	next := make([]uint32, 16<<20)
	for i := range next {
		next[i] = uint32(i)
	}
	draw := rand.New(rand.NewPCG(1, 2))
	for i := len(next) - 1; i > 0; i-- { // Sattolo: one cycle through all
		j := draw.IntN(i)
		next[i], next[j] = next[j], next[i]
	}
	const steps = 1 << 18
	at := uint32(0)
	start := time.Now()
	for range steps {
		at = next[at]
	}
	ns := float64(time.Since(start).Nanoseconds()) / steps
	if at == math.MaxUint32 {
		return 0 // never: the loop must not be optimized away
	}
	return ns
}

// readRate reads a file (of the system's cache, most likely) from its beginning, MB/s.
func readRate(name string) (float64, error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	buf, total := make([]byte, 1<<20), 0
	start := time.Now()
	for total < 64<<20 {
		n, err := f.Read(buf)
		if total += n; err != nil {
			break
		}
	}
	return float64(total) / 1e6 / time.Since(start).Seconds(), nil
}

// writeRate writes 32 MiB and waits until they are durable, MB/s.
func writeRate(dir string) (float64, error) {
	f, err := os.Create(filepath.Join(dir, "rate"))
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	buf := make([]byte, 1<<20)
	for i := range buf {
		buf[i] = byte(i * i >> 8)
	}
	start := time.Now()
	for range 32 {
		if _, err := f.Write(buf); err != nil {
			return 0, err
		}
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	return 32 * 1.048576 / time.Since(start).Seconds(), nil
}

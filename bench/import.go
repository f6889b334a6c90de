package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"runtime/pprof"
	"time"

	"quipu/chain"
	"quipu/chain/ledger"
	"quipu/node"
)

// Import is what one import of a chain file into an empty data directory took. Times in seconds.
type Import struct {
	Blocks   uint64  `json:"blocks"`
	Txs      uint64  `json:"txs"`
	Outputs  uint64  `json:"outputs"`
	Accounts int     `json:"accounts"` // at the end
	TxPerS   float64 `json:"tx_per_s"`
	OutPerS  float64 `json:"outputs_per_s"`
	// Seconds runs from opening the file to the last durable block: GenesisS, reading the file's genesis; OpenS, the
	// first start, which makes the ledger; ImportS, the blocks.
	Seconds  float64 `json:"seconds"`
	GenesisS float64 `json:"genesis_s"`
	OpenS    float64 `json:"open_s"`
	ImportS  float64 `json:"import_s"`
	StarvedS float64 `json:"starved_s"` // of ImportS, how long there was nothing checked to store
	// CloseS is after Seconds: what was to be written behind, and closing the store. A kill before it loses nothing.
	CloseS    float64 `json:"close_s"`
	UserS     float64 `json:"cpu_user_s"`
	SystemS   float64 `json:"cpu_system_s"`
	Stages    []Stage `json:"stages"`
	PeakRSSMB float64 `json:"peak_rss_mb"` // of the process, opening included
	DiskMB    float64 `json:"disk_mb"`     // of the data directory after closing
}

// CPUUS is what a transaction took in µs, over all cores.
func (r *Import) CPUUS() float64 { return 1e6 * (r.UserS + r.SystemS) / float64(max(1, r.Txs)) }

// SerialUS is what the stages that follow one another took for a transaction, in µs of wall time.
func (r *Import) SerialUS() (us float64) {
	for _, s := range r.Stages {
		if s.Path == "serial" {
			us += s.US
		}
	}
	return us
}

// ImportResult is the run with the median rate, and all runs.
type ImportResult struct {
	Header
	Chain   Chain `json:"chain"` // what was to be made, unless a file was given
	Hints   bool  `json:"hints"`
	History bool  `json:"history"`
	Import
	Runs []Import `json:"runs"`
}

// Choose fills in the run with the median rate.
func (r *ImportResult) Choose() {
	var rates []float64
	for i := range r.Runs {
		rates = append(rates, r.Runs[i].TxPerS)
	}
	middle := Median(rates)
	for i := range r.Runs {
		if r.Runs[i].TxPerS == middle {
			r.Import = r.Runs[i]
			return
		}
	}
}

// Run says what one import is to be.
type Run struct {
	File    string // an export
	Dir     string // of the data; must be empty
	Hints   string // a file of WriteHints for File; "" is none
	History bool   // keep the account history index
	Profile string // a file for the CPU profile of the blocks, and with .open for what is before them; "" is none
}

// RunImport imports a chain by the node's one import pipeline with its default settings. It is to be run in a fresh
// process: PeakRSSMB is the process's.
func RunImport(ctx context.Context, run Run) (r Import, err error) {
	if left, err := os.ReadDir(run.Dir); err != nil || len(left) > 0 {
		return r, fmt.Errorf("%s is not an empty directory", run.Dir)
	}
	var cpuBefore, cpu bytes.Buffer // profiles of what comes before the first block, and of the blocks
	if err := pprof.StartCPUProfile(&cpuBefore); err != nil {
		return r, err
	}
	defer pprof.StopCPUProfile()
	user, system := cpuTime()
	start := time.Now()

	f, err := os.Open(run.File)
	if err != nil {
		return r, err
	}
	defer f.Close()
	var hints io.Reader
	if run.Hints != "" {
		h, err := os.Open(run.Hints)
		if err != nil {
			return r, err
		}
		defer h.Close()
		hints = bufio.NewReaderSize(h, 1<<16)
	}
	g, blocks, err := ledger.ReadExport(f)
	if err != nil {
		return r, err
	}
	r.GenesisS = time.Since(start).Seconds()
	n, err := node.Offline(node.Config{DataDir: run.Dir, Genesis: g, History: run.History})
	if err != nil {
		return r, err
	}
	r.OpenS = time.Since(start).Seconds() - r.GenesisS
	pprof.StopCPUProfile()
	if err := pprof.StartCPUProfile(&cpu); err != nil {
		return r, err
	}
	var kept sample
	done, err := n.ImportHinted(ctx, r.watched(hinted(blocks, hints), &kept), nil)
	if err == nil && run.History {
		err = n.IndexHistory(ctx) // what a short chain leaves to be written behind has its share too
	}
	r.Seconds = time.Since(start).Seconds()
	r.ImportS = r.Seconds - r.GenesisS - r.OpenS
	pprof.StopCPUProfile()
	u, s := cpuTime()
	r.UserS, r.SystemS = u-user, s-system
	r.PeakRSSMB = peakRSS()
	if err != nil {
		return r, errors.Join(err, n.Close())
	}
	r.Blocks, r.Txs = done.Applied, done.Txs
	spent := n.StageSeconds()
	r.StarvedS = spent["starved"]
	r.Accounts = n.Accounts()
	r.TxPerS, r.OutPerS = float64(r.Txs)/r.Seconds, float64(r.Outputs)/r.Seconds
	start = time.Now()
	if err := n.Close(); err != nil {
		return r, err
	}
	r.CloseS = time.Since(start).Seconds()
	r.DiskMB = diskMB(run.Dir)
	if run.Profile != "" {
		err := errors.Join(os.WriteFile(run.Profile, cpu.Bytes(), 0o644), os.WriteFile(run.Profile+".open", cpuBefore.Bytes(), 0o644))
		if err != nil {
			return r, err
		}
	}
	spentCPU, err := cpuByStage(&cpuBefore, &cpu)
	if err != nil {
		return r, err
	}
	least, err := kept.measure(g, run.Dir, run.File, r.Accounts, 1e6*r.DiskMB/float64(max(1, r.Txs)))
	if err != nil {
		return r, err
	}
	spent["open"] = r.GenesisS + r.OpenS
	r.Stages = stages(spent, spentCPU, least, r.Txs)
	return r, nil
}

// stages makes the rows of the stages that took any time.
func stages(wall, cpu map[string]float64, least bounds, txs uint64) (out []Stage) {
	for _, row := range stageRows {
		s := Stage{Name: row.name, Path: row.path, Seconds: wall[row.name], CPU: cpu[row.name], BoundUS: least[row.name].us, Bound: least[row.name].what}
		if s.US = 1e6 * s.Seconds / float64(max(1, txs)); row.path == "background" {
			s.US = 1e6 * s.CPU / float64(max(1, txs))
		}
		if s.Seconds > 0 || s.CPU > 0 {
			out = append(out, s)
		}
	}
	return out
}

// watched counts the outputs of the blocks that pass, and keeps the first. Of a body it reads where each transaction
// begins.
func (r *Import) watched(blocks iter.Seq2[node.HintedBlock, error], kept *sample) iter.Seq2[node.HintedBlock, error] {
	return func(yield func(node.HintedBlock, error) bool) {
		for b, err := range blocks {
			if err == nil {
				outputs := 0
				raws, _ := chain.SplitBody(b.Body) // what doesn't decode is refused by the import
				for _, raw := range raws {
					outputs += int(raw[53])
				}
				r.Outputs += uint64(outputs)
				kept.take(&b.Block, b.Hint, len(raws), outputs)
			}
			if !yield(b, err) {
				return
			}
		}
	}
}

func diskMB(dir string) float64 {
	sum := int64(0)
	filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if info, err := d.Info(); err == nil {
				sum += info.Size()
			}
		}
		return nil
	})
	return float64(sum) / 1e6
}

package bench

import (
	"context"
	"errors"
	"fmt"
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
	// Seconds runs from the opened ledger to the last durable block. OpenS is before it: the first start, which
	// writes genesis.
	Seconds   float64            `json:"seconds"`
	OpenS     float64            `json:"open_s"`
	Stages    map[string]float64 `json:"stages_s"` // see node.StageSeconds and ledger.Timings
	UserS     float64            `json:"cpu_user_s"`
	SystemS   float64            `json:"cpu_system_s"`
	PeakRSSMB float64            `json:"peak_rss_mb"` // of the process, opening included
	DiskMB    float64            `json:"disk_mb"`
}

// ImportResult is the run with the median rate, and all runs.
type ImportResult struct {
	Header
	Chain Chain `json:"chain"` // what was to be made, unless a file was given
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

// RunImport imports a chain file into dir, which must be empty, by the node's one import pipeline with its default
// settings. It is to be run in a fresh process: PeakRSSMB is the process's. profile may name a file for a CPU profile
// of the timed part.
func RunImport(ctx context.Context, file, dir, profile string) (r Import, err error) {
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		return r, fmt.Errorf("%s is not an empty directory", dir)
	}
	f, err := os.Open(file)
	if err != nil {
		return r, err
	}
	defer f.Close()
	g, blocks, err := ledger.ReadExport(f)
	if err != nil {
		return r, err
	}
	start := time.Now()
	n, err := node.Offline(node.Config{DataDir: dir, Genesis: g})
	if err != nil {
		return r, err
	}
	r.OpenS = time.Since(start).Seconds()
	if profile != "" {
		p, err := os.Create(profile)
		if err != nil {
			return r, err
		}
		defer p.Close()
		if err := pprof.StartCPUProfile(p); err != nil {
			return r, err
		}
	}
	user, system := cpuTime()
	start = time.Now()
	done, err := n.ImportStream(ctx, counted(blocks, &r.Outputs), nil)
	r.Seconds = time.Since(start).Seconds()
	if profile != "" {
		pprof.StopCPUProfile()
	}
	u, s := cpuTime()
	r.UserS, r.SystemS = u-user, s-system
	if err != nil {
		return r, errors.Join(err, n.Close())
	}
	r.Blocks, r.Txs = done.Applied, done.Txs
	r.Stages = n.StageSeconds()
	r.Accounts = n.Accounts()
	r.PeakRSSMB = peakRSS()
	r.TxPerS, r.OutPerS = float64(r.Txs)/r.Seconds, float64(r.Outputs)/r.Seconds
	if err := n.Close(); err != nil {
		return r, err
	}
	r.DiskMB = diskMB(dir)
	return r, nil
}

// counted adds the outputs of the blocks that pass. Of a body it reads where each transaction begins.
func counted(blocks iter.Seq2[chain.Block, error], outputs *uint64) iter.Seq2[chain.Block, error] {
	return func(yield func(chain.Block, error) bool) {
		for b, err := range blocks {
			if err == nil {
				raws, _ := chain.SplitBody(b.Body) // what doesn't decode is refused by the import
				for _, raw := range raws {
					*outputs += uint64(raw[53])
				}
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

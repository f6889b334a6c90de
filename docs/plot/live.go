package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// liveRun is what is read of one run in a file of bench live.
type liveRun struct {
	TxPS    float64 `json:"tx_per_s"`
	Latency struct {
		P50 float64 `json:"p50"`
		P95 float64 `json:"p95"`
		P99 float64 `json:"p99"`
	} `json:"latency_ms"`
	Offered  int       `json:"offered"`
	Accepted int       `json:"accepted"`
	InBlocks int       `json:"in_blocks"`
	Left     int       `json:"left_over"`
	Lost     int       `json:"lost"`
	Reverted int       `json:"reverted"`
	CPU      []float64 `json:"node_cpu_s"`
}

// liveTable has a row a run of every file of bench live, the one with the median rate first.
func liveTable(dir string) (string, error) {
	names, err := filepath.Glob(filepath.Join(dir, "live*.json"))
	if err != nil {
		return "", err
	}
	if len(names) == 0 {
		return "", fmt.Errorf("live*.json in %s: %w", dir, fs.ErrNotExist)
	}
	var b strings.Builder
	b.WriteString("| offered a second | nodes that mine | in blocks of all nodes a second | confirmed after, s: p50, p95, p99 | accepted of offered | left over, lost | CPU of a node, µs a transfer |\n|---|---|---|---|---|---|---|\n")
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		var r struct {
			Load struct {
				Rate   float64 `json:"rate"`
				Miners int     `json:"miners"`
			} `json:"load"`
			liveRun
			Runs []liveRun `json:"runs"`
		}
		if err := json.Unmarshal(text, &r); err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		for i, run := range append([]liveRun{r.liveRun}, r.Runs...) {
			if i > 0 && run.TxPS == r.TxPS {
				continue
			}
			note, cpu, miners := "", 0.0, "all"
			if r.Load.Miners > 0 {
				miners = fmt.Sprint(r.Load.Miners)
			}
			if i == 0 && len(r.Runs) > 1 {
				note = " (median)"
			}
			for _, s := range run.CPU {
				cpu += s / float64(len(run.CPU))
			}
			fmt.Fprintf(&b, "| %s | %s | %s%s | %.1f, %.1f, %.1f | %s of %s | %d, %d | %.0f |\n", thousands(r.Load.Rate), miners, thousands(round3(run.TxPS)), note,
				run.Latency.P50/1e3, run.Latency.P95/1e3, run.Latency.P99/1e3, thousands(float64(run.Accepted)), thousands(float64(run.Offered)),
				run.Left, run.Lost, 1e6*cpu/float64(max(1, run.InBlocks)))
		}
	}
	return b.String(), nil
}

// Command plot measures the figures of docs/performance.md and draws them. From the repository's root:
//
//	go run ./docs/plot -measure ./quipu   runs every benchmark and writes docs/figures/*.json, then draws
//	go run ./docs/plot                    draws docs/figures/*.svg and writes the tables from docs/figures/*.json
//
// A machine that does nothing else is needed for the first, about fifteen minutes the first time, and half a GB in the
// cache directory of the user, where the chains are kept for the next time.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	dir := flag.String("dir", "docs/figures", "where the JSON files are and the SVG files go")
	measure := flag.String("measure", "", "the quipu binary to measure with; none only draws")
	doc := flag.String("doc", "docs/performance.md", "where the tables go")
	only := flag.String("only", "", "measure only the files whose name begins with this")
	flag.Parse()
	if *measure != "" {
		if err := measureAll(*measure, *dir, *only); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	err := drawAll(*dir)
	if err == nil {
		err = writeTables(*dir, *doc)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// measured is one file: what quipu's arguments write to it.
type measured struct{ name, args string }

// blockSizes are the transactions a block of the third plot; each chain has 100,000.
var blockSizes = []int{250, 500, 1000, 2500, 5000, 10000}

func allMeasured() []measured {
	out := []measured{
		{"verify-16384", "bench verify --sigs 16384"},
		{"verify-1024", "bench verify --sigs 1024"},
		{"verify-64", "bench verify --sigs 64"},
		{"import-accounts-10000", "bench import --blocks 40 --txs 2500 --accounts 10000"},
		{"import-accounts-100000", "bench import --blocks 20 --txs 5000 --accounts 100000"},
		{"import-accounts-1000000", "bench import --blocks 40 --txs 2500 --accounts 1000000"},
		{"import-cores-1", "bench import --blocks 40 --txs 2500 --accounts 10000 --cores 1"},
		{"import-cores-2", "bench import --blocks 40 --txs 2500 --accounts 10000 --cores 2"},
		{"import-history", "bench import --blocks 40 --txs 2500 --accounts 10000 --history"},
		{"import-history-long", "bench import --blocks 200 --txs 5000 --accounts 100000 --history"}, // 40 blocks fit in memory
		{"import-hints", "bench import --blocks 40 --txs 2500 --accounts 10000 --hints"},
	}
	for _, n := range blockSizes {
		out = append(out, measured{
			fmt.Sprintf("import-block-%05d", n), fmt.Sprintf("bench import --blocks %d --txs %d --accounts 10000", 100_000/n, n),
		})
	}
	out = append(out, syncMeasured...)
	return append(out,
		measured{"import-hostile", "bench import --hostile --blocks 20"},
		measured{"import-long", "bench import --blocks 200 --txs 5000 --accounts 100000"},
		measured{"state", "bench state --accounts 1000000 --updates 10000"},
		measured{"state-10m", "bench state --accounts 10000000 --updates 10000 --runs 1"},
		measured{"reorg", "bench reorg --depth 100 --txs 1000"},
		measured{"live", "bench live --nodes 4 --for 30s --runs 3"},
		measured{"live-one-miner", "bench live --nodes 4 --miners 1 --for 30s --runs 3"},
	)
}

// measureAll runs every benchmark. One that fails is told and leaves its file as it was.
func measureAll(quipu, dir, only string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	quipu, err := filepath.Abs(quipu)
	if err != nil {
		return err
	}
	var failed []error
	for _, m := range allMeasured() {
		if !strings.HasPrefix(m.name, only) {
			continue
		}
		start := time.Now()
		fmt.Fprintf(os.Stderr, "%-24s quipu %s … ", m.name, m.args)
		cmd := exec.Command(quipu, append(strings.Fields(m.args), "--json")...)
		out, err := cmd.Output()
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, m.name+".json"), out, 0o644)
		}
		if err != nil {
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				err = fmt.Errorf("%w: %s", err, exit.Stderr)
			}
			failed = append(failed, fmt.Errorf("%s: %w", m.name, err))
			fmt.Fprintln(os.Stderr, "failed")
			continue
		}
		fmt.Fprintf(os.Stderr, "%.0f s\n", time.Since(start).Seconds())
	}
	return errors.Join(failed...)
}

// result is what is read of a file of bench import.
type result struct {
	Go    string  `json:"go"`
	CPU   string  `json:"cpu"`
	Cores int     `json:"cores"`
	Using int     `json:"using"`
	TxPS  float64 `json:"tx_per_s"`
	OutPS float64 `json:"outputs_per_s"`

	Txs     uint64  `json:"txs"`
	Outputs uint64  `json:"outputs"`
	Genesis float64 `json:"genesis_s"`
	Open    float64 `json:"open_s"`
	Import  float64 `json:"import_s"`
	Starved float64 `json:"starved_s"`
	User    float64 `json:"cpu_user_s"`
	System  float64 `json:"cpu_system_s"`
	RSS     float64 `json:"peak_rss_mb"`
	Disk    float64 `json:"disk_mb"`

	Runs []struct {
		TxPS float64 `json:"tx_per_s"`
	} `json:"runs"`
	Chain struct {
		Accounts int  `json:"accounts"`
		Txs      int  `json:"txs"`
		Hostile  bool `json:"hostile"`
	} `json:"chain"`
	Stages []struct {
		Name  string  `json:"name"`
		Path  string  `json:"path"`
		US    float64 `json:"us_a_tx"`
		Bound float64 `json:"bound_us_a_tx"`
		What  string  `json:"bound"`
	} `json:"stages"`
}

func (r *result) machine() string {
	return fmt.Sprintf("%s, %d cores, %s; on disk, everything checked", r.CPU, r.Cores, r.Go)
}

// runs says what stands for what in a chart.
const runs = "; medians (line) and all runs (dots)"

// load reads the files whose name matches, in the order of their names.
func load(dir, pattern string) ([]result, error) {
	names, err := filepath.Glob(filepath.Join(dir, pattern+".json"))
	if err != nil {
		return nil, err
	}
	var out []result
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		var r result
		if err := json.Unmarshal(b, &r); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, r)
	}
	if out == nil {
		return nil, fmt.Errorf("%s.json in %s: %w", pattern, dir, fs.ErrNotExist)
	}
	return out, nil
}

// drawAll draws what there are files for.
func drawAll(dir string) error {
	for _, p := range []struct {
		name string
		draw func(dir string) (string, error)
	}{
		{"accounts", drawAccounts}, {"cores", drawCores}, {"blocks", drawBlocks}, {"stages", drawStages}, {"sync", drawSync},
		{"relay", drawRelay},
	} {
		svg, err := p.draw(dir)
		if errors.Is(err, fs.ErrNotExist) {
			fmt.Fprintf(os.Stderr, "%s.svg is not drawn: %v\n", p.name, err)
			continue
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, p.name+".svg"), []byte(svg), 0o644); err != nil {
			return err
		}
	}
	return nil
}

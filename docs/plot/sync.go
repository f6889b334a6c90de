package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// syncMeasured are the files of bench sync.
var syncMeasured = []measured{
	{"sync-8mbit-1", "bench sync --peers 1 --upload 8mbit"},
	{"sync-8mbit-more", "bench sync --peers 2,4,8 --upload 8mbit"},
	{"sync-4mbit", "bench sync --peers 8 --upload 4mbit"},
	{"sync-unlimited", "bench sync --peers 4 --upload 0"},
	{"sync-stall", "bench sync --fault stall"},
	{"sync-slow", "bench sync --fault slow"},
	{"sync-garbage", "bench sync --fault garbage"},
	{"sync-swarm", "bench sync --swarm 8 --runs 1"},
}

// syncResult is what is read of such a file.
type syncResult struct {
	Go      string  `json:"go"`
	CPU     string  `json:"cpu"`
	Cores   int     `json:"cores"`
	Upload  float64 `json:"upload_mbit"`
	ImportS float64 `json:"import_s"`
	Import  float64 `json:"times_import"`
	First   float64 `json:"times_first"`
	Runs    []struct {
		Peers   int     `json:"peers"`
		Fault   string  `json:"fault"`
		Swarm   int     `json:"swarm"`
		OfLimit float64 `json:"of_limit"`
		Seconds float64 `json:"seconds"`
		Mbit    float64 `json:"goodput_mbit"`
		Bytes   float64 `json:"body_bytes"`
		Hedged  float64 `json:"hedged_bytes"`
		InVain  float64 `json:"duplicate_bytes"`
		All     []struct {
			Mbit float64 `json:"goodput_mbit"`
		} `json:"all"`
	} `json:"runs"`
}

func loadSync(dir, name string) (r syncResult, err error) {
	b, err := os.ReadFile(filepath.Join(dir, name+".json"))
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

// drawSync is goodput by serving peers, with what these may upload together beside it: every row of a limited upload where
// all is well, the one with the most runs for each number of peers.
func drawSync(dir string) (string, error) {
	c := chart{title: "Sync: goodput by the number of peers that serve, 200,000 transfers", xLabel: "peers", yLabel: "kbit/s"}
	rows := map[float64]map[int]point{}
	for _, m := range syncMeasured {
		r, err := loadSync(dir, m.name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		c.foot = fmt.Sprintf("%s, %d cores, %s; all processes on it%s", r.CPU, r.Cores, r.Go, runs)
		for _, row := range r.Runs {
			if r.Upload == 0 || row.Fault != "" || row.Swarm > 0 || len(rows[r.Upload][row.Peers].runs) >= len(row.All) {
				continue
			}
			p := point{x: float64(row.Peers), y: 1000 * row.Mbit}
			for _, once := range row.All {
				p.runs = append(p.runs, 1000*once.Mbit)
			}
			if rows[r.Upload] == nil {
				rows[r.Upload] = map[int]point{}
			}
			rows[r.Upload][row.Peers] = p
		}
	}
	if len(rows) == 0 {
		return "", fmt.Errorf("sync-*.json in %s: %w", dir, fs.ErrNotExist)
	}
	for _, upload := range slices.Backward(slices.Sorted(maps.Keys(rows))) {
		s := series{name: fmt.Sprintf("%g Mbit/s each", upload)}
		sum := series{name: fmt.Sprintf("sum of %g each", upload), dashed: true}
		for _, peers := range slices.Sorted(maps.Keys(rows[upload])) {
			s.points = append(s.points, rows[upload][peers])
			sum.points = append(sum.points, point{x: float64(peers), y: 1000 * float64(peers) * upload})
		}
		c.series = append(c.series, s, sum)
	}
	return c.svg(), nil
}

// syncTable has a row a row that was measured.
func syncTable(dir string) (string, error) {
	var b strings.Builder
	b.WriteString("| `quipu bench sync …` | servers | seconds | goodput, Mbit/s | of the uploads' sum | received in vain | compared |\n|---|---|---|---|---|---|---|\n")
	found := false
	for _, m := range syncMeasured {
		r, err := loadSync(dir, m.name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		found = true
		for i, row := range r.Runs {
			servers, part, compared := fmt.Sprint(row.Peers), "", ""
			switch {
			case row.Fault != "":
				servers += ", one bad: " + row.Fault
			case row.Swarm > 0:
				servers += fmt.Sprintf(", %d empty nodes", row.Swarm)
			}
			if row.OfLimit > 0 && row.Fault == "" {
				part = fmt.Sprintf("%.0f %%", 100*row.OfLimit)
			}
			if i == len(r.Runs)-1 {
				switch {
				case r.First > 0:
					compared = fmt.Sprintf("%.2f × the row above", r.First)
				case r.Upload == 0:
					compared = fmt.Sprintf("%.2f × an import (%.2f s)", r.Import, r.ImportS)
				}
			}
			fmt.Fprintf(&b, "| `%s` | %s | %.2f | %.1f | %s | %.1f %% | %s |\n", strings.TrimPrefix(m.args, "bench sync "), servers, row.Seconds, row.Mbit,
				part, 100*row.InVain/max(1, row.Bytes), compared)
		}
	}
	if !found {
		return "", fs.ErrNotExist
	}
	return b.String(), nil
}

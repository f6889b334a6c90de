package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// writeTables puts the tables between their marks in a Markdown file.
func writeTables(dir, file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	text := string(b)
	for name, table := range map[string]func(string) (string, error){"rows": rowTable, "stages": stageTable, "live": liveTable, "sync": syncTable} {
		begin, end := "<!-- "+name+" from docs/figures -->\n", "<!-- end of "+name+" -->"
		before, rest, ok := strings.Cut(text, begin)
		_, after, ok2 := strings.Cut(rest, end)
		if !ok || !ok2 {
			return fmt.Errorf("%s: no marks of %s", file, name)
		}
		made, err := table(dir)
		if errors.Is(err, fs.ErrNotExist) {
			fmt.Fprintf(os.Stderr, "the table of %s is left as it is: %v\n", name, err)
			continue
		}
		if err != nil {
			return err
		}
		text = before + begin + made + end + after
	}
	return os.WriteFile(file, []byte(text), 0o644)
}

// rowTable has a row an import that was measured.
func rowTable(dir string) (string, error) {
	var b strings.Builder
	b.WriteString("| `quipu bench import …` | transactions/s | before the first block, s | peak memory, MB | CPU, µs a transaction | disk, bytes a transaction |\n|---|---|---|---|---|---|\n")
	found := false
	for _, m := range allMeasured() {
		args, ok := strings.CutPrefix(m.args, "bench import ")
		if !ok || strings.HasPrefix(m.name, "import-block") || m.name == "import-cores-2" {
			continue
		}
		results, err := load(dir, m.name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		found = true
		r := &results[0]
		rate, unit := thousands(round3(r.TxPS)), float64(max(1, r.Txs))
		if r.Chain.Hostile {
			rate, unit = thousands(round3(r.OutPS))+" outputs/s", float64(max(1, r.Outputs))
		}
		cpu, disk := 1e6*(r.User+r.System)/unit, 1e6*r.Disk/unit
		note := ""
		if r.Chain.Hostile {
			note = " an output"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %.2f | %.0f | %.1f%s | %s%s |\n", args, rate, r.Genesis+r.Open, r.RSS, cpu, note, thousands(disk), note)
	}
	if !found {
		return "", fs.ErrNotExist
	}
	return b.String(), nil
}

// stageTable has a row a stage and a column a number of accounts.
func stageTable(dir string) (string, error) {
	results, err := load(dir, "import-accounts-*")
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("| stage | path |")
	for i := range results {
		fmt.Fprintf(&b, " %s accounts |", thousands(float64(results[i].Chain.Accounts)))
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---|", len(results)) + "\n")
	for _, row := range results[0].Stages {
		if row.Name == "read" {
			continue
		}
		fmt.Fprintf(&b, "| %s | %s |", row.Name, row.Path)
		for i := range results {
			cell := ""
			for _, s := range results[i].Stages {
				if s.Name == row.Name {
					if cell = fmt.Sprintf("%.1f", s.US); s.What != "" {
						cell += fmt.Sprintf(" (%.1f)", s.Bound)
					}
				}
			}
			fmt.Fprintf(&b, " %s |", cell)
		}
		b.WriteString("\n")
	}
	for _, sum := range []struct {
		name string
		of   func(*result) string
	}{
		{"**wall time**", func(r *result) string { return fmt.Sprintf("%.1f", 1e6*r.Import/float64(max(1, r.Txs))) }},
		{"nothing checked to store", func(r *result) string { return fmt.Sprintf("%.1f", 1e6*r.Starved/float64(max(1, r.Txs))) }},
		{"CPU, of all cores", func(r *result) string {
			return fmt.Sprintf("%.0f %%", 100*(r.User+r.System)/(r.Genesis+r.Open+r.Import)/float64(max(1, r.Using)))
		}},
	} {
		fmt.Fprintf(&b, "| %s | |", sum.name)
		for i := range results {
			fmt.Fprintf(&b, " %s |", sum.of(&results[i]))
		}
		b.WriteString("\n")
	}
	return b.String(), nil
}

// round3 keeps three digits.
func round3(v float64) float64 {
	unit := 1.0
	for v/unit >= 1000 {
		unit *= 10
	}
	return float64(int64(v/unit+0.5)) * unit
}

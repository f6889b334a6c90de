package main

import (
	"encoding/json"
	"strings"
	"testing"

	"quipu/bench"
)

// Real processes fetch a small chain over TCP, in each of the ways that bench sync measures.
func TestBenchSync(t *testing.T) {
	home(t)
	t.Setenv(asProgram, "1")
	small := []string{"bench", "sync", "--blocks", "12", "--txs", "100", "--accounts", "50", "--runs", "1", "--json"}
	for name, more := range map[string][]string{
		"peers": {"--peers", "1,2", "--upload", "0"},
		"stall": {"--fault", "stall", "--upload", "4mbit"}, "garbage": {"--fault", "garbage", "--upload", "4mbit"},
		"swarm": {"--swarm", "2", "--upload", "4mbit"},
	} {
		t.Run(name, func(t *testing.T) {
			r := cli(t, append(small, more...)...).want(t, exitOK)
			var doc bench.SyncResult
			if err := json.Unmarshal([]byte(r.out), &doc); err != nil {
				t.Fatal(err)
			}
			if doc.Schema != "quipu.bench-sync/v1" || doc.ImportTxPerS <= 0 || len(doc.Runs) == 0 || doc.TimesImport <= 0 {
				t.Errorf("%s", r.out)
			}
			for _, row := range doc.Runs {
				if row.Seconds <= 0 || row.Bytes != 12*100*159 || row.GoodputMbit <= 0 || len(row.All) != 1 {
					t.Errorf("row %+v", row)
				}
				if row.Banned > 0 && row.Fault != "garbage" {
					t.Errorf("%d banned in row %+v", row.Banned, row)
				}
			}
		})
	}
	if r := cli(t, "bench", "sync", "--blocks", "3", "--txs", "10", "--accounts", "5", "--runs", "1", "--peers", "1").want(t, exitOK); !strings.Contains(r.out, "OF LIMIT") ||
		!strings.Contains(r.err, "1 server, run 1 of 1") {
		t.Errorf("%s%s", r.out, r.err)
	}
	for want, args := range map[string][]string{
		"8 parsecs": {"--upload", "8 parsecs"}, "--peers 0": {"--peers", "0"}, "one of stall": {"--fault", "rain"}, "give one": {"--fault", "stall", "--swarm", "2"},
		"at least 1": {"--runs", "0"}, "slower than what": {"--fault", "slow", "--upload", "0"}, "at most 32": {"--swarm", "33"},
	} {
		cli(t, append([]string{"bench", "sync"}, args...)...).want(t, exitUsage, want)
	}
}

package main

import (
	"encoding/json"
	"testing"

	"quipu/bench"
)

// TestBenchLive: a small load on two real nodes: whatever was accepted stands in blocks that both hold.
func TestBenchLive(t *testing.T) {
	home(t)
	r := cli(t, "bench", "live", "--nodes", "2", "--for", "1s", "--rate", "400", "--list", "50", "--senders", "100", "--json").want(t, exitOK)
	var doc bench.LiveResult
	if err := json.Unmarshal([]byte(r.out), &doc); err != nil {
		t.Fatalf("%v: %s", err, r.out)
	}
	if doc.Schema != "quipu.bench-live/v1" || doc.Live.Nodes != 2 || len(doc.Runs) != 1 || len(doc.CPUS) != 2 {
		t.Errorf("%s", r.out)
	}
	if doc.Offered != 400 || doc.Accepted != 400 || doc.Lost != 0 || doc.InBlocks+doc.LeftOver < 400 || doc.Latency.P50 <= 0 {
		t.Errorf("offered %d, accepted %d, in blocks %d, left over %d, lost %d, latency %v",
			doc.Offered, doc.Accepted, doc.InBlocks, doc.LeftOver, doc.Lost, doc.Latency)
	}
	for _, bad := range [][]string{{"--nodes", "0"}, {"--for", "1ms"}, {"--rate", "0"}, {"--list", "501"}, {"--senders", "0"}, {"--runs", "0"}} {
		cli(t, append([]string{"bench", "live"}, bad...)...).want(t, exitUsage)
	}
}

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBenchVerify(t *testing.T) {
	dir := home(t)
	profile := filepath.Join(dir, "cpu.out")
	r := cli(t, "bench", "verify", "--sigs", "100", "--senders", "10", "--runs", "1", "--json", "--cpuprofile", profile).want(t, exitOK)
	var doc struct {
		Schema string  `json:"schema"`
		Sigs   int     `json:"sigs"`
		Batch  float64 `json:"batch_us"`
	}
	if err := json.Unmarshal([]byte(r.out), &doc); err != nil || doc.Schema != "quipu.bench.verify/v1" || doc.Sigs != 100 || doc.Batch <= 0 {
		t.Errorf("%v: %s", err, r.out)
	}
	if s, err := os.Stat(profile); err != nil || s.Size() == 0 {
		t.Errorf("profile: %v", err)
	}
	cli(t, "bench", "verify", "--sigs", "0").want(t, exitUsage, "0 signatures")
	cli(t, "bench", "verify", "--runs", "0").want(t, exitUsage, "0 runs")
	if r := cli(t, "bench", "verify", "--sigs", "8", "--runs", "1").want(t, exitOK); !strings.Contains(r.out, "8 signatures, one core") || !strings.Contains(r.out, "folded") {
		t.Errorf("%s", r.out)
	}
}

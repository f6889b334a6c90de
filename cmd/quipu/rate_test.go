package main

import (
	"strings"
	"testing"
)

func TestRates(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "0mbit": 0, "8mbit": 1_000_000, "8Mbit/s": 1_000_000, "64kbit": 8000, "1gbit": 125_000_000, "1MiB": 1 << 20, "1MB": 1_000_000,
		"500kB": 500_000, "64KiB": 64 << 10, "1.5 MiB": 3 << 19, "32768bit": 4096, "4096B": 4096, "1e3kb": 1_000_000,
	} {
		if got, err := parseRate(text); err != nil || got != want {
			t.Errorf("%q is %d (%v), want %d", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "8", "mbit", "-1mbit", "8 mbits", "1kbit", "4095B", "9999999gbit", "nanmbit", "infmbit", "0x8mbit", "1_0mbit", "8mbit/h", "1e400mb",
		strings.Repeat("9", 1000) + "kb",
	} {
		if got, err := parseRate(text); err == nil {
			t.Errorf("%.20q is %d", text, got)
		}
	}
}

func TestMaxUploadFlag(t *testing.T) {
	home(t)
	cli(t, "node", "run", "--max-upload", "8").want(t, exitUsage, "--max-upload \"8\"", "8mbit")
}

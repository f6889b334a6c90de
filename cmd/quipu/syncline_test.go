package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"quipu/node"
)

var behind = node.Progress{Syncing: true, Height: 250, Best: 1000, Peers: 4, Rate: 3_210_000, TxRate: 20_188, ETA: 31 * time.Second}

func TestProgressLine(t *testing.T) {
	if got, want := progressLine(&behind, 8), "syncing [==      ] 250 of 1000 blocks, 3.21 MB/s, 20188 tx/s, 4 peers, 31.0 s left"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := progressLine(&node.Progress{Peers: 1}, 4), "syncing [    ] 0 of 0 blocks, 0.00 MB/s, 0 tx/s, 1 peer"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// On a terminal the line is redrawn in place, the log goes above it, and nothing is left when the node has caught up.
func TestSyncLineOnATerminal(t *testing.T) {
	var out bytes.Buffer
	w := &watchSync{a: &app{err: &out}, live: true}
	now := time.Unix(1e9, 0)
	fmt.Fprintln(w, "before")
	w.show(now, behind, nil)
	w.show(now, behind, nil) // the same again draws nothing
	fmt.Fprintln(w, "a log line")
	w.show(now, node.Progress{}, nil)
	fmt.Fprintln(w, "after")
	line, wipe := progressLine(&behind, barWidth), "\r\x1b[K"
	if want := "before\n" + wipe + line + wipe + "a log line\n" + line + wipe + "after\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

// Elsewhere the log has a line now and then, and none when there is nothing to tell.
func TestSyncLineInALog(t *testing.T) {
	var out bytes.Buffer
	w := &watchSync{a: &app{err: &out}}
	log := slog.New(slog.NewTextHandler(w, nil))
	now := time.Unix(1e9, 0)
	for s := range 31 {
		w.show(now.Add(time.Duration(s)*time.Second), behind, log)
	}
	w.show(now.Add(time.Hour), node.Progress{Height: 1000, Best: 1000}, log)
	if n := strings.Count(out.String(), "msg=syncing height=250 of=1000 peers=4 mb_per_s=3.21 tx_per_s=20188 left=31s"); n != 3 || strings.Contains(out.String(), "\x1b") {
		t.Errorf("%d lines:\n%s", n, out.String())
	}
}

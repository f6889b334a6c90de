package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"quipu/node"
)

// syncLineEvery is how often the progress of a sync is logged where it isn't drawn.
const syncLineEvery = 15 * time.Second

// watchSync shows the progress of a node's sync until ctx ends: on a terminal one line below the log, redrawn, elsewhere a
// line of the log now and then. The log is written through it.
type watchSync struct {
	a    *app
	mu   sync.Mutex
	live bool
	line string // that stands on the terminal
	told time.Time
}

// Write passes the log on, above the line.
func (w *watchSync) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.line == "" {
		return w.a.err.Write(b)
	}
	if _, err := io.WriteString(w.a.err, "\r\x1b[K"); err != nil {
		return 0, err
	}
	n, err := w.a.err.Write(b)
	if err == nil {
		_, err = io.WriteString(w.a.err, w.line)
	}
	return n, err
}

// run looks at the node until ctx ends.
func (w *watchSync) run(ctx context.Context, n *node.Node, log *slog.Logger) {
	every := barFrames * 5
	tick := time.NewTicker(every)
	defer tick.Stop()
	defer w.draw("")
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			w.show(now, n.Progress(), log)
		}
	}
}

func (w *watchSync) show(now time.Time, p node.Progress, log *slog.Logger) {
	switch {
	case !p.Syncing:
		w.draw("")
	case w.live:
		w.draw(progressLine(&p, barWidth))
	case now.Sub(w.told) >= syncLineEvery:
		w.told = now
		log.Info("syncing", "height", p.Height, "of", p.Best, "peers", p.Peers, "mb_per_s", fmt.Sprintf("%.2f", p.Rate/1e6),
			"tx_per_s", int(p.TxRate), "left", p.ETA.Round(time.Second))
	}
}

// draw puts a line in the place of the last one.
func (w *watchSync) draw(line string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if line != w.line {
		fmt.Fprint(w.a.err, "\r\x1b[K", line)
		w.line = line
	}
}

// progressLine is height, pace, peers and the time left.
func progressLine(p *node.Progress, width int) string {
	full := 0
	if p.Best > 0 {
		full = int(min(p.Height, p.Best) * uint64(width) / p.Best)
	}
	line := fmt.Sprintf("syncing [%s%s] %d of %d blocks, %s, %s", strings.Repeat("=", full), strings.Repeat(" ", width-full), p.Height, p.Best,
		pace(p.Rate, p.TxRate), plural(p.Peers, "%d peer", "%d peers"))
	if p.ETA > 0 {
		line += ", " + ago(p.ETA.Round(time.Second)) + " left"
	}
	return line
}

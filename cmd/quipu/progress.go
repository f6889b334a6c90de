package main

import (
	"fmt"
	"strings"
	"time"
)

// bar is a line of progress on a terminal, redrawn at most ten times a second. Elsewhere it prints nothing.
type bar struct {
	a     *app
	what  string
	live  bool
	start time.Time
	last  time.Time
	drawn bool
}

func (a *app) bar(what string) *bar {
	return &bar{a: a, what: what, live: a.live(), start: time.Now()}
}

// update shows done of total. The time left assumes that the rest goes as fast as what was done.
func (b *bar) update(done, total uint64) {
	now := time.Now()
	if !b.live || now.Sub(b.last) < 100*time.Millisecond && done < total {
		return
	}
	b.last, b.drawn = now, true
	fmt.Fprintf(b.a.err, "\r\x1b[K%s", barLine(b.what, done, total, now.Sub(b.start)))
}

// done wipes the line.
func (b *bar) done() {
	if b.drawn {
		fmt.Fprint(b.a.err, "\r\x1b[K")
	}
}

const barWidth = 24

func barLine(what string, done, total uint64, took time.Duration) string {
	if total == 0 {
		return what
	}
	done = min(done, total)
	part := float64(done) / float64(total)
	full := int(part * barWidth)
	line := fmt.Sprintf("%s [%s%s] %d of %d, %.0f %%", what, strings.Repeat("=", full), strings.Repeat(" ", barWidth-full), done, total, 100*part)
	if done > 0 && done < total && took > time.Second {
		left := time.Duration(float64(took) * (1 - part) / part)
		line += ", " + ago(left.Round(time.Second)) + " left"
	}
	return line
}

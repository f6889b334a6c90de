package main

import (
	"fmt"
	"strings"
	"time"
)

// bar is progress: on a terminal a line that is redrawn at most ten times a second, elsewhere a line now and then.
type bar struct {
	a     *app
	what  string
	unit  string
	live  bool
	start time.Time
	last  time.Time // a line was printed
	drawn bool
	since mark // the rate is that since then
	later mark
}

// mark is how far it was.
type mark struct {
	at   time.Time
	done uint64
}

const (
	barEvery  = 15 * time.Second // between lines where there is no terminal
	rateOver  = 10 * time.Second // at least, and at most twice that, if it has taken so long
	barFrames = 100 * time.Millisecond
)

func (a *app) bar(what string) *bar { return a.barOf(what, "") }

// barOf says what is counted too; "kB" is shown as MB where it is much.
func (a *app) barOf(what, unit string) *bar {
	now := time.Now()
	return &bar{a: a, what: what, unit: unit, live: a.live(), start: now, last: now, since: mark{at: now}, later: mark{at: now}}
}

// update shows done of total; a total of 0 isn't known. The time left assumes that the rest goes as fast as the last
// seconds did.
func (b *bar) update(done, total uint64) {
	b.updateAt(time.Now(), done, total)
}

func (b *bar) updateAt(now time.Time, done, total uint64) {
	if now.Sub(b.later.at) >= rateOver {
		b.since, b.later = b.later, mark{now, done}
	}
	switch {
	case b.live && (!b.drawn || now.Sub(b.last) >= barFrames || done == total):
		b.last, b.drawn = now, true
		fmt.Fprintf(b.a.err, "\r\x1b[K%s", b.line(now, done, total, barWidth))
	case !b.live && now.Sub(b.last) >= barEvery:
		b.last = now
		b.a.say("%s", b.line(now, done, total, 0))
	}
}

// done wipes the line.
func (b *bar) done() {
	if b.drawn {
		fmt.Fprint(b.a.err, "\r\x1b[K")
	}
}

const barWidth = 24

// line is one line, with a bar so wide.
func (b *bar) line(now time.Time, done, total uint64, width int) string {
	unit, by := b.unit, uint64(1)
	if unit == "kB" && max(done, total) >= 10_000 {
		unit, by = "MB", 1000
	}
	if unit != "" {
		unit = " " + unit
	}
	if total == 0 && done == 0 {
		return b.what
	}
	if total == 0 {
		return fmt.Sprintf("%s %d%s", b.what, done/by, unit)
	}
	done = min(done, total)
	part := float64(done) / float64(total)
	line := b.what + " "
	if width > 0 {
		full := int(part * float64(width))
		line += "[" + strings.Repeat("=", full) + strings.Repeat(" ", width-full) + "] "
	}
	line += fmt.Sprintf("%d of %d%s, %.0f %%", done/by, total/by, unit, 100*part)
	took := now.Sub(b.since.at)
	if made := done - min(done, b.since.done); made > 0 && done < total && now.Sub(b.start) > time.Second {
		left := time.Duration(float64(took) * float64(total-done) / float64(made))
		line += ", " + ago(left.Round(time.Second)) + " left"
	}
	return line
}

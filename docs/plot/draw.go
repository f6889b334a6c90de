package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// rates takes the rates of results at the x of each.
func rates(results []result, name string, x func(*result) float64) series {
	s := series{name: name}
	for i := range results {
		r := &results[i]
		p := point{x: x(r), y: r.TxPS}
		for _, run := range r.Runs {
			p.runs = append(p.runs, run.TxPS)
		}
		s.points = append(s.points, p)
	}
	slices.SortFunc(s.points, func(a, b point) int { return int(a.x - b.x) })
	return s
}

// Figures of other programs are from the project's issue 3: measured on this class of machine, 2 cores, full validation,
// a new database on disk.
var geth = series{name: "go-ethereum 1.17.10", points: []point{{x: 10_000, y: 15_100}, {x: 100_000, y: 11_100}}}

func drawAccounts(dir string) (string, error) {
	results, err := load(dir, "import-accounts-*")
	if err != nil {
		return "", err
	}
	c := chart{
		title: "Import: transactions a second by accounts in genesis", xLabel: "accounts", yLabel: "transactions/s", log: true,
		foot:   results[0].machine() + runs,
		series: []series{rates(results, "quipu", func(r *result) float64 { return float64(r.Chain.Accounts) }), geth},
	}
	return c.svg(), nil
}

func drawBlocks(dir string) (string, error) {
	results, err := load(dir, "import-block-*")
	if err != nil {
		return "", err
	}
	c := chart{
		title: "Import: transactions a second by block size, 10,000 accounts", xLabel: "transactions a block", yLabel: "transactions/s", log: true,
		foot:   results[0].machine() + runs,
		series: []series{rates(results, "quipu", func(r *result) float64 { return float64(r.Chain.Txs) })},
	}
	return c.svg(), nil
}

func drawCores(dir string) (string, error) {
	results, err := load(dir, "import-cores-*")
	if err != nil {
		return "", err
	}
	s := rates(results, "quipu", func(r *result) float64 { return float64(r.Using) })
	twice := series{name: "in proportion", dashed: true}
	for _, p := range s.points {
		twice.points = append(twice.points, point{x: p.x, y: p.x * s.points[0].y / s.points[0].x})
	}
	c := chart{
		title: "Import: transactions a second by cores, 10,000 accounts", xLabel: "cores", yLabel: "transactions/s",
		foot: results[0].machine() + runs, series: []series{s, twice},
	}
	return c.svg(), nil
}

// drawStages draws a bar a stage, and a mark at the least it could take.
func drawStages(dir string) (string, error) {
	results, err := load(dir, "import-accounts-10000")
	if err != nil {
		return "", err
	}
	r := &results[0]
	const width, left, row = 760, 110, 26
	height := 90 + row*len(r.Stages)
	most := 0.0
	for _, s := range r.Stages {
		if s.Name != "read" { // it waits for the others
			most = max(most, s.US, s.Bound)
		}
	}
	scale := float64(width-left-110) / most
	var b canvas
	b.open(width, height, "Import: microseconds a transaction by stage, 10,000 accounts")
	y := 62
	for _, s := range r.Stages {
		if s.Name == "read" || s.US < 0.05 {
			continue
		}
		color := map[string]string{"serial": palette[0], "beside": palette[1], "background": palette[2], "before": palette[3]}[s.Path]
		b.text(left-10, y+13, "end", 13, s.Name)
		b.f(`<rect x="%d" y="%d" width="%.1f" height="18" fill="%s"/>`, left, y, s.US*scale, color)
		end := s.US
		if s.What != "" {
			x := float64(left) + s.Bound*scale
			b.f(`<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#000" stroke-width="2"/>`, x, y-3, x, y+21)
			end = max(end, s.Bound)
		}
		label := fmt.Sprintf("%.2f", s.US)
		if s.What != "" {
			label += fmt.Sprintf(" (%.2f)", s.Bound)
		}
		b.text(left+int(end*scale)+6, y+13, "start", 12, label)
		y += row
	}
	x := 60
	for i, path := range []string{"serial", "beside it (all cores' sum)", "background (CPU)", "before the first block"} {
		b.f(`<rect x="%d" y="%d" width="12" height="12" fill="%s"/>`, x, 36, palette[i])
		b.text(x+16, 47, "start", 12, path)
		x += 24 + 7*len(path)
	}
	b.text(60, y+18, "start", 11, "Black mark and number in brackets: the least it could take (bound in the JSON). Reading waits for the others: left out.")
	b.text(60, y+34, "start", 11, r.machine())
	return b.close(), nil
}

// chart is a line chart with y from 0.
type chart struct {
	title, xLabel, yLabel, foot string
	log                         bool // of x
	series                      []series
}

type series struct {
	name   string
	dashed bool
	points []point
}

type point struct {
	x, y float64
	runs []float64
}

var palette = []string{"#1f5fa8", "#c8641b", "#4b8b3b", "#7a5195"}

func (c *chart) svg() string {
	const width, height, left, right, top, bottom = 760, 430, 84, 150, 52, 84
	lo, hi, most := math.Inf(1), math.Inf(-1), 0.0
	var xs []float64
	for _, s := range c.series {
		for _, p := range s.points {
			lo, hi, most = min(lo, p.x), max(hi, p.x), max(most, p.y)
			for _, r := range p.runs {
				most = max(most, r)
			}
			xs = append(xs, p.x)
		}
	}
	slices.Sort(xs)
	xs = slices.Compact(xs)
	step := niceStep(most)
	roof := step * math.Ceil(most*1.05/step)
	at := func(x float64) float64 {
		share := 0.5
		switch {
		case c.log && hi > lo:
			share = math.Log(x/lo) / math.Log(hi/lo)
		case hi > lo:
			share = (x - lo) / (hi - lo)
		}
		return left + 30 + share*(width-left-right-60)
	}
	up := func(y float64) float64 { return height - bottom - y/roof*(height-top-bottom) }

	var b canvas
	b.open(width, height, c.title)
	for y := 0.0; y <= roof; y += step {
		b.f(`<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#ddd"/>`, left, up(y), width-right, up(y))
		b.text(left-8, int(up(y))+4, "end", 12, thousands(y))
	}
	for _, x := range xs {
		b.f(`<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#888"/>`, at(x), height-bottom, at(x), height-bottom+5)
		b.text(int(at(x)), height-bottom+20, "middle", 12, thousands(x))
	}
	b.text((left+width-right)/2, height-bottom+42, "middle", 13, c.xLabel)
	b.f(`<text x="18" y="%d" font-size="13" text-anchor="middle" transform="rotate(-90 18 %d)">%s</text>`, (top+height-bottom)/2, (top+height-bottom)/2, escape(c.yLabel))
	for i, s := range c.series {
		color, dash := palette[i%len(palette)], ""
		if s.dashed {
			color, dash = "#888", ` stroke-dasharray="5 4"`
		}
		var line []string
		for _, p := range s.points {
			line = append(line, fmt.Sprintf("%.1f,%.1f", at(p.x), up(p.y)))
		}
		b.f(`<polyline points="%s" fill="none" stroke="%s" stroke-width="2"%s/>`, strings.Join(line, " "), color, dash)
		for _, p := range s.points {
			for _, r := range p.runs {
				b.f(`<circle cx="%.1f" cy="%.1f" r="2.5" fill="%s" fill-opacity="0.45"/>`, at(p.x), up(r), color)
			}
			if !s.dashed {
				b.f(`<circle cx="%.1f" cy="%.1f" r="4" fill="%s"/>`, at(p.x), up(p.y), color)
				b.text(int(at(p.x)), int(up(p.y))-11, "middle", 12, thousands(math.Round(p.y/100)*100))
			}
		}
		last := s.points[len(s.points)-1]
		y := int(up(last.y)) + 4
		x := width - right + 6
		if at(last.x) < float64(width-right-60) { // it ends early: the name stands beside its end
			x = int(at(last.x)) + 14
		}
		b.f(`<text x="%d" y="%d" font-size="12" fill="%s">%s</text>`, x, y, color, escape(s.name))
	}
	b.text(left, height-14, "start", 11, c.foot)
	return b.close()
}

// niceStep is 1, 2 or 5 times a power of ten, four to ten of them below most.
func niceStep(most float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(max(most, 1)/4)))
	for _, k := range []float64{1, 2, 5} {
		if most/(k*unit) <= 8 {
			return k * unit
		}
	}
	return 10 * unit
}

func thousands(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// canvas gathers an SVG.
type canvas struct{ strings.Builder }

func (b *canvas) f(format string, args ...any) { fmt.Fprintf(b, format+"\n", args...) }

func (b *canvas) open(width, height int, title string) {
	b.f(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" fill="#222">`, width, height, width, height)
	b.f(`<title>%s</title>`, escape(title))
	b.f(`<rect width="%d" height="%d" fill="#fff"/>`, width, height)
	b.f(`<text x="%d" y="26" font-size="16" text-anchor="middle">%s</text>`, width/2, escape(title))
}

func (b *canvas) text(x, y int, anchor string, size int, s string) {
	b.f(`<text x="%d" y="%d" font-size="%d" text-anchor="%s">%s</text>`, x, y, size, anchor, escape(s))
}

func (b *canvas) close() string {
	b.f(`</svg>`)
	return b.String()
}

func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}

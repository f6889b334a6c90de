package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// relayed is what is read of the report of TestRelay100.
type relayed struct {
	Nodes      int        `json:"nodes"`
	LinkMbit   int        `json:"link_mbit_each_way"`
	LatencyMS  [2]float64 `json:"one_way_latency_ms"`
	Txs        int        `json:"txs_a_block"`
	ValidateMS float64    `json:"validate_ms_a_block"`
	Scenarios  []struct {
		Name  string    `json:"name"`
		Bytes float64   `json:"bytes_a_node_mean"`
		CDF   []float64 `json:"percentiles_ms"` // 0 to 100
	} `json:"scenarios"`
}

// drawRelay draws the share of nodes that have validated a block by the time since it was found.
func drawRelay(dir string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, "relay100.json"))
	if err != nil {
		return "", err
	}
	var r relayed
	if err := json.Unmarshal(b, &r); err != nil {
		return "", fmt.Errorf("relay100.json: %w", err)
	}
	const width, height, left, right, top, bottom, longest = 760, 430, 84, 30, 52, 84, 6.0
	at := func(s float64) float64 { return left + min(s, longest)/longest*(width-left-right) }
	up := func(share float64) float64 { return height - bottom - share*(height-top-bottom) }
	var c canvas
	c.open(width, height, fmt.Sprintf("A block of %s transactions crosses %d nodes", thousands(float64(r.Txs)), r.Nodes))
	for i := range 5 {
		share := float64(i) / 4
		c.f(`<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#ddd"/>`, left, up(share), width-right, up(share))
		c.text(left-8, int(up(share))+4, "end", 12, fmt.Sprintf("%.0f %%", 100*share))
	}
	for s := 0.0; s <= longest; s++ {
		c.text(int(at(s)), height-bottom+20, "middle", 12, fmt.Sprintf("%.0f", s))
	}
	c.text((left+width-right)/2, height-bottom+42, "middle", 13, "seconds since the block was found")
	c.f(`<text x="18" y="%d" font-size="13" text-anchor="middle" transform="rotate(-90 18 %d)">nodes that have validated it</text>`, (top+height-bottom)/2, (top+height-bottom)/2)
	for i, s := range r.Scenarios {
		color, line := palette[i%len(palette)], ""
		for k, ms := range s.CDF {
			if ms > 1000*longest {
				break
			}
			line += fmt.Sprintf("%.1f,%.1f ", at(ms/1000), up(float64(k)/100))
		}
		c.f(`<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`, line, color)
		c.f(`<text x="%d" y="%d" font-size="12" text-anchor="end" fill="%s">%s: %s kB a node</text>`, width-right-6, height-bottom-12-18*(len(r.Scenarios)-1-i), color, escape(s.Name), thousands(s.Bytes/1000))
	}
	c.text(left, height-14, "start", 11, fmt.Sprintf("Simulated: links of %d Mbit/s, one-way latency %.0f to %.0f ms, %.0f ms to validate; TestRelay100", r.LinkMbit, r.LatencyMS[0], r.LatencyMS[1], r.ValidateMS))
	return c.close(), nil
}

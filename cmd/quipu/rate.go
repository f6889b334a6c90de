package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"quipu/p2p"
)

// rateUnits are bytes a second. Bits are decimal, as networks are sold; bytes have both kinds of prefix.
var rateUnits = []struct {
	name  string
	bytes float64
}{
	{"kbit", 1e3 / 8}, {"mbit", 1e6 / 8}, {"gbit", 1e9 / 8}, {"bit", 1.0 / 8},
	{"kib", 1 << 10}, {"mib", 1 << 20}, {"gib", 1 << 30}, {"kb", 1e3}, {"mb", 1e6}, {"gb", 1e9}, {"b", 1},
}

// parseRate reads a rate like 8mbit, 1MiB or 500kB/s, in any case, as bytes a second; 0 is no limit.
func parseRate(text string) (int64, error) {
	if text == "0" {
		return 0, nil
	}
	low := strings.TrimSuffix(strings.ToLower(text), "/s")
	for _, u := range rateUnits {
		number, ok := strings.CutSuffix(low, u.name)
		if !ok {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || math.IsNaN(v) || v < 0 || strings.ContainsAny(number, "xp_in") {
			break
		}
		n := v * u.bytes
		if n != 0 && n < p2p.MinUpload || n > p2p.MaxUpload {
			return 0, fmt.Errorf("%.40q: from %d bytes a second to %d, or 0 for no limit", text, p2p.MinUpload, int64(p2p.MaxUpload))
		}
		return int64(n), nil
	}
	return 0, fmt.Errorf("%.40q: a number and a unit a second, bits (kbit, mbit, gbit) or bytes (kB, KiB, MB, MiB), or 0 for no limit", text)
}

// Package bench is what `quipu bench` runs: one file a verb. Every result begins with a [Header] that says what measured
// it and where, so that a figure can be compared with another one.
package bench

import (
	"bufio"
	"os"
	"runtime"
	"slices"
	"strings"

	"quipu/node"
)

// Header stands first in every result.
type Header struct {
	Schema  string `json:"schema"`
	Quipu   string `json:"quipu"`  // version of this program
	Go      string `json:"go"`     // that built it
	System  string `json:"system"` // GOOS/GOARCH
	CPU     string `json:"cpu"`    // model name, or "unknown"
	Cores   int    `json:"cores"`  // that the system has
	Using   int    `json:"using"`  // cores Go may use (GOMAXPROCS) when the benchmark begins
	LoadAvg string `json:"load"`   // the system's load before: averages over 1, 5 and 15 minutes; "" where unknown
}

// NewHeader describes this machine.
func NewHeader(schema string) Header {
	return Header{
		Schema: schema, Quipu: node.Version, Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH,
		CPU: cpuModel(), Cores: runtime.NumCPU(), Using: runtime.GOMAXPROCS(0), LoadAvg: loadAvg(),
	}
}

// cpuModel is the first model name of /proc/cpuinfo, where there is one.
func cpuModel() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if name, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func loadAvg() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	fields := strings.Fields(string(b))
	return strings.Join(fields[:min(3, len(fields))], " ")
}

// Median is the middle of the values, the lower one of two; 0 if there are none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}

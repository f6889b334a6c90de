//go:build !unix

package bench

func cpuTime() (user, system float64) { return 0, 0 }
func peakRSS() float64                { return 0 }
func bytesWritten() int64             { return 0 }

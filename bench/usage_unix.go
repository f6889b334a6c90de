//go:build unix

package bench

import (
	"runtime"
	"syscall"
	"time"
)

// cpuTime is what the process has used, in seconds.
func cpuTime() (user, system float64) {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano()).Seconds(), time.Duration(u.Stime.Nano()).Seconds()
}

// peakRSS is the most memory the process ever had resident, in MB.
func peakRSS() float64 {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	unit := int64(1024)
	if runtime.GOOS == "darwin" {
		unit = 1
	}
	return float64(int64(u.Maxrss)*unit) / 1e6
}

//go:build linux || darwin || freebsd

package ledger

import (
	"os"
	"path/filepath"
	"syscall"
)

// statfs is the number of bytes an ordinary user may still write below dir.
func statfs(dir string) (uint64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return uint64(max(s.Bavail, 0)) * uint64(s.Bsize), nil
}

// diskBytes is what the files of dir take on disk; Badger's are sparse, so their lengths would say too much.
func diskBytes(dir string) (sum uint64) {
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, f := range files {
		if info, err := os.Stat(f); err == nil {
			if s, ok := info.Sys().(*syscall.Stat_t); ok {
				sum += uint64(s.Blocks) * 512
			}
		}
	}
	return sum
}
